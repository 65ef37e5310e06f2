//! Carries changes from the store to the indexes.
//!
//! One thread follows the change log in order and applies what the changed nodes are now. The
//! vector index shows what is applied at once; the text index shows it after a commit, which
//! happens when a search waits for it, when enough has gathered, or when some time has passed.
//! Both indexes keep the number of the last change in their own commits and go on from there.

mod batch;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use activekg_index::{Build, IndexError, VectorOp};
use activekg_storage::changes::{self, Retention, TRIM_MAX, Tail};
use activekg_storage::tables::graph::NODES;
use activekg_storage::time::Clock;
use activekg_storage::{ReadTx, Readable, Scan, Seq, StorageError, Store, WriteTx};
use tokio::runtime::Handle;
use tokio::sync::{Notify, watch};
use tracing::{error, info};

use super::indexes::{Indexes, Opened};
use super::windows;
use crate::graph;
use batch::{Batch, gather, slots};

pub(super) use batch::document;

/// The name under which the log knows the indexes.
const CONSUMER: &str = "indexes";
/// Changes applied in one step.
const STEP: usize = 4096;
/// Changes that are committed without anybody waiting for them.
const COMMIT_CHANGES: u64 = 20_000;
/// Longest time that applied changes stay uncommitted.
const COMMIT_AFTER: Duration = Duration::from_secs(1);
/// Longest time that a commit stays out of the disk. Until then the store keeps the changes.
const SYNC_AFTER: Duration = Duration::from_secs(5);
/// How long to wait after a failure before trying again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How far the indexes are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Progress {
    /// The last change that vector searches see.
    pub vectors: Seq,
    /// The last change that text searches see.
    pub text: Seq,
}

/// What the indexer is at, for readiness.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Following the log.
    Following,
    /// Reading the whole store, `done` of about `total` nodes.
    Rebuilding {
        /// Nodes read.
        done: u64,
        /// Nodes there are.
        total: u64,
    },
    /// An index refuses changes.
    Failing(String),
}

/// Follows the change log until it is stopped.
pub struct Indexer {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
    build_thread: Option<JoinHandle<()>>,
}

/// What searches and the thread share.
struct Shared {
    progress: watch::Sender<Progress>,
    /// The newest change that a text search waits for.
    wanted: AtomicU64,
    wake: Notify,
    stop: AtomicBool,
    state: watch::Sender<State>,
}

/// A cheap handle by which searches wait for the indexes.
#[derive(Clone)]
pub struct Freshness {
    shared: Arc<Shared>,
}

impl Freshness {
    /// Waits until vector searches see the change `seq`.
    pub async fn vectors(&self, seq: Seq) {
        self.wait(|progress| progress.vectors >= seq).await;
    }

    /// Has the text index committed and waits until text searches see the change `seq`.
    pub async fn text(&self, seq: Seq) {
        if self.shared.progress.borrow().text >= seq {
            return;
        }
        self.shared.wanted.fetch_max(seq.get(), Ordering::AcqRel);
        self.shared.wake.notify_one();
        self.wait(|progress| progress.text >= seq).await;
    }

    async fn wait(&self, reached: impl FnMut(&Progress) -> bool) {
        // An error means that the indexer is gone, with the process: nothing to wait for.
        let _ = self.shared.progress.subscribe().wait_for(reached).await;
    }

    /// What the indexer is at.
    pub fn state(&self) -> State {
        self.shared.state.borrow().clone()
    }

    /// How far the indexes are.
    pub fn progress(&self) -> Progress {
        *self.shared.progress.borrow()
    }
}

