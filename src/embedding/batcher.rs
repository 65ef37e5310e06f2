//! The model as a service: its own threads, shared by requests and jobs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use activekg_storage::ids::TenantId;
use tokio::sync::oneshot;

use super::cache::QueryCache;
use super::encoder::Encoder;
use super::queue::Request;
use super::stats::EmbedderStats;
use super::worker::{Model, Shared};
use super::{EmbedError, ModelInfo};

/// Texts handed over at a time by one job: enough to fill a slice for every thread, few enough
/// that jobs that run at once take turns.
const GROUP: usize = 64;

/// How much the service may hold and use.
#[derive(Debug, Clone, Copy)]
pub struct EmbedderOptions {
    /// Queries whose vectors are remembered, at about 2 KB each; 0 remembers none.
    pub cache_entries: usize,
    /// How long they are; `None` until others need the room.
    pub cache_ttl: Option<Duration>,
    /// Queries that may wait before one is refused, and texts of jobs that may wait before their
    /// jobs do; at least 1.
    pub queue_len: usize,
    /// Threads that compute; 0 takes one for each core.
    pub threads: usize,
}

impl Default for EmbedderOptions {
    fn default() -> Self {
        Self { cache_entries: 4096, cache_ttl: None, queue_len: 1024, threads: 0 }
    }
}

/// A handle on the service; clones share it. The threads end when the last handle is dropped.
///
/// Queries go before the texts of jobs. One that arrives while all threads are at such texts does
/// not wait until a slice is done: the pass stops after the product it is at, and its thread
/// embeds the query first. Queries that wait share a pass, which reads the model's weights once for
/// all of them. The texts of jobs are taken of the tenants in turn. A text that the model fails at
/// fails alone.
#[derive(Clone)]
pub(super) struct Embedder {
    shared: Arc<Shared>,
    _threads: Arc<Threads>,
}

impl Embedder {
    /// Starts the threads.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Stopped`] if the system gives no threads.
    pub(super) fn start(encoder: Encoder, options: EmbedderOptions) -> Result<Self, EmbedError> {
        Self::start_model(Box::new(encoder), options)
    }

    fn start_model(model: Box<dyn Model>, options: EmbedderOptions) -> Result<Self, EmbedError> {
        let EmbedderOptions { cache_entries, cache_ttl, queue_len, threads } = options;
        let n_threads = match threads {
            0 => thread::available_parallelism().map_or(1, usize::from),
            n => n,
        };
        let cache = QueryCache::new(cache_entries, cache_ttl);
        let shared = Arc::new(Shared::new(model, cache, queue_len.max(1)));
        // Ends the threads that were started if one cannot be.
        let threads = Threads { shared: Arc::clone(&shared) };
        for _ in 0..n_threads {
            let shared = Arc::clone(&shared);
            let thread = thread::Builder::new().name("embed".to_owned());
            thread.spawn(move || shared.work()).map_err(|_| EmbedError::Stopped)?;
        }
        Ok(Self { shared, _threads: Arc::new(threads) })
    }

    /// The vector of a query: from memory, or computed ahead of all batch work.
    ///
    /// # Errors
    ///
    /// [`EmbedError::Busy`] at once if `queue_len` queries wait already.
    pub(super) async fn query(&self, text: &str) -> Result<Arc<[f32]>, EmbedError> {
        let cache = &self.shared.cache;
        let since = Instant::now();
        if let Some(vector) = cache.get(text, since) {
            return Ok(vector);
        }
        let (reply, answer) = oneshot::channel();
        self.shared.push_query(Request { text: text.to_owned(), since, reply })?;
        let vector: Arc<[f32]> = answer.await.map_err(|_| EmbedError::Stopped)??.into();
        cache.put(text, Arc::clone(&vector), Instant::now());
        Ok(vector)
    }

