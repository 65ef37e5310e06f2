//! Handing items to workers, and taking them back unfinished.

use super::record::{DELAYED, Item, JobRef, LEASES, Place, QueueName, QueueRecord, READY};
use super::{Leased, QueueDef};
use crate::error::StorageError;
use crate::ids::{JobId, TenantId};
use crate::read::Readable;
use crate::table::{Scan, Table};
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// Most lapsed leases, and most delayed items, that one call of [`lease`] makes ready. The rest
/// waits for the next call, in the order of its time.
pub const PROMOTE_MAX: usize = 1000;

/// Ends of the process, with the item leased, that make it dead: it may be what ends it.
pub const CRASHES_MAX: u32 = 20;

/// The error of items that were leased at [`CRASHES_MAX`] ends of the process.
pub const CRASH_LOOP: &str = "crash_loop";

/// An item that was leased when the process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The item's name.
    pub id: JobId,
    /// Whose work it is.
    pub tenant: TenantId,
    /// What it is about.
    pub key: Option<String>,
    /// It was given up, with [`CRASH_LOOP`] as its error. Otherwise it is ready again.
    pub dead: bool,
}

/// Leases up to `n` items to the caller, until `now` plus the queue's lease. Items that have come
/// due are made ready first.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn lease(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    now: UnixMicros,
    n: usize,
) -> Result<Vec<Leased>, StorageError> {
    let mut state = QueueRecord::load(tx, def)?;
    let before = state.clone();
    take_back_lapsed(tx, def, &mut state, now)?;
    promote_due(tx, def, &mut state, now)?;
    let mut leased = Vec::new();
    while leased.len() < n
        && let Some((tenant, id)) = next_ready(tx, def, &state)?
    {
        let mut item = Item::load(tx, def, &tenant, id)?;
        item.take_out(tx, def, &mut state)?;
        item.job.attempts += 1;
        let token = state.number();
        let until = now.plus(def.lease);
        item.put_in(tx, def, &mut state, Place::Leased { until, token })?;
        state.turn = Some(tenant);
        let Item { id, tenant, job } = item;
        leased.push(Leased {
            id,
            tenant,
            key: job.key,
            payload: job.payload,
            attempt: job.attempts,
            crashes: job.crashes,
            token,
        });
    }
    if state != before {
        state.save(tx, def)?;
    }
    Ok(leased)
}

/// The first item of the tenant whose turn it is: the next one after the tenant served last that
/// has any.
fn next_ready(
    tx: &WriteTx<'_>,
    def: &QueueDef,
    state: &QueueRecord,
) -> Result<Option<(TenantId, JobId)>, StorageError> {
    if state.depths.ready == 0 {
        return Ok(None);
    }
    let queue = QueueName::of(def);
    let all = Scan::prefix(&(queue.clone(),));
    let mut row = match &state.turn {
        Some(served) => tx.first(&READY, all.clone().after(&(queue, served.clone())))?,
        None => None,
    };
    if row.is_none() {
        row = tx.first(&READY, all)?;
    }
    Ok(row.map(|((_, tenant, _), id)| (tenant, id)))
}

/// Ends leases whose time is up. Their attempts count: the worker had its time.
fn take_back_lapsed(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    state: &mut QueueRecord,
    now: UnixMicros,
) -> Result<(), StorageError> {
    for JobRef { tenant, id } in due(tx, def, &LEASES, now)? {
        let item = Item::load(tx, def, &tenant, id)?;
        if item.job.successor.is_none() && item.job.attempts >= def.max_attempts {
            item.die(tx, def, state, "the lease lapsed", now)?;
        } else {
            item.give_back(tx, def, state)?;
        }
    }
    Ok(())
}

fn promote_due(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    state: &mut QueueRecord,
    now: UnixMicros,
) -> Result<(), StorageError> {
    for JobRef { tenant, id } in due(tx, def, &DELAYED, now)? {
        Item::load(tx, def, &tenant, id)?.make_ready(tx, def, state)?;
    }
    Ok(())
}

/// The first [`PROMOTE_MAX`] items of an index by time whose time has come.
fn due(
    tx: &WriteTx<'_>,
    def: &QueueDef,
    index: &Table<(QueueName, UnixMicros, u64), JobRef>,
    now: UnixMicros,
) -> Result<Vec<JobRef>, StorageError> {
    let queue = QueueName::of(def);
    let scan = Scan::prefix(&(queue.clone(),)).through(&(queue, now));
    let rows = tx.scan(index, scan)?.take(PROMOTE_MAX);
    rows.map(|row| row.map(|(_, job)| job)).collect()
}

/// The leased item, if this lease still holds.
pub(super) fn held(
    tx: &WriteTx<'_>,
    def: &QueueDef,
    leased: &Leased,
) -> Result<Option<Item>, StorageError> {
    let item = Item::find(tx, def, &leased.tenant, leased.id)?;
    Ok(item.filter(
        |item| matches!(item.job.place, Place::Leased { token, .. } if token == leased.token),
    ))
}

/// Gives an item back as if it had not been leased; false if the lease was lost.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn release(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    leased: &Leased,
) -> Result<bool, StorageError> {
    let Some(mut item) = held(tx, def, leased)? else {
        return Ok(false);
    };
    item.job.attempts = item.job.attempts.saturating_sub(1);
    let mut state = QueueRecord::load(tx, def)?;
    item.give_back(tx, def, &mut state)?;
    state.save(tx, def)?;
    tx.wake(def.name);
    Ok(true)
}

/// Extends a lease to `now` plus the queue's lease; false if it was lost.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn renew(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    leased: &Leased,
    now: UnixMicros,
) -> Result<bool, StorageError> {
    let Some(mut item) = held(tx, def, leased)? else {
        return Ok(false);
    };
    let mut state = QueueRecord::load(tx, def)?;
    let token = leased.token;
    let until = now.plus(def.lease);
    item.take_out(tx, def, &mut state)?;
    item.put_in(tx, def, &mut state, Place::Leased { until, token })?;
    Ok(true)
}

/// Voids every lease; for the start of the process, when nobody can hold one. Items go back to
/// their places, in front of what came later, their attempts uncounted. One that was leased at
/// [`CRASHES_MAX`] such ends is dead. Returns what was leased.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn recover(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    now: UnixMicros,
) -> Result<Vec<Recovered>, StorageError> {
    let rows = tx.scan(&LEASES, Scan::prefix(&(QueueName::of(def),)))?;
    let leases: Vec<JobRef> = rows.map(|row| row.map(|(_, job)| job)).collect::<Result<_, _>>()?;
    if leases.is_empty() {
        return Ok(Vec::new());
    }
    let mut recovered = Vec::with_capacity(leases.len());
    let mut state = QueueRecord::load(tx, def)?;
    for JobRef { tenant, id } in leases {
        let mut item = Item::load(tx, def, &tenant, id)?;
        item.job.attempts = item.job.attempts.saturating_sub(1);
        item.job.crashes += 1;
        let dead = item.job.successor.is_none() && item.job.crashes >= CRASHES_MAX;
        recovered.push(Recovered { id, tenant, key: item.job.key.clone(), dead });
        if dead {
            item.die(tx, def, &mut state, CRASH_LOOP, now)?;
        } else {
            item.give_back(tx, def, &mut state)?;
        }
    }
    state.save(tx, def)?;
    tx.wake(def.name);
    Ok(recovered)
}
