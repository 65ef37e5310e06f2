//! What becomes of items once they were worked on.

use activekg_storage::queue::{self, DeadReason, Leased, Share};
use activekg_storage::time::UnixMicros;
use activekg_storage::{StorageError, WriteTx};
use tracing::{error, info, warn};

use super::hand::Ended;
use super::{ConnectorWorker, Item, Outcome};
use crate::connectors::change::NotAChange;
use crate::connectors::queue as changes;
use crate::connectors::{Effect, Failure, FaultClass, Provider};
use crate::observability::metrics::WorkerError;

/// What the queue is told of an item.
#[derive(Debug, Clone)]
enum Verdict {
    Ack,
    Fail(String),
    Bury(DeadReason, String),
    Hold(&'static str),
    PutOff(UnixMicros),
    Release,
}

/// What the queue made of it, where that is not what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Settled {
    AsTold,
    Dead(DeadReason),
}

impl ConnectorWorker {
    /// Settles what ended, and takes up to `room` others, in one transaction; counts it then.
    pub(super) async fn exchange(
        &self,
        ended: Vec<Ended>,
        room: usize,
    ) -> Result<Vec<(Provider, Leased)>, StorageError> {
        let (now, turn) = (self.clock.now(), rand::random::<u32>() as usize);
        let told: Vec<(Provider, Leased, Verdict)> = ended
            .iter()
            .map(|Ended { provider, item }| {
                (*provider, item.leased.clone(), verdict(&item.outcome))
            })
            .collect();
        let tenant_max = tenant_max(self.settings.concurrency * self.settings.batch);
        // Whatever happens to the disk, what is done must not be done again and again.
        let exchanged = self.store.make_room(move |tx| -> Result<_, StorageError> {
            let tell_one =
                |(provider, leased, verdict): &(_, _, _)| tell(tx, *provider, leased, verdict, now);
            let settled = told.iter().map(tell_one).collect::<Result<Vec<Settled>, _>>()?;
            Ok((settled, lease(tx, now, (room, turn), tenant_max)?))
        });
        let (settled, leased) = exchanged.await?.value;
        for (Ended { provider, item }, settled) in ended.into_iter().zip(settled) {
            self.count(provider, &item);
            if let Settled::Dead(reason) = settled {
                let (tenant, uri) = (&item.leased.tenant, item.leased.key.as_deref());
                self.metrics.ingest.dead(tenant, provider, reason);
                error!(
                    tenant_id = %tenant, provider = provider.as_str(), uri, reason = reason.as_str(),
                    "connector item: ingestion failed for good; it is among the dead letters"
                );
            }
        }
        Ok(leased)
    }

    fn count(&self, provider: Provider, item: &Item) {
        let Item { leased, outcome, took } = item;
        let (tenant, metrics) = (&leased.tenant, &self.metrics.ingest);
        let uri = leased.key.as_deref().unwrap_or_default();
        let (name, attempt) = (provider.as_str(), leased.attempt);
        let failed = |class: &'static str, why: &str| {
            metrics.failed(tenant, provider, class, *took);
            warn!(
                tenant_id = %tenant, provider = name, uri, class, attempt,
                "connector item: ingestion failed: {why}"
            );
        };
        match outcome {
            Outcome::Done(effect) => {
                metrics.processed(tenant, provider, *effect, *took);
                if *effect != Effect::Skipped {
                    let result = effect.as_str();
                    info!(tenant_id = %tenant, provider = name, uri, "connector item {result}");
                }
            }
            Outcome::Failed(failure) => {
                metrics.worker_error(tenant, provider, WorkerError::Processing);
                failed(failure.class(), &failure.to_string());
            }
            Outcome::NoSource(why) => {
                metrics.worker_error(tenant, provider, WorkerError::BuildConnector);
                failed(FaultClass::Settings.as_str(), why);
            }
            Outcome::Broken => {
                metrics.worker_error(tenant, provider, WorkerError::BatchFailure);
                failed("panic", "the work on it broke off");
            }
            Outcome::Unreadable(why) => {
                let error = match why {
                    NotAChange::Parse => WorkerError::Parse,
                    NotAChange::Member(_) => WorkerError::ChangeItem,
                };
                metrics.worker_error(tenant, provider, error);
                warn!(
                    tenant_id = %tenant, provider = name, uri,
                    "connector item: ingestion failed: {why}"
                );
            }
            Outcome::Held(why) => {
                metrics.worker_error(tenant, provider, WorkerError::NoConfig);
                info!(tenant_id = %tenant, provider = name, uri, "connector item held: {why}");
            }
            Outcome::PutOff(_) | Outcome::GivenBack => {}
        }
    }
}

