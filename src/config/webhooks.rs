//! Webhooks: who may send them, and how that is found out.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::options::WebhookOptions;
use super::{ConfigError, KeySource, Secret, read, seconds};

/// Where Google publishes the keys of its identity tokens.
const GOOGLE_KEYS: &str = "https://www.googleapis.com/oauth2/v3/certs";

/// Webhooks of S3 and Google Cloud Storage.
#[derive(Clone)]
pub struct Webhooks {
    /// Whether signatures of SNS are verified.
    pub verify_sns: bool,
    /// Patterns of topics of SNS by tenant, for S3 connectors that list none.
    pub topics: BTreeMap<String, Vec<String>>,
    /// Whether a tenant that lists topics rejects messages whose topic is not known.
    pub topic_strict: bool,
    /// How long a signing certificate is kept.
    pub certificate_ttl: Duration,
    /// How long SNS may take to answer.
    pub timeout: Duration,
    /// A folder with the only signing certificates there are.
    pub certificate_dir: Option<PathBuf>,
    /// Whether subscriptions of allowed topics are confirmed at once.
    pub auto_confirm: bool,
    /// How long a message counts once.
    pub dedup_ttl: Duration,
    /// The token of S3-compatible servers.
    pub s3_token: Option<Secret>,
    /// How identity tokens of Pub/Sub are checked; `None` = they are not.
    pub push_tokens: Option<PushTokens>,
    /// The secret of Pub/Sub messages.
    pub push_secret: Option<Secret>,
    /// Whether Pub/Sub messages that nothing verifies are taken.
    pub allow_unverified: bool,
}

/// How identity tokens of Pub/Sub are checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PushTokens {
    /// The audience they must name.
    pub audience: String,
    /// The accounts they may speak for; none = any.
    pub accounts: Vec<String>,
    /// The keys they are signed with.
    pub keys: KeySource,
}

impl Webhooks {
    /// What the settings mean; `tokens_required` is whether other routes need a token.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting whose value cannot be used, and for identity tokens
    /// that anybody could get while everything else needs a token.
    pub fn new(
        options: &WebhookOptions,
        tokens_required: bool,
        notices: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let verify_sns = read::boolean("WEBHOOK_VERIFY_SNS", &options.webhook_verify_sns, true)?;
        if !verify_sns {
            notices.push("WEBHOOK_VERIFY_SNS=false: anybody may send events of S3".to_owned());
        }
        let ttl = &options.webhook_cert_cache_ttl;
        let dedup = &options.webhook_dedup_ttl_seconds;
        let strict = &options.webhook_topic_strict;
        let confirm = &options.webhook_sns_auto_confirm;
        let unverified = &options.pubsub_allow_unverified;
        let timeout = read::number("WEBHOOK_HTTP_TIMEOUT", &options.webhook_http_timeout, 1..=60)?;
        let dir = read::text(&options.webhook_sns_cert_dir).map(PathBuf::from);
        if let Some(dir) = dir.as_ref().filter(|dir| !dir.is_dir()) {
            let fault = format!("{} is not a folder", dir.display());
            return Err(ConfigError::new("WEBHOOK_SNS_CERT_DIR", fault));
        }
        Ok(Self {
            verify_sns,
            topics: topics(&options.webhook_topic_allowlist, notices),
            topic_strict: read::boolean("WEBHOOK_TOPIC_STRICT", strict, false)?,
            certificate_ttl: seconds("WEBHOOK_CERT_CACHE_TTL", ttl, 3600)?,
            timeout: Duration::from_secs(timeout.unwrap_or(3)),
            certificate_dir: dir,
            auto_confirm: read::boolean("WEBHOOK_SNS_AUTO_CONFIRM", confirm, false)?,
            dedup_ttl: seconds("WEBHOOK_DEDUP_TTL_SECONDS", dedup, 86_400)?,
            s3_token: Secret::given(&options.webhook_s3_token),
            push_tokens: push_tokens(options, tokens_required, notices)?,
            push_secret: Secret::given(&options.pubsub_verify_secret),
            allow_unverified: read::boolean("PUBSUB_ALLOW_UNVERIFIED", unverified, false)?,
        })
    }
}

/// Patterns by tenant. What cannot be read lists nothing, which with tokens on allows nothing.
fn topics(raw: &Option<String>, notices: &mut Vec<String>) -> BTreeMap<String, Vec<String>> {
    let Some(text) = read::text(raw) else { return BTreeMap::new() };
    let parsed: Option<BTreeMap<String, Value>> = serde_json::from_str(text).ok();
    let listed = parsed.and_then(|tenants| {
        let listed = tenants.into_iter().map(|(tenant, patterns)| match patterns {
            Value::String(pattern) => Some((tenant, vec![pattern])),
            patterns => Some((tenant, serde_json::from_value(patterns).ok()?)),
        });
        listed.collect::<Option<_>>()
    });
    listed.unwrap_or_else(|| {
        notices.push(
            "WEBHOOK_TOPIC_ALLOWLIST lists nothing: it is not a JSON object such as {\"default\": [\"arn:aws:sns:*:123456789012:*\"]}"
                .to_owned(),
        );
        BTreeMap::new()
    })
}

