//! The workers on the queues of changes.
//!
//! A worker has so many changes in hand, works on them side by side, and settles each when it ends;
//! the same transaction hands it others in their place. No tenant has all places of all workers.
//! What cannot be worked on now is not lost: without a connector that runs it is held,
//! while the source is to be left alone it is put off, and neither counts as an attempt.

mod hand;
mod settle;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use activekg_storage::ids::TenantId;
use activekg_storage::queue::{self, Leased};
use activekg_storage::tables::auth::{AuditRecord, audit};
use activekg_storage::tables::connectors::CONFIGS;
use activekg_storage::time::{Clock, UnixMicros};
use activekg_storage::{Readable as _, Scan, StorageError, Store, WriteTx};
use futures_util::FutureExt as _;
use futures_util::future::select_all;
use tokio::select;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::off_thread;
use super::worker::{Next, QueueWorker, work_on};
use crate::config::ConnectorWorker as Settings;
use crate::connectors::change::NotAChange;
use crate::connectors::queue as changes;
use crate::connectors::{Effect, Error, Failure, NoPlace, Places, Processor, Provider};
use crate::observability::metrics::Metrics;

use hand::Hand;

/// How long an item waits while there is no room for its document.
const BUSY: Duration = Duration::from_secs(10);

/// Why items are held whose connector's secrets no key opens.
const NOT_OPENED: &str = "config_not_opened";

/// How many workers there are, and how many of them work.
#[derive(Debug, Default)]
pub struct WorkerCounts {
    running: AtomicUsize,
    busy: AtomicUsize,
}

impl WorkerCounts {
    /// Workers there are.
    pub fn running(&self) -> usize {
        self.running.load(Ordering::Relaxed)
    }

    /// Workers with a batch.
    pub fn busy(&self) -> usize {
        self.busy.load(Ordering::Relaxed)
    }
}

/// Counts something for as long as it lasts.
struct Counted<'a>(&'a AtomicUsize);

impl<'a> Counted<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Works on changes.
#[derive(Clone)]
pub struct ConnectorWorker {
    store: Arc<Store>,
    places: Places,
    processor: Processor,
    settings: Settings,
    /// How long changes may take to be finished once it is to stop.
    grace: Duration,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    counts: Arc<WorkerCounts>,
    stop: CancellationToken,
}

/// What became of a change.
enum Outcome {
    Done(Effect),
    Failed(Failure),
    /// It is no change.
    Unreadable(NotAChange),
    /// There is no connector for it.
    Held(&'static str),
    /// Not before then.
    PutOff(UnixMicros),
    /// The settings make no source.
    NoSource(String),
    /// The work on it ended by a panic.
    Broken,
    /// The process goes down.
    GivenBack,
}

/// A change in work.
struct Item {
    leased: Leased,
    outcome: Outcome,
    took: Duration,
}

impl ConnectorWorker {
    /// A worker on the changes in `store`. Told to stop, it takes so long to finish what it holds,
    /// and gives back the rest.
    #[must_use]
    pub fn new(
        store: Arc<Store>,
        (places, processor): (Places, Processor),
        (settings, grace): (Settings, Duration),
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let (counts, stop) = (Arc::default(), CancellationToken::new());
        Self { store, places, processor, settings, grace, metrics, clock, counts, stop }
    }

    /// How many of its copies run and work.
    #[must_use]
    pub fn counts(&self) -> Arc<WorkerCounts> {
        self.counts.clone()
    }

    /// Takes up what was interrupted by the end of the last process, and what was held for want of a
    /// key that may be there now. To be called once, before any worker runs.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn recover(&self) -> Result<(), StorageError> {
        let now = self.clock.now();
        let recovered = self.store.make_room(move |tx| -> Result<usize, StorageError> {
            let mut n = 0;
            for provider in Provider::ALL {
                n += queue::recover(tx, changes::def(provider), now)?.len();
            }
            Ok(n)
        });
        let n_recovered = recovered.await?.value;
        let owners = self.owners().await?;
        let mut next = Some(0);
        while let Some(first) = next {
            let owners = owners.clone();
            let step = move |tx: &mut WriteTx<'_>| changes::follow_all(tx, &owners, first);
            next = self.store.make_room(step).await?.value;
        }
        if n_recovered > 0 {
            info!(n_recovered, "connector items that were interrupted are worked on again");
        }
        Ok(())
    }

    /// Enters an act in the audit trail.
    pub(super) async fn enter(&self, record: AuditRecord) -> Result<(), StorageError> {
        let now = self.clock.now();
        self.store.write(move |tx| audit(tx, now, &record)).await?;
        Ok(())
    }

    /// Who has a connector, of what.
    async fn owners(&self) -> Result<Arc<[(TenantId, Provider)]>, StorageError> {
        let store = self.store.clone();
        let read = move || {
            let tx = store.read()?;
            // The scan for damage tells of rows that cannot be read.
            let rows = tx.scan(&CONFIGS, Scan::all())?.flatten();
            let owners = rows.filter_map(|((tenant, provider), _)| {
                Provider::named(&provider).map(|provider| (tenant, provider))
            });
            Ok(owners.collect::<Vec<_>>().into())
        };
        off_thread(read).await
    }

