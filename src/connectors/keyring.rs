//! The keys that seal connector secrets: from the settings, or from a file in the data directory.
//!
//! Whoever sets no key gets one: `kek.key`, made at the first start, is version 1. Once settings
//! name keys it is there for opening only. Backups leave it out.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use activekg_storage::crypt::rotate::{Rotation, Selection};
use activekg_storage::crypt::{Kek, KeyRing, generate_key, unopened, usage};
use activekg_storage::ids::TenantId;
use activekg_storage::time::Clock;
use activekg_storage::{StorageError, Store};
use anyhow::Context as _;
use serde::{Deserialize, Serialize};
use tracing::{error, info, warn};

use crate::config::{ConfigError, Keys, KeysError, read_key};

/// The file of the key that was made here.
pub const KEY_FILE: &str = "kek.key";

/// Its version.
const FILE_VERSION: u32 = 1;

/// The ring for a server on `dir`. Makes the key file if nothing is sealed and no key is there; if
/// that fails, the disk being full for example, there is no ring, and nothing can be sealed. What is
/// amiss but does not stand in the way is logged.
///
/// # Errors
///
/// [`ConfigError::Keys`] if there is no key although secrets are sealed, or the file holds none;
/// another error if the store cannot be read.
pub fn load(keys: &Keys, dir: &Path, store: &Store) -> anyhow::Result<Option<KeyRing>> {
    let ring = match existing(keys, dir)? {
        Some(ring) => ring,
        None => {
            let n_sealed = usage(&store.read()?, None)?.sealed.values().sum();
            if n_sealed > 0 {
                let file = dir.join(KEY_FILE).display().to_string();
                return Err(ConfigError::from(KeysError::None { n_sealed, file }).into());
            }
            match make(dir) {
                Ok(kek) => ring(BTreeMap::from([(FILE_VERSION, kek)]), FILE_VERSION)?,
                Err(error) => {
                    error!("connector secrets cannot be stored: failed to {error:#}");
                    return Ok(None);
                }
            }
        }
    };
    let (active, n_versions) = (ring.active(), ring.versions().len());
    info!("KEK validation passed (active version: {active}, versions: {n_versions})");
    if ring.is_ambiguous(FILE_VERSION) {
        warn!(
            "{} and the key set as version {FILE_VERSION} differ; what the file sealed is opened with it, and rotating keys seals it with the key that is set",
            dir.join(KEY_FILE).display()
        );
    }
    for (version, n_configs) in unopened(&store.read()?, &ring)? {
        error!("{n_configs} connector configs need KEK v{version}");
    }
    Ok(Some(ring))
}

/// The ring for looking at the data in `dir`; `None` if there is no key at all. Makes nothing.
///
/// # Errors
///
/// As for [`load`].
pub fn existing(keys: &Keys, dir: &Path) -> anyhow::Result<Option<KeyRing>> {
    let file = read(dir)?;
    if keys.named.is_empty() {
        let only = file.map(|kek| ring(BTreeMap::from([(FILE_VERSION, kek)]), keys.active));
        return only.transpose();
    }
    let ring = ring(keys.named.clone(), keys.active)?;
    Ok(Some(match file {
        Some(kek) => ring.with_old(FILE_VERSION, kek),
        None => ring,
    }))
}

fn ring(keys: BTreeMap<u32, Kek>, active: u32) -> anyhow::Result<KeyRing> {
    Ok(KeyRing::new(keys, active).map_err(|error| ConfigError::from(KeysError::Ring(error)))?)
}

/// The key in the file, if there is one.
fn read(dir: &Path) -> anyhow::Result<Option<Kek>> {
    let path = dir.join(KEY_FILE);
    let invalid = |why: String| {
        let name = path.display().to_string();
        ConfigError::from(KeysError::Invalid { name, why })
    };
    let text = match read_key(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(invalid(format!("cannot be read: {error}")).into()),
    };
    let kek = Kek::parse(text.reveal()).map_err(|error| invalid(error.to_string()))?;
    let mode = fs::metadata(&path).map_or(0, |metadata| metadata.mode());
    if mode & 0o077 != 0 {
        warn!("other users can read {0}; chmod 600 {0}", path.display());
    }
    Ok(Some(kek))
}

