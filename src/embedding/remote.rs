//! Vectors from a service.

mod budget;
mod provider;
mod wire;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use activekg_storage::{StorageError, Store};

use super::batcher::EmbedderOptions;
use super::cache::QueryCache;
use super::stats::{Counters, EmbedderStats};
use super::{EmbedError, ModelInfo};

pub use provider::{Provider, ProviderOptions};
pub use wire::Dialect;

/// Most texts in one request.
const TEXTS_MAX: usize = 64;
/// Most bytes of texts in one request, unless it is one text.
const BYTES_MAX: usize = 256 * 1024;

/// A service as an engine: queries are remembered, the texts of jobs are sent in batches.
#[derive(Clone)]
pub(super) struct Remote {
    shared: Arc<Shared>,
}

struct Shared {
    provider: Provider,
    cache: QueryCache,
    /// Queries that may wait before one is refused.
    queue_len: usize,
    waiting_queries: AtomicUsize,
    waiting_texts: AtomicUsize,
    queries: Counters,
    texts: Counters,
    refused: AtomicU64,
    stopped: AtomicBool,
}

impl Remote {
    pub(super) fn new(provider: Provider, options: EmbedderOptions) -> Self {
        let EmbedderOptions { cache_entries, cache_ttl, queue_len, threads: _ } = options;
        let shared = Shared {
            provider,
            cache: QueryCache::new(cache_entries, cache_ttl),
            queue_len: queue_len.max(1),
            waiting_queries: AtomicUsize::new(0),
            waiting_texts: AtomicUsize::new(0),
            queries: Counters::new(),
            texts: Counters::new(),
            refused: AtomicU64::new(0),
            stopped: AtomicBool::new(false),
        };
        Self { shared: Arc::new(shared) }
    }

    /// Keeps the tokens of the day in `store`. Blocks for one read.
    pub(super) fn keep_in(&self, store: Arc<Store>) -> Result<(), StorageError> {
        self.shared.provider.keep_in(store)
    }

    pub(super) async fn query(&self, text: &str) -> Result<Arc<[f32]>, EmbedError> {
        let Shared { cache, queries, waiting_queries, .. } = &*self.shared;
        if let Some(vector) = cache.get(text, Instant::now()) {
            return Ok(vector);
        }
        let (waiting, before) = Waiting::begin(waiting_queries, 1);
        if before >= self.shared.queue_len {
            self.shared.refused.fetch_add(1, Ordering::Relaxed);
            return Err(EmbedError::Busy);
        }
        let vectors = self.send(queries, &[text.to_owned()]).await;
        drop(waiting);
        let vector = vectors?.pop().ok_or(EmbedError::Stopped)?;
        let vector: Arc<[f32]> = vector.into();
        cache.put(text, Arc::clone(&vector), Instant::now());
        Ok(vector)
    }

    pub(super) async fn each(&self, texts: Vec<String>) -> Vec<Result<Vec<f32>, EmbedError>> {
        let Shared { texts: counters, waiting_texts, .. } = &*self.shared;
        let (_waiting, _) = Waiting::begin(waiting_texts, texts.len());
        let mut vectors = Vec::with_capacity(texts.len());
        for batch in batches(&texts) {
            match self.send(counters, batch).await {
                Ok(found) => vectors.extend(found.into_iter().map(Ok)),
                // The service may refuse a request for the sake of one text.
                Err(EmbedError::Remote(error)) if error.is_refusal() && batch.len() > 1 => {
                    for text in batch {
                        let found = self.send(counters, std::slice::from_ref(text)).await;
                        let found = found.and_then(|mut one| one.pop().ok_or(EmbedError::Stopped));
                        vectors.push(found);
                    }
                }
                Err(error) => vectors.extend(batch.iter().map(|_| Err(error.clone()))),
            }
        }
        vectors
    }

    async fn send(
        &self,
        counters: &Counters,
        texts: &[String],
    ) -> Result<Vec<Vec<f32>>, EmbedError> {
        if self.shared.stopped.load(Ordering::Relaxed) {
            return Err(EmbedError::Stopped);
        }
        match self.shared.provider.vectors(texts).await {
            Ok((vectors, tokens)) => {
                counters.computed(texts.len(), usize::try_from(tokens).unwrap_or(usize::MAX));
                Ok(vectors)
            }
            Err(error) => {
                texts.iter().for_each(|_| counters.failed());
                Err(error)
            }
        }
    }

    pub(super) fn model(&self) -> &ModelInfo {
        self.shared.provider.model()
    }

    pub(super) fn stats(&self) -> EmbedderStats {
        let Shared { queries, texts, waiting_queries, waiting_texts, refused, cache, .. } =
            &*self.shared;
        EmbedderStats {
            queries: queries.read(waiting_queries.load(Ordering::Relaxed)),
            texts: texts.read(waiting_texts.load(Ordering::Relaxed)),
            refused: refused.load(Ordering::Relaxed),
            cache: cache.stats(),
        }
    }

    pub(super) fn stop(&self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
    }
}

/// Texts that are counted as waiting until this is dropped.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    n: usize,
}

impl<'a> Waiting<'a> {
    /// Counts `n` more; how many waited before.
    fn begin(count: &'a AtomicUsize, n: usize) -> (Self, usize) {
        let before = count.fetch_add(n, Ordering::Relaxed);
        (Self { count, n }, before)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(self.n, Ordering::Relaxed);
    }
}

/// Neighbouring texts for a request each: not too many, and not too long together.
fn batches(texts: &[String]) -> impl Iterator<Item = &[String]> {
    let mut rest = texts;
    std::iter::from_fn(move || {
        let mut bytes = 0;
        let fitting = rest.iter().take(TEXTS_MAX).take_while(|text| {
            bytes += text.len();
            bytes <= BYTES_MAX
        });
        let n = fitting.count().max(1).min(rest.len());
        let (batch, after) = rest.split_at(n);
        rest = after;
        (!batch.is_empty()).then_some(batch)
    })
}

#[cfg(test)]
mod tests;
