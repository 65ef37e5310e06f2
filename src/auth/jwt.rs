//! Tokens: signature first, then claims, in the order and with the words clients know.
//!
//! The algorithm and the key come from the settings; the token's header can only agree.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde_json::{Map, Value};

use super::jwks::IssuerKeys;
use super::key::{self, KeyProblem};
use super::{AuthError, Caller, Scopes, Violation};
use crate::config::{Jwt, JwtKey};
use activekg_storage::ids::TenantId;

/// A tenant no token may name: rows of failed migrations are put there.
const RESERVED_TENANT: &str = "__quarantine__";
/// Longer than any honest token; servers cap a header near it.
const TOKEN_MAX_BYTES: usize = 16 * 1024;

/// Checks tokens against the keys of their issuers.
pub(super) struct Verifier {
    keys: Keys,
    /// Issuers with keys of their own.
    issuers: Vec<(String, IssuerKeys)>,
    audience: String,
    issuer: Option<String>,
    leeway_seconds: i64,
}

/// The keys of tokens whose issuer has none of its own here.
enum Keys {
    /// The one that is set.
    One { algorithm: Algorithm, name: &'static str, key: DecodingKey },
    /// Those that are published.
    Published(IssuerKeys),
}

impl Keys {
    fn new(jwt: &Jwt) -> Result<Self, KeyProblem> {
        Ok(match &jwt.key {
            JwtKey::Published(source) => Self::Published(IssuerKeys::new(source.clone())),
            JwtKey::Missing | JwtKey::Secret(_) | JwtKey::Public(_) => Self::One {
                algorithm: key::algorithm(jwt.algorithm),
                name: jwt.algorithm.as_str(),
                key: key::verifying_key(jwt)?,
            },
        })
    }
}

impl Verifier {
    pub(super) fn new(jwt: &Jwt) -> Result<Self, KeyProblem> {
        let issuers = jwt.issuers.iter();
        Ok(Self {
            keys: Keys::new(jwt)?,
            issuers: issuers
                .map(|issuer| (issuer.name.clone(), IssuerKeys::new(issuer.keys.clone())))
                .collect(),
            audience: jwt.audience.clone(),
            issuer: jwt.issuer.clone(),
            leeway_seconds: i64::try_from(jwt.leeway.as_secs()).unwrap_or(i64::MAX),
        })
    }

    /// The caller a token speaks for, at `now` in unix seconds.
    pub(super) fn caller(&self, token: &str, now: i64) -> Result<Caller, AuthError> {
        let claims = self.claims(token)?;
        self.check_times(&claims, now)?;
        self.check_issuer(&claims)?;
        self.check_audience(&claims)?;
        caller(&claims)
    }

    pub(super) fn claims(&self, token: &str) -> Result<Map<String, Value>, AuthError> {
        if token.len() > TOKEN_MAX_BYTES {
            return Err(invalid("Token is too long"));
        }
        let mut segments = token.split('.');
        let (Some(header), Some(payload), Some(signature)) =
            (segments.next(), segments.next(), segments.next())
        else {
            return Err(invalid("Not enough segments"));
        };
        if segments.next().is_some() {
            return Err(invalid("Too many segments"));
        }
        let header = decoded(header, "header")?;
        let header: Value =
            serde_json::from_slice(&header).map_err(|_| invalid("Invalid header string"))?;
        let body = decoded(payload, "payload")?;
        decoded(signature, "crypto")?;
        let named = header.get("alg").and_then(Value::as_str);
        let published = self.published(&body);
        // The header can only agree with what the keys are made for.
        let algorithm = match (published, &self.keys) {
            (Some(_), _) | (None, Keys::Published(_)) => match named {
                Some("RS256") => Some(Algorithm::RS256),
                Some("EdDSA") => Some(Algorithm::EdDSA),
                _ => None,
            },
            (None, Keys::One { algorithm, name, .. }) => {
                (named == Some(name)).then_some(*algorithm)
            }
        };
        let Some(algorithm) = algorithm else {
            return Err(invalid("The specified alg value is not allowed"));
        };
        // Extensions a token marks as critical must be understood (RFC 7515, 4.1.11); none is.
        if header.get("crit").is_some() {
            return Err(invalid("Unsupported critical extension"));
        }
        let message = token.len() - signature.len() - 1;
        let message = &token.as_bytes()[..message];
        let id = header.get("kid").and_then(Value::as_str);
        let signed = match (published, &self.keys) {
            (Some(keys), _) | (None, Keys::Published(keys)) => {
                keys.signed(message, signature, algorithm, id)
            }
            (None, Keys::One { key, .. }) => {
                jsonwebtoken::crypto::verify(signature, message, key, algorithm).unwrap_or(false)
            }
        };
        if !signed {
            return Err(invalid("Signature verification failed"));
        }
        match serde_json::from_slice(&body) {
            Ok(Value::Object(claims)) => Ok(claims),
            Ok(_) => Err(invalid("Invalid payload string: must be a json object")),
            Err(_) => Err(invalid("Invalid payload string")),
        }
    }

