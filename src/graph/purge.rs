//! Purging: removing for good what was deleted and whose grace is over.
//!
//! A candidate is a deleted node whose end of grace has passed; its direct chunks, the nodes of its
//! tenant whose `parent_id` is its external id, go with it whether they are deleted or not. What goes
//! in one transaction leaves one receipt, and the next transaction finds what is left by itself: so
//! a purge can be cut off anywhere and be begun again.

mod cascade;
mod places;
mod receipt;
mod retention;
#[cfg(test)]
mod tests;

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{EDGES, EDGES_IN, NODES, NodeRecord, VERSIONS, tenants};
use activekg_storage::tables::purge::{DELETIONS, NEVER, RUNS, RunRecord};
use activekg_storage::time::UnixMicros;
use activekg_storage::{ReadTx, Readable, Scan, StorageError, WriteTx};

use super::{Erased, Error, Graph, read};
use cascade::Cascade;
pub(super) use places::moved;
use places::{chunks_of, is_due};
pub(super) use places::{deleted_at, parent_of};
pub use receipt::{GENESIS, RECEIPTS_MAX, Receipt, digest};

/// One purge, as its receipts and events name it.
#[derive(Debug, Clone)]
pub struct PurgeRun {
    /// Tells its receipts from those of others.
    pub id: String,
    /// Who asked for it.
    pub actor: String,
    /// What is due before this instant goes.
    pub now: UnixMicros,
    /// Most nodes of one transaction, at least 1. A document's last chunk and the document go
    /// together even if that makes one more.
    pub batch_size: usize,
    /// Forgets what else waits for a document of an external id and is older than its deletion; how
    /// much that was.
    pub forget: Forget,
}

/// See [`PurgeRun::forget`].
pub type Forget = fn(&mut WriteTx<'_>, &TenantId, &str, UnixMicros) -> Result<u64, StorageError>;

/// What one transaction of a purge removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PurgeStep {
    /// Nodes that are no chunks.
    pub parents: u64,
    /// Chunks.
    pub chunks: u64,
    /// What went with them.
    pub erased: Erased,
    /// Nothing of the tenant is left to be purged.
    pub done: bool,
}

/// What a purge would remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PurgeCount {
    /// Nodes that are no chunks.
    pub parents: u64,
    /// Chunks.
    pub chunks: u64,
    /// Edges that begin or end at one of them.
    pub edges: u64,
    /// Their former versions.
    pub versions: u64,
    /// Deleted nodes whose end of grace cannot be told, which are never purged.
    pub without_grace: u64,
}

impl Graph {
    /// Removes the next nodes of a tenant that are due, at most a batch. Readers and searches go on
    /// meanwhile; a full disk does not stop it.
    ///
    /// # Errors
    ///
    /// The store's own; then nothing of this batch is removed.
    pub async fn purge_step(&self, tenant: &TenantId, run: &PurgeRun) -> Result<PurgeStep, Error> {
        let (tenant, run) = (tenant.clone(), run.clone());
        let at = self.clock.now();
        let committed =
            self.store.make_room(move |tx| Cascade::new(tx, &tenant, &run).run(at)).await?;
        Ok(committed.value)
    }

