//! The worker that embeds queued nodes.

use std::collections::BTreeMap;
use std::pin::pin;
use std::time::Duration;

use activekg_storage::Seq;
use activekg_storage::ids::{JobId, TenantId};
use futures_util::future::join_all;
use tokio::select;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{Settled, Settlements};
use crate::embedding::{Embedder, FixedEmbedder, TextVector, Windows};
use crate::graph::{Embedded, Embedding, Error, Graph, MadeBy, QUEUE};

/// Jobs taken at a time: enough for full batches of the model, few enough to settle soon.
const TAKE: usize = 64;
/// Longest sleep without having been woken. The clock may be set, and a sleep does not see that.
const SLEEP_MAX: Duration = Duration::from_secs(30);
/// Pause after the store failed.
const PAUSE: Duration = Duration::from_secs(1);

/// Takes jobs, embeds their texts, settles them.
#[derive(Clone)]
pub struct EmbeddingWorker {
    graph: Graph,
    embedder: Embedder,
    settlements: Settlements,
}

/// What came of looking for work.
enum Step {
    /// There was some.
    Worked,
    /// There was none, and there is none before this time is over unless an enqueue says so.
    Idle { until_due: Duration },
}

impl EmbeddingWorker {
    /// A worker on the queue of `graph`.
    pub fn new(graph: Graph, embedder: Embedder, settlements: Settlements) -> Self {
        Self { graph, embedder, settlements }
    }

    /// Works until told to stop, and finishes what it holds then.
    pub async fn run(self, stop: CancellationToken) {
        let queued = self.graph.store().enqueued(QUEUE.name);
        while !stop.is_cancelled() {
            let mut woken = pin!(queued.notified());
            woken.as_mut().enable(); // an enqueue between look and wait is not missed
            match self.step().await {
                Ok(Step::Worked) => {}
                Ok(Step::Idle { until_due }) => select! {
                    () = stop.cancelled() => {}
                    () = woken => {}
                    () = sleep(until_due) => {}
                },
                Err(error) => {
                    error!("could not work on the embedding queue: {error}");
                    if self.graph.store().fault().is_some() {
                        // Nothing can be settled until the process starts again.
                        stop.cancelled().await;
                        return;
                    }
                    select! {
                        () = stop.cancelled() => {}
                        () = sleep(PAUSE) => {}
                    }
                }
            }
        }
    }

    /// Takes, embeds and settles one batch.
    async fn step(&self) -> Result<Step, Error> {
        let _job = self.embedder.begin_job().await;
        let (batch, dropped) = self.graph.take(TAKE).await?;
        if batch.is_empty() && dropped.is_empty() {
            let due = self.graph.next_job_in().await?;
            return Ok(Step::Idle { until_due: due.map_or(SLEEP_MAX, |due| due.min(SLEEP_MAX)) });
        }
        let seq = self.graph.store().last_seq();
        self.tell(dropped.into_iter().map(|job| (job, Embedded::Gone)), seq);
        if batch.is_empty() {
            return Ok(Step::Worked);
        }
        let embedder = self.embedder.fixed();
        let windows = self.graph.settings().windows;
        let results = embed(&embedder, batch, windows).await;
        let (settled, seq) = self.graph.settle(results, MadeBy::of(&embedder)).await?;
        self.tell(settled.into_iter(), seq);
        Ok(Step::Worked)
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
