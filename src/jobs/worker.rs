//! What every worker on a durable queue does: a step, and then to wait for the next.

use std::fmt::Display;
use std::future::Future;
use std::time::Duration;

use activekg_storage::Store;
use futures_util::future::select_all;
use tokio::select;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;

/// Pause where a step failed or cannot go on yet.
const PAUSE: Duration = Duration::from_secs(1);

/// When a worker takes its next step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// At once: there may be more to do.
    Now,
    /// After so long, or as soon as something is enqueued.
    Idle(Duration),
    /// After a pause, whatever is enqueued: what waits cannot be done yet. Putting it back into the
    /// queue is an enqueue too.
    Paused,
}

/// One that works on a queue of a store.
pub(super) trait QueueWorker {
    /// Why a step failed.
    type Error: Display;

    /// The store.
    fn store(&self) -> &Store;

    /// Takes some of what there is to do, and does it.
    fn step(&self) -> impl Future<Output = Result<Next, Self::Error>> + Send;
}

/// Lets `worker` work on the queue of this name until told to stop; it finishes what it holds then.
pub(super) async fn work(worker: impl QueueWorker, queue: &'static str, stop: CancellationToken) {
    work_on(worker, &[queue], stop).await;
}

/// [`work`] on several queues, of which each wakes it.
pub(super) async fn work_on(
    worker: impl QueueWorker,
    queues: &[&'static str],
    stop: CancellationToken,
) {
    let queued: Vec<_> = queues.iter().map(|queue| worker.store().enqueued(queue)).collect();
    while !stop.is_cancelled() {
        // An enqueue between look and wait is not missed.
        let woken = queued.iter().map(|queued| {
            let mut woken = Box::pin(queued.notified());
            woken.as_mut().enable();
            woken
        });
        let woken = select_all(woken);
        let next = match worker.step().await {
            Ok(next) => next,
            Err(error) => {
                let queue = queues.join(", ");
                error!(queue, "could not work on a queue: {error}");
                if worker.store().fault().is_some() {
                    // Nothing can be settled until the process starts again.
                    stop.cancelled().await;
                    return;
                }
                Next::Paused
            }
        };
        match next {
            Next::Now => {}
            Next::Idle(time) => select! {
                () = stop.cancelled() => {}
                _ = woken => {}
                () = sleep(time) => {}
            },
            Next::Paused => select! {
                () = stop.cancelled() => {}
                () = sleep(PAUSE) => {}
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use activekg_storage::StoreOptions;
    use tokio::time::timeout;

    use super::*;

    const QUEUE: &str = "test";

    /// Puts back what it takes in every step, and says `next` of it.
    struct PutsBack {
        store: Store,
        steps: Arc<AtomicU32>,
        next: Result<Next, &'static str>,
    }

    impl QueueWorker for PutsBack {
        type Error = &'static str;

        fn store(&self) -> &Store {
            &self.store
        }

        async fn step(&self) -> Result<Next, &'static str> {
            self.steps.fetch_add(1, Ordering::SeqCst);
            self.store.enqueued(QUEUE).notify_waiters();
            tokio::task::yield_now().await;
            self.next
        }
    }

    /// The steps of some ten seconds.
    async fn steps(next: Result<Next, &'static str>) -> u32 {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let steps = Arc::new(AtomicU32::new(0));
        let stop = CancellationToken::new();
        let worker = PutsBack { store, steps: steps.clone(), next };
        let ended = timeout(Duration::from_millis(9500), work(worker, QUEUE, stop)).await;
        assert!(ended.is_err(), "nobody told it to stop");
        steps.load(Ordering::SeqCst)
    }

    #[tokio::test(start_paused = true)]
    async fn what_cannot_be_done_yet_is_tried_once_a_second_though_it_was_put_back() {
        assert_eq!(steps(Ok(Next::Paused)).await, 10);
        assert_eq!(steps(Err("no luck")).await, 10);
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_without_work_sleeps_until_something_is_enqueued() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let queued = store.enqueued(QUEUE);
        let steps = Arc::new(AtomicU32::new(0));
        let stop = CancellationToken::new();
        struct Sleeps(Store, Arc<AtomicU32>);
        impl QueueWorker for Sleeps {
            type Error = &'static str;

            fn store(&self) -> &Store {
                &self.0
            }

            async fn step(&self) -> Result<Next, &'static str> {
                self.1.fetch_add(1, Ordering::SeqCst);
                Ok(Next::Idle(Duration::from_secs(3600)))
            }
        }
        let worker = tokio::spawn(work(Sleeps(store, steps.clone()), QUEUE, stop.clone()));
        for step in 1..=3 {
            sleep(Duration::from_secs(60)).await;
            assert_eq!(steps.load(Ordering::SeqCst), step);
            queued.notify_waiters();
        }
        stop.cancel();
        worker.await.unwrap();
    }
}