    /// What a purge of a tenant would remove at `now`. With a `retention` it tells what it would
    /// remove once that is applied to what is deleted already.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn purge_count(
        &self,
        tenant: &TenantId,
        now: UnixMicros,
        retention: Option<std::time::Duration>,
    ) -> Result<PurgeCount, Error> {
        let tenant = tenant.clone();
        self.reading(move |tx| {
            let due = |record: &NodeRecord| match retention {
                Some(retention) => retention::until(record, retention) < now,
                None => is_due(record, now),
            };
            Counting { tx, tenant: &tenant, due: &due }.count(now, retention.is_some())
        })
        .await
    }

    /// Deleted nodes of a tenant whose end of grace cannot be told.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn without_grace(&self, tenant: &TenantId) -> Result<u64, Error> {
        let tenant = tenant.clone();
        self.reading(move |tx| without_grace(tx, &tenant)).await
    }

    /// All tenants that ever wrote, in order of their names.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn tenants(&self) -> Result<Vec<TenantId>, Error> {
        self.reading(|tx| Ok(tenants(tx)?)).await
    }

    /// When a scheduled job ran last; nothing if it never did on this store.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn last_run(&self, job: &'static str) -> Result<Option<UnixMicros>, Error> {
        self.reading(move |tx| Ok(tx.get(&RUNS, &(job.to_owned(),))?.map(|run| run.at))).await
    }

    /// Notes that a scheduled job ran.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn note_run(&self, job: &'static str, at: UnixMicros) -> Result<(), Error> {
        let noted = self.store.make_room(move |tx| -> Result<(), StorageError> {
            tx.put(&RUNS, &(job.to_owned(),), &RunRecord { at })
        });
        noted.await?;
        Ok(())
    }
}

fn without_grace(tx: &ReadTx, tenant: &TenantId) -> Result<u64, Error> {
    let mut n = 0;
    for row in tx.scan(&DELETIONS, Scan::prefix(&(tenant.clone(), NEVER)))? {
        row?;
        n += 1;
    }
    Ok(n)
}

/// Counts what a purge would remove, each thing once.
struct Counting<'a> {
    tx: &'a ReadTx,
    tenant: &'a TenantId,
    due: &'a dyn Fn(&NodeRecord) -> bool,
}

impl Counting<'_> {
    /// Looks at the deleted nodes whose grace is over at `now`, or at `all` of them.
    fn count(&self, now: UnixMicros, all: bool) -> Result<PurgeCount, Error> {
        let mut count = PurgeCount {
            without_grace: without_grace(self.tx, self.tenant)?,
            ..Default::default()
        };
        for row in self.tx.scan(&DELETIONS, Scan::prefix(&(self.tenant.clone(),)))? {
            let ((_, until, id), ()) = row?;
            if !all && until >= now {
                break;
            }
            let Some(record) = self.record(id)?.filter(|record| (self.due)(record)) else {
                continue;
            };
            self.add(&mut count, id, &record)?;
            for chunk in chunks_of(self.tx, self.tenant, &record)? {
                let chunk = chunk?;
                // One that is due itself is counted as such.
                let record = self.record(chunk)?.filter(|record| !(self.due)(record));
                if let Some(record) = record {
                    self.add(&mut count, chunk, &record)?;
                }
            }
        }
        Ok(count)
    }

    fn record(&self, id: NodeId) -> Result<Option<NodeRecord>, StorageError> {
        self.tx.get(&NODES, &(self.tenant.clone(), id))
    }

    fn add(&self, count: &mut PurgeCount, id: NodeId, record: &NodeRecord) -> Result<(), Error> {
        match parent_of(record) {
            Some(_) => count.chunks += 1,
            None => count.parents += 1,
        }
        let of_node = Scan::prefix(&(self.tenant.clone(), id));
        for row in self.tx.scan(&EDGES, of_node.clone())? {
            row?;
            count.edges += 1;
        }
        for row in self.tx.scan(&EDGES_IN, of_node)? {
            let ((_, _, _, src), ()) = row?;
            // Counted at the other end if that goes too.
            count.edges += u64::from(!self.goes(src)?);
        }
        for row in self.tx.scan(&VERSIONS, Scan::prefix(&(self.tenant.clone(), id)))? {
            row?;
            count.versions += 1;
        }
        Ok(())
    }

    /// Whether a node is due, or a chunk of one that is.
    fn goes(&self, id: NodeId) -> Result<bool, Error> {
        let Some(record) = self.record(id)? else { return Ok(false) };
        if (self.due)(&record) {
            return Ok(true);
        }
        let Some(parent) = parent_of(&record) else { return Ok(false) };
        let parent = read::named(self.tx, self.tenant, &parent)?;
        Ok(parent.is_some_and(|(_, parent)| (self.due)(&parent)))
    }
}
