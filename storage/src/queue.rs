//! Durable queues: named, leased, retried, in the same transactions as everything else.
//!
//! - An item is **ready**, **delayed** until an instant, **leased** to a worker until an instant, or
//!   **dead**. It vanishes when it is acknowledged, and not before.
//! - Ready items of a tenant are leased in the order they became ready, tenants take turns.
//! - A queue holds one live (not dead) item per tenant and key. Enqueueing another replaces its
//!   payload; if a worker has it just then, the new payload waits and is run after that.
//! - An attempt counts when it is leased. Giving an item back, or losing it to the end of the
//!   process, uncounts it; failing it, or letting the lease lapse, does not.
//! - Depths are counters kept by the transactions that move items, hence exact.
//!
//! Work may be run twice: a worker that lost its lease finds out when it acknowledges.

mod dead;
mod lease;
mod record;
mod retry;
mod settle;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::StorageError;
use crate::ids::{JobId, TenantId};
use crate::read::Readable;
use crate::table::Scan;
use crate::time::UnixMicros;
use crate::write::WriteTx;
use record::{
    DELAYED, Item, JOBS, JobRecord, KEYS, LEASES, Payload, Place, QueueName, QueueRecord,
};

pub use dead::{DeadJob, clear_dead, clear_dead_of, dead, replay_dead};
pub use lease::{CRASH_LOOP, CRASHES_MAX, PROMOTE_MAX, Recovered, lease, recover, release, renew};
pub use settle::{ack, bury, fail};

/// A queue, as a constant of whoever uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueDef {
    /// Its name, unique in the store.
    pub name: &'static str,
    /// How long a worker has an item before another may take it.
    pub lease: Duration,
    /// Attempts before an item is dead; at least 1.
    pub max_attempts: u32,
    /// Longest wait after the first failed attempt; doubles with each further one.
    pub backoff_base: Duration,
    /// Longest wait after any.
    pub backoff_cap: Duration,
}

/// What goes into a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// The item's name.
    pub id: JobId,
    /// Whose work it is.
    pub tenant: TenantId,
    /// What it is about, if only one item at a time may be.
    pub key: Option<String>,
    /// What the worker is told.
    pub payload: Vec<u8>,
    /// Not before this instant.
    pub run_at: Option<UnixMicros>,
    /// The present.
    pub now: UnixMicros,
}

/// What became of an enqueued item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Enqueued {
    /// It is in the queue.
    New(JobId),
    /// This item with the same key, or of the same name, was already there. With the same key it
    /// took over the payload, and a delayed one the earlier time; see the module's text.
    Existing(JobId),
}

/// An item in the hands of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The item's name.
    pub id: JobId,
    /// Whose work it is.
    pub tenant: TenantId,
    /// What it is about.
    pub key: Option<String>,
    /// What there is to do.
    pub payload: Vec<u8>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How often the process ended while this item was leased.
    pub crashes: u32,
    /// Tells this lease from every other.
    pub token: u64,
}

/// What became of a failed item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It runs again, not before this instant.
    Retry {
        /// The instant.
        run_at: UnixMicros,
    },
    /// It is among the dead.
    Dead,
    /// The lease had been lost; the item is somebody else's, or gone.
    LeaseLost,
}

/// How many items of a queue are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Depths {
    /// Can be leased. Items that have come due since the latest lease are still counted where they
    /// were.
    pub ready: u64,
    /// Wait for an instant.
    pub delayed: u64,
    /// Are with workers.
    pub leased: u64,
    /// Were given up.
    pub dead: u64,
}

impl Depths {
    /// All but the dead.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.ready + self.delayed + self.leased
    }
}

