//! Who asks Google: accounts and their tokens.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use activekg_storage::time::UnixMicros;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use reqwest::header::{CONTENT_TYPE, HeaderName, HeaderValue};
use reqwest::{Method, Request, Url};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Fault, FaultClass, Settings, SourceParts, rest};

/// Hosts that give out tokens. Keys of tenants name one, so that others are not asked.
const TOKEN_HOSTS: [&str; 3] =
    ["oauth2.googleapis.com", "accounts.google.com", "www.googleapis.com"];
/// Where tokens come from when a key does not say.
const TOKEN_URI: &str = "https://oauth2.googleapis.com/token";
/// Where a machine's own tokens come from.
const MACHINE: &str =
    "http://metadata.google.internal/computeMetadata/v1/instance/service-accounts/default/token";
/// How long a token is asked for, and how long before its end it is not used any more.
const LIFE: Duration = Duration::from_secs(3600);
const MARGIN: Duration = Duration::from_secs(300);
/// Largest file of a key.
const KEY_MAX: u64 = 1 << 20;

/// Where the key of an account is.
#[derive(Clone)]
pub(super) enum Account {
    /// Here.
    Text(Arc<Zeroizing<String>>),
    /// In a file, which may be replaced at any time.
    File(PathBuf),
    /// The machine has an account.
    Machine,
}

/// The tokens of an account.
pub(super) struct Tokens {
    account: Account,
    scope: &'static str,
    subject: Option<String>,
    parts: SourceParts,
    current: Mutex<Option<Token>>,
}

#[derive(Clone)]
struct Token {
    bearer: HeaderValue,
    until: UnixMicros,
    /// Which file it was made with.
    of: Option<Stamp>,
}

/// Tells one version of a file from the next.
type Stamp = (Option<SystemTime>, u64);

/// What a key file holds, as far as it is used.
#[derive(Deserialize)]
struct Key {
    #[serde(rename = "type", default)]
    kind: String,
    #[serde(default)]
    client_email: String,
    #[serde(default)]
    private_key: String,
    #[serde(default)]
    private_key_id: Option<String>,
    #[serde(default)]
    token_uri: Option<String>,
    #[serde(default)]
    client_id: String,
    #[serde(default)]
    client_secret: String,
    #[serde(default)]
    refresh_token: String,
}

#[derive(Deserialize)]
struct Granted {
    access_token: String,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Drop for Key {
    fn drop(&mut self) {
        for secret in [&mut self.private_key, &mut self.client_secret, &mut self.refresh_token] {
            secret.zeroize();
        }
    }
}

impl Drop for Granted {
    fn drop(&mut self) {
        self.access_token.zeroize();
    }
}

impl Account {
    /// The account of a connector to Cloud Storage: its own, or the server's.
    pub(super) fn of_storage(settings: &Settings<'_>, parts: &SourceParts) -> Result<Self, Fault> {
        if let Some(own) = Self::own(settings, "credentials_json") {
            return Ok(own);
        }
        let text = |text: String| Self::Text(Arc::new(Zeroizing::new(text)));
        if let Some(encoded) = parts.0.cloud("google_credentials_b64") {
            let decoded = BASE64_STANDARD.decode(encoded).ok().map(String::from_utf8);
            let Some(Ok(decoded)) = decoded else {
                return Err(Fault::settings("GOOGLE_CREDENTIALS_B64 is no Base64 of a key file"));
            };
            return Ok(text(decoded));
        }
        if let Some(json) = parts.0.cloud("google_credentials_json") {
            return Ok(text(json.to_owned()));
        }
        if let Some(path) = parts.0.cloud("google_application_credentials") {
            return Ok(Self::File(path.into()));
        }
        let usual = parts.0.home.as_deref().map(application_default);
        Ok(usual.filter(|path| path.is_file()).map_or(Self::Machine, Self::File))
    }

    /// The account of a connector itself, whose key is in the setting `field` or in a file.
    pub(super) fn own(settings: &Settings<'_>, field: &str) -> Option<Self> {
        if let Some(text) = settings.connector.secret(field) {
            return Some(Self::Text(Arc::new(Zeroizing::new(text.to_owned()))));
        }
        settings.text("credentials_path").map(|path| Self::File(path.into()))
    }
}

/// Where Google's tools leave the account of a person.
fn application_default(home: &Path) -> PathBuf {
    home.join(".config/gcloud/application_default_credentials.json")
}

impl Tokens {
    pub(super) fn new(
        account: Account,
        scope: &'static str,
        subject: Option<String>,
        parts: &SourceParts,
    ) -> Self {
        Self { account, scope, subject, parts: parts.clone(), current: Mutex::new(None) }
    }

