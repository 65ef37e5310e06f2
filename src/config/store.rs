//! Where data lives.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::options::StoreOptions;
use super::{ConfigError, Secret, read};

/// A week: often enough to have a backup from before the damage.
const SCRUB_INTERVAL_HOURS: f64 = 168.0;

/// Where data lives.
#[derive(Debug, Clone)]
pub struct Store {
    /// The folder of all data; made at the first start.
    pub data_dir: PathBuf,
    /// Free space below which writes are refused, in bytes; `None` takes the smaller of 256 MiB and
    /// 5 % of the file system, at least 16 MiB.
    pub min_free_bytes: Option<u64>,
    /// Between two scans of the whole store for damage; `None` = no scans.
    pub scrub_interval: Option<Duration>,
    /// Threads that may wait for the disk at the same time; `None` = as many as the runtime has.
    pub pool_size: Option<usize>,
}

/// Fewer threads would have short reads wait behind long ones. A pool of connections, which the
/// setting was the size of elsewhere, may have been smaller.
const POOL_MIN: usize = 128;

impl Store {
    /// What the settings mean; remarks on them go to `notices`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting whose value cannot be used.
    pub fn new(options: &StoreOptions, notices: &mut Vec<String>) -> Result<Self, ConfigError> {
        let StoreOptions {
            data_dir,
            dsn,
            database_url,
            min_free_bytes,
            scrub_interval_hours,
            state_directory,
            xdg_data_home,
            home,
            redis_url,
            workers,
            pool_size,
        } = options;
        let ignored: Vec<&str> = [
            ("REDIS_URL", Secret::given(redis_url).is_some()),
            ("WORKERS", read::text(workers).is_some()),
        ]
        .into_iter()
        .filter_map(|(name, set)| set.then_some(name))
        .collect();
        match ignored.as_slice() {
            [] => {}
            [one] => notices.push(format!("{one} is ignored: one process does all the work")),
            several => {
                notices.push(format!(
                    "{} are ignored: one process does all the work",
                    several.join(", ")
                ));
            }
        }

        let named =
            [("ACTIVEKG_DSN", Secret::given(dsn)), ("DATABASE_URL", Secret::given(database_url))]
                .into_iter()
                .find_map(|(setting, value)| value.map(|value| (setting, value)));
        let named = match (read::text(data_dir), named) {
            (Some(dir), _) => Some(PathBuf::from(dir)),
            (None, Some((setting, value))) => named_folder(setting, value.reveal(), notices)?,
            (None, None) => None,
        };
        let usual = || {
            // systemd lists several folders with colons between; the first is the service's own.
            let state = read::text(state_directory).and_then(|list| list.split(':').next());
            let data_home = read::text(xdg_data_home).filter(|dir| Path::new(dir).is_absolute());
            state
                .map(PathBuf::from)
                .or_else(|| data_home.map(|dir| Path::new(dir).join("activekg")))
                .or_else(|| {
                    read::text(home).map(|dir| Path::new(dir).join(".local/share/activekg"))
                })
        };
        let data_dir = named.or_else(usual).ok_or_else(|| {
            let fault = "is unset, and there is no STATE_DIRECTORY, XDG_DATA_HOME or HOME to choose a folder by";
            ConfigError::new("ACTIVEKG_DATA_DIR", fault)
        })?;
        Ok(Self {
            data_dir,
            min_free_bytes: read::number("ACTIVEKG_MIN_FREE_BYTES", min_free_bytes, 0..=u64::MAX)?,
            scrub_interval: scrub_interval(scrub_interval_hours)?,
            pool_size: pool(pool_size, notices)?,
        })
    }
}

fn pool(raw: &Option<String>, notices: &mut Vec<String>) -> Result<Option<usize>, ConfigError> {
    let size = read::number("ACTIVEKG_POOL_SIZE", raw, 1..=4096_usize)?;
    if let Some(size) = size.filter(|size| *size < POOL_MIN) {
        notices.push(format!("ACTIVEKG_POOL_SIZE={size} is taken as {POOL_MIN}, the least"));
    }
    Ok(size.map(|size| size.max(POOL_MIN)))
}

