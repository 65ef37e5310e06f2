//! The end of an embedding job: a vector and all that follows from it, or the reason why there is
//! none, in one transaction.

use std::sync::Arc;

use activekg_storage::changes::{Change, ChangeKind};
use activekg_storage::ids::JobId;
use activekg_storage::queue::{self, Outcome};
use activekg_storage::tables::graph::{
    EmbeddingStatus, HISTORY, HistoryRecord, NODES, Slot, VectorRecord,
};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Seq, WriteTx};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::embedded::{Embedded, Embedding, NoText, QUEUE, STAMPS, Work};
use super::slots::{self, Slots};
use super::{Error, Graph, Node, Settings, counts, event};
use crate::embedding::{FixedEmbedder, ModelInfo, TextVector};

/// Longest error text kept with a node, in characters.
const ERROR_MAX: usize = 1000;

/// Who made vectors, and where they belong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MadeBy {
    /// The model's name.
    pub model: String,
    /// Numbers in its vectors.
    pub dim: usize,
    /// The slot of its vectors.
    pub slot: Slot,
}

impl MadeBy {
    /// Whose the vectors of `embedder` are.
    pub fn of(embedder: &FixedEmbedder) -> Self {
        let ModelInfo { name, dim, max_tokens: _ } = embedder.model().clone();
        Self { model: name, dim, slot: embedder.slot() }
    }
}

/// What holds for all jobs that are settled together.
struct Terms {
    settings: Arc<Settings>,
    made_by: MadeBy,
    slots: Slots,
    now: UnixMicros,
}

impl Graph {
    /// Writes what came of the jobs, in one transaction: for each either its vector or the
    /// reason why there is none. The sequence number is that of the commit.
    ///
    /// # Errors
    ///
    /// The store's own; then nothing is written and the leases lapse.
    pub async fn settle(
        &self,
        results: Vec<(Embedding, Result<TextVector, String>)>,
        made_by: MadeBy,
    ) -> Result<(Vec<(JobId, Embedded)>, Seq), Error> {
        let now = self.clock.now();
        let settings = self.settings.clone();
        let committed = self
            .store
            .write(move |tx| -> Result<_, Error> {
                let slots = Slots::read(tx)?;
                let terms = Terms { settings, made_by, slots, now };
                let mut settled = Vec::with_capacity(results.len());
                for (embedding, vector) in &results {
                    let outcome = settle_one(tx, embedding, vector, &terms)?;
                    settled.push((embedding.leased.id, outcome));
                }
                Ok(settled)
            })
            .await?;
        Ok((committed.value, committed.seq))
    }
}

/// Settles one job against the node as it is now.
fn settle_one(
    tx: &mut WriteTx<'_>,
    embedding: &Embedding,
    vector: &Result<TextVector, String>,
    terms: &Terms,
) -> Result<Embedded, Error> {
    let now = terms.now;
    let Embedding { leased, node: seen, text, work } = embedding;
    let key = (seen.tenant.clone(), seen.id);
    let Some(before) = tx.get(&NODES, &key)?.filter(|node| !node.deleted) else {
        queue::ack(tx, &QUEUE, leased)?;
        return Ok(Embedded::Gone);
    };
    let mut node = Node::from_record(seen.tenant.clone(), seen.id, before.clone())?;
    node.embedding_updated_at = Some(now);
    let outcome =
        if node.text_revision != seen.text_revision || !terms.slots.is_served_by(&terms.made_by) {
            // The text, or the model, changed while the old one read the old one: the job goes round
            // again.
            queue::release(tx, &QUEUE, leased)?;
            node.embedding_status = EmbeddingStatus::Queued;
            Embedded::Again
        } else {
            match (text, vector) {
                (Err(NoText::Empty), _) => {
                    queue::ack(tx, &QUEUE, leased)?;
                    skip(tx, &mut node, terms)?;
                    Embedded::Skipped
                }
                (Err(NoText::NotAllowed), _) => {
                    queue::ack(tx, &QUEUE, leased)?;
                    failed(&mut node, "payload_ref not allowed");
                    Embedded::Failed
                }
                (Ok(text), Ok(vector)) => {
                    if !queue::ack(tx, &QUEUE, leased)? {
                        return Ok(Embedded::Again); // the lease lapsed: another run writes it
                    }
                    ready(tx, &mut node, text, vector, work, terms)?
                }
                (Ok(_), Err(reason)) => {
                    let jitter = rand::random::<f64>();
                    match queue::fail(tx, &QUEUE, leased, reason, now, jitter)? {
                        Outcome::Dead => {
                            failed(&mut node, reason);
                            Embedded::Failed
                        }
                        Outcome::Retry { .. } | Outcome::LeaseLost => {
                            node.embedding_status = EmbeddingStatus::Queued;
                            node.embedding_error = Some(cut(reason));
                            Embedded::Again
                        }
                    }
                }
            }
        };
    let after = node.to_record();
    tx.put(&NODES, &key, &after)?;
    counts::moved(tx, &seen.tenant, Some(&before), Some(&after))?;
    Ok(outcome)
}

