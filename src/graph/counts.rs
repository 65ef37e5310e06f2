//! Counters of a tenant's nodes, kept in the transaction that changes them.

use activekg_storage::ids::TenantId;
use activekg_storage::tables::graph::{EmbeddingStatus, NodeRecord, add_count, count, tenants};
use activekg_storage::{Readable, StorageError, WriteTx};

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
