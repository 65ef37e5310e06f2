//! Settings of connectors.

use clap::Args;

/// Connectors.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Connectors")]
pub struct ConnectorOptions {
    /// Seconds that an opened connector is kept in memory, 0 = not at all [default: 300]
    #[arg(long, env = "CONNECTOR_CACHE_TTL", value_name = "SECONDS")]
    pub connector_cache_ttl: Option<String>,
    /// Follow changes of connectors in a task of its own [default: true]
    #[arg(long, env = "CONNECTOR_CACHE_SUBSCRIBER", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub connector_cache_subscriber: Option<String>,
    /// Folders that the credentials files of tenants' connectors may lie in, separated by colons [default: /secrets:/run/secrets:/etc/activekg]
    #[arg(long, env = "CONNECTOR_CREDENTIALS_DIRS", value_name = "DIRS")]
    pub connector_credentials_dirs: Option<String>,
    /// Hosts that tenants' connectors may name as S3 endpoints, comma separated [default: none]
    #[arg(long, env = "CONNECTOR_ENDPOINT_ALLOWLIST", value_name = "HOSTS")]
    pub connector_endpoint_allowlist: Option<String>,
}
