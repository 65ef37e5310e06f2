//! Nodes, edges, events and history: everything that is written to and read from the graph.
//!
//! A write is one transaction that holds the record, its change-log entry and the jobs it
//! causes, so the three can never disagree. Every function over tenant data takes the tenant or
//! the [`View`] of the caller, and the store's keys begin with it.

mod ages;
mod anomalies;
mod change;
mod cosine;
mod counts;
mod coverage;
mod create;
mod delete;
mod delivery;
mod document;
mod due;
mod edge;
mod embedded;
mod event;
mod extraction;
mod fill;
mod fire;
mod history;
mod jobs;
mod lineage;
mod list;
mod listeners;
mod node;
mod pattern;
mod purge;
mod read;
mod refresh;
mod requeue;
mod row;
mod sample;
mod settle;
mod slots;
mod source;
mod space;
mod stats;
mod survey;
mod sweep;
pub mod text;
mod update;
mod upgrade;
mod view;
mod walk;

use std::sync::Arc;
use std::time::Duration;

use activekg_storage::ids::NodeId;
use activekg_storage::time::Clock;
use activekg_storage::{StorageError, Store};

use crate::embedding::Windows;

pub use ages::{Came, Kept};
pub use anomalies::{DriftSpike, SchedulerLag, TriggerStorm};
pub use change::ChangeError;
pub(crate) use counts::listed;
pub use counts::{WrongCounter, recount, wrong_counters};
pub use coverage::{Coverage, CoverageWalk};
pub use create::{Created, NewNode, NodeOutcome};
pub use delete::Erased;
pub use delivery::{Delivery, QUEUE as DELIVERY_QUEUE, delivery_item};
pub use document::{DocumentChange, NewChunk, NewDocument, Taken};
pub use edge::NewEdge;
pub use embedded::{Embedded, Embedding, NoText, QUEUE, Work};
pub use event::{Event, EventQuery};
pub use fill::{Fill, Missing, Todo};
pub use fire::{Checked, QUEUE as TRIGGER_QUEUE, Scope as CheckScope, check_item};
pub use history::HistoryEntry;
pub use jobs::{JOB_PURGED, job_came_at, job_item, jobs_purged, jobs_replayed};
pub use lineage::{Ancestor, MAX_DEPTH};
pub use list::{ListedNode, Listing, NodeFilter, Page};
pub use node::{DELETED_CLASS, Node, Object, Trigger};
pub use pattern::{MadeVector, NewPattern, PATTERNS_MAX, Pattern, StalePattern};
pub use purge::{Forget, GENESIS, PurgeCount, PurgeRun, PurgeStep, RECEIPTS_MAX, Receipt, digest};
pub use refresh::DueNodes;
pub use requeue::{REQUEUE_MAX, Requeue, Requeued};
pub use sample::SampledQuery;
pub use settle::MadeBy;
pub use source::{KnownDocument, is_deleted_by_hand};
pub use space::FreeSpace;
pub use stats::{EmbeddingStats, SanityStats, StatusCounts};
pub use survey::ClassCount;
pub use sweep::Sweep;
pub use update::NodeChanges;
pub use view::View;
pub use walk::{
    Along, Around, Direction, EdgeBetween, Expanded, Expansion, Leg, Neighbor, Neighbors, Path,
    Place, Reached, Subgraph, Way,
};

/// What the graph needs to know of the settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Whether new text is embedded without being asked.
    pub auto_embed: bool,
    /// Whether jobs are reported to the caller, who then does not wait for them.
    pub report_jobs: bool,
    /// Most jobs waiting in the embedding queue when jobs are reported; 0 = no limit.
    pub queue_max: u64,
    /// Most jobs of one tenant waiting when jobs are reported; 0 = no limit.
    pub tenant_max: u64,
    /// Whether structured props lead the embedded text of résumés and jobs.
    pub embedding_prefix: bool,
    /// Stamped into the props of every embedded node.
    pub extraction_version: String,
    /// What becomes of texts that are longer than the model reads.
    pub windows: Windows,
    /// Whether another program is told of triggers that fire.
    pub delivers: bool,
    /// How long soft-deleted nodes are kept that do not say it themselves.
    pub retention: Duration,
}

/// Without limits; jobs are reported, a text has one window, and what is deleted is kept for 30 days.
impl Default for Settings {
    fn default() -> Self {
        Self {
            auto_embed: true,
            report_jobs: true,
            queue_max: 0,
            tenant_max: 0,
            embedding_prefix: false,
            extraction_version: "1.0.0".to_owned(),
            windows: Windows::First,
            delivers: false,
            retention: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

/// The graph in the store.
#[derive(Clone)]
pub struct Graph {
    store: Arc<Store>,
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    space: Arc<FreeSpace>,
}

impl Graph {
    /// The graph kept in `store`.
    pub fn new(
        store: Arc<Store>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        space: FreeSpace,
    ) -> Self {
        Self { store, settings: Arc::new(settings), clock, space: Arc::new(space) }
    }

    /// The store the graph is kept in.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// The settings the graph was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Runs `work`, which reads the store, off the threads that serve connections.
    async fn reading<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&activekg_storage::ReadTx) -> Result<T, Error> + Send + 'static,
    {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || work(&store.read()?))
            .await
            .map_err(|_| Error::Interrupted)?
    }
}

/// Why the graph refused or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The node is not there, or not for this caller.
    #[error("Node not found")]
    NodeNotFound,
    /// The tenant already has a node of that external id.
    #[error("external_id already exists")]
    ExternalIdTaken {
        /// The node that has it.
        existing: NodeId,
    },
    /// The same edge is there already.
    #[error("Edge already exists")]
    EdgeExists,
    /// The tenant has no pattern of that name.
    #[error("Pattern not found: {0}")]
    PatternNotFound(String),
    /// The tenant has as many patterns as it may.
    #[error("Pattern limit reached ({PATTERNS_MAX}); delete one that is not needed")]
    TooManyPatterns,
    /// Too many jobs wait for the embedder.
    #[error("Embedding queue overloaded, please retry later")]
    QueueFull,
    /// Too many jobs of this tenant wait for the embedder.
    #[error("Tenant embedding queue limit exceeded, please retry later")]
    TenantQueueFull,
    /// The disk is nearly full.
    #[error("Insufficient storage at {path}: {free} bytes free, {needed} needed")]
    NoSpace {
        /// The data directory.
        path: String,
        /// Bytes free there.
        free: u64,
        /// Bytes that must stay free.
        needed: u64,
    },
    /// JSON in the store does not parse.
    #[error("stored JSON is damaged: {0}")]
    BadJson(String),
    /// The store failed.
    #[error(transparent)]
    Storage(StorageError),
    /// A background read was cut off by the shutdown.
    #[error("interrupted")]
    Interrupted,
}

impl From<StorageError> for Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Full { path, free, needed } => Self::NoSpace { path, free, needed },
            other => Self::Storage(other),
        }
    }
}

#[cfg(test)]
mod tests;
