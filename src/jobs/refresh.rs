//! The scheduler: queues the nodes whose policy makes them due.

use std::sync::Arc;
use std::time::Duration;

use activekg_storage::ids::{JobId, TenantId};
use activekg_storage::time::Clock;
use tokio::select;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::graph::{DueNodes, Error, Graph};
use crate::observability::metrics::{Metrics, ScheduleKind};
use crate::refresh::{REFRESH_CYCLE, RunLog};

/// Longest time between two cycles.
const PERIOD: Duration = Duration::from_secs(60);
/// Shortest time between two cycles: what comes due meanwhile is taken together.
const PAUSE: Duration = Duration::from_secs(1);
/// Nodes queued in one transaction.
const STEP: usize = 500;
/// Jobs that may wait for the embedder: what is due beyond stays due, for it would only wait
/// elsewhere, ahead of the nodes that callers write.
const PENDING_MAX: u64 = 5000;

/// Queues what is due, as long as it runs.
#[derive(Clone)]
pub struct Scheduler {
    graph: Graph,
    metrics: Arc<Metrics>,
    log: RunLog,
    clock: Arc<dyn Clock>,
}

impl Scheduler {
    /// A scheduler over the nodes of `graph`.
    pub fn new(graph: Graph, metrics: Arc<Metrics>, log: RunLog, clock: Arc<dyn Clock>) -> Self {
        log.expect(REFRESH_CYCLE);
        metrics.refresh.expect(REFRESH_CYCLE, ScheduleKind::Interval);
        Self { graph, metrics, log, clock }
    }

    /// Runs a cycle whenever nodes come due, and once in a minute otherwise, until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let wait = match self.turn().await {
                Ok(wait) => wait,
                Err(full @ Error::NoSpace { .. }) => {
                    warn!("nodes that are due wait: {full}");
                    PERIOD
                }
                Err(error) => {
                    error!("could not queue the nodes that are due: {error}");
                    if self.graph.store().fault().is_some() {
                        // Nothing can be queued until the process starts again.
                        stop.cancelled().await;
                        return;
                    }
                    PERIOD
                }
            };
            select! {
                () = stop.cancelled() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// One look; how long until the next.
    async fn turn(&self) -> Result<Duration, Error> {
        let now = self.clock.now();
        let due = self.graph.next_due().await?;
        let until_due = due.map_or(PERIOD, |due| due.since(now));
        if until_due.is_zero()
            || self.log.last(REFRESH_CYCLE).is_none_or(|last| now.since(last) >= PERIOD)
        {
            self.cycle().await?;
            return Ok(PAUSE);
        }
        Ok(until_due.clamp(PAUSE, PERIOD))
    }

    /// Queues everything that is due, and counts the run.
    async fn cycle(&self) -> Result<(), Error> {
        let since_last = self.log.ran(REFRESH_CYCLE, self.clock.now());
        self.metrics.refresh.scheduled(REFRESH_CYCLE, ScheduleKind::Interval, since_last);
        let queued = queue_due(&self.graph, None).await?.len();
        self.metrics.refresh.cycle(queued);
        if queued > 0 {
            info!(nodes = queued, "refresh cycle: nodes that were due are queued");
        }
        Ok(())
    }
}

/// Queues everything that is due, of one tenant or of all, as far as the embedder's queue has room;
/// the jobs.
///
/// # Errors
///
/// Those of [`Graph::refresh_due`]; what was queued before stays.
pub async fn queue_due(graph: &Graph, tenant: Option<TenantId>) -> Result<Vec<JobId>, Error> {
    let mut queued = Vec::new();
    while graph.embeddings_pending().await? < PENDING_MAX {
        let (DueNodes { found, jobs }, _) = graph.refresh_due(tenant.clone(), STEP).await?;
        queued.extend(jobs);
        if found < STEP {
            break;
        }
    }
    Ok(queued)
}