    /// The keys of the issuer that a token names, if it has keys of its own. Nothing is believed of
    /// the token yet: another name only leads to keys that did not sign it.
    fn published(&self, body: &[u8]) -> Option<&IssuerKeys> {
        if self.issuers.is_empty() {
            return None;
        }
        let claims: Value = serde_json::from_slice(body).ok()?;
        let named = claims.get("iss")?.as_str()?;
        self.issuers.iter().find(|(name, _)| name == named).map(|(_, keys)| keys)
    }

    /// All keys that are published, to be kept up to date.
    pub(super) fn all_published(&self) -> impl Iterator<Item = &IssuerKeys> {
        let main = match &self.keys {
            Keys::Published(keys) => Some(keys),
            Keys::One { .. } => None,
        };
        main.into_iter().chain(self.issuers.iter().map(|(_, keys)| keys))
    }

    /// Whether no token at all can be checked for want of keys.
    pub(super) fn has_no_keys(&self) -> bool {
        matches!(&self.keys, Keys::Published(keys) if !keys.are_there())
            && !self.issuers.iter().any(|(_, keys)| keys.are_there())
    }

    pub(super) fn check_times(
        &self,
        claims: &Map<String, Value>,
        now: i64,
    ) -> Result<(), AuthError> {
        let leeway = self.leeway_seconds;
        let latest = now.saturating_add(leeway);
        if seconds(claims, "iat", "Issued At")?.is_some_and(|iat| iat > latest) {
            return Err(invalid("The token is not yet valid (iat)"));
        }
        if seconds(claims, "nbf", "Not Before")?.is_some_and(|nbf| nbf > latest) {
            return Err(invalid("The token is not yet valid (nbf)"));
        }
        match seconds(claims, "exp", "Expiration Time")? {
            None => Err(missing("exp")),
            Some(exp) if exp.saturating_add(leeway) <= now => {
                Err(AuthError::unauthenticated("JWT token has expired"))
            }
            Some(_) => Ok(()),
        }
    }

    fn check_issuer(&self, claims: &Map<String, Value>) -> Result<(), AuthError> {
        let Some(issuer) = &self.issuer else {
            return Ok(());
        };
        let named = claims.get("iss");
        if named
            .and_then(Value::as_str)
            .is_some_and(|named| self.issuers.iter().any(|(name, _)| name == named))
        {
            return Ok(()); // its own keys signed it
        }
        match named {
            None | Some(Value::Null) => Err(missing("iss")),
            Some(Value::String(named)) if named == issuer => Ok(()),
            Some(_) => Err(AuthError::unauthenticated("JWT token has invalid issuer")),
        }
    }

    pub(super) fn check_audience(&self, claims: &Map<String, Value>) -> Result<(), AuthError> {
        let named = match claims.get("aud") {
            None | Some(Value::Null) => return Err(missing("aud")),
            Some(Value::String(one)) => *one == self.audience,
            Some(Value::Array(several)) => {
                several.iter().all(Value::is_string)
                    && several.iter().any(|one| one.as_str() == Some(&self.audience))
            }
            Some(_) => false,
        };
        if named {
            Ok(())
        } else {
            Err(AuthError::unauthenticated("JWT token has invalid audience"))
        }
    }
}

fn caller(claims: &Map<String, Value>) -> Result<Caller, AuthError> {
    let tenant = match claims.get("tenant_id") {
        Some(Value::String(tenant)) if !tenant.trim().is_empty() => tenant.as_str(),
        _ => return Err(AuthError::unauthenticated("Missing tenant_id claim in JWT")),
    };
    if tenant == RESERVED_TENANT {
        return Err(AuthError::forbidden("Reserved tenant_id", Some(Violation::ScopeDenied)));
    }
    let tenant = TenantId::new(tenant).map_err(|_| invalid("Invalid tenant_id claim"))?;
    let actor_id = match claims.get("sub") {
        Some(Value::String(sub)) if !sub.is_empty() => sub.clone(),
        None | Some(Value::Null | Value::String(_)) => {
            return Err(AuthError::unauthenticated("Missing sub (actor_id) claim in JWT"));
        }
        Some(_) => return Err(invalid("Subject must be a string")),
    };
    let actor_type = claims.get("actor_type").and_then(Value::as_str).unwrap_or("user").to_owned();
    let scopes = Scopes::of_claims(claims.get("scopes"), claims.get("scope"));
    Ok(Caller { tenant, actor_id, actor_type, scopes, authenticated: true, local: false })
}

/// A time claim in unix seconds, fractions cut off.
fn seconds(
    claims: &Map<String, Value>,
    claim: &str,
    title: &str,
) -> Result<Option<i64>, AuthError> {
    match claims.get(claim) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Number(number)) => {
            // A float beyond the range saturates, which keeps its meaning: far past or far future.
            Ok(number.as_i64().or_else(|| number.as_f64().map(|value| value as i64)))
        }
        Some(_) => Err(invalid(format!("{title} claim ({claim}) must be an integer."))),
    }
}

fn decoded(segment: &str, part: &str) -> Result<Vec<u8>, AuthError> {
    URL_SAFE_NO_PAD.decode(segment).map_err(|_| invalid(format!("Invalid {part} padding")))
}

fn missing(claim: &str) -> AuthError {
    invalid(format!("Token is missing the \"{claim}\" claim"))
}

fn invalid(why: impl std::fmt::Display) -> AuthError {
    AuthError::unauthenticated(format!("Invalid JWT token: {why}"))
}
