//! Rotation: sealing the secrets of stored connectors again, with the active key.
//!
//! A connector is sealed again in one piece or left as it was, and written only if nobody changed it
//! since it was read. So a rotation can be stopped, killed and started over at any point; what was
//! done stays done, and a second run tries what is left.

use std::ops::ControlFlow;

use serde_json::Value;

use super::KeyRing;
use super::fields::{self, FieldNotOpened, Settings};
use crate::error::StorageError;
use crate::ids::TenantId;
use crate::read::Readable;
use crate::store::Store;
use crate::table::Scan;
use crate::tables::Json;
use crate::tables::connectors::{CONFIGS, ConnectorRecord, put_resealed};
use crate::time::{Clock, UnixMicros};

/// Most connectors that [`Report::failed`] names; [`Report::errors`] counts all.
pub const FAILED_MAX: usize = 1000;

/// Tenant and provider: one connector.
pub type ConnectorKey = (TenantId, String);

/// Which connectors are meant; an empty list means all.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Only these providers. Unknown ones match nothing.
    pub providers: Vec<String>,
    /// Only these tenants.
    pub tenants: Vec<TenantId>,
}

impl Selection {
    fn holds(&self, (tenant, provider): &ConnectorKey) -> bool {
        (self.providers.is_empty() || self.providers.contains(provider))
            && (self.tenants.is_empty() || self.tenants.contains(tenant))
    }
}

/// What a rotation needs.
pub struct Rotation<'a> {
    /// The store.
    pub store: &'a Store,
    /// The keys.
    pub ring: &'a KeyRing,
    /// The clock.
    pub clock: &'a dyn Clock,
}

/// One committed batch. What it names is durable.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Batch {
    /// The connectors that were sealed again, and the version they had.
    pub rotated: Vec<(ConnectorKey, u32)>,
    /// Connectors that were changed or removed meanwhile, and left alone.
    pub skipped: u64,
    /// Connectors that could not be opened, and were left alone.
    pub errors: u64,
}

/// What a rotation amounts to.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Connectors sealed again.
    pub rotated: u64,
    /// Connectors changed or removed meanwhile, and left alone.
    pub skipped: u64,
    /// Connectors that could not be opened, and were left alone.
    pub errors: u64,
    /// The first [`FAILED_MAX`] of those. A row that does not decode has no name, and is only counted.
    pub failed: Vec<ConnectorKey>,
    /// What ended the rotation early. The figures count what was durable before it.
    pub fault: Option<StorageError>,
}

/// A connector to be written, as it was and as it will be.
struct Resealed {
    key: ConnectorKey,
    before: ConnectorRecord,
    after: ConnectorRecord,
}

/// One page of connectors, looked through.
#[derive(Default)]
struct Page {
    resealed: Vec<Resealed>,
    failed: Vec<ConnectorKey>,
    /// Rows that do not decode.
    corrupt: u64,
    /// Where the next page begins; `None` if this was the last one.
    next: Option<ConnectorKey>,
}

#[derive(Debug, thiserror::Error)]
enum RowError {
    #[error("the settings are not a JSON object")]
    NotSettings,
    #[error(transparent)]
    NotOpened(#[from] FieldNotOpened),
}

impl Rotation<'_> {
    /// How many connectors of the selection are not, or not wholly, sealed with the active key.
    ///
    /// # Errors
    ///
    /// When the store cannot be read. Rows that do not decode count.
    pub fn count(&self, selection: &Selection) -> Result<u64, StorageError> {
        let mut n_pending = 0;
        for row in self.store.read()?.scan(&CONFIGS, Scan::all())? {
            n_pending += match row {
                Ok((key, record)) => u64::from(selection.holds(&key) && self.is_pending(&record)),
                Err(StorageError::Corrupt { .. }) => 1,
                Err(error) => return Err(error),
            };
        }
        Ok(n_pending)
    }

