//! Nodes that behave oddly: vectors that jump, triggers that fire on and on, refreshes that stay
//! out.

use std::collections::BTreeMap;
use std::time::Duration;

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{DUE_OF, EVENTS, HISTORY, NODES};
use activekg_storage::time::UnixMicros;
use activekg_storage::{ReadTx, Readable, Scan};

use super::event::TRIGGER_FIRED;
use super::node::object;
use super::{Error, Graph, Node, Object, View, due};

/// Least embeddings that make a spike.
const SPIKES_MIN: usize = 3;
/// Mean drift where nothing drifted in the time looked at.
const MEAN_DEFAULT: f64 = 0.1;
/// Latest events shown of a storm.
const RECENT_MAX: usize = 10;
/// Most anomalies of one kind in an answer; the worst come first.
const LISTED_MAX: usize = 1000;

/// A node whose vector moved far, several times.
#[derive(Debug, Clone)]
pub struct DriftSpike {
    /// The node.
    pub node: Node,
    /// Its drifts above the bound, in the order they happened.
    pub drifts: Vec<f64>,
    /// The mean of all drifts of the tenant, above 0.
    pub mean: f64,
}

/// A node whose triggers fired often.
#[derive(Debug, Clone)]
pub struct TriggerStorm {
    /// The node.
    pub node: Node,
    /// How often.
    pub n_events: usize,
    /// The first time.
    pub first: UnixMicros,
    /// The last time.
    pub last: UnixMicros,
    /// The latest of these events, newest first.
    pub recent: Vec<(UnixMicros, Object)>,
}

/// A node whose refresh stays out.
#[derive(Debug, Clone)]
pub struct SchedulerLag {
    /// The node.
    pub node: Node,
    /// The time between two refreshes by its policy.
    pub expected: Duration,
    /// The time since the last one; nothing if there was none.
    pub actual: Option<Duration>,
}

impl Graph {
    /// Nodes with at least three drifts since `since` above `factor` times the mean of all.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn drift_spikes(
        &self,
        view: &View,
        since: UnixMicros,
        factor: f64,
    ) -> Result<Vec<DriftSpike>, Error> {
        let owners = view.owners();
        self.reading(move |tx| {
            let mut drifts: BTreeMap<(TenantId, NodeId), Vec<f64>> = BTreeMap::new();
            let (mut sum, mut n) = (0.0, 0_u64);
            for owner in &owners {
                for row in tx.scan(&HISTORY, Scan::prefix(&(owner.clone(),)))? {
                    let ((owner, node, at), record) = row?;
                    if let Some(drift) = record.drift.filter(|_| at >= since) {
                        drifts.entry((owner, node)).or_default().push(drift);
                        (sum, n) = (sum + drift, n + 1);
                    }
                }
            }
            let mean = if n == 0 || sum == 0.0 { MEAN_DEFAULT } else { sum / n as f64 };
            let mut spikes = Vec::new();
            for (key, mut drifts) in drifts {
                drifts.retain(|drift| *drift > mean * factor);
                if drifts.len() >= SPIKES_MIN
                    && let Some(node) = live(tx, key)?
                {
                    spikes.push(DriftSpike { node, drifts, mean });
                }
            }
            spikes.sort_by(|a, b| average(&b.drifts).total_cmp(&average(&a.drifts)));
            spikes.truncate(LISTED_MAX);
            Ok(spikes)
        })
        .await
    }

    /// Nodes whose triggers fired more than `threshold` times since `since`.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn trigger_storms(
        &self,
        view: &View,
        since: UnixMicros,
        threshold: usize,
    ) -> Result<Vec<TriggerStorm>, Error> {
        let owners = view.owners();
        self.reading(move |tx| {
            let mut fired: BTreeMap<(TenantId, NodeId), Vec<(UnixMicros, Object)>> =
                BTreeMap::new();
            for owner in &owners {
                let scan = Scan::prefix(&(owner.clone(),)).from(&(owner.clone(), since));
                for row in tx.scan(&EVENTS, scan)? {
                    let ((owner, at, _), record) = row?;
                    if record.kind == TRIGGER_FIRED {
                        let payload = object(&record.payload)?;
                        fired.entry((owner, record.node)).or_default().push((at, payload));
                    }
                }
            }
            let mut storms = Vec::new();
            for (key, events) in fired {
                let (Some((first, _)), Some((last, _))) = (events.first(), events.last()) else {
                    continue;
                };
                let (first, last, n_events) = (*first, *last, events.len());
                if n_events > threshold
                    && let Some(node) = live(tx, key)?
                {
                    let recent = events.into_iter().rev().take(RECENT_MAX).collect();
                    storms.push(TriggerStorm { node, n_events, first, last, recent });
                }
            }
            storms.sort_by_key(|storm| std::cmp::Reverse(storm.n_events));
            storms.truncate(LISTED_MAX);
            Ok(storms)
        })
        .await
    }

    /// Nodes that were not refreshed for `multiplier` times as long as their policy wants, the
    /// latest first; those that never were before all others. Of a policy with an interval and a
    /// cron expression the interval counts.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn scheduler_lags(
        &self,
        view: &View,
        multiplier: f64,
    ) -> Result<Vec<SchedulerLag>, Error> {
        let (owners, now) = (view.owners(), self.clock.now());
        self.reading(move |tx| {
            let mut lags = Vec::new();
            // A node that lags is due, or its refresh waits for the embedder: then it is about to
            // be due again. Either way it has a row here.
            for owner in &owners {
                let scan = Scan::prefix(&(owner.clone(),));
                for row in tx.scan(&DUE_OF, scan)? {
                    let (key, _) = row?;
                    let Some(record) = tx.get(&NODES, &key)?.filter(|node| !node.deleted) else {
                        continue;
                    };
                    let Some(expected) = due::period(&record, now) else { continue };
                    let actual = record.last_refreshed.map(|last| now.since(last));
                    let lags_behind = actual.is_none_or(|actual| {
                        actual.as_secs_f64() >= multiplier * expected.as_secs_f64()
                    });
                    if lags_behind {
                        let node = Node::from_record(key.0, key.1, record)?;
                        lags.push(SchedulerLag { node, expected, actual });
                    }
                }
            }
            lags.sort_by(|a, b| ratio(b).total_cmp(&ratio(a)));
            lags.truncate(LISTED_MAX);
            Ok(lags)
        })
        .await
    }
}

/// The node, unless it is gone or deleted.
fn live(tx: &ReadTx, key: (TenantId, NodeId)) -> Result<Option<Node>, Error> {
    let record = tx.get(&NODES, &key)?.filter(|node| !node.deleted);
    record.map(|record| Node::from_record(key.0, key.1, record)).transpose()
}

fn average(drifts: &[f64]) -> f64 {
    drifts.iter().sum::<f64>() / drifts.len().max(1) as f64
}

fn ratio(lag: &SchedulerLag) -> f64 {
    lag.actual.map_or(f64::INFINITY, |actual| actual.as_secs_f64() / lag.expected.as_secs_f64())
}
