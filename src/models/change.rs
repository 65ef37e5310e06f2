//! Changing the embedding model under a running server.
//!
//! The new model is loaded beside the one that serves, and every node gets a vector of it in the
//! other slot. Searches go on with the old one until the switch exchanges both; until one of them
//! is dropped the other is kept up to date, so the way back is as short.

mod error;
mod status;
mod work;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use activekg_index::VectorOptions;
use activekg_storage::tables::graph::Slot;
use activekg_storage::tables::models::ModelRecord;
use activekg_storage::time::Clock;
use anyhow::Context as _;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tracing::info;

use super::{Library, open};
use crate::config::{self, ModelChoice};
use crate::embedding::{Embedder, FixedEmbedder, ModelInfo};
use crate::graph::{self, Graph};
use crate::observability::metrics::UpstreamMetrics;
use crate::search::Indexes;

pub use error::Error;
pub use status::{ChangeStatus, Phase, Served, Status};

/// Between two looks for nodes whose text has changed.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// How long a switch waits for the last vectors, while no job begins.
const SWITCH_WAIT: Duration = Duration::from_secs(30);

/// What changes are made of.
pub struct Parts {
    /// The nodes and their vectors.
    pub graph: Graph,
    /// The embedder that serves.
    pub embedder: Embedder,
    /// The indexes that are searched.
    pub indexes: Arc<Indexes>,
    /// How vectors are indexed; the dimension is the model's.
    pub vectors: VectorOptions,
    /// The settings of the model that serves.
    pub settings: config::Embedding,
    /// Models that go by their name.
    pub library: Library,
    /// Counts the calls of services.
    pub upstream: UpstreamMetrics,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Whether this process embeds.
    pub works: bool,
}

/// Changes of the embedding model. A clone is cheap.
#[derive(Clone)]
pub struct ModelChanges {
    parts: Arc<Parts>,
    shared: Arc<Shared>,
}

struct Shared {
    /// The settings of the model that serves now.
    serving: Mutex<config::Embedding>,
    /// The model that does not, once it is loaded.
    other: Mutex<Option<Other>>,
    /// What keeps the change from going on.
    problem: Mutex<Option<String>>,
    /// One act at a time.
    acting: tokio::sync::Mutex<()>,
    wake: Notify,
}

/// The model that does not serve.
#[derive(Clone)]
struct Other {
    embedder: FixedEmbedder,
    settings: config::Embedding,
}

impl ModelChanges {
    /// Changes of the model that serves.
    pub fn new(parts: Parts) -> Self {
        let shared = Arc::new(Shared {
            serving: Mutex::new(parts.settings.clone()),
            other: Mutex::default(),
            problem: Mutex::default(),
            acting: tokio::sync::Mutex::default(),
            wake: Notify::new(),
        });
        Self { parts: Arc::new(parts), shared }
    }

    /// Loads the chosen model and begins to make its vectors.
    ///
    /// # Errors
    ///
    /// [`Error::Choice`], [`Error::Unusable`]; [`Error::Change`] while a change is under way or if
    /// the model serves already.
    pub async fn begin(&self, choice: &ModelChoice, actor: &str) -> Result<Status, Error> {
        if !self.parts.works {
            return Err(Error::NoWorker);
        }
        let _acting = self.shared.acting.lock().await;
        let graph = &self.parts.graph;
        let models = graph.models().await?;
        if let Some(change) = models.as_ref().and_then(|models| models.change.as_ref()) {
            return Err(graph::ChangeError::UnderWay(change.other.name.clone()).into());
        }
        let settings = lock(&self.shared.serving).with_model(choice)?;
        let slot = self.parts.embedder.fixed().slot().other();
        let embedder = self.load(&settings, slot).await.map_err(Error::Unusable)?;
        let serving = {
            let fixed = self.parts.embedder.fixed();
            record_of(&lock(&self.shared.serving), fixed.model())
        };
        let other = record_of(&settings, embedder.model());
        if serving.name == other.name && serving.dim == other.dim {
            return Err(graph::ChangeError::Same(other.name).into());
        }
        let (indexes, options) = (self.parts.indexes.clone(), self.vector_options(&other));
        let opened = tokio::task::spawn_blocking(move || indexes.open_slot(slot, options)).await;
        opened.map_err(|_| Error::Interrupted)??;
        if let Err(error) = graph.begin_change(serving, other.clone(), actor).await {
            self.close(slot).await?;
            return Err(error.into());
        }
        info!(model = other.setting, "the embedding model is being changed");
        *lock(&self.shared.problem) = None;
        *lock(&self.shared.other) = Some(Other { embedder, settings });
        self.shared.wake.notify_one();
        self.status().await
    }

