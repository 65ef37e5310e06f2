//! What waits for the model: queries, which go first, and the texts of jobs, by tenant.

use std::collections::VecDeque;
use std::time::Instant;

use activekg_storage::ids::TenantId;
use tokio::sync::oneshot;

use super::EmbedError;
use super::encoder::SLICE_TOKENS;
use super::fair::Fair;

/// One text to embed, and who waits for it.
pub(super) struct Request {
    pub(super) text: String,
    /// When its caller began to wait.
    pub(super) since: Instant,
    /// Closed when the caller has gone away; the text is then skipped.
    pub(super) reply: oneshot::Sender<Result<Vec<f32>, EmbedError>>,
}

/// A slice of work: all of one kind.
pub(super) enum Slice {
    Queries(Vec<Request>),
    Texts(Vec<Request>),
}

/// Both lines, and the jobs that wait for room in the second.
pub(super) struct Queue {
    queries: VecDeque<Request>,
    texts: Fair<Request>,
    /// Jobs that wait to hand over so many texts.
    jobs: Fair<Job>,
    /// Queries that may wait.
    limit: usize,
    /// Texts that may be handed over now.
    room: usize,
    /// Most tokens of a text that count: the model's window. Also what a turn of a tenant is worth.
    window: usize,
    closed: bool,
}

struct Job {
    n_texts: usize,
    /// Told when it may hand them over.
    go: oneshot::Sender<()>,
}

impl Queue {
    /// A queue of at most `limit` queries and `limit` texts, which is at least 1, for a model that
    /// reads at most `window` tokens of each.
    pub(super) fn new(limit: usize, window: usize) -> Self {
        Self {
            queries: VecDeque::new(),
            texts: Fair::new(window),
            jobs: Fair::new(1),
            limit,
            room: limit,
            window,
            closed: false,
        }
    }

    /// Refuses when as many queries wait as may, and their callers still do.
    pub(super) fn push_query(&mut self, request: Request) -> Result<(), EmbedError> {
        if self.closed {
            return Err(EmbedError::Stopped);
        }
        if self.queries.len() >= self.limit {
            self.queries.retain(|request| !request.reply.is_closed());
            if self.queries.len() >= self.limit {
                return Err(EmbedError::Busy);
            }
        }
        self.queries.push_back(request);
        Ok(())
    }

    /// Asks for room for `n_texts`, which is at most the limit, and tells `go` when it is there;
    /// drops it when there will never be. The caller then owes these texts to
    /// [`Queue::push_texts`], or the room to [`Queue::give_back`].
    pub(super) fn book(&mut self, tenant: &TenantId, n_texts: usize, go: oneshot::Sender<()>) {
        if !self.closed {
            self.jobs.push(tenant, Job { n_texts: n_texts.min(self.limit), go });
            self.admit();
        }
    }

    /// Returns room that was booked and is not needed.
    pub(super) fn give_back(&mut self, n_texts: usize) {
        self.room += n_texts.min(self.limit);
        self.admit();
    }

    /// Takes texts that room was booked for.
    pub(super) fn push_texts(
        &mut self,
        tenant: &TenantId,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<(), EmbedError> {
        if self.closed {
            return Err(EmbedError::Stopped);
        }
        for request in requests {
            self.texts.push(tenant, request);
        }
        Ok(())
    }

    /// Work for a thread: queries, or else texts.
    pub(super) fn take(&mut self) -> Option<Slice> {
        self.take_queries().map(Slice::Queries).or_else(|| self.take_texts())
    }

    /// The waiting queries: at most about [`SLICE_TOKENS`], and at least one if one waits. All that
    /// can share a pass do: it reads the weights of the model once.
    pub(super) fn take_queries(&mut self) -> Option<Vec<Request>> {
        let (mut slice, mut sum) = (Vec::new(), 0);
        while let Some(first) = self.queries.front() {
            let tokens = estimated_tokens(&first.text, self.window);
            if !slice.is_empty() && sum + tokens > SLICE_TOKENS {
                break;
            }
            if let Some(request) = self.queries.pop_front()
                && !request.reply.is_closed()
            {
                sum += tokens;
                slice.push(request);
            }
        }
        (!slice.is_empty()).then_some(slice)
    }

    /// Texts, of the tenants in turn; of as many tokens.
    fn take_texts(&mut self) -> Option<Slice> {
        let (mut slice, mut sum) = (Vec::new(), 0);
        let window = self.window;
        // What nobody waits for costs nothing.
        let cost = |request: &Request| {
            if request.reply.is_closed() { 0 } else { estimated_tokens(&request.text, window) }
        };
        loop {
            let next = self
                .texts
                .pop(cost, |request| slice.is_empty() || sum + cost(request) <= SLICE_TOKENS);
            let Some(request) = next else { break };
            self.room += 1;
            if !request.reply.is_closed() {
                sum += cost(&request);
                slice.push(request);
            }
        }
        self.admit();
        (!slice.is_empty()).then_some(Slice::Texts(slice))
    }

    /// Lets jobs hand texts over as far as there is room, of the tenants in turn.
    fn admit(&mut self) {
        let one = |_: &Job| 1;
        while let Some(Job { n_texts, go }) =
            self.jobs.pop(one, |job| job.go.is_closed() || job.n_texts <= self.room)
        {
            // A job that has been given up needs no room.
            if go.send(()).is_ok() {
                self.room -= n_texts;
            }
        }
    }

    /// Forgets what waits, whose callers get [`EmbedError::Stopped`], and refuses more.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.queries.clear();
        self.texts.clear();
        self.jobs.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many queries and texts wait.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.queries.len(), self.texts.len())
    }
}

/// Word pieces of a text, guessed high for prose in any script: 3 bytes each, and the marks; at
/// most `window`.
fn estimated_tokens(text: &str, window: usize) -> usize {
    (text.len() / 3 + 2).min(window)
}

#[cfg(test)]
mod tests;
