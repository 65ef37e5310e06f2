//! Purge cycles: of one tenant or of all, on demand and by the clock.

use std::sync::Arc;
use std::time::{Duration, Instant};

use activekg_storage::ids::TenantId;
use activekg_storage::queue;
use activekg_storage::time::{Clock, UnixMicros};
use activekg_storage::{StorageError, WriteTx};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{Provider, change, queue as changes};
use crate::config;
use crate::documents::identity;
use crate::graph::{self, Graph, PurgeRun, PurgeStep};
use crate::observability::metrics::Metrics;

/// Deleted nodes that get another end of grace in one transaction.
const RETAINED_STEP: usize = 500;

/// Purges what was deleted. A clone is cheap.
#[derive(Clone)]
pub struct Purger {
    graph: Graph,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    settings: config::Purge,
    stopping: CancellationToken,
}

/// What is to be purged.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PurgeRequest {
    /// Of this tenant; of all if it is not given.
    pub tenant: Option<TenantId>,
    /// Most nodes of one transaction; as the settings say if it is not given.
    pub batch_size: Option<usize>,
    /// Only count.
    pub dry_run: bool,
    /// First count the grace of what is deleted already by the retention of now.
    pub apply_retention: bool,
}

/// What was purged, or would be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PurgeReport {
    /// Nodes that are no chunks.
    pub parents: u64,
    /// Chunks.
    pub chunks: u64,
    /// Edges that began or ended at one of them.
    pub edges: u64,
    /// Their former versions.
    pub versions: u64,
    /// Tenants that were gone through.
    pub tenants: u64,
    /// Nodes that got another end of grace.
    pub retained: u64,
    /// Deleted nodes whose end of grace cannot be told, and which stay.
    pub without_grace: u64,
}

/// Why a purge ended early. What was removed stays removed; the next one goes on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PurgeError {
    /// The graph failed.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// The server was told to stop.
    #[error("the server goes down; run it again")]
    Stopping,
    /// It was cut off.
    #[error("interrupted")]
    Interrupted,
}

impl Purger {
    /// A purger of `graph`. It ends early when `stopping` is cancelled.
    #[must_use]
    pub fn new(
        graph: Graph,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        settings: config::Purge,
        stopping: CancellationToken,
    ) -> Self {
        Self { graph, metrics, clock, settings, stopping }
    }

    /// Runs a purge cycle. It goes on when its caller is gone.
    ///
    /// # Errors
    ///
    /// [`PurgeError`]; what was removed before stays removed.
    pub async fn run(&self, request: PurgeRequest, actor: &str) -> Result<PurgeReport, PurgeError> {
        let (purger, actor) = (self.clone(), actor.to_owned());
        let ended = tokio::spawn(async move { purger.measured(&request, actor).await });
        ended.await.map_err(|_| PurgeError::Interrupted)?
    }

    async fn measured(
        &self,
        request: &PurgeRequest,
        actor: String,
    ) -> Result<PurgeReport, PurgeError> {
        let begun = Instant::now();
        let run = PurgeRun {
            id: Uuid::new_v4().to_string(),
            actor,
            now: self.clock.now(),
            batch_size: request.batch_size.unwrap_or(self.settings.batch_size).max(1),
            forget: forget_changes,
        };
        let tenant = request.tenant.as_ref().map_or("all tenants", TenantId::as_str);
        let dry_run = request.dry_run;
        info!(run = %run.id, dry_run, "purge cycle begins: {tenant}");
        let ended = self.cycle(request, &run).await;
        let took = begun.elapsed();
        self.metrics.connectors.purged(ended.is_ok(), took);
        match &ended {
            Ok(PurgeReport { parents, chunks, edges, versions, without_grace, .. }) => {
                if *without_grace > 0 {
                    warn!(
                        run = %run.id,
                        "purge cycle: {without_grace} deleted nodes have no readable deletion_grace_until and are never purged"
                    );
                }
                info!(
                    run = %run.id,
                    dry_run,
                    n_parents = parents,
                    n_chunks = chunks,
                    duration_ms = took.as_millis() as u64,
                    "purge cycle complete: {parents} parents, {chunks} chunks, {edges} edges, {versions} versions ({:.3} s)",
                    took.as_secs_f64()
                );
            }
            Err(failure) => error!(run = %run.id, "purge cycle failed: {failure}"),
        }
        ended
    }

