//! Who calls, and what the caller may do.
//!
//! A [`Caller`] comes from a token, or stands for everybody while tokens are off. [`tenancy`] is
//! the only place that decides whose rows a caller sees.

mod jwks;
mod jwt;
mod key;
mod mint;
mod push;
mod scope;
pub mod tenancy;

use activekg_storage::ids::TenantId;

use crate::config::{self, AuthzMode};

pub use jwks::{IssuerKeys, KeySet, KeySetError};
pub use key::KeyProblem;
pub use mint::{MintError, NewToken, mint};
pub use push::{PushError, PushVerifier};
pub use scope::{Access, Scope, Scopes};

/// The identity of one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    /// The token's tenant; while tokens are off, the configured development tenant.
    pub tenant: TenantId,
    /// The token's `sub`; `dev_user` while tokens are off.
    pub actor_id: String,
    /// The token's `actor_type`; `user` when it names none.
    pub actor_type: String,
    /// What the token allows.
    pub scopes: Scopes,
    /// A valid token was shown. Without one every scope counts as there, because every route is
    /// open.
    pub authenticated: bool,
    /// Came over the admin socket: whoever runs the server may do everything, as any tenant.
    pub local: bool,
}

impl Caller {
    /// # Errors
    ///
    /// Forbidden, naming the scope, when the token does not allow it.
    pub fn require(&self, scope: Scope) -> Result<(), AuthError> {
        if !self.authenticated || self.scopes.allow(scope) {
            return Ok(());
        }
        Err(AuthError::forbidden(
            format!("Insufficient permissions. Required scope: {}", scope.as_str()),
            Some(Violation::ScopeDenied),
        ))
    }
}

/// Why a request was turned away; `detail` is meant for the client.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct AuthError {
    /// What the surface answers by.
    pub kind: AuthErrorKind,
    /// The text for the client; it never holds any part of the token.
    pub detail: String,
    /// The kind to count it under in `activekg_access_violations_total`, if any.
    pub violation: Option<Violation>,
}

/// What the surface answers by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthErrorKind {
    /// There is no token, or none that counts.
    Unauthenticated,
    /// The token counts and does not allow this.
    Forbidden,
    /// Tokens are on and the server has no usable key.
    NotConfigured,
}

/// A value of `activekg_access_violations_total{type}`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Violation {
    /// No token was shown.
    MissingToken,
    /// The token lacks the scope.
    ScopeDenied,
    /// A token was used with another tenant's name in query or body.
    CrossTenantQuery,
}

impl Violation {
    /// All values, for a metric that shows each from the start.
    pub const ALL: [Self; 3] = [Self::MissingToken, Self::ScopeDenied, Self::CrossTenantQuery];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MissingToken => "missing_token",
            Self::ScopeDenied => "scope_denied",
            Self::CrossTenantQuery => "cross_tenant_query",
        }
    }
}

impl AuthError {
    fn unauthenticated(detail: impl Into<String>) -> Self {
        Self { kind: AuthErrorKind::Unauthenticated, detail: detail.into(), violation: None }
    }

    fn forbidden(detail: impl Into<String>, violation: Option<Violation>) -> Self {
        Self { kind: AuthErrorKind::Forbidden, detail: detail.into(), violation }
    }
}

/// Turns requests into callers, by the settings.
pub struct Authenticator {
    dev_tenant: TenantId,
    authz_mode: AuthzMode,
    tokens: Option<Tokens>,
}

/// Tokens are on: how they are checked, or why none can be.
enum Tokens {
    Checked(jwt::Verifier),
    NoKey(KeyProblem),
}

impl Authenticator {
    /// Never fails: with tokens on and no usable key it turns every request away, and
    /// [`problem`](Self::problem) says why.
    #[must_use]
    pub fn new(settings: &config::Auth) -> Self {
        let tokens = settings.jwt.as_ref().map(|jwt| match jwt::Verifier::new(jwt) {
            Ok(verifier) => Tokens::Checked(verifier),
            Err(problem) => Tokens::NoKey(problem),
        });
        Self { dev_tenant: settings.dev_tenant.clone(), authz_mode: settings.authz_mode, tokens }
    }

    /// What keeps tokens from being checked, for the start and for `/readyz`; `None` when nothing
    /// does or tokens are off.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        match &self.tokens {
            Some(Tokens::NoKey(problem)) => Some(problem.to_string()),
            Some(Tokens::Checked(verifier)) if verifier.has_no_keys() => {
                Some("no keys to check tokens with: JWT_JWKS and JWT_ISSUERS lead to none".into())
            }
            Some(Tokens::Checked(_)) | None => None,
        }
    }

    /// The keys that issuers publish, to be kept up to date.
    #[must_use]
    pub fn published_keys(&self) -> Vec<IssuerKeys> {
        match &self.tokens {
            Some(Tokens::Checked(verifier)) => verifier.all_published().cloned().collect(),
            Some(Tokens::NoKey(_)) | None => Vec::new(),
        }
    }

    /// Whether routes other than the open ones need a token.
    #[must_use]
    pub fn tokens_required(&self) -> bool {
        self.tokens.is_some()
    }

    /// The tenant of routes that take none from the request, while tokens are off.
    #[must_use]
    pub fn dev_tenant(&self) -> &TenantId {
        &self.dev_tenant
    }

    /// The caller behind the value of an `Authorization` header, at `now` in unix seconds.
    ///
    /// # Errors
    ///
    /// The detail texts are part of the contract with clients.
    pub fn authenticate(&self, authorization: Option<&str>, now: i64) -> Result<Caller, AuthError> {
        let verifier = match &self.tokens {
            None => return Ok(self.anybody()),
            Some(Tokens::NoKey(_)) => {
                return Err(AuthError {
                    kind: AuthErrorKind::NotConfigured,
                    detail: "JWT_SECRET_KEY or JWT_PUBLIC_KEY not configured".to_owned(),
                    violation: None,
                });
            }
            Some(Tokens::Checked(verifier)) => verifier,
        };
        let Some(token) = authorization.and_then(bearer) else {
            return Err(AuthError {
                kind: AuthErrorKind::Unauthenticated,
                detail: "Missing Authorization header. JWT required for this endpoint.".to_owned(),
                violation: Some(Violation::MissingToken),
            });
        };
        verifier.caller(token, now)
    }

    /// Whether `caller` may use a route of this kind; which scope that takes depends on
    /// `AUTHZ_MODE`.
    ///
    /// # Errors
    ///
    /// Forbidden, naming the scope.
    pub fn authorize(&self, caller: &Caller, access: Access) -> Result<(), AuthError> {
        match access.scope(self.authz_mode) {
            Some(scope) => caller.require(scope),
            None => Ok(()),
        }
    }

    fn anybody(&self) -> Caller {
        Caller {
            tenant: self.dev_tenant.clone(),
            actor_id: "dev_user".to_owned(),
            actor_type: "user".to_owned(),
            scopes: Scopes::default(),
            authenticated: false,
            local: false,
        }
    }

    /// The administrator of this machine, whether tokens are on or not. The tenant is the one the
    /// request names, as while tokens are off.
    #[must_use]
    pub fn administrator(&self) -> Caller {
        Caller {
            actor_id: "local_admin".to_owned(),
            actor_type: "admin".to_owned(),
            scopes: Scopes::named([Scope::SuperAdmin.as_str()]),
            local: true,
            ..self.anybody()
        }
    }
}

/// The credentials of a `Bearer` header; the scheme's case does not matter.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests;
