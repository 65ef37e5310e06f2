//! Going down in stages, within one budget.
//!
//! Not ready; no new connections, requests drained; workers at a safe point; indexes committed;
//! the store closed. Nothing is flushed while something may still write to it.

use std::time::{Duration, Instant};

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

/// All stages together.
const BUDGET: Duration = Duration::from_secs(30);

/// What is left of the budget.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    until: Instant,
}

impl Budget {
    /// A full budget, from now on.
    pub fn start() -> Self {
        Self { until: Instant::now() + BUDGET }
    }

    /// What a stage may take of it: `cap`, or less if less is left.
    pub fn at_most(self, cap: Duration) -> Duration {
        cap.min(self.until.saturating_duration_since(Instant::now()))
    }
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
