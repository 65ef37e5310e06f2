//! Keeps the gauges of embedding coverage and staleness up to date.

use std::sync::Arc;
use std::time::{Duration, Instant};

use activekg_storage::time::Clock;
use tokio::select;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::graph::{CoverageWalk, Error, Graph};
use crate::observability::metrics::Metrics;

/// Least time between two walks.
const PERIOD: Duration = Duration::from_secs(60);
/// A walk takes at most this share of the time.
const SHARE: u32 = 50;
/// Between two steps, so that a walk over a large store is hardly noticed.
const BREATH: Duration = Duration::from_millis(5);

/// Walks over all nodes now and then.
#[derive(Clone)]
pub struct CoverageGauges {
    graph: Graph,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
}

impl CoverageGauges {
    /// Gauges of `graph`.
    pub fn new(graph: Graph, metrics: Arc<Metrics>, clock: Arc<dyn Clock>) -> Self {
        Self { graph, metrics, clock }
    }

    /// Walks until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            let started = Instant::now();
            if let Err(error) = self.walk(&stop).await {
                error!("could not measure how much is embedded: {error}");
            }
            select! {
                () = stop.cancelled() => return,
                () = sleep(PERIOD.max(started.elapsed() * SHARE)) => {}
            }
        }
    }

    async fn walk(&self, stop: &CancellationToken) -> Result<(), Error> {
        let mut walk = CoverageWalk::default();
        while !walk.done {
            walk = self.graph.cover(walk).await?;
            select! {
                () = stop.cancelled() => return Ok(()),
                () = sleep(BREATH) => {}
            }
        }
        let now = self.clock.now();
        let (mut nodes, mut embedded) = (0, 0);
        for (tenant, found) in &walk.tenants {
            let staleness = found.oldest.map(|oldest| now.since(oldest).as_secs_f64());
            let coverage = share(found.embedded, found.nodes);
            self.metrics.embedding.tenant(tenant.as_str(), coverage, staleness);
            nodes += found.nodes;
            embedded += found.embedded;
        }
        if nodes > 0 {
            self.metrics.embedding.overall(share(embedded, nodes));
        }
        Ok(())
    }
}

fn share(part: u64, of: u64) -> f64 {
    part as f64 / of as f64
}