    async fn cycle(
        &self,
        request: &PurgeRequest,
        run: &PurgeRun,
    ) -> Result<PurgeReport, PurgeError> {
        // Nodes of an older version that have no places yet would leave their chunks behind.
        while !self.graph.upgrade_nodes().await? {
            self.go_on()?;
        }
        let tenants = match &request.tenant {
            Some(tenant) => vec![tenant.clone()],
            None => self.graph.tenants().await?,
        };
        let mut report = PurgeReport::default();
        let mut first_failure = None;
        for tenant in &tenants {
            match self.cycle_of(tenant, request, run, &mut report).await {
                Ok(()) => report.tenants += 1,
                Err(PurgeError::Stopping) => return Err(PurgeError::Stopping),
                // What is wrong with one tenant's data is no reason to keep that of the others.
                Err(failure) => {
                    error!(run = %run.id, %tenant, "purge cycle: a tenant was left out: {failure}");
                    first_failure.get_or_insert(failure);
                }
            }
        }
        first_failure.map_or(Ok(report), Err)
    }

    async fn cycle_of(
        &self,
        tenant: &TenantId,
        request: &PurgeRequest,
        run: &PurgeRun,
        report: &mut PurgeReport,
    ) -> Result<(), PurgeError> {
        if request.dry_run {
            return self.count(tenant, run, request.apply_retention, report).await;
        }
        if request.apply_retention {
            report.retained += self.apply_retention(tenant).await?;
        }
        self.purge(tenant, run, report).await
    }

    async fn count(
        &self,
        tenant: &TenantId,
        run: &PurgeRun,
        apply_retention: bool,
        report: &mut PurgeReport,
    ) -> Result<(), PurgeError> {
        let retention = apply_retention.then_some(self.settings.retention);
        let count = self.graph.purge_count(tenant, run.now, retention).await?;
        report.parents += count.parents;
        report.chunks += count.chunks;
        report.edges += count.edges;
        report.versions += count.versions;
        report.without_grace += count.without_grace;
        Ok(())
    }

    async fn purge(
        &self,
        tenant: &TenantId,
        run: &PurgeRun,
        report: &mut PurgeReport,
    ) -> Result<(), PurgeError> {
        loop {
            self.go_on()?;
            let step = self.graph.purge_step(tenant, run).await?;
            let PurgeStep { parents, chunks, erased, done } = step;
            report.parents += parents;
            report.chunks += chunks;
            report.edges += erased.edges;
            report.versions += erased.versions;
            if parents + chunks > 0 {
                info!(run = %run.id, %tenant, "purge cycle: {} nodes removed", parents + chunks);
            }
            if done {
                report.without_grace += self.graph.without_grace(tenant).await?;
                return Ok(());
            }
        }
    }

    async fn apply_retention(&self, tenant: &TenantId) -> Result<u64, PurgeError> {
        let mut n = 0;
        for ids in self.graph.deleted_nodes(tenant).await?.chunks(RETAINED_STEP) {
            self.go_on()?;
            n += self.graph.apply_retention(tenant, self.settings.retention, ids).await?;
        }
        Ok(n)
    }

    fn go_on(&self) -> Result<(), PurgeError> {
        if self.stopping.is_cancelled() { Err(PurgeError::Stopping) } else { Ok(()) }
    }

    /// The retention of the settings.
    #[must_use]
    pub fn retention(&self) -> Duration {
        self.settings.retention
    }
}

/// Removes what waits in the queues of changes about a document of this name and is older than its
/// deletion; how many there were. A change that a worker has goes on.
fn forget_changes(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    external_id: &str,
    deleted_at: UnixMicros,
) -> Result<u64, StorageError> {
    let Some((provider, _)) = external_id.split_once(':') else { return Ok(0) };
    let Some(provider) = Provider::named(provider) else { return Ok(0) };
    let own = identity::external_id(provider.as_str(), tenant, "");
    let Some(rest) = external_id.strip_prefix(&own) else { return Ok(0) };
    let mut n = 0;
    for scheme in provider.schemes() {
        let (def, uri) = (changes::def(provider), format!("{scheme}{rest}"));
        let before = (deleted_at, change::came_at as queue::CameAt);
        n += u64::from(queue::remove_waiting(tx, def, tenant, &uri, before)?);
    }
    Ok(n)
}
