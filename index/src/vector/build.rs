//! Giving large segments the engines that are wanted, beside searches and changes.

use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use rayon::{ThreadPool, ThreadPoolBuilder};

use super::graph::Graph;
use super::ivf::{self, Ivf};
use super::view::{Has, Sealed, Slot, View};
use super::writer::{Writer, discard, remove_engine};
use super::{Engine, Engines, VectorSet, manifest};
use crate::IndexError;

/// How far an engine of a set is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EngineState {
    /// It is not kept.
    Off,
    /// It is kept, and the set is so small that scans are quicker.
    Idle,
    /// [`VectorSet::build`] is at it or has yet to be called. Searches do without it where it does
    /// not stand.
    Building {
        /// Vectors that are in.
        done: usize,
        /// Vectors to put in.
        total: usize,
        /// Whether other segments have it.
        serving: bool,
    },
    /// All sealed segments that should have it have it.
    Ready,
    /// It was built and did not find what is in it. Searches do without.
    Rejected,
}

impl EngineState {
    /// Whether searches go through it, or would if scans were not quicker.
    #[must_use]
    pub fn is_in_place(self) -> bool {
        match self {
            Self::Idle | Self::Ready | Self::Building { serving: true, .. } => true,
            Self::Off | Self::Building { serving: false, .. } | Self::Rejected => false,
        }
    }
}

/// The end of a build of one engine over one segment.
#[derive(Debug, Clone, Copy)]
pub struct Build {
    /// The engine.
    pub engine: Engine,
    /// Rows of the segment.
    pub rows: usize,
    /// How long it took.
    pub took: Duration,
    /// Whether searches go through it from now on.
    pub stands: bool,
}

/// What became of a build.
pub(super) enum Built<T> {
    Standing(T),
    /// It was told to stop.
    Stopped,
    /// It does not find what is in it, for this reason.
    Rejected(String),
}

/// Threads to build with. Searches go on meanwhile and should not wait for them, so a processor is
/// left to those. `None` if no thread can be started.
pub(super) fn workers() -> Option<ThreadPool> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get().max(2) - 1);
    let named = |i| format!("vector-build-{i}");
    let pool = ThreadPoolBuilder::new().num_threads(threads).thread_name(named).build();
    pool.inspect_err(|error| tracing::error!("could not start threads to build with: {error}")).ok()
}

impl VectorSet {
    /// The engines that are kept.
    #[must_use]
    pub fn engines(&self) -> Engines {
        self.view.load().engines
    }

    /// Keeps these engines and no others. Those left out are gone when this returns; those that are
    /// new are for [`VectorSet::build`].
    pub fn keep(&self, engines: Engines) {
        self.change_views(|view| {
            for engine in Engine::ALL.into_iter().filter(|&engine| !engines.contains(engine)) {
                view.sealed.iter_mut().for_each(|sealed| sealed.drop_engine(engine));
            }
            view.engines = engines;
        });
        Engine::ALL
            .into_iter()
            .filter(|&e| !engines.contains(e))
            .for_each(|e| self.remove_files(e));
    }

    /// Forgets what is built of these engines, so that [`VectorSet::build`] builds it anew. Searches
    /// do without until then.
    pub fn forget(&self, engines: Engines) {
        self.change_views(|view| {
            for engine in engines.iter() {
                view.sealed.iter_mut().for_each(|sealed| sealed.drop_engine(engine));
            }
        });
        engines.iter().for_each(|engine| self.remove_files(engine));
    }

    /// How far an engine is.
    #[must_use]
    pub fn state(&self, engine: Engine) -> EngineState {
        let view = self.view.load();
        if !view.engines.contains(engine) {
            return EngineState::Off;
        }
        let (mut bare, mut waiting, mut serving, mut rejected) = (0, 0, false, false);
        for sealed in &view.sealed {
            match sealed.has(engine) {
                Has::Not if sealed.is_bare(view.engines) => bare += sealed.live(),
                Has::Not => waiting += sealed.live(),
                Has::Standing => serving = true,
                Has::Rejected => rejected = true,
            }
        }
        if bare > self.options.exact_limit {
            waiting += bare;
        }
        if waiting > 0 {
            let done = self.rows_done(engine).load(Ordering::Relaxed).min(waiting);
            EngineState::Building { done, total: waiting, serving }
        } else if rejected {
            EngineState::Rejected
        } else if serving {
            EngineState::Ready
        } else {
            EngineState::Idle
        }
    }

    /// Builds the engines that are wanted, on this thread and one for each processor but one, until
    /// all stand or `stop` is set; `told` hears of each. Only sealed vectors count: call
    /// [`VectorSet::maintain`] before. Searches go on, and so do changes. A second call waits for
    /// the first.
    ///
    /// # Errors
    ///
    /// When the disk refuses; searches go on as before.
    pub fn build(&self, stop: &AtomicBool, told: &dyn Fn(Build)) -> Result<(), IndexError> {
        let _alone = self.building.lock().unwrap_or_else(PoisonError::into_inner);
        while !stop.load(Ordering::Relaxed) && self.build_one(stop, told)? {}
        Ok(())
    }