fn scrub_interval(hours: &Option<String>) -> Result<Option<Duration>, ConfigError> {
    const LONGEST: f64 = 24.0 * 366.0;
    let hours = read::number("ACTIVEKG_SCRUB_INTERVAL_HOURS", hours, 0.0..=LONGEST)?;
    let hours = hours.unwrap_or(SCRUB_INTERVAL_HOURS);
    Ok((hours > 0.0).then(|| Duration::from_secs_f64(hours * 3600.0)))
}

/// The folder a database address names. Addresses may hold passwords and are never repeated.
fn named_folder(
    setting: &'static str,
    address: &str,
    notices: &mut Vec<String>,
) -> Result<Option<PathBuf>, ConfigError> {
    if address.starts_with("postgres") && address.contains(':') {
        notices.push(format!("{setting} names a PostgreSQL database; data lives in a folder of its own (ACTIVEKG_DATA_DIR)"));
        return Ok(None);
    }
    let path = match address.strip_prefix("file:") {
        Some(rest) => match rest.strip_prefix("//") {
            // The host of a file URL is empty or this machine.
            Some(rest) => rest.strip_prefix("localhost").unwrap_or(rest),
            None => rest,
        },
        None if address.contains("://") => {
            return Err(ConfigError::new(
                setting,
                "is neither a folder, a file: URL nor a postgresql: address",
            ));
        }
        None => address,
    };
    if path.is_empty() {
        return Err(ConfigError::new(setting, "names no folder"));
    }
    Ok(Some(PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};

    fn folder(variables: &[(&str, &str)]) -> String {
        config(variables).unwrap().store.data_dir.to_str().unwrap().to_owned()
    }

    #[test]
    fn the_folder_is_the_first_that_is_named() {
        let all = [
            ("ACTIVEKG_DATA_DIR", "/a"),
            ("ACTIVEKG_DSN", "file:///b"),
            ("DATABASE_URL", "/c"),
            ("STATE_DIRECTORY", "/d:/dd"),
            ("XDG_DATA_HOME", "/e"),
            ("HOME", "/f"),
        ];
        let expected = ["/a", "/b", "/c", "/d", "/e/activekg", "/f/.local/share/activekg"];
        for (n, expected) in expected.into_iter().enumerate() {
            assert_eq!(folder(&all[n..]), expected);
        }
    }

    #[test]
    fn file_addresses_name_a_folder() {
        for address in ["file:/srv/kg", "file:///srv/kg", "file://localhost/srv/kg", "/srv/kg"] {
            assert_eq!(folder(&[("ACTIVEKG_DSN", address)]), "/srv/kg");
        }
    }

    #[test]
    fn a_postgresql_address_gets_one_notice_without_its_password() {
        let set = [
            ("ACTIVEKG_DSN", "postgresql://kg:hunter2@db/kg"),
            ("DATABASE_URL", "postgres://kg:hunter2@db/kg"),
        ];
        let config = config(&set).unwrap();
        assert_eq!(config.store.data_dir.to_str(), Some("/home/somebody/.local/share/activekg"));
        assert_eq!(config.notices.len(), 1);
        assert!(config.notices[0].starts_with("ACTIVEKG_DSN names a PostgreSQL database"));
        assert!(!config.notices[0].contains("hunter2"));
    }

    #[test]
    fn other_databases_are_refused_without_their_password() {
        let text = fault(&[("DATABASE_URL", "mysql://kg:hunter2@db/kg")]);
        assert_eq!(
            text,
            "DATABASE_URL: is neither a folder, a file: URL nor a postgresql: address"
        );
    }

    #[test]
    fn without_any_home_the_setting_is_named() {
        assert!(fault(&[("HOME", "")]).starts_with("ACTIVEKG_DATA_DIR: is unset"));
    }
}