impl Indexer {
    /// Starts to follow `store`, from where the indexes were opened. `built` is told of every
    /// engine that is built.
    ///
    /// # Errors
    ///
    /// When no thread can be started.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn start(
        store: Arc<Store>,
        indexes: Arc<Indexes>,
        opened: Opened,
        clock: Arc<dyn Clock>,
        built: impl Fn(Build) + Send + 'static,
    ) -> std::io::Result<Self> {
        let rebuilding = opened.text.is_none() || opened.vectors.is_none();
        let state =
            if rebuilding { State::Rebuilding { done: 0, total: 0 } } else { State::Following };
        let shared = Arc::new(Shared {
            progress: watch::Sender::new(Progress::default()),
            wanted: AtomicU64::new(0),
            wake: Notify::new(),
            stop: AtomicBool::new(false),
            state: watch::Sender::new(state),
        });
        let follower = Follower {
            changed: store.watch_seq(),
            runtime: Handle::current(),
            store,
            clock,
            indexes: indexes.clone(),
            shared: shared.clone(),
            applied: Progress::default(),
            uncommitted: 0,
            oldest: None,
            unsynced: None,
        };
        let thread = std::thread::Builder::new()
            .name("indexer".to_owned())
            .spawn(move || follower.run(opened))?;
        let stop = shared.clone();
        let build_thread = std::thread::Builder::new()
            .name("vector-build".to_owned())
            .spawn(move || build_engines(&indexes, &stop, &built))?;
        Ok(Self { shared, thread: Some(thread), build_thread: Some(build_thread) })
    }

    /// The handle by which searches wait.
    pub fn freshness(&self) -> Freshness {
        Freshness { shared: self.shared.clone() }
    }

    /// Commits what is applied and stops. Blocks until that is done.
    pub fn stop(mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake.notify_one();
        for thread in [self.thread.take(), self.build_thread.take()].into_iter().flatten() {
            if thread.join().is_err() {
                error!("an index thread ended by a panic");
            }
        }
    }
}

/// A position from which the log can be followed: `seq`, if there is one and everything after it is
/// kept.
fn followable(tx: &ReadTx, seq: Option<Seq>) -> Result<Option<Seq>, StorageError> {
    let Some(seq) = seq else { return Ok(None) };
    let kept = matches!(changes::tail(tx, seq, 0)?, Tail::Entries(_));
    Ok(kept.then_some(seq))
}

/// Builds the engines that vector indexes lack, and merges their segments.
fn build_engines(indexes: &Indexes, shared: &Shared, built: &dyn Fn(Build)) {
    const LOOK_EVERY: Duration = Duration::from_millis(500);
    while !shared.stop.load(Ordering::Acquire) {
        for (slot, set) in indexes.all_vectors() {
            let building = set.build(&shared.stop, &|build| {
                let Build { engine, rows, took, stands } = build;
                let (engine, duration_ms) = (engine.as_str(), took.as_millis() as u64);
                info!(engine, rows, stands, duration_ms, "vector index built");
                built(build);
            });
            let kept = set.maintain();
            // A set that was closed meanwhile has no folder, and needs none.
            if indexes.vectors(slot).is_none() {
                continue;
            }
            if let Err(error) = building {
                error!("could not build a vector index: {error}; searches go on without it");
            }
            if let Err(error) = kept {
                error!("could not merge vector segments: {error}");
            }
        }
        std::thread::park_timeout(LOOK_EVERY);
    }
}

