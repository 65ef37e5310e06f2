//! Connectors: what is configured, and how far each has come.
//!
//! There are few of them, so look-ups by other things than tenant and provider scan.

use serde::{Deserialize, Serialize};

use super::Json;
use crate::codec::Record;
use crate::crypt::fields;
use crate::error::StorageError;
use crate::ids::TenantId;
use crate::read::Readable;
use crate::table::{Scan, Table, TableInfo};
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// (tenant, provider) -> connector. One connector; a tenant's; all, in order of tenant and provider.
pub const CONFIGS: Table<(TenantId, String), ConnectorRecord> =
    Table::new("connectors.configs").two_phase();

/// (provider, bucket, tenant). Who wants the events of a bucket. The provider comes first because
/// an event names a bucket and no tenant. A row for every connector with a bucket.
pub const BUCKETS: Table<(String, String, TenantId), ()> = Table::new("connectors.buckets");

/// (tenant, provider, scope) -> cursor. How far a listing has come; a connector's, by scope. The
/// scope is empty unless a provider keeps several cursors.
pub const CURSORS: Table<(TenantId, String, String), CursorRecord> =
    Table::new("connectors.cursors");

/// (tenant, provider, address) -> what was queued of it last. The objects that polling knows; a
/// connector's, in order of their addresses.
pub const POLLED: Table<(TenantId, String, String), PolledRecord> = Table::new("connectors.polled");

/// (tenant, provider) -> since when it has the settings it has. Of connectors whose secrets were sealed
/// anew; it counts for as long as that was the last change of the connector.
const RESEALED: Table<(TenantId, String), ResealedRecord> = Table::new("connectors.resealed");

pub(crate) const TABLES: &[TableInfo] = &[
    TableInfo::of(&CONFIGS),
    TableInfo::of(&RESEALED),
    TableInfo::of(&BUCKETS),
    TableInfo::of(&CURSORS),
    TableInfo::of(&POLLED),
];

/// A connector.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConnectorRecord {
    /// Its settings: a JSON object. Secrets in it are sealed.
    pub config: Json,
    /// Whether it runs.
    pub enabled: bool,
    /// The bucket whose events it wants, the same as in `config`.
    pub bucket: Option<String>,
    /// The version of the key that its secrets are sealed with.
    pub key_version: u32,
    /// When it was first registered.
    pub created_at: UnixMicros,
    /// When it last changed.
    pub updated_at: UnixMicros,
}

impl Record for ConnectorRecord {
    const FORMAT: u8 = 1;

    fn key_version(&self) -> Option<u32> {
        let settings = serde_json::from_str(self.config.as_str()).unwrap_or_default();
        fields::any_sealed(&settings).then_some(self.key_version)
    }
}

/// How far a listing has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CursorRecord {
    /// What the provider gave to go on from.
    pub cursor: String,
    /// When it last moved.
    pub updated_at: UnixMicros,
}

impl Record for CursorRecord {
    const FORMAT: u8 = 1;
}

/// An object of a source, as polling queued it last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolledRecord {
    /// Tells this version of it from the next.
    pub version: String,
    /// When it was queued.
    pub polled_at: UnixMicros,
}

impl Record for PolledRecord {
    const FORMAT: u8 = 1;
}

/// That the secrets of a connector were sealed anew, by which its settings are no others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ResealedRecord {
    /// When that was.
    at: UnixMicros,
    /// Since when it has its settings.
    settings_at: UnixMicros,
}

impl Record for ResealedRecord {
    const FORMAT: u8 = 1;
}

/// Since when a connector has the settings that it had when it was changed at `updated_at`: a change
/// that only seals its secrets anew does not count.
///
/// # Errors
///
/// As for every read.
pub fn settings_at(
    tx: &impl Readable,
    key: &(TenantId, String),
    updated_at: UnixMicros,
) -> Result<UnixMicros, StorageError> {
    let resealed = tx.get(&RESEALED, key)?.filter(|resealed| resealed.at == updated_at);
    Ok(resealed.map_or(updated_at, |resealed| resealed.settings_at))
}

