//! Settings of a set, and their ranges.

use super::Metric;
use crate::IndexError;

/// Vectors have between one value and this many.
const DIM_MAX: usize = 65_536;

/// How large sets are searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Engine {
    /// Always by scan.
    Exact,
    /// By a graph where that is quicker.
    Hnsw,
}

/// Parameters of the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HnswParams {
    /// Links of a point, 2 to 128; twice as many on the lowest layer.
    pub m: usize,
    /// Breadth of the search for links, 4 to 4096.
    pub ef_construction: usize,
    /// Breadth of a search that names none, 1 to 4096.
    pub ef_search: usize,
}

impl Default for HnswParams {
    fn default() -> Self {
        Self { m: 16, ef_construction: 128, ef_search: 80 }
    }
}

/// Settings of a set.
#[derive(Debug, Clone, Copy)]
pub struct VectorOptions {
    /// Values of a vector, 1 to 65 536. Fixed when the set is made.
    pub dim: usize,
    /// How vectors are compared. Fixed when the set is made.
    pub metric: Metric,
    /// Parameters of graphs built from now on.
    pub hnsw: HnswParams,
    /// How large sets are searched.
    pub engine: Engine,
    /// Up to this many candidates are scanned even where there is a graph; none is built for
    /// fewer vectors. With 0 every sealed segment gets a graph and it is always asked.
    pub exact_limit: usize,
}

impl VectorOptions {
    /// A set with a graph from 20 000 vectors on.
    #[must_use]
    pub fn new(dim: usize, metric: Metric) -> Self {
        Self { dim, metric, hnsw: HnswParams::default(), engine: Engine::Hnsw, exact_limit: 20_000 }
    }

    pub(super) fn check(&self) -> Result<(), IndexError> {
        let HnswParams { m, ef_construction, ef_search } = self.hnsw;
        for (name, value, range) in [
            ("dim", self.dim, 1..=DIM_MAX),
            ("m", m, 2..=128),
            ("ef_construction", ef_construction, 4..=4096),
            ("ef_search", ef_search, 1..=4096),
        ] {
            if !range.contains(&value) {
                let reason = format!("{name} is {value}, not within {range:?}");
                return Err(IndexError::Invalid(reason));
            }
        }
        Ok(())
    }
}
