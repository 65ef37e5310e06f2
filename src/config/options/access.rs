//! Settings of who may do what, and how much.

use clap::Args;

use crate::config::Secret;

/// Tokens and scopes.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Authentication")]
pub struct AuthOptions {
    /// Ask every caller for a token [default: false]
    #[arg(long, env = "JWT_ENABLED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub jwt_enabled: Option<String>,
    /// The one accepted algorithm: HS256, RS256 or EdDSA [default: RS256]
    #[arg(long, env = "JWT_ALGORITHM", value_name = "NAME")]
    pub jwt_algorithm: Option<String>,
    /// Secret for HS256, 32 bytes or more; prefer the variable, other users can read a command line
    #[arg(long, env = "JWT_SECRET_KEY", value_name = "SECRET", hide_env_values = true)]
    pub jwt_secret_key: Option<Secret>,
    /// Public key for RS256 and EdDSA: PEM, PEM with \n for line ends, or base64 of the PEM
    #[arg(long, env = "JWT_PUBLIC_KEY", value_name = "PEM", hide_env_values = true)]
    pub jwt_public_key: Option<String>,
    /// File with the public key, read when --jwt-public-key is unset
    #[arg(long, env = "JWT_PUBLIC_KEY_PATH", value_name = "FILE")]
    pub jwt_public_key_path: Option<String>,
    /// Public keys as the issuer publishes them (JWKS): a file or an address, read again every few minutes; instead of --jwt-public-key
    #[arg(long, env = "JWT_JWKS", value_name = "FILE-OR-URL")]
    pub jwt_jwks: Option<String>,
    /// Further issuers with the keys each publishes, as ISSUER=FILE-OR-URL with blanks in between; tokens of others are checked with the key above
    #[arg(long, env = "JWT_ISSUERS", value_name = "LIST")]
    pub jwt_issuers: Option<String>,
    /// Audience a token must name [default: activekg]
    #[arg(long, env = "JWT_AUDIENCE", value_name = "TEXT")]
    pub jwt_audience: Option<String>,
    /// Issuer a token must name [default: any]
    #[arg(long, env = "JWT_ISSUER", value_name = "TEXT")]
    pub jwt_issuer: Option<String>,
    /// Clock difference to forgive, in seconds [default: 30]
    #[arg(long, env = "JWT_LEEWAY_SECONDS", value_name = "SECONDS")]
    pub jwt_leeway_seconds: Option<String>,
    /// tenant: a valid token may use its tenant's data; scopes: each route needs its scope as well (recommended) [default: tenant]
    #[arg(long, env = "AUTHZ_MODE", value_name = "MODE")]
    pub authz_mode: Option<String>,
}

