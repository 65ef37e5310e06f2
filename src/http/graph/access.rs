//! Who calls a route, and as which tenant.

use activekg_storage::ids::TenantId;
use axum::extract::FromRequestParts;
use axum::http::request::Parts;

use crate::app::App;
use crate::auth::tenancy::{DEFAULT_TENANT, OpenTenant};
use crate::auth::{Access, AuthError, AuthErrorKind, Caller};
use crate::graph::View;
use crate::http::error::{ApiError, ErrorKind};

/// The caller that the layer before the handlers has found.
#[derive(Debug, Clone)]
pub(super) struct Who(pub(super) Caller);

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let caller = parts.extensions.get::<Caller>().cloned();
        caller.map(Self).ok_or_else(|| ApiError::unhandled("a protected route has no caller"))
    }
}

impl App {
    /// What the caller sees through a route, if it may use it at all.
    ///
    /// # Errors
    ///
    /// 403 without the scope.
    pub(in crate::http) fn view(
        &self,
        caller: &Caller,
        access: Access,
        named: Option<&str>,
        tenant: OpenTenant,
    ) -> Result<View, ApiError> {
        let refused = |error: AuthError| self.refused(error);
        if let Some(scope) = access.scope(self.config.auth.authz_mode) {
            caller.require(scope).map_err(refused)?;
        }
        let effective = self.authenticator.tenant(caller, named, tenant).map_err(refused)?;
        if let Some(violation) = effective.violation {
            self.metrics.http.violation(violation);
        }
        Ok(View::of(effective.tenant))
    }

    /// The tenant that a route for operators is about; `None` is all of them.
    ///
    /// # Errors
    ///
    /// 403 without the scope.
    pub(in crate::http) fn operated(
        &self,
        caller: &Caller,
        named: Option<&str>,
    ) -> Result<Option<TenantId>, ApiError> {
        self.authenticator.operated(caller, named).map_err(|error| self.refused(error))
    }

    /// The tenant that a route for a tenant's administrator is about.
    ///
    /// # Errors
    ///
    /// 403 without the scope, or for another tenant than the token's.
    pub(in crate::http) fn administered(
        &self,
        caller: &Caller,
        named: Option<&str>,
    ) -> Result<TenantId, ApiError> {
        self.authenticator.administered(caller, named).map_err(|error| self.refused(error))
    }

    /// Whether the caller may administer all of these tenants; none named means every tenant.
    ///
    /// # Errors
    ///
    /// 403 without the scope that takes.
    pub(in crate::http) fn administered_all(
        &self,
        caller: &Caller,
        tenants: &[TenantId],
    ) -> Result<(), ApiError> {
        self.authenticator.administered_all(caller, tenants).map_err(|error| self.refused(error))
    }

    /// The tenant whose rows an administrator's list holds; `None` is all.
    ///
    /// # Errors
    ///
    /// 403 without the scope.
    pub(in crate::http) fn listed(&self, caller: &Caller) -> Result<Option<TenantId>, ApiError> {
        self.authenticator.listed(caller).map_err(|error| self.refused(error))
    }

    /// The tenant that a route is about whose callers answer for all tenants: the one it names, else
    /// the token's, else the default one.
    ///
    /// # Errors
    ///
    /// 403 without the scope, and for a name that no tenant can have.
    pub(in crate::http) fn commanded(
        &self,
        caller: &Caller,
        named: Option<&str>,
    ) -> Result<TenantId, ApiError> {
        self.administered_all(caller, &[])?;
        if named.is_none() && caller.authenticated {
            return Ok(caller.tenant.clone());
        }
        let name = named.unwrap_or(DEFAULT_TENANT);
        TenantId::new(name).map_err(|error| ApiError::bad_request(error.to_string()))
    }

    /// A refusal, counted.
    fn refused(&self, error: AuthError) -> ApiError {
        if let Some(violation) = error.violation {
            self.metrics.http.violation(violation);
        }
        ApiError::from(error)
    }
}

impl From<AuthError> for ApiError {
    fn from(error: AuthError) -> Self {
        let AuthError { kind, detail, violation: _ } = error;
        let kind = match kind {
            AuthErrorKind::Unauthenticated => ErrorKind::Unauthorized,
            AuthErrorKind::Forbidden => ErrorKind::Forbidden,
            AuthErrorKind::NotConfigured => ErrorKind::NotConfigured,
        };
        Self::new(kind, detail)
    }
}

/// Whom the audit trail names.
pub(super) fn actor(caller: &Caller) -> &str {
    if caller.local { "local administrator" } else { &caller.actor_id }
}
