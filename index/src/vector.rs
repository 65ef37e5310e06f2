//! Vectors: nearest neighbours by exact scan and, for large sets, by a graph or by lists.
//!
//! A set is a small fresh part and any number of sealed segments. Changes go to the fresh part and
//! to a log; [`VectorSet::maintain`] seals the fresh part and merges segments; [`VectorSet::build`]
//! gives large segments the engines that are kept. A search works on one snapshot of all of it and
//! takes no lock. It goes through a segment's graph, if it has one, else through its lists, if it
//! has those, and scans it where that is quicker.

mod bits;
mod build;
mod engine;
mod fresh;
mod graph;
mod ivf;
mod lift;
mod log;
mod manifest;
mod merge;
mod metric;
#[cfg(test)]
mod model;
mod options;
mod planner;
#[cfg(test)]
mod sample;
mod segment;
mod sidecar;
mod view;
mod writer;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

use crate::rank::Top;
use crate::{Hit, IdSet, IndexError, Kernels, files};
pub use build::{Build, EngineState};
use engine::{Allowed, Exact, Query, VectorIndex};
use graph::Graph;
use ivf::Ivf;
pub use metric::Metric;
pub use options::{Engine, Engines, HnswParams, IvfParams, VectorOptions};
use planner::{Plan, Situation};
use view::{Sealed, Slot, View};
use writer::Writer;

/// The fresh part is sealed from this many rows on.
const SEAL_ROWS: usize = 4096;
/// Or when its log has grown to this, by changes to few vectors.
const SEAL_LOG_BYTES: u64 = 64 << 20;

/// A change to a set.
#[derive(Debug, Clone, PartialEq)]
pub enum VectorOp {
    /// Adds the vector in place of the one with its id, if there is one.
    Put {
        /// Unique over all tenants.
        id: u128,
        /// The tenant that owns it. Searches name the tenants they look into.
        tenant: String,
        /// As many as the set's dimension, all finite.
        values: Vec<f32>,
    },
    /// Removes the vector, if there is one.
    Remove {
        /// Its id.
        id: u128,
    },
}

/// A search for near vectors.
#[derive(Debug, Clone, Copy)]
pub struct VectorQuery<'a> {
    /// What to be near to; as many values as the set's dimension, all finite.
    pub vector: &'a [f32],
    /// The number of hits wanted; may be as large as the set.
    pub k: usize,
    /// Where to look; nowhere if empty.
    pub tenants: &'a [&'a str],
    /// The only ids that may be found, if given.
    pub among: Option<&'a IdSet>,
    /// Breadth of a graph search, capped at 4096; the set's default if not given.
    pub ef: Option<usize>,
}

/// A set of vectors in its folder. One process, one value per folder.
pub struct VectorSet {
    dir: PathBuf,
    options: VectorOptions,
    kernels: Kernels,
    /// What searches see. Stored to under the writer's lock only.
    view: ArcSwap<View>,
    writer: Mutex<Writer>,
    /// Held by whoever builds engines.
    building: Mutex<()>,
    /// Rows that are in, of the engine of each kind that is being built.
    rows_done: [AtomicUsize; 2],
}

impl VectorSet {
    /// Opens the set in `dir`, or makes an empty one if there is none. Gives the sequence number
    /// of its last commit, `None` if there is none. Reads and checks every byte once. Engines are
    /// there again if they were.
    ///
    /// # Errors
    ///
    /// [`IndexError::Damaged`] for a set that is incomplete, changed, or was made with another
    /// dimension, metric or version: [`VectorSet::wipe`] and open again. [`IndexError::Invalid`]
    /// for settings out of range.
    pub fn open(dir: &Path, options: VectorOptions) -> Result<(Self, Option<u64>), IndexError> {
        options.check()?;
        let writer = Writer::open(dir, &options)?;
        let seq = writer.seq();
        let this = Self {
            dir: dir.to_owned(),
            options,
            kernels: Kernels::detect(),
            view: ArcSwap::new(Arc::clone(&writer.committed)),
            writer: Mutex::new(writer),
            building: Mutex::new(()),
            rows_done: Default::default(),
        };
        Ok((this, seq))
    }

