//! The store: its commits, its change log, its queues. Read at each scrape.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

use activekg_storage::changes::{self, Consumer};
use activekg_storage::queue::{self, Depths, QueueDef, QueueStats};
use activekg_storage::tables::connectors::CONFIGS;
use activekg_storage::time::Clock;
use activekg_storage::{ReadTx, Readable as _, Scan, StorageError, Store, StoreStats};
use prometheus::proto::MetricFamily;

use super::family::{Sample, counters, gauges, histogram};
use crate::connectors::Provider;
use crate::connectors::queue::provider_of;

/// What a scrape reads of the store. Holds no store open that is to be closed.
pub struct StoreMetrics {
    store: Weak<Store>,
    queues: Vec<QueueDef>,
    clock: Arc<dyn Clock>,
}

impl StoreMetrics {
    /// Measures `store` and these of its queues.
    pub fn new(store: &Arc<Store>, queues: Vec<QueueDef>, clock: Arc<dyn Clock>) -> Self {
        Self { store: Arc::downgrade(store), queues, clock }
    }

    /// Everything as it is now. Reads from the disk, so not for async threads. What cannot be read
    /// is left out.
    pub(super) fn collect(&self) -> Vec<MetricFamily> {
        let Some(store) = self.store.upgrade() else {
            return Vec::new();
        };
        let mut families = commits(&store.stats());
        let rest = store.read().and_then(|tx| {
            let mut families = self.log(&tx, store.last_seq().get())?;
            families.extend(self.queues(&tx)?);
            families.extend(self.connectors(&tx)?);
            Ok(families)
        });
        match rest {
            Ok(rest) => families.extend(rest),
            Err(StorageError::Closed) => {}
            Err(error) => tracing::warn!("a scrape could not read the store: {error}"),
        }
        families
    }

    fn log(&self, tx: &ReadTx, newest: u64) -> Result<Vec<MetricFamily>, StorageError> {
        let now = self.clock.now();
        let consumers = changes::consumers(tx)?;
        let labels: Vec<[(&str, &str); 1]> =
            consumers.iter().map(|consumer| [("consumer", consumer.name.as_str())]).collect();
        let each = |value: &dyn Fn(&Consumer) -> f64| -> Vec<f64> {
            consumers.iter().map(value).collect()
        };
        let lags = each(&|consumer| newest.saturating_sub(consumer.seq.get()) as f64);
        let ages = each(&|consumer| (now.get() - consumer.at.get()).max(0) as f64 / 1e6);
        let samples = |values: Vec<f64>| -> Vec<Sample<'_>> {
            labels.iter().zip(values).map(|(labels, value)| (labels.as_slice(), value)).collect()
        };
        Ok(vec![
            gauges(
                "activekg_change_log_seq",
                "Newest number in the change log",
                &[(&[], newest as f64)],
            ),
            gauges(
                "activekg_change_log_lag",
                "Entries of the change log after the consumer's checkpoint",
                &samples(lags),
            ),
            gauges(
                "activekg_change_log_checkpoint_age_seconds",
                "Time since the consumer's checkpoint moved",
                &samples(ages),
            ),
        ])
    }

    fn queues(&self, tx: &ReadTx) -> Result<Vec<MetricFamily>, StorageError> {
        let now = self.clock.now();
        let (mut depths, mut ages, mut paused, mut evicted) = (vec![], vec![], vec![], vec![]);
        for def in &self.queues {
            let QueueStats { depths: found, oldest, paused: is_paused, evicted: gone } =
                queue::stats(tx, def, now)?;
            let Depths { ready, delayed, leased, held, dead } = found;
            for (state, depth) in [
                ("ready", ready),
                ("delayed", delayed),
                ("leased", leased),
                ("held", held),
                ("dead", dead),
            ] {
                depths.push(([("queue", def.name), ("state", state)], depth as f64));
            }
            let queue = [("queue", def.name)];
            ages.push((queue, oldest.map_or(0.0, |oldest| now.since(oldest).as_secs_f64())));
            paused.push((queue, f64::from(u8::from(is_paused))));
            evicted.push((queue, gone as f64));
        }
        Ok(vec![
            gauges("activekg_queue_depth", "Items in the queue, by state", &samples(&depths)),
            gauges(
                "activekg_queue_oldest_age_seconds",
                "Age of the oldest item that is not done; 0 without one",
                &samples(&ages),
            ),
            gauges("activekg_queue_paused", "Whether the queue is paused", &samples(&paused)),
            counters(
                "activekg_queue_evicted_total",
                "Dead items removed because they were too many or too old",
                &samples(&evicted),
            ),
        ])
    }
}

