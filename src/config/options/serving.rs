//! Settings of the process: address, data, background parts, logs.

use clap::Args;

use crate::config::Secret;

/// Address, version, tenants.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Server")]
pub struct ServerOptions {
    /// Address to listen on; wins over --host and --port [default: 127.0.0.1:8000]
    #[arg(long, env = "ACTIVEKG_BIND", value_name = "IP:PORT")]
    pub bind: Option<String>,
    /// IP address to listen on; names are ignored, shells set this variable [default: 127.0.0.1]
    #[arg(long, env = "HOST", value_name = "IP")]
    pub host: Option<String>,
    /// Port to listen on, 0 takes a free one [default: 8000]
    #[arg(long, env = "PORT", value_name = "PORT")]
    pub port: Option<String>,
    /// Listen on a non-loopback address although every route is open
    #[arg(long, env = "ACTIVEKG_DANGER_OPEN", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub danger_open: Option<String>,
    /// Version that /health reports [default: 1.0.0]
    #[arg(long = "reported-version", env = "ACTIVEKG_VERSION", value_name = "TEXT")]
    pub version: Option<String>,
    /// Seconds within which the server goes down in order, 1 to 3600 [default: 30]
    #[arg(long, env = "SHUTDOWN_GRACE_SECONDS", value_name = "SECONDS")]
    pub shutdown_grace_seconds: Option<String>,
    /// Tenant of /ask and /admin/refresh while JWT is off [default: default]
    #[arg(long, env = "ACTIVEKG_DEV_TENANT", value_name = "TENANT")]
    pub dev_tenant: Option<String>,
    /// Accepted; tenants are always kept apart [default: auto]
    #[arg(long, env = "RLS_MODE", value_name = "MODE")]
    pub rls_mode: Option<String>,
}

/// Where data lives.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Data")]
pub struct StoreOptions {
    /// Folder of all data [default: $STATE_DIRECTORY, else $XDG_DATA_HOME/activekg, else ~/.local/share/activekg]
    #[arg(long, env = "ACTIVEKG_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<String>,
    /// Folder of all data as a path or file: URL; a postgresql: address is not used
    #[arg(long, env = "ACTIVEKG_DSN", value_name = "PATH", hide_env_values = true)]
    pub dsn: Option<Secret>,
    /// Read when ACTIVEKG_DSN is unset
    #[arg(long, env = "DATABASE_URL", value_name = "PATH", hide_env_values = true)]
    pub database_url: Option<Secret>,
    /// Refuse writes below this much free space [default: the smaller of 256 MiB and 5 %, at least 16 MiB]
    #[arg(long, env = "ACTIVEKG_MIN_FREE_BYTES", value_name = "BYTES")]
    pub min_free_bytes: Option<String>,
    /// Hours between two scans of the whole store for damage, 0 = none [default: 168]
    #[arg(long, env = "ACTIVEKG_SCRUB_INTERVAL_HOURS", value_name = "HOURS")]
    pub scrub_interval_hours: Option<String>,
    /// Set by systemd for `StateDirectory=`.
    #[arg(long, env = "STATE_DIRECTORY", hide = true)]
    pub state_directory: Option<String>,
    /// Set by desktops.
    #[arg(long, env = "XDG_DATA_HOME", hide = true)]
    pub xdg_data_home: Option<String>,
    /// Set by the login.
    #[arg(long, env = "HOME", hide = true)]
    pub home: Option<String>,
    /// Accepted and ignored: there is no Redis
    #[arg(long, env = "REDIS_URL", hide = true, hide_env_values = true)]
    pub redis_url: Option<Secret>,
    /// Accepted and ignored: there is one process
    #[arg(long, env = "WORKERS", hide = true)]
    pub workers: Option<String>,
    /// Threads that may wait for the disk at the same time, 128 to 4096 [default: 512]
    #[arg(long, env = "ACTIVEKG_POOL_SIZE", value_name = "N")]
    pub pool_size: Option<String>,
}

/// Parts that work without a request.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Background parts")]
pub struct BackgroundOptions {
    /// Embed queued nodes [default: true]
    #[arg(long, env = "RUN_EMBEDDING_WORKER", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub run_embedding_worker: Option<String>,
    /// Run connector jobs [default: true]
    #[arg(long, env = "RUN_CONNECTOR_WORKER", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub run_connector_worker: Option<String>,
    /// Refresh nodes when they are due [default: true]
    #[arg(long, env = "RUN_SCHEDULER", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub run_scheduler: Option<String>,
    /// Poll configured GCS buckets [default: true]
    #[arg(long, env = "RUN_GCS_POLLER", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub run_gcs_poller: Option<String>,
    /// Watch the folders of local connectors [default: true]
    #[arg(long, env = "RUN_FILE_WATCHER", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub run_file_watcher: Option<String>,
}

/// Logs and metrics.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Observability")]
pub struct LogOptions {
    /// TRACE, DEBUG, INFO, WARNING or ERROR [default: INFO]
    #[arg(long, env = "LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// File that log lines are appended to as well; one that is moved away gets a successor [default: none]
    #[arg(long = "log-file", env = "ACTIVEKG_LOG_FILE", value_name = "FILE")]
    pub activekg_log_file: Option<String>,
    /// Serve Prometheus text [default: true]
    #[arg(long, env = "METRICS_ENABLED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub metrics_enabled: Option<String>,
}