    /// Works until told to stop; what it cannot finish soon then, it gives back.
    pub async fn run(mut self, stop: CancellationToken) {
        let counts = self.counts.clone();
        let _running = Counted::new(&counts.running);
        self.stop = stop.clone();
        let queues = Provider::ALL.map(|provider| changes::def(provider).name);
        work_on(self, &queues, stop).await;
    }

    /// Whether there may be something to lease, and when the next item comes due.
    async fn waiting(&self) -> Result<(bool, Option<UnixMicros>), StorageError> {
        let (store, now) = (self.store.clone(), self.clock.now());
        let look = move || {
            let tx = store.read()?;
            let (mut waiting, mut next) = (false, None::<UnixMicros>);
            for provider in Provider::ALL {
                let def = changes::def(provider);
                let depths = queue::depths(&tx, def)?;
                if depths.live() == depths.held {
                    continue;
                }
                let due = queue::next_due(&tx, def)?;
                waiting |= depths.ready > 0 || due.is_some_and(|due| due <= now);
                next = next.into_iter().chain(due).min();
            }
            Ok((waiting, next))
        };
        off_thread(look).await
    }

    /// How many more items it may take in hand.
    fn room(&self, hand: &Hand) -> usize {
        match self.stop.is_cancelled() {
            true => 0,
            false => self.settings.batch.saturating_sub(hand.len()),
        }
    }

    /// Keeps the leases of what takes long.
    async fn renew(&self, hand: &mut Hand) {
        let (leases, now) = (hand.leases(), self.clock.now());
        let renewed = self.store.make_room(move |tx| -> Result<Vec<_>, StorageError> {
            let renewed = leases.iter().map(|(id, provider, leased)| {
                Ok((*id, queue::renew(tx, changes::def(*provider), leased, now)?))
            });
            renewed.collect()
        });
        match renewed.await {
            Ok(renewed) => {
                for (id, leased) in renewed.value {
                    // A lost lease shows when the item is settled.
                    if let Some(leased) = leased {
                        hand.renewed(id, leased);
                    }
                }
            }
            Err(error) => warn!("leases of connector items could not be renewed: {error}"),
        }
    }

    /// Ends when something is enqueued from now on.
    fn enqueued(&self) -> impl Future<Output = ()> + Send + use<> {
        let woken = Provider::ALL.map(|provider| {
            let queued = self.store.enqueued(changes::def(provider).name);
            let mut woken = Box::pin(queued.notified_owned());
            woken.as_mut().enable();
            woken
        });
        select_all(woken).map(|_| ())
    }
}

/// What becomes of items for which there is no source.
fn no_place(none: &NoPlace, now: UnixMicros) -> Outcome {
    match none {
        NoPlace::NotRegistered(_) => Outcome::Held(changes::NO_CONFIG),
        NoPlace::Connector(Error::NotOpened { .. } | Error::NoKey) => Outcome::Held(NOT_OPENED),
        NoPlace::Connector(_) => Outcome::PutOff(now.plus(BUSY)),
        NoPlace::Settings(fault) => Outcome::NoSource(fault.to_string()),
    }
}

impl QueueWorker for ConnectorWorker {
    type Error = StorageError;

    fn store(&self) -> &Store {
        &self.store
    }

    /// Works on what there is until nothing is left. Each item is settled when it ends, and another
    /// takes its place: a slow one keeps nobody waiting.
    async fn step(&self) -> Result<Next, StorageError> {
        let (waits, due) = self.waiting().await?;
        let mut hand = Hand::default();
        if waits {
            let leased = self.exchange(Vec::new(), self.settings.batch).await?;
            hand.take(self, leased).await;
        }
        if hand.is_empty() {
            let due = due.map_or(self.settings.poll, |due| due.since(self.clock.now()));
            return Ok(Next::Idle(due.clamp(Duration::from_millis(10), self.settings.poll)));
        }
        let _busy = Counted::new(&self.counts.busy);
        let mut renewing = tokio::time::interval(changes::LEASE / 3);
        renewing.tick().await;
        let mut deadline = std::pin::pin!(async {
            self.stop.cancelled().await;
            tokio::time::sleep(self.grace).await;
        });
        let mut woken = std::pin::pin!(self.enqueued());
        while !hand.is_empty() {
            let room = self.room(&hand);
            let ended = select! {
                ended = hand.ended(self) => ended,
                _ = renewing.tick() => {
                    self.renew(&mut hand).await;
                    continue;
                }
                () = &mut woken, if room > 0 => Vec::new(),
                () = tokio::time::sleep(self.settings.poll), if room > 0 => Vec::new(),
                () = &mut deadline => {
                    self.exchange(hand.give_back(), 0).await?;
                    return Ok(Next::Now);
                }
            };
            // An enqueue between look and wait is not missed.
            woken.set(self.enqueued());
            if !ended.is_empty() || self.waiting().await?.0 {
                let leased = self.exchange(ended, self.room(&hand)).await?;
                hand.take(self, leased).await;
            }
        }
        Ok(Next::Now)
    }
}
