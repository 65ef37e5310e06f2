//! Tokens of our own making, for development.

use activekg_storage::ids::TenantId;
use jsonwebtoken::{Algorithm, Header};
use serde_json::json;

use super::key::{KeyProblem, signing_key};
use crate::config::Jwt;

/// What a token is to say.
#[derive(Debug, Clone)]
pub struct NewToken {
    /// The tenant whose data the bearer may use.
    pub tenant: TenantId,
    /// Who the bearer is.
    pub sub: String,
    /// What the bearer may do.
    pub scopes: Vec<String>,
    /// How long it counts, in seconds.
    pub ttl_seconds: u64,
}

/// Why no token was made.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// There is no secret to sign with.
    #[error(transparent)]
    Key(#[from] KeyProblem),
    /// The signature failed.
    #[error("cannot sign")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

/// A token that a server with the same settings accepts from `now` (unix seconds) on.
///
/// # Errors
///
/// When the settings hold no secret.
pub fn mint(jwt: &Jwt, token: &NewToken, now: i64) -> Result<String, MintError> {
    let key = signing_key(jwt)?;
    let NewToken { tenant, sub, scopes, ttl_seconds } = token;
    let ttl = i64::try_from(*ttl_seconds).unwrap_or(i64::MAX);
    let mut claims = json!({
        "sub": sub,
        "tenant_id": tenant.as_str(),
        "actor_type": "user",
        "scopes": scopes,
        "aud": jwt.audience,
        "iat": now,
        "exp": now.saturating_add(ttl),
    });
    if let Some(issuer) = &jwt.issuer {
        claims["iss"] = issuer.as_str().into();
    }
    jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &key).map_err(MintError::Sign)
}
