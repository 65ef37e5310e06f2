//! Background work under one supervisor.
//!
//! A worker is a task that runs until it is told to stop. If it panics it is counted, logged and
//! started again after a pause; the process goes on.

mod connector;
mod coverage;
mod crew;
mod embedding;
mod jwks;
mod poller;
mod purge;
mod refresh;
mod scrub;
mod settlements;
mod sweep;
mod triggers;
mod upgrade;
mod webhooks;
mod worker;

use std::future::Future;
use std::time::Duration;

use tokio::select;
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, error, error_span};

pub use connector::{ConnectorWorker, WorkerCounts};
pub use coverage::CoverageGauges;
pub use crew::{CREW_MAX, Crew, CrewError};
pub use embedding::EmbeddingWorker;
pub use jwks::KeyWatch;
pub use poller::Poller;
pub use purge::PurgeSchedule;
pub use refresh::{Scheduler, queue_due};
pub use scrub::Scrubber;
pub use settlements::{Settled, Settlements};
pub use sweep::TextSweep;
pub use triggers::TriggerWorker;
pub use upgrade::NodeUpgrade;
pub use webhooks::WebhookWorker;

/// How long a worker that panicked stays down.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// Starts workers and stops them together. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Supervisor {
    stop: CancellationToken,
    workers: TaskTracker,
}

/// A worker that runs, and can be told to stop before the others.
#[derive(Debug)]
pub struct Member {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Member {
    /// Tells it to finish what it holds.
    pub fn dismiss(&self) {
        self.stop.cancel();
    }

    /// Waits until it has ended.
    pub async fn ended(self) {
        // The task has no panics of its own, and nobody aborts it.
        let _ = self.task.await;
    }
}

impl Supervisor {
    /// Runs what `worker` makes until the supervisor stops, making it anew after a panic. Its lines of
    /// the log have `component`, which is `name` with hyphens.
    pub fn run<F, W>(&self, name: &'static str, worker: F) -> Member
    where
        F: Fn(CancellationToken) -> W + Send + 'static,
        W: Future<Output = ()> + Send + 'static,
    {
        let stop = self.stop.child_token();
        let told = stop.clone();
        // At this level, so that the least talkative log has it as well.
        let span = error_span!(parent: None, "worker", component = name.replace('_', "-"));
        let supervised = async move {
            loop {
                // A task of its own, so that its panic ends it and not this loop.
                let ended: Result<(), JoinError> =
                    tokio::spawn(worker(stop.clone()).in_current_span()).await;
                match ended {
                    Ok(()) => return,
                    Err(panic) => error!("a worker ended by a panic: {panic}"),
                }
                select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(RESTART_AFTER) => {}
                }
            }
        };
        Member { stop: told, task: self.workers.spawn(supervised.instrument(span)) }
    }

    /// Tells every worker to finish what it holds, and waits until they have or `budget` is over.
    /// Whether all have ended.
    pub async fn stop(self, budget: Duration) -> bool {
        self.stop.cancel();
        self.workers.close();
        tokio::time::timeout(budget, self.workers.wait()).await.is_ok()
    }
}

/// What `work` comes to, done where it may block. Its panic is that of the worker that waits for it.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done,
        Err(ended) => match ended.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // Never begun: the runtime goes down, and the worker with it.
            Err(_) => std::future::pending().await,
        },
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_worker_outlives_its_panic_and_stops_when_told() {
        let supervisor = Supervisor::default();
        let runs = Arc::new(AtomicU32::new(0));
        let (counted, (second, mut seen)) = (runs.clone(), tokio::sync::mpsc::channel(1));
        supervisor.run("test", move |stop| {
            let (run, second) = (counted.fetch_add(1, Ordering::SeqCst), second.clone());
            async move {
                assert!(run > 0, "the first run panics");
                second.send(()).await.expect("the test listens");
                stop.cancelled().await;
            }
        });
        seen.recv().await.expect("the worker ran again");
        assert!(supervisor.stop(Duration::from_secs(5)).await);
        assert_eq!(runs.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    #[should_panic(expected = "off the rails")]
    async fn a_panic_off_the_thread_is_the_worker_s() {
        assert_eq!(off_thread(|| 1).await, 1);
        off_thread(|| panic!("off the rails")).await
    }

    #[tokio::test]
    async fn one_can_be_dismissed_while_the_others_run() {
        let supervisor = Supervisor::default();
        let run = |stop: CancellationToken| async move { stop.cancelled().await };
        let (one, other) = (supervisor.run("one", run), supervisor.run("other", run));
        one.dismiss();
        one.ended().await;
        assert!(!other.stop.is_cancelled());
        assert!(supervisor.clone().stop(Duration::from_secs(5)).await);
        other.ended().await;
        // What is begun too late ends at once.
        supervisor.run("late", run).ended().await;
    }
}