fn push_tokens(
    options: &WebhookOptions,
    tokens_required: bool,
    notices: &mut Vec<String>,
) -> Result<Option<PushTokens>, ConfigError> {
    let audience = read::text(&options.pubsub_oidc_audience);
    let wanted = read::optional_boolean("PUBSUB_VERIFY_OIDC", &options.pubsub_verify_oidc)?;
    if !wanted.unwrap_or(audience.is_some()) {
        return Ok(None);
    }
    let audience = audience.ok_or_else(|| {
        let fault = "is needed with PUBSUB_VERIFY_OIDC: the audience of the push subscription";
        ConfigError::new("PUBSUB_OIDC_AUDIENCE", fault)
    })?;
    let accounts = read::text(&options.pubsub_oidc_service_accounts).unwrap_or_default();
    let accounts = accounts.split(',').map(str::trim).filter(|account| !account.is_empty());
    let accounts: Vec<String> = accounts.map(str::to_owned).collect();
    if accounts.is_empty() {
        let fault = "is needed: any Google account can get a token for any audience";
        if tokens_required {
            return Err(ConfigError::new("PUBSUB_OIDC_SERVICE_ACCOUNTS", fault));
        }
        notices.push(format!("PUBSUB_OIDC_SERVICE_ACCOUNTS {fault}"));
    }
    let keys = read::text(&options.pubsub_oidc_jwks).unwrap_or(GOOGLE_KEYS);
    let keys =
        KeySource::parse(keys).map_err(|fault| ConfigError::new("PUBSUB_OIDC_JWKS", fault))?;
    Ok(Some(PushTokens { audience: audience.to_owned(), accounts, keys }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};
    use super::*;

    #[test]
    fn nothing_set_verifies_what_it_can() {
        let webhooks = config(&[]).unwrap().webhooks;
        assert!(webhooks.verify_sns && !webhooks.auto_confirm && !webhooks.allow_unverified);
        assert!(webhooks.push_tokens.is_none() && webhooks.push_secret.is_none());
        assert_eq!((webhooks.timeout.as_secs(), webhooks.dedup_ttl.as_secs()), (3, 86_400));
    }

    #[test]
    fn topics_are_listed_by_tenant_or_not_at_all() {
        let listed = |text: &str| {
            let config = config(&[("WEBHOOK_TOPIC_ALLOWLIST", text)]).unwrap();
            (config.webhooks.topics, config.notices.len())
        };
        let (topics, _) = listed(r#"{"acme": ["a", "b"], "default": "c"}"#);
        assert_eq!(topics["acme"], ["a", "b"]);
        assert_eq!(topics["default"], ["c"]);
        for bad in ["[", "[]", r#"{"a": 1}"#, r#"{"a": [1]}"#] {
            assert_eq!(listed(bad), (BTreeMap::new(), 1), "{bad}");
        }
    }

    #[test]
    fn identity_tokens_need_an_audience_and_accounts() {
        let audience = ("PUBSUB_OIDC_AUDIENCE", "https://kg.example/_webhooks/gcs");
        let accounts = ("PUBSUB_OIDC_SERVICE_ACCOUNTS", "a@p.iam.gserviceaccount.com, ,b@c");
        let tokens = config(&[audience, accounts]).unwrap().webhooks.push_tokens.unwrap();
        assert_eq!(tokens.accounts, ["a@p.iam.gserviceaccount.com", "b@c"]);
        assert_eq!(tokens.keys, KeySource::Url(GOOGLE_KEYS.to_owned()));
        assert!(
            config(&[audience, ("PUBSUB_VERIFY_OIDC", "false")])
                .unwrap()
                .webhooks
                .push_tokens
                .is_none()
        );
        assert_eq!(config(&[audience]).unwrap().notices.len(), 1);
        assert!(fault(&[("PUBSUB_VERIFY_OIDC", "true")]).starts_with("PUBSUB_OIDC_AUDIENCE: "));
        let on = ("JWT_ENABLED", "true");
        assert!(fault(&[audience, on]).starts_with("PUBSUB_OIDC_SERVICE_ACCOUNTS: "));
        assert!(config(&[audience, on, accounts]).is_ok());
        let bad = ("PUBSUB_OIDC_JWKS", "ftp://keys");
        assert!(fault(&[audience, bad]).starts_with("PUBSUB_OIDC_JWKS: "));
    }

    #[test]
    fn a_folder_of_certificates_is_a_folder() {
        let text = fault(&[("WEBHOOK_SNS_CERT_DIR", "/no/such/folder")]);
        assert!(text.starts_with("WEBHOOK_SNS_CERT_DIR: "), "{text}");
        assert!(fault(&[("WEBHOOK_HTTP_TIMEOUT", "0")]).starts_with("WEBHOOK_HTTP_TIMEOUT: "));
    }
}
