//! Changing the embedding model under a running server.
//!
//! The new model is loaded beside the one that serves, and every node gets a vector of it in the
//! other slot. Searches go on with the old one until the switch exchanges both; until one of them
//! is dropped the other is kept up to date, so the way back is as short.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use activekg_index::{IndexError, VectorOptions};
use activekg_storage::ids::TenantId;
use activekg_storage::tables::graph::Slot;
use activekg_storage::tables::models::{self as tables, ChangeRecord, ModelRecord, ModelsRecord};
use activekg_storage::time::{Clock, UnixMicros};
use futures_util::future::join_all;
use tokio::select;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use super::{Library, open};
use crate::config::{self, ConfigError, ModelChoice};
use crate::embedding::{Embedder, FixedEmbedder, ModelInfo};
use crate::graph::{self, Fill, Graph, MadeBy, Missing, Todo};
use crate::observability::metrics::UpstreamMetrics;
use crate::search::Indexes;

/// Texts embedded at a time.
const BATCH: usize = 64;
/// Between two looks for nodes whose text has changed.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Between two looks while no change is under way; an act ends it.
const IDLE: Duration = Duration::from_secs(60);
/// Pause after the model, the store or the index failed; it doubles.
const PAUSE: Duration = Duration::from_secs(1);
/// Longest of these.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// Batches of which all texts failed, one after the other, after which it is taken to be the
/// texts' fault.
const FAILURES_MAX: u32 = 4;
/// How long a switch waits for the last vectors, while no job begins.
const SWITCH_WAIT: Duration = Duration::from_secs(30);

/// Why the model could not be changed as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings of the new model are wrong.
    #[error(transparent)]
    Choice(#[from] ConfigError),
    /// The new model cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// The change does not allow it.
    #[error(transparent)]
    Change(#[from] graph::ChangeError),
    /// The index of the new vectors could not be made.
    #[error("index unavailable: {0}")]
    Index(#[from] IndexError),
    /// This process embeds nothing.
    #[error("no embedding worker runs in this process (RUN_EMBEDDING_WORKER)")]
    NoWorker,
    /// The other model is not loaded.
    #[error("the other model is not loaded: {0}")]
    NotLoaded(String),
    /// What was asked for is not to be had.
    #[error("{0}")]
    Asked(String),
    /// A query could not be embedded.
    #[error("could not embed a query: {0}")]
    Embedding(#[from] crate::embedding::EmbedError),
    /// A background task was cut off by the shutdown.
    #[error("interrupted")]
    Interrupted,
}

impl From<graph::Error> for Error {
    fn from(error: graph::Error) -> Self {
        Self::Change(error.into())
    }
}

/// A model, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The embedder.
    pub backend: String,
    /// Its model, as typed.
    pub model: String,
    /// The name its vectors carry.
    pub name: String,
    /// Numbers in a vector.
    pub dim: usize,
}

/// How far a change is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The new model's vectors are being made.
    Filling,
    /// They are all there, and the old model serves.
    Ready,
    /// The new model serves, and the old one's vectors are kept up to date.
    Switched,
    /// The vectors of the model that does not serve are being removed.
    Dropping,
}

impl Phase {
    /// Its name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filling => "filling",
            Self::Ready => "ready",
            Self::Switched => "switched",
            Self::Dropping => "dropping",
        }
    }
}

/// A change that is under way.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeStatus {
    /// The model that does not serve: the one to come, or after the switch the one before.
    pub other: Served,
    /// How far it is.
    pub phase: Phase,
    /// Nodes looked at.
    pub checked: u64,
    /// Nodes there are, soft-deleted ones left out.
    pub nodes: u64,
    /// Vectors made.
    pub embedded: u64,
    /// Nodes whose text has changed since and that wait for their vector.
    pub behind: u64,
    /// Those of them that failed so often that a switch may leave them out.
    pub failed: u64,
    /// When it was begun.
    pub started_at: UnixMicros,
    /// When all nodes had been looked at.
    pub filled_at: Option<UnixMicros>,
    /// When the models were exchanged, the latest time.
    pub switched_at: Option<UnixMicros>,
    /// What keeps it from going on.
    pub problem: Option<String>,
}

/// Which model serves, and the change if there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The model that searches work with.
    pub serving: Served,
    /// The change.
    pub change: Option<ChangeStatus>,
}

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

/// What looking for work came to.
enum Step {
    Worked,
    Idle(Duration),
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

