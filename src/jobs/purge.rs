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
    use super::*;
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
}
