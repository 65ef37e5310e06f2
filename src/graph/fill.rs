//! The vectors that the slot beside the serving one lacks, while the model is being changed.
//!
//! A walk over all nodes finds them, once; from then on embedding jobs mark the nodes whose text
//! has changed. Every vector is written with the walk's place, in one transaction.

use std::time::Duration;

use activekg_storage::changes::{Change, ChangeKind};
use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{
    BEHIND, BehindRecord, NODES, NodeRecord, Slot, VectorRecord,
};
use activekg_storage::tables::models::Phase;
use activekg_storage::time::UnixMicros;
use activekg_storage::{ReadTx, Readable, Scan, StorageError, WriteTx};
use sha2::{Digest as _, Sha256};

use super::change::{read, write};
use super::settle::MadeBy;
use super::slots::{self, Key};
use super::{Error, Graph, Node};
use crate::embedding::TextVector;

/// Nodes looked at in one step.
const STEP: usize = 250;
/// Wait after the first failed attempt; it doubles.
const BACKOFF: Duration = Duration::from_secs(2);

/// A node whose vector in the other slot is to be made.
#[derive(Debug, Clone)]
pub struct Missing {
    /// Whose it is.
    pub tenant: TenantId,
    /// The node.
    pub node: NodeId,
    /// The text to embed.
    pub text: String,
    text_revision: u64,
    attempts: u32,
}

/// What a look found.
#[derive(Debug, Clone, Default)]
pub struct Todo {
    /// Nodes to embed.
    pub missing: Vec<Missing>,
    /// Nodes that need nothing more.
    settled: Vec<Key>,
    /// Where the walk over all nodes is after them.
    at: Option<Key>,
    checked: u64,
    finished: bool,
    /// When the change that was looked at began.
    started_at: Option<UnixMicros>,
    /// How long until a node is to be tried again.
    pub due_in: Option<Duration>,
}

impl Todo {
    /// Whether there is something to write.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty() && self.settled.is_empty() && self.checked == 0 && !self.finished
    }
}

/// What came of a [`Todo`]: for each missing vector itself, or why it could not be made.
pub type Fill = Vec<(Missing, Result<TextVector, String>)>;

