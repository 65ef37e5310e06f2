//! What requests are answered with.

use std::sync::Arc;
use std::time::Instant;

use activekg_storage::time::Clock;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::ask::Ask;
use crate::auth::Authenticator;
use crate::backup::Backups;
use crate::config::Config;
use crate::connectors::{Connectors, Feed, Policy, Purger, SourceParts, Webhooks};
use crate::documents::Intake;
use crate::embedding::Embedder;
use crate::graph::Graph;
use crate::jobs::Crew;
use crate::models::ModelChanges;
use crate::observability::metrics::Metrics;
use crate::queues::Queues;
use crate::refresh::RunLog;
use crate::search::{Search, State, VectorIndexes};
use crate::writes::Writes;

/// The parts of the program that requests use. A clone is cheap.
#[derive(Clone)]
pub struct App {
    /// The settings.
    pub config: Arc<Config>,
    /// The graph, for reads and for writes that cause no job.
    pub graph: Graph,
    /// The graph, for writes that are waited for.
    pub writes: Writes,
    /// The graph, for files.
    pub intake: Intake,
    /// Search.
    pub search: Search,
    /// The indexes that searches by meaning go through.
    pub vector_indexes: VectorIndexes,
    /// Answers.
    pub ask: Ask,
    /// Text to vectors.
    pub embedder: Embedder,
    /// Changes of the model behind that.
    pub models: ModelChanges,
    /// Who a token is.
    pub authenticator: Arc<Authenticator>,
    /// Connectors.
    pub connectors: Connectors,
    /// What the sources of connectors are read with.
    pub sources: SourceParts,
    /// What sources tell of themselves.
    pub webhooks: Webhooks,
    /// What they bring in when they are told to.
    pub feed: Feed,
    /// The workers that bring it in.
    pub connector_workers: Crew,
    /// What connectors may lead to.
    pub connector_policy: Arc<Policy>,
    /// Purges of what was deleted.
    pub purger: Purger,
    /// Backups of the store.
    pub backups: Backups,
    /// The queues, for those who look after them.
    pub queues: Queues,
    /// When scheduled jobs ran last.
    pub runs: RunLog,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// When the process started.
    pub started: Instant,
    /// One check of the store at a time.
    pub checking: Arc<Semaphore>,
    /// Cancelled when the process goes down.
    pub stopping: CancellationToken,
}

impl App {
    /// What stands in the way of serving as promised; empty = ready.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        if self.stopping.is_cancelled() {
            problems.push("stopping".to_owned());
        }
        if let Some(fault) = self.graph.store().fault() {
            problems.push(format!("degraded: no writes are taken: {fault}"));
        }
        match self.search.freshness().state() {
            State::Following => {}
            State::Rebuilding { done, total } => {
                problems.push(format!("indexes are being rebuilt: {done} of {total} nodes"));
            }
            State::Failing(_) => problems.push("indexes refuse changes".to_owned()),
        }
        problems.extend(self.authenticator.problem());
        problems
    }
}
