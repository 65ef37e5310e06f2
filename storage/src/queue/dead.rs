//! Items that were given up.

use super::QueueDef;
use super::record::{DEAD, Item, JobRef, KEYS, Place, QueueName, QueueRecord};
use crate::error::StorageError;
use crate::ids::{JobId, TenantId};
use crate::read::Readable;
use crate::table::Scan;
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// An item that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadJob {
    /// The item's name.
    pub id: JobId,
    /// Whose work it was.
    pub tenant: TenantId,
    /// What it was about.
    pub key: Option<String>,
    /// What there was to do.
    pub payload: Vec<u8>,
    /// Attempts made.
    pub attempts: u32,
    /// Why it was given up.
    pub error: String,
    /// When it was enqueued.
    pub enqueued_at: UnixMicros,
    /// When it was given up.
    pub died_at: UnixMicros,
}

/// Up to `limit` dead items, oldest first.
///
/// # Errors
///
/// As for every read.
pub fn dead(
    tx: &impl Readable,
    def: &QueueDef,
    limit: usize,
) -> Result<Vec<DeadJob>, StorageError> {
    let rows = tx.scan(&DEAD, Scan::prefix(&(QueueName::of(def),)))?;
    rows.take(limit)
        .map(|row| {
            let ((_, died_at, _), JobRef { tenant, id }) = row?;
            let Item { id, tenant, job } = Item::load(tx, def, &tenant, id)?;
            Ok(DeadJob {
                id,
                tenant,
                key: job.key,
                payload: job.payload,
                attempts: job.attempts,
                error: job.error.unwrap_or_default(),
                enqueued_at: job.enqueued_at,
                died_at,
            })
        })
        .collect()
}

/// Makes up to `limit` dead items ready again, oldest first, with all their attempts before them.
/// One whose key a live item has by now stays dead: that item is newer. Returns how many were made
/// ready.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn replay_dead(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    limit: usize,
) -> Result<usize, StorageError> {
    let mut state = QueueRecord::load(tx, def)?;
    let mut replayed = 0;
    for JobRef { tenant, id } in refs(tx, def, usize::MAX)? {
        if replayed == limit {
            break;
        }
        let mut item = Item::load(tx, def, &tenant, id)?;
        if let Some(row) = item.key_row(def) {
            if tx.contains(&KEYS, &row)? {
                continue;
            }
            tx.put(&KEYS, &row, &id)?;
        }
        let payload = std::mem::take(&mut item.job.payload);
        item.begin_afresh(payload);
        item.count_pending(tx, def, 1)?;
        item.make_ready(tx, def, &mut state)?;
        replayed += 1;
    }
    if replayed > 0 {
        state.save(tx, def)?;
        tx.wake(def.name);
    }
    Ok(replayed)
}

/// Removes up to `limit` dead items for good, oldest first, and returns how many there were.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn clear_dead(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    limit: usize,
) -> Result<usize, StorageError> {
    let gone = refs(tx, def, limit)?;
    let mut state = QueueRecord::load(tx, def)?;
    for JobRef { tenant, id } in &gone {
        let item = Item::load(tx, def, tenant, *id)?;
        if !matches!(item.job.place, Place::Dead { .. }) {
            return Err(item.corrupt("is among the dead and alive"));
        }
        item.remove(tx, def, &mut state)?;
    }
    if !gone.is_empty() {
        state.save(tx, def)?;
    }
    Ok(gone.len())
}

/// Removes the dead items of `tenant` that have one of `keys`, and returns how many there were.
/// Reads all the dead once, however many keys there are.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn clear_dead_of(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    tenant: &TenantId,
    keys: &std::collections::HashSet<String>,
) -> Result<usize, StorageError> {
    let mut state = QueueRecord::load(tx, def)?;
    let mut n = 0;
    for JobRef { tenant: owner, id } in refs(tx, def, usize::MAX)? {
        if owner != *tenant {
            continue;
        }
        let item = Item::load(tx, def, tenant, id)?;
        if item.job.key.as_ref().is_some_and(|key| keys.contains(key)) {
            item.remove(tx, def, &mut state)?;
            n += 1;
        }
    }
    if n > 0 {
        state.save(tx, def)?;
    }
    Ok(n)
}

fn refs(tx: &WriteTx<'_>, def: &QueueDef, limit: usize) -> Result<Vec<JobRef>, StorageError> {
    let rows = tx.scan(&DEAD, Scan::prefix(&(QueueName::of(def),)))?;
    rows.take(limit).map(|row| row.map(|(_, job)| job)).collect()
}
