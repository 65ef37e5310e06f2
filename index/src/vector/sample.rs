//! One sealed segment in a folder of its own, for tests of what is built over segments.

use std::path::PathBuf;
use std::sync::Arc;

use proptest::prelude::*;

use super::bits::Bits;
use super::engine::{Allowed, Exact, Query, VectorIndex};
use super::metric::prepare;
use super::segment::{self, Row, Segment};
use super::{Engine, Metric, manifest};
use crate::rank::Top;
use crate::{Hit, Kernels};

/// Values of its vectors.
pub(super) const DIM: usize = 3;
pub(super) const METRICS: [Metric; 3] = [Metric::Cosine, Metric::L2, Metric::InnerProduct];
/// Tenants that have rows in it, and one that has none.
pub(super) const TENANTS: [&str; 3] = ["a", "b", "c"];

/// The segment.
pub(super) struct Sample {
    pub(super) dir: tempfile::TempDir,
    pub(super) segment: Arc<Segment>,
    pub(super) metric: Metric,
    pub(super) dead: Bits,
}

impl Sample {
    /// A segment of these vectors; ids are their places. Every third is of tenant `a`.
    pub(super) fn new(metric: Metric, rows: &[[f32; DIM]]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.seg");
        let stored: Vec<Vec<f32>> = rows.iter().map(|values| stored(metric, values)).collect();
        let tenant = |id: usize| if id.is_multiple_of(3) { TENANTS[0] } else { TENANTS[1] };
        let mut live = Vec::new();
        for (id, values) in stored.iter().enumerate() {
            live.push(Row { tenant: tenant(id), id: id as u128, values });
        }
        segment::write(&path, DIM, live).unwrap();
        let segment = Arc::new(Segment::open(&path, DIM).unwrap());
        let dead = Bits::none(segment.rows());
        Self { dir, segment, metric, dead }
    }

    /// The same with some rows dead; numbers of rows that there are not count for nothing.
    pub(super) fn with_dead(mut self, dead: Vec<u32>) -> Self {
        let rows = self.segment.rows();
        dead.into_iter().filter(|&row| (row as usize) < rows).for_each(|r| self.dead.insert(r));
        self
    }

    /// Where an engine of it may be kept.
    pub(super) fn path(&self, engine: Engine) -> PathBuf {
        self.dir.path().join(manifest::engine_name(1, engine))
    }

    /// What a scan finds.
    pub(super) fn right(&self, query: &Query<'_>, allowed: &Allowed<'_>) -> Vec<Hit> {
        hits(&Exact, query, allowed, 0).unwrap()
    }

    /// A query for values of the form in which they are stored.
    pub(super) fn query<'a>(&self, values: &'a [f32], k: usize) -> Query<'a> {
        Query { values, metric: self.metric, kernels: Kernels::detect(), k }
    }
}

/// A vector in the form in which it is stored.
pub(super) fn stored(metric: Metric, values: &[f32; DIM]) -> Vec<f32> {
    let mut values = values.to_vec();
    prepare(metric, DIM, &mut values).unwrap();
    values
}

/// What an engine finds, if it vouches for it.
pub(super) fn hits(
    engine: &dyn VectorIndex,
    query: &Query<'_>,
    allowed: &Allowed<'_>,
    width: usize,
) -> Option<Vec<Hit>> {
    let mut top = Top::new(query.k);
    engine.nearest(query, allowed, width, &mut top).then(|| top.into_sorted())
}

/// Small whole numbers: every product and sum of them is exact, and many vectors are equal.
pub(super) fn vector() -> impl Strategy<Value = [f32; DIM]> {
    prop::array::uniform3((-8_i8..=8).prop_map(f32::from))
}
