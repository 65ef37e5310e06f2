//! What a worker has in hand: items of several connectors, each of which ends by itself.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use activekg_storage::ids::TenantId;
use activekg_storage::queue::Leased;
use tokio::task::{Id, JoinError, JoinSet};
use tracing::{Instrument as _, error};

use super::{ConnectorWorker, Item, Outcome, no_place};
use crate::connectors::{Change, Failure, Place, Provider};

/// Items in work, and those that ended.
#[derive(Default)]
pub(super) struct Hand {
    working: JoinSet<(Outcome, Duration)>,
    items: BTreeMap<Id, Held>,
    batches: BTreeMap<u64, Batch>,
    /// The number of the next batch.
    next: u64,
    ended: Vec<Ended>,
}

/// An item in work.
struct Held {
    provider: Provider,
    leased: Leased,
    batch: u64,
}

/// Items of one connector that were taken together.
struct Batch {
    tenant: TenantId,
    provider: Provider,
    begun: Instant,
    left: usize,
}

/// An item that ended.
pub(super) struct Ended {
    pub(super) provider: Provider,
    pub(super) item: Item,
}

impl Hand {
    /// Items that are in work.
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there is nothing in work and nothing to settle.
    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty() && self.ended.is_empty()
    }

    /// Begins to work on items, side by side. Those for which there is no source have ended.
    pub(super) async fn take(&mut self, worker: &ConnectorWorker, leased: Vec<(Provider, Leased)>) {
        let mut of: BTreeMap<(TenantId, Provider), Vec<Leased>> = BTreeMap::new();
        for (provider, leased) in leased {
            of.entry((leased.tenant.clone(), provider)).or_default().push(leased);
        }
        for ((tenant, provider), leased) in of {
            let begun = Instant::now();
            let place = match worker.places.of(&tenant, provider.as_str()).await {
                Ok(place) => place,
                Err(none) => {
                    let now = worker.clock.now();
                    let whole = |leased| Ended {
                        provider,
                        item: Item { leased, outcome: no_place(&none, now), took: Duration::ZERO },
                    };
                    self.ended.extend(leased.into_iter().map(whole));
                    worker.metrics.ingest.batch(&tenant, provider, begun.elapsed());
                    continue;
                }
            };
            self.next += 1;
            let batch = self.next;
            self.batches.insert(batch, Batch { tenant, provider, begun, left: leased.len() });
            for leased in leased {
                let (worker, place) = (worker.clone(), place.clone());
                let payload = leased.payload.clone();
                let one = async move {
                    let begun = Instant::now();
                    let outcome = worker.one(&place, &payload).await;
                    (outcome, begun.elapsed())
                };
                let task = self.working.spawn(one.in_current_span());
                self.items.insert(task.id(), Held { provider, leased, batch });
            }
        }
    }

    /// Waits until an item ends, and takes all that have. At once if some have; never if there is
    /// nothing in work.
    pub(super) async fn ended(&mut self, worker: &ConnectorWorker) -> Vec<Ended> {
        if self.ended.is_empty() {
            match self.working.join_next_with_id().await {
                Some(joined) => self.end(worker, joined),
                None => std::future::pending().await,
            }
        }
        while let Some(joined) = self.working.try_join_next_with_id() {
            self.end(worker, joined);
        }
        std::mem::take(&mut self.ended)
    }

    fn end(
        &mut self,
        worker: &ConnectorWorker,
        joined: Result<(Id, (Outcome, Duration)), JoinError>,
    ) {
        let (id, outcome, took) = match joined {
            Ok((id, (outcome, took))) => (id, outcome, took),
            Err(panic) => {
                error!("connector item: ingestion failed by a panic: {panic}");
                (panic.id(), Outcome::Broken, Duration::ZERO)
            }
        };
        let Some(Held { provider, leased, batch }) = self.items.remove(&id) else { return };
        self.ended.push(Ended { provider, item: Item { leased, outcome, took } });
        let Some(of) = self.batches.get_mut(&batch) else { return };
        of.left -= 1;
        if of.left == 0 {
            worker.metrics.ingest.batch(&of.tenant, of.provider, of.begun.elapsed());
            self.batches.remove(&batch);
        }
    }

    /// Breaks off what is in work, and gives it back with what ended.
    pub(super) fn give_back(mut self) -> Vec<Ended> {
        self.working.abort_all();
        let back = std::mem::take(&mut self.items).into_values().map(|held| {
            let Held { provider, leased, batch: _ } = held;
            let outcome = Outcome::GivenBack;
            Ended { provider, item: Item { leased, outcome, took: Duration::ZERO } }
        });
        let mut ended = std::mem::take(&mut self.ended);
        ended.extend(back);
        ended
    }

    /// The leases of what is in work.
    pub(super) fn leases(&self) -> Vec<(Id, Provider, Leased)> {
        let leases = self.items.iter();
        leases.map(|(id, held)| (*id, held.provider, held.leased.clone())).collect()
    }

    /// Goes on with another lease of an item.
    pub(super) fn renewed(&mut self, id: Id, leased: Leased) {
        if let Some(held) = self.items.get_mut(&id) {
            held.leased = leased;
        }
    }
}

impl ConnectorWorker {
    /// Works on one item.
    async fn one(&self, place: &Place, payload: &[u8]) -> Outcome {
        let change = match Change::parse(payload) {
            Ok(change) => change,
            Err(unreadable) => return Outcome::Unreadable(unreadable),
        };
        let key = (place.tenant.clone(), place.provider);
        let throttle = self.places.throttle();
        let leave = match throttle.admit(&key, self.clock.now()) {
            Ok(leave) => leave,
            Err(until) => return Outcome::PutOff(until),
        };
        if !leave.wait.is_zero() {
            tokio::time::sleep(leave.wait).await;
        }
        let applied = self.processor.apply(place, &change).await;
        let said = match &applied {
            Ok((_, said)) => *said,
            Err(failure) => failure.says(),
        };
        if throttle.learn(&key, leave, said, self.clock.now()) {
            tracing::warn!(
                tenant_id = %place.tenant, provider = place.provider.as_str(),
                "connector {}/{} is left alone for a while: its source fails",
                place.tenant, place.provider.as_str()
            );
        }
        match applied {
            Ok((effect, _)) => Outcome::Done(effect),
            Err(Failure::Busy(_)) => Outcome::PutOff(self.clock.now().plus(super::BUSY)),
            Err(failure) => Outcome::Failed(failure),
        }
    }
}
