//! A scan in the background that compares every row of the store with its checksum, so that damage
//! is found while there is still a backup without it.

use std::sync::Arc;
use std::time::Duration;

use activekg_storage::scrub::{Scrub, ScrubStep};
use activekg_storage::time::Clock;
use activekg_storage::{StorageError, Store, TableReport};
use tokio::select;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use super::off_thread;
use crate::observability::metrics::Metrics;

/// Looked at in one step, through one snapshot.
const STEP_ROWS: u64 = 1000;
/// The same in bytes.
const STEP_BYTES: u64 = 1 << 20;
/// Looked at in a second, at most, so that others hardly notice.
const ROWS_PER_SECOND: f64 = 20_000.0;
/// The same in bytes.
const BYTES_PER_SECOND: f64 = (16 << 20) as f64;
/// After the start, which has enough to do.
const FIRST_AFTER: Duration = Duration::from_secs(600);
/// After a scan that could not go on.
const AGAIN_AFTER: Duration = Duration::from_secs(60);

/// Scans the store now and then.
#[derive(Clone)]
pub struct Scrubber {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    every: Duration,
}

impl Scrubber {
    /// Scans `store` `every` so often.
    pub fn new(
        store: Arc<Store>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
        every: Duration,
    ) -> Self {
        Self { store, metrics, clock, every }
    }

    /// Scans until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        let mut pause = self.every.min(FIRST_AFTER);
        loop {
            select! {
                () = stop.cancelled() => return,
                () = sleep(pause) => {}
            }
            pause = match self.scan(&stop).await {
                Ok(true) => self.every,
                Ok(false) => return,
                Err(error) => {
                    error!("could not scan the store for damage: {error}");
                    AGAIN_AFTER.min(self.every)
                }
            };
        }
    }

    /// Looks at every row once; whether it came to the end.
    async fn scan(&self, stop: &CancellationToken) -> Result<bool, StorageError> {
        let mut scrub = Scrub::default();
        loop {
            let store = self.store.clone();
            // Reads from the disk.
            let (back, step) = off_thread(move || {
                let step = scrub.step(&store, STEP_ROWS, STEP_BYTES);
                (scrub, step)
            })
            .await;
            scrub = back;
            let step = step?;
            if step.table.is_none() {
                break;
            }
            self.metrics.care.scanned(step.rows);
            select! {
                () = stop.cancelled() => return Ok(false),
                () = sleep(pause_after(&step)) => {}
            }
        }
        let mut rows = 0;
        for table in scrub.reports() {
            rows += table.rows;
            self.report(table);
        }
        self.metrics.care.finished(self.clock.now());
        info!(rows, "scanned the store for damage");
        Ok(true)
    }

    fn report(&self, table: &TableReport) {
        self.metrics.care.corrupt(table.table, table.n_damaged);
        if let Some(reason) = &table.broken {
            let table = table.table;
            error!(
                table,
                "a table of the store cannot be read to its end: {reason}; restore a backup, or stop the server and use `activekg db repair`"
            );
        }
        if let Some(first) = table.damaged.first() {
            let (rows, key, reason) = (table.n_damaged, &first.key, &first.reason);
            let table = table.table;
            error!(
                table,
                rows,
                key,
                "rows of the store are damaged: {reason}; restore a backup, or stop the server and use `activekg db repair`"
            );
        }
    }
}

/// How long to wait, so that the rates are kept.
fn pause_after(step: &ScrubStep) -> Duration {
    let by_rows = step.rows as f64 / ROWS_PER_SECOND;
    let by_bytes = step.bytes as f64 / BYTES_PER_SECOND;
    Duration::from_secs_f64(by_rows.max(by_bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rates_are_kept() {
        let step = |rows, bytes| ScrubStep { rows, bytes, n_damaged: 0, table: Some("t") };
        assert_eq!(pause_after(&step(0, 0)), Duration::ZERO);
        assert_eq!(pause_after(&step(1000, 10)), Duration::from_millis(50));
        assert_eq!(pause_after(&step(1, 16 << 20)), Duration::from_secs(1));
    }
}
