//! Tokens as clients bring them, good and bad.

use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Map, Value, json};

/// The secret of servers under test.
pub(crate) const SECRET: &str = "a-secret-of-the-tests-0123456789abcdef";

/// Settings of a server that takes tokens signed with [`SECRET`].
pub(crate) const JWT_ENV: [(&str, &str); 3] =
    [("JWT_ENABLED", "true"), ("JWT_ALGORITHM", "HS256"), ("JWT_SECRET_KEY", SECRET)];

/// A valid token of a tenant with these scopes.
pub(crate) fn token(tenant: &str, scopes: &[&str]) -> String {
    let claims = json!({
        "sub": format!("user-of-{tenant}"), "tenant_id": tenant, "aud": "activekg",
        "iat": "now-5", "exp": "now+3600", "scopes": scopes,
    });
    signed("HS256", SECRET, &claims)
}

/// A token of these claims. A claim `now+N` or `now-N` is a second count from the epoch. The
/// algorithm `none` has an empty signature.
pub(crate) fn signed(algorithm: &str, key: &str, claims: &Value) -> String {
    let claims: Map<String, Value> = claims
        .as_object()
        .expect("claims are an object")
        .iter()
        .map(|(name, value)| (name.clone(), instant(value)))
        .collect();
    let algorithm = match algorithm {
        "HS256" => Algorithm::HS256,
        "HS512" => Algorithm::HS512,
        "none" => return unsigned(&claims),
        other => panic!("no test signs with {other}"),
    };
    jsonwebtoken::encode(
        &Header::new(algorithm),
        &claims,
        &EncodingKey::from_secret(key.as_bytes()),
    )
    .expect("an HMAC can always be made")
}

fn unsigned(claims: &Map<String, Value>) -> String {
    let part = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let header = json!({ "alg": "none", "typ": "JWT" });
    format!("{}.{}.", part(header), part(claims.clone().into()))
}

fn instant(claim: &Value) -> Value {
    let offset = claim.as_str().and_then(|text| text.strip_prefix("now")?.parse::<i64>().ok());
    offset.map_or_else(|| claim.clone(), |offset| (unix_now() + offset).into())
}

/// Seconds since the epoch.
pub(crate) fn unix_now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    i64::try_from(since.as_secs()).expect("the clock is before the year 292 billion")
}
