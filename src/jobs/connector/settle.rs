//! What becomes of items once they were worked on.

use activekg_storage::queue::{self, DeadReason, Leased};
use activekg_storage::time::UnixMicros;
use activekg_storage::{StorageError, WriteTx};
use tracing::{error, info, warn};

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
    /// Settles everything that was leased, in one transaction, and counts it then.
    pub(super) async fn settle(
        &self,
        batches: Vec<(Provider, Vec<Item>)>,
    ) -> Result<(), StorageError> {
        let now = self.clock.now();
        let told: Vec<(Provider, Leased, Verdict)> = batches
            .iter()
            .flat_map(|(provider, items)| {
                items.iter().map(|item| (*provider, item.leased.clone(), verdict(&item.outcome)))
            })
            .collect();
        // Whatever happens to the disk, what is done must not be done again and again.
        let settled = self.store.make_room(move |tx| -> Result<Vec<Settled>, StorageError> {
            let tell_one =
                |(provider, leased, verdict): &(_, _, _)| tell(tx, *provider, leased, verdict, now);
            told.iter().map(tell_one).collect()
        });
        let settled = settled.await?.value;
        let items = batches
            .into_iter()
            .flat_map(|(provider, items)| items.into_iter().map(move |item| (provider, item)));
        for ((provider, item), settled) in items.zip(settled) {
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
        Ok(())
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
