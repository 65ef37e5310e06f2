//! What a `payload_ref` may lead to.

use std::path::PathBuf;
use std::time::Duration;

use super::options::FetchOptions;
use super::{ConfigError, Secret, read};

/// Most of a payload that may ever be held in memory: a gigabyte.
const BYTES_MAX: usize = 1 << 30;

/// What a `payload_ref` may lead to.
#[derive(Clone)]
pub struct Fetch {
    /// Hosts that may be asked, in lower case; empty = any.
    pub hosts: Vec<String>,
    /// Most bytes taken of an answer or an object.
    pub max_bytes: usize,
    /// Longest time for a payload.
    pub timeout: Duration,
    /// Folders that files may be read from; empty = no file is read.
    pub folders: Vec<PathBuf>,
    /// Most bytes taken of a file.
    pub max_file_bytes: usize,
    /// Buckets that objects may be read from; empty = none is.
    pub buckets: Vec<String>,
    /// What buckets need to know, by the lower-case variable.
    pub clouds: Vec<(String, Secret)>,
    /// Whether addresses that are not public are asked too.
    pub danger_allow_private_addresses: bool,
}

impl Default for Fetch {
    /// What holds where nothing is set: the public web, no files and no buckets.
    fn default() -> Self {
        Self {
            hosts: Vec::new(),
            max_bytes: 10 << 20,
            timeout: Duration::from_secs(10),
            folders: Vec::new(),
            max_file_bytes: 1 << 20,
            buckets: Vec::new(),
            clouds: Vec::new(),
            danger_allow_private_addresses: false,
        }
    }
}

impl Fetch {
    /// What the settings mean.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting whose value cannot be used.
    pub fn new(options: &FetchOptions, clouds: &[(String, Secret)]) -> Result<Self, ConfigError> {
        let (o, usual) = (options, Self::default());
        let bytes = |setting, raw, default| -> Result<usize, ConfigError> {
            Ok(read::number(setting, raw, 1..=BYTES_MAX)?.unwrap_or(default))
        };
        let timeout = read::number("ACTIVEKG_FETCH_TIMEOUT", &o.fetch_timeout, 0.1..=3600.0)?;
        let folders = list(&o.file_basedirs).into_iter().map(PathBuf::from).collect::<Vec<_>>();
        if let Some(relative) = folders.iter().find(|folder| !folder.is_absolute()) {
            let fault = format!("{:?} is not a whole path such as /srv/texts", relative.display());
            return Err(ConfigError::new("ACTIVEKG_FILE_BASEDIRS", fault));
        }
        let hosts: Vec<String> = list(&o.url_allowlist)
            .into_iter()
            .map(|host| host.trim_end_matches('.').to_ascii_lowercase())
            .collect();
        if let Some(no_host) = hosts.iter().find(|host| host.contains(['/', ':'])) {
            let fault = format!("{no_host:?} is not a bare host name such as docs.example.com");
            return Err(ConfigError::new("ACTIVEKG_URL_ALLOWLIST", fault));
        }
        Ok(Self {
            hosts,
            max_bytes: bytes("ACTIVEKG_MAX_FETCH_BYTES", &o.max_fetch_bytes, usual.max_bytes)?,
            timeout: timeout.map_or(usual.timeout, Duration::from_secs_f64),
            folders,
            max_file_bytes: bytes(
                "ACTIVEKG_MAX_FILE_BYTES",
                &o.max_file_bytes,
                usual.max_file_bytes,
            )?,
            buckets: list(&o.allowed_s3_buckets),
            clouds: clouds.to_vec(),
            danger_allow_private_addresses: read::boolean(
                "ACTIVEKG_DANGER_ALLOW_PRIVATE_ADDRESSES",
                &o.danger_allow_private_addresses,
                false,
            )?,
        })
    }
}

/// The items of a list with commas, without blanks.
fn list(raw: &Option<String>) -> Vec<String> {
    let items = read::text(raw).unwrap_or_default().split(',').map(str::trim);
    items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};

    #[test]
    fn nothing_set_lets_in_the_public_web_and_nothing_else() {
        let fetch = config(&[]).unwrap().fetch;
        assert!(fetch.hosts.is_empty() && fetch.folders.is_empty() && fetch.buckets.is_empty());
        assert_eq!((fetch.max_bytes, fetch.max_file_bytes), (10 << 20, 1 << 20));
        assert!(!fetch.danger_allow_private_addresses);
    }

    #[test]
    fn lists_are_cleaned_and_checked() {
        let fetch = config(&[
            ("ACTIVEKG_URL_ALLOWLIST", " Docs.Example.com. ,,b.example"),
            ("ACTIVEKG_FILE_BASEDIRS", "/srv/a, /srv/b"),
        ]);
        let fetch = fetch.unwrap().fetch;
        assert_eq!(fetch.hosts, ["docs.example.com", "b.example"]);
        assert_eq!(fetch.folders.len(), 2);
        assert!(
            fault(&[("ACTIVEKG_URL_ALLOWLIST", "https://a.example")])
                .starts_with("ACTIVEKG_URL_ALLOWLIST: ")
        );
        assert!(
            fault(&[("ACTIVEKG_FILE_BASEDIRS", "texts")]).starts_with("ACTIVEKG_FILE_BASEDIRS: ")
        );
        assert!(
            fault(&[("ACTIVEKG_MAX_FETCH_BYTES", "0")]).starts_with("ACTIVEKG_MAX_FETCH_BYTES: ")
        );
    }
}
