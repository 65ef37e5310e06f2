//! The worker that checks what nodes listen for.

use std::sync::Arc;
use std::time::{Duration, Instant};

use activekg_storage::Store;
use activekg_storage::ids::TenantId;
use activekg_storage::time::Clock;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::worker::{Next, QueueWorker, work};
use crate::embedding::{Embedder, FixedEmbedder};
use crate::graph::{CheckScope, Checked, Error, Graph, MadeVector, TRIGGER_QUEUE};
use crate::observability::metrics::{Metrics, ScheduleKind, TriggerMode};
use crate::refresh::{RunLog, TRIGGER_CYCLE};

/// Checks made in one transaction.
const TAKE: usize = 32;
/// Patterns embedded at a time.
const PATTERNS: usize = 64;
/// Between two looks at whether the patterns have vectors of the model that serves.
const PERIOD: Duration = Duration::from_secs(120);

/// Makes the checks that are queued, and keeps the patterns' vectors those of the model that
/// serves.
#[derive(Clone)]
pub struct TriggerWorker {
    graph: Graph,
    embedder: Embedder,
    metrics: Arc<Metrics>,
    log: RunLog,
    clock: Arc<dyn Clock>,
}

impl TriggerWorker {
    /// A worker on the checks of `graph`.
    pub fn new(
        graph: Graph,
        embedder: Embedder,
        metrics: Arc<Metrics>,
        log: RunLog,
        clock: Arc<dyn Clock>,
    ) -> Self {
        log.expect(TRIGGER_CYCLE);
        metrics.refresh.expect(TRIGGER_CYCLE, ScheduleKind::Interval);
        Self { graph, embedder, metrics, log, clock }
    }

    /// Works until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        work(self, TRIGGER_QUEUE.name, stop).await;
    }

    /// Gives the patterns vectors of the model that serves; whether any got one.
    async fn embed_patterns(&self) -> Result<bool, Error> {
        // A change of the model waits meanwhile, so that the vectors are of the one that serves.
        let _job = self.embedder.begin_job().await;
        let embedder = self.embedder.fixed();
        let model = embedder.model().name.clone();
        let mut any = false;
        loop {
            let stale = self.graph.stale_patterns(model.clone(), PATTERNS).await?;
            if stale.is_empty() {
                return Ok(any);
            }
            let whole = stale.len() < PATTERNS;
            let texts = stale.iter().map(|pattern| pattern.example_text.clone()).collect();
            let Some(vectors) = vectors(&embedder, texts).await else { return Ok(any) };
            let made =
                vectors.into_iter().map(|values| MadeVector { model: model.clone(), values });
            self.graph.embed_patterns(stale.into_iter().zip(made).collect()).await?;
            if whole {
                return Ok(true);
            }
            any = true;
        }
    }
}

impl QueueWorker for TriggerWorker {
    type Error = Error;

    fn store(&self) -> &Store {
        self.graph.store()
    }

    /// Looks after the patterns if it is time to, and makes the next checks.
    async fn step(&self) -> Result<Next, Error> {
        let now = self.clock.now();
        let last = self.log.last(TRIGGER_CYCLE);
        if last.is_none_or(|last| now.since(last) >= PERIOD) {
            let since_last = self.log.ran(TRIGGER_CYCLE, now);
            self.metrics.refresh.scheduled(TRIGGER_CYCLE, ScheduleKind::Interval, since_last);
            self.embed_patterns().await?;
        }
        let started = Instant::now();
        let Checked { made, fired, waiting } = self.graph.check_triggers(TAKE).await?;
        for scope in [CheckScope::Node, CheckScope::Pattern] {
            if made.contains(&scope) {
                self.metrics.triggers.ran(mode(scope), started.elapsed());
            }
        }
        for (pattern, scope) in &fired {
            self.metrics.triggers.fired(pattern, mode(*scope));
        }
        if waiting && !self.embed_patterns().await? {
            return Ok(Next::Paused);
        }
        if !made.is_empty() {
            return Ok(Next::Now);
        }
        let due = self.graph.next_check_in().await?;
        Ok(Next::Idle(due.map_or(PERIOD, |due| due.min(PERIOD))))
    }
}

async fn vectors(embedder: &FixedEmbedder, texts: Vec<String>) -> Option<Vec<Vec<f32>>> {
    match embedder.batch(&TenantId::shared(), texts).await {
        Ok(vectors) => Some(vectors),
        Err(error) => {
            warn!("patterns could not be embedded, their triggers wait: {error}");
            None
        }
    }
}

fn mode(scope: CheckScope) -> TriggerMode {
    match scope {
        CheckScope::Node => TriggerMode::Targeted,
        CheckScope::Pattern => TriggerMode::Full,
    }
}
