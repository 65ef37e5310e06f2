//! Backups: where to, how often, for how long, encrypted to what.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use activekg_storage::crypt::StreamKey;

use super::options::BackupOptions;
use super::{ConfigError, Secret, read, read_key};

const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Longest interval and retention that can be set: ten years.
const DAYS_MAX: u32 = 3650;

/// Backups.
#[derive(Clone)]
pub struct Backup {
    /// Where archives go.
    pub place: Place,
    /// The time between two scheduled backups; `None` makes none.
    pub interval: Option<Duration>,
    /// How long archives are kept; `None` keeps them all.
    pub retention: Option<Duration>,
    /// Archives are encrypted to this key.
    pub key: Option<Arc<StreamKey>>,
    /// What object stores need to know besides their address, by the lower-case variable.
    pub clouds: Vec<(String, Secret)>,
}

/// Where archives are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A folder.
    Folder(PathBuf),
    /// A bucket, and maybe a prefix in it: the address.
    Bucket(String),
}

impl Place {
    /// The place that `text` names.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Ok(Self::Folder(PathBuf::from(text)));
        };
        match scheme {
            "file" => match rest.strip_prefix("localhost").unwrap_or(rest) {
                path if path.starts_with('/') => Ok(Self::Folder(PathBuf::from(path))),
                _ => Err("a file: address needs a whole path, such as file:///var/backups".into()),
            },
            "s3" | "gs" | "az" if rest.contains('@') => {
                Err("an address holds no user and no password; set the store's variables".into())
            }
            "s3" | "gs" | "az" if !rest.trim_matches('/').is_empty() => {
                Ok(Self::Bucket(text.trim_end_matches('/').to_owned()))
            }
            "s3" | "gs" | "az" => Err(format!("{scheme}:// needs the name of a bucket")),
            _ => Err(format!("{scheme}:// is none of file://, s3://, gs:// and az://")),
        }
    }
}

impl Backup {
    /// What the settings mean, for the data in `data_dir`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting whose value cannot be used.
    pub fn new(options: &BackupOptions, data_dir: &Path) -> Result<Self, ConfigError> {
        let BackupOptions {
            backup_dir,
            backup_interval_hours,
            backup_retention_days,
            backup_key,
            backup_key_file,
            clouds,
        } = options;
        let place = match read::text(backup_dir) {
            Some(text) => Place::parse(text)
                .map_err(|fault| ConfigError::new("ACTIVEKG_BACKUP_DIR", fault))?,
            None => Place::Folder(data_dir.join("backups")),
        };
        let hours = read::number(
            "BACKUP_INTERVAL_HOURS",
            backup_interval_hours,
            0.0..=f64::from(DAYS_MAX),
        )?;
        let days = read::number(
            "BACKUP_RETENTION_DAYS",
            backup_retention_days,
            0.0..=f64::from(DAYS_MAX),
        )?;
        let positive = |unit: Duration, n: f64| (n > 0.0).then(|| unit.mul_f64(n));
        Ok(Self {
            place,
            interval: positive(HOUR, hours.unwrap_or(24.0)),
            retention: positive(DAY, days.unwrap_or(7.0)),
            key: key(backup_key, backup_key_file)?.map(Arc::new),
            clouds: clouds.clone(),
        })
    }
}

fn key(text: &Option<Secret>, file: &Option<String>) -> Result<Option<StreamKey>, ConfigError> {
    const KEY: &str = "ACTIVEKG_BACKUP_KEY";
    const FILE: &str = "ACTIVEKG_BACKUP_KEY_FILE";
    let (setting, text) = match (Secret::given(text), read::text(file)) {
        (None, None) => return Ok(None),
        (Some(_), Some(_)) => {
            return Err(ConfigError::new(KEY, format!("{FILE} is set as well; unset one of them")));
        }
        (Some(text), None) => (KEY, text),
        (None, Some(path)) => {
            let text = read_key(Path::new(path))
                .map_err(|error| ConfigError::new(FILE, format!("cannot read {path}: {error}")))?;
            (FILE, text)
        }
    };
    let key = StreamKey::parse(text.reveal());
    key.map(Some).map_err(|error| ConfigError::new(setting, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};
    use super::*;

    const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

    #[test]
    fn archives_go_beside_the_data_once_a_day_and_stay_a_week() {
        let backup = config(&[("ACTIVEKG_DATA_DIR", "/srv/kg")]).unwrap().backup;
        assert_eq!(backup.place, Place::Folder("/srv/kg/backups".into()));
        assert_eq!((backup.interval, backup.retention), (Some(24 * HOUR), Some(7 * DAY)));
        assert!(backup.key.is_none());
        let off = [("BACKUP_INTERVAL_HOURS", "0"), ("BACKUP_RETENTION_DAYS", "0")];
        let backup = config(&off).unwrap().backup;
        assert_eq!((backup.interval, backup.retention), (None, None));
        let half = config(&[("BACKUP_INTERVAL_HOURS", "0.5")]).unwrap().backup;
        assert_eq!(half.interval, Some(HOUR / 2));
    }

    #[test]
    fn places_are_folders_or_buckets() {
        let folder = |path: &str| Ok(Place::Folder(path.into()));
        assert_eq!(Place::parse("/mnt/backups"), folder("/mnt/backups"));
        assert_eq!(Place::parse("file:///mnt/backups"), folder("/mnt/backups"));
        let bucket = |url: &str| Ok(Place::Bucket(url.to_owned()));
        assert_eq!(Place::parse("s3://bucket/some/where/"), bucket("s3://bucket/some/where"));
        for bad in ["ftp://host/x", "s3://", "gs:///", "s3://key:secret@bucket", "file://x"] {
            assert!(Place::parse(bad).is_err(), "{bad}");
        }
        let fault = fault(&[("ACTIVEKG_BACKUP_DIR", "ftp://host/x")]);
        assert_eq!(fault, "ACTIVEKG_BACKUP_DIR: ftp:// is none of file://, s3://, gs:// and az://");
    }

    #[test]
    fn a_key_is_one_or_the_server_does_not_start() {
        assert!(config(&[("ACTIVEKG_BACKUP_KEY", KEY)]).unwrap().backup.key.is_some());
        let short = fault(&[("ACTIVEKG_BACKUP_KEY", "hunter2")]);
        assert!(short.starts_with("ACTIVEKG_BACKUP_KEY: a key has 44 characters"), "{short}");
        let both = fault(&[("ACTIVEKG_BACKUP_KEY", KEY), ("ACTIVEKG_BACKUP_KEY_FILE", "/x")]);
        assert!(both.contains("unset one of them"), "{both}");
        let gone = fault(&[("ACTIVEKG_BACKUP_KEY_FILE", "/no/such/file")]);
        assert!(gone.starts_with("ACTIVEKG_BACKUP_KEY_FILE: cannot read"), "{gone}");
    }
}
