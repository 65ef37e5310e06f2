//! What the service has done so far.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use activekg_storage::Histogram;

/// Upper bounds of the buckets for waits, in seconds.
const WAIT_SECONDS: &[f64] =
    &[0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0];
/// Upper bounds of the buckets for texts computed in one go.
const SLICE_TEXTS: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0];

/// Counts since the start, and what waits now. Read one after the other, so that they may be a
/// text apart from each other.
#[derive(Debug, Clone, PartialEq)]
pub struct EmbedderStats {
    /// Queries that were not in memory.
    pub queries: KindStats,
    /// Texts of jobs.
    pub texts: KindStats,
    /// Queries refused because too many waited.
    pub refused: u64,
    /// The vectors of queries in memory.
    pub cache: CacheStats,
}

/// Counts of queries, or of texts of jobs.
#[derive(Debug, Clone, PartialEq)]
pub struct KindStats {
    /// Texts embedded.
    pub done: u64,
    /// Texts without a vector: the model failed or panicked.
    pub failed: u64,
    /// Word pieces computed.
    pub tokens: u64,
    /// Texts that wait.
    pub waiting: u64,
    /// Seconds from a caller's call until a thread took the text.
    pub wait_seconds: Histogram,
    /// Texts computed in one go.
    pub slice_texts: Histogram,
}

/// The vectors of queries in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStats {
    /// Queries answered from memory.
    pub hits: u64,
    /// Queries that were not in memory, or too long ago.
    pub misses: u64,
    /// Vectors dropped to make room for others.
    pub evicted_room: u64,
    /// Vectors dropped because they were too old.
    pub evicted_age: u64,
    /// Vectors in memory.
    pub entries: u64,
}

/// The counters of one kind.
pub(super) struct Counters {
    done: AtomicU64,
    failed: AtomicU64,
    tokens: AtomicU64,
    waits: Buckets,
    slices: Buckets,
}

impl Counters {
    pub(super) fn new() -> Self {
        Self {
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            tokens: AtomicU64::new(0),
            waits: Buckets::new(WAIT_SECONDS),
            slices: Buckets::new(SLICE_TEXTS),
        }
    }

    /// A text was taken after so long a wait.
    pub(super) fn taken(&self, wait: Duration) {
        // Nanoseconds: half a millennium fits.
        let nanos = u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX);
        self.waits.add(wait.as_secs_f64(), nanos);
    }

    /// So many texts of so many tokens in all were computed in one go.
    pub(super) fn computed(&self, texts: usize, tokens: usize) {
        self.done.fetch_add(texts as u64, Relaxed);
        self.tokens.fetch_add(tokens as u64, Relaxed);
        self.slices.add(texts as f64, texts as u64);
    }

    /// A text got no vector.
    pub(super) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    /// The counts now, beside how many wait.
    pub(super) fn read(&self, waiting: usize) -> KindStats {
        let Self { done, failed, tokens, waits, slices } = self;
        KindStats {
            done: done.load(Relaxed),
            failed: failed.load(Relaxed),
            tokens: tokens.load(Relaxed),
            waiting: waiting as u64,
            wait_seconds: waits.read(1e-9),
            slice_texts: slices.read(1.0),
        }
    }
}

/// A histogram that any thread may fill.
struct Buckets {
    bounds: &'static [f64],
    /// One more than there are bounds.
    counts: Vec<AtomicU64>,
    /// In units that are whole numbers.
    sum: AtomicU64,
}

impl Buckets {
    fn new(bounds: &'static [f64]) -> Self {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Self { bounds, counts, sum: AtomicU64::new(0) }
    }

    /// Counts `value`, which is so many units.
    fn add(&self, value: f64, units: u64) {
        let bucket = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get(bucket) {
            count.fetch_add(1, Relaxed);
        }
        self.sum.fetch_add(units, Relaxed);
    }

    fn read(&self, unit: f64) -> Histogram {
        Histogram {
            bounds: self.bounds,
            counts: self.counts.iter().map(|count| count.load(Relaxed)).collect(),
            sum: self.sum.load(Relaxed) as f64 * unit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_and_slices_fall_into_their_buckets() {
        let counters = Counters::new();
        counters.taken(Duration::from_micros(200));
        counters.taken(Duration::from_secs(60));
        counters.computed(3, 50);
        counters.computed(1, 6);
        counters.failed();
        let stats = counters.read(7);
        assert_eq!((stats.done, stats.failed, stats.tokens, stats.waiting), (4, 1, 56, 7));
        assert_eq!((stats.wait_seconds.counts[1], stats.wait_seconds.counts[15]), (1, 1));
        assert!((stats.wait_seconds.sum - 60.0002).abs() < 1e-9);
        assert_eq!(stats.slice_texts.counts[..3], [1, 0, 1]);
        assert_eq!((stats.slice_texts.count(), stats.slice_texts.sum), (2, 4.0));
    }
}