/// Writes a connector whose secrets were sealed anew in place of the one that was last changed
/// at `before`.
///
/// # Errors
///
/// As for every write.
pub(crate) fn put_resealed(
    tx: &mut WriteTx<'_>,
    key: &(TenantId, String),
    before: UnixMicros,
    record: &ConnectorRecord,
) -> Result<(), StorageError> {
    let settings_at = settings_at(tx, key, before)?;
    tx.put(&RESEALED, key, &ResealedRecord { at: record.updated_at, settings_at })?;
    tx.put(&CONFIGS, key, record)
}

/// Writes a connector in place of the one that was there, and keeps [`BUCKETS`] in step.
///
/// # Errors
///
/// As for every write.
pub fn put_config(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    provider: &str,
    record: &ConnectorRecord,
) -> Result<(), StorageError> {
    let key = (tenant.clone(), provider.to_owned());
    forget_bucket(tx, &key)?;
    if let Some(bucket) = &record.bucket {
        tx.put(&BUCKETS, &(provider.to_owned(), bucket.clone(), tenant.clone()), &())?;
    }
    tx.put(&CONFIGS, &key, record)
}

/// Removes up to `limit` of the objects that polling knows of a connector; whether there may be more.
///
/// # Errors
///
/// As for every write.
pub fn forget_polled(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    provider: &str,
    limit: usize,
) -> Result<bool, StorageError> {
    let polled = tx.scan(&POLLED, Scan::prefix(&(tenant.clone(), provider.to_owned())))?;
    let polled = polled.take(limit).map(|row| row.map(|(key, _)| key));
    let polled = polled.collect::<Result<Vec<_>, StorageError>>()?;
    for key in &polled {
        tx.remove(&POLLED, key)?;
    }
    Ok(polled.len() == limit)
}

/// Removes a connector with its cursors and what polling knows; false if there was none. What
/// polling knows may be much: see [`forget_polled`].
///
/// # Errors
///
/// As for every write.
pub fn remove_config(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    provider: &str,
) -> Result<bool, StorageError> {
    let key = (tenant.clone(), provider.to_owned());
    forget_bucket(tx, &key)?;
    let cursors = tx.scan(&CURSORS, Scan::prefix(&key))?;
    let cursors = cursors.map(|row| row.map(|(key, _)| key));
    for cursor in cursors.collect::<Result<Vec<_>, StorageError>>()? {
        tx.remove(&CURSORS, &cursor)?;
    }
    forget_polled(tx, tenant, provider, usize::MAX)?;
    tx.remove(&RESEALED, &key)?;
    tx.remove(&CONFIGS, &key)
}

fn forget_bucket(tx: &mut WriteTx<'_>, key: &(TenantId, String)) -> Result<(), StorageError> {
    if let Some(bucket) = tx.get(&CONFIGS, key)?.and_then(|record| record.bucket) {
        let (tenant, provider) = key.clone();
        tx.remove(&BUCKETS, &(provider, bucket, tenant))?;
    }
    Ok(())
}

