//! Keys that seal secrets.

use std::collections::BTreeMap;
use std::path::Path;

use activekg_storage::crypt::{Kek, RingError};

use super::options::{KeyOptions, NumberedKey};
use super::{ConfigError, Secret, read};

/// Longest text in a file of a key, in bytes; keys have 44, and editors add a line end.
const FILE_MAX: u64 = 4096;

/// Keys that seal secrets, as far as settings name them.
#[derive(Clone)]
pub struct Keys {
    /// By version. Empty if no setting names any: then a file in the data directory has the only one.
    pub named: BTreeMap<u32, Kek>,
    /// The version that seals; one of `named`, or 1.
    pub active: u32,
}

/// Why there are no keys to seal secrets with. None of the texts repeats a key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeysError {
    /// A key is not one, or cannot be read.
    #[error("Invalid {name}: {why}")]
    Invalid {
        /// The variable, or the file in the data directory.
        name: String,
        /// What is wrong.
        why: String,
    },
    /// Secrets are stored, and no key is there.
    #[error(
        "No KEKs found. Set CONNECTOR_KEK_V1 or legacy CONNECTOR_KEK. {n_sealed} stored connectors need the key they were sealed with; it is neither set nor in {file}"
    )]
    None {
        /// Connectors with sealed secrets.
        n_sealed: u64,
        /// The file that is not there.
        file: String,
    },
    /// The active version is no number.
    #[error("CONNECTOR_KEK_ACTIVE_VERSION must be an integer, got: {0}")]
    ActiveNotInteger(String),
    /// The active version is not there.
    #[error("Active KEK version {active} not found. Available versions: {available:?}")]
    ActiveMissing {
        /// It.
        active: i64,
        /// What is there.
        available: Vec<u32>,
    },
    /// The keys do not go together.
    #[error(transparent)]
    Ring(#[from] RingError),
}

impl Keys {
    /// What the settings mean; remarks on them go to `notices`.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Keys`].
    pub fn new(options: &KeyOptions, notices: &mut Vec<String>) -> Result<Self, ConfigError> {
        let mut named = BTreeMap::new();
        for key in options.numbered() {
            if let Some((version, kek)) = numbered(&key)? {
                named.insert(version, kek);
            }
        }
        if let Some(legacy) = Secret::given(&options.connector_kek) {
            if named.is_empty() {
                named.insert(1, parse("CONNECTOR_KEK", legacy.reveal())?);
            } else {
                notices.push("CONNECTOR_KEK is ignored: numbered keys are set".to_owned());
            }
        }
        let active = match read::text(&options.connector_kek_active_version) {
            None => 1,
            Some(text) => {
                let number = text.parse::<i64>();
                number.map_err(|_| KeysError::ActiveNotInteger(text.to_owned()))?
            }
        };
        // The key of the data directory has version 1.
        let available =
            if named.is_empty() { vec![1] } else { named.keys().copied().collect::<Vec<_>>() };
        match u32::try_from(active) {
            Ok(active) if available.contains(&active) => Ok(Self { named, active }),
            _ => Err(KeysError::ActiveMissing { active, available }.into()),
        }
    }
}

/// A numbered key, unless it is unset.
fn numbered(key: &NumberedKey) -> Result<Option<(u32, Kek)>, KeysError> {
    let name = format!("CONNECTOR_KEK_V{}", key.version);
    let (name, text) = match (Secret::given(&key.key), read::text(&key.file)) {
        (None, None) => return Ok(None),
        (Some(text), None) => (name, text),
        (None, Some(path)) => {
            let name = format!("{name}_FILE");
            let text = file(path).map_err(|why| KeysError::Invalid { name: name.clone(), why })?;
            (name, text)
        }
        (Some(_), Some(_)) => {
            let why = format!("{name}_FILE is set as well; unset one of them");
            return Err(KeysError::Invalid { name, why });
        }
    };
    let version = key.version.parse().ok().filter(|version| *version > 0);
    let version = version.filter(|version: &u32| version.to_string() == key.version);
    let Some(version) = version else {
        let why = format!("versions are numbers from 1 to {}, without leading zeros", u32::MAX);
        return Err(KeysError::Invalid { name, why });
    };
    Ok(Some((version, parse(&name, text.reveal())?)))
}

fn parse(name: &str, text: &str) -> Result<Kek, KeysError> {
    Kek::parse(text)
        .map_err(|error| KeysError::Invalid { name: name.to_owned(), why: error.to_string() })
}

/// The text of a key's file.
fn file(path: &str) -> Result<Secret, String> {
    read_key(Path::new(path)).map_err(|error| format!("cannot read {path}: {error}"))
}

