//! A graph over a sealed segment: every row leads to some that are near it, and a search steps from
//! row to row towards the query.
//!
//! The structure is that of "Efficient and robust approximate nearest neighbor search using HNSW
//! graphs" (2016), with two differences: the layers of all rows are drawn beforehand, and after the
//! build every row is made reachable, which pruning alone does not see to. The vectors stay in the
//! segment's file; a row here has its links and nothing else. Dead rows and other tenants are walked
//! over like any and picked out of the answers.

mod codes;
mod distances;
mod insert;
mod links;
mod mend;
#[cfg(test)]
mod tests;
mod walk;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rayon::iter::{IntoParallelIterator, ParallelIterator};

use super::build::{Built, workers};
use super::engine::{Allowed, Query, VectorIndex};
use super::segment::Segment;
use super::sidecar::Sidecar;
use super::{HnswParams, Metric};
use crate::rank::Top;
use crate::{IndexError, Kernels};
use distances::Distances;
use insert::Inserter;
use links::Links;
use walk::{Pool, descend, nearest};

const MAGIC: [u8; 8] = *b"AKGHNSW1";
/// Rows put in one after the other before several are put in side by side: those do not see one
/// another.
const FIRST_ROWS: usize = 256;
/// Rows put in between two looks at the stop signal.
const BATCH_ROWS: usize = 256;
/// Rows that look for themselves in a new graph.
const PROBES: usize = 256;
/// Breadth of the probes at least.
const PROBE_WIDTH: usize = 64;
/// Probes that may miss. Among vectors that lie close together some are found by wider walks only.
const MISSES_MAX: usize = PROBES / 20;

/// The graph of a segment.
pub(super) struct Graph {
    links: Links,
    distances: Distances,
    /// Where walks begin.
    entry: u32,
    ef_construction: usize,
    pool: Pool,
}

impl Graph {
    fn new(links: Links, distances: Distances, ef_construction: usize) -> Self {
        let entry = links.entry();
        Self { links, distances, entry, ef_construction, pool: Pool::default() }
    }

    /// Builds the graph of a segment, counting finished rows in `done`, on all processors but one.
    pub(super) fn build(
        segment: &Arc<Segment>,
        metric: Metric,
        kernels: Kernels,
        params: HnswParams,
        stop: &dyn Fn() -> bool,
        done: &AtomicUsize,
    ) -> Built<Self> {
        let HnswParams { m, ef_construction, ef_search } = params;
        let links = Links::new(segment.rows(), m);
        let graph = Self::new(links, Distances::new(segment, metric, kernels), ef_construction);
        if !graph.insert_all(stop, done) {
            return Built::Stopped;
        }
        let Self { links, distances, entry, pool, .. } = &graph;
        let lost = pool.with(|scratch| mend::mend(links, distances, *entry, scratch));
        tracing::debug!(rows = links.rows(), lost, "vector graph built");
        match graph.probe(segment, ef_search) {
            Ok(()) => Built::Standing(graph),
            Err(reason) => Built::Rejected(reason),
        }
    }

    /// Puts all rows in; false if it was told to stop.
    fn insert_all(&self, stop: &dyn Fn() -> bool, done: &AtomicUsize) -> bool {
        let Self { links, distances, entry, ef_construction, pool } = self;
        let inserter = Inserter { links, distances, entry: *entry, breadth: *ef_construction };
        let Some(workers) = workers() else { return false };
        let rows = links.rows() as u32;
        let first = rows.min(FIRST_ROWS as u32);
        for row in 0..first {
            pool.with(|scratch| inserter.insert(row, scratch));
        }
        done.fetch_add(first as usize, Ordering::Relaxed);
        for start in (first..rows).step_by(BATCH_ROWS) {
            if stop() {
                return false;
            }
            let batch = start..rows.min(start.saturating_add(BATCH_ROWS as u32));
            let n = batch.len();
            let insert = |row| pool.with(|scratch| inserter.insert(row, scratch));
            workers.install(|| batch.into_par_iter().for_each(insert));
            done.fetch_add(n, Ordering::Relaxed);
        }
        true
    }

    /// Whether the rows of a sample are found by their own vectors.
    fn probe(&self, segment: &Segment, ef_search: usize) -> Result<(), String> {
        let rows = self.links.rows();
        let width = ef_search.max(PROBE_WIDTH);
        let sample = (0..rows as u32).step_by(rows.div_ceil(PROBES).max(1));
        let misses = |&row: &u32| {
            let own = segment.vector(row);
            // Any row with the same vector will do: there may be more of them than `width`.
            let itself = |&found: &u32| found == row || segment.vector(found) == own;
            !self.walk(own, width).iter().any(itself)
        };
        match sample.filter(misses).count() {
            0..=MISSES_MAX => Ok(()),
            missed => Err(format!("{missed} of {PROBES} rows did not find themselves")),
        }
    }

    /// The nearest rows of all that are in the graph, nearest first.
    fn walk(&self, values: &[f32], width: usize) -> Vec<u32> {
        let Self { links, entry, pool, .. } = self;
        if links.rows() == 0 {
            return Vec::new();
        }
        let from = self.distances.of_values(values);
        let starts = descend(links, &from, *entry, 0);
        let found = pool.with(|scratch| nearest(links, &from, &starts, 0, width, scratch));
        found.into_iter().map(|near| near.row).collect()
    }

    /// Replaces the file of the graph.
    pub(super) fn save(&self, path: &Path, segment: &Segment) -> io::Result<()> {
        let own = [self.links.m() as u32, self.ef_construction as u32];
        Sidecar::save(path, MAGIC, segment, own, self.links.words())
    }

    /// The graph of a segment, if there is a file of it that was made with these parameters.
    pub(super) fn open(
        path: &Path,
        segment: &Arc<Segment>,
        metric: Metric,
        kernels: Kernels,
        params: HnswParams,
    ) -> Result<Option<Self>, IndexError> {
        let HnswParams { m, ef_construction, .. } = params;
        let Some(sidecar) = Sidecar::load(path, MAGIC, segment)? else { return Ok(None) };
        if sidecar.own != [m as u32, ef_construction as u32] {
            return Ok(None);
        }
        let links = Links::from_words(segment.rows(), m, sidecar.words())
            .ok_or_else(|| IndexError::damaged(path, "its links lead nowhere"))?;
        Ok(Some(Self::new(links, Distances::new(segment, metric, kernels), ef_construction)))
    }

    /// Memory in use.
    pub(super) fn bytes(&self) -> usize {
        self.links.bytes() + self.distances.bytes()
    }
}

impl VectorIndex for Graph {
    fn nearest(
        &self,
        query: &Query<'_>,
        allowed: &Allowed<'_>,
        width: usize,
        top: &mut Top,
    ) -> bool {
        let mut found = self.walk(query.values, width);
        found.retain(|&row| allowed.contains(row));
        if found.len() < query.k && allowed.known() != Some(found.len()) {
            return false;
        }
        let ids = allowed.segment.ids();
        for row in found {
            top.push(query.hit(ids[row as usize], allowed.segment.vector(row)));
        }
        true
    }
}
