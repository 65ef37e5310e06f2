//! One embedder for all callers, wherever its model computes.

use std::sync::Arc;

use activekg_storage::ids::TenantId;

use super::batcher::{self, EmbedderOptions};
use super::encoder::Encoder;
use super::remote::{Provider, Remote};
use super::stats::EmbedderStats;
use super::{EmbedError, ModelInfo};

/// A handle on the embedder; clones share it.
#[derive(Clone)]
pub struct Embedder {
    engine: Engine,
}

/// Where the vectors come from.
#[derive(Clone)]
enum Engine {
    /// A model in this process, on its own threads.
    Local(batcher::Embedder),
    /// A service.
    Remote(Remote),
}

impl Embedder {
    /// Starts the threads of a model in this process.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Stopped`] if the system gives no threads.
    pub fn start(encoder: Encoder, options: EmbedderOptions) -> Result<Self, EmbedError> {
        let engine = Engine::Local(batcher::Embedder::start(encoder, options)?);
        Ok(Self { engine })
    }

    /// Takes the vectors from a service.
    pub fn remote(provider: Provider, options: EmbedderOptions) -> Self {
        Self { engine: Engine::Remote(Remote::new(provider, options)) }
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

    /// The vectors of a job's texts, in their order. Otherwise as [`Embedder::each`].
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

    /// What the vectors are.
    pub fn model(&self) -> &ModelInfo {
        match &self.engine {
            Engine::Local(local) => local.model(),
            Engine::Remote(remote) => remote.model(),
        }
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
