//! The committer: one thread that runs everybody's changes and syncs once for many of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::error::{StorageError, WHOLE, panic_message};
use crate::ids::Seq;
use crate::read::guarded;
use crate::store::Shared;
use crate::write::{WriteTx, Written};

/// How long to wait for those who were just answered to come back, if fewer are there than were in
/// the previous batch. Without it they fall into two halves that commit in turns, each waiting for
/// the other's sync; with it, 64 clients write a fifth more. A sync takes several times as long.
const GATHERING: Duration = Duration::from_micros(20);

/// A change that is durable.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed<T> {
    /// What the change returned.
    pub value: T,
    /// The newest number in the change log after this change. Whoever follows the log has seen the
    /// change once it has come this far.
    pub seq: Seq,
}

/// What comes in through the committer's queue.
pub(crate) enum Message {
    Change(Box<dyn Change>),
    /// Look up: the store is closing.
    Wake,
}

/// A change waiting for its commit, whatever its types.
pub(crate) trait Change: Send {
    /// Runs it, and undoes it if it fails. The result is kept for [`Change::settle`].
    ///
    /// # Errors
    ///
    /// Only if the transaction as a whole cannot go on.
    fn run(&mut self, tx: &mut WriteTx<'_>) -> Result<bool, StorageError>;

    /// Answers: with its result if the transaction `outcome` is good, with the fault if not.
    fn settle(self: Box<Self>, outcome: Result<(), StorageError>);
}

struct Pending<T, E, F> {
    change: Option<F>,
    result: Option<Result<Committed<T>, E>>,
    answer: oneshot::Sender<Result<Committed<T>, E>>,
}

/// Makes a change and the place where its answer will be.
pub(crate) fn pending<T, E, F>(change: F) -> (Message, oneshot::Receiver<Result<Committed<T>, E>>)
where
    T: Send + 'static,
    E: From<StorageError> + Send + 'static,
    F: FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send + 'static,
{
    let (answer, receiver) = oneshot::channel();
    let pending = Pending { change: Some(change), result: None, answer };
    (Message::Change(Box::new(pending)), receiver)
}

impl<T, E, F> Change for Pending<T, E, F>
where
    T: Send,
    E: From<StorageError> + Send,
    F: FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send,
{
    fn run(&mut self, tx: &mut WriteTx<'_>) -> Result<bool, StorageError> {
        let Some(change) = self.change.take() else {
            return Ok(false);
        };
        let result = match catch_unwind(AssertUnwindSafe(|| change(tx))) {
            Ok(result) => result,
            Err(payload) => {
                Err(E::from(StorageError::Panicked { reason: panic_message(&*payload) }))
            }
        };
        // A change may have swallowed the error; the transaction must not.
        if let Some(fault) = tx.fault() {
            return Err(fault.clone());
        }
        let kept = result.is_ok();
        if kept {
            tx.keep();
        } else {
            tx.undo()?;
        }
        let seq = tx.seq();
        self.result = Some(result.map(|value| Committed { value, seq }));
        Ok(kept)
    }

    fn settle(self: Box<Self>, outcome: Result<(), StorageError>) {
        let answer = match (outcome, self.result) {
            (Ok(()), Some(result)) => result,
            (Ok(()), None) => Err(E::from(StorageError::Closed)),
            (Err(fault), _) => Err(E::from(fault)),
        };
        // Whoever asked may have gone away; the change stands all the same.
        drop(self.answer.send(answer));
    }
}

/// The state of the committer's thread.
pub(crate) struct Committer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) inbox: mpsc::Receiver<Message>,
    /// Most changes in one commit.
    pub(crate) max_batch: usize,
    /// Set by the first failed commit and never cleared.
    pub(crate) fault: Option<StorageError>,
}

impl Committer {
    /// Commits until the store closes and everything handed in before is answered.
    pub(crate) fn run(mut self) {
        let mut batch = Vec::new();
        let mut n_previous = 0;
        while let Some(first) = self.inbox.blocking_recv() {
            if self.shared.is_closing() {
                // Turns away what comes now, and lets what is inside through.
                self.inbox.close();
            } else if self.inbox.len() + 1 < n_previous {
                std::thread::sleep(GATHERING);
            }
            self.gather(first, &mut batch);
            n_previous = batch.len();
            if !batch.is_empty() {
                self.commit(&mut batch);
            }
        }
    }

    /// Takes what is in the queue, up to a full batch.
    fn gather(&mut self, first: Message, batch: &mut Vec<Box<dyn Change>>) {
        let mut next = Some(first);
        while let Some(message) = next {
            match message {
                Message::Change(change) => batch.push(change),
                Message::Wake => {}
            }
            next = if batch.len() < self.max_batch { self.inbox.try_recv().ok() } else { None };
        }
    }

    /// Runs one batch and answers every change in it.
    fn commit(&mut self, batch: &mut Vec<Box<dyn Change>>) {
        let outcome = match &self.fault {
            Some(fault) => Err(fault.clone()),
            None => self.attempt(batch).map_err(StorageError::lasting),
        };
        if let Err(fault) = &outcome
            && self.fault.is_none()
        {
            tracing::error!("the store takes no more writes: {fault}");
            self.fault = Some(fault.clone());
        }
        let outcome = outcome.map(|wake| self.shared.notify(&wake));
        for change in batch.drain(..) {
            change.settle(outcome.clone());
        }
    }

    /// One transaction; returns the queues to wake. Any error means that nothing of it is durable,
    /// or that nobody can tell.
    fn attempt(&self, batch: &mut [Box<dyn Change>]) -> Result<Vec<&'static str>, StorageError> {
        let database = self.shared.database();
        let database = database.as_ref().ok_or(StorageError::Closed)?;
        let transaction = guarded(WHOLE, || database.begin_write())?;
        let mut tx = WriteTx::new(&transaction, self.shared.last_seq());
        let mut failed = 0;
        for change in batch.iter_mut() {
            failed += u64::from(!change.run(&mut tx)?);
        }
        let Written { rows, seq, wake } = tx.finish()?;
        let n_changes = batch.len() as u64;
        if rows == 0 {
            self.shared.stats.skipped(n_changes, failed);
            guarded(WHOLE, || transaction.abort())?;
            return Ok(wake);
        }
        let started = Instant::now();
        guarded(WHOLE, || transaction.commit())?;
        let stats = &self.shared.stats;
        stats.committed(n_changes, failed, rows, started.elapsed());
        self.shared.advance(seq);
        Ok(wake)
    }
}

#[cfg(test)]
mod tests;
