//! The worker that embeds queued nodes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use activekg_storage::ids::{JobId, TenantId};
use activekg_storage::{Seq, Store};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::worker::{Next, QueueWorker, work};
use super::{Settled, Settlements};
use crate::embedding::{Embedder, FixedEmbedder, TextVector, Windows};
use crate::fetch::{FetchError, Fetcher};
use crate::graph::{Embedded, Embedding, Error, Graph, MadeBy, NoText, QUEUE};
use crate::observability::metrics::{Metrics, RefreshResult};

/// Jobs taken at a time: enough for full batches of the model, few enough to settle soon.
const TAKE: usize = 64;
/// Payloads fetched at a time.
const FETCHES: usize = 16;
/// Longest sleep without having been woken. The clock may be set, and a sleep does not see that.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Takes jobs, embeds their texts, settles them.
#[derive(Clone)]
pub struct EmbeddingWorker {
    graph: Graph,
    embedder: Embedder,
    fetcher: Fetcher,
    settlements: Settlements,
    metrics: Arc<Metrics>,
}

impl EmbeddingWorker {
    /// A worker on the queue of `graph`.
    pub fn new(
        graph: Graph,
        embedder: Embedder,
        fetcher: Fetcher,
        settlements: Settlements,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self { graph, embedder, fetcher, settlements, metrics }
    }

    /// Works until told to stop, and finishes what it holds then.
    pub async fn run(self, stop: CancellationToken) {
        work(self, QUEUE.name, stop).await;
    }

    /// Fetches the texts that are elsewhere, so many at a time.
    async fn load(&self, batch: &mut [Embedding]) {
        let prefix = self.graph.settings().embedding_prefix;
        let elsewhere = batch.iter_mut().filter_map(|job| {
            let reference = job.node.payload_ref.clone()?;
            (job.text == Err(NoText::NotLoaded)).then_some((job, reference))
        });
        stream::iter(elsewhere)
            .for_each_concurrent(FETCHES, |(job, reference)| async move {
                let loaded = self.fetcher.text(&reference).await.map_err(|error| match error {
                    FetchError::Refused(why) => NoText::Refused(why),
                    failed @ FetchError::Failed(_) => NoText::Failed(failed.to_string()),
                });
                job.load(loaded, prefix);
            })
            .await;
    }

    fn tell(&self, settled: impl Iterator<Item = (JobId, Embedded)>, seq: Seq) {
        for (job, outcome) in settled {
            // A job that goes round again is not settled yet.
            if outcome != Embedded::Again {
                self.settlements.settled(job, Settled { outcome, seq });
            }
        }
        self.settlements.sweep();
    }
}

impl QueueWorker for EmbeddingWorker {
    type Error = Error;

    fn store(&self) -> &Store {
        self.graph.store()
    }

    /// Takes, embeds and settles one batch.
    async fn step(&self) -> Result<Next, Error> {
        let _job = self.embedder.begin_job().await;
        let (mut batch, dropped) = self.graph.take(TAKE).await?;
        if batch.is_empty() && dropped.is_empty() {
            let due = self.graph.next_job_in().await?;
            return Ok(Next::Idle(due.map_or(SLEEP_MAX, |due| due.min(SLEEP_MAX))));
        }
        let seq = self.graph.store().last_seq();
        self.tell(dropped.into_iter().map(|job| (job, Embedded::Gone)), seq);
        if batch.is_empty() {
            return Ok(Next::Now);
        }
        let started = Instant::now();
        self.load(&mut batch).await;
        let embedder = self.embedder.fixed();
        let windows = self.graph.settings().windows;
        let nodes: Vec<Refreshed> = batch.iter().map(Refreshed::of).collect();
        let results = embed(&embedder, batch, windows).await;
        let (settled, seq) = self.graph.settle(results, MadeBy::of(&embedder)).await?;
        for (node, (_, outcome)) in nodes.iter().zip(&settled) {
            node.count(outcome, started.elapsed(), &self.metrics);
        }
        self.tell(settled.into_iter(), seq);
        Ok(Next::Now)
    }
}

/// What the metrics are told of a node once its job is settled.
struct Refreshed {
    tenant: TenantId,
    classes: Vec<String>,
    scheduled: bool,
}

impl Refreshed {
    fn of(job: &Embedding) -> Self {
        let (tenant, classes) = (job.node.tenant.clone(), job.node.classes.clone());
        Self { tenant, classes, scheduled: job.is_scheduled() }
    }

    fn count(&self, outcome: &Embedded, latency: Duration, metrics: &Metrics) {
        let result = match outcome {
            Embedded::Ready { at, .. } => {
                let seconds = at.get() as f64 / 1e6;
                for class in &self.classes {
                    metrics.refresh.class_refreshed(class, self.tenant.as_str(), seconds);
                }
                RefreshResult::Ok
            }
            Embedded::Failed => RefreshResult::Error,
            Embedded::Skipped | Embedded::Again | Embedded::Gone => return,
        };
        if self.scheduled {
            metrics.refresh.node(result, latency);
        }
    }
}

/// The vectors of a batch, each or why there is none. The texts of a tenant are one job of the
/// embedder, where the tenants take turns.
async fn embed(
    embedder: &FixedEmbedder,
    batch: Vec<Embedding>,
    windows: Windows,
) -> Vec<(Embedding, Result<TextVector, String>)> {
    let mut texts: BTreeMap<TenantId, (Vec<usize>, Vec<String>)> = BTreeMap::new();
    for (i, job) in batch.iter().enumerate() {
        if let Ok(text) = &job.text {
            let (places, texts) = texts.entry(job.node.tenant.clone()).or_default();
            places.push(i);
            texts.push(text.clone());
        }
    }
    let tenants = texts.into_iter().map(|(tenant, (places, texts))| async move {
        let vectors = embedder.windowed(&tenant, texts, windows).await;
        let failed = vectors.iter().filter(|vector| vector.is_err()).count();
        if let Some(error) = vectors.iter().find_map(|vector| vector.as_ref().err()) {
            warn!(%tenant, jobs = failed, "texts could not be embedded: {error}");
        }
        places.into_iter().zip(vectors)
    });
    let mut vectors: Vec<_> = batch.iter().map(|_| Err("no text".to_owned())).collect();
    for (i, vector) in join_all(tenants).await.into_iter().flatten() {
        vectors[i] = vector.map_err(|error| error.to_string());
    }
    batch.into_iter().zip(vectors).collect()
}