/// Marks a node as having nothing to embed, and drops the vector of a text it no longer has.
fn skip(tx: &mut WriteTx<'_>, node: &mut Node, terms: &Terms) -> Result<(), Error> {
    node.embedding_status = EmbeddingStatus::Skipped;
    node.embedding_error = Some("empty_text".to_owned());
    if slots::clear(tx, &(node.tenant.clone(), node.id))? {
        node.last_refreshed = None;
        node.drift_score = None;
        for stamp in STAMPS {
            node.props.shift_remove(stamp);
        }
        let kind = ChangeKind::NodeVector(node.id);
        tx.log(Change { at: terms.now, tenant: node.tenant.clone(), kind })?;
    }
    Ok(())
}

fn failed(node: &mut Node, reason: &str) {
    node.embedding_status = EmbeddingStatus::Failed;
    node.embedding_error = Some(cut(reason));
}

fn cut(reason: &str) -> String {
    reason.chars().take(ERROR_MAX).collect()
}

/// Writes the vector and everything that follows from it: drift, history, stamps, event and
/// change.
fn ready(
    tx: &mut WriteTx<'_>,
    node: &mut Node,
    text: &str,
    vector: &TextVector,
    work: &Work,
    terms: &Terms,
) -> Result<Embedded, Error> {
    let Terms { settings, made_by, slots, now } = terms;
    let now = *now;
    let key = (node.tenant.clone(), node.id);
    let TextVector { values, windows } = vector;
    let old = tx.get(made_by.slot.vectors(), &key)?;
    let drift = old.map_or(0.0, |old| drift(&old.values, values));
    let text_sha256: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let record = VectorRecord {
        model: made_by.model.clone(),
        text_revision: node.text_revision,
        text_sha256,
        values: values.clone(),
    };
    let other_windows = slots::put(tx, made_by.slot, &key, &record, windows)?;
    slots.note_behind(tx, &key, &text_sha256, other_windows)?;
    let entry = HistoryRecord { drift: Some(drift), embedding_ref: node.payload_ref.clone() };
    tx.put(&HISTORY, &(node.tenant.clone(), node.id, now), &entry)?;
    node.embedding_status = EmbeddingStatus::Ready;
    node.embedding_error = None;
    node.drift_score = Some(drift);
    node.last_refreshed = Some(now);
    node.updated_at = now;
    let hash: String = text_sha256.iter().map(|byte| format!("{byte:02x}")).collect();
    let stamps = [hash, settings.extraction_version.clone()];
    for (key, value) in STAMPS.into_iter().zip(stamps) {
        node.props.insert(key.to_owned(), Value::String(value));
    }
    let event = if drift > node.drift_threshold() {
        Some(event::refreshed(tx, node, drift, how(work, settings), now)?)
    } else {
        None
    };
    let kind = ChangeKind::NodeVector(node.id);
    tx.log(Change { at: now, tenant: node.tenant.clone(), kind })?;
    Ok(Embedded::Ready { drift, at: now, event })
}

/// Who a `refreshed` event names, and what it says of the occasion.
fn how<'a>(work: &'a Work, settings: &Settings) -> event::Occasion<'a> {
    match &work.manual {
        Some(actor) => {
            event::Occasion { flag: "manual_trigger", actor_id: &actor.id, actor_type: &actor.kind }
        }
        None => event::Occasion {
            flag: "auto_embed",
            actor_id: if settings.report_jobs { "embedding_worker" } else { "auto_embed" },
            actor_type: "system",
        },
    }
}

/// 1 - cosine of two vectors, 0 to 2; 0 when either has no direction or they differ in length.
fn drift(old: &[f32], new: &[f32]) -> f64 {
    if old.len() != new.len() {
        return 0.0;
    }
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let norms = (dot(old, old) * dot(new, new)).sqrt();
    if norms == 0.0 { 0.0 } else { (1.0 - dot(old, new) / norms).clamp(0.0, 2.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_zero_for_the_same_direction_and_two_for_the_opposite() {
        assert!(drift(&[1.0, 2.0], &[2.0, 4.0]).abs() < 1e-12);
        assert!((drift(&[1.0, 0.0], &[-3.0, 0.0]) - 2.0).abs() < 1e-12);
        assert!((drift(&[1.0, 0.0], &[0.0, 1.0]) - 1.0).abs() < 1e-12);
        assert_eq!(drift(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
        assert_eq!(drift(&[1.0], &[1.0, 0.0]), 0.0);
    }
}
