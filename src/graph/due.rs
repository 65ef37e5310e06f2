//! When nodes are to be refreshed, kept so that the scheduler finds those that are due without
//! looking at any other.

use std::time::Duration;

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{DUE, DUE_OF, DueRecord, NodeRecord};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan, StorageError, WriteTx};

use serde_json::Value;

use super::slots::Key;
use super::{Error, Graph, node};
use crate::refresh::schedule::{Schedule, parse_interval};

/// Wait after the first refresh that failed; doubles with each further one in a row.
const BACKOFF: Duration = Duration::from_secs(60);
/// Longest wait after a refresh that failed.
const BACKOFF_MAX: Duration = Duration::from_secs(24 * 3600);

/// Moves a node's place in the order from what `before` says of it to what `after` does.
pub(super) fn moved(
    tx: &mut WriteTx<'_>,
    key: &Key,
    before: Option<&NodeRecord>,
    after: Option<&NodeRecord>,
) -> Result<(), StorageError> {
    let said = |record: &NodeRecord| {
        has_policy(record).then(|| (record.refresh_policy.clone(), record.last_refreshed))
    };
    let (was, is) = (before.and_then(said), after.and_then(said));
    if was == is {
        return Ok(());
    }
    match after.and_then(due_at) {
        Some(at) => place(tx, key, DueRecord { at, failures: 0 }),
        None => clear(tx, key),
    }
}

/// Puts a node that is being refreshed back to where its schedule has it next, counted from `now`:
/// where it stays if the refresh finds nothing to embed.
pub(super) fn taken(
    tx: &mut WriteTx<'_>,
    key: &Key,
    record: &NodeRecord,
    now: UnixMicros,
) -> Result<(), StorageError> {
    let failures = tx.get(&DUE_OF, key)?.map_or(0, |due| due.failures);
    match next(record, now) {
        Some(at) => place(tx, key, DueRecord { at, failures }),
        None => clear(tx, key),
    }
}

/// A refresh failed for good: the node is due again, the later the more often that happened in a
/// row.
pub(super) fn failed(tx: &mut WriteTx<'_>, key: &Key, now: UnixMicros) -> Result<(), StorageError> {
    let Some(due) = tx.get(&DUE_OF, key)? else { return Ok(()) };
    let failures = due.failures.saturating_add(1);
    let wait = BACKOFF.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(BACKOFF_MAX);
    place(tx, key, DueRecord { at: now.plus(wait), failures })
}

fn place(tx: &mut WriteTx<'_>, key: &Key, due: DueRecord) -> Result<(), StorageError> {
    let (tenant, node) = key.clone();
    if let Some(old) = tx.get(&DUE_OF, key)? {
        if old == due {
            return Ok(());
        }
        tx.remove(&DUE, &(old.at, tenant.clone(), node))?;
    }
    tx.put(&DUE, &(due.at, tenant, node), &())?;
    tx.put(&DUE_OF, key, &due)
}

/// Gives a node its place if it should have one and has none; whether that was so.
pub(super) fn add_missing(
    tx: &mut WriteTx<'_>,
    key: &Key,
    record: &NodeRecord,
) -> Result<bool, StorageError> {
    match due_at(record) {
        Some(at) if !tx.contains(&DUE_OF, key)? => {
            place(tx, key, DueRecord { at, failures: 0 })?;
            Ok(true)
        }
        _ => Ok(false),
    }
}

/// Takes a node out of the order.
pub(super) fn clear(tx: &mut WriteTx<'_>, key: &Key) -> Result<(), StorageError> {
    if let Some(old) = tx.get(&DUE_OF, key)? {
        tx.remove(&DUE, &(old.at, key.0.clone(), key.1))?;
        tx.remove(&DUE_OF, key)?;
    }
    Ok(())
}

/// Whether a policy can make the node due at all: most nodes have none.
fn has_policy(record: &NodeRecord) -> bool {
    !record.deleted && record.refresh_policy.as_str() != "{}"
}

/// When a node is to be refreshed: at once if it never was.
fn due_at(record: &NodeRecord) -> Option<UnixMicros> {
    let schedule = schedule(record)?;
    match record.last_refreshed {
        None => Some(record.created_at),
        Some(last) => after(&schedule, last),
    }
}

/// When a node is to be refreshed next if it is now.
fn next(record: &NodeRecord, now: UnixMicros) -> Option<UnixMicros> {
    after(&schedule(record)?, now)
}

fn after(schedule: &Schedule, last: UnixMicros) -> Option<UnixMicros> {
    const SECOND: i64 = 1_000_000;
    let seconds = schedule.next_after(last.get().div_euclid(SECOND))?;
    seconds.checked_mul(SECOND).map(UnixMicros)
}

/// The schedule of a node. A policy that does not parse was refused when it was written; one that
/// got past that makes nothing due.
pub(super) fn schedule(record: &NodeRecord) -> Option<Schedule> {
    if !has_policy(record) {
        return None;
    }
    let policy = node::object(&record.refresh_policy).ok()?;
    Schedule::of_policy(&policy).ok().flatten()
}

/// The time between two refreshes by the interval of a policy, else between the next two instants
/// of its cron expression.
pub(super) fn period(record: &NodeRecord, now: UnixMicros) -> Option<Duration> {
    let policy = node::object(&record.refresh_policy).ok()?;
    let interval = policy.get("interval").and_then(Value::as_str).and_then(parse_interval);
    interval.or_else(|| {
        let schedule = schedule(record)?;
        let next = after(&schedule, now)?;
        Some(after(&schedule, next)?.since(next))
    })
}

/// Nodes that are due at `now`, the longest overdue first.
pub(super) fn due(
    tx: &impl Readable,
    now: UnixMicros,
    tenant: Option<&TenantId>,
    n: usize,
) -> Result<Vec<(TenantId, NodeId)>, StorageError> {
    let mut found = Vec::new();
    for row in tx.scan(&DUE, Scan::all())? {
        let ((at, owner, node), ()) = row?;
        if at > now || found.len() == n {
            break;
        }
        if tenant.is_none_or(|tenant| *tenant == owner) {
            found.push((owner, node));
        }
    }
    Ok(found)
}

impl Graph {
    /// When the next node of any tenant is due; nothing if none ever is.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn next_due(&self) -> Result<Option<UnixMicros>, Error> {
        self.reading(|tx| {
            let first = tx.scan(&DUE, Scan::all())?.next().transpose()?;
            Ok(first.map(|((at, ..), ())| at))
        })
        .await
    }
}
