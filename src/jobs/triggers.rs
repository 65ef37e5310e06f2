//! The worker that checks what nodes listen for.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use activekg_storage::ids::TenantId;
use activekg_storage::time::Clock;
use tokio::select;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

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
/// Pause after something failed.
const PAUSE: Duration = Duration::from_secs(1);

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
        Self { graph, embedder, metrics, log, clock }
    }

    /// Works until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let queued = self.graph.store().enqueued(TRIGGER_QUEUE.name);
        while !stop.is_cancelled() {
            let mut woken = pin!(queued.notified());
            woken.as_mut().enable(); // an enqueue between look and wait is not missed
            let idle = match self.step().await {
                Ok(idle) => idle,
                Err(error) => {
                    error!("could not check triggers: {error}");
                    if self.graph.store().fault().is_some() {
                        // Nothing can be written until the process starts again.
                        stop.cancelled().await;
                        return;
                    }
                    select! {
                        () = stop.cancelled() => {}
                        () = sleep(PAUSE) => {}
                    }
                    continue;
                }
            };
            if let Some(idle) = idle {
                select! {
                    () = stop.cancelled() => {}
                    () = woken => {}
                    () = sleep(idle) => {}
                }
            }
        }
    }

    /// Looks after the patterns if it is time to, and makes the next checks; how long there is
    /// nothing to do unless an enqueue says so.
    async fn step(&self) -> Result<Option<Duration>, Error> {
        let now = self.clock.now();
        let last = self.log.latest().get(TRIGGER_CYCLE).copied();
        if last.is_none_or(|last| now.since(last) >= PERIOD) {
            let since_last = self.log.ran(TRIGGER_CYCLE, now);
            self.metrics.refresh.scheduled(TRIGGER_CYCLE, ScheduleKind::Interval, since_last);
            self.embed_patterns().await?;
        }
        let started = Instant::now();
        let Checked { made, fired, waiting } = self.graph.check_triggers(TAKE).await?;
        for scope in &made {
            self.metrics.triggers.ran(mode(*scope), started.elapsed());
        }
        for (pattern, scope) in &fired {
            self.metrics.triggers.fired(pattern, mode(*scope));
        }
        if waiting && !self.embed_patterns().await? {
            return Ok(Some(PAUSE));
        }
        if !made.is_empty() {
            return Ok(None);
        }
        let due = self.graph.next_check_in().await?;
        Ok(Some(due.map_or(PERIOD, |due| due.min(PERIOD))))
    }

    /// Gives the patterns vectors of the model that serves; whether all have one.
    async fn embed_patterns(&self) -> Result<bool, Error> {
        // A change of the model waits meanwhile, so that the vectors are of the one that serves.
        let _job = self.embedder.begin_job().await;
        let embedder = self.embedder.fixed();
        let model = embedder.model().name.clone();
        loop {
            let stale = self.graph.stale_patterns(model.clone(), PATTERNS).await?;
            if stale.is_empty() {
                return Ok(true);
            }
            let whole = stale.len() < PATTERNS;
            let texts = stale.iter().map(|pattern| pattern.example_text.clone()).collect();
            let Some(vectors) = vectors(&embedder, texts).await else { return Ok(false) };
            let made =
                vectors.into_iter().map(|values| MadeVector { model: model.clone(), values });
            self.graph.embed_patterns(stale.into_iter().zip(made).collect()).await?;
            if whole {
                return Ok(true);
            }
        }
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
