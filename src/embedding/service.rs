//! One embedder for all callers, wherever its model computes.

use std::sync::Arc;

use activekg_storage::ids::TenantId;
use activekg_storage::tables::graph::Slot;
use activekg_storage::{StorageError, Store};
use arc_swap::ArcSwap;
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::batcher::{self, EmbedderOptions};
use super::encoder::Encoder;
use super::remote::{Provider, Remote};
use super::stats::EmbedderStats;
use super::{EmbedError, ModelInfo};

/// A handle on the embedder that searches work with; clones share it, and a change of the model
/// reaches them all.
#[derive(Clone)]
pub struct Embedder {
    shared: Arc<Shared>,
}

struct Shared {
    current: ArcSwap<FixedEmbedder>,
    /// Held by jobs, of which each reads and writes vectors of one model.
    jobs: RwLock<()>,
}

/// An embedder of one model, with the place of its vectors. Clones share it.
#[derive(Clone)]
pub struct FixedEmbedder {
    engine: Engine,
    slot: Slot,
}

/// Where the vectors come from.
#[derive(Clone)]
enum Engine {
    /// A model in this process, on its own threads.
    Local(batcher::Embedder),
    /// A service.
    Remote(Remote),
}

impl From<FixedEmbedder> for Embedder {
    fn from(embedder: FixedEmbedder) -> Self {
        let current = ArcSwap::from_pointee(embedder);
        Self { shared: Arc::new(Shared { current, jobs: RwLock::default() }) }
    }
}

impl Embedder {
    /// Starts the threads of a model in this process, whose vectors are in the first slot.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Stopped`] if the system gives no threads.
    pub fn start(encoder: Encoder, options: EmbedderOptions) -> Result<Self, EmbedError> {
        Ok(FixedEmbedder::start(encoder, options, Slot::default())?.into())
    }

    /// The embedder of now: for callers whose vectors must be of one model.
    pub fn fixed(&self) -> Arc<FixedEmbedder> {
        self.shared.current.load_full()
    }

    /// Waits while jobs are held, and holds up whoever wants to hold them until this is dropped.
    pub async fn begin_job(&self) -> RwLockReadGuard<'_, ()> {
        self.shared.jobs.read().await
    }

    /// Waits until the jobs that are under way have ended, and lets none begin until this is
    /// dropped.
    pub async fn hold_jobs(&self) -> RwLockWriteGuard<'_, ()> {
        self.shared.jobs.write().await
    }

    /// Works with `embedder` from here on. Calls that are under way end with the one before.
    pub fn change_to(&self, embedder: FixedEmbedder) {
        self.shared.current.store(Arc::new(embedder));
    }

    /// As [`FixedEmbedder::query`].
    ///
    /// # Errors
    ///
    /// As there.
    pub async fn query(&self, text: &str) -> Result<Arc<[f32]>, EmbedError> {
        self.fixed().query(text).await
    }

    /// Counts since the model was started, for metrics.
    pub fn stats(&self) -> EmbedderStats {
        self.fixed().stats()
    }

    /// As [`FixedEmbedder::stop`].
    pub fn stop(&self) {
        self.fixed().stop();
    }
}

impl FixedEmbedder {
    /// Starts the threads of a model in this process, whose vectors are in `slot`.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Stopped`] if the system gives no threads.
    pub fn start(
        encoder: Encoder,
        options: EmbedderOptions,
        slot: Slot,
    ) -> Result<Self, EmbedError> {
        let engine = Engine::Local(batcher::Embedder::start(encoder, options)?);
        Ok(Self { engine, slot })
    }

    /// Takes the vectors, which are kept in `slot`, from a service.
    pub fn remote(provider: Provider, options: EmbedderOptions, slot: Slot) -> Self {
        Self { engine: Engine::Remote(Remote::new(provider, options)), slot }
    }

    /// Has a service's tokens of the day kept in `store`, so that they outlast the process. Blocks
    /// for one read.
    ///
    /// # Errors
    ///
    /// When the store cannot be read; the count is in memory alone then.
    pub fn keep_budget_in(&self, store: Arc<Store>) -> Result<(), StorageError> {
        match &self.engine {
            Engine::Local(_) => Ok(()),
            Engine::Remote(remote) => remote.keep_in(store),
        }
    }

    /// The vector of a query: from memory, or else made ahead of all batch work.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Busy`] at once if too many queries wait already; what the model or its
    /// service reports.
    pub async fn query(&self, text: &str) -> Result<Arc<[f32]>, EmbedError> {
        match &self.engine {
            Engine::Local(local) => local.query(text).await,
            Engine::Remote(remote) => remote.query(text).await,
        }
    }

    /// The vectors of a job's texts, in their order. Otherwise as [`FixedEmbedder::each`].
    ///
    /// # Errors
    ///
    /// The failure of the first text that has none, once all are settled.
    pub async fn batch(
        &self,
        tenant: &TenantId,
        texts: Vec<String>,
    ) -> Result<Vec<Vec<f32>>, EmbedError> {
        match &self.engine {
            Engine::Local(local) => local.batch(tenant, texts).await,
            Engine::Remote(remote) => remote.each(texts).await.into_iter().collect(),
        }
    }

    /// For each of a job's texts, in their order, its vector or why it has none. Waits for its
    /// turn; dropping the future gives up the texts that are not sent or computed yet.
    pub async fn each(
        &self,
        tenant: &TenantId,
        texts: Vec<String>,
    ) -> Vec<Result<Vec<f32>, EmbedError>> {
        match &self.engine {
            Engine::Local(local) => local.each(tenant, texts).await,
            Engine::Remote(remote) => remote.each(texts).await,
        }
    }

    /// The parts of `text` beyond what the model reads, as [`Encoder::further_windows`] gives them;
    /// none for a service, which cuts texts where only it knows. Blocks.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Failed`] if the text cannot be split.
    pub fn further_windows(&self, text: &str) -> Result<Vec<String>, EmbedError> {
        match &self.engine {
            Engine::Local(local) => local.further_windows(text),
            Engine::Remote(_) => Ok(Vec::new()),
        }
    }

    /// Word pieces that the model reads of `texts`, all together; none for a service, which alone
    /// knows its own. Blocks.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Failed`] if a text cannot be split.
    pub fn count_tokens(&self, texts: &[String]) -> Result<Option<usize>, EmbedError> {
        match &self.engine {
            Engine::Local(local) => local.count_tokens(texts).map(Some),
            Engine::Remote(_) => Ok(None),
        }
    }

    /// What the vectors are.
    pub fn model(&self) -> &ModelInfo {
        match &self.engine {
            Engine::Local(local) => local.model(),
            Engine::Remote(remote) => remote.model(),
        }
    }

    /// Where the vectors are kept.
    pub fn slot(&self) -> Slot {
        self.slot
    }

    /// Counts since the start, for metrics.
    pub fn stats(&self) -> EmbedderStats {
        match &self.engine {
            Engine::Local(local) => local.stats(),
            Engine::Remote(remote) => remote.stats(),
        }
    }

    /// Ends the work after what is at hand. What waits, and every later call, gets
    /// [`EmbedError::Stopped`].
    pub fn stop(&self) {
        match &self.engine {
            Engine::Local(local) => local.stop(),
            Engine::Remote(remote) => remote.stop(),
        }
    }
}
