//! A graph over a sealed segment, on hnsw_rs.
//!
//! The crate exits the process on bad parameters and dump files, panics on NaN, cannot delete and
//! is slow under a filter. So parameters are checked by [`super::HnswParams`], the dump files are
//! never used, distances are our own and never NaN, dead rows and other tenants are picked out of
//! its answers, and a panic inside it costs the graph and nothing else.
//!
//! A point of the graph is the number of a row and not a copy of its vector: the distance looks
//! the vectors up in the segment's file.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hnsw_rs::anndists::dist::Distance;
use hnsw_rs::hnsw::Hnsw;

use super::build::{Built, workers};
use super::engine::{Allowed, Query, VectorIndex};
use super::lift::Lift;
use super::segment::Segment;
use super::{HnswParams, Metric};
use crate::Kernels;
use crate::rank::Top;

/// hnsw_rs allows no more.
const LAYERS: usize = 16;
/// Rows inserted between two looks at the stop signal.
const BATCH_ROWS: usize = 256;
/// Rows that must find themselves in a new graph.
const PROBES: usize = 256;
/// Breadth of the probes at least.
const PROBE_WIDTH: usize = 64;

pub(super) struct Graph {
    hnsw: Hnsw<'static, u32, RowDistance>,
    rows: usize,
    m: usize,
}

impl Graph {
    /// Builds the graph of a segment, counting finished rows in `done`, on all processors but one.
    pub(super) fn build(
        segment: &Arc<Segment>,
        metric: Metric,
        kernels: Kernels,
        params: HnswParams,
        stop: &dyn Fn() -> bool,
        done: &AtomicUsize,
    ) -> Built<Self> {
        let built = catch_unwind(AssertUnwindSafe(|| {
            let distance = RowDistance::new(segment, metric, kernels);
            Self::insert_all(segment.rows(), distance, params, stop, done)
        }));
        match built {
            Ok(Some(graph)) => match graph.probe(segment, params.ef_search) {
                Ok(()) => Built::Standing(graph),
                Err(reason) => Built::Rejected(reason),
            },
            Ok(None) => Built::Stopped,
            Err(_) => Built::Rejected("the build panicked".into()),
        }
    }

    fn insert_all(
        rows: usize,
        distance: RowDistance,
        params: HnswParams,
        stop: &dyn Fn() -> bool,
        done: &AtomicUsize,
    ) -> Option<Self> {
        let HnswParams { m, ef_construction, .. } = params;
        let mut hnsw = Hnsw::new(m, rows.max(1), LAYERS, ef_construction, distance);
        let numbers: Vec<u32> = (0..rows as u32).collect();
        let pool = workers()?;
        let mut insert = |batch: &[u32]| {
            let points: Vec<(&[u32], usize)> =
                batch.iter().map(|row| (std::slice::from_ref(row), *row as usize)).collect();
            pool.install(|| hnsw.parallel_insert_slice(&points));
            done.fetch_add(points.len(), Ordering::Relaxed);
        };
        // The first points alone: inserted side by side they would not see each other.
        let (first, rest) = numbers.split_at(rows.min(BATCH_ROWS));
        first.chunks(1).for_each(&mut insert);
        for batch in rest.chunks(BATCH_ROWS) {
            if stop() {
                return None;
            }
            insert(batch);
        }
        hnsw.set_searching_mode(true);
        Some(Self { hnsw, rows, m })
    }

    /// Whether a sample of rows is found by its own vectors.
    fn probe(&self, segment: &Segment, ef_search: usize) -> Result<(), String> {
        let width = ef_search.max(PROBE_WIDTH);
        let step = self.rows.div_ceil(PROBES).max(1);
        for row in (0..self.rows as u32).step_by(step) {
            let found = self.walk(&[row], width).ok_or("a search panicked")?;
            let own = segment.vector(row);
            // Any row with the same vector will do: there may be more of them than `width`.
            let itself = |&found: &u32| found == row || segment.vector(found) == own;
            if !found.iter().any(itself) {
                return Err(format!("row {row} of {} does not find itself", self.rows));
            }
        }
        Ok(())
    }

