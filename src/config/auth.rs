//! Tokens and scopes.

use std::path::PathBuf;
use std::time::Duration;

use activekg_storage::ids::TenantId;

use super::options::{AuthOptions, ServerOptions};
use super::{ConfigError, Secret, read, seconds};

/// A secret shorter than the hash it keys is guessed sooner than the hash is broken (RFC 7518, 3.2).
const SECRET_MIN_BYTES: usize = 32;

/// Who may do what.
#[derive(Clone)]
pub struct Auth {
    /// How tokens are checked; `None` leaves every route open.
    pub jwt: Option<Jwt>,
    /// What a valid token may do.
    pub authz_mode: AuthzMode,
    /// The tenant of routes that take none from the request, while tokens are off.
    pub dev_tenant: TenantId,
}

/// What a valid token may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthzMode {
    /// Everything with its own tenant's data; administration needs a scope.
    Tenant,
    /// Only what its scopes say.
    Scopes,
}

impl AuthzMode {
    /// The word of the setting.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::Scopes => "scopes",
        }
    }
}

/// How tokens are checked.
#[derive(Clone)]
pub struct Jwt {
    /// The one accepted algorithm.
    pub algorithm: JwtAlgorithm,
    /// The key for it.
    pub key: JwtKey,
    /// The audience a token must name.
    pub audience: String,
    /// The issuer a token must name that is of none of `issuers`; `None` takes any.
    pub issuer: Option<String>,
    /// Issuers with keys of their own.
    pub issuers: Vec<Issuer>,
    /// The clock difference that is forgiven.
    pub leeway: Duration,
}

/// An accepted algorithm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JwtAlgorithm {
    /// A shared secret.
    Hs256,
    /// An RSA key pair.
    Rs256,
    /// An Ed25519 key pair.
    EdDsa,
}

impl JwtAlgorithm {
    /// The name in a token's header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hs256 => "HS256",
            Self::Rs256 => "RS256",
            Self::EdDsa => "EdDSA",
        }
    }
}

/// The key that fits the algorithm.
#[derive(Clone)]
pub enum JwtKey {
    /// None is set. The server starts, is not ready, and accepts no token.
    Missing,
    /// The secret of HS256, 32 bytes or more.
    Secret(Secret),
    /// The public key of RS256 or EdDSA in one of its three written forms.
    Public(String),
    /// Public keys that the issuer publishes.
    Published(KeySource),
}

/// An issuer with keys of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// What its tokens call it.
    pub name: String,
    /// Its keys.
    pub keys: KeySource,
}

/// Where an issuer publishes its keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeySource {
    /// A file on this machine.
    File(PathBuf),
    /// An address on the web.
    Url(String),
}

impl KeySource {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once("://") {
            None => Ok(Self::File(PathBuf::from(text))),
            Some(("https" | "http", rest)) if rest.contains('@') => {
                Err("an address of keys holds no user and no password".to_owned())
            }
            Some(("https" | "http", rest)) if !rest.is_empty() => Ok(Self::Url(text.to_owned())),
            Some((scheme, _)) => Err(format!("{scheme}:// is neither https:// nor http://")),
        }
    }
}

impl Auth {
    pub(super) fn new(
        options: &AuthOptions,
        server: &ServerOptions,
        notices: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let enabled = read::boolean("JWT_ENABLED", &options.jwt_enabled, false)?;
        isolation(&server.rls_mode, notices)?;
        let jwt = if enabled { Some(Jwt::new(options)?) } else { None };
        let modes = [("tenant", AuthzMode::Tenant), ("scopes", AuthzMode::Scopes)];
        let dev_tenant = read::text(&server.dev_tenant).unwrap_or("default");
        let dev_tenant = TenantId::new(dev_tenant).map_err(|_| {
            ConfigError::new("ACTIVEKG_DEV_TENANT", format!("{dev_tenant:?} is not a tenant"))
        })?;
        Ok(Self {
            authz_mode: read::word("AUTHZ_MODE", &options.authz_mode, &modes)?
                .unwrap_or(AuthzMode::Tenant),
            dev_tenant,
            jwt,
        })
    }
}

/// The store keeps tenants apart whatever this setting says; what asks for less gets a notice.
fn isolation(rls_mode: &Option<String>, notices: &mut Vec<String>) -> Result<(), ConfigError> {
    let modes = [("auto", true), ("on", true), ("off", false)];
    if read::word("RLS_MODE", rls_mode, &modes)? == Some(false) {
        notices.push("RLS_MODE=off is not honoured: tenants are always kept apart".to_owned());
    }
    Ok(())
}

impl Jwt {
    /// What tokens are checked with, whether or not they are on.
    ///
    /// # Errors
    ///
    /// For an unknown algorithm, a secret that is too short, a key file that cannot be read, and a
    /// leeway that is no number.
    pub fn new(options: &AuthOptions) -> Result<Self, ConfigError> {
        let algorithms = [JwtAlgorithm::Hs256, JwtAlgorithm::Rs256, JwtAlgorithm::EdDsa]
            .map(|known| (known.as_str(), known));
        let algorithm = read::word("JWT_ALGORITHM", &options.jwt_algorithm, &algorithms)?
            .unwrap_or(JwtAlgorithm::Rs256);
        // A public key never serves as a secret: everybody may know it.
        let key = match (published(options)?, algorithm) {
            (Some(published), _) => Some(published),
            (None, JwtAlgorithm::Hs256) => secret(options)?,
            (None, JwtAlgorithm::Rs256 | JwtAlgorithm::EdDsa) => public_key(options)?,
        };
        Ok(Self {
            algorithm,
            key: key.unwrap_or(JwtKey::Missing),
            audience: read::text(&options.jwt_audience).unwrap_or("activekg").to_owned(),
            issuer: read::text(&options.jwt_issuer).map(str::to_owned),
            issuers: issuers(options)?,
            leeway: seconds("JWT_LEEWAY_SECONDS", &options.jwt_leeway_seconds, 30)?,
        })
    }
}