    /// Which model serves, and how far a change is.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn status(&self) -> Result<Status, Error> {
        let models = self.parts.graph.models().await?;
        let change = match models.and_then(|models| models.change) {
            Some(change) => Some(self.change_status(change).await?),
            None => None,
        };
        Ok(Status { serving: self.serving(), change })
    }

    /// The model that searches work with.
    pub fn serving(&self) -> Served {
        served(&record_of(&lock(&self.shared.serving), self.parts.embedder.fixed().model()))
    }

    async fn change_status(&self, change: ChangeRecord) -> Result<ChangeStatus, Error> {
        let (behind, failed) = self.parts.graph.behind().await?;
        let phase = match change.phase {
            tables::Phase::Filling if change.filled_at.is_some() && behind == 0 => Phase::Ready,
            tables::Phase::Filling => Phase::Filling,
            tables::Phase::Switched => Phase::Switched,
            tables::Phase::Dropping => Phase::Dropping,
        };
        Ok(ChangeStatus {
            other: served(&change.other),
            phase,
            checked: change.checked,
            nodes: self.parts.graph.listed().await?,
            embedded: change.embedded,
            behind,
            failed,
            started_at: change.started_at,
            filled_at: change.filled_at,
            switched_at: change.switched_at,
            problem: lock(&self.shared.problem).clone(),
        })
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
        started.map_err(|error| format!("{error:#}"))
    }

    async fn close(&self, slot: Slot) -> Result<(), Error> {
        let indexes = self.parts.indexes.clone();
        let closed = tokio::task::spawn_blocking(move || indexes.close_slot(slot)).await;
        Ok(closed.map_err(|_| Error::Interrupted)??)
    }

    /// Does what a change wants done until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = PAUSE;
        let mut failures = 0;
        while !stop.is_cancelled() {
            let mut woken = pin!(self.shared.wake.notified());
            woken.as_mut().enable(); // an act between look and wait is not missed
            let wait = match self.step(&mut failures).await {
                Ok(Step::Worked) => {
                    pause = PAUSE;
                    continue;
                }
                Ok(Step::Idle(wait)) => {
                    pause = PAUSE;
                    wait
                }
                Err(problem) => {
                    warn!("the change of the embedding model waits: {problem}");
                    *lock(&self.shared.problem) = Some(problem);
                    if self.parts.graph.store().fault().is_some() {
                        // Nothing can be written until the process starts again.
                        stop.cancelled().await;
                        return;
                    }
                    let wait = pause;
                    pause = (pause * 2).min(PAUSE_MAX);
                    wait
                }
            };
            select! {
                () = stop.cancelled() => {}
                () = woken => {}
                () = sleep(wait) => {}
            }
        }
    }

    async fn step(&self, failures: &mut u32) -> Result<Step, String> {
        let graph = &self.parts.graph;
        let models = graph.models().await.map_err(|error| error.to_string())?;
        let Some(ModelsRecord { slot, change: Some(change), .. }) = models else {
            return Ok(Step::Idle(IDLE));
        };
        if change.phase == tables::Phase::Dropping {
            return self.remove_other(slot.other()).await;
        }
        let Some(other) = self.other_of(&change, slot.other()).await? else {
            return Ok(Step::Idle(LOOK_EVERY));
        };
        let todo = graph.missing_vectors(BATCH).await.map_err(|error| error.to_string())?;
        let Some(mut todo) = todo.filter(|todo| !todo.is_empty()) else {
            return Ok(Step::Idle(LOOK_EVERY));
        };
        let fill = embed(&other.embedder, &mut todo).await;
        let first = fill.iter().find_map(|(_, vector)| vector.as_ref().err());
        let all_failed = !fill.is_empty() && fill.iter().all(|(_, vector)| vector.is_err());
        if let (true, Some(error)) = (all_failed && *failures < FAILURES_MAX, first) {
            *failures += 1;
            return Err(error.clone());
        }
        if !all_failed {
            *failures = 0;
        }
        let ModelInfo { name, dim, max_tokens: _ } = other.embedder.model().clone();
        let made_by = MadeBy { model: name, dim, slot: other.embedder.slot() };
        graph.fill(todo, fill, made_by).await.map_err(|error| error.to_string())?;
        *lock(&self.shared.problem) = None;
        Ok(Step::Worked)
    }

    /// The model that does not serve, loaded now if it is not yet: after a start. None while an
    /// act exchanges the two.
    async fn other_of(&self, change: &ChangeRecord, slot: Slot) -> Result<Option<Other>, String> {
        if let Some(other) = lock(&self.shared.other).clone() {
            return Ok((other.embedder.slot() == slot).then_some(other));
        }
        let settings = lock(&self.shared.serving).with_model(&choice_of(&change.other));
        let settings = settings.map_err(|error| error.to_string())?;
        let embedder = self.load(&settings, slot).await?;
        let model = embedder.model();
        if model.name != change.other.name || model.dim != change.other.dim as usize {
            let problem = format!(
                "{} is another model now, {} of {} numbers; drop the change and begin it anew",
                change.other.setting, model.name, model.dim
            );
            return Err(problem);
        }
        let other = Other { embedder, settings };
        *lock(&self.shared.other) = Some(other.clone());
        Ok(Some(other))
    }

    /// Removes the model that does not serve, its index and, step by step, its vectors.
    async fn remove_other(&self, slot: Slot) -> Result<Step, String> {
        // Its threads end with the last search that works with it.
        drop(lock(&self.shared.other).take());
        if self.parts.indexes.vectors(slot).is_some()
            && let Err(error) = self.close(slot).await
        {
            // The index is not asked any more; its files go at the next start.
            error!("could not remove the vector index of the dropped model: {error}");
        }
        let ended = self.parts.graph.drop_step().await.map_err(|error| error.to_string())?;
        if ended {
            *lock(&self.shared.problem) = None;
            info!("the other embedding model and its vectors are removed");
        }
        Ok(Step::Worked)
    }
}

/// The vectors of what is missing. The texts of a tenant are one job of the embedder.
async fn embed(embedder: &FixedEmbedder, todo: &mut Todo) -> Fill {
    let mut tenants: BTreeMap<TenantId, Vec<Missing>> = BTreeMap::new();
    for missing in std::mem::take(&mut todo.missing) {
        tenants.entry(missing.tenant.clone()).or_default().push(missing);
    }
    let jobs = tenants.into_iter().map(|(tenant, missing)| async move {
        let texts = missing.iter().map(|missing| missing.text.clone()).collect();
        let vectors = embedder.each(&tenant, texts).await;
        missing.into_iter().zip(vectors)
    });
    let done = join_all(jobs).await.into_iter().flatten();
    done.map(|(missing, vector)| (missing, vector.map_err(|error| error.to_string()))).collect()
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

fn served(model: &ModelRecord) -> Served {
    let ModelRecord { backend, setting, name, dim, .. } = model.clone();
    Served { backend, model: setting, name, dim: dim as usize }
}

/// Locks, whether or not a thread has panicked while it held the lock: what these locks guard is
/// whole after every statement.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
