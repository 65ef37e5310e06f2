//! Instants, and the clock that is handed to whoever needs one.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Microseconds since 1970-01-01T00:00:00Z; negative before that.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct UnixMicros(pub i64);

impl UnixMicros {
    /// The number of microseconds.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }

    /// The instant `span` later; stays at the last representable instant beyond it.
    #[must_use]
    pub fn plus(self, span: Duration) -> UnixMicros {
        let micros = i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        UnixMicros(self.0.saturating_add(micros))
    }

    /// The time from `earlier` to this instant, zero if `earlier` is in fact later.
    #[must_use]
    pub fn since(self, earlier: UnixMicros) -> Duration {
        let micros = self.0.saturating_sub(earlier.0);
        Duration::from_micros(u64::try_from(micros).unwrap_or(0))
    }
}

impl fmt::Display for UnixMicros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}us", self.0)
    }
}

/// Tells the time. Handed in, so that tests decide what time it is.
pub trait Clock: Send + Sync + 'static {
    /// The present instant.
    fn now(&self) -> UnixMicros;
}

/// The clock of the machine. It can jump when the machine's clock is set.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMicros {
        let micros = |span: Duration| i64::try_from(span.as_micros()).unwrap_or(i64::MAX);
        match SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(after) => UnixMicros(micros(after)),
            Err(before) => UnixMicros(-micros(before.duration())),
        }
    }
}

/// A clock that moves only when told to. Clones show the same time.
#[derive(Debug, Clone, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// A clock that shows `now`.
    #[must_use]
    pub fn at(now: UnixMicros) -> ManualClock {
        ManualClock(Arc::new(AtomicI64::new(now.0)))
    }

    /// Moves the clock on.
    pub fn advance(&self, span: Duration) {
        self.set(self.now().plus(span));
    }

    /// Sets the clock, backwards too.
    pub fn set(&self, now: UnixMicros) {
        self.0.store(now.0, Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMicros {
        UnixMicros(self.0.load(Ordering::SeqCst))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates() {
        let second = Duration::from_secs(1);
        assert_eq!(UnixMicros(5).plus(second), UnixMicros(1_000_005));
        assert_eq!(UnixMicros(i64::MAX).plus(second), UnixMicros(i64::MAX));
        assert_eq!(UnixMicros(0).plus(Duration::MAX), UnixMicros(i64::MAX));
        assert_eq!(UnixMicros(2_000_000).since(UnixMicros(1_000_000)), second);
        assert_eq!(UnixMicros(1).since(UnixMicros(2)), Duration::ZERO);
        let ages = UnixMicros(i64::MAX).since(UnixMicros(i64::MIN));
        assert_eq!(ages, Duration::from_micros(i64::MAX as u64));
    }

    #[test]
    fn manual_clock_is_shared_by_its_clones() {
        let clock = ManualClock::at(UnixMicros(10));
        let seen = clock.clone();
        clock.advance(Duration::from_micros(7));
        assert_eq!(seen.now(), UnixMicros(17));
    }
}
