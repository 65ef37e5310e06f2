//! Settings of connectors.

use std::path::PathBuf;

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
    /// Address of what stands in for Google Cloud Storage in tests, such as localhost:9023; it is asked without credentials [default: none]
    #[arg(long, env = "STORAGE_EMULATOR_HOST", value_name = "HOST-OR-URL")]
    pub storage_emulator_host: Option<String>,
    /// Address of what stands in for Google Drive in tests [default: none]
    #[arg(long, env = "DRIVE_API_BASE", value_name = "URL")]
    pub drive_api_base: Option<String>,
    /// Seconds without a byte after which it is asked whether the other side of a connection to a source is still there, 1 to 32767 [default: 15]
    #[arg(long, env = "PUBSUB_TCP_KEEPALIVE", value_name = "SECONDS")]
    pub pubsub_tcp_keepalive: Option<String>,
    /// The folder of the user that the server runs as, where Google's tools keep an account.
    #[arg(skip = std::env::home_dir())]
    pub home: Option<PathBuf>,
    /// Batches of changes that are worked on at a time, 1 to 64 [default: 4]
    #[arg(long, env = "CONNECTOR_WORKER_CONCURRENCY", value_name = "N")]
    pub connector_worker_concurrency: Option<String>,
    /// Changes of one batch, 1 to 1000 [default: 10]
    #[arg(long, env = "CONNECTOR_WORKER_BATCH_SIZE", value_name = "N")]
    pub connector_worker_batch_size: Option<String>,
    /// Seconds after which a worker that nobody woke looks for changes [default: 1.0]
    #[arg(long, env = "CONNECTOR_WORKER_POLL_INTERVAL", value_name = "SECONDS")]
    pub connector_worker_poll_interval: Option<String>,
    /// Documents of one connector that are begun a second at most, 1 to 100000 [default: 500]
    #[arg(long, env = "CONNECTOR_INGEST_RATE", value_name = "N")]
    pub connector_ingest_rate: Option<String>,
    /// Largest file that a connector takes, in MiB, 1 to 1024 [default: 10]
    #[arg(long, env = "CONNECTOR_MAX_FILE_SIZE_MB", value_name = "MIB")]
    pub connector_max_file_size_mb: Option<String>,
    /// Days that a deleted document is kept before it is purged, 0 to 36500 [default: 30]
    #[arg(long, env = "PURGER_RETENTION_DAYS", value_name = "DAYS")]
    pub purger_retention_days: Option<String>,
}
