//! The nightly purge: at two in the morning, UTC, and after a start that comes too late for it.

use std::sync::Arc;
use std::time::Duration;

use activekg_storage::time::{Clock, UnixMicros};
use tokio::select;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::connectors::{PurgeRequest, Purger};
use crate::graph::{Error, Graph};
use crate::observability::metrics::{Metrics, ScheduleKind};
use crate::refresh::{PURGE_CYCLE, RunLog};

const DAY: i64 = 24 * 3600 * 1_000_000;
/// The time of the day, since midnight.
const AT: i64 = 2 * 3600 * 1_000_000;
/// Longest time between two looks at the clock, which can be set.
const LOOK_AFTER: Duration = Duration::from_secs(60);
/// After a run that failed.
const AGAIN_AFTER: Duration = Duration::from_secs(3600);

/// Purges every night.
#[derive(Clone)]
pub struct PurgeSchedule {
    purger: Purger,
    graph: Graph,
    metrics: Arc<Metrics>,
    log: RunLog,
    clock: Arc<dyn Clock>,
}

impl PurgeSchedule {
    /// A schedule of `purger`, which remembers its runs in the store of `graph`.
    pub fn new(
        purger: Purger,
        graph: Graph,
        metrics: Arc<Metrics>,
        log: RunLog,
        clock: Arc<dyn Clock>,
    ) -> Self {
        log.expect(PURGE_CYCLE);
        metrics.refresh.expect(PURGE_CYCLE, ScheduleKind::Cron);
        Self { purger, graph, metrics, log, clock }
    }

    /// Purges whenever it is time, until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let wait = match self.turn().await {
                Ok(wait) => wait,
                Err(error) => {
                    error!("could not look up when the purge cycle ran last: {error}");
                    AGAIN_AFTER
                }
            };
            select! {
                () = stop.cancelled() => {}
                () = sleep(wait) => {}
            }
        }
    }

    /// One look; how long until the next.
    async fn turn(&self) -> Result<Duration, Error> {
        let now = self.clock.now();
        let Some(last) = self.graph.last_run(PURGE_CYCLE).await? else {
            // A store that is new has nothing to make up for.
            self.graph.note_run(PURGE_CYCLE, now).await?;
            return Ok(LOOK_AFTER);
        };
        if last >= latest(now) {
            return Ok(LOOK_AFTER.min(next(now).since(now)));
        }
        let since_last = self.log.ran(PURGE_CYCLE, now);
        self.metrics.refresh.scheduled(PURGE_CYCLE, ScheduleKind::Cron, since_last);
        // The purger has logged and counted what went wrong.
        if self.purger.run(PurgeRequest::default(), "scheduler").await.is_err() {
            return Ok(AGAIN_AFTER);
        }
        self.graph.note_run(PURGE_CYCLE, now).await?;
        Ok(LOOK_AFTER)
    }
}

/// The latest instant up to `now` at which it was time.
fn latest(now: UnixMicros) -> UnixMicros {
    UnixMicros((now.get() - AT).div_euclid(DAY) * DAY + AT)
}

/// The first instant after `now` at which it is time.
fn next(now: UnixMicros) -> UnixMicros {
    UnixMicros(latest(now).get() + DAY)
}

#[cfg(test)]
mod tests {
    use activekg_storage::{ManualClock, Store, StoreOptions};
    use prometheus::Registry;

    use super::*;
    use crate::config;
    use crate::graph::{self, FreeSpace};
    use crate::timestamp::{iso, parse};

    fn at(text: &str) -> UnixMicros {
        UnixMicros(parse(text).unwrap())
    }

    #[test]
    fn it_is_time_at_two_in_the_morning() {
        for (now, was, is) in [
            (
                "2026-02-03T01:59:59.999999Z",
                "2026-02-02T02:00:00+00:00",
                "2026-02-03T02:00:00+00:00",
            ),
            ("2026-02-03T02:00:00Z", "2026-02-03T02:00:00+00:00", "2026-02-04T02:00:00+00:00"),
            ("2026-03-01T00:30:00+01:00", "2026-02-28T02:00:00+00:00", "2026-03-01T02:00:00+00:00"),
        ] {
            assert_eq!(iso(latest(at(now)).get()), was, "{now}");
            assert_eq!(iso(next(at(now)).get()), is, "{now}");
        }
    }

    /// A schedule over a store of its own, and what it counts.
    fn schedule(dir: &std::path::Path, clock: &Arc<ManualClock>) -> (PurgeSchedule, Arc<Metrics>) {
        let store = Arc::new(Store::open(dir, StoreOptions::default()).unwrap());
        let retention = Duration::from_secs(30 * 24 * 3600);
        let settings =
            graph::Settings { auto_embed: false, report_jobs: false, ..graph::Settings::default() };
        let space = FreeSpace::new(dir.to_owned(), Some(0)).unwrap();
        let graph = Graph::new(store, settings, clock.clone(), space);
        let metrics = Arc::new(Metrics::new(Registry::new(), UnixMicros(0)).unwrap());
        let limits = config::Purge { batch_size: 10, retention };
        let stopping = CancellationToken::new();
        let purger = Purger::new(graph.clone(), metrics.clone(), clock.clone(), limits, stopping);
        let log = RunLog::default();
        (PurgeSchedule::new(purger, graph, metrics.clone(), log, clock.clone()), metrics)
    }

    #[tokio::test]
    async fn a_night_is_slept_through_until_two_and_made_up_for_once() {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(at("2026-02-03T01:59:00Z")));
        let (schedule, metrics) = schedule(dir.path(), &clock);
        let runs = || {
            let text = metrics.prometheus_text();
            let line = "connector_purger_total{result=\"success\"} ";
            let count = text.lines().find_map(|counted| counted.strip_prefix(line));
            count.expect("it is there").to_owned()
        };
        assert_eq!(schedule.turn().await.unwrap(), LOOK_AFTER, "a new store");
        clock.advance(Duration::from_secs(40));
        assert_eq!(schedule.turn().await.unwrap(), Duration::from_secs(20));
        assert_eq!(runs(), "0");
        clock.advance(Duration::from_secs(20));
        schedule.turn().await.unwrap();
        schedule.turn().await.unwrap();
        assert_eq!(runs(), "1");
        // The machine was off for three nights.
        clock.advance(Duration::from_secs(3 * 24 * 3600));
        schedule.turn().await.unwrap();
        schedule.turn().await.unwrap();
        assert_eq!(runs(), "2");
        let last = schedule.graph.last_run(PURGE_CYCLE).await.unwrap();
        assert_eq!(last, Some(clock.now()));
    }
}