/// The tenants with a connector of `provider` on `bucket`, enabled or not, in order of their names.
///
/// # Errors
///
/// As for every read.
pub fn tenants_of_bucket(
    tx: &impl Readable,
    provider: &str,
    bucket: &str,
) -> Result<Vec<TenantId>, StorageError> {
    let prefix = (provider.to_owned(), bucket.to_owned());
    let rows = tx.scan(&BUCKETS, Scan::prefix(&prefix))?;
    rows.map(|row| row.map(|((_, _, tenant), ())| tenant)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing::{open, write};

    fn record(bucket: Option<&str>, key_version: u32) -> ConnectorRecord {
        ConnectorRecord {
            config: Json::default(),
            enabled: true,
            bucket: bucket.map(str::to_owned),
            key_version,
            created_at: UnixMicros(1),
            updated_at: UnixMicros(2),
        }
    }

    #[test]
    fn a_key_is_needed_where_something_is_sealed() {
        let key = crate::crypt::Kek::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let ring = crate::crypt::KeyRing::new([(7, key)].into(), 7).unwrap();
        let token = ring.seal(b"secret", UnixMicros(1)).token;
        let config =
            |token: &str| Json(format!(r#"{{"bucket":"docs","secret_access_key":"{token}"}}"#));
        let sealed = ConnectorRecord { config: config(&token), ..record(Some("docs"), 7) };
        assert_eq!(sealed.key_version(), Some(7));
        for config in [config(""), config("in the clear"), Json::default(), Json("?".to_owned())] {
            assert_eq!(ConnectorRecord { config, ..record(None, 7) }.key_version(), None);
        }
    }

    #[test]
    fn buckets_lead_to_their_tenants() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let [acme, harbor] = ["acme", "harbor"].map(|name| TenantId::new(name).unwrap());
        let (first, second) = (acme.clone(), harbor.clone());
        write(&store, move |tx| {
            put_config(tx, &first, "s3", &record(Some("docs"), 1))?;
            put_config(tx, &second, "s3", &record(Some("docs"), 2))?;
            put_config(tx, &second, "gcs", &record(Some("docs"), 2))?;
            put_config(tx, &second, "drive", &record(None, 1))
        });
        let of =
            |provider, bucket| tenants_of_bucket(&store.read().unwrap(), provider, bucket).unwrap();
        assert_eq!(of("s3", "docs"), [acme.clone(), harbor.clone()]);
        assert_eq!(of("gcs", "docs"), std::slice::from_ref(&harbor));

        let (first, second) = (acme.clone(), harbor.clone());
        write(&store, move |tx| {
            put_config(tx, &first, "s3", &record(Some("other"), 1))?;
            let cursor = CursorRecord { cursor: "c".to_owned(), updated_at: UnixMicros(3) };
            for (provider, scope) in [("s3", ""), ("s3", "drive 1"), ("gcs", "")] {
                let key = (second.clone(), provider.to_owned(), scope.to_owned());
                tx.put(&CURSORS, &key, &cursor)?;
            }
            assert!(remove_config(tx, &second, "s3")?);
            assert!(!remove_config(tx, &second, "s3")?);
            Ok(())
        });
        assert_eq!(of("s3", "docs"), []);
        assert_eq!(of("s3", "other"), [acme]);
        let snapshot = store.read().unwrap();
        let cursors = snapshot.scan(&CURSORS, Scan::all()).unwrap();
        let cursors: Vec<_> = cursors.map(|row| row.unwrap().0.1).collect();
        assert_eq!(cursors, ["gcs"]);
    }

    #[test]
    fn what_polling_knows_is_forgotten_in_steps() {
        let dir = tempfile::tempdir().unwrap();
        let store = open(dir.path());
        let [acme, harbor] = ["acme", "harbor"].map(|name| TenantId::new(name).unwrap());
        write(&store, move |tx| {
            let polled = PolledRecord { version: "1".to_owned(), polled_at: UnixMicros(1) };
            for (owner, provider, n) in [(&acme, "s3", 5), (&acme, "gcs", 1), (&harbor, "s3", 1)] {
                for n in 0..n {
                    let key = (owner.clone(), provider.to_owned(), format!("s3://docs/{n}"));
                    tx.put(&POLLED, &key, &polled)?;
                }
            }
            let mut steps = Vec::new();
            for _ in 0..3 {
                steps.push(forget_polled(tx, &acme, "s3", 2)?);
            }
            assert_eq!(steps, [true, true, false]);
            assert_eq!(tx.scan(&POLLED, Scan::all())?.count(), 2);
            Ok(())
        });
    }
}
