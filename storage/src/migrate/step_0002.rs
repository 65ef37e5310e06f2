//! Format 2: queues lease without writing items.
//!
//! Before, an item lay in one table whatever its state, and an index for each state led to it. All
//! of that follows from the items' rows, so only they and the queues' counters are read.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Old, Step};
use crate::codec::{self, Record, bytes};
use crate::error::StorageError;
use crate::ids::{JobId, TenantId};
use crate::keys::{self, Key};
use crate::queue::record::{
    DUE, DeadRecord, DiedAt, FRONT, ITEMS, ItemRecord, KeyRecord, LATER, LEASED, LETTERS,
    LETTERS_OF, LIVE, LeaseRecord, LeasedItem, Owner, QueueName, QueueRecord, STATE, Successor,
    TENANTS, TURNS, TenantRecord, Waits,
};
use crate::queue::{CRASH_LOOP, DeadReason, State};
use crate::time::UnixMicros;
use crate::write::WriteTx;

pub(super) const STEP: Step = Step {
    format: 2,
    name: "queues lease without writing items",
    declaration: "queue.jobs 1, queue.queues 1 -> queue.items 1, queue.later 1, queue.held 1, \
        queue.live 1, queue.front 1, queue.letters_of 1, queue.state 1, queue.tenants 1, \
        queue.turns 1, queue.suspects 1, queue.due 1, queue.leased 1, queue.letters 1; \
        without queue.jobs, queue.keys, queue.pending, queue.queues, queue.ready, queue.delayed, \
        queue.leases, queue.dead",
    run,
};

/// (tenant, queue, job) -> job.
const JOBS: &str = "queue.jobs";

/// (queue) -> counters.
const QUEUES: &str = "queue.queues";

/// Every table of queues before.
const TABLES: [&str; 8] = [
    JOBS,
    "queue.keys",
    "queue.pending",
    QUEUES,
    "queue.ready",
    "queue.delayed",
    "queue.leases",
    "queue.dead",
];

/// Rows after which what was written is not remembered any longer: nothing of it is undone alone.
const KEEP_EVERY: usize = 10_000;

/// An item, as format 1 had it.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct OldJob {
    key: Option<String>,
    #[serde(with = "bytes")]
    payload: Vec<u8>,
    successor: Option<OldPayload>,
    order: u64,
    /// The one under way included.
    attempts: u32,
    crashes: u32,
    enqueued_at: UnixMicros,
    error: Option<String>,
    place: OldPlace,
}

