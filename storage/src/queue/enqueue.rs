//! What comes into a queue.

use super::books::{self, Books};
use super::record::{ItemRecord, KeyRecord, LIVE, QueueName, Successor, Waits};
use super::{CameAt, Caps, Enqueued, NewJob, QueueDef, Refused, State};
use crate::error::StorageError;
use crate::ids::TenantId;
use crate::read::Readable;
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// Largest payload, in bytes. What is larger belongs in a row of its own, which the payload names.
pub const PAYLOAD_MAX: usize = 16 << 20;

/// Longest key, in bytes.
pub const JOB_KEY_MAX: usize = 8 << 10;

/// Puts `job` into the queue, unless a live item has its key.
///
/// # Errors
///
/// As for [`enqueue_all`].
pub fn enqueue(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    job: NewJob,
) -> Result<Enqueued, StorageError> {
    check(&job)?;
    books::with(tx, def, |books| put(books, job))
}

/// Puts `jobs` into the queue in their order, and says of each what became of it.
///
/// # Errors
///
/// As for every read; [`StorageError::TooLarge`] for a payload beyond [`PAYLOAD_MAX`] or a key
/// beyond [`JOB_KEY_MAX`], with none of the jobs enqueued; or a fault of the disk.
pub fn enqueue_all(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    jobs: Vec<NewJob>,
) -> Result<Vec<Enqueued>, StorageError> {
    jobs.iter().try_for_each(check)?;
    if jobs.is_empty() {
        return Ok(Vec::new());
    }
    books::with(tx, def, |books| jobs.into_iter().map(|job| put(books, job)).collect())
}

/// Before anything is written, so that a refused job leaves nothing behind.
fn check(job: &NewJob) -> Result<(), StorageError> {
    let too_large = |bytes| StorageError::TooLarge { table: LIVE.name(), bytes };
    if job.payload.len() > PAYLOAD_MAX {
        return Err(too_large(job.payload.len()));
    }
    match &job.key {
        Some(key) if key.len() > JOB_KEY_MAX => Err(too_large(key.len())),
        _ => Ok(()),
    }
}

fn put(books: &mut Books<'_, '_>, job: NewJob) -> Result<Enqueued, StorageError> {
    let NewJob { id, tenant, key, payload, rank, run_at, now } = job;
    let run_at = run_at.filter(|run_at| *run_at > now);
    let key_row = key.as_ref().map(|key| books.key_row(&tenant, key));
    if let Some(row) = &key_row
        && let Some(live) = books.tx.get(&LIVE, row)?
    {
        let newer = Newer { payload, rank, run_at, now };
        return replace(books, row, live, newer);
    }
    let order = books.number();
    if let Some(row) = &key_row {
        books.tx.put(&LIVE, row, &KeyRecord { order, successor: None })?;
    }
    let waits = run_at.map_or(Waits::Nothing, Waits::Until);
    let item = ItemRecord { payload, rank, waits, ..ItemRecord::new(id, key, now) };
    books.put_in(&tenant, order, &item)?;
    let to = if run_at.is_some() { State::Delayed } else { State::Ready };
    books.count(&tenant, None, Some(to), 1)?;
    books.wake();
    Ok(Enqueued::New(id))
}

/// What comes for a key that has a live item.
struct Newer {
    payload: Vec<u8>,
    rank: Option<super::Rank>,
    run_at: Option<UnixMicros>,
    now: UnixMicros,
}

