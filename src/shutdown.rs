//! Going down in stages, within one budget.
//!
//! Not ready; no new connections, requests drained; workers at a safe point; indexes committed;
//! the store closed. Nothing is flushed while something may still write to it.

use std::io;
use std::time::{Duration, Instant};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing::{info, warn};

/// Parts of the budget: for the requests, for the workers, and for what comes after them.
const STAGES: u32 = 3;

/// What is left of the budget.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    until: Instant,
    stage: Duration,
}

impl Budget {
    /// A full budget for all stages together, from now on.
    pub fn start(whole: Duration) -> Self {
        Self { until: Instant::now() + whole, stage: whole / STAGES }
    }

    /// What the next stage may take of it: its share, or less if less is left.
    pub fn for_stage(self) -> Duration {
        self.stage.min(self.until.saturating_duration_since(Instant::now()))
    }
}

/// What a worker may take to finish what it holds, where all stages together take `whole`: less than
/// its stage, so that it can give back the rest.
#[must_use]
pub fn to_finish(whole: Duration) -> Duration {
    whole / (STAGES * 2)
}

/// The signals to stop: SIGTERM, SIGINT, and SIGQUIT.
#[derive(Debug)]
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Signals {
    /// Takes note of them from now on; before, each of them ends the process.
    ///
    /// # Errors
    ///
    /// When the process cannot listen for signals.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            quit: signal(SignalKind::quit())?,
        })
    }

    /// Waits for the next one; its name.
    pub async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }

    /// Waits for the first one. A second one then ends the process at once.
    pub async fn first(mut self) {
        let name = self.next().await;
        info!(signal = name, "stopping");
        // A second signal means that the operator does not want to wait.
        tokio::spawn(async move {
            self.next().await;
            warn!("stopped at once by a second signal; what was acknowledged is safe");
            std::process::exit(130);
        });
    }
}

/// Waits for a signal to stop, from now on. See [`Signals::first`].
///
/// # Errors
///
/// When the process cannot listen for signals.
pub async fn signalled() -> io::Result<()> {
    Signals::listen()?.first().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_share_the_grace() {
        let whole = Duration::from_secs(30);
        let budget = Budget::start(whole);
        assert_eq!((budget.for_stage(), to_finish(whole)), (whole / 3, whole / 6));
        assert_eq!(Budget::start(Duration::ZERO).for_stage(), Duration::ZERO);
    }
}
