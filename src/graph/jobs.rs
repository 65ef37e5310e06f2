//! What becomes of nodes when an administrator moves their embedding jobs.

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{EmbeddingStatus, NODES, NodeRecord};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, StorageError, WriteTx};
use serde_json::{Value, json};

use super::embedded::Work;
use super::row;

/// The error of nodes whose job was purged.
pub const JOB_PURGED: &str = "job_purged";

/// An embedding job as people read it; null if it cannot be read.
#[must_use]
pub fn job_item(payload: &[u8]) -> Value {
    let Ok(work) = serde_json::from_slice::<Work>(payload) else {
        return Value::Null;
    };
    json!({
        "node_id": work.node().map(|id| id.to_string()),
        "requested_by": work.requested_by(),
    })
}

/// When a job was queued, if its payload says so.
#[must_use]
pub fn job_came_at(payload: &[u8]) -> Option<UnixMicros> {
    serde_json::from_slice::<Work>(payload).ok()?.queued_at()
}

/// Marks the nodes of purged jobs as `failed` with the error [`JOB_PURGED`], so that none waits
/// for a job that will not come. Nothing was found to be wrong with them, but they were given up,
/// and that is the state which a requeue selects unless it is told otherwise; `skipped` would mix
/// them with nodes that have no text.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn jobs_purged(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    keys: &[String],
    now: UnixMicros,
) -> Result<(), StorageError> {
    mark(tx, tenant, keys, |node| {
        node.embedding_status = EmbeddingStatus::Failed;
        node.embedding_error = Some(JOB_PURGED.to_owned());
        node.embedding_updated_at = Some(now);
    })
}

/// Marks the nodes of replayed jobs as `queued`, with their attempts counted anew.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn jobs_replayed(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    keys: &[String],
    now: UnixMicros,
) -> Result<(), StorageError> {
    mark(tx, tenant, keys, |node| {
        node.embedding_status = EmbeddingStatus::Queued;
        node.embedding_error = None;
        node.embedding_attempts = 0;
        node.embedding_updated_at = Some(now);
    })
}

/// Changes the nodes that these keys of jobs name. Nodes that are gone or deleted stay as they
/// are: their jobs are dropped when they are taken.
fn mark(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    keys: &[String],
    change: impl Fn(&mut NodeRecord),
) -> Result<(), StorageError> {
    for key in keys {
        let Ok(id) = key.parse::<NodeId>() else { continue };
        let key = (tenant.clone(), id);
        let Some(before) = tx.get(&NODES, &key)?.filter(|node| !node.deleted) else { continue };
        let mut after = before.clone();
        change(&mut after);
        row::write(tx, &key, Some(&before), &after)?;
    }
    Ok(())
}
