//! How soon a worker that sleeps starts a job.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use activekg_storage::queue::{self, Leased, NewJob, QueueDef};
use activekg_storage::{Clock, JobId, Store, SystemClock, TenantId};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::work::{Fault, Random};

const QUEUE: QueueDef = QueueDef::named("idle");

/// Longest sleep of the worker.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Enqueues one job after the other while a worker sleeps, due after `delay`; how long after that
/// the worker had each in hand.
pub(crate) async fn starts(
    store: Arc<Store>,
    n: usize,
    delay: Duration,
) -> Result<Vec<Duration>, Fault> {
    let (started, mut starts) = mpsc::unbounded_channel();
    let worker = tokio::spawn(work(Arc::clone(&store), started));
    let tenant = TenantId::new("acme")?;
    let mut random = Random(1);
    let mut waits = Vec::with_capacity(n);
    for _ in 0..n {
        // Long enough for the worker to have gone to sleep.
        sleep(Duration::from_micros(2000 + random.next() % 4000)).await;
        let (sent, now) = (Instant::now(), SystemClock.now());
        let job = NewJob {
            id: JobId::at(now),
            tenant: tenant.clone(),
            key: None,
            payload: Vec::new(),
            rank: None,
            run_at: Some(now.plus(delay)),
            now,
        };
        store.write(move |tx| queue::enqueue(tx, &QUEUE, job)).await?;
        let start: Instant = starts.recv().await.ok_or("the worker ended")?;
        waits.push(start.saturating_duration_since(sent + delay));
    }
    worker.abort();
    Ok(waits)
}

async fn work(store: Arc<Store>, started: mpsc::UnboundedSender<Instant>) -> Result<(), Fault> {
    let enqueued = store.enqueued(QUEUE.name);
    loop {
        let mut woken = pin!(enqueued.notified());
        woken.as_mut().enable();
        let now = SystemClock.now();
        let leased = store.write(move |tx| queue::lease(tx, &QUEUE, now, 1)).await?.value;
        if let Some(leased) = leased.into_iter().next() {
            started.send(Instant::now())?;
            done(&store, leased).await?;
            continue;
        }
        let due = queue::next_due(&store.read()?, &QUEUE)?;
        let until = due.map_or(SLEEP_MAX, |due| due.since(SystemClock.now()).min(SLEEP_MAX));
        // Woken or due, either way there is something to look at.
        drop(timeout(until, woken).await);
    }
}

async fn done(store: &Store, leased: Leased) -> Result<(), Fault> {
    store.write(move |tx| queue::ack(tx, &QUEUE, &leased)).await?;
    Ok(())
}