    /// Has searches go over to the other model: to the new one, or `back` to the old one. Waits
    /// for the last vectors; no job begins meanwhile, and no search waits.
    ///
    /// # Errors
    ///
    /// [`Error::Change`] if vectors are missing, or there is nothing to switch.
    pub async fn switch(
        &self,
        back: bool,
        accept_missing: bool,
        actor: &str,
    ) -> Result<Status, Error> {
        let _acting = self.shared.acting.lock().await;
        let other = self.loaded()?;
        let _held = self.parts.embedder.hold_jobs().await;
        let until = Instant::now() + SWITCH_WAIT;
        loop {
            let switched = self.parts.graph.switch_models(back, accept_missing, actor).await;
            match switched {
                Ok(()) => break,
                Err(graph::ChangeError::Behind { behind, failed, filled: true, .. })
                    if behind > failed && Instant::now() < until =>
                {
                    self.shared.wake.notify_one();
                    sleep(LOOK_EVERY / 4).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        self.exchange(other);
        self.status().await
    }

    /// Has `other` serve from here on, and what served before be the other.
    fn exchange(&self, other: Other) {
        let Other { embedder, settings } = other;
        let before = self.parts.embedder.fixed();
        self.parts.embedder.change_to(embedder);
        info!(model = settings.model, "searches work with this embedding model now");
        let settings = std::mem::replace(&mut *lock(&self.shared.serving), settings);
        let before = Other { embedder: FixedEmbedder::clone(&before), settings };
        *lock(&self.shared.other) = Some(before);
    }

    /// Gives up the model that does not serve, and removes its vectors in the background.
    ///
    /// # Errors
    ///
    /// [`Error::Change`] if no change is under way.
    pub async fn drop_other(&self, actor: &str) -> Result<Status, Error> {
        let _acting = self.shared.acting.lock().await;
        self.parts.graph.drop_other_model(actor).await?;
        self.shared.wake.notify_one();
        self.status().await
    }

    /// Both models: the one that serves and the other.
    pub(super) fn both(&self) -> Result<(Arc<FixedEmbedder>, FixedEmbedder), Error> {
        Ok((self.parts.embedder.fixed(), self.loaded()?.embedder))
    }

    pub(super) fn parts(&self) -> &Parts {
        &self.parts
    }

    fn loaded(&self) -> Result<Other, Error> {
        let other = lock(&self.shared.other).clone();
        other.ok_or_else(|| match lock(&self.shared.problem).clone() {
            Some(problem) => Error::NotLoaded(problem),
            None => Error::Change(graph::ChangeError::None),
        })
    }

    fn vector_options(&self, model: &ModelRecord) -> VectorOptions {
        VectorOptions { dim: model.dim as usize, ..self.parts.vectors }
    }

    async fn load(
        &self,
        settings: &config::Embedding,
        slot: Slot,
    ) -> Result<FixedEmbedder, String> {
        let Parts { library, upstream, clock, .. } = &*self.parts;
        let prepared = open::prepare(settings, library, upstream, clock).await;
        let started = match prepared {
            Ok(prepared) => prepared.start(open::options(settings), slot).await,
            Err(error) => Err(error),
        };
        let store = self.parts.graph.store();
        let started = started.and_then(|embedder| {
            embedder.keep_budget_in(store.clone()).context("read the tokens of the day")?;
            Ok(embedder)
        });
        started.map_err(|error| format!("{error:#}"))
    }

    async fn close(&self, slot: Slot) -> Result<(), Error> {
        let indexes = self.parts.indexes.clone();
        let closed = tokio::task::spawn_blocking(move || indexes.close_slot(slot)).await;
        Ok(closed.map_err(|_| Error::Interrupted)??)
    }
}

/// What the store keeps of a model.
fn record_of(settings: &config::Embedding, model: &ModelInfo) -> ModelRecord {
    let ModelChoice { backend, model: setting, base_url, dimensions } = settings.choice();
    let ModelInfo { name, dim, max_tokens: _ } = model.clone();
    let dim = u32::try_from(dim).unwrap_or(u32::MAX);
    ModelRecord { backend, setting, base_url, dimensions, name, dim }
}

/// The settings by which the store knows a model.
pub(crate) fn choice_of(model: &ModelRecord) -> ModelChoice {
    let ModelRecord { backend, setting, base_url, dimensions, name: _, dim: _ } = model.clone();
    ModelChoice { backend, model: setting, base_url, dimensions }
}

/// Whether the settings name this model.
pub(crate) fn named_by(model: &ModelRecord, settings: &config::Embedding) -> bool {
    let ModelChoice { backend, model: setting, base_url: _, dimensions } = settings.choice();
    model.backend == backend && model.setting == setting && model.dimensions == dimensions
}

/// Locks, whether or not a thread has panicked while it held the lock: what these locks guard is
/// whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
