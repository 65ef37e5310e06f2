//! Connectors: what tenants may point them at, and how long opened ones are kept.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

use super::options::ConnectorOptions;
use super::{ConfigError, read};

/// Folders that secrets are usually mounted in.
const CREDENTIALS_DIRS: &str = "/secrets:/run/secrets:/etc/activekg";

/// Connectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connectors {
    /// How long an opened connector is kept; zero = not at all.
    pub cache_ttl: Duration,
    /// Whether a task follows changes of connectors.
    pub cache_subscriber: bool,
    /// Folders that credentials of tenants' connectors may lie in.
    pub credentials_dirs: Vec<PathBuf>,
    /// Hosts that tenants' connectors may name as endpoints, in lower case.
    pub endpoint_hosts: Vec<String>,
    /// What stands in for Google Cloud Storage.
    pub storage_emulator: Option<Url>,
    /// What stands in for Google Drive.
    pub drive_api: Option<Url>,
    /// When idle connections to sources are looked after, and how often.
    pub tcp_keepalive: Option<Duration>,
    /// The folder of the user that the server runs as.
    pub home: Option<PathBuf>,
    /// How changes are worked on.
    pub worker: ConnectorWorker,
    /// Largest file that is taken, in bytes, unless a connector has a limit of its own.
    pub max_file_bytes: u64,
    /// How long a deleted document is kept before it is purged. It counts from the deletion.
    pub retention: Duration,
}

/// How changes are worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConnectorWorker {
    /// Batches at a time, 1 to 64.
    pub concurrency: usize,
    /// Changes of a batch, 1 to 1000.
    pub batch: usize,
    /// Longest sleep of a worker that nobody woke.
    pub poll: Duration,
    /// Documents of one connector that are begun a second at most.
    pub rate: u32,
}

impl ConnectorWorker {
    fn new(options: &ConnectorOptions) -> Result<Self, ConfigError> {
        let concurrency = read::number(
            "CONNECTOR_WORKER_CONCURRENCY",
            &options.connector_worker_concurrency,
            1..=64,
        )?;
        let batch = read::number(
            "CONNECTOR_WORKER_BATCH_SIZE",
            &options.connector_worker_batch_size,
            1..=1000,
        )?;
        let poll = read::number(
            "CONNECTOR_WORKER_POLL_INTERVAL",
            &options.connector_worker_poll_interval,
            0.05..=3600.0,
        )?;
        let rate =
            read::number("CONNECTOR_INGEST_RATE", &options.connector_ingest_rate, 1..=100_000)?;
        Ok(Self {
            concurrency: concurrency.unwrap_or(4),
            batch: batch.unwrap_or(10),
            poll: Duration::from_secs_f64(poll.unwrap_or(1.0)),
            rate: rate.unwrap_or(500),
        })
    }
}

impl Connectors {
    /// What the settings mean.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting whose value cannot be used.
    pub fn new(options: &ConnectorOptions) -> Result<Self, ConfigError> {
        let ConnectorOptions {
            connector_cache_ttl,
            connector_cache_subscriber,
            connector_credentials_dirs,
            connector_endpoint_allowlist,
            storage_emulator_host,
            drive_api_base,
            pubsub_tcp_keepalive,
            home,
            connector_worker_concurrency: _, // these are read with the worker's
            connector_worker_batch_size: _,
            connector_worker_poll_interval: _,
            connector_ingest_rate: _,
            connector_max_file_size_mb,
            purger_retention_days,
        } = options;
        let dirs = read::text(connector_credentials_dirs).unwrap_or(CREDENTIALS_DIRS).split(':');
        let dirs = dirs.map(str::trim).filter(|dir| !dir.is_empty());
        let credentials_dirs: Vec<PathBuf> = dirs.map(PathBuf::from).collect();
        if let Some(relative) = credentials_dirs.iter().find(|dir| !dir.is_absolute()) {
            let fault = format!("{:?} is not a whole path such as /secrets", relative.display());
            return Err(ConfigError::new("CONNECTOR_CREDENTIALS_DIRS", fault));
        }
        let hosts = read::text(connector_endpoint_allowlist).unwrap_or_default().split(',');
        let hosts = hosts.map(|host| host.trim().trim_end_matches('.').to_ascii_lowercase());
        let endpoint_hosts: Vec<String> = hosts.filter(|host| !host.is_empty()).collect();
        if let Some(no_host) = endpoint_hosts.iter().find(|host| host.contains(['/', ':'])) {
            let fault = format!("{no_host:?} is not a bare host name such as minio.example.com");
            return Err(ConfigError::new("CONNECTOR_ENDPOINT_ALLOWLIST", fault));
        }
        let max_file_mb =
            read::number("CONNECTOR_MAX_FILE_SIZE_MB", connector_max_file_size_mb, 1..=1024_u64)?;
        let retention_days =
            read::number("PURGER_RETENTION_DAYS", purger_retention_days, 0..=36_500_u64)?;
        Ok(Self {
            cache_ttl: super::seconds("CONNECTOR_CACHE_TTL", connector_cache_ttl, 300)?,
            cache_subscriber: read::boolean(
                "CONNECTOR_CACHE_SUBSCRIBER",
                connector_cache_subscriber,
                true,
            )?,
            credentials_dirs,
            endpoint_hosts,
            storage_emulator: stand_in("STORAGE_EMULATOR_HOST", storage_emulator_host)?,
            drive_api: stand_in("DRIVE_API_BASE", drive_api_base)?,
            tcp_keepalive: read::number("PUBSUB_TCP_KEEPALIVE", pubsub_tcp_keepalive, 1..=32_767)?
                .map(Duration::from_secs),
            home: home.clone(),
            worker: ConnectorWorker::new(options)?,
            max_file_bytes: max_file_mb.unwrap_or(10) << 20,
            retention: Duration::from_secs(retention_days.unwrap_or(30) * 24 * 3600),
        })
    }
}

