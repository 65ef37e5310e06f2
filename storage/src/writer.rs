//! The committer: one thread that runs everybody's changes and syncs once for many of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::error::{StorageError, WHOLE, panic_message};
use crate::ids::Seq;
use crate::read::guarded;
use crate::space::Reserve;
use crate::stats::Batch;
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

/// Whether a change takes space on the disk or makes some.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Room {
    /// It waits for better times when the disk is full.
    Takes,
    /// It is let through.
    Makes,
}

/// A change waiting for its commit, whatever its types.
pub(crate) trait Change: Send {
    fn room(&self) -> Room;

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
    room: Room,
    change: Option<F>,
    result: Option<Result<Committed<T>, E>>,
    answer: oneshot::Sender<Result<Committed<T>, E>>,
}

/// Makes a change and the place where its answer will be.
pub(crate) fn pending<T, E, F>(
    room: Room,
    change: F,
) -> (Message, oneshot::Receiver<Result<Committed<T>, E>>)
where
    T: Send + 'static,
    E: From<StorageError> + Send + 'static,
    F: FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send + 'static,
{
    let (answer, receiver) = oneshot::channel();
    let pending = Pending { room, change: Some(change), result: None, answer };
    (Message::Change(Box::new(pending)), receiver)
}

impl<T, E, F> Change for Pending<T, E, F>
where
    T: Send,
    E: From<StorageError> + Send,
    F: FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send,
{
    fn room(&self) -> Room {
        self.room
    }

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
    /// Size of the file from which commits note the free pages, in bytes.
    pub(crate) quick_repair_from: u64,
    /// Space kept back on the disk, if it is a disk.
    pub(crate) reserve: Option<Arc<Reserve>>,
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
            let full = self.reserve.as_ref().and_then(|reserve| reserve.whole().err());
            match full {
                Some(full) => self.make_room(&mut batch, &full),
                None if batch.is_empty() => {}
                None => self.commit(&mut batch),
            }
        }
    }

    /// Answers the changes for which there is no space. Those that make some are committed one at a
    /// time, so that none needs more than what is left of the reserve.
    fn make_room(&mut self, batch: &mut Vec<Box<dyn Change>>, full: &StorageError) {
        for change in batch.drain(..) {
            let enough = self.reserve.as_ref().map_or(Ok(()), |reserve| reserve.some());
            match (change.room(), enough) {
                (Room::Takes, _) => change.settle(Err(full.clone())),
                (Room::Makes, Err(full)) => change.settle(Err(full)),
                (Room::Makes, Ok(())) => self.commit(&mut vec![change]),
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
        let outcome = match self.shared.fault() {
            Some(fault) => Err(fault.clone()),
            None => self.attempt(batch).map_err(StorageError::lasting),
        };
        if let Err(fault) = &outcome
            && !matches!(fault, StorageError::Full { .. })
            && self.shared.fail(fault.clone())
        {
            tracing::error!("the store takes no more writes: {fault}");
            self.shared.go_on_reading();
        }
        let outcome = outcome.map(|wake| self.shared.notify(&wake));
        for change in batch.drain(..) {
            change.settle(outcome.clone());
        }
    }

    /// One transaction; returns the queues to wake. [`StorageError::Full`] means that nothing of it
    /// was done, any other error that nothing of it is durable, or that nobody can tell.
    fn attempt(&self, batch: &mut [Box<dyn Change>]) -> Result<Vec<&'static str>, StorageError> {
        let database = self.shared.database();
        let database = database.as_ref().ok_or(StorageError::Closed)?;
        let started = Instant::now();
        let mut transaction = guarded(WHOLE, || database.begin_write())?;
        let store_bytes = self.reserve.as_ref().map_or(0, |reserve| reserve.store_bytes());
        transaction.set_quick_repair(store_bytes >= self.quick_repair_from);
        let space = self.reserve.as_ref().map(|reserve| (reserve, reserve.held()));
        let mut tx = WriteTx::new(&transaction, self.shared.last_seq());
        let mut n_failed = 0;
        for change in batch.iter_mut() {
            n_failed += u64::from(!change.run(&mut tx)?);
        }
        let Written { rows, seq, wake, two_phase } = tx.finish()?;
        let n_changes = batch.len() as u64;
        if rows == 0 {
            self.shared.stats.skipped(n_changes, n_failed);
            guarded(WHOLE, || transaction.abort())?;
            return Ok(wake);
        }
        let takes = batch.iter().any(|change| change.room() == Room::Takes);
        if let Some((reserve, before)) = space
            && reserve.held() < before
            && let Err(full) = if takes { reserve.whole() } else { reserve.some() }
        {
            // The disk filled up while the changes ran. What the commit has still to write might
            // not fit either; undone, it need not.
            guarded(WHOLE, || transaction.abort())?;
            return Err(full);
        }
        let committing = Instant::now();
        transaction.set_two_phase_commit(two_phase);
        guarded(WHOLE, || transaction.commit())?;
        let (commit, whole) = (committing.elapsed(), started.elapsed());
        let batch = Batch { n_changes, n_failed, rows, two_phase, commit, whole };
        self.shared.stats.committed(batch);
        self.shared.advance(seq);
        Ok(wake)
    }
}

#[cfg(test)]
mod tests;
