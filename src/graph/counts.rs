//! Counters of a tenant's nodes, kept in the transaction that changes them.

use std::collections::BTreeMap;

use activekg_storage::ids::TenantId;
use activekg_storage::tables::graph::{
    COUNTS, EmbeddingStatus, NODES, NodeRecord, add_count, count, tenants,
};
use activekg_storage::{Readable, Scan, StorageError, WriteTx};
use serde::Serialize;

/// Counter of nodes that are not soft-deleted.
pub(super) const LISTED: &str = "nodes";
/// Counter of those of them that have a vector.
pub(super) const EMBEDDED: &str = "nodes.embedded";

/// Every status with its name in the API and its counter, in the order it is reported.
pub(super) const STATUSES: [(EmbeddingStatus, &str, &str); 5] = [
    (EmbeddingStatus::Queued, "queued", "status.queued"),
    (EmbeddingStatus::Processing, "processing", "status.processing"),
    (EmbeddingStatus::Ready, "ready", "status.ready"),
    (EmbeddingStatus::Failed, "failed", "status.failed"),
    (EmbeddingStatus::Skipped, "skipped", "status.skipped"),
];

/// The counter of a status.
fn counter(status: EmbeddingStatus) -> &'static str {
    match status {
        EmbeddingStatus::Queued => "status.queued",
        EmbeddingStatus::Processing => "status.processing",
        EmbeddingStatus::Ready => "status.ready",
        EmbeddingStatus::Failed => "status.failed",
        EmbeddingStatus::Skipped => "status.skipped",
    }
}

/// Moves the tenant's counters from how `before` is counted to how `after` is.
pub(super) fn moved(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    before: Option<&NodeRecord>,
    after: Option<&NodeRecord>,
) -> Result<(), StorageError> {
    let (before, after) = (before.map(counted), after.map(counted));
    if before == after {
        return Ok(());
    }
    for (side, delta) in [(before, -1), (after, 1)] {
        for name in side.into_iter().flatten().flatten() {
            add_count(tx, tenant, name, delta)?;
        }
    }
    Ok(())
}

/// How many nodes of all tenants are not soft-deleted.
pub(crate) fn listed(tx: &impl Readable) -> Result<u64, StorageError> {
    tenants(tx)?.iter().map(|tenant| count(tx, tenant, LISTED)).sum()
}

/// A counter that does not say what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WrongCounter {
    /// Whose it is.
    pub tenant: TenantId,
    /// Its name.
    pub name: String,
    /// What it says.
    pub says: u64,
    /// How many there are.
    pub counted: u64,
}

/// The counters of nodes that do not say what is there. Reads every node.
///
/// # Errors
///
/// Those of reading the store.
pub fn wrong_counters(tx: &impl Readable) -> Result<Vec<WrongCounter>, StorageError> {
    let mut counters: BTreeMap<(TenantId, String), u64> = BTreeMap::new();
    for row in tx.scan(&NODES, Scan::all())? {
        let ((tenant, _), node) = row?;
        for name in counted(&node).into_iter().flatten() {
            *counters.entry((tenant.clone(), name.to_owned())).or_default() += 1;
        }
    }
    let mut wrong = Vec::new();
    for row in tx.scan(&COUNTS, Scan::all())? {
        let (key, says) = row?;
        let known = [LISTED, EMBEDDED].into_iter().chain(STATUSES.map(|(_, _, name)| name));
        if !known.into_iter().any(|name| name == key.1) {
            continue;
        }
        let counted = counters.remove(&key).unwrap_or(0);
        if counted != says {
            let (tenant, name) = key;
            wrong.push(WrongCounter { tenant, name, says, counted });
        }
    }
    let missing = counters.into_iter();
    wrong.extend(missing.map(|((tenant, name), counted)| WrongCounter {
        tenant,
        name,
        says: 0,
        counted,
    }));
    Ok(wrong)
}

/// Counts again. How many counters were wrong.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn recount(tx: &mut WriteTx<'_>) -> Result<usize, StorageError> {
    let wrong = wrong_counters(tx)?;
    for WrongCounter { tenant, name, says: _, counted } in &wrong {
        tx.put(&COUNTS, &(tenant.clone(), name.clone()), counted)?;
    }
    Ok(wrong.len())
}

/// The counters that a node adds one to.
fn counted(node: &NodeRecord) -> [Option<&'static str>; 3] {
    if node.deleted {
        return [None; 3];
    }
    [
        Some(LISTED),
        node.last_refreshed.is_some().then_some(EMBEDDED),
        Some(counter(node.embedding_status)),
    ]
}
