//! Embedding again what the rules of the text make of differently now.
//!
//! A vector is stored with the digest of its text. When the rules by which texts are built change,
//! with the program or with a setting, every vector's digest is compared with that of the text as
//! it would be now, and only nodes where they differ are queued. How far the comparison is stands
//! in the store, so that a restart goes on where it was.

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::queue;
use activekg_storage::tables::graph::{
    EmbeddingStatus, NODES, NodeRecord, SWEEPS, Slot, SweepRecord,
};
use activekg_storage::time::UnixMicros;
use activekg_storage::{ReadTx, Readable, Scan, WriteTx};
use sha2::{Digest as _, Sha256};

use super::embedded::QUEUE;
use super::requeue::queue_again;
use super::slots::Slots;
use super::{Error, Graph, Node, Settings, text};
use crate::embedding::{Windows, mode_of};

/// The sweep's name in the store.
const NAME: &str = "embedding_text";
/// Nodes looked at in one step: few enough that queueing all of them holds up nobody.
const STEP: usize = 250;

/// How far a sweep is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sweep {
    /// Nodes looked at.
    pub checked: u64,
    /// Nodes queued.
    pub queued: u64,
    /// Every node has been looked at.
    pub done: bool,
}

/// What one look at the store found.
struct Found {
    /// The sweep, with this look counted.
    after: SweepRecord,
    /// Nodes whose vector is of another text, with the digest of that text.
    stale: Vec<(TenantId, NodeId, [u8; 32])>,
}

impl Graph {
    /// Looks at the next nodes, and queues those whose text comes out differently now, and those
    /// with a text that `is_long`, beyond what the model reads, of which other windows are wanted.
    ///
    /// # Errors
    ///
    /// The store's own; the step is done over then.
    pub async fn sweep_texts(
        &self,
        is_long: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<Sweep, Error> {
        let (now, graph) = (self.clock.now(), self.clone());
        let found = self.reading(move |tx| graph.look(tx, &is_long, now)).await?;
        let Some(Found { after, stale }) = found else {
            return Ok(Sweep { done: true, ..Sweep::default() });
        };
        let committed = self
            .store
            .write(move |tx| -> Result<Sweep, Error> {
                let mut queued = 0;
                for (tenant, id, of) in &stale {
                    queued += u64::from(embed_again(tx, tenant, *id, of, now)?);
                }
                let mut after = after.clone();
                after.found += queued;
                tx.put(&SWEEPS, &(NAME.to_owned(),), &after)?;
                let SweepRecord { checked, found, finished_at, rules: _, at: _ } = after;
                Ok(Sweep { checked, queued: found, done: finished_at.is_some() })
            })
            .await?;
        Ok(committed.value)
    }

    /// Jobs that wait for the embedder or are with it.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn embeddings_pending(&self) -> Result<u64, Error> {
        self.reading(|tx| Ok(queue::pending(tx, &QUEUE)?)).await
    }

    /// Compares the next nodes; `None` if none is left under these rules.
    fn look(
        &self,
        tx: &ReadTx,
        is_long: &dyn Fn(&str) -> bool,
        now: UnixMicros,
    ) -> Result<Option<Found>, Error> {
        let rules = rules(&self.settings);
        let before = tx.get(&SWEEPS, &(NAME.to_owned(),))?.filter(|sweep| sweep.rules == rules);
        if before.as_ref().is_some_and(|sweep| sweep.finished_at.is_some()) {
            return Ok(None);
        }
        let new = SweepRecord { rules, at: None, checked: 0, found: 0, finished_at: None };
        let mut after = before.unwrap_or(new);
        let scan = match &after.at {
            Some(at) => Scan::all().after(at),
            None => Scan::all(),
        };
        let slot = Slots::read(tx)?.serving();
        let mut stale = Vec::new();
        let mut n = 0;
        for row in tx.scan(&NODES, scan)?.take(STEP) {
            let ((tenant, id), record) = row?;
            n += 1;
            if let Some(of) = self.other_text(tx, slot, is_long, &tenant, id, record)? {
                stale.push((tenant.clone(), id, of));
            }
            after.at = Some((tenant, id));
        }
        after.checked += n as u64;
        after.finished_at = (n < STEP).then_some(now);
        Ok(Some(Found { after, stale }))
    }

    /// The digest of the text that a node's vector was made from, if it would be another one now,
    /// or other windows of it.
    fn other_text(
        &self,
        tx: &ReadTx,
        slot: Slot,
        is_long: &dyn Fn(&str) -> bool,
        tenant: &TenantId,
        id: NodeId,
        record: NodeRecord,
    ) -> Result<Option<[u8; 32]>, Error> {
        if !is_settled(&record) {
            return Ok(None);
        }
        let key = (tenant.clone(), id);
        let Some(vector) = tx.get(slot.vectors(), &key)? else { return Ok(None) };
        let windows = tx.get(slot.windows(), &key)?.map(|windows| windows.mode);
        let node = Node::from_record(tenant.clone(), id, record)?.with_text(tx)?;
        let Ok(text) = self.text_of(&node) else { return Ok(None) };
        let of_now: [u8; 32] = Sha256::digest(text.as_bytes()).into();
        // Texts that fit one window have no record in any mode.
        let wanted = mode_of(self.settings.windows);
        let other_windows = windows != wanted && (windows.is_some() || is_long(&text));
        let differs = of_now != vector.text_sha256 || other_windows;
        Ok(differs.then_some(vector.text_sha256))
    }
}

/// What texts are built by, in this process.
fn rules(settings: &Settings) -> String {
    let rules = format!("{};prefix={}", text::RULES, settings.embedding_prefix);
    match settings.windows {
        // As it was written before there were others.
        Windows::First => rules,
        Windows::Mean | Windows::Best => format!("{rules};windows={}", settings.windows),
    }
}

/// Nodes in any other state are embedded by the rules of now anyhow, or not at all.
fn is_settled(record: &NodeRecord) -> bool {
    record.embedding_status == EmbeddingStatus::Ready && !record.deleted
}

/// Queues a node, unless it has changed since it was looked at: then its change has queued it.
fn embed_again(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    id: NodeId,
    of: &[u8; 32],
    now: UnixMicros,
) -> Result<bool, Error> {
    let key = (tenant.clone(), id);
    let Some(before) = tx.get(&NODES, &key)?.filter(is_settled) else { return Ok(false) };
    let vectors = Slots::read(tx)?.serving().vectors();
    if tx.get(vectors, &key)?.is_none_or(|vector| vector.text_sha256 != *of) {
        return Ok(false);
    }
    queue_again(tx, &key, &before, now)?;
    Ok(true)
}