    /// Seals the connectors of the selection again, in order of tenant and provider, at most
    /// `batch_rows` (at least 1) in a transaction. After each, `committed` is told, and may end it.
    ///
    /// Blocks: not for async threads.
    pub fn run(
        &self,
        selection: &Selection,
        batch_rows: usize,
        mut committed: impl FnMut(&Batch) -> ControlFlow<()>,
    ) -> Report {
        let mut report = Report::default();
        let mut after = None;
        loop {
            let done = self.page(selection, batch_rows.max(1), after.as_ref()).and_then(|page| {
                let errors = page.failed.len() as u64 + page.corrupt;
                report.errors += errors;
                let room = FAILED_MAX.saturating_sub(report.failed.len());
                report.failed.extend(page.failed.into_iter().take(room));
                let batch = Batch { errors, ..self.write(page.resealed)? };
                report.rotated += batch.rotated.len() as u64;
                report.skipped += batch.skipped;
                Ok((batch, page.next))
            });
            match done {
                Ok((batch, next)) => {
                    let stop = committed(&batch).is_break();
                    after = next;
                    if stop || after.is_none() {
                        return report;
                    }
                }
                Err(error) => {
                    report.fault = Some(error);
                    return report;
                }
            }
        }
    }

    fn is_pending(&self, record: &ConnectorRecord) -> bool {
        record.key_version != self.ring.active()
            || parse(&record.config)
                .is_none_or(|it| fields::any_outdated(&it, self.ring, record.key_version))
    }

    /// Reads up to `max_rows` connectors to be sealed again, and seals them.
    fn page(
        &self,
        selection: &Selection,
        max_rows: usize,
        after: Option<&ConnectorKey>,
    ) -> Result<Page, StorageError> {
        let scan = after.map_or_else(Scan::all, |after| Scan::all().after(after));
        let mut page = Page::default();
        for row in self.store.read()?.scan(&CONFIGS, scan)? {
            let (key, before) = match row {
                Ok(row) => row,
                Err(error @ StorageError::Corrupt { .. }) => {
                    tracing::error!("a connector cannot be rotated: {error}");
                    page.corrupt += 1;
                    continue;
                }
                Err(error) => return Err(error),
            };
            if !selection.holds(&key) || !self.is_pending(&before) {
                continue;
            }
            match reseal(&before, self.ring, self.clock.now()) {
                Ok(after) => page.resealed.push(Resealed { key: key.clone(), before, after }),
                Err(error) => {
                    let (tenant, provider) = &key;
                    tracing::error!(%tenant, provider, "Failed to rotate key for {tenant}/{provider}: {error}");
                    page.failed.push(key.clone());
                }
            }
            if page.resealed.len() + page.failed.len() == max_rows {
                page.next = Some(key);
                break;
            }
        }
        Ok(page)
    }

    /// Writes those that are still as they were read.
    fn write(&self, resealed: Vec<Resealed>) -> Result<Batch, StorageError> {
        let mut batch = Batch::default();
        if resealed.is_empty() {
            return Ok(batch);
        }
        let written = self.store.write_blocking(move |tx| {
            for Resealed { key, before, after } in resealed {
                if tx.get(&CONFIGS, &key)?.as_ref() == Some(&before) {
                    put_resealed(tx, &key, before.updated_at, &after)?;
                    batch.rotated.push((key, before.key_version));
                } else {
                    batch.skipped += 1;
                }
            }
            Ok::<_, StorageError>(batch)
        })?;
        let new_version = self.ring.active();
        for ((tenant, provider), old_version) in &written.value.rotated {
            tracing::info!(tenant_id = %tenant, provider, old_version, new_version, "Config rotated");
        }
        Ok(written.value)
    }
}

pub(super) fn parse(config: &Json) -> Option<Settings> {
    match serde_json::from_str(config.as_str()) {
        Ok(Value::Object(settings)) => Some(settings),
        Ok(_) | Err(_) => None,
    }
}

fn reseal(
    record: &ConnectorRecord,
    ring: &KeyRing,
    now: UnixMicros,
) -> Result<ConnectorRecord, RowError> {
    let mut settings = parse(&record.config).ok_or(RowError::NotSettings)?;
    fields::reseal(&mut settings, ring, record.key_version, now)?;
    Ok(ConnectorRecord {
        config: Json(Value::Object(settings).to_string()),
        key_version: ring.active(),
        updated_at: now,
        ..record.clone()
    })
}

#[cfg(test)]
mod tests;