/// Puts `job` into the queue, unless a live item has its key.
///
/// # Errors
///
/// As for every read, [`StorageError::TooLarge`], or a fault of the disk.
pub fn enqueue(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    job: NewJob,
) -> Result<Enqueued, StorageError> {
    let NewJob { id, tenant, key, payload, run_at, now } = job;
    let run_at = run_at.filter(|run_at| *run_at > now);
    let queue = QueueName::of(def);
    if let Some(key) = &key
        && let Some(live) = tx.get(&KEYS, &(tenant.clone(), queue.clone(), key.clone()))?
    {
        let item = Item::load(tx, def, &tenant, live)?;
        replace(tx, def, item, payload, run_at)?;
        return Ok(Enqueued::Existing(live));
    }
    if tx.contains(&JOBS, &(tenant.clone(), queue.clone(), id))? {
        return Ok(Enqueued::Existing(id));
    }
    let mut state = QueueRecord::load(tx, def)?;
    if let Some(key) = &key {
        tx.put(&KEYS, &(tenant.clone(), queue, key.clone()), &id)?;
    }
    let order = state.number();
    let place = run_at.map_or(Place::Ready, |run_at| Place::Delayed { run_at });
    let job = JobRecord::new(key, payload, order, now, place);
    let mut item = Item { id, tenant, job };
    item.count_pending(tx, def, 1)?;
    item.put_in(tx, def, &mut state, place)?;
    state.save(tx, def)?;
    tx.wake(def.name);
    Ok(Enqueued::New(id))
}

/// Gives the live `item` a newer payload.
fn replace(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    mut item: Item,
    payload: Vec<u8>,
    run_at: Option<UnixMicros>,
) -> Result<(), StorageError> {
    let to = match item.job.place {
        // Its worker may have read what has changed since: run it once more afterwards.
        Place::Leased { .. } => {
            item.job.successor = Some(Payload(payload));
            return item.save(tx, def);
        }
        Place::Delayed { run_at: then } => match run_at {
            Some(run_at) => Place::Delayed { run_at: run_at.min(then) },
            None => Place::Ready,
        },
        Place::Ready => Place::Ready,
        Place::Dead { .. } => return Err(item.corrupt("a dead item has a live key")),
    };
    item.job.payload = payload;
    if to == item.job.place {
        return item.save(tx, def);
    }
    let mut state = QueueRecord::load(tx, def)?;
    item.take_out(tx, def, &mut state)?;
    item.job.order = state.number();
    item.put_in(tx, def, &mut state, to)?;
    state.save(tx, def)?;
    tx.wake(def.name);
    Ok(())
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
    let row = (tenant.clone(), QueueName::of(def), key.to_owned());
    let Some(id) = tx.get(&KEYS, &row)? else {
        return Ok(false);
    };
    let item = Item::load(tx, def, tenant, id)?;
    let mut state = QueueRecord::load(tx, def)?;
    item.remove(tx, def, &mut state)?;
    state.save(tx, def)?;
    Ok(true)
}

/// Whether a live item has `key`.
///
/// # Errors
///
/// As for every read.
pub fn is_live(
    tx: &impl Readable,
    def: &QueueDef,
    tenant: &TenantId,
    key: &str,
) -> Result<bool, StorageError> {
    tx.contains(&KEYS, &(tenant.clone(), QueueName::of(def), key.to_owned()))
}

/// How many items are in which state.
///
/// # Errors
///
/// As for every read.
pub fn depths(tx: &impl Readable, def: &QueueDef) -> Result<Depths, StorageError> {
    QueueRecord::load(tx, def).map(|state| state.depths)
}

/// How many live items the queue holds.
///
/// # Errors
///
/// As for every read.
pub fn pending(tx: &impl Readable, def: &QueueDef) -> Result<u64, StorageError> {
    depths(tx, def).map(|depths| depths.live())
}

/// How many live items of `tenant` the queue holds.
///
/// # Errors
///
/// As for every read.
pub fn tenant_pending(
    tx: &impl Readable,
    def: &QueueDef,
    tenant: &TenantId,
) -> Result<u64, StorageError> {
    let key = (tenant.clone(), QueueName::of(def));
    Ok(tx.get(&record::PENDING, &key)?.unwrap_or(0))
}

/// When the next delayed item or lease comes due; that may be in the past.
///
/// # Errors
///
/// As for every read.
pub fn next_due(tx: &impl Readable, def: &QueueDef) -> Result<Option<UnixMicros>, StorageError> {
    let queue = (QueueName::of(def),);
    let delayed = tx.first(&DELAYED, Scan::prefix(&queue))?;
    let lapsing = tx.first(&LEASES, Scan::prefix(&queue))?;
    let due = [delayed, lapsing].into_iter().flatten();
    Ok(due.map(|((_, at, _), _)| at).min())
}
