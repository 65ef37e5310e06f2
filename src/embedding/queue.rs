//! What waits for the model: queries, which go first, and the texts of jobs.

use std::collections::VecDeque;

use tokio::sync::{OwnedSemaphorePermit, oneshot};

use super::EmbedError;
use super::encoder::SLICE_TOKENS;

/// One text to embed, and who waits for it.
pub(super) struct Request {
    pub(super) text: String,
    /// Closed when the caller has gone away; the text is then skipped.
    pub(super) reply: oneshot::Sender<Result<Vec<f32>, EmbedError>>,
    /// The text's place in the queue, if places are counted for its kind.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// Both lines.
#[derive(Default)]
pub(super) struct Queue {
    queries: VecDeque<Request>,
    texts: VecDeque<Request>,
    closed: bool,
}

impl Queue {
    /// Refuses when `limit` queries wait whose callers still do.
    pub(super) fn push_query(&mut self, request: Request, limit: usize) -> Result<(), EmbedError> {
        if self.closed {
            return Err(EmbedError::Stopped);
        }
        if self.queries.len() >= limit {
            self.queries.retain(|request| !request.reply.is_closed());
            if self.queries.len() >= limit {
                return Err(EmbedError::Busy);
            }
        }
        self.queries.push_back(request);
        Ok(())
    }

    /// The callers count the places, so there is always room.
    pub(super) fn push_texts(
        &mut self,
        requests: impl IntoIterator<Item = Request>,
    ) -> Result<(), EmbedError> {
        if self.closed {
            return Err(EmbedError::Stopped);
        }
        self.texts.extend(requests);
        Ok(())
    }

    /// A slice of work for one of `threads`: this thread's share of the waiting queries, or else
    /// texts; at most about [`SLICE_TOKENS`] tokens, and at least one text unless none waits.
    pub(super) fn take(&mut self, threads: usize) -> Vec<Request> {
        let share = self.queries.len().div_ceil(threads.max(1));
        let slice = take_slice(&mut self.queries, share);
        if slice.is_empty() { take_slice(&mut self.texts, usize::MAX) } else { slice }
    }

    /// Forgets what waits, whose callers get [`EmbedError::Stopped`], and refuses more.
    pub(super) fn close(&mut self) {
        self.closed = true;
        self.queries.clear();
        self.texts.clear();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// How many queries and texts wait.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.queries.len(), self.texts.len())
    }
}

fn take_slice(line: &mut VecDeque<Request>, max: usize) -> Vec<Request> {
    let (mut slice, mut sum) = (Vec::new(), 0);
    while slice.len() < max
        && let Some(first) = line.front()
    {
        let tokens = estimated_tokens(&first.text);
        if !slice.is_empty() && sum + tokens > SLICE_TOKENS {
            break;
        }
        let Some(mut request) = line.pop_front() else {
            break;
        };
        if request.reply.is_closed() {
            continue;
        }
        request.place = None;
        sum += tokens;
        slice.push(request);
    }
    slice
}

/// Word pieces of a text, guessed high for prose in any script: 3 bytes each, and the marks.
fn estimated_tokens(text: &str) -> usize {
    (text.len() / 3 + 2).min(256)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Answer = oneshot::Receiver<Result<Vec<f32>, EmbedError>>;

    fn request(text: &str) -> (Request, Answer) {
        let (reply, answer) = oneshot::channel();
        (Request { text: text.to_owned(), reply, place: None }, answer)
    }

    fn texts(slice: &[Request]) -> Vec<&str> {
        slice.iter().map(|request| request.text.as_str()).collect()
    }

    #[test]
    fn queries_go_first_and_are_shared_among_the_threads() {
        let mut queue = Queue::default();
        let mut answers = Vec::new();
        for text in ["t1", "t2"] {
            let (request, answer) = request(text);
            queue.push_texts([request]).unwrap();
            answers.push(answer);
        }
        for text in ["q1", "q2", "q3"] {
            let (request, answer) = request(text);
            queue.push_query(request, 10).unwrap();
            answers.push(answer);
        }
        assert_eq!(texts(&queue.take(2)), ["q1", "q2"]);
        assert_eq!(texts(&queue.take(2)), ["q3"]);
        assert_eq!(texts(&queue.take(2)), ["t1", "t2"]);
        assert!(queue.take(2).is_empty());
    }

    #[test]
    fn a_slice_is_bounded_and_never_empty_while_texts_wait() {
        let mut queue = Queue::default();
        let long = "word ".repeat(1000);
        let mut answers = Vec::new();
        for _ in 0..5 {
            let (request, answer) = request(&long);
            queue.push_texts([request]).unwrap();
            answers.push(answer);
        }
        let taken: Vec<usize> = (0..4).map(|_| queue.take(1).len()).collect();
        assert_eq!(taken, [2, 2, 1, 0]);
    }

    #[test]
    fn a_query_too_many_is_refused_unless_a_caller_has_gone() {
        let mut queue = Queue::default();
        let (first, first_answer) = request("1");
        let (second, _second_answer) = request("2");
        queue.push_query(first, 2).unwrap();
        queue.push_query(second, 2).unwrap();
        assert!(matches!(queue.push_query(request("3").0, 2), Err(EmbedError::Busy)));
        drop(first_answer);
        let (fourth, _fourth_answer) = request("4");
        queue.push_query(fourth, 2).unwrap();
        assert_eq!(texts(&queue.take(1)), ["2", "4"]);
    }

    #[test]
    fn texts_nobody_waits_for_are_skipped() {
        let mut queue = Queue::default();
        let (gone, _) = request("gone");
        let (kept, _answer) = request("kept");
        queue.push_texts([gone, kept]).unwrap();
        assert_eq!(texts(&queue.take(1)), ["kept"]);
    }

    #[test]
    fn closing_answers_all_and_refuses_more() {
        let mut queue = Queue::default();
        let (waiting, mut answer) = request("1");
        queue.push_query(waiting, 1).unwrap();
        queue.close();
        assert_eq!(queue.len(), (0, 0));
        assert!(matches!(answer.try_recv(), Err(oneshot::error::TryRecvError::Closed)));
        assert!(matches!(queue.push_query(request("2").0, 1), Err(EmbedError::Stopped)));
        assert!(matches!(queue.push_texts([request("3").0]), Err(EmbedError::Stopped)));
    }
}
