//! The life of an embedding until it is settled: queued, taken up again after a crash, taken.
//!
//! One durable queue holds one live job a node. Taking jobs and marking their nodes is one
//! transaction, and so is writing a vector with all that follows from it.

use std::time::Duration;

use activekg_storage::ids::{EventId, JobId, NodeId, TenantId};
use activekg_storage::queue::{self, Caps, Leased, NewJob, QueueDef, Recovered, Refused};
use activekg_storage::tables::graph::{EmbeddingStatus, NODES};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, WriteTx};
use serde::{Deserialize, Serialize};

use super::{Error, Graph, Node, Settings, delivery, due, row, text};

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

/// What an embedding job is to do, and for whom.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Work {
    #[serde(skip)]
    job: Option<JobId>,
    node: Option<u128>,
    manual: Option<Actor>,
    #[serde(default)]
    scheduled: bool,
    /// When it was queued, in microseconds since 1970.
    #[serde(default)]
    at: Option<i64>,
}

/// Why a node is embedded.
#[derive(Debug, Clone, Copy)]
pub(super) enum Cause<'a> {
    /// It was written, or what embeds it changed.
    Written,
    /// Somebody asked for it.
    Asked(&'a Actor),
    /// Its policy made it due.
    Scheduled,
}

/// Who asked for a refresh by hand.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Actor {
    pub(super) id: String,
    pub(super) kind: String,
}

impl Work {
    /// A job that follows from a write.
    pub(super) fn automatic(job: JobId) -> Self {
        Self { job: Some(job), ..Self::queued() }
    }

    /// A job that an operator queued again.
    pub(super) fn queued() -> Self {
        Self { job: Some(JobId::random()), node: None, manual: None, scheduled: false, at: None }
    }

    /// A refresh that the node's policy made due.
    pub(super) fn scheduled() -> Self {
        Self { scheduled: true, ..Self::queued() }
    }

    /// Why there is this work.
    pub(super) fn cause(&self) -> Cause<'_> {
        match &self.manual {
            Some(actor) => Cause::Asked(actor),
            None if self.scheduled => Cause::Scheduled,
            None => Cause::Written,
        }
    }

    /// The node it is about.
    pub(super) fn node(&self) -> Option<NodeId> {
        self.node.map(NodeId::from_u128)
    }

    /// When it was queued, if it says so.
    pub(super) fn queued_at(&self) -> Option<UnixMicros> {
        self.at.map(UnixMicros)
    }

    /// The person who asked for it, if one did.
    pub(super) fn requested_by(&self) -> Option<&str> {
        self.manual.as_ref().map(|actor| actor.id.as_str())
    }

    /// A refresh that a person asked for.
    pub fn manual(actor_id: &str, actor_type: &str) -> Self {
        let manual = Actor { id: actor_id.to_owned(), kind: actor_type.to_owned() };
        Self { manual: Some(manual), ..Self::queued() }
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
    pub(super) work: Work,
}

impl Embedding {
    /// Whether the node's policy made it due.
    pub fn is_scheduled(&self) -> bool {
        matches!(self.work.cause(), Cause::Scheduled)
    }

    /// Gives the node the text that its `payload_ref` was found to lead to.
    pub fn load(&mut self, loaded: Result<String, NoText>, prefix: bool) {
        self.text = loaded.and_then(|loaded| {
            let text = text::to_embed(&self.node, &loaded, prefix);
            self.node.loaded = Some(loaded);
            if text.is_empty() { Err(NoText::Empty) } else { Ok(text) }
        });
    }
}

/// Why a node has no text to embed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NoText {
    /// It holds none: the node is skipped.
    Empty,
    /// It is where its `payload_ref` leads, and was not fetched.
    NotLoaded,
    /// Its `payload_ref` leads nowhere that may be read: the node fails.
    Refused(String),
    /// It could not be fetched this time.
    Failed(String),
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
    work.at = Some(now.get());
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
                queue::recover(tx, &delivery::QUEUE, now)?;
                for recovered in queue::recover(tx, &QUEUE, now)? {
                    let Recovered { id: _, tenant, key, dead } = recovered;
                    let id = key.and_then(|key| key.parse::<NodeId>().ok());
                    let Some(key) = id.map(|id| (tenant.clone(), id)) else { continue };
                    let Some(before) = tx.get(&NODES, &key)? else { continue };
                    let mut after = before.clone();
                    after.embedding_updated_at = Some(now);
                    if dead {
                        due::failed(tx, &key, now)?;
                        after.embedding_status = EmbeddingStatus::Failed;
                        after.embedding_error = Some(queue::CRASH_LOOP.to_owned());
                    } else {
                        after.embedding_status = EmbeddingStatus::Queued;
                    }
                    row::write(tx, &key, Some(&before), &after)?;
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
                    row::write(tx, &key, Some(&before), &after)?;
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
    /// read.
    pub(super) fn text_of(&self, node: &Node) -> Result<String, NoText> {
        if node.payload_ref.is_some() && node.loaded.is_none() {
            return Err(NoText::NotLoaded);
        }
        match text::to_embed(node, node.text(), self.settings.embedding_prefix) {
            text if text.is_empty() => Err(NoText::Empty),
            text => Ok(text),
        }
    }
}
