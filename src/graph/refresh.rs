//! Embedding again what is there already: because somebody asks for it, or because it is due.

use activekg_storage::ids::{JobId, NodeId, TenantId};
use activekg_storage::tables::graph::{EmbeddingStatus, NODES, NodeRecord};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Seq, WriteTx, queue};

use super::embedded::{self, QUEUE, Work};
use super::slots::Key;
use super::{Error, Graph, View, due, row};

/// The nodes of one look at what is due.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DueNodes {
    /// Nodes that were due.
    pub found: usize,
    /// The jobs that embed them. A node that waits for its embedding anyhow gets none.
    pub jobs: Vec<JobId>,
}

impl Graph {
    /// Queues a refresh of a node of the caller's own tenant, and marks it as queued.
    ///
    /// # Errors
    ///
    /// [`Error::NodeNotFound`] for a node that is not there, is another tenant's, is shared or
    /// soft-deleted; the queue limits; the store's own.
    pub async fn refresh(
        &self,
        view: &View,
        id: NodeId,
        work: Work,
    ) -> Result<(JobId, Seq), Error> {
        let (jobs, seq) = self.refresh_many(view, vec![(id, work)]).await?;
        let job = jobs.into_iter().next().ok_or(Error::NodeNotFound)?;
        Ok((job, seq))
    }

    /// Queues refreshes of nodes of the caller's own tenant, and marks them as queued; their jobs.
    /// Nodes that are not there, are another tenant's, are shared or soft-deleted are left out.
    ///
    /// # Errors
    ///
    /// The queue limits, counted for all nodes together; the store's own.
    pub async fn refresh_many(
        &self,
        view: &View,
        nodes: Vec<(NodeId, Work)>,
    ) -> Result<(Vec<JobId>, Seq), Error> {
        let now = self.clock.now();
        self.space.check(now)?;
        let tenant = view.tenant().clone();
        let settings = self.settings.clone();
        let committed = self
            .store
            .write(move |tx| -> Result<Vec<JobId>, Error> {
                let mut found = Vec::with_capacity(nodes.len());
                for (id, work) in &nodes {
                    let key = (tenant.clone(), *id);
                    let record = tx.get(&NODES, &key)?.filter(|node| !node.deleted);
                    found.extend(record.map(|record| (key, record, work)));
                }
                embedded::admit(tx, &settings, found.iter().map(|_| &tenant))?;
                let queued = found
                    .into_iter()
                    .map(|(key, before, work)| queue_refresh(tx, &key, &before, work.clone(), now));
                queued.collect()
            })
            .await?;
        Ok((committed.value, committed.seq))
    }

    /// Queues refreshes of up to `n` nodes that are due, of one tenant or of all, the longest
    /// overdue first. The limits of the queue do not apply: whoever asks sees to it that it drains.
    ///
    /// # Errors
    ///
    /// [`Error::NoSpace`], the store's own.
    pub async fn refresh_due(
        &self,
        tenant: Option<TenantId>,
        n: usize,
    ) -> Result<(DueNodes, Seq), Error> {
        let now = self.clock.now();
        self.space.check(now)?;
        let committed = self
            .store
            .write(move |tx| -> Result<DueNodes, Error> {
                let keys = due::due(tx, now, tenant.as_ref(), n)?;
                let mut nodes = DueNodes { found: keys.len(), jobs: Vec::new() };
                for key in keys {
                    let record = tx.get(&NODES, &key)?.filter(|node| !node.deleted);
                    let Some(before) = record else {
                        due::clear(tx, &key)?; // rows of other versions may be left behind
                        continue;
                    };
                    due::taken(tx, &key, &before, now)?;
                    if !queue::is_live(tx, &QUEUE, &key.0, &key.1.to_string())? {
                        nodes.jobs.push(queue_refresh(tx, &key, &before, Work::scheduled(), now)?);
                    }
                }
                Ok(nodes)
            })
            .await?;
        Ok((committed.value, committed.seq))
    }
}

fn queue_refresh(
    tx: &mut WriteTx<'_>,
    key: &Key,
    before: &NodeRecord,
    work: Work,
    now: UnixMicros,
) -> Result<JobId, Error> {
    let mut after = before.clone();
    after.embedding_status = EmbeddingStatus::Queued;
    after.embedding_error = None;
    after.embedding_updated_at = Some(now);
    row::write(tx, key, Some(before), &after)?;
    embedded::enqueue(tx, &key.0, key.1, work, now)
}