    /// The nearest rows of all that are in the graph; `None` if hnsw_rs panicked.
    fn walk(&self, point: &[u32], width: usize) -> Option<Vec<u32>> {
        let walk = || self.hnsw.search(point, width, width);
        let found = catch_unwind(AssertUnwindSafe(walk)).ok()?;
        Some(found.iter().map(|n| n.d_id as u32).collect())
    }

    /// An estimate: hnsw_rs keeps a list for each of its 16 layers and a counted heap block for
    /// each link.
    pub(super) fn bytes(&self) -> usize {
        self.rows * (560 + 2 * self.m * 40)
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
        let Some(found) = self.walk(&query_point(query), width) else {
            return false;
        };
        let found: Vec<u32> = found.into_iter().filter(|&row| allowed.contains(row)).collect();
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

/// A query as a point: the bits of its values and one word more, so that even a single value
/// differs from a row number by its length.
fn query_point(query: &Query<'_>) -> Vec<u32> {
    let square = query.kernels.dot(query.values, query.values);
    query.values.iter().chain([&square]).map(|v| v.to_bits()).collect()
}

enum Point<'a> {
    Row(u32),
    Query { values: &'a [f32], square: f32 },
}

impl<'a> Point<'a> {
    fn of(words: &'a [u32]) -> Self {
        match words {
            [row] => Self::Row(*row),
            [values @ .., square] => {
                // SAFETY: u32 and f32 have the same size and alignment, every bit pattern is an
                // f32, and the slice lives as long as the words it was made from.
                let values =
                    unsafe { std::slice::from_raw_parts(values.as_ptr().cast(), values.len()) };
                let square = f32::from_bits(*square);
                Self::Query { values, square }
            }
            [] => Self::Query { values: &[], square: 0.0 },
        }
    }
}

/// Distances as hnsw_rs needs them: never negative, never NaN, 0 for equal points.
struct RowDistance {
    segment: Arc<Segment>,
    metric: Metric,
    kernels: Kernels,
    /// For inner products.
    lift: Lift,
}

impl RowDistance {
    fn new(segment: &Arc<Segment>, metric: Metric, kernels: Kernels) -> Self {
        let lift = match metric {
            Metric::InnerProduct => Lift::of(segment, kernels),
            Metric::Cosine | Metric::L2 => Lift::default(),
        };
        Self { segment: Arc::clone(segment), metric, kernels, lift }
    }
}

impl Distance<u32> for RowDistance {
    fn eval(&self, a: &[u32], b: &[u32]) -> f32 {
        let (a, b) = (Point::of(a), Point::of(b));
        let (x, y) = (self.values(&a), self.values(&b));
        let distance = match self.metric {
            Metric::Cosine => 1.0 - self.kernels.dot(x, y),
            Metric::L2 => self.kernels.square_distance(x, y),
            Metric::InnerProduct => {
                let (square_a, extra_a) = self.lifted(&a);
                let (square_b, extra_b) = self.lifted(&b);
                square_a + square_b - 2.0 * (self.kernels.dot(x, y) + extra_a * extra_b)
            }
        };
        // `max` gives the other value for a NaN.
        distance.max(0.0)
    }
}

impl RowDistance {
    fn values<'a>(&'a self, point: &Point<'a>) -> &'a [f32] {
        match *point {
            Point::Row(row) => self.segment.vector(row),
            Point::Query { values, .. } => values,
        }
    }

    /// The squared length with the extra coordinate, and that coordinate.
    fn lifted(&self, point: &Point<'_>) -> (f32, f32) {
        match *point {
            Point::Row(row) => (self.lift.square, self.lift.at(row)),
            Point::Query { square, .. } => (square, 0.0),
        }
    }
}