fn replace(
    books: &mut Books<'_, '_>,
    row: &(TenantId, QueueName, String),
    live: KeyRecord,
    newer: Newer,
) -> Result<Enqueued, StorageError> {
    let Newer { payload, rank, run_at, now } = newer;
    let KeyRecord { order, successor } = live;
    let tenant = &row.0;
    let Some((state, mut item)) = books.find(tenant, order)? else {
        return Err(StorageError::corrupt(LIVE.name(), "a key leads to no item"));
    };
    let present = successor.as_ref().map_or(&item.rank, |successor| &successor.rank);
    if let (Some(rank), Some(present)) = (&rank, present)
        && rank < present
    {
        return Ok(Enqueued::Superseded(item.id));
    }
    match state {
        // Its worker may have read what has changed since: run it once more afterwards.
        State::Leased => {
            let (place, since) = match successor {
                Some(successor) => (successor.order, successor.enqueued_at),
                None => (books.number(), now),
            };
            let successor = Successor { payload, rank, order: place, enqueued_at: since };
            let live = KeyRecord { order, successor: Some(successor) };
            books.tx.put(&LIVE, row, &live)?;
            return Ok(Enqueued::Existing(item.id));
        }
        State::Delayed => {
            let before = item.clone();
            item.begin_afresh(payload, rank);
            item.waits = match (&item.waits, run_at) {
                (Waits::Until(then), Some(run_at)) => Waits::Until(run_at.min(*then)),
                _ => Waits::Nothing,
            };
            books.take_out(tenant, order, &before)?;
            books.put_in(tenant, order, &item)?;
            if item.waits == Waits::Nothing {
                books.count(tenant, Some(State::Delayed), Some(State::Ready), 1)?;
            }
            books.wake();
        }
        State::Ready | State::Held => {
            item.begin_afresh(payload, rank);
            let at = books.row(tenant, order);
            books.tx.put(item.shelf(), &at, &item)?;
        }
        State::Dead => return Err(books::misplaced(&item)),
    }
    Ok(Enqueued::Existing(item.id))
}

/// Whether items of `tenants`, one each time a tenant is named, may come in under `caps`. To be
/// asked in the transaction that enqueues them.
///
/// # Errors
///
/// As for every read.
pub fn admit<'a>(
    tx: &impl Readable,
    def: &QueueDef,
    caps: Caps,
    tenants: impl Iterator<Item = &'a TenantId>,
) -> Result<Result<(), Refused>, StorageError> {
    let Caps { queue, tenant } = caps;
    let mut tenants: Vec<&TenantId> = tenants.collect();
    if let Some(cap) = queue
        && super::pending(tx, def)? + tenants.len() as u64 > cap
    {
        return Ok(Err(Refused::Queue));
    }
    if let Some(cap) = tenant {
        tenants.sort();
        for group in tenants.chunk_by(|a, b| a == b) {
            if super::tenant_pending(tx, def, group[0])? + group.len() as u64 > cap {
                return Ok(Err(Refused::Tenant(group[0].clone())));
            }
        }
    }
    Ok(Ok(()))
}

/// Removes the live item with `key`, even from under a worker; false if there is none.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn remove_by_key(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    tenant: &TenantId,
    key: &str,
) -> Result<bool, StorageError> {
    books::with(tx, def, |books| {
        let row = books.key_row(tenant, key);
        let Some(KeyRecord { order, .. }) = books.tx.take(&LIVE, &row)? else {
            return Ok(false);
        };
        let Some((state, item)) = books.find(tenant, order)? else {
            return Err(StorageError::corrupt(LIVE.name(), "a key leads to no item"));
        };
        if state == State::Leased {
            // It stays on the worker's lease, which then leads nowhere.
            let at = books.row(tenant, order);
            books.tx.remove(item.shelf(), &at)?;
            books.end_alone(order);
        } else {
            books.take_out(tenant, order, &item)?;
        }
        books.count(tenant, Some(state), None, 1)?;
        Ok(true)
    })
}

/// Removes the item with `key` that waits, if it was enqueued before this instant, and so was its
/// payload as far as `came_at` can tell: a newer one may have taken the place of the first. False if
/// there is none. One that a worker has stays.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn remove_waiting(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    tenant: &TenantId,
    key: &str,
    (enqueued_before, came_at): (UnixMicros, CameAt),
) -> Result<bool, StorageError> {
    if books::tenant_record(tx, def, tenant)?.is_none() {
        return Ok(false);
    }
    books::with(tx, def, |books| {
        let row = books.key_row(tenant, key);
        let Some(KeyRecord { order, .. }) = books.tx.get(&LIVE, &row)? else {
            return Ok(false);
        };
        let Some((state, item)) = books.find(tenant, order)? else {
            return Err(StorageError::corrupt(LIVE.name(), "a key leads to no item"));
        };
        if state == State::Leased || item.renewed_at(came_at) >= enqueued_before {
            return Ok(false);
        }
        books.take_out(tenant, order, &item)?;
        books.free_key(tenant, Some(key))?;
        books.count(tenant, Some(state), None, 1)?;
        Ok(true)
    })
}
