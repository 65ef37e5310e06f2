//! Word of changed connectors, and the task that passes it on to the cache.
//!
//! Whoever changes a connector evicts it itself, before its caller hears of the change. The bus is for
//! everything else that holds a connector open, and shows operators that such word gets through.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use activekg_storage::ids::TenantId;
use activekg_storage::time::UnixMicros;
use tokio::select;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::broadcast::{Receiver, Sender};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{Connectors, Provider};

/// Changes that wait for a subscriber at most; one that falls behind further flushes everything.
const WAITING_MAX: usize = 1024;
/// How often a subscriber that hears nothing shows that it is there.
const POLL: Duration = Duration::from_secs(1);
/// How long one that shows nothing still counts as there.
const SILENCE_MAX: Duration = Duration::from_secs(5);

/// What was done to a connector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// Registered, or given other settings.
    Upsert,
    /// Enabled.
    Enable,
    /// Disabled.
    Disable,
    /// Deleted.
    Delete,
    /// Sealed with another key.
    Rotate,
}

impl Operation {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Upsert, Self::Enable, Self::Disable, Self::Delete, Self::Rotate];

    /// The label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Upsert => "upsert",
            Self::Enable => "enable",
            Self::Disable => "disable",
            Self::Delete => "delete",
            Self::Rotate => "rotate",
        }
    }
}

/// A changed connector.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Changed {
    pub(super) tenant: TenantId,
    pub(super) provider: Provider,
    pub(super) operation: Operation,
}

/// How the subscriber is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SubscriberHealth {
    /// It listens, and was seen within the last five seconds.
    pub connected: bool,
    /// When it last heard of a change.
    pub last_message_at: Option<UnixMicros>,
    /// How often it was started again or fell behind.
    pub reconnects: u64,
}

/// Carries changes to whoever listens.
pub(super) struct Bus {
    sender: Sender<Changed>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    starts: u64,
    lags: u64,
    seen: Option<Instant>,
    last_message_at: Option<UnixMicros>,
}

impl Bus {
    pub(super) fn new() -> Self {
        Self { sender: Sender::new(WAITING_MAX), state: Mutex::default() }
    }

    /// Tells of a change; false if nobody listens.
    pub(super) fn publish(&self, changed: Changed) -> bool {
        self.sender.send(changed).is_ok()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn subscribe(&self) -> Receiver<Changed> {
        let receiver = self.sender.subscribe();
        let mut state = self.state();
        state.starts += 1;
        state.seen = Some(Instant::now());
        receiver
    }
}

impl Connectors {
    /// How the subscriber is; `None` where there is none, by the settings or because the server
    /// goes down.
    #[must_use]
    pub fn subscriber(&self) -> Option<SubscriberHealth> {
        if !self.0.subscribes || self.0.stopping.is_cancelled() {
            return None;
        }
        let state = self.0.bus.state();
        Some(SubscriberHealth {
            connected: state.seen.is_some_and(|seen| seen.elapsed() < SILENCE_MAX),
            last_message_at: state.last_message_at,
            reconnects: state.starts.saturating_sub(1) + state.lags,
        })
    }

    /// Follows changes and evicts what they are about, until told to stop.
    pub async fn follow_changes(self, stop: CancellationToken) {
        let metrics = &self.0.metrics.connectors;
        let mut changes = self.0.bus.subscribe();
        if self.0.bus.state().starts > 1 {
            // What was published while nobody listened is unknown.
            self.0.cache.flush();
            metrics.reconnected();
        }
        metrics.subscriber_up(true);
        info!("connector cache subscriber started");
        loop {
            let received = select! {
                () = stop.cancelled() => break,
                received = changes.recv() => Some(received),
                () = tokio::time::sleep(POLL) => None,
            };
            match received {
                Some(Ok(changed)) => self.heard(&changed),
                Some(Err(RecvError::Lagged(n_missed))) => {
                    warn!(n_missed, "connector cache subscriber fell behind; the cache is flushed");
                    self.0.cache.flush();
                    self.0.bus.state().lags += 1;
                    metrics.reconnected();
                }
                Some(Err(RecvError::Closed)) => break,
                None => {}
            }
            let now = self.0.clock.now();
            let mut state = self.0.bus.state();
            state.seen = Some(Instant::now());
            if let Some(at) = state.last_message_at {
                metrics.last_message_age(now.since(at));
            }
        }
        self.0.bus.state().seen = None;
        metrics.subscriber_up(false);
        metrics.subscriber_stopped();
        info!("connector cache subscriber stopped");
    }

    fn heard(&self, changed: &Changed) {
        let Changed { tenant, provider, operation } = changed;
        self.0.cache.evict(tenant, *provider);
        self.0.metrics.connectors.heard(*operation);
        self.0.bus.state().last_message_at = Some(self.0.clock.now());
    }
}
