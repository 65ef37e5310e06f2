//! Callers that wait for a job to be settled.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use activekg_storage::Seq;
use activekg_storage::ids::JobId;
use tokio::sync::oneshot;

use crate::graph::Embedded;

/// How many settled jobs are remembered for callers that ask a moment too late: a caller learns
/// the id of its job with the commit, and a quick worker may have settled it by then.
const REMEMBERED: usize = 8192;

/// What became of a job, and the commit that says so.
#[derive(Debug, Clone, PartialEq)]
pub struct Settled {
    /// What it came to.
    pub outcome: Embedded,
    /// The newest change as of that commit.
    pub seq: Seq,
}

/// Who waits for which job. Nothing durable depends on it: a caller that is never told gives up
/// by its own limit.
#[derive(Debug, Clone, Default)]
pub struct Settlements {
    board: Arc<Mutex<Board>>,
}

#[derive(Debug, Default)]
struct Board {
    waiting: HashMap<JobId, Vec<oneshot::Sender<Settled>>>,
    settled: HashMap<JobId, Settled>,
    order: VecDeque<JobId>,
}

impl Settlements {
    /// Waits until `job` is settled. Dropping the future gives up.
    pub async fn of(&self, job: JobId) -> Settled {
        loop {
            let told = {
                let mut board = self.lock();
                if let Some(settled) = board.settled.get(&job) {
                    return settled.clone();
                }
                let (tell, told) = oneshot::channel();
                let line = board.waiting.entry(job).or_default();
                line.retain(|waiter| !waiter.is_closed());
                line.push(tell);
                told
            };
            if let Ok(settled) = told.await {
                return settled;
            }
        }
    }

    /// Tells those who wait for `job`, and remembers it for those who will ask.
    pub fn settled(&self, job: JobId, settled: Settled) {
        let mut board = self.lock();
        for waiter in board.waiting.remove(&job).into_iter().flatten() {
            // A waiter that has gone is not told.
            let _ = waiter.send(settled.clone());
        }
        if board.settled.insert(job, settled).is_none() {
            board.order.push_back(job);
        }
        if board.order.len() > REMEMBERED
            && let Some(oldest) = board.order.pop_front()
        {
            board.settled.remove(&oldest);
        }
    }

    /// Forgets those who no longer wait. Callers that give up leave their place behind until the
    /// job is settled or this is called.
    pub fn sweep(&self) {
        self.lock().waiting.retain(|_, line| {
            line.retain(|waiter| !waiter.is_closed());
            !line.is_empty()
        });
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled() -> Settled {
        Settled { outcome: Embedded::Skipped, seq: Seq(7) }
    }

    #[tokio::test]
    async fn callers_are_told_whether_they_ask_before_or_after() {
        let settlements = Settlements::default();
        let job = JobId::random();
        let early = tokio::spawn({
            let settlements = settlements.clone();
            async move { settlements.of(job).await }
        });
        tokio::task::yield_now().await;
        settlements.settled(job, settled());
        assert_eq!(early.await.expect("the waiter ends"), settled());
        assert_eq!(settlements.of(job).await, settled());
    }

    #[tokio::test]
    async fn what_is_remembered_is_bounded() {
        let settlements = Settlements::default();
        for _ in 0..REMEMBERED + 10 {
            settlements.settled(JobId::random(), settled());
        }
        let board = settlements.lock();
        assert_eq!((board.settled.len(), board.order.len()), (REMEMBERED, REMEMBERED));
    }

    #[tokio::test]
    async fn callers_that_gave_up_are_swept() {
        let settlements = Settlements::default();
        let mut waiting = Box::pin(settlements.of(JobId::random()));
        assert!(futures_util::poll!(&mut waiting).is_pending());
        drop(waiting);
        settlements.sweep();
        assert!(settlements.lock().waiting.is_empty());
    }
}
