//! The life of an embedding: queued, taken, settled.
//!
//! One durable queue holds one live job a node. Taking jobs and marking their nodes is one
//! transaction, and so is writing a vector with all that follows from it.

use std::time::Duration;

use activekg_storage::changes::{Change, ChangeKind};
use activekg_storage::ids::{EventId, JobId, NodeId, TenantId};
use activekg_storage::queue::{self, Caps, Leased, NewJob, Outcome, QueueDef, Recovered, Refused};
use activekg_storage::tables::graph::{
    EmbeddingStatus, HISTORY, HistoryRecord, NODES, VECTORS, VectorRecord,
};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Seq, WriteTx};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::{Error, Graph, Node, Settings, View, counts, event, text};

/// The queue of nodes to embed.
pub const QUEUE: QueueDef = QueueDef {
    name: "embedding",
    lease: Duration::from_secs(300),
    max_attempts: 5,
    backoff_base: Duration::from_secs(2),
    backoff_cap: Duration::from_secs(300),
    ..QueueDef::named("embedding")
};

/// Props that an embedding writes: the SHA-256 of its text, and the version of the text builder.
pub(super) const STAMPS: [&str; 2] = ["content_hash", "extraction_version"];

/// Longest error text kept with a node, in characters.
const ERROR_MAX: usize = 1000;

/// What an embedding job is to do, and for whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    #[serde(skip)]
    job: Option<JobId>,
    node: Option<u128>,
    manual: Option<Actor>,
}

/// Who asked for a refresh by hand.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Actor {
    id: String,
    kind: String,
}

impl Work {
    /// A job that follows from a write.
    pub(super) fn automatic(job: JobId) -> Self {
        Self { job: Some(job), node: None, manual: None }
    }

    /// A job that an operator queued again.
    pub(super) fn queued() -> Self {
        Self { job: Some(JobId::random()), node: None, manual: None }
    }

    /// The node it is about.
    pub(super) fn node(&self) -> Option<NodeId> {
        self.node.map(NodeId::from_u128)
    }

    /// The person who asked for it, if one did.
    pub(super) fn requested_by(&self) -> Option<&str> {
        self.manual.as_ref().map(|actor| actor.id.as_str())
    }

    /// A refresh that a person asked for.
    pub fn manual(actor_id: &str, actor_type: &str) -> Self {
        let manual = Actor { id: actor_id.to_owned(), kind: actor_type.to_owned() };
        Self { job: Some(JobId::random()), node: None, manual: Some(manual) }
    }
}

/// A node to embed, with the text to embed it by.
#[derive(Debug)]
pub struct Embedding {
    /// The job that asks for it.
    pub leased: Leased,
    /// The node, as it was when the job was taken.
    pub node: Node,
    /// Its text, or why there is none.
    pub text: Result<String, NoText>,
    work: Work,
}

/// Why a node has no text to embed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoText {
    /// It holds none: the node is skipped.
    Empty,
    /// Its `payload_ref` names no source that may be read: the node fails.
    NotAllowed,
}

/// What an embedding job came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Embedded {
    /// A vector was written.
    Ready {
        /// 1 - cosine of the old and the new vector; 0 without an old one.
        drift: f64,
        /// When.
        at: UnixMicros,
        /// The event that tells of it, if the drift was above the node's threshold.
        event: Option<EventId>,
    },
    /// There was nothing to embed.
    Skipped,
    /// It failed for good.
    Failed,
    /// It failed and will be tried again, or the node's text changed meanwhile.
    Again,
    /// The node is gone.
    Gone,
}

/// Refuses when the jobs about to be queued do not fit. Callers that wait for their jobs are
/// their own limit, so only reported jobs are counted.
pub(super) fn admit<'a>(
    tx: &WriteTx<'_>,
    settings: &Settings,
    tenants: impl Iterator<Item = &'a TenantId>,
) -> Result<(), Error> {
    if !settings.report_jobs {
        return Ok(());
    }
    let cap = |most: u64| (most > 0).then_some(most);
    let caps = Caps { queue: cap(settings.queue_max), tenant: cap(settings.tenant_max) };
    queue::admit(tx, &QUEUE, caps, tenants)?.map_err(|refused| match refused {
        Refused::Queue => Error::QueueFull,
        Refused::Tenant(_) => Error::TenantQueueFull,
    })
}