/// Most tenants of one provider with series of their own.
const TENANTS_MAX: usize = 1000;

impl StoreMetrics {
    /// The queues of changes, tenant by tenant; a tenant with a connector is there at zero.
    fn connectors(&self, tx: &ReadTx) -> Result<Vec<MetricFamily>, StorageError> {
        let now = self.clock.now();
        let mut found: BTreeMap<(String, &'static str), Depths> = BTreeMap::new();
        for row in tx.scan(&CONFIGS, Scan::all())? {
            let (tenant, provider) = match row {
                Ok((key, _)) => key,
                // The scan for damage tells of it.
                Err(StorageError::Corrupt { .. }) => continue,
                Err(error) => return Err(error),
            };
            if let Some(provider) = Provider::named(&provider) {
                found.insert((tenant.as_str().to_owned(), provider.as_str()), Depths::default());
            }
        }
        for def in &self.queues {
            let Some(provider) = provider_of(def.name) else { continue };
            let tenants = queue::stats_by_tenant(tx, def, now)?;
            for (tenant, stats) in tenants.into_iter().take(TENANTS_MAX) {
                found.insert((tenant.as_str().to_owned(), provider.as_str()), stats.depths);
            }
        }
        let of = |value: fn(&Depths) -> u64| -> Vec<_> {
            let labels = |tenant, provider| [("provider", provider), ("tenant", tenant)];
            let samples = found.iter().map(|((tenant, provider), depths)| {
                (labels(tenant.as_str(), *provider), value(depths) as f64)
            });
            samples.collect()
        };
        Ok(vec![
            gauges(
                "connector_worker_queue_depth",
                "Changes of a connector that are not done",
                &samples(&of(Depths::live)),
            ),
            gauges(
                "connector_dlq_depth",
                "Changes of a connector that were given up",
                &samples(&of(|depths| depths.dead)),
            ),
        ])
    }
}

/// Values with labels, as families take them.
fn samples<'a, const N: usize>(values: &'a [([(&'a str, &'a str); N], f64)]) -> Vec<Sample<'a>> {
    values.iter().map(|(labels, value)| (labels.as_slice(), *value)).collect()
}

fn commits(stats: &StoreStats) -> Vec<MetricFamily> {
    let one_phase = stats.commits.saturating_sub(stats.commits_two_phase);
    let succeeded = stats.changes.saturating_sub(stats.changes_failed);
    vec![
        counters(
            "activekg_store_commits_total",
            "Commits, by the number of their phases",
            &[
                (&[("phases", "1")], one_phase as f64),
                (&[("phases", "2")], stats.commits_two_phase as f64),
            ],
        ),
        counters(
            "activekg_store_changes_total",
            "Changes run by the committer, by result",
            &[
                (&[("result", "committed")], succeeded as f64),
                (&[("result", "failed")], stats.changes_failed as f64),
            ],
        ),
        counters(
            "activekg_store_rows_written_total",
            "Rows written or removed",
            &[(&[], stats.rows as f64)],
        ),
        histogram(
            "activekg_store_commit_seconds",
            "Time a commit takes to become durable",
            &stats.commit_seconds,
        ),
        histogram(
            "activekg_store_batch_seconds",
            "Time from the first change of a batch until the batch is durable",
            &stats.batch_seconds,
        ),
        histogram(
            "activekg_store_batch_changes",
            "Changes that share a commit",
            &stats.batch_changes,
        ),
        gauges(
            "activekg_store_waiting_changes",
            "Changes waiting for the committer",
            &[(&[], stats.n_waiting as f64)],
        ),
        gauges(
            "activekg_store_writable",
            "1 while the store takes writes, 0 after a failed commit",
            &[(&[], f64::from(u8::from(stats.writable)))],
        ),
    ]
}
