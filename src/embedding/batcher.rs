//! The model as a service: its own threads, shared by requests and jobs.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use tokio::sync::{Semaphore, oneshot};

use super::cache::QueryCache;
use super::encoder::{Encoder, own_pool};
use super::queue::{Queue, Request};
use super::stats::{Counters, EmbedderStats, count};
use super::{EmbedError, ModelInfo};

/// Texts handed over at a time by one job: enough to fill a slice for every thread, few enough
/// that jobs that run at once take turns.
const GROUP: usize = 64;

/// How much the service may hold and use.
#[derive(Debug, Clone, Copy)]
pub struct EmbedderOptions {
    /// Queries whose vectors are remembered, at about 2 KB each; 0 remembers none.
    pub cache_entries: usize,
    /// Queries that may wait before one is refused, and texts of jobs that may wait before their
    /// jobs do.
    pub queue_len: usize,
    /// Threads that compute; 0 takes one for each core.
    pub threads: usize,
}

impl Default for EmbedderOptions {
    fn default() -> Self {
        Self { cache_entries: 4096, queue_len: 1024, threads: 0 }
    }
}

/// A handle on the service; clones share it. The threads end when the last handle is dropped.
#[derive(Clone)]
pub struct Embedder {
    shared: Arc<Shared>,
    _threads: Arc<Threads>,
}

impl Embedder {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Stopped`] if the system gives no threads.
    pub fn start(encoder: Encoder, options: EmbedderOptions) -> Result<Self, EmbedError> {
        let EmbedderOptions { cache_entries, queue_len, threads } = options;
        let n_threads = match threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let queue_len = queue_len.clamp(1, Semaphore::MAX_PERMITS);
        let shared = Arc::new(Shared {
            encoder,
            cache: QueryCache::new(cache_entries),
            counters: Counters::default(),
            queue: Mutex::default(),
            arrived: Condvar::new(),
            places: Arc::new(Semaphore::new(queue_len)),
            queue_len,
            n_threads,
        });
        let mut threads = Threads { shared: Arc::clone(&shared), pools: Vec::new() };
        for _ in 0..n_threads {
            let pool = own_pool()?;
            let shared = Arc::clone(&shared);
            pool.spawn(move || shared.work());
            threads.pools.push(pool);
        }
        Ok(Self { shared, _threads: Arc::new(threads) })
    }

    /// The vector of a query: from memory, or computed ahead of all batch work.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Busy`] at once if `queue_len` queries wait already.
    pub async fn query(&self, text: &str) -> Result<Arc<[f32]>, EmbedError> {
        let Shared { cache, counters, .. } = &*self.shared;
        if let Some(vector) = cache.get(text) {
            count(&counters.cache_hits, 1);
            return Ok(vector);
        }
        count(&counters.cache_misses, 1);
        let (reply, answer) = oneshot::channel();
        let request = Request { text: text.to_owned(), reply, place: None };
        self.shared.push_query(request)?;
        let vector: Arc<[f32]> = answer.await.map_err(|_| EmbedError::Stopped)??.into();
        cache.put(text, Arc::clone(&vector));
        Ok(vector)
    }

    /// The vectors of a job's texts, in their order. Waits for a place in the queue; dropping the
    /// future gives up the texts that are not computed yet.
    ///
    /// # Errors
    ///
    /// The first failure, if any of the texts fails.
    pub async fn batch(&self, texts: Vec<String>) -> Result<Vec<Vec<f32>>, EmbedError> {
        let n = texts.len();
        let mut texts: Vec<(usize, String)> = texts.into_iter().enumerate().collect();
        // Texts of like length come together, which fills the slices evenly.
        texts.sort_by_key(|(_, text)| text.len());
        let mut texts = texts.into_iter();
        let mut answers = Vec::with_capacity(n);
        while texts.len() > 0 {
            let group = texts.len().min(GROUP).min(self.shared.queue_len);
            let places = Arc::clone(&self.shared.places);
            let places = u32::try_from(group).map(|n| places.acquire_many_owned(n));
            let mut places = match places {
                Ok(places) => places.await.map_err(|_| EmbedError::Stopped)?,
                Err(_) => return Err(EmbedError::Busy),
            };
            let mut requests = Vec::with_capacity(group);
            for (i, text) in texts.by_ref().take(group) {
                let (reply, answer) = oneshot::channel();
                requests.push(Request { text, reply, place: places.split(1) });
                answers.push((i, answer));
            }
            self.shared.push_texts(requests)?;
        }
        let mut vectors = vec![Vec::new(); n];
        for (i, answer) in answers {
            vectors[i] = answer.await.map_err(|_| EmbedError::Stopped)??;
        }
        Ok(vectors)
    }

    /// What the vectors are.
    pub fn model(&self) -> &ModelInfo {
        self.shared.encoder.model()
    }

    /// Counters, for metrics.
    pub fn stats(&self) -> EmbedderStats {
        let waiting = lock(&self.shared.queue).len();
        self.shared.counters.read(waiting)
    }

    /// Ends the threads after the slices they are at. What waits, and every later call, gets
    /// [`EmbedError::Stopped`].
    pub fn stop(&self) {
        self.shared.stop();
    }
}