impl Graph {
    /// The next `n` vectors that the other slot lacks; `None` if no change is under way that wants
    /// any.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn missing_vectors(&self, n: usize) -> Result<Option<Todo>, Error> {
        let (graph, now) = (self.clone(), self.clock.now());
        self.reading(move |tx| graph.lacking(tx, n, now)).await
    }

    fn lacking(&self, tx: &ReadTx, n: usize, now: UnixMicros) -> Result<Option<Todo>, Error> {
        let Some(models) = read(tx)? else { return Ok(None) };
        let Some(change) = models.change.filter(|change| change.phase != Phase::Dropping) else {
            return Ok(None);
        };
        let other = models.slot.other();
        let mut todo = Todo { started_at: Some(change.started_at), ..Todo::default() };
        for row in tx.scan(&BEHIND, Scan::all())?.take(STEP) {
            let (key, BehindRecord { attempts, due, error: _ }) = row?;
            if let Some(due) = due.filter(|due| *due > now) {
                let wait = due.since(now);
                todo.due_in = Some(todo.due_in.map_or(wait, |least| least.min(wait)));
                continue;
            }
            // Whatever is there is not what it should be.
            match self.wanted(tx, &key, tx.get(&NODES, &key)?)? {
                Some(missing) => todo.missing.push(Missing { attempts, ..missing }),
                None => todo.settled.push(key),
            }
            if todo.missing.len() == n {
                return Ok(Some(todo));
            }
        }
        if change.filled_at.is_some() {
            return Ok(Some(todo));
        }
        let scan = match &change.at {
            Some(at) => Scan::all().after(at),
            None => Scan::all(),
        };
        let mut nodes = tx.scan(&NODES, scan)?;
        loop {
            let Some(row) = nodes.next() else {
                todo.finished = true;
                break;
            };
            let (key, record) = row?;
            // What has no vector in the serving slot either is for the embedding queue.
            if tx.contains(models.slot.vectors(), &key)? {
                todo.missing.extend(self.lacks(tx, other, &key, record)?);
            }
            todo.checked += 1;
            todo.at = Some(key);
            if todo.missing.len() == n || todo.checked == STEP as u64 {
                break;
            }
        }
        Ok(Some(todo))
    }

    /// What a node lacks in a slot: the vector of its present text.
    fn lacks(
        &self,
        tx: &ReadTx,
        slot: Slot,
        key: &Key,
        record: NodeRecord,
    ) -> Result<Option<Missing>, Error> {
        let Some(wanted) = self.wanted(tx, key, Some(record))? else { return Ok(None) };
        let sha256: [u8; 32] = Sha256::digest(wanted.text.as_bytes()).into();
        let there = tx.get(slot.vectors(), key)?;
        Ok(there.is_none_or(|vector| vector.text_sha256 != sha256).then_some(wanted))
    }

    /// What is to be embedded of a node, if it has a text.
    fn wanted(
        &self,
        tx: &ReadTx,
        key: &Key,
        record: Option<NodeRecord>,
    ) -> Result<Option<Missing>, Error> {
        let Some(record) = record.filter(|record| !record.deleted) else { return Ok(None) };
        let text_revision = record.text_revision;
        let node = Node::from_record(key.0.clone(), key.1, record)?.with_text(tx)?;
        let Ok(text) = self.text_of(&node) else { return Ok(None) };
        let (tenant, node) = key.clone();
        Ok(Some(Missing { tenant, node, text, text_revision, attempts: 0 }))
    }

    /// Writes what came of a look, by a model.
    ///
    /// # Errors
    ///
    /// The store's own; then nothing is written, and the next look finds the same.
    pub async fn fill(&self, todo: Todo, fill: Fill, made_by: MadeBy) -> Result<(), Error> {
        let now = self.clock.now();
        self.space.check(now)?;
        let write_all = move |tx: &mut WriteTx<'_>| -> Result<(), Error> {
            let Some(mut models) = read(tx)? else { return Ok(()) };
            let other = models.slot.other();
            let Some(change) = models.change.as_mut().filter(|change| {
                change.phase != Phase::Dropping
                    && Some(change.started_at) == todo.started_at
                    && made_by.slot == other
            }) else {
                return Ok(()); // it was dropped or switched meanwhile
            };
            for key in &todo.settled {
                tx.remove(&BEHIND, key)?;
            }
            for (missing, vector) in &fill {
                change.embedded += u64::from(put(tx, missing, vector, &made_by, now)?);
            }
            if change.filled_at.is_none() {
                change.checked += todo.checked;
                change.at = todo.at.or(change.at.take());
                change.filled_at = todo.finished.then_some(now);
            }
            Ok(write(tx, &models)?)
        };
        self.store.write(write_all).await?;
        Ok(())
    }
}

/// Writes one vector of the other slot, or that it could not be made; whether it is there.
fn put(
    tx: &mut WriteTx<'_>,
    missing: &Missing,
    vector: &Result<TextVector, String>,
    made_by: &MadeBy,
    now: UnixMicros,
) -> Result<bool, StorageError> {
    let Missing { tenant, node, text, text_revision, attempts } = missing;
    let key = (tenant.clone(), *node);
    let there = tx.get(&NODES, &key)?.filter(|node| !node.deleted);
    let Some(record) = there else {
        tx.remove(&BEHIND, &key)?;
        return Ok(false);
    };
    if record.text_revision != *text_revision {
        tx.put(&BEHIND, &key, &BehindRecord::default())?;
        return Ok(false);
    }
    match vector {
        Ok(TextVector { values, windows }) => {
            let record = VectorRecord {
                model: made_by.model.clone(),
                text_revision: *text_revision,
                text_sha256: Sha256::digest(text.as_bytes()).into(),
                values: values.clone(),
            };
            slots::put(tx, made_by.slot, &key, &record, windows)?;
            tx.remove(&BEHIND, &key)?;
            let kind = ChangeKind::NodeVector(*node);
            tx.log(Change { at: now, tenant: tenant.clone(), kind })?;
            Ok(true)
        }
        Err(reason) => {
            let attempts = attempts.saturating_add(1);
            let wait = BACKOFF * 2u32.pow(attempts.min(8));
            let behind =
                BehindRecord { attempts, due: Some(now.plus(wait)), error: Some(reason.clone()) };
            tx.put(&BEHIND, &key, &behind)?;
            Ok(false)
        }
    }
}