/// The thread's own state.
struct Follower {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    changed: watch::Receiver<Seq>,
    runtime: Handle,
    indexes: Arc<Indexes>,
    shared: Arc<Shared>,
    /// The last change handed to each index.
    applied: Progress,
    /// Changes handed over since the last commit.
    uncommitted: u64,
    /// When the first of them was.
    oldest: Option<Instant>,
    /// When the first commit was made that is not on the disk yet.
    unsynced: Option<Instant>,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
enum StepError {
    /// The log was cut while this waited; only a whole rebuild helps.
    #[error("changes after {0} are gone from the log")]
    Missed(Seq),
    #[error(transparent)]
    Storage(#[from] StorageError),
    #[error(transparent)]
    Index(#[from] IndexError),
    #[error(transparent)]
    Graph(#[from] graph::Error),
}

impl Follower {
    fn run(mut self, mut opened: Opened) {
        let mut begun = false;
        while !self.stopping() {
            let step = if begun { self.step() } else { self.begin(opened) };
            match step {
                Ok(more) => {
                    begun = true;
                    if !more {
                        self.sleep(self.time_left());
                    }
                }
                Err(error) => {
                    error!("could not index changes: {error}");
                    // A text index that failed is back at its last commit.
                    let text = self.indexes.text.committed_seq().map(Seq);
                    if begun {
                        opened.vectors = Some(self.applied.vectors);
                    }
                    begun &= text.is_some() && !matches!(error, StepError::Missed(_));
                    opened.text = text;
                    self.applied.text = text.unwrap_or_default();
                    self.uncommitted = 0;
                    self.oldest = None;
                    self.shared.state.send_replace(State::Failing(error.to_string()));
                    self.sleep(RETRY_AFTER);
                }
            }
        }
        let last = if begun { self.commit().and_then(|()| self.sync()) } else { Ok(()) };
        if let Err(error) = last {
            error!("could not commit the indexes: {error}");
        }
    }

    /// Sleeps until something changes, somebody waits, or `longest` is over.
    fn sleep(&mut self, longest: Duration) {
        let (changed, wake) = (&mut self.changed, &self.shared.wake);
        self.runtime.block_on(async {
            tokio::select! {
                // The store outlives this thread, so its end is not a change to wait for.
                _ = changed.changed() => {}
                () = wake.notified() => {}
                () = tokio::time::sleep(longest) => {}
            }
        });
    }

    fn stopping(&self) -> bool {
        self.shared.stop.load(Ordering::Acquire)
    }

    /// How long the thread may sleep.
    fn time_left(&self) -> Duration {
        const IDLE: Duration = Duration::from_secs(60);
        let left = |since: Option<Instant>, span: Duration| {
            since.map_or(IDLE, |since| span.saturating_sub(since.elapsed()))
        };
        left(self.oldest, COMMIT_AFTER).min(left(self.unsynced, SYNC_AFTER))
    }

    /// Finds where to go on from: the log, if it reaches back far enough, else the whole store.
    fn begin(&mut self, opened: Opened) -> Result<bool, StepError> {
        // In this order, so that the snapshot holds every change up to `last`.
        let last = self.store.last_seq();
        let tx = self.store.read()?;
        let text = followable(&tx, opened.text)?;
        let vectors = followable(&tx, opened.vectors)?;
        self.applied = Progress { text: text.unwrap_or(last), vectors: vectors.unwrap_or(last) };
        if text.is_none() || vectors.is_none() {
            self.rebuild(&tx, text.is_none(), vectors.is_none())?;
        }
        self.publish();
        self.shared.state.send_replace(State::Following);
        Ok(true)
    }

    /// Gives the indexes every node of the snapshot.
    fn rebuild(&mut self, tx: &ReadTx, text: bool, vectors: bool) -> Result<(), StepError> {
        let started = Instant::now();
        let total = graph::listed(tx)?;
        let (mut done, mut batch) = (0, Batch::default());
        let mut rows = tx.scan(&NODES, Scan::all())?;
        loop {
            let row = rows.next().transpose()?;
            if let Some(((tenant, id), record)) = &row {
                let key = (tenant.clone(), *id);
                let vectors = if vectors { slots(tx, &key)? } else { Vec::new() };
                batch.node(tx, (tenant, *id), Some(record.clone()), vectors, text)?;
                done += 1;
            }
            if row.is_none() || batch.nodes >= STEP {
                self.apply(std::mem::take(&mut batch))?;
                self.shared.state.send_replace(State::Rebuilding { done, total });
            }
            if row.is_none() || self.stopping() {
                break;
            }
        }
        if self.stopping() {
            return Ok(());
        }
        self.commit()?;
        self.sync()?;
        info!(nodes = done, duration_ms = started.elapsed().as_millis() as u64, "indexes rebuilt");
        Ok(())
    }

    /// Applies the next changes and commits if it is time; whether there may be more to do.
    fn step(&mut self) -> Result<bool, StepError> {
        let tx = self.store.read()?;
        let from = self.applied.text.min(self.applied.vectors);
        let Tail::Entries(changes) = changes::tail(&tx, from, STEP)? else {
            return Err(StepError::Missed(from));
        };
        let n = changes.len();
        if let Some((last, _)) = changes.last() {
            let last = *last;
            let batch = gather(&tx, changes, self.applied)?;
            self.apply(batch)?;
            self.applied = Progress { text: last, vectors: last };
            self.uncommitted += n as u64;
            self.oldest.get_or_insert_with(Instant::now);
            self.publish();
        }
        if self.uncommitted > 0 && self.commit_is_due() {
            self.commit()?;
        }
        if self.unsynced.is_some_and(|since| since.elapsed() >= SYNC_AFTER) {
            self.sync()?;
        }
        if self.shared.state.borrow().clone() != State::Following {
            self.shared.state.send_replace(State::Following);
        }
        Ok(n == STEP)
    }

    fn commit_is_due(&self) -> bool {
        let visible = self.shared.progress.borrow().text;
        self.shared.wanted.load(Ordering::Acquire) > visible.get()
            || self.uncommitted >= COMMIT_CHANGES
            || self.oldest.is_some_and(|oldest| oldest.elapsed() >= COMMIT_AFTER)
    }

    fn apply(&self, batch: Batch) -> Result<(), StepError> {
        let Batch { nodes: _, text, vectors } = batch;
        let changing = self.indexes.change();
        for (slot, ops) in vectors {
            // One that has been closed meanwhile wants nothing.
            if let Some(set) = self.indexes.vectors(slot) {
                // Most nodes have no further windows, and had none.
                let needless = |op: &VectorOp| match op {
                    VectorOp::Remove { id } => windows::is_window(*id) && set.get(*id).is_none(),
                    VectorOp::Put { .. } => false,
                };
                let ops: Vec<VectorOp> = ops.into_iter().filter(|op| !needless(op)).collect();
                set.apply(&ops)?;
            }
        }
        drop(changing);
        if !text.is_empty() {
            self.indexes.text.apply(&text)?;
        }
        Ok(())
    }

    /// Shows what is applied to text searches.
    fn commit(&mut self) -> Result<(), StepError> {
        let text = self.applied.text;
        self.indexes.text.commit(text.get())?;
        self.uncommitted = 0;
        self.oldest = None;
        self.unsynced.get_or_insert_with(Instant::now);
        self.shared.progress.send_modify(|progress| progress.text = text);
        Ok(())
    }

    /// Brings both indexes to the disk, and lets the log before that go.
    fn sync(&mut self) -> Result<(), StepError> {
        self.indexes.text.sync()?;
        let changing = self.indexes.change();
        for (_, set) in self.indexes.all_vectors() {
            set.commit(self.applied.vectors.get())?;
        }
        drop(changing);
        self.unsynced = None;
        if self.store.fault().is_some() {
            // The log cannot be shortened; nothing is added to it either.
            return Ok(());
        }
        let text = self.indexes.text.synced_seq().map_or(Seq(0), Seq);
        let done = text.min(self.applied.vectors);
        let now = self.clock.now();
        loop {
            let shorten = move |tx: &mut WriteTx<'_>| {
                changes::checkpoint(tx, CONSUMER, done, now)?;
                changes::trim(tx, Retention::default())
            };
            if self.store.write_blocking(shorten)?.value < TRIM_MAX {
                return Ok(());
            }
        }
    }

    /// Tells searches how far the vectors are.
    fn publish(&self) {
        let vectors = self.applied.vectors;
        let text = self.indexes.text.committed_seq().map_or(Seq::default(), Seq);
        self.shared.progress.send_modify(|progress| {
            progress.vectors = vectors;
            progress.text = progress.text.max(text);
        });
    }
}