struct Shared {
    encoder: Encoder,
    cache: QueryCache,
    counters: Counters,
    queue: Mutex<Queue>,
    arrived: Condvar,
    /// Places for texts of jobs; one is held until a thread takes the text.
    places: Arc<Semaphore>,
    queue_len: usize,
    n_threads: usize,
}

impl Shared {
    fn push_query(&self, request: Request) -> Result<(), EmbedError> {
        let pushed = lock(&self.queue).push_query(request, self.queue_len);
        match &pushed {
            Ok(()) => self.arrived.notify_one(),
            Err(EmbedError::Busy) => count(&self.counters.refused, 1),
            Err(_) => {}
        }
        pushed
    }

    fn push_texts(&self, requests: Vec<Request>) -> Result<(), EmbedError> {
        lock(&self.queue).push_texts(requests)?;
        self.arrived.notify_all();
        Ok(())
    }

    fn stop(&self) {
        lock(&self.queue).close();
        self.places.close();
        self.arrived.notify_all();
    }

    /// A thread's life.
    fn work(&self) {
        loop {
            let mut queue = lock(&self.queue);
            let slice = loop {
                if queue.is_closed() {
                    return;
                }
                let slice = queue.take(self.n_threads);
                if !slice.is_empty() {
                    break slice;
                }
                queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
            };
            drop(queue);
            self.answer(slice);
        }
    }

    fn answer(&self, slice: Vec<Request>) {
        let mut replies = Vec::with_capacity(slice.len());
        let mut tokens = Vec::with_capacity(slice.len());
        for Request { text, reply, place: _ } in slice {
            match unpanicked(|| self.encoder.tokenize(&text)) {
                Ok(pieces) => {
                    tokens.push(pieces);
                    replies.push(reply);
                }
                // Nobody to tell if the caller has gone; the same below.
                Err(error) => drop(reply.send(Err(error))),
            }
        }
        let texts: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        match unpanicked(|| self.encoder.forward(&texts)) {
            Ok(vectors) => {
                count(&self.counters.texts, vectors.len());
                count(&self.counters.batches, 1);
                count(&self.counters.tokens, tokens.iter().map(Vec::len).sum());
                for (reply, vector) in replies.into_iter().zip(vectors) {
                    drop(reply.send(Ok(vector)));
                }
            }
            Err(error) => {
                for reply in replies {
                    drop(reply.send(Err(error.clone())));
                }
            }
        }
    }
}