/// The address of what stands in for a service; `http://` need not be written.
fn stand_in(setting: &'static str, raw: &Option<String>) -> Result<Option<Url>, ConfigError> {
    let Some(text) = read::text(raw) else { return Ok(None) };
    let whole = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url: Option<Url> = whole.parse().ok();
    let url = url.filter(|url| {
        matches!(url.scheme(), "http" | "https") && url.username().is_empty() && url.path() == "/"
    });
    let fault = || ConfigError::new(setting, "not an address such as http://localhost:9023");
    url.map(Some).ok_or_else(fault)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};

    #[test]
    fn nothing_set_is_the_usual() {
        let connectors = config(&[]).unwrap().connectors;
        assert_eq!(connectors.cache_ttl.as_secs(), 300);
        assert!(connectors.cache_subscriber && connectors.endpoint_hosts.is_empty());
        let dirs: Vec<_> = connectors.credentials_dirs.iter().map(|dir| dir.to_str()).collect();
        assert_eq!(dirs, [Some("/secrets"), Some("/run/secrets"), Some("/etc/activekg")]);
        let worker = connectors.worker;
        assert_eq!((worker.concurrency, worker.batch, worker.poll.as_secs()), (4, 10, 1));
        assert_eq!(connectors.max_file_bytes, 10 << 20);
        assert_eq!(connectors.tcp_keepalive, None);
        assert_eq!(connectors.retention.as_secs(), 30 * 24 * 3600);
    }

    #[test]
    fn the_worker_keeps_to_its_bounds() {
        let set = [
            ("CONNECTOR_WORKER_CONCURRENCY", "2"),
            ("CONNECTOR_WORKER_BATCH_SIZE", "50"),
            ("CONNECTOR_WORKER_POLL_INTERVAL", "0.5"),
            ("CONNECTOR_INGEST_RATE", "50"),
            ("CONNECTOR_MAX_FILE_SIZE_MB", "50"),
            ("PUBSUB_TCP_KEEPALIVE", "60"),
            ("PURGER_RETENTION_DAYS", "0"),
        ];
        let connectors = config(&set).unwrap().connectors;
        let worker = connectors.worker;
        assert_eq!((worker.concurrency, worker.batch, worker.poll.as_millis()), (2, 50, 500));
        assert_eq!((worker.rate, connectors.max_file_bytes), (50, 50 << 20));
        assert!(connectors.retention.is_zero());
        assert_eq!(connectors.tcp_keepalive.map(|time| time.as_secs()), Some(60));
        for (setting, _) in set {
            for bad in ["-1", "many", "1e9"] {
                assert!(fault(&[(setting, bad)]).starts_with(&format!("{setting}: ")), "{setting}");
            }
        }
    }

    #[test]
    fn lists_are_cleaned_and_checked() {
        let connectors = config(&[
            ("CONNECTOR_CACHE_TTL", "900"),
            ("CONNECTOR_CREDENTIALS_DIRS", "/a: /b ::"),
            ("CONNECTOR_ENDPOINT_ALLOWLIST", "Minio.Example. ,,10.0.0.1"),
        ]);
        let connectors = connectors.unwrap().connectors;
        assert_eq!(connectors.cache_ttl.as_secs(), 900);
        assert_eq!(connectors.credentials_dirs.len(), 2);
        assert_eq!(connectors.endpoint_hosts, ["minio.example", "10.0.0.1"]);
        let emulator = config(&[("STORAGE_EMULATOR_HOST", "localhost:9023")]).unwrap();
        let emulator = emulator.connectors.storage_emulator.unwrap();
        assert_eq!(emulator.as_str(), "http://localhost:9023/");
        for (setting, bad) in [
            ("STORAGE_EMULATOR_HOST", "ftp://x"),
            ("DRIVE_API_BASE", "http://user@host"),
            ("CONNECTOR_CACHE_TTL", "soon"),
            ("CONNECTOR_CACHE_SUBSCRIBER", "perhaps"),
            ("CONNECTOR_CREDENTIALS_DIRS", "secrets"),
            ("CONNECTOR_ENDPOINT_ALLOWLIST", "http://minio.example"),
            ("CONNECTOR_ENDPOINT_ALLOWLIST", "minio.example:9000"),
        ] {
            assert!(fault(&[(setting, bad)]).starts_with(&format!("{setting}: ")), "{setting}");
        }
    }
}