/// Makes the key file: under another name, synced and renamed, so that nothing is ever sealed with
/// a key that the power takes away.
fn make(dir: &Path) -> anyhow::Result<Kek> {
    let path = dir.join(KEY_FILE);
    let temporary = dir.join("kek.key.new");
    let key = generate_key().context("make a random key")?;
    let write = || {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(0o600);
        let mut file = options.open(&temporary)?;
        file.write_all(key.reveal())?;
        file.write_all(b"\n")?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        File::open(dir)?.sync_all()
    };
    write().with_context(|| format!("write {}", path.display()))?;
    warn!(
        "no CONNECTOR_KEK_V1 is set; made {} to seal connector secrets with. Keep a copy of it away from backups of the data, which leave it out",
        path.display()
    );
    let text = key.reveal_text().context("read the key that was made")?;
    Ok(Kek::parse(text)?)
}

/// How far stored secrets are sealed with the active key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// The version that seals; `None` without any key.
    pub active_version: Option<u32>,
    /// The versions that open, ascending.
    pub available_versions: Vec<u32>,
    /// Connectors by key version.
    pub distribution: BTreeMap<u32, u64>,
    /// Connectors that a rotation would seal again.
    pub pending: u64,
    /// Connectors.
    pub total: u64,
}

impl Status {
    /// Looks at every connector of a tenant, or of all. Blocks.
    ///
    /// # Errors
    ///
    /// When the store cannot be read.
    pub fn gather(
        store: &Store,
        ring: Option<&KeyRing>,
        clock: &dyn Clock,
        tenant: Option<TenantId>,
    ) -> Result<Self, StorageError> {
        let usage = usage(&store.read()?, tenant.as_ref())?;
        let selection = Selection { tenants: tenant.into_iter().collect(), ..Selection::default() };
        let pending = match ring {
            Some(ring) => Rotation { store, ring, clock }.count(&selection)?,
            None => usage.total,
        };
        Ok(Self {
            active_version: ring.map(KeyRing::active),
            available_versions: ring.map(KeyRing::versions).unwrap_or_default(),
            distribution: usage.by_version,
            pending,
            total: usage.total,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use activekg_storage::crypt::fields::{self, Settings};
    use activekg_storage::tables::Json;
    use activekg_storage::tables::connectors::{ConnectorRecord, put_config};
    use activekg_storage::time::{SystemClock, UnixMicros};
    use activekg_storage::{StoreOptions, TenantId};
    use serde_json::json;

    use super::*;

    const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    const SECOND: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

    fn keys(named: &[(u32, &str)], active: u32) -> Keys {
        let named = named.iter().map(|(version, text)| (*version, Kek::parse(text).unwrap()));
        Keys { named: named.collect(), active }
    }

    fn open(dir: &Path) -> Store {
        Store::open(dir, StoreOptions::default()).unwrap()
    }

    /// Stores a connector of `tenant` whose password is sealed.
    fn seal(store: &Store, ring: &KeyRing, tenant: &str) {
        let mut settings = Settings::new();
        settings.insert("password".to_owned(), json!("hunter2"));
        fields::seal(&mut settings, ring, UnixMicros(0));
        let record = ConnectorRecord {
            config: Json(serde_json::Value::Object(settings).to_string()),
            enabled: true,
            bucket: None,
            key_version: ring.active(),
            created_at: UnixMicros(0),
            updated_at: UnixMicros(0),
        };
        let tenant = TenantId::new(tenant).unwrap();
        let written = store.write_blocking(move |tx| put_config(tx, &tenant, "s3", &record));
        written.unwrap();
    }

    fn refusal(loaded: anyhow::Result<Option<KeyRing>>) -> String {
        loaded.err().expect("no ring").downcast::<ConfigError>().unwrap().to_string()
    }

    #[test]
    fn without_settings_a_file_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let unset = keys(&[], 1);
        assert!(existing(&unset, dir.path()).unwrap().is_none());
        let first = load(&unset, dir.path(), &store).unwrap().unwrap();
        assert_eq!((first.active(), first.versions()), (1, vec![1]));
        let path = dir.path().join(KEY_FILE);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!((text.len(), text.trim_end().len()), (45, 44));
        seal(&store, &first, "acme");
        let again = load(&unset, dir.path(), &store).unwrap().unwrap();
        assert_eq!(unopened(&store.read().unwrap(), &again).unwrap(), BTreeMap::new());
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        let names = fs::read_dir(dir.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let made: Vec<_> = names.filter(|name| name.starts_with("kek")).collect();
        assert_eq!(made, ["kek.key"], "nothing else is left behind");
    }

    #[test]
    fn sealed_secrets_without_a_key_are_not_given_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let unset = keys(&[], 1);
        let ring = load(&unset, dir.path(), &store).unwrap().unwrap();
        seal(&store, &ring, "acme");
        let path = dir.path().join(KEY_FILE);
        let saved = fs::read(&path).unwrap();
        fs::remove_file(&path).unwrap();
        let text = refusal(load(&unset, dir.path(), &store));
        assert!(
            text.starts_with("Failed to load connector encryption keys: No KEKs found. Set CONNECTOR_KEK_V1 or legacy CONNECTOR_KEK. 1 stored connectors"),
            "{text}"
        );
        assert!(!path.exists());
        for broken in [&b""[..], b"too short", &saved[..43]] {
            fs::write(&path, broken).unwrap();
            let text = refusal(load(&unset, dir.path(), &store));
            assert!(text.contains("Invalid ") && text.contains("kek.key: "), "{text}");
            assert_eq!(fs::read(&path).unwrap(), broken, "left as it was");
        }
    }

    #[test]
    fn with_settings_the_file_only_opens() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        seal(&store, &load(&keys(&[], 1), dir.path(), &store).unwrap().unwrap(), "acme");
        let status = |keys: &Keys| {
            let ring = load(keys, dir.path(), &store).unwrap().unwrap();
            Status::gather(&store, Some(&ring), &SystemClock, None).unwrap()
        };
        let expected = Status {
            active_version: Some(2),
            available_versions: vec![1, 2],
            distribution: [(1, 1)].into(),
            pending: 1,
            total: 1,
        };
        assert_eq!(status(&keys(&[(2, SECOND)], 2)), expected);
        // The same version as the file's, and another key: what the file sealed is pending.
        let same = keys(&[(1, FIRST)], 1);
        let expected = Status { active_version: Some(1), available_versions: vec![1], ..expected };
        assert_eq!(status(&same), expected);
        let ring = load(&same, dir.path(), &store).unwrap().unwrap();
        seal(&store, &ring, "harbor");
        let pending = status(&same);
        assert_eq!((pending.pending, pending.total), (1, 2));
        let rotation = Rotation { store: &store, ring: &ring, clock: &SystemClock };
        let report =
            rotation.run(&Selection::default(), 10, |_| std::ops::ControlFlow::Continue(()));
        assert_eq!((report.rotated, report.errors), (1, 0));
        fs::remove_file(dir.path().join(KEY_FILE)).unwrap();
        let ring = load(&same, dir.path(), &store).unwrap().unwrap();
        assert_eq!(unopened(&store.read().unwrap(), &ring).unwrap(), BTreeMap::new());
    }

    #[test]
    fn without_room_for_a_file_the_server_starts_all_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        // A folder in the way keeps even root from writing the file.
        fs::create_dir(dir.path().join("kek.key.new")).unwrap();
        assert!(load(&keys(&[], 1), dir.path(), &store).unwrap().is_none());
        fs::remove_dir(dir.path().join("kek.key.new")).unwrap();
        assert!(load(&keys(&[], 1), dir.path(), &store).unwrap().is_some());
    }

    #[test]
    fn a_missing_key_is_no_reason_not_to_start() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        seal(&store, &load(&keys(&[(1, FIRST)], 1), dir.path(), &store).unwrap().unwrap(), "acme");
        let ring = load(&keys(&[(2, SECOND)], 2), dir.path(), &store).unwrap().unwrap();
        assert_eq!(unopened(&store.read().unwrap(), &ring).unwrap(), [(1, 1)].into());
        assert!(!dir.path().join(KEY_FILE).exists(), "keys are set, so none is made");
    }
}
