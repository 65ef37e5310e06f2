//! Going down in stages, within one budget.
//!
//! Not ready; no new connections, requests drained; workers at a safe point; indexes committed;
//! the store closed. Nothing is flushed while something may still write to it.

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
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

/// Waits for the signal to stop: SIGTERM, SIGINT, or SIGQUIT.
///
/// # Errors
///
/// When the process cannot listen for signals.
pub async fn signalled() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
        _ = quit.recv() => "SIGQUIT",
    };
    info!(signal = name, "stopping");
    // A second signal means that the operator does not want to wait.
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = quit.recv() => {}
        }
        warn!("stopped at once by a second signal; what was acknowledged is safe");
        std::process::exit(130);
    });
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
