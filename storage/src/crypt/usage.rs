//! Which keys stored connectors need.

use std::collections::BTreeMap;

use super::KeyRing;
use super::fields;
use super::rotate::parse;
use crate::error::StorageError;
use crate::ids::TenantId;
use crate::read::Readable;
use crate::table::Scan;
use crate::tables::connectors::CONFIGS;

/// Which keys stored connectors need. Rows that do not decode are not counted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyUsage {
    /// Connectors.
    pub total: u64,
    /// Connectors by the key version they name.
    pub by_version: BTreeMap<u32, u64>,
    /// Of those, the ones that hold sealed secrets.
    pub sealed: BTreeMap<u32, u64>,
}

/// Counts the connectors, of a tenant or of all, by the key they need.
///
/// # Errors
///
/// As for every read, but for rows that do not decode.
pub fn usage(tx: &impl Readable, tenant: Option<&TenantId>) -> Result<KeyUsage, StorageError> {
    let mut usage = KeyUsage::default();
    let scan = tenant.map_or_else(Scan::all, |tenant| Scan::prefix(&(tenant.clone(),)));
    for row in tx.scan(&CONFIGS, scan)? {
        let record = match row {
            Ok((_, record)) => record,
            Err(StorageError::Corrupt { .. }) => continue,
            Err(error) => return Err(error),
        };
        usage.total += 1;
        *usage.by_version.entry(record.key_version).or_default() += 1;
        if parse(&record.config).is_some_and(|settings| fields::any_sealed(&settings)) {
            *usage.sealed.entry(record.key_version).or_default() += 1;
        }
    }
    Ok(usage)
}

/// Counts the connectors that no key of the ring opens, by the version they name.
///
/// # Errors
///
/// As for [`usage`].
pub fn unopened(tx: &impl Readable, ring: &KeyRing) -> Result<BTreeMap<u32, u64>, StorageError> {
    let mut versions = BTreeMap::new();
    for row in tx.scan(&CONFIGS, Scan::all())? {
        let record = match row {
            Ok((_, record)) => record,
            Err(StorageError::Corrupt { .. }) => continue,
            Err(error) => return Err(error),
        };
        let version = record.key_version;
        let opens = parse(&record.config)
            .is_none_or(|settings| fields::open(&settings, ring, version).is_ok());
        if !opens {
            *versions.entry(version).or_default() += 1;
        }
    }
    Ok(versions)
}