/// The text of a key's file, without the line end.
///
/// # Errors
///
/// When it cannot be read, or is longer than any key's file.
pub(crate) fn read_key(path: &Path) -> std::io::Result<Secret> {
    use std::io::Read as _;
    let mut text = String::with_capacity(64);
    std::fs::File::open(path)?.take(FILE_MAX).read_to_string(&mut text)?;
    Ok(Secret::given(&Some(Secret::from(text))).unwrap_or_else(|| Secret::from(String::new())))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};

    const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const SECOND: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";
    const FAILED: &str = "Failed to load connector encryption keys: ";

    fn versions(variables: &[(&str, &str)]) -> (Vec<u32>, u32) {
        let keys = config(variables).unwrap().keys;
        (keys.named.keys().copied().collect(), keys.active)
    }

    #[track_caller]
    fn refused(variables: &[(&str, &str)], why: &str) {
        assert_eq!(fault(variables), format!("{FAILED}{why}"));
    }

    #[test]
    fn keys_have_any_positive_number() {
        assert_eq!(versions(&[]), (vec![], 1));
        assert_eq!(versions(&[("CONNECTOR_KEK_V1", FIRST)]), (vec![1], 1));
        let several = [
            ("CONNECTOR_KEK_V2", FIRST),
            ("CONNECTOR_KEK_V9", SECOND),
            ("CONNECTOR_KEK_V12", SECOND),
            ("CONNECTOR_KEK_ACTIVE_VERSION", " 12 "),
        ];
        assert_eq!(versions(&several), (vec![2, 9, 12], 12));
        refused(
            &[("CONNECTOR_KEK_V0", FIRST)],
            "Invalid CONNECTOR_KEK_V0: versions are numbers from 1 to 4294967295, without leading zeros",
        );
    }

    #[test]
    fn the_old_name_is_version_1_where_it_is_alone() {
        assert_eq!(versions(&[("CONNECTOR_KEK", FIRST)]), (vec![1], 1));
        let both = [
            ("CONNECTOR_KEK", "not looked at"),
            ("CONNECTOR_KEK_V2", SECOND),
            ("CONNECTOR_KEK_ACTIVE_VERSION", "2"),
        ];
        assert_eq!(versions(&both), (vec![2], 2));
        assert_eq!(
            config(&both).unwrap().notices,
            ["CONNECTOR_KEK is ignored: numbered keys are set"]
        );
        let why = "a key has 44 characters (activekg keys generate makes one), this has 7";
        refused(&[("CONNECTOR_KEK", "hunter2")], &format!("Invalid CONNECTOR_KEK: {why}"));
        refused(&[("CONNECTOR_KEK_V3", "hunter2")], &format!("Invalid CONNECTOR_KEK_V3: {why}"));
        refused(&[("CONNECTOR_KEK_V31", "hunter2")], &format!("Invalid CONNECTOR_KEK_V31: {why}"));
    }

    #[test]
    fn the_active_version_must_be_there() {
        let active = |text| {
            let active = ("CONNECTOR_KEK_ACTIVE_VERSION", text);
            [("CONNECTOR_KEK_V1", FIRST), ("CONNECTOR_KEK_V3", SECOND), active]
        };
        assert_eq!(versions(&active("3")), (vec![1, 3], 3));
        refused(&active("two"), "CONNECTOR_KEK_ACTIVE_VERSION must be an integer, got: two");
        refused(&active("1.0"), "CONNECTOR_KEK_ACTIVE_VERSION must be an integer, got: 1.0");
        for missing in ["2", "0", "-1", "5000000000"] {
            let why = format!("Active KEK version {missing} not found. Available versions: [1, 3]");
            refused(&active(missing), &why);
        }
        refused(
            &[("CONNECTOR_KEK_V2", FIRST)],
            "Active KEK version 1 not found. Available versions: [2]",
        );
        refused(
            &[("CONNECTOR_KEK_ACTIVE_VERSION", "2")],
            "Active KEK version 2 not found. Available versions: [1]",
        );
    }

    #[test]
    fn files_hold_keys() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("kek");
        let path = path.to_str().unwrap();
        let setting = [("CONNECTOR_KEK_V1_FILE", path), ("CONNECTOR_KEK_V10_FILE", path)];
        refused(
            &setting[..1],
            &format!(
                "Invalid CONNECTOR_KEK_V1_FILE: cannot read {path}: No such file or directory (os error 2)"
            ),
        );
        std::fs::write(path, format!("{FIRST}\n")).unwrap();
        assert_eq!(versions(&setting), (vec![1, 10], 1));
        refused(
            &[setting[0], ("CONNECTOR_KEK_V1", FIRST)],
            "Invalid CONNECTOR_KEK_V1: CONNECTOR_KEK_V1_FILE is set as well; unset one of them",
        );
        for (text, why) in [("", "this has 0"), (&"x".repeat(44), "this is not")] {
            std::fs::write(path, text).unwrap();
            let said = fault(&setting[..1]);
            assert!(said.starts_with(FAILED) && said.ends_with(why), "{said}");
        }
        std::fs::write(path, [0xFF; 44]).unwrap();
        assert!(fault(&setting[..1]).contains("cannot read"));
    }
}
