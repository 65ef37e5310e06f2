//! What a connector may make the server reach for, whoever asks.
//!
//! A tenant's administrator names buckets and secrets, and that is all: files of this machine, its
//! own credentials and hosts of its network belong to whoever runs it.

use std::net::IpAddr;
use std::path::{Component, Path, PathBuf};

use activekg_storage::crypt::fields::Settings;
use reqwest::Url;

use super::Provider;
use super::source::azure_host;
use crate::config;

/// Names under which clouds give credentials to their machines.
const METADATA_HOSTS: [&str; 3] =
    ["metadata.google.internal", "metadata", "instance-data.ec2.internal"];

/// Ends of the names of hosts that Azure runs.
const AZURE_HOSTS: [&str; 3] =
    [".blob.core.windows.net", ".blob.core.chinacloudapi.cn", ".blob.core.usgovcloudapi.net"];

/// Why a connector without credentials is refused.
const LENT: &str = "is needed: only whoever runs the server may lend its own credentials";

/// What a connector may make the server reach for.
#[derive(Debug, Clone, Default)]
pub struct Policy {
    credentials_dirs: Vec<PathBuf>,
    endpoint_hosts: Vec<String>,
    folders: Vec<PathBuf>,
}

/// A setting that this caller may not give this value. The text repeats nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct Refused {
    /// The setting.
    pub field: &'static str,
    /// Why, and what would be right.
    pub why: String,
}

impl Policy {
    /// What the settings allow.
    #[must_use]
    pub fn new(connectors: &config::Connectors, fetch: &config::Fetch) -> Self {
        Self {
            credentials_dirs: connectors.credentials_dirs.clone(),
            endpoint_hosts: connectors.endpoint_hosts.clone(),
            folders: fetch.folders.clone(),
        }
    }

    /// Whether a connector may have these settings. A `trusted` caller answers for the whole
    /// installation.
    ///
    /// # Errors
    ///
    /// [`Refused`] for the first setting it may not.
    pub fn check(
        &self,
        provider: Provider,
        settings: &Settings,
        trusted: bool,
    ) -> Result<(), Refused> {
        let text = |name: &str| settings.get(name).and_then(|value| value.as_str());
        if let Some(path) = text("credentials_path")
            && !trusted
            && !within(path, &self.credentials_dirs)
        {
            let why = "must be a file below a folder of CONNECTOR_CREDENTIALS_DIRS";
            return Err(refused("credentials_path", why));
        }
        match provider {
            Provider::S3 => self.check_s3(settings, trusted),
            Provider::Local => match text("path") {
                Some(path) if !within(path, &self.folders) => {
                    Err(refused("path", "must be a folder below one of ACTIVEKG_FILE_BASEDIRS"))
                }
                _ => Ok(()),
            },
            Provider::Gcs => {
                let own = ["credentials_json", "credentials_path"];
                if own.into_iter().all(|name| text(name).is_none()) && !trusted {
                    return Err(refused("credentials_json", LENT));
                }
                Ok(())
            }
            Provider::Azure => match text("connection_string").map(azure_host) {
                // One that names no host leads nowhere.
                None | Some(None) => Ok(()),
                Some(Some(host)) => self.check_host("connection_string", &host, trusted),
            },
            Provider::Drive | Provider::Http => Ok(()),
        }
    }

    /// Whether a connector may lead to a host that its provider does not run.
    fn check_host(&self, field: &'static str, host: &str, trusted: bool) -> Result<(), Refused> {
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        if is_metadata(&host) {
            return Err(refused(field, "leads to a link-local or metadata address"));
        }
        let azure = AZURE_HOSTS.iter().any(|known| host.ends_with(known));
        if trusted || azure || self.endpoint_hosts.contains(&host) {
            return Ok(());
        }
        Err(refused(field, "must lead to a host of CONNECTOR_ENDPOINT_ALLOWLIST"))
    }

    fn check_s3(&self, settings: &Settings, trusted: bool) -> Result<(), Refused> {
        let text = |name: &str| settings.get(name).and_then(|value| value.as_str());
        if text("access_key_id").is_none() && !trusted {
            return Err(refused("access_key_id", LENT));
        }
        let Some(endpoint) = text("endpoint") else { return Ok(()) };
        let url = Url::parse(endpoint).ok();
        let host = url.as_ref().and_then(Url::host_str).unwrap_or_default();
        let host = host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        if is_metadata(&host) {
            return Err(refused("endpoint", "leads to a link-local or metadata address"));
        }
        if trusted || self.endpoint_hosts.contains(&host) {
            return Ok(());
        }
        Err(refused("endpoint", "must lead to a host of CONNECTOR_ENDPOINT_ALLOWLIST"))
    }
}

fn refused(field: &'static str, why: &str) -> Refused {
    Refused { field, why: why.to_owned() }
}

