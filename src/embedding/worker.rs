//! What the service's threads do: take a slice of work, compute it, answer.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};

use activekg_storage::ids::TenantId;

use super::batcher::lock;
use super::between::Between;
use super::cache::QueryCache;
use super::encoder::Encoder;
use super::queue::{Queue, Request, Slice};
use super::stats::{Counters, EmbedderStats};
use super::{EmbedError, ModelInfo};

/// What the threads compute with. Not changed by use, so that a panic leaves nothing half done.
pub(super) trait Model: Send + Sync + 'static {
    fn info(&self) -> &ModelInfo;
    /// The word pieces of a text, as many as the model reads.
    fn tokenize(&self, text: &str) -> Result<Vec<u32>, EmbedError>;
    /// The parts of a text beyond those, if the model can tell.
    fn further_windows(&self, text: &str) -> Result<Vec<String>, EmbedError> {
        let _ = text;
        Ok(Vec::new())
    }
    /// A vector for each text. Looks often at what comes in `between`.
    fn forward(
        &self,
        texts: &[&[u32]],
        between: Option<&Between<'_>>,
    ) -> Result<Vec<Vec<f32>>, EmbedError>;
}

impl Model for Encoder {
    fn info(&self) -> &ModelInfo {
        self.model()
    }

    fn tokenize(&self, text: &str) -> Result<Vec<u32>, EmbedError> {
        self.tokenize(text)
    }

    fn further_windows(&self, text: &str) -> Result<Vec<String>, EmbedError> {
        self.further_windows(text)
    }

    fn forward(
        &self,
        texts: &[&[u32]],
        between: Option<&Between<'_>>,
    ) -> Result<Vec<Vec<f32>>, EmbedError> {
        self.forward(texts, between)
    }
}

/// What the handles and the threads share.
pub(super) struct Shared {
    pub(super) model: Box<dyn Model>,
    pub(super) cache: QueryCache,
    pub(super) queue: Mutex<Queue>,
    pub(super) queue_len: usize,
    arrived: Condvar,
    /// Queries in the queue, for threads that are at work. Set under the queue's lock.
    waiting: AtomicUsize,
    queries: Counters,
    texts: Counters,
    refused: AtomicU64,
}

impl Shared {
    pub(super) fn new(model: Box<dyn Model>, cache: QueryCache, queue_len: usize) -> Self {
        let queue = Queue::new(queue_len, model.info().max_tokens);
        Self {
            model,
            cache,
            queue: Mutex::new(queue),
            queue_len,
            arrived: Condvar::new(),
            waiting: AtomicUsize::new(0),
            queries: Counters::new(),
            texts: Counters::new(),
            refused: AtomicU64::new(0),
        }
    }

    pub(super) fn push_query(&self, request: Request) -> Result<(), EmbedError> {
        let pushed = self.change(|queue| queue.push_query(request));
        match &pushed {
            Ok(()) => self.arrived.notify_one(),
            Err(EmbedError::Busy) => {
                self.refused.fetch_add(1, Ordering::Relaxed);
            }
            Err(_) => {}
        }
        pushed
    }

    pub(super) fn push_texts(
        &self,
        tenant: &TenantId,
        requests: Vec<Request>,
    ) -> Result<(), EmbedError> {
        lock(&self.queue).push_texts(tenant, requests)?;
        self.arrived.notify_all();
        Ok(())
    }

    pub(super) fn stop(&self) {
        self.change(Queue::close);
        self.arrived.notify_all();
    }

    pub(super) fn stats(&self) -> EmbedderStats {
        let (queries, texts) = lock(&self.queue).len();
        EmbedderStats {
            queries: self.queries.read(queries),
            texts: self.texts.read(texts),
            refused: self.refused.load(Ordering::Relaxed),
            cache: self.cache.stats(),
        }
    }

    /// Does something to the queue that may change how many queries wait.
    fn change<T>(&self, work: impl FnOnce(&mut Queue) -> T) -> T {
        let mut queue = lock(&self.queue);
        let done = work(&mut queue);
        self.waiting.store(queue.len().0, Ordering::Relaxed);
        done
    }

    /// A thread's life.
    pub(super) fn work(&self) {
        let serve = || self.serve_queries();
        let between = Between::new(&self.waiting, &serve);
        loop {
            let mut queue = lock(&self.queue);
            let slice = loop {
                if queue.is_closed() {
                    return;
                }
                if let Some(slice) = queue.take() {
                    break slice;
                }
                queue = self.arrived.wait(queue).unwrap_or_else(PoisonError::into_inner);
            };
            self.waiting.store(queue.len().0, Ordering::Relaxed);
            drop(queue);
            match slice {
                Slice::Queries(requests) => self.answer(requests, &self.queries, None),
                Slice::Texts(requests) => self.answer(requests, &self.texts, Some(&between)),
            }
        }
    }

    /// Answers queries until none waits, in the middle of a slice of texts.
    fn serve_queries(&self) {
        while let Some(slice) = self.change(Queue::take_queries) {
            self.answer(slice, &self.queries, None);
        }
    }

    fn answer(&self, requests: Vec<Request>, counters: &Counters, between: Option<&Between<'_>>) {
        let mut replies = Vec::with_capacity(requests.len());
        let mut tokens = Vec::with_capacity(requests.len());
        for Request { text, since, reply } in requests {
            if let Some(between) = between {
                between.look();
            }
            counters.taken(since.elapsed());
            match unpanicked(|| self.model.tokenize(&text)) {
                Ok(pieces) => {
                    tokens.push(pieces);
                    replies.push(reply);
                }
                Err(error) => {
                    counters.failed();
                    // Nobody to tell if the caller has gone; the same below.
                    drop(reply.send(Err(error)));
                }
            }
        }
        let texts: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        // One bad text spoils the slice: the others are computed again without it.
        let together = self.vectors(&texts, counters, between);
        let alone = together.is_err() && texts.len() > 1;
        let mut together = together.map(Vec::into_iter);
        for (reply, text) in replies.into_iter().zip(texts) {
            let vector = match &mut together {
                Ok(vectors) => vectors.next().ok_or_else(Self::too_few),
                Err(_) if alone && reply.is_closed() => continue,
                Err(_) if alone => self
                    .vectors(&[text], counters, between)
                    .and_then(|mut vectors| vectors.pop().ok_or_else(Self::too_few)),
                Err(error) => Err(error.clone()),
            };
            if vector.is_err() {
                counters.failed();
            }
            drop(reply.send(vector));
        }
    }

    /// As many vectors as there are texts.
    fn vectors(
        &self,
        texts: &[&[u32]],
        counters: &Counters,
        between: Option<&Between<'_>>,
    ) -> Result<Vec<Vec<f32>>, EmbedError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let vectors = unpanicked(|| self.model.forward(texts, between))?;
        if vectors.len() != texts.len() {
            return Err(Self::too_few());
        }
        counters.computed(texts.len(), texts.iter().map(|text| text.len()).sum());
        Ok(vectors)
    }

    fn too_few() -> EmbedError {
        EmbedError::Failed("the model made another number of vectors than of texts".to_owned())
    }
}

/// A panic as an error, so that it costs the texts at hand and not the thread.
fn unpanicked<T>(work: impl FnOnce() -> Result<T, EmbedError>) -> Result<T, EmbedError> {
    catch_unwind(AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(EmbedError::Failed("the model panicked".to_owned())))
}