/// The threads, and the last handle's duty to end them.
struct Threads {
    shared: Arc<Shared>,
    pools: Vec<rayon::ThreadPool>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// A panic as an error, so that it costs the texts at hand and not the thread. The encoder is not
/// changed by use, so nothing can be left half done.
fn unpanicked<T>(work: impl FnOnce() -> Result<T, EmbedError>) -> Result<T, EmbedError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(EmbedError::Failed("the model panicked".to_owned())))
}

/// Locks, whether or not a thread has panicked while it held the lock: what these locks guard is
/// whole after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::{Precision, cosine};

    fn embedder(options: EmbedderOptions) -> Embedder {
        let encoder = Encoder::built_in(Precision::F32).unwrap();
        Embedder::start(encoder, options).unwrap()
    }

    #[tokio::test]
    async fn a_batch_larger_than_the_queue_comes_back_in_order() {
        let options = EmbedderOptions { queue_len: 2, threads: 2, ..EmbedderOptions::default() };
        let embedder = embedder(options);
        let texts: Vec<String> =
            (0..9).map(|i| format!("{} pump number {i}", "very ".repeat((9 - i) % 4))).collect();
        let vectors = embedder.batch(texts.clone()).await.unwrap();
        for (text, vector) in texts.iter().zip(&vectors) {
            let alone = embedder.query(text).await.unwrap();
            assert!(cosine(vector, &alone) > 0.999_999, "{text}");
        }
        let stats = embedder.stats();
        assert_eq!((stats.texts, stats.waiting_texts), (18, 0));
        assert!(stats.batches >= 5 + 9, "{stats:?}");
        assert!(embedder.batch(Vec::new()).await.unwrap().is_empty());
    }

    #[tokio::test]
    async fn a_query_is_computed_once() {
        let embedder = embedder(EmbedderOptions { threads: 1, ..EmbedderOptions::default() });
        let first = embedder.query("where is the pump").await.unwrap();
        let second = embedder.query("where is the pump").await.unwrap();
        assert!(Arc::ptr_eq(&first, &second));
        let stats = embedder.stats();
        assert_eq!((stats.cache_hits, stats.cache_misses, stats.batches), (1, 1, 1));
        assert_eq!(stats.tokens, 6);
    }

    #[tokio::test]
    async fn queries_overtake_texts_and_dropped_texts_are_given_up() {
        let embedder = embedder(EmbedderOptions { threads: 1, ..EmbedderOptions::default() });
        let long = "the committee reviewed the measured lift of a swept wing ".repeat(30);
        let mut batch = Box::pin(embedder.batch(vec![long; GROUP]));
        // One poll hands the texts over; they are far more work than the query.
        assert!(futures_util::poll!(batch.as_mut()).is_pending());
        embedder.query("swept wing").await.unwrap();
        let waiting = embedder.stats().waiting_texts;
        assert!(waiting > 0, "the query came after all the texts");
        drop(batch);
        embedder.query("another wing").await.unwrap();
        let done = embedder.batch(vec!["last".to_owned()]).await.unwrap();
        assert_eq!(done[0].len(), embedder.model().dim);
        let stats = embedder.stats();
        assert_eq!(stats.waiting_texts, 0);
        assert!(stats.texts < GROUP as u64, "{stats:?}");
    }

    #[tokio::test]
    async fn a_stopped_service_refuses() {
        let embedder = embedder(EmbedderOptions { threads: 1, ..EmbedderOptions::default() });
        let other = embedder.clone();
        drop(embedder);
        other.query("still here").await.unwrap();
        other.stop();
        assert!(matches!(other.query("new").await, Err(EmbedError::Stopped)));
        assert!(matches!(other.batch(vec!["new".into()]).await, Err(EmbedError::Stopped)));
        assert!(other.query("still here").await.is_ok(), "what is in memory needs no thread");
    }

    #[test]
    fn a_panic_is_an_error() {
        let outcome: Result<(), _> = unpanicked(|| panic!("on purpose"));
        assert!(matches!(outcome, Err(EmbedError::Failed(_))));
    }
}
