//! Identity tokens of Google, by which Pub/Sub shows who pushes a message.

use serde_json::Value;

use super::jwks::IssuerKeys;
use super::jwt::Verifier;
use crate::config::{Jwt, JwtAlgorithm, JwtKey, PushTokens};

/// What Google calls itself in its tokens.
const ISSUERS: [&str; 2] = ["https://accounts.google.com", "accounts.google.com"];
/// The clock difference that is forgiven.
const LEEWAY: std::time::Duration = std::time::Duration::from_secs(30);

/// Checks identity tokens of Pub/Sub.
pub struct PushVerifier {
    verifier: Verifier,
    accounts: Vec<String>,
}

/// Why an identity token does not count.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The keys it is checked with are not there yet.
    #[error("no keys of Google to check the token with: see PUBSUB_OIDC_JWKS")]
    NoKeys,
    /// It is made for somebody else.
    #[error("the token names another audience than PUBSUB_OIDC_AUDIENCE")]
    Audience,
    /// Google did not make it.
    #[error("the token names another issuer than Google")]
    Issuer,
    /// It speaks for an account that may not push, or for none.
    #[error("the token speaks for no account of PUBSUB_OIDC_SERVICE_ACCOUNTS")]
    Account,
    /// It is no token, its signature is wrong, or it is past its time.
    #[error("{0}")]
    Invalid(String),
}

impl PushVerifier {
    /// Checks tokens as `settings` say.
    #[must_use]
    pub fn new(settings: &PushTokens) -> Self {
        let PushTokens { audience, accounts, keys } = settings;
        let jwt = Jwt {
            algorithm: JwtAlgorithm::Rs256,
            key: JwtKey::Published(keys.clone()),
            audience: audience.clone(),
            issuer: None,
            issuers: Vec::new(),
            leeway: LEEWAY,
        };
        let verifier = Verifier::new(&jwt).expect("keys that are published are read later");
        Self { verifier, accounts: accounts.clone() }
    }

    /// The keys, to be kept up to date.
    pub fn published_keys(&self) -> impl Iterator<Item = &IssuerKeys> {
        self.verifier.all_published()
    }

    /// Whether `token` shows, at `now` in unix seconds, that an account that may push does.
    ///
    /// # Errors
    ///
    /// [`PushError`] says why it does not.
    pub fn check(&self, token: &str, now: i64) -> Result<(), PushError> {
        if self.verifier.has_no_keys() {
            return Err(PushError::NoKeys);
        }
        let invalid = |error: super::AuthError| PushError::Invalid(error.detail);
        let claims = self.verifier.claims(token).map_err(invalid)?;
        self.verifier.check_times(&claims, now).map_err(invalid)?;
        let text = |name: &str| claims.get(name).and_then(Value::as_str);
        if !text("iss").is_some_and(|issuer| ISSUERS.contains(&issuer)) {
            return Err(PushError::Issuer);
        }
        self.verifier.check_audience(&claims).map_err(|_| PushError::Audience)?;
        let verified = claims.get("email_verified") == Some(&Value::Bool(true));
        let account = text("email").filter(|_| verified).ok_or(PushError::Account)?;
        if !self.accounts.is_empty() && !self.accounts.iter().any(|known| known == account) {
            return Err(PushError::Account);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::jwk::Jwk;
    use jsonwebtoken::{Algorithm, EncodingKey, Header};
    use serde_json::json;

    use super::super::KeySet;
    use super::*;
    use crate::config::KeySource;

    const RSA: &str = include_str!("tests/rsa_private.pem");
    const AUDIENCE: &str = "https://kg.example/_webhooks/gcs";
    const ACCOUNT: &str = "push@p.iam.gserviceaccount.com";
    const NOW: i64 = 1_767_225_600;

    fn verifier(accounts: &[&str]) -> PushVerifier {
        PushVerifier::new(&PushTokens {
            audience: AUDIENCE.to_owned(),
            accounts: accounts.iter().map(|account| (*account).to_owned()).collect(),
            keys: KeySource::File("/nowhere".into()),
        })
    }

    fn check(accounts: &[&str], change: Value) -> Result<(), PushError> {
        let key = EncodingKey::from_rsa_pem(RSA.as_bytes()).unwrap();
        let jwk = Jwk::from_encoding_key(&key, Algorithm::RS256).unwrap();
        let set = json!({ "keys": [jwk] }).to_string();
        let verifier = verifier(accounts);
        for keys in verifier.published_keys() {
            keys.change_to(KeySet::parse(set.as_bytes()).unwrap());
        }
        let mut claims = json!({ "iss": ISSUERS[0], "aud": AUDIENCE, "email": ACCOUNT,
            "email_verified": true, "iat": NOW - 5, "exp": NOW + 3600 });
        for (name, value) in change.as_object().unwrap() {
            claims[name] = value.clone();
        }
        let token = jsonwebtoken::encode(&Header::new(Algorithm::RS256), &claims, &key).unwrap();
        verifier.check(&token, NOW)
    }

    #[test]
    fn a_token_counts_for_its_account_audience_and_time() {
        assert_eq!(check(&[ACCOUNT], json!({})), Ok(()));
        assert_eq!(check(&[], json!({ "iss": ISSUERS[1] })), Ok(()));
        assert_eq!(check(&["other@p"], json!({})), Err(PushError::Account));
        for unverified in [json!({ "email_verified": false }), json!({ "email_verified": "true" })]
        {
            assert_eq!(check(&[], unverified), Err(PushError::Account));
        }
        assert_eq!(check(&[], json!({ "aud": "https://other" })), Err(PushError::Audience));
        assert_eq!(check(&[], json!({ "iss": "https://other" })), Err(PushError::Issuer));
        assert_eq!(check(&[], json!({ "exp": NOW - 29 })), Ok(()));
        let late = json!({ "exp": NOW - 30 });
        assert!(matches!(check(&[], late), Err(PushError::Invalid(_))));
        let early = json!({ "iat": NOW + 31 });
        assert!(matches!(check(&[], early), Err(PushError::Invalid(_))));
    }

    #[test]
    fn without_keys_nothing_can_be_said() {
        assert_eq!(verifier(&[]).check("a.b.c", NOW), Err(PushError::NoKeys));
    }
}