    /// Builds what one segment lacks; whether there was something to build and it was not stopped.
    fn build_one(&self, stop: &AtomicBool, told: &dyn Fn(Build)) -> Result<bool, IndexError> {
        let limit = self.options.exact_limit;
        let Some(work) = self.claim(|view, writer| inputs(view, writer, limit)) else {
            return Ok(false);
        };
        let whole = matches!(&work.inputs[..], [only] if !only.is_hollow());
        let base =
            if whole { Some(work.inputs[0].clone()) } else { self.write_merged(&work.inputs)? };
        let Some(mut base) = base else {
            self.exchange(&work.inputs, None)?;
            return Ok(true);
        };
        // The quicker one first: a segment as it is has it at once.
        for engine in [Engine::IvfFlat, Engine::Hnsw] {
            if !self.engines().contains(engine) || base.has(engine) != Has::Not {
                continue;
            }
            self.build_engine(&mut base, engine, stop, told);
            if base.has(engine) == Has::Not && self.engines().contains(engine) {
                if !whole {
                    // It is in no manifest yet.
                    discard(&self.dir, &base);
                }
                return Ok(false);
            }
            if whole {
                self.attach(&base, engine);
            }
        }
        if !whole {
            self.exchange(&work.inputs, Some(&base))?;
        }
        Ok(true)
    }

    /// Gives a segment an engine, unless it is stopped or the engine is not kept any more.
    fn build_engine(
        &self,
        base: &mut Sealed,
        engine: Engine,
        stop: &AtomicBool,
        told: &dyn Fn(Build),
    ) {
        let stop = || stop.load(Ordering::Relaxed) || !self.engines().contains(engine);
        let done = self.rows_done(engine);
        let started = Instant::now();
        let (metric, rows) = (self.options.metric, base.segment.rows());
        match engine {
            Engine::Hnsw => {
                let params = self.options.hnsw;
                let built = Graph::build(&base.segment, metric, self.kernels, params, &stop, done);
                base.graph = slot(built);
            }
            Engine::IvfFlat => {
                let lists = ivf::lists_for(rows, self.options.ivfflat);
                let built = Ivf::build(&base.segment, metric, self.kernels, lists, &stop, done);
                base.lists = slot(built);
            }
        }
        self.save_engine(base, engine);
        done.store(0, Ordering::Relaxed);
        let has = base.has(engine);
        if has != Has::Not {
            let stands = has == Has::Standing;
            told(Build { engine, rows, took: started.elapsed(), stands });
        }
    }

    /// Writes a new engine beside its segment. Without the file it is built again at the next start.
    fn save_engine(&self, sealed: &Sealed, engine: Engine) {
        let path = self.dir.join(manifest::engine_name(sealed.file, engine));
        let saved = match engine {
            Engine::Hnsw => sealed.graph.standing().map(|graph| graph.save(&path, &sealed.segment)),
            Engine::IvfFlat => {
                sealed.lists.standing().map(|lists| lists.save(&path, &sealed.segment))
            }
        };
        if let Some(Err(error)) = saved {
            tracing::warn!(path = %path.display(), "could not keep a vector index: {error}");
        }
    }

    /// Removes the files of an engine.
    fn remove_files(&self, engine: Engine) {
        let writer = self.lock();
        let sealed = &writer.committed.sealed;
        sealed.iter().for_each(|sealed| remove_engine(&self.dir, sealed.file, engine));
    }

    /// Gives the segment of this set what was built for it, unless it is not kept any more.
    fn attach(&self, base: &Sealed, engine: Engine) {
        self.change_views(|view| {
            let kept = view.engines.contains(engine);
            for sealed in view.sealed.iter_mut().filter(|sealed| kept && sealed.file == base.file) {
                match engine {
                    Engine::Hnsw => sealed.graph = base.graph.clone(),
                    Engine::IvfFlat => sealed.lists = base.lists.clone(),
                }
            }
        });
    }

    /// Changes what is known of segments, in the committed state and in what searches see.
    fn change_views(&self, change: impl Fn(&mut View)) {
        let changed = |view: &View| {
            let mut view = view.clone();
            change(&mut view);
            Arc::new(view)
        };
        let mut writer = self.lock();
        writer.committed = changed(&writer.committed);
        self.view.store(changed(&self.view.load()));
    }

    fn rows_done(&self, engine: Engine) -> &AtomicUsize {
        match engine {
            Engine::Hnsw => &self.rows_done[0],
            Engine::IvfFlat => &self.rows_done[1],
        }
    }
}

fn slot<T>(built: Built<T>) -> Slot<T> {
    match built {
        Built::Standing(engine) => Slot::Standing(Arc::new(engine)),
        Built::Stopped => Slot::Absent,
        Built::Rejected(reason) => {
            tracing::error!("discarded a vector index, search goes on without it: {reason}");
            Slot::Rejected
        }
    }
}

/// The segments to build for. First those that have none of the engines, once they hold more than
/// `limit` rows, with the indexed ones that are smaller than them all; or a hollow indexed one with
/// whatever has none. Then one that lacks an engine and has another.
fn inputs(view: &View, writer: &Writer, limit: usize) -> Vec<Sealed> {
    let engines = view.engines;
    if engines.is_empty() {
        return Vec::new();
    }
    let free = || view.sealed.iter().filter(|s| !writer.busy.contains(&s.file));
    let bare = |s: &&Sealed| s.is_bare(engines) && s.live() > 0;
    let waiting: usize = free().filter(bare).map(Sealed::live).sum();
    let mut inputs: Vec<Sealed> = free()
        .filter(|s| s.is_indexed())
        .filter(|s| s.is_hollow() || (waiting > limit && s.live() <= waiting))
        .cloned()
        .collect();
    if waiting > limit || !inputs.is_empty() {
        inputs.extend(free().filter(bare).cloned());
    }
    if inputs.is_empty() {
        let lacks = |s: &&Sealed| {
            !s.is_bare(engines) && engines.iter().any(|engine| s.has(engine) == Has::Not)
        };
        inputs.extend(free().find(lacks).cloned());
    }
    inputs
}