    /// Forgets the token there is: the service did not take it.
    pub(super) fn forget(&self) {
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What proves who asks. A token is kept as long as it is good and the file of its key is the
    /// same.
    pub(super) async fn bearer(&self) -> Result<HeaderValue, Fault> {
        let stamp = match &self.account {
            Account::File(path) => Some(stamp(path).await?),
            Account::Text(_) | Account::Machine => None,
        };
        let current = self.current.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = self.parts.0.clock.now();
        if let Some(Token { bearer, until, of }) = current
            && of == stamp
            && now < until
        {
            return Ok(bearer);
        }
        let granted = self.grant(now).await?;
        let bearer = format!("Bearer {}", granted.access_token);
        let mut bearer = HeaderValue::from_str(&bearer).map_err(|_| no_token())?;
        bearer.set_sensitive(true);
        let life = granted.expires_in.map_or(LIFE, Duration::from_secs).min(LIFE);
        let until = now.plus(life.saturating_sub(MARGIN));
        let token = Token { bearer: bearer.clone(), until, of: stamp };
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(bearer)
    }

    async fn grant(&self, now: UnixMicros) -> Result<Granted, Fault> {
        let key = match &self.account {
            Account::Machine => return self.grant_of_machine().await,
            Account::Text(text) => (**text).clone(),
            Account::File(path) => read(path).await?,
        };
        let key: Key = serde_json::from_str(&key)
            .map_err(|_| Fault::settings("the credentials are no key file of Google's"))?;
        let uri = self.token_uri(key.token_uri.as_deref())?;
        let form = match key.kind.as_str() {
            "service_account" => {
                let assertion = self.assertion(&key, &uri, now)?;
                let kind = "urn:ietf:params:oauth:grant-type:jwt-bearer";
                format!("grant_type={}&assertion={assertion}", rest::in_query(kind))
            }
            "authorized_user" => format!(
                "grant_type=refresh_token&client_id={}&client_secret={}&refresh_token={}",
                rest::in_query(&key.client_id),
                rest::in_query(&key.client_secret),
                rest::in_query(&key.refresh_token)
            ),
            _ => {
                let why = "the credentials are neither of a service account nor of a person";
                return Err(Fault::settings(why));
            }
        };
        let mut request = Request::new(Method::POST, uri);
        let form_type = HeaderValue::from_static("application/x-www-form-urlencoded");
        request.headers_mut().insert(CONTENT_TYPE, form_type);
        *request.body_mut() = Some(form.into());
        let client = &self.parts.0.client;
        granted(client.execute(request).await).await
    }

    async fn grant_of_machine(&self) -> Result<Granted, Fault> {
        let uri = format!("{MACHINE}?scopes={}", rest::in_query(self.scope));
        let uri = uri.parse().map_err(|_| no_token())?;
        let mut request = Request::new(Method::GET, uri);
        let flavor = HeaderName::from_static("metadata-flavor");
        request.headers_mut().insert(flavor, HeaderValue::from_static("Google"));
        granted(self.parts.0.machine_client.execute(request).await).await.map_err(|fault| {
            let why = "the server has no Google credentials to lend; set the connector's own, or GOOGLE_APPLICATION_CREDENTIALS";
            Fault { message: format!("{why} ({})", fault.message), ..fault }
        })
    }

    /// What the account's key signs: who asks for what, and until when.
    fn assertion(&self, key: &Key, uri: &Url, now: UnixMicros) -> Result<String, Fault> {
        let seconds = now.get().div_euclid(1_000_000);
        let mut claims = json!({
            "iss": key.client_email,
            "scope": self.scope,
            "aud": uri.as_str(),
            "iat": seconds,
            "exp": seconds + LIFE.as_secs() as i64,
        });
        if let (Some(subject), Value::Object(claims)) = (&self.subject, &mut claims) {
            claims.insert("sub".to_owned(), subject.as_str().into());
        }
        let unusable = |_| Fault::settings("the private key of the credentials cannot be used");
        let signer = EncodingKey::from_rsa_pem(key.private_key.as_bytes()).map_err(unusable)?;
        let mut header = Header::new(Algorithm::RS256);
        header.kid.clone_from(&key.private_key_id);
        jsonwebtoken::encode(&header, &claims, &signer).map_err(unusable)
    }

    /// Where the token comes from: from Google, or from where the operator sends everything.
    fn token_uri(&self, given: Option<&str>) -> Result<Url, Fault> {
        let bad = || Fault::settings("token_uri of the credentials does not lead to Google");
        let uri: Url = given.unwrap_or(TOKEN_URI).parse().map_err(|_| bad())?;
        let google = uri.scheme() == "https"
            && uri.port().is_none()
            && uri.host_str().is_some_and(|host| TOKEN_HOSTS.contains(&host));
        let parts = &self.parts.0;
        let ours = [&parts.storage_emulator, &parts.drive_api];
        let ours = ours.into_iter().flatten().any(|ours| ours.origin() == uri.origin());
        if google || ours { Ok(uri) } else { Err(bad()) }
    }
}

async fn granted(answer: Result<reqwest::Response, reqwest::Error>) -> Result<Granted, Fault> {
    let response = answer.map_err(|error| rest::unanswered(&error))?;
    let status = response.status();
    if !status.is_success() {
        let fault = rest::refused(status, response.headers());
        // A key that was withdrawn is answered with 400.
        return Err(match status.as_u16() {
            400 | 401 | 403 => Fault::new(
                FaultClass::AccessDenied,
                format!("Google gives no token for the credentials (status {})", status.as_u16()),
            ),
            _ => fault,
        });
    }
    let answer = rest::answer(response).await?;
    serde_json::from_slice(&answer).map_err(|_| no_token())
}

fn no_token() -> Fault {
    Fault::new(FaultClass::Network, "the service of tokens answers with something that is none")
}

async fn stamp(path: &Path) -> Result<Stamp, Fault> {
    let found = tokio::fs::metadata(path).await.map_err(|_| unreadable())?;
    Ok((found.modified().ok(), found.len()))
}

async fn read(path: &Path) -> Result<Zeroizing<String>, Fault> {
    let (_, size) = stamp(path).await?;
    if size > KEY_MAX {
        return Err(unreadable());
    }
    tokio::fs::read_to_string(path).await.map(Zeroizing::new).map_err(|_| unreadable())
}

/// The path is not repeated: not everybody who reads this may know what files there are.
fn unreadable() -> Fault {
    Fault::settings("the file of credentials cannot be read")
}