/// Queues the embedding of a node, unless it is queued already; the job that will do it.
pub(super) fn enqueue(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    node: NodeId,
    mut work: Work,
    now: UnixMicros,
) -> Result<JobId, Error> {
    work.node = Some(node.as_u128());
    let job = NewJob {
        id: work.job.unwrap_or_else(JobId::random),
        tenant: tenant.clone(),
        key: Some(node.to_string()),
        payload: serde_json::to_vec(&work).expect("a job always has a JSON form"),
        rank: None,
        run_at: None,
        now,
    };
    Ok(queue::enqueue(tx, &QUEUE, job)?.id())
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
        let now = self.clock.now();
        self.space.check(now)?;
        let tenant = view.tenant().clone();
        let settings = self.settings.clone();
        let committed = self
            .store
            .write(move |tx| -> Result<JobId, Error> {
                let key = (tenant.clone(), id);
                let before = tx.get(&NODES, &key)?.filter(|node| !node.deleted);
                let before = before.ok_or(Error::NodeNotFound)?;
                admit(tx, &settings, std::iter::once(&tenant))?;
                let mut after = before.clone();
                after.embedding_status = EmbeddingStatus::Queued;
                after.embedding_error = None;
                after.embedding_updated_at = Some(now);
                tx.put(&NODES, &key, &after)?;
                counts::moved(tx, &tenant, Some(&before), Some(&after))?;
                enqueue(tx, &tenant, id, work.clone(), now)
            })
            .await?;
        Ok((committed.value, committed.seq))
    }

    /// Takes up the jobs that were under way when the process ended, however it ended: their
    /// nodes wait again, or have failed if the job was under way too often when that happened.
    /// To be called once, before the first [`Graph::take`].
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn recover(&self) -> Result<(), Error> {
        let now = self.clock.now();
        // Let through on a full disk: without it the program could not be started to make room.
        self.store
            .make_room(move |tx| -> Result<(), Error> {
                for recovered in queue::recover(tx, &QUEUE, now)? {
                    let Recovered { id: _, tenant, key, dead } = recovered;
                    let id = key.and_then(|key| key.parse::<NodeId>().ok());
                    let Some(key) = id.map(|id| (tenant.clone(), id)) else { continue };
                    let Some(before) = tx.get(&NODES, &key)? else { continue };
                    let mut after = before.clone();
                    after.embedding_updated_at = Some(now);
                    if dead {
                        after.embedding_status = EmbeddingStatus::Failed;
                        after.embedding_error = Some(queue::CRASH_LOOP.to_owned());
                    } else {
                        after.embedding_status = EmbeddingStatus::Queued;
                    }
                    tx.put(&NODES, &key, &after)?;
                    counts::moved(tx, &tenant, Some(&before), Some(&after))?;
                }
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// How long until a job that waits for an instant, or a lease, comes due; `None` if none does.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn next_job_in(&self) -> Result<Option<Duration>, Error> {
        let due = self.reading(|tx| Ok(queue::next_due(tx, &QUEUE)?)).await?;
        let now = self.clock.now();
        Ok(due.map(|due| due.since(now)))
    }

    /// Takes up to `n` jobs and marks their nodes as being processed. Jobs of nodes that are
    /// gone or deleted are dropped, and their ids are the second list.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn take(&self, n: usize) -> Result<(Vec<Embedding>, Vec<JobId>), Error> {
        let now = self.clock.now();
        let counting = self.settings.report_jobs;
        let taken = self
            .store
            .write(move |tx| -> Result<_, Error> {
                let (mut taken, mut dropped) = (Vec::new(), Vec::new());
                for leased in queue::lease(tx, &QUEUE, now, n)? {
                    let work = serde_json::from_slice::<Work>(&leased.payload).ok();
                    let id = work.as_ref().and_then(Work::node);
                    let before = match id {
                        Some(id) => tx.get(&NODES, &(leased.tenant.clone(), id))?,
                        None => None,
                    };
                    let (Some(work), Some(id), Some(before)) =
                        (work, id, before.filter(|node| !node.deleted))
                    else {
                        queue::ack(tx, &QUEUE, &leased)?;
                        dropped.push(leased.id);
                        continue;
                    };
                    let mut after = before.clone();
                    after.embedding_status = EmbeddingStatus::Processing;
                    after.embedding_error = None;
                    after.embedding_attempts += u32::from(counting);
                    after.embedding_updated_at = Some(now);
                    let key = (leased.tenant.clone(), id);
                    tx.put(&NODES, &key, &after)?;
                    counts::moved(tx, &leased.tenant, Some(&before), Some(&after))?;
                    taken.push((leased, work, id, after));
                }
                Ok((taken, dropped))
            })
            .await?;
        let (taken, dropped) = taken.value;
        let embeddings = taken
            .into_iter()
            .map(|(leased, work, id, record)| {
                let node = Node::from_record(leased.tenant.clone(), id, record)?;
                let text = self.text_of(&node);
                Ok(Embedding { leased, node, text, work })
            })
            .collect::<Result<_, Error>>()?;
        Ok((embeddings, dropped))
    }

    /// The text a node is embedded by. A `payload_ref` wins over the props, even if it cannot be
    /// read; no source is readable yet.
    fn text_of(&self, node: &Node) -> Result<String, NoText> {
        if node.payload_ref.is_some() {
            return Err(NoText::NotAllowed);
        }
        match text::to_embed(node, node.text(), self.settings.embedding_prefix) {
            text if text.is_empty() => Err(NoText::Empty),
            text => Ok(text),
        }
    }

    /// Writes what came of the jobs, in one transaction: for each either its vector or the
    /// reason why there is none. The sequence number is that of the commit.
    ///
    /// # Errors
    ///
    /// The store's own; then nothing is written and the leases lapse.
    pub async fn settle(
        &self,
        results: Vec<(Embedding, Result<Vec<f32>, String>)>,
        model: &str,
    ) -> Result<(Vec<(JobId, Embedded)>, Seq), Error> {
        let now = self.clock.now();
        let settings = self.settings.clone();
        let model = model.to_owned();
        let committed = self
            .store
            .write(move |tx| -> Result<_, Error> {
                let mut settled = Vec::with_capacity(results.len());
                for (embedding, vector) in &results {
                    let outcome = settle_one(tx, embedding, vector, &settings, &model, now)?;
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
    vector: &Result<Vec<f32>, String>,
    settings: &Settings,
    model: &str,
    now: UnixMicros,
) -> Result<Embedded, Error> {
    let Embedding { leased, node: seen, text, work } = embedding;
    let key = (seen.tenant.clone(), seen.id);
    let Some(before) = tx.get(&NODES, &key)?.filter(|node| !node.deleted) else {
        queue::ack(tx, &QUEUE, leased)?;
        return Ok(Embedded::Gone);
    };
    let mut node = Node::from_record(seen.tenant.clone(), seen.id, before.clone())?;
    node.embedding_updated_at = Some(now);
    let outcome = if node.text_revision != seen.text_revision {
        // The text changed while the model read the old one: the job goes round again.
        queue::release(tx, &QUEUE, leased)?;
        node.embedding_status = EmbeddingStatus::Queued;
        Embedded::Again
    } else {
        match (text, vector) {
            (Err(NoText::Empty), _) => {
                queue::ack(tx, &QUEUE, leased)?;
                skip(tx, &mut node, now)?;
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
                ready(tx, &mut node, text, vector, work, settings, model, now)?
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
fn skip(tx: &mut WriteTx<'_>, node: &mut Node, now: UnixMicros) -> Result<(), Error> {
    node.embedding_status = EmbeddingStatus::Skipped;
    node.embedding_error = Some("empty_text".to_owned());
    if tx.remove(&VECTORS, &(node.tenant.clone(), node.id))? {
        node.last_refreshed = None;
        node.drift_score = None;
        for stamp in STAMPS {
            node.props.shift_remove(stamp);
        }
        let kind = ChangeKind::NodeVector(node.id);
        tx.log(Change { at: now, tenant: node.tenant.clone(), kind })?;
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
#[expect(clippy::too_many_arguments, reason = "one step of `settle_one`, cut out to be read")]
fn ready(
    tx: &mut WriteTx<'_>,
    node: &mut Node,
    text: &str,
    vector: &[f32],
    work: &Work,
    settings: &Settings,
    model: &str,
    now: UnixMicros,
) -> Result<Embedded, Error> {
    let key = (node.tenant.clone(), node.id);
    let old = tx.get(&VECTORS, &key)?;
    let drift = old.map_or(0.0, |old| drift(&old.values, vector));
    let text_sha256: [u8; 32] = Sha256::digest(text.as_bytes()).into();
    let record = VectorRecord {
        model: model.to_owned(),
        text_revision: node.text_revision,
        text_sha256,
        values: vector.to_vec(),
    };
    tx.put(&VECTORS, &key, &record)?;
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