    /// Deletes the set in `dir` with the folder. It must not be open.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn wipe(dir: &Path) -> Result<(), IndexError> {
        files::wipe(dir)
    }

    /// Applies changes in order, all or none. Searches see them when this returns, all at once.
    ///
    /// # Errors
    ///
    /// [`IndexError::Invalid`] if a vector has the wrong length, holds NaN or infinity, or is so
    /// long that distances overflow; nothing was changed then.
    pub fn apply(&self, ops: &[VectorOp]) -> Result<(), IndexError> {
        let mut checked = ops.to_vec();
        for op in &mut checked {
            if let VectorOp::Put { values, .. } = op {
                metric::prepare(self.options.metric, self.options.dim, values)?;
            }
        }
        let mut writer = self.lock();
        let mut view = View::clone(&self.view.load());
        writer.apply(&mut view, &checked);
        self.view.store(Arc::new(view));
        Ok(())
    }

    /// Brings what was applied to the disk, as the state after change `seq`.
    ///
    /// # Errors
    ///
    /// When the disk refuses; it may be tried again. Nothing is lost from memory.
    pub fn commit(&self, seq: u64) -> Result<(), IndexError> {
        let mut writer = self.lock();
        let view = self.view.load_full();
        writer.commit(view, seq)
    }

    /// Seals the fresh part if it is large, and merges segments if there are many; whether
    /// anything was done. Call it after commits, from a thread that may take seconds; searches go
    /// on, and so do changes but for the moment of sealing. While changes are applied and not yet
    /// committed, sealing waits for the next call.
    ///
    /// # Errors
    ///
    /// When the disk refuses; the set is as before.
    pub fn maintain(&self) -> Result<bool, IndexError> {
        let mut worked = self.seal_from(SEAL_ROWS)?;
        while self.merge()? {
            worked = true;
        }
        Ok(worked)
    }

    fn seal_from(&self, rows: usize) -> Result<bool, IndexError> {
        let mut writer = self.lock();
        let view = self.view.load_full();
        let due = view.fresh.rows() >= rows || writer.log_bytes() >= SEAL_LOG_BYTES;
        if !due || writer.is_ahead() {
            return Ok(false);
        }
        self.view.store(Arc::new(writer.seal(&view)?));
        Ok(true)
    }

    /// The nearest vectors, nearest first, equal ones by id. Asking again for more gives a list
    /// that starts with the same hits as long as searches are exact; the whole set costs one scan
    /// and one sort.
    ///
    /// # Errors
    ///
    /// [`IndexError::Invalid`] for a vector that [`VectorSet::apply`] would refuse.
    pub fn search(&self, query: &VectorQuery<'_>) -> Result<Vec<Hit>, IndexError> {
        let &VectorQuery { vector, k, tenants, among, ef } = query;
        let VectorOptions { metric, dim, .. } = self.options;
        let mut values = vector.to_vec();
        metric::prepare(metric, dim, &mut values)?;
        let view = self.view.load_full();
        let k = k.min(view.live());
        if k == 0 || tenants.is_empty() {
            return Ok(Vec::new());
        }
        let query = Query { values: &values, metric, kernels: self.kernels, k };
        let mut top = Top::new(k);
        view.fresh.scan(tenants, among, |id, values| top.push(query.hit(id, values)));
        let segments: Vec<_> = view
            .sealed
            .iter()
            .map(|sealed| (Allowed::new(&sealed.segment, &sealed.dead, tenants, among), sealed))
            .collect();
        let in_segments: usize = segments.iter().map(|(allowed, _)| allowed.at_most()).sum();
        let candidates = view.fresh.live() + in_segments;
        for (allowed, sealed) in &segments {
            let situation = Situation {
                candidates: among.map_or(candidates, |among| candidates.min(among.len())),
                allowed: allowed.at_most(),
                rows: allowed.segment.rows(),
                k,
                ef: ef.unwrap_or(self.options.hnsw.ef_search).clamp(1, 4096),
                exact_limit: self.options.exact_limit,
            };
            if !self.by_engine(sealed, &query, allowed, situation, &mut top) {
                Exact.nearest(&query, allowed, 0, &mut top);
            }
        }
        let mut hits = top.into_sorted();
        for hit in &mut hits {
            hit.score = metric::score(metric, hit.score);
        }
        Ok(hits)
    }

    /// Searches a segment by its graph, else by its lists, where it has one and that is quicker than
    /// a scan; whether it did.
    fn by_engine(
        &self,
        sealed: &Sealed,
        query: &Query<'_>,
        allowed: &Allowed<'_>,
        situation: Situation,
        top: &mut Top,
    ) -> bool {
        let Situation { rows, k, .. } = situation;
        match (&sealed.graph, &sealed.lists) {
            (Slot::Standing(graph), _) => match planner::plan(situation) {
                Plan::Graph { width } => graph.nearest(query, allowed, width, top),
                Plan::Exact => false,
            },
            (_, Slot::Standing(lists)) => {
                let probes = self.options.ivfflat.probes;
                let enough = ivf::enough(rows, lists.lists(), probes, k);
                planner::lists_pay(situation, enough) && lists.nearest(query, allowed, probes, top)
            }
            _ => false,
        }
    }

    /// The score that `id` has or would have in a search for `vector`; `None` when the id has no
    /// vector or [`VectorSet::search`] would refuse `vector`.
    #[must_use]
    pub fn score(&self, vector: &[f32], id: u128) -> Option<f32> {
        let VectorOptions { metric, dim, .. } = self.options;
        let mut values = vector.to_vec();
        metric::prepare(metric, dim, &mut values).ok()?;
        let query = Query { values: &values, metric, kernels: self.kernels, k: 1 };
        let view = self.view.load();
        Some(metric::score(metric, query.hit(id, view.get(id)?).score))
    }

    /// The stored vector of an id: of length one if the metric is cosine.
    #[must_use]
    pub fn get(&self, id: u128) -> Option<Vec<f32>> {
        self.view.load().get(id).map(<[f32]>::to_vec)
    }

    /// The number of vectors over all tenants.
    #[must_use]
    pub fn len(&self) -> usize {
        self.view.load().live()
    }

    /// Whether there is no vector.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The sequence number of the last commit.
    #[must_use]
    pub fn committed_seq(&self) -> Option<u64> {
        self.lock().seq()
    }

    /// An estimate of the memory in use. Mapped files count in full, though the system may take
    /// their pages back.
    #[must_use]
    pub fn memory_bytes(&self) -> usize {
        let view = self.view.load();
        let sealed = view.sealed.iter().map(|sealed| {
            let graph = sealed.graph.standing().map_or(0, Graph::bytes);
            let lists = sealed.lists.standing().map_or(0, Ivf::bytes);
            sealed.segment.bytes() + sealed.segment.rows() / 8 + graph + lists
        });
        sealed.sum::<usize>() + view.fresh.bytes()
    }

    fn lock(&self) -> MutexGuard<'_, Writer> {
        // Nothing in a call can panic between two parts of a change to the writer.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A file the manifest names that is not there is damage; any other failure is the disk's.
fn reading_failed(path: &Path, error: &io::Error) -> IndexError {
    match error.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::InvalidInput => {
            IndexError::damaged(path, error.to_string())
        }
        _ => IndexError::io(path, error),
    }
}