/// Whether a path lies below one of the folders, as it is written. Links are looked at when it is
/// opened.
fn within(path: &str, folders: &[PathBuf]) -> bool {
    let path = Path::new(path);
    let plain =
        path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    plain && path.is_absolute() && folders.iter().any(|folder| path.starts_with(folder))
}

/// Whether a host, in lower case, is where clouds keep the credentials of machines.
pub(super) fn is_metadata(host: &str) -> bool {
    match host.parse() {
        Ok(address) => is_metadata_address(address),
        Err(_) => METADATA_HOSTS.contains(&host),
    }
}

/// Whether clouds keep the credentials of machines at an address.
pub(super) fn is_metadata_address(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => {
            address.is_unicast_link_local()
                || address.segments()[..2] == [0xfd00, 0x0ec2]
                || address.to_ipv4().is_some_and(|address| address.is_link_local())
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn check(provider: Provider, settings: Value, trusted: bool) -> Option<&'static str> {
        let policy = Policy {
            credentials_dirs: vec!["/secrets".into(), "/etc/activekg".into()],
            endpoint_hosts: vec!["minio.example".to_owned()],
            folders: vec!["/srv/docs".into()],
        };
        let Value::Object(settings) = settings else { panic!("an object") };
        policy.check(provider, &settings, trusted).err().map(|refused| refused.field)
    }

    #[test]
    fn credentials_lie_in_their_folders_unless_the_caller_runs_the_server() {
        for good in ["/secrets/a.json", "/etc/activekg/b/c.json"] {
            assert_eq!(check(Provider::Gcs, json!({"credentials_path": good}), false), None);
        }
        for bad in ["/etc/passwd", "/secrets/../etc/passwd", "/secretsandmore/a", "secrets/a", ""] {
            let settings = json!({"credentials_path": bad});
            let refused = Some("credentials_path");
            assert_eq!(check(Provider::Gcs, settings.clone(), false), refused, "{bad}");
            assert_eq!(check(Provider::Drive, settings.clone(), false), refused, "{bad}");
            assert_eq!(check(Provider::Gcs, settings, true), None, "{bad}");
        }
    }

    #[test]
    fn endpoints_are_listed_and_never_where_credentials_are_given_out() {
        let s3 = |endpoint: &str| json!({"access_key_id": "A", "endpoint": endpoint});
        assert_eq!(check(Provider::S3, s3("https://Minio.example:9000"), false), None);
        assert_eq!(check(Provider::S3, s3("http://127.0.0.1:9000"), false), Some("endpoint"));
        assert_eq!(check(Provider::S3, s3("http://127.0.0.1:9000"), true), None);
        for metadata in [
            "http://169.254.169.254/",
            "http://0xa9fea9fe/",
            "http://[fe80::1]/",
            "http://[fd00:ec2::254]/",
            "http://[::ffff:169.254.169.254]/",
            "http://metadata.google.internal./",
        ] {
            assert_eq!(check(Provider::S3, s3(metadata), true), Some("endpoint"), "{metadata}");
        }
        let lent = json!({"bucket": "b"});
        for (provider, field) in
            [(Provider::S3, "access_key_id"), (Provider::Gcs, "credentials_json")]
        {
            assert_eq!(check(provider, lent.clone(), false), Some(field));
            assert_eq!(check(provider, lent.clone(), true), None);
        }
    }

    #[test]
    fn a_connection_string_leads_to_azure_or_to_a_listed_host() {
        let azure = |text: &str| json!({ "connection_string": text });
        let key = "AccountName=acme;AccountKey=AAECAwQFBgcICQ==";
        let cloud = azure(&format!("{key};EndpointSuffix=core.windows.net"));
        assert_eq!(check(Provider::Azure, cloud, false), None);
        let refused = Some("connection_string");
        for bad in [
            format!("{key};BlobEndpoint=http://10.0.0.9:10000/acme"),
            format!("{key};EndpointSuffix=evil.example"),
        ] {
            assert_eq!(check(Provider::Azure, azure(&bad), false), refused, "{bad}");
        }
        let near = format!("{key};BlobEndpoint=http://10.0.0.9:10000/acme");
        assert_eq!(check(Provider::Azure, azure(&near), true), None);
        let listed = format!("{key};BlobEndpoint=https://minio.example/acme");
        assert_eq!(check(Provider::Azure, azure(&listed), false), None);
        let metadata = format!("{key};BlobEndpoint=http://169.254.169.254/");
        assert_eq!(check(Provider::Azure, azure(&metadata), true), refused);
    }

    #[test]
    fn folders_are_those_that_files_may_be_read_from_whoever_asks() {
        for trusted in [false, true] {
            let path = |path: &str| check(Provider::Local, json!({"path": path}), trusted);
            assert_eq!(path("/srv/docs/a"), None);
            assert_eq!(path("/srv/docs"), None);
            assert_eq!((path("/srv"), path("/srv/docs/../x")), (Some("path"), Some("path")));
        }
    }
}