/// Sizes, rates, browsers.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Limits")]
pub struct LimitOptions {
    /// Largest request body [default: 10485760]
    #[arg(long, env = "MAX_REQUEST_SIZE_BYTES", value_name = "BYTES")]
    pub max_request_size_bytes: Option<String>,
    /// Most nodes in one batch, up to 500 [default: 200]
    #[arg(long, env = "NODE_BATCH_MAX", value_name = "N")]
    pub node_batch_max: Option<String>,
    /// Most files in one upload [default: 50]
    #[arg(long, env = "UPLOAD_MAX_FILES", value_name = "N")]
    pub upload_max_files: Option<String>,
    /// Limit request rates [default: false]
    #[arg(long, env = "RATE_LIMIT_ENABLED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub rate_limit_enabled: Option<String>,
    /// Requests a second to /search [default: 50]
    #[arg(long, env = "RATE_LIMIT_SEARCH_RATE", value_name = "N")]
    pub rate_limit_search_rate: Option<String>,
    /// Burst of /search [default: 100]
    #[arg(long, env = "RATE_LIMIT_SEARCH_BURST", value_name = "N")]
    pub rate_limit_search_burst: Option<String>,
    /// Requests a second to /ask [default: 3]
    #[arg(long, env = "RATE_LIMIT_ASK_RATE", value_name = "N")]
    pub rate_limit_ask_rate: Option<String>,
    /// Burst of /ask [default: 5]
    #[arg(long, env = "RATE_LIMIT_ASK_BURST", value_name = "N")]
    pub rate_limit_ask_burst: Option<String>,
    /// Requests a second to /ask/stream [default: 1]
    #[arg(long, env = "RATE_LIMIT_ASK_STREAM_RATE", value_name = "N")]
    pub rate_limit_ask_stream_rate: Option<String>,
    /// Burst of /ask/stream [default: 3]
    #[arg(long, env = "RATE_LIMIT_ASK_STREAM_BURST", value_name = "N")]
    pub rate_limit_ask_stream_burst: Option<String>,
    /// Requests a second to /admin/refresh [default: 1]
    #[arg(long, env = "RATE_LIMIT_ADMIN_REFRESH_RATE", value_name = "N")]
    pub rate_limit_admin_refresh_rate: Option<String>,
    /// Burst of /admin/refresh [default: 2]
    #[arg(long, env = "RATE_LIMIT_ADMIN_REFRESH_BURST", value_name = "N")]
    pub rate_limit_admin_refresh_burst: Option<String>,
    /// Requests a second of the S3 webhook [default: 100]
    #[arg(long, env = "RATE_LIMIT_WEBHOOK_S3_RATE", value_name = "N")]
    pub rate_limit_webhook_s3_rate: Option<String>,
    /// Burst of the S3 webhook [default: 200]
    #[arg(long, env = "RATE_LIMIT_WEBHOOK_S3_BURST", value_name = "N")]
    pub rate_limit_webhook_s3_burst: Option<String>,
    /// Requests a second of the GCS webhook [default: 100]
    #[arg(long, env = "RATE_LIMIT_WEBHOOK_GCS_RATE", value_name = "N")]
    pub rate_limit_webhook_gcs_rate: Option<String>,
    /// Burst of the GCS webhook [default: 200]
    #[arg(long, env = "RATE_LIMIT_WEBHOOK_GCS_BURST", value_name = "N")]
    pub rate_limit_webhook_gcs_burst: Option<String>,
    /// Requests a second to the remaining routes [default: 100]
    #[arg(long, env = "RATE_LIMIT_DEFAULT_RATE", value_name = "N")]
    pub rate_limit_default_rate: Option<String>,
    /// Burst of the remaining routes [default: 200]
    #[arg(long, env = "RATE_LIMIT_DEFAULT_BURST", value_name = "N")]
    pub rate_limit_default_burst: Option<String>,
    /// Questions of one caller answered at once [default: 3]
    #[arg(long, env = "CONCURRENCY_ASK", value_name = "N")]
    pub concurrency_ask: Option<String>,
    /// Answers of one caller streamed at once [default: 2]
    #[arg(long, env = "CONCURRENCY_ASK_STREAM", value_name = "N")]
    pub concurrency_ask_stream: Option<String>,
    /// Take a caller's address from the proxy header [default: false]
    #[arg(long, env = "TRUST_PROXY", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub trust_proxy: Option<String>,
    /// The header a trusted proxy sets [default: X-Forwarded-For]
    #[arg(long, env = "REAL_IP_HEADER", value_name = "NAME")]
    pub real_ip_header: Option<String>,
    /// Let browsers of other origins call the API [default: false]
    #[arg(long, env = "CORS_ENABLED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub cors_enabled: Option<String>,
    /// Those origins, comma separated [default: http://localhost:5173]
    #[arg(long, env = "CORS_ORIGINS", value_name = "LIST")]
    pub cors_origins: Option<String>,
    /// Let them send credentials [default: true]
    #[arg(long, env = "CORS_CREDENTIALS", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub cors_credentials: Option<String>,
}
