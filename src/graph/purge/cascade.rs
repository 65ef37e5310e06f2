//! One transaction of a purge.

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{NODES, NodeRecord};
use activekg_storage::tables::purge::DELETIONS;
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan, WriteTx};

use super::places::{chunks_of, deleted_at, is_due, parent_of};
use super::{PurgeRun, PurgeStep, receipt};
use crate::graph::node::Object;
use crate::graph::{Erased, Error, delete, event};

/// How deep chunks may be documents of their own that are due too. Beyond, one goes without them.
const DEPTH_MAX: usize = 64;

/// Removes candidates with their chunks, as far as the batch goes.
pub(super) struct Cascade<'a, 't> {
    tx: &'a mut WriteTx<'t>,
    tenant: &'a TenantId,
    run: &'a PurgeRun,
    parents: Vec<Parent>,
    chunks: Vec<NodeId>,
    erased: Erased,
}

/// A node that went and was no chunk.
struct Parent {
    id: NodeId,
    external_id: Option<String>,
}

/// A chunk to be removed next.
struct NextChunk {
    id: NodeId,
    /// The document has no other.
    is_last: bool,
}

impl<'a, 't> Cascade<'a, 't> {
    pub(super) fn new(tx: &'a mut WriteTx<'t>, tenant: &'a TenantId, run: &'a PurgeRun) -> Self {
        let erased = Erased::default();
        Self { tx, tenant, run, parents: Vec::new(), chunks: Vec::new(), erased }
    }

    /// Removes a batch, and leaves its receipt and its events, which happened `at` this instant.
    pub(super) fn run(mut self, at: UnixMicros) -> Result<PurgeStep, Error> {
        let mut done = false;
        while self.room() > 0 {
            let Some((until, id)) = self.candidate()? else {
                done = true;
                break;
            };
            if self.record(id)?.is_none() {
                // A row that leads nowhere would be found for ever.
                self.tx.remove(&DELETIONS, &(self.tenant.clone(), until, id))?;
            } else if !self.remove_whole(id, at)? {
                break;
            }
        }
        let ids: Vec<NodeId> = self.parents.iter().map(|parent| parent.id).collect();
        if self.removed() > 0 {
            let all: Vec<NodeId> = ids.iter().chain(&self.chunks).copied().collect();
            self.erased.dead_letters = delete::forget_letters(self.tx, self.tenant, &all)?;
            self.account_for(&ids, at)?;
        }
        let Self { parents, chunks, erased, .. } = self;
        let (parents, chunks) = (parents.len() as u64, chunks.len() as u64);
        Ok(PurgeStep { parents, chunks, erased, done })
    }

    /// The node of the tenant that is due first.
    fn candidate(&self) -> Result<Option<(UnixMicros, NodeId)>, Error> {
        let first = self.tx.scan(&DELETIONS, Scan::prefix(&(self.tenant.clone(),)))?.next();
        let first = first.transpose()?.map(|((_, until, id), ())| (until, id));
        Ok(first.filter(|(until, _)| *until < self.run.now))
    }

    /// Removes a node after its chunks; false if the batch is full before that is done.
    fn remove_whole(&mut self, id: NodeId, at: UnixMicros) -> Result<bool, Error> {
        // Chunks that are due are candidates themselves, so their own chunks go first.
        let mut path = vec![id];
        while let Some(id) = path.last().copied() {
            let Some(record) = self.record(id)? else {
                path.pop();
                continue;
            };
            let Some(NextChunk { id: chunk, is_last }) = self.next_chunk(&record, &path)? else {
                if self.room() == 0 {
                    return Ok(false);
                }
                self.remove(id, &record, at)?;
                path.pop();
                continue;
            };
            let needed = if is_last { 2 } else { 1 };
            if self.room() < needed && self.removed() > 0 {
                return Ok(false);
            }
            let Some(record) = self.record(chunk)? else {
                return Err(Error::BadJson("a chunk is listed that is not there".to_owned()));
            };
            if is_due(&record, self.run.now) && path.len() < DEPTH_MAX {
                path.push(chunk);
                continue;
            }
            self.remove(chunk, &record, at)?;
            if is_last && let Some(record) = self.record(id)? {
                self.remove(id, &record, at)?;
                path.pop();
            }
        }
        Ok(true)
    }

    /// The first chunk of a node that is not on the path to it.
    fn next_chunk(&self, record: &NodeRecord, path: &[NodeId]) -> Result<Option<NextChunk>, Error> {
        let mut found = chunks_of(self.tx, self.tenant, record)?
            .filter(|chunk| chunk.as_ref().map_or(true, |chunk| !path.contains(chunk)));
        let Some(id) = found.next().transpose()? else { return Ok(None) };
        let is_last = found.next().transpose()?.is_none();
        Ok(Some(NextChunk { id, is_last }))
    }

    fn remove(&mut self, id: NodeId, record: &NodeRecord, at: UnixMicros) -> Result<(), Error> {
        let erased = delete::erase(self.tx, &(self.tenant.clone(), id), record, at)?;
        self.erased.add(erased);
        if let (Some(name), Some(deleted_at)) = (&record.external_id, deleted_at(record)) {
            self.erased.jobs += (self.run.forget)(self.tx, self.tenant, name, deleted_at)?;
        }
        match parent_of(record) {
            Some(_) => self.chunks.push(id),
            None => self.parents.push(Parent { id, external_id: record.external_id.clone() }),
        }
        Ok(())
    }

    /// Writes the receipt, and an event for each parent that leads to it.
    fn account_for(&mut self, parents: &[NodeId], at: UnixMicros) -> Result<(), Error> {
        let account = receipt::Account {
            run: self.run,
            at,
            parents,
            chunks: &self.chunks,
            erased: &self.erased,
        };
        let receipt = receipt::add(self.tx, self.tenant, &account)?;
        for Parent { id, external_id } in &self.parents {
            let mut payload = Object::new();
            payload.insert("external_id".to_owned(), external_id.clone().into());
            payload.insert("run".to_owned(), self.run.id.as_str().into());
            payload.insert("receipt".to_owned(), receipt.number.into());
            payload.insert("receipt_sha256".to_owned(), receipt.sha256.as_str().into());
            event::purged(self.tx, &(self.tenant.clone(), *id), payload, &self.run.actor, at)?;
        }
        Ok(())
    }

    fn record(&self, id: NodeId) -> Result<Option<NodeRecord>, Error> {
        Ok(self.tx.get(&NODES, &(self.tenant.clone(), id))?)
    }

    fn removed(&self) -> usize {
        self.parents.len() + self.chunks.len()
    }

    /// Nodes that the batch may still take.
    fn room(&self) -> usize {
        self.run.batch_size.saturating_sub(self.removed())
    }
}
