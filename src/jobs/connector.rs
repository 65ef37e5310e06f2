//! The workers on the queues of changes.
//!
//! A worker takes a batch, works on its changes side by side, and settles all of them in one
//! transaction. What cannot be worked on now is not lost: without a connector that runs it is held,
//! while the source is to be left alone it is put off, and neither counts as an attempt.

mod settle;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use activekg_storage::ids::TenantId;
use activekg_storage::queue::{self, Leased, QueueDef};
use activekg_storage::tables::connectors::CONFIGS;
use activekg_storage::time::{Clock, UnixMicros};
use activekg_storage::{Readable as _, Scan, StorageError, Store};
use tokio::select;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, error, info, warn};

use super::worker::{Next, QueueWorker, work_on};
use crate::config::ConnectorWorker as Settings;
use crate::connectors::change::NotAChange;
use crate::connectors::queue as changes;
use crate::connectors::{
    Change, Effect, Error, Failure, NoPlace, Place, Places, Processor, Provider, Said,
};
use crate::observability::metrics::Metrics;

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
            let rows = tx.scan(&CONFIGS, Scan::all())?;
            // The scan for damage tells of rows that cannot be read.
            let owners: Vec<_> = rows.flatten().map(|(owner, _)| owner).collect();
            for (tenant, provider) in owners {
                if let Some(provider) = Provider::named(&provider) {
                    while changes::follow(tx, &tenant, provider)? {}
                }
            }
            Ok(n)
        });
        let n_recovered = recovered.await?.value;
        if n_recovered > 0 {
            info!(n_recovered, "connector items that were interrupted are worked on again");
        }
        Ok(())
    }

    /// Works until told to stop; what it cannot finish soon then, it gives back.
    pub async fn run(mut self, stop: CancellationToken) {
        let counts = self.counts.clone();
        let _running = Counted::new(&counts.running);
        self.stop = stop.clone();
        let queues = Provider::ALL.map(|provider| changes::def(provider).name);
        work_on(self, &queues, stop).await;
    }

    /// The queues with something to lease, and when the next item comes due.
    async fn waiting(&self) -> Result<(Vec<Provider>, Option<UnixMicros>), StorageError> {
        let (store, now) = (self.store.clone(), self.clock.now());
        let look = move || {
            let tx = store.read()?;
            let (mut waiting, mut next) = (Vec::new(), None::<UnixMicros>);
            for provider in Provider::ALL {
                let def = changes::def(provider);
                let depths = queue::depths(&tx, def)?;
                if depths.live() == depths.held {
                    continue;
                }
                let due = queue::next_due(&tx, def)?;
                if depths.ready > 0 || due.is_some_and(|due| due <= now) {
                    waiting.push(provider);
                }
                next = next.into_iter().chain(due).min();
            }
            Ok((waiting, next))
        };
        tokio::task::spawn_blocking(look).await.unwrap_or(Ok((Vec::new(), None)))
    }

    async fn lease(&self, waiting: Vec<Provider>) -> Result<Vec<(Provider, Leased)>, StorageError> {
        let (now, n, turn) = (self.clock.now(), self.settings.batch, rand::random::<u32>());
        let leased = self.store.make_room(move |tx| -> Result<_, StorageError> {
            let mut leased = Vec::new();
            // Each queue is the first now and then.
            let from = turn as usize % waiting.len().max(1);
            for &provider in waiting[from..].iter().chain(&waiting[..from]) {
                let left = n - leased.len();
                if left == 0 {
                    break;
                }
                let items = queue::lease(tx, changes::def(provider), now, left)?;
                leased.extend(items.into_iter().map(|item| (provider, item)));
            }
            Ok(leased)
        });
        Ok(leased.await?.value)
    }

    /// Works on items of one connector, side by side.
    async fn batch(&self, tenant: &TenantId, provider: Provider, leased: Vec<Leased>) -> Vec<Item> {
        let place = match self.places.of(tenant, provider.as_str()).await {
            Ok(place) => place,
            Err(none) => {
                let now = self.clock.now();
                let whole =
                    |leased| Item { leased, outcome: no_place(&none, now), took: Duration::ZERO };
                return leased.into_iter().map(whole).collect();
            }
        };
        let mut working = JoinSet::new();
        let mut items: Vec<Item> = Vec::with_capacity(leased.len());
        for (index, leased) in leased.into_iter().enumerate() {
            let (worker, place, payload) = (self.clone(), place.clone(), leased.payload.clone());
            let one = async move {
                let begun = Instant::now();
                let outcome = worker.one(&place, &payload).await;
                (index, outcome, begun.elapsed())
            };
            working.spawn(one.in_current_span());
            // What nobody reports on was cut off by its panic.
            items.push(Item { leased, outcome: Outcome::Broken, took: Duration::ZERO });
        }
        let def = changes::def(provider);
        let mut renewing = tokio::time::interval(def.lease / 3);
        renewing.tick().await;
        let mut deadline = std::pin::pin!(async {
            self.stop.cancelled().await;
            tokio::time::sleep(self.grace).await;
        });
        let mut done = vec![false; items.len()];
        loop {
            select! {
                ended = working.join_next() => match ended {
                    None => return items,
                    Some(Ok((index, outcome, took))) => {
                        (items[index].outcome, items[index].took) = (outcome, took);
                        done[index] = true;
                    }
                    Some(Err(panic)) => error!(
                        tenant_id = %tenant, provider = provider.as_str(),
                        "connector item: ingestion failed by a panic: {panic}"
                    ),
                },
                _ = renewing.tick() => self.renew(def, &mut items).await,
                () = &mut deadline => {
                    working.abort_all();
                    for (item, done) in items.iter_mut().zip(&done) {
                        if !done {
                            item.outcome = Outcome::GivenBack;
                        }
                    }
                    return items;
                }
            }
        }
    }

    /// Keeps the leases of a batch that takes long.
    async fn renew(&self, def: &'static QueueDef, items: &mut [Item]) {
        let leases: Vec<Leased> = items.iter().map(|item| item.leased.clone()).collect();
        let now = self.clock.now();
        let renewed = self.store.make_room(move |tx| -> Result<_, StorageError> {
            leases.iter().map(|leased| queue::renew(tx, def, leased, now)).collect()
        });
        match renewed.await {
            Ok(renewed) => {
                let renewed: Vec<Option<Leased>> = renewed.value;
                for (item, renewed) in items.iter_mut().zip(renewed) {
                    // A lost lease shows when the item is settled.
                    if let Some(renewed) = renewed {
                        item.leased = renewed;
                    }
                }
            }
            Err(error) => warn!("leases of connector items could not be renewed: {error}"),
        }
    }

    /// Works on one item.
    async fn one(&self, place: &Place, payload: &[u8]) -> Outcome {
        let change = match Change::parse(payload) {
            Ok(change) => change,
            Err(unreadable) => return Outcome::Unreadable(unreadable),
        };
        let key = (place.tenant.clone(), place.provider);
        let throttle = self.places.throttle();
        match throttle.admit(&key, self.clock.now()) {
            Ok(wait) if wait.is_zero() => {}
            Ok(wait) => tokio::time::sleep(wait).await,
            Err(until) => return Outcome::PutOff(until),
        }
        let applied = self.processor.apply(place, &change).await;
        let said = match &applied {
            Ok(_) => Said::Works,
            Err(failure) => failure.says(),
        };
        if throttle.learn(&key, said, self.clock.now()) {
            warn!(
                tenant_id = %place.tenant, provider = place.provider.as_str(),
                "connector {}/{} is left alone for a while: its source fails",
                place.tenant, place.provider.as_str()
            );
        }
        match applied {
            Ok(effect) => Outcome::Done(effect),
            Err(Failure::Busy(_)) => Outcome::PutOff(self.clock.now().plus(BUSY)),
            Err(failure) => Outcome::Failed(failure),
        }
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

    /// Works on the next batch.
    async fn step(&self) -> Result<Next, StorageError> {
        let (waiting, due) = self.waiting().await?;
        let leased = if waiting.is_empty() { Vec::new() } else { self.lease(waiting).await? };
        if leased.is_empty() {
            let due = due.map_or(self.settings.poll, |due| due.since(self.clock.now()));
            return Ok(Next::Idle(due.clamp(Duration::from_millis(10), self.settings.poll)));
        }
        let _busy = Counted::new(&self.counts.busy);
        let mut batches: BTreeMap<(TenantId, Provider), Vec<Leased>> = BTreeMap::new();
        for (provider, leased) in leased {
            batches.entry((leased.tenant.clone(), provider)).or_default().push(leased);
        }
        let working = batches.into_iter().map(|((tenant, provider), leased)| async move {
            let begun = Instant::now();
            let items = self.batch(&tenant, provider, leased).await;
            self.metrics.ingest.batch(&tenant, provider, begun.elapsed());
            (provider, items)
        });
        let batches = futures_util::future::join_all(working).await;
        self.settle(batches).await?;
        Ok(Next::Now)
    }
}
