//! Settings of webhooks.

use clap::Args;

use crate::config::Secret;

/// Webhooks of S3 and Google Cloud Storage.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Webhooks")]
pub struct WebhookOptions {
    /// Verify the signatures of SNS messages [default: true]
    #[arg(long, env = "WEBHOOK_VERIFY_SNS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub webhook_verify_sns: Option<String>,
    /// Topics of SNS that may speak for a tenant whose S3 connector lists none: JSON of tenants and their patterns [default: {}]
    #[arg(long, env = "WEBHOOK_TOPIC_ALLOWLIST", value_name = "JSON")]
    pub webhook_topic_allowlist: Option<String>,
    /// Reject Pub/Sub messages whose topic is not known to a tenant that lists some [default: false]
    #[arg(long, env = "WEBHOOK_TOPIC_STRICT", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub webhook_topic_strict: Option<String>,
    /// Seconds that a signing certificate of SNS is kept [default: 3600]
    #[arg(long, env = "WEBHOOK_CERT_CACHE_TTL", value_name = "SECONDS")]
    pub webhook_cert_cache_ttl: Option<String>,
    /// Seconds until SNS must have answered, 1 to 60 [default: 3]
    #[arg(long, env = "WEBHOOK_HTTP_TIMEOUT", value_name = "SECONDS")]
    pub webhook_http_timeout: Option<String>,
    /// Folder with the signing certificates of SNS, which are then never fetched
    #[arg(long, env = "WEBHOOK_SNS_CERT_DIR", value_name = "DIR")]
    pub webhook_sns_cert_dir: Option<String>,
    /// Confirm subscriptions of allowed SNS topics without being asked [default: false]
    #[arg(long, env = "WEBHOOK_SNS_AUTO_CONFIRM", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub webhook_sns_auto_confirm: Option<String>,
    /// Seconds in which a message counts once [default: 86400]
    #[arg(long, env = "WEBHOOK_DEDUP_TTL_SECONDS", value_name = "SECONDS")]
    pub webhook_dedup_ttl_seconds: Option<String>,
    /// Bearer token of S3-compatible servers that send events without SNS
    #[arg(long, env = "WEBHOOK_S3_TOKEN", value_name = "TOKEN", hide_env_values = true)]
    pub webhook_s3_token: Option<Secret>,
    /// Verify the identity tokens of Pub/Sub [default: whether PUBSUB_OIDC_AUDIENCE is set]
    #[arg(long, env = "PUBSUB_VERIFY_OIDC", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub pubsub_verify_oidc: Option<String>,
    /// Audience of the identity tokens of Pub/Sub
    #[arg(long, env = "PUBSUB_OIDC_AUDIENCE", value_name = "AUDIENCE")]
    pub pubsub_oidc_audience: Option<String>,
    /// Service accounts whose identity tokens are taken, comma separated
    #[arg(long, env = "PUBSUB_OIDC_SERVICE_ACCOUNTS", value_name = "EMAILS")]
    pub pubsub_oidc_service_accounts: Option<String>,
    /// Keys of those tokens, an address or a file [default: those of Google]
    #[arg(long, env = "PUBSUB_OIDC_JWKS", value_name = "FILE-OR-URL")]
    pub pubsub_oidc_jwks: Option<String>,
    /// Secret of Pub/Sub messages, in X-PubSub-Token or the query parameter token
    #[arg(long, env = "PUBSUB_VERIFY_SECRET", value_name = "SECRET", hide_env_values = true)]
    pub pubsub_verify_secret: Option<Secret>,
    /// Take Pub/Sub messages that nothing verifies although tokens are on [default: false]
    #[arg(long, env = "PUBSUB_ALLOW_UNVERIFIED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub pubsub_allow_unverified: Option<String>,
}
