//! The end of an embedding job: a vector and all that follows from it, or the reason why there is
//! none, in one transaction.

use std::sync::Arc;

use activekg_storage::changes::{Change, ChangeKind};
use activekg_storage::ids::JobId;
use activekg_storage::queue::{self, Leased, Outcome};
use activekg_storage::tables::graph::{
    EmbeddingStatus, HISTORY, HistoryRecord, NODES, Slot, TEXTS, TextRecord, VectorRecord,
};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Seq, WriteTx};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::cosine::drift;
use super::embedded::{Cause, Embedded, Embedding, NoText, QUEUE, STAMPS, Work};
use super::slots::{self, Slots};
use super::{Error, Graph, Node, Settings, due, event, fire, row};
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
            Embedded::Again
        } else {
            match (text, vector) {
                (Err(NoText::Empty), _) if embedding.is_scheduled() && node.has_embedding() => {
                    // What it is loaded from may be empty for a moment: it keeps what it has, and
                    // is looked at again when it is due next.
                    queue::ack(tx, &QUEUE, leased)?;
                    node.embedding_status = EmbeddingStatus::Ready;
                    Embedded::Skipped
                }
                (Err(NoText::Empty), _) => {
                    queue::ack(tx, &QUEUE, leased)?;
                    skip(tx, &mut node, terms)?;
                    Embedded::Skipped
                }
                (Err(NoText::Refused(reason)), _) => {
                    queue::ack(tx, &QUEUE, leased)?;
                    failed(tx, &mut node, reason, now)?;
                    Embedded::Failed
                }
                (Err(NoText::NotLoaded), _) => {
                    retry(tx, &mut node, leased, "payload_ref was not loaded", now)?
                }
                (Err(NoText::Failed(reason)), _) => retry(tx, &mut node, leased, reason, now)?,
                (Ok(text), Ok(vector)) => {
                    if !queue::ack(tx, &QUEUE, leased)? {
                        return Ok(Embedded::Again); // the lease lapsed: another run writes it
                    }
                    keep_loaded(tx, &mut node, seen.loaded.as_deref(), now)?;
                    ready(tx, &mut node, text, vector, work, terms)?
                }
                (Ok(_), Err(reason)) => retry(tx, &mut node, leased, reason, now)?,
            }
        };
    if queue::is_live(tx, &QUEUE, &node.tenant, &node.id.to_string())? {
        // It is to be tried again, or was queued anew while this run was under way.
        node.embedding_status = EmbeddingStatus::Queued;
    }
    let after = node.to_record();
    row::write(tx, &key, Some(&before), &after)?;
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

/// Keeps the text that was loaded, for who shows it or finds it by its words.
fn keep_loaded(
    tx: &mut WriteTx<'_>,
    node: &mut Node,
    loaded: Option<&str>,
    now: UnixMicros,
) -> Result<(), Error> {
    let Some(loaded) = loaded else { return Ok(()) };
    let key = (node.tenant.clone(), node.id);
    if tx.get(&TEXTS, &key)?.is_none_or(|kept| kept.text != loaded) {
        tx.put(&TEXTS, &key, &TextRecord { text: loaded.to_owned() })?;
        let kind = ChangeKind::NodeText(node.id);
        tx.log(Change { at: now, tenant: node.tenant.clone(), kind })?;
    }
    Ok(())
}

/// The job failed this time: it is tried again, or given up with its node.
fn retry(
    tx: &mut WriteTx<'_>,
    node: &mut Node,
    leased: &Leased,
    reason: &str,
    now: UnixMicros,
) -> Result<Embedded, Error> {
    Ok(match queue::fail(tx, &QUEUE, leased, reason, now, rand::random())? {
        Outcome::Dead => {
            failed(tx, node, reason, now)?;
            Embedded::Failed
        }
        Outcome::Retry { .. } | Outcome::LeaseLost => {
            node.embedding_error = Some(cut(reason));
            Embedded::Again
        }
    })
}

fn failed(
    tx: &mut WriteTx<'_>,
    node: &mut Node,
    reason: &str,
    now: UnixMicros,
) -> Result<(), Error> {
    node.embedding_status = EmbeddingStatus::Failed;
    node.embedding_error = Some(cut(reason));
    Ok(due::failed(tx, &(node.tenant.clone(), node.id), now)?)
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
    if !node.triggers.is_empty() {
        fire::check_node(tx, &key, now)?;
    }
    let kind = ChangeKind::NodeVector(node.id);
    tx.log(Change { at: now, tenant: node.tenant.clone(), kind })?;
    Ok(Embedded::Ready { drift, at: now, event })
}

/// Who a `refreshed` event names, and what it says of the occasion.
fn how<'a>(work: &'a Work, settings: &Settings) -> event::Occasion<'a> {
    match work.cause() {
        Cause::Asked(actor) => {
            event::Occasion { flag: "manual_trigger", actor_id: &actor.id, actor_type: &actor.kind }
        }
        Cause::Scheduled => event::Occasion {
            flag: "threshold_exceeded",
            actor_id: "scheduler",
            actor_type: "scheduler",
        },
        Cause::Written => event::Occasion {
            flag: "auto_embed",
            actor_id: if settings.report_jobs { "embedding_worker" } else { "auto_embed" },
            actor_type: "system",
        },
    }
}
