//! When backups are made, and how long they stay.

use std::time::Duration;

use activekg_storage::time::UnixMicros;
use tokio::select;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::{Backups, Error};

/// Longest sleep: the clock can be set meanwhile.
const NAP: Duration = Duration::from_secs(60 * 60);

/// After one that failed.
const AGAIN: Duration = Duration::from_secs(15 * 60);

/// Makes backups at intervals and removes old ones. Run it under the supervisor.
#[derive(Clone)]
pub struct Schedule {
    backups: Backups,
    interval: Duration,
    retention: Option<Duration>,
    started_at: UnixMicros,
}

impl Schedule {
    /// A backup of `backups` every `interval`, the first one so long after the newest archive, or
    /// after `started_at` if there is none; each is kept for `retention`, or for good.
    #[must_use]
    pub fn new(
        backups: Backups,
        interval: Duration,
        retention: Option<Duration>,
        started_at: UnixMicros,
    ) -> Self {
        Self { backups, interval, retention, started_at }
    }

    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let newest = self.backups.newest().await.unwrap_or_else(|error| {
            warn!("cannot see which backups there are: {error}");
            None
        });
        if let (Some(newest), Some(metrics)) = (newest, &self.backups.0.metrics) {
            metrics.backup.found(newest);
        }
        let mut due = newest.unwrap_or(self.started_at).plus(self.interval);
        loop {
            let now = self.backups.0.source.clock.now();
            if now < due {
                select! {
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(due.since(now).min(NAP)) => continue,
                }
            }
            due = match self.turn().await {
                Ok(()) => self.backups.0.source.clock.now().plus(self.interval),
                // Whoever makes one now saves this one the work.
                Err(Error::Busy) => now.plus(self.interval),
                // Logged and counted where it was made.
                Err(_) => now.plus(AGAIN.min(self.interval)),
            };
            if stop.is_cancelled() {
                return;
            }
        }
    }

    /// Makes one and removes old ones.
    async fn turn(&self) -> Result<(), Error> {
        self.backups.create(None, Box::new(|_| ())).await?;
        if let Some(retention) = self.retention
            && let Err(failed) = self.backups.prune(retention).await
        {
            error!("could not remove old backups: {failed}");
        }
        Ok(())
    }
}
