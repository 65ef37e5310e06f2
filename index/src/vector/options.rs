//! Settings of a set, and their ranges.

use super::Metric;
use crate::IndexError;

/// Vectors have between one value and this many.
const DIM_MAX: usize = 65_536;

/// A way to search a large segment without comparing every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Engine {
    /// A graph that is walked towards the query.
    Hnsw,
    /// Lists of rows that lie close together, of which the nearest are scanned.
    IvfFlat,
}

impl Engine {
    /// Both, in the order in which they are asked.
    pub const ALL: [Self; 2] = [Self::Hnsw, Self::IvfFlat];

    /// `hnsw` or `ivfflat`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hnsw => "hnsw",
            Self::IvfFlat => "ivfflat",
        }
    }
}

/// Which engines a set keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Engines {
    hnsw: bool,
    ivfflat: bool,
}

impl Engines {
    /// None: every search is a scan.
    pub const NONE: Self = Self { hnsw: false, ivfflat: false };

    /// Whether it is among them.
    #[must_use]
    pub fn contains(self, engine: Engine) -> bool {
        match engine {
            Engine::Hnsw => self.hnsw,
            Engine::IvfFlat => self.ivfflat,
        }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::NONE
    }

    /// These and one more.
    #[must_use]
    pub fn with(mut self, engine: Engine) -> Self {
        *self.at(engine) = true;
        self
    }

    /// These but for one.
    #[must_use]
    pub fn without(mut self, engine: Engine) -> Self {
        *self.at(engine) = false;
        self
    }

    /// Each of them, in the order in which they are asked.
    pub fn iter(self) -> impl Iterator<Item = Engine> {
        Engine::ALL.into_iter().filter(move |&engine| self.contains(engine))
    }

    fn at(&mut self, engine: Engine) -> &mut bool {
        match engine {
            Engine::Hnsw => &mut self.hnsw,
            Engine::IvfFlat => &mut self.ivfflat,
        }
    }
}

impl FromIterator<Engine> for Engines {
    fn from_iter<I: IntoIterator<Item = Engine>>(engines: I) -> Self {
        engines.into_iter().fold(Self::NONE, Self::with)
    }
}

impl From<Engine> for Engines {
    fn from(engine: Engine) -> Self {
        Self::NONE.with(engine)
    }
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

/// Parameters of the lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IvfParams {
    /// Lists of a segment, 1 to 32 768; fewer where they would be too short to be worth it.
    pub lists: usize,
    /// Lists a search scans at least, 1 to 32 768; as many as there are make it exact.
    pub probes: usize,
}

impl Default for IvfParams {
    fn default() -> Self {
        Self { lists: 100, probes: 4 }
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
    /// Parameters of lists built from now on; lists on the disk that have others are built anew.
    pub ivfflat: IvfParams,
    /// The engines to keep, until [`super::VectorSet::keep`] says otherwise.
    pub engines: Engines,
    /// Up to this many candidates are scanned whatever engines there are; none is built for fewer
    /// vectors. With 0 every sealed segment gets its engines and they are always asked.
    pub exact_limit: usize,
}

impl VectorOptions {
    /// A set with a graph from 20 000 vectors on.
    #[must_use]
    pub fn new(dim: usize, metric: Metric) -> Self {
        Self {
            dim,
            metric,
            hnsw: HnswParams::default(),
            ivfflat: IvfParams::default(),
            engines: Engine::Hnsw.into(),
            exact_limit: 20_000,
        }
    }

    pub(super) fn check(&self) -> Result<(), IndexError> {
        let HnswParams { m, ef_construction, ef_search } = self.hnsw;
        let IvfParams { lists, probes } = self.ivfflat;
        for (name, value, range) in [
            ("dim", self.dim, 1..=DIM_MAX),
            ("m", m, 2..=128),
            ("ef_construction", ef_construction, 4..=4096),
            ("ef_search", ef_search, 1..=4096),
            ("lists", lists, 1..=32_768),
            ("probes", probes, 1..=32_768),
        ] {
            if !range.contains(&value) {
                let reason = format!("{name} is {value}, not within {range:?}");
                return Err(IndexError::Invalid(reason));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn engines_are_a_set() {
        let both: Engines = Engine::ALL.into_iter().collect();
        assert_eq!(both.iter().collect::<Vec<_>>(), Engine::ALL);
        assert_eq!(both.without(Engine::Hnsw), Engine::IvfFlat.into());
        assert!(both.without(Engine::Hnsw).without(Engine::IvfFlat).is_empty());
    }
}