fn secret(options: &AuthOptions) -> Result<Option<JwtKey>, ConfigError> {
    let Some(secret) = Secret::given(&options.jwt_secret_key) else {
        return Ok(None);
    };
    let length = secret.reveal().len();
    if length < SECRET_MIN_BYTES {
        let fault = format!(
            "has {length} bytes, HS256 needs {SECRET_MIN_BYTES} or more (head -c 32 /dev/urandom | base64)"
        );
        return Err(ConfigError::new("JWT_SECRET_KEY", fault));
    }
    Ok(Some(JwtKey::Secret(secret)))
}

fn published(options: &AuthOptions) -> Result<Option<JwtKey>, ConfigError> {
    let Some(text) = read::text(&options.jwt_jwks) else { return Ok(None) };
    let source = KeySource::parse(text).map_err(|fault| ConfigError::new("JWT_JWKS", fault))?;
    Ok(Some(JwtKey::Published(source)))
}

fn issuers(options: &AuthOptions) -> Result<Vec<Issuer>, ConfigError> {
    let fault = |fault: String| ConfigError::new("JWT_ISSUERS", fault);
    let mut issuers: Vec<Issuer> = Vec::new();
    for item in read::text(&options.jwt_issuers).unwrap_or_default().split_whitespace() {
        let (name, source) = item
            .split_once('=')
            .filter(|(name, source)| !name.is_empty() && !source.is_empty())
            .ok_or_else(|| fault(format!("{item:?} is not ISSUER=FILE-OR-URL")))?;
        if issuers.iter().any(|known| known.name == name) {
            return Err(fault(format!("{name} is there twice")));
        }
        let keys = KeySource::parse(source).map_err(fault)?;
        issuers.push(Issuer { name: name.to_owned(), keys });
    }
    Ok(issuers)
}

fn public_key(options: &AuthOptions) -> Result<Option<JwtKey>, ConfigError> {
    if let Some(key) = read::text(&options.jwt_public_key) {
        return Ok(Some(JwtKey::Public(key.to_owned())));
    }
    let Some(path) = read::text(&options.jwt_public_key_path) else {
        return Ok(None);
    };
    match std::fs::read_to_string(path) {
        Ok(key) => Ok(Some(JwtKey::Public(key))),
        Err(error) => {
            Err(ConfigError::new("JWT_PUBLIC_KEY_PATH", format!("cannot read {path}: {error}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};
    use super::*;

    #[test]
    fn a_short_secret_is_refused_and_not_repeated() {
        let text = fault(&[
            ("JWT_ENABLED", "true"),
            ("JWT_ALGORITHM", "HS256"),
            ("JWT_SECRET_KEY", "hunter2"),
        ]);
        assert!(text.starts_with("JWT_SECRET_KEY: has 7 bytes"), "{text}");
        assert!(!text.contains("hunter2"));
    }

    #[test]
    fn a_secret_is_no_key_for_rs256() {
        let secret = "0123456789abcdef0123456789abcdef";
        let config = config(&[("JWT_ENABLED", "true"), ("JWT_SECRET_KEY", secret)]).unwrap();
        let jwt = config.auth.jwt.unwrap();
        assert_eq!(jwt.algorithm, JwtAlgorithm::Rs256);
        assert!(matches!(jwt.key, JwtKey::Missing));
    }

    #[test]
    fn issuers_publish_keys_in_files_and_on_the_web() {
        let set = [
            ("JWT_ENABLED", "true"),
            ("JWT_JWKS", "https://id.example/jwks"),
            ("JWT_ISSUERS", "https://a.example/=/etc/a.json  b=http://b.example/keys"),
        ];
        let jwt = config(&set).unwrap().auth.jwt.unwrap();
        assert!(matches!(jwt.key, JwtKey::Published(KeySource::Url(_))));
        let names: Vec<_> = jwt.issuers.iter().map(|issuer| issuer.name.as_str()).collect();
        assert_eq!(names, ["https://a.example/", "b"]);
        assert_eq!(jwt.issuers[0].keys, KeySource::File("/etc/a.json".into()));
        for bad in ["a", "=x", "a=", "a=ftp://x", "a=x a=y", "a=https://u:p@x/"] {
            let text = fault(&[("JWT_ENABLED", "true"), ("JWT_ISSUERS", bad)]);
            assert!(text.starts_with("JWT_ISSUERS: "), "{text}");
        }
    }

    #[test]
    fn unknown_algorithms_are_refused() {
        for name in ["none", "HS512", "ES256"] {
            let text = fault(&[("JWT_ENABLED", "true"), ("JWT_ALGORITHM", name)]);
            assert_eq!(text, format!("JWT_ALGORITHM: {name:?} is not one of HS256, RS256, EdDSA"));
        }
    }

    #[test]
    fn isolation_stays() {
        assert_eq!(config(&[("RLS_MODE", "auto")]).unwrap().notices.len(), 0);
        assert_eq!(config(&[("RLS_MODE", "off")]).unwrap().notices.len(), 1);
        assert!(fault(&[("RLS_MODE", "loose")]).starts_with("RLS_MODE: "));
    }
}
