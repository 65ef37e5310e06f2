//! Sending nodes through the embedder again.

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{EmbeddingStatus, NODES, NodeRecord};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, WriteTx, queue};

use super::embedded::{self, QUEUE, Work};
use super::{Error, Graph, View, read, row};

/// The most nodes one call selects.
pub const REQUEUE_MAX: usize = 2000;

/// Which nodes to embed again.
#[derive(Debug, Clone)]
pub struct Requeue {
    /// Exactly these; then status and limit do not count.
    pub ids: Option<Vec<NodeId>>,
    /// Those in this state; `None` = any.
    pub status: Option<EmbeddingStatus>,
    /// Only those without a vector.
    pub only_missing: bool,
    /// First call `ready` what has a vector and says otherwise.
    pub backfill_ready: bool,
    /// At most so many, at most [`REQUEUE_MAX`].
    pub limit: usize,
}

/// What a requeue did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Requeued {
    /// Nodes called `ready` because they have a vector.
    pub backfilled: usize,
    /// Nodes selected.
    pub requested: usize,
    /// Jobs queued.
    pub enqueued: usize,
}

impl Graph {
    /// Queues the selected nodes of the caller's own tenant again, the last changed first, with
    /// their attempts counted anew and their dead letters removed.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn requeue(&self, view: &View, selection: Requeue) -> Result<Requeued, Error> {
        let now = self.clock.now();
        let tenant = view.tenant().clone();
        let committed = self
            .store
            .write(move |tx| -> Result<Requeued, Error> {
                let backfilled = if selection.backfill_ready { backfill(tx, &tenant)? } else { 0 };
                let selected = select(tx, &tenant, &selection)?;
                let keys = selected.iter().map(|(id, _)| id.to_string()).collect();
                queue::clear_dead_of(tx, &QUEUE, &tenant, &keys)?;
                for (id, before) in &selected {
                    queue_again(tx, &(tenant.clone(), *id), before, now)?;
                }
                let n = selected.len();
                Ok(Requeued { backfilled, requested: n, enqueued: n })
            })
            .await?;
        Ok(committed.value)
    }
}

/// Calls `ready` what has a vector, waits for nothing and says otherwise.
fn backfill(tx: &mut WriteTx<'_>, tenant: &TenantId) -> Result<usize, Error> {
    let mut stale = Vec::new();
    for row in read::rows(tx, std::slice::from_ref(tenant))? {
        let (_, id, record) = row?;
        let wrong = record.embedding_status != EmbeddingStatus::Ready;
        if wrong && record.last_refreshed.is_some() && !record.deleted {
            stale.push((id, record));
        }
    }
    let mut n = 0;
    for (id, before) in stale {
        if queue::is_live(tx, &QUEUE, tenant, &id.to_string())? {
            continue;
        }
        let mut after = before.clone();
        after.embedding_status = EmbeddingStatus::Ready;
        after.embedding_error = None;
        row::write(tx, &(tenant.clone(), id), Some(&before), &after)?;
        n += 1;
    }
    Ok(n)
}

/// The nodes that the selection means.
fn select(
    tx: &WriteTx<'_>,
    tenant: &TenantId,
    selection: &Requeue,
) -> Result<Vec<(NodeId, NodeRecord)>, Error> {
    let mut selected = Vec::new();
    if let Some(ids) = &selection.ids {
        let mut ids = ids.clone();
        ids.sort();
        ids.dedup();
        for id in ids {
            let record = tx.get(&NODES, &(tenant.clone(), id))?.filter(|node| !node.deleted);
            selected.extend(record.map(|record| (id, record)));
        }
        if selection.only_missing {
            selected.retain(|(_, record)| record.last_refreshed.is_none());
        }
        return Ok(selected);
    }
    for row in read::rows(tx, std::slice::from_ref(tenant))? {
        let (_, id, record) = row?;
        let meant = !record.deleted
            && selection.status.is_none_or(|status| status == record.embedding_status)
            && !(selection.only_missing && record.last_refreshed.is_some());
        if meant {
            selected.push((id, record));
        }
    }
    selected.sort_by_key(|(id, record)| (std::cmp::Reverse(record.embedding_updated_at), *id));
    selected.truncate(selection.limit.clamp(1, REQUEUE_MAX));
    Ok(selected)
}

/// Queues the embedding of a node, with its attempts counted anew.
pub(super) fn queue_again(
    tx: &mut WriteTx<'_>,
    key: &(TenantId, NodeId),
    before: &NodeRecord,
    now: UnixMicros,
) -> Result<(), Error> {
    let mut after = before.clone();
    after.embedding_status = EmbeddingStatus::Queued;
    after.embedding_error = None;
    after.embedding_attempts = 0;
    after.embedding_updated_at = Some(now);
    row::write(tx, key, Some(before), &after)?;
    embedded::enqueue(tx, &key.0, key.1, Work::queued(), now)?;
    Ok(())
}
