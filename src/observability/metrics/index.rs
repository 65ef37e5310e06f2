//! Builds of the vector index.

use std::time::Duration;

use prometheus::HistogramVec;

use super::register::Register;

/// Builds of the vector index. A clone counts in the same place.
#[derive(Clone)]
pub struct IndexMetrics {
    build: HistogramVec,
}

/// How a build ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildResult {
    /// It serves.
    Success,
    /// It was there already.
    Duplicate,
    /// Search goes on without it.
    Error,
}

impl BuildResult {
    const ALL: [Self; 3] = [Self::Success, Self::Duplicate, Self::Error];

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Duplicate => "duplicate",
            Self::Error => "error",
        }
    }
}

impl IndexMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Result<Self, prometheus::Error> {
        let build = register.histograms(
            "activekg_vector_index_build_seconds",
            "Time to build a vector index",
            &["type", "metric", "result"],
            &[0.1, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0],
        )?;
        Ok(Self { build })
    }

    /// There may be builds of such an index: their series are there from now on.
    pub fn expect(&self, kind: &str, metric: &str) {
        for result in BuildResult::ALL {
            self.build.with_label_values(&[kind, metric, result.as_str()]);
        }
    }

    /// A build of an index of type `hnsw` or `ivfflat` over `cosine`, `l2` or `ip` ended.
    pub fn built(&self, kind: &str, metric: &str, result: BuildResult, latency: Duration) {
        let labels = [kind, metric, result.as_str()];
        self.build.with_label_values(&labels).observe(latency.as_secs_f64());
    }
}