    /// The vectors of a job's texts, in their order. Otherwise as [`Embedder::each`].
    ///
    /// # Errors
    ///
    /// The failure of the first text that has none, once all are settled.
    pub(super) async fn batch(
        &self,
        tenant: &TenantId,
        texts: Vec<String>,
    ) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.each(tenant, texts).await.into_iter().collect()
    }

    /// For each of a job's texts, in their order, its vector or why it has none. Waits for room in
    /// the queue, at which the jobs of other tenants take turns with this one's; dropping the
    /// future gives up the texts that are not computed yet.
    pub(super) async fn each(
        &self,
        tenant: &TenantId,
        texts: Vec<String>,
    ) -> Vec<Result<Vec<f32>, EmbedError>> {
        let since = Instant::now();
        // What is never handed over, or not answered, is because the service has stopped.
        let mut vectors = vec![Err(EmbedError::Stopped); texts.len()];
        let mut texts: Vec<(usize, String)> = texts.into_iter().enumerate().collect();
        // Texts of like length come together, which fills the slices evenly.
        texts.sort_by_key(|(_, text)| text.len());
        let mut texts = texts.into_iter();
        let mut answers = Vec::with_capacity(vectors.len());
        while texts.len() > 0 {
            let group = texts.len().min(GROUP).min(self.shared.queue_len);
            let mut room = Booking::new(&self.shared, tenant, group);
            if room.granted().await.is_err() {
                break;
            }
            let mut requests = Vec::with_capacity(group);
            for (i, text) in texts.by_ref().take(group) {
                let (reply, answer) = oneshot::channel();
                requests.push(Request { text, since, reply });
                answers.push((i, answer));
            }
            if self.shared.push_texts(tenant, requests).is_err() {
                break;
            }
        }
        for (i, answer) in answers {
            vectors[i] = answer.await.unwrap_or(Err(EmbedError::Stopped));
        }
        vectors
    }

    /// Word pieces of each text that the model reads, all together.
    pub(super) fn count_tokens(&self, texts: &[String]) -> Result<usize, EmbedError> {
        texts.iter().map(|text| Ok(self.shared.model.tokenize(text)?.len())).sum()
    }

    /// The parts of `text` beyond what the model reads.
    pub(super) fn further_windows(&self, text: &str) -> Result<Vec<String>, EmbedError> {
        self.shared.model.further_windows(text)
    }

    /// What the vectors are.
    pub(super) fn model(&self) -> &ModelInfo {
        self.shared.model.info()
    }

    /// Counts since the start, for metrics.
    pub(super) fn stats(&self) -> EmbedderStats {
        self.shared.stats()
    }

    /// Ends the threads after the slices they are at. What waits, and every later call, gets
    /// [`EmbedError::Stopped`].
    pub(super) fn stop(&self) {
        self.shared.stop();
    }
}

/// Room in the queue that has been asked for. What is granted and not used before this is dropped
/// goes back.
struct Booking<'a> {
    shared: &'a Shared,
    n_texts: usize,
    go: oneshot::Receiver<()>,
    used: bool,
}

impl<'a> Booking<'a> {
    fn new(shared: &'a Shared, tenant: &TenantId, n_texts: usize) -> Self {
        let (told, go) = oneshot::channel();
        lock(&shared.queue).book(tenant, n_texts, told);
        Self { shared, n_texts, go, used: false }
    }

    /// Waits until there is room, which is then to be used before the next await.
    async fn granted(&mut self) -> Result<(), EmbedError> {
        (&mut self.go).await.map_err(|_| EmbedError::Stopped)?;
        self.used = true;
        Ok(())
    }
}

impl Drop for Booking<'_> {
    fn drop(&mut self) {
        if self.used {
            return;
        }
        // From here on the queue sees that nobody waits. It may have granted the room before; if
        // not, those behind this may have their turn.
        self.go.close();
        let granted = self.go.try_recv().is_ok();
        lock(&self.shared.queue).give_back(if granted { self.n_texts } else { 0 });
    }
}

/// The threads, and the last handle's duty to end them.
struct Threads {
    shared: Arc<Shared>,
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

/// Locks, whether or not a thread has panicked while it held the lock: what these locks guard is
/// whole after every statement.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