impl Record for OldJob {
    const FORMAT: u8 = 1;
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct OldPayload(#[serde(with = "bytes")] Vec<u8>);

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
enum OldPlace {
    Ready,
    Delayed { run_at: UnixMicros },
    Leased { until: UnixMicros, token: u64 },
    Dead { at: UnixMicros },
}

/// A queue, as format 1 had it.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct OldQueue {
    number: u64,
    turn: Option<TenantId>,
    depths: OldDepths,
}

impl Record for OldQueue {
    const FORMAT: u8 = 1;
}

/// Not read: the items are counted.
#[derive(Debug, Clone, Copy, Default, Serialize, Deserialize)]
struct OldDepths {
    ready: u64,
    delayed: u64,
    leased: u64,
    dead: u64,
}

/// The counters of the new tables, while they grow.
#[derive(Default)]
struct Counts {
    queues: BTreeMap<QueueName, QueueRecord>,
    tenants: BTreeMap<(QueueName, TenantId), TenantRecord>,
}

fn run(old: &Old<'_>, tx: &mut WriteTx<'_>) -> Result<(), StorageError> {
    let mut counts = Counts::default();
    old.each(QUEUES, |key, value| {
        let ((queue,), OldQueue { number, turn, depths: _ }) = row(QUEUES, key, value)?;
        counts.queues.insert(queue, QueueRecord { number, turn, ..QueueRecord::default() });
        Ok(())
    })?;
    let mut n = 0;
    old.each(JOBS, |key, value| {
        let ((tenant, queue, id), job) = row(JOBS, key, value)?;
        n += 1;
        if n % KEEP_EVERY == 0 {
            tx.keep();
        }
        carry(tx, &mut counts, tenant, queue, id, job)
    })?;
    for ((queue, tenant), mut record) in counts.tenants {
        // Past everything there is: what is ready was listed as such.
        record.head = counts.queues.get(&queue).map_or(0, |queue| queue.number) + 1;
        let row = (queue, tenant);
        tx.put(&TENANTS, &row, &record)?;
        if record.depths.ready > 0 {
            tx.put(&TURNS, &row, &())?;
        }
    }
    for (queue, record) in counts.queues {
        tx.put(&STATE, &(queue,), &record)?;
    }
    TABLES.into_iter().try_for_each(|table| old.remove(table))
}

fn row<K: Key, V: Record>(
    table: &'static str,
    key: &[u8],
    value: &[u8],
) -> Result<(K, V), StorageError> {
    let decoded = codec::decode(key, value).map_err(|error| StorageError::corrupt(table, error))?;
    let key = keys::from_bytes(key).map_err(|error| StorageError::corrupt(table, error))?;
    Ok((key, decoded))
}

/// Writes one item to where it belongs now.
fn carry(
    tx: &mut WriteTx<'_>,
    counts: &mut Counts,
    tenant: TenantId,
    queue: QueueName,
    id: JobId,
    job: OldJob,
) -> Result<(), StorageError> {
    let OldJob { key, payload, successor, order, attempts, crashes, enqueued_at, error, place } =
        job;
    let state = counts.queues.entry(queue.clone()).or_default();
    state.number = state.number.max(order);
    let successor = successor.map(|OldPayload(payload)| {
        state.number += 1;
        Successor { payload, rank: None, order: state.number, enqueued_at }
    });
    let (now_in, waits, over) = match place {
        OldPlace::Ready => (State::Ready, Waits::Nothing, attempts),
        OldPlace::Delayed { run_at } => (State::Delayed, Waits::Until(run_at), attempts),
        OldPlace::Leased { .. } => (State::Leased, Waits::Nothing, attempts.saturating_sub(1)),
        OldPlace::Dead { .. } => (State::Dead, Waits::Nothing, attempts),
    };
    *state.depths.of(now_in) += 1;
    let page = counts.tenants.entry((queue.clone(), tenant.clone())).or_default();
    *page.depths.of(now_in) += 1;
    if let Some(key) = &key
        && now_in != State::Dead
    {
        let row = (tenant.clone(), queue.clone(), key.clone());
        tx.put(&LIVE, &row, &KeyRecord { order, successor })?;
    }
    let item = ItemRecord {
        id,
        key,
        payload,
        rank: None,
        attempts: over,
        crashes,
        enqueued_at,
        first_failed_at: None,
        error,
        waits,
    };
    let at = (tenant.clone(), queue.clone(), order);
    match place {
        OldPlace::Ready => {
            tx.put(&FRONT, &at, &())?;
            tx.put(&ITEMS, &at, &item)
        }
        OldPlace::Delayed { run_at } => {
            tx.put(&DUE, &(queue, run_at, order), &Owner { tenant })?;
            tx.put(&LATER, &at, &item)
        }
        OldPlace::Leased { until, token } => {
            let items = vec![LeasedItem { order, tenant }];
            tx.put(&LEASED, &(queue, until, token), &LeaseRecord { items })?;
            tx.put(&ITEMS, &at, &item)
        }
        OldPlace::Dead { at: died_at } => {
            let key = item.key.clone().unwrap_or_default();
            let row = (tenant.clone(), queue.clone(), key, order);
            tx.put(&LETTERS_OF, &row, &DiedAt(died_at))?;
            let reason = reason(item.error.as_deref());
            tx.put(&LETTERS, &(queue, died_at, order), &DeadRecord { tenant, reason, item })
        }
    }
}

/// Why an item died, as far as its error tells.
fn reason(error: Option<&str>) -> DeadReason {
    match error {
        Some(CRASH_LOOP) => DeadReason::CrashLoop,
        Some("the lease lapsed") => DeadReason::Exhausted,
        _ => DeadReason::Unknown,
    }
}

#[cfg(test)]
mod tests;
