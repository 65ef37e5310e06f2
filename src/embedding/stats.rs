//! What the service has done so far.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters since the start, and what waits now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EmbedderStats {
    /// Texts embedded, queries included.
    pub texts: u64,
    /// Slices computed; texts that come together share one.
    pub batches: u64,
    /// Word pieces computed.
    pub tokens: u64,
    /// Queries answered from memory.
    pub cache_hits: u64,
    /// Queries that were not in memory.
    pub cache_misses: u64,
    /// Queries refused because too many waited.
    pub refused: u64,
    /// Queries that wait.
    pub waiting_queries: u64,
    /// Texts of jobs that wait.
    pub waiting_texts: u64,
}

/// The counters behind [`EmbedderStats`].
#[derive(Default)]
pub(super) struct Counters {
    pub(super) texts: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) tokens: AtomicU64,
    pub(super) cache_hits: AtomicU64,
    pub(super) cache_misses: AtomicU64,
    pub(super) refused: AtomicU64,
}

impl Counters {
    /// The counters now, beside the queries and texts that wait.
    pub(super) fn read(&self, (waiting_queries, waiting_texts): (usize, usize)) -> EmbedderStats {
        let Self { texts, batches, tokens, cache_hits, cache_misses, refused } = self;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        EmbedderStats {
            texts: read(texts),
            batches: read(batches),
            tokens: read(tokens),
            cache_hits: read(cache_hits),
            cache_misses: read(cache_misses),
            refused: read(refused),
            waiting_queries: waiting_queries as u64,
            waiting_texts: waiting_texts as u64,
        }
    }
}

/// Counts `n` more.
pub(super) fn count(counter: &AtomicU64, n: usize) {
    counter.fetch_add(n as u64, Ordering::Relaxed);
}