/// Most of all places that one tenant has: some are left for those who come next, however slow its
/// sources are.
fn tenant_max(places: usize) -> u64 {
    (places - places / 4).max(1) as u64
}

/// Leases up to `room` items of all providers, of which each is the first in its turn.
fn lease(
    tx: &mut WriteTx<'_>,
    now: UnixMicros,
    (room, turn): (usize, usize),
    tenant_max: u64,
) -> Result<Vec<(Provider, Leased)>, StorageError> {
    let queues = Provider::ALL.map(changes::def);
    let share = Share { queues: &queues, tenant_max };
    let mut leased = Vec::new();
    for n in 0..Provider::ALL.len() {
        let provider = Provider::ALL[(turn + n) % Provider::ALL.len()];
        let left = room - leased.len();
        if left == 0 {
            break;
        }
        let items = queue::lease_shared(tx, changes::def(provider), now, left, share)?;
        leased.extend(items.into_iter().map(|item| (provider, item)));
    }
    Ok(leased)
}

fn verdict(outcome: &Outcome) -> Verdict {
    match outcome {
        Outcome::Done(_) => Verdict::Ack,
        Outcome::Failed(failure) => failed(failure),
        Outcome::Unreadable(why) => Verdict::Bury(DeadReason::Parse, format!("parse: {why}")),
        Outcome::Held(why) => Verdict::Hold(why),
        Outcome::PutOff(until) => Verdict::PutOff(*until),
        Outcome::NoSource(why) => Verdict::Fail(why.clone()),
        Outcome::Broken => Verdict::Fail("panic: the work on it broke off".to_owned()),
        Outcome::GivenBack => Verdict::Release,
    }
}

fn failed(failure: &Failure) -> Verdict {
    if failure.is_transient() {
        Verdict::Fail(failure.to_string())
    } else {
        Verdict::Bury(DeadReason::Permanent, failure.to_string())
    }
}

fn tell(
    tx: &mut WriteTx<'_>,
    provider: Provider,
    leased: &Leased,
    verdict: &Verdict,
    now: UnixMicros,
) -> Result<Settled, StorageError> {
    let def = changes::def(provider);
    let died = |outcome, reason| match outcome {
        queue::Outcome::Dead => Settled::Dead(reason),
        queue::Outcome::Retry { .. } | queue::Outcome::LeaseLost => Settled::AsTold,
    };
    Ok(match verdict {
        Verdict::Ack => {
            queue::ack(tx, def, leased)?;
            Settled::AsTold
        }
        Verdict::Fail(why) => {
            let outcome = queue::fail(tx, def, leased, why, now, rand::random())?;
            died(outcome, DeadReason::Exhausted)
        }
        Verdict::Bury(reason, why) => {
            died(queue::bury(tx, def, leased, *reason, why, now)?, *reason)
        }
        // Turned on since it was looked for: whoever did that has released what was held then.
        Verdict::Hold(changes::NO_CONFIG) if changes::is_enabled(tx, &leased.tenant, provider)? => {
            queue::release(tx, def, leased)?;
            Settled::AsTold
        }
        Verdict::Hold(why) => {
            queue::hold(tx, def, leased, why)?;
            Settled::AsTold
        }
        Verdict::PutOff(until) => {
            queue::put_off(tx, def, leased, *until)?;
            Settled::AsTold
        }
        Verdict::Release => {
            queue::release(tx, def, leased)?;
            Settled::AsTold
        }
    })
}
