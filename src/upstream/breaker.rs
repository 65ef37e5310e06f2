//! Not asking a service that does not answer.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use activekg_storage::time::UnixMicros;

/// When a breaker opens, and for how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BreakerSettings {
    /// Failures in a row that open it; at least 1.
    pub failures: u32,
    /// How long it stays open before one call may find out whether the service is back.
    pub cool_down: Duration,
}

impl Default for BreakerSettings {
    fn default() -> Self {
        Self { failures: 5, cool_down: Duration::from_secs(15) }
    }
}

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreakerState {
    /// Calls pass.
    Closed,
    /// One call is finding out whether the service is back.
    HalfOpen,
    /// No call passes.
    Open,
}

impl BreakerState {
    /// The number that metrics show: 0 closed, 1 half open, 2 open.
    pub fn number(self) -> u8 {
        match self {
            Self::Closed => 0,
            Self::HalfOpen => 1,
            Self::Open => 2,
        }
    }
}

/// Counts failures in a row. After so many nothing is let through for a while; then one call is,
/// and its outcome decides.
#[derive(Debug)]
pub struct Breaker {
    settings: BreakerSettings,
    inside: Mutex<Inside>,
}

#[derive(Debug, Clone, Copy)]
enum Inside {
    Closed { failures: u32 },
    Open { since: UnixMicros },
    HalfOpen { since: UnixMicros },
}

/// Leave to make one call. Dropped without a word, it says nothing about the service.
#[must_use]
#[derive(Debug)]
pub struct Permit<'a> {
    breaker: &'a Breaker,
    /// It is the call that finds out.
    probe: bool,
    settled: bool,
}

impl Breaker {
    /// A closed breaker.
    pub fn new(settings: BreakerSettings) -> Self {
        Self { settings, inside: Mutex::new(Inside::Closed { failures: 0 }) }
    }

    /// Leave to make a call at `now`, or how long there will be none.
    pub fn admit(&self, now: UnixMicros) -> Result<Permit<'_>, Duration> {
        let mut inside = self.lock();
        let probe = match *inside {
            Inside::Closed { .. } => false,
            Inside::HalfOpen { .. } => return Err(Duration::ZERO),
            Inside::Open { since } => {
                let rested = now.since(since);
                // A clock that was set back must not keep the breaker open.
                if rested < self.settings.cool_down && now >= since {
                    return Err(self.settings.cool_down - rested);
                }
                *inside = Inside::HalfOpen { since };
                true
            }
        };
        drop(inside);
        Ok(Permit { breaker: self, probe, settled: false })
    }

    /// Where it stands.
    pub fn state(&self) -> BreakerState {
        match *self.lock() {
            Inside::Closed { .. } => BreakerState::Closed,
            Inside::HalfOpen { .. } => BreakerState::HalfOpen,
            Inside::Open { .. } => BreakerState::Open,
        }
    }

    /// A call that had been let through, and had begun well, failed at `now`.
    pub fn failed(&self, now: UnixMicros) {
        let mut inside = self.lock();
        if let Inside::Closed { failures } = *inside {
            let failures = failures.saturating_add(1);
            *inside = if failures >= self.settings.failures.max(1) {
                Inside::Open { since: now }
            } else {
                Inside::Closed { failures }
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// The service answered.
    pub fn succeeded(mut self) {
        self.settled = true;
        let mut inside = self.breaker.lock();
        match *inside {
            Inside::HalfOpen { .. } if self.probe => *inside = Inside::Closed { failures: 0 },
            Inside::Closed { .. } => *inside = Inside::Closed { failures: 0 },
            // A late answer to a call from before the failures: the one that finds out decides.
            Inside::Open { .. } | Inside::HalfOpen { .. } => {}
        }
    }

    /// The service did not answer, or said that it cannot, at `now`.
    pub fn failed(mut self, now: UnixMicros) {
        self.settled = true;
        if self.probe {
            *self.breaker.lock() = Inside::Open { since: now };
        } else {
            self.breaker.failed(now);
        }
    }
}

impl Drop for Permit<'_> {
    /// A call that was given up leaves the finding out to the next.
    fn drop(&mut self) {
        if self.settled || !self.probe {
            return;
        }
        let mut inside = self.breaker.lock();
        if let Inside::HalfOpen { since } = *inside {
            *inside = Inside::Open { since };
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SETTINGS: BreakerSettings =
        BreakerSettings { failures: 3, cool_down: Duration::from_secs(10) };

    fn at(seconds: i64) -> UnixMicros {
        UnixMicros(seconds * 1_000_000)
    }

    fn opened(now: UnixMicros) -> Breaker {
        let breaker = Breaker::new(SETTINGS);
        for _ in 0..3 {
            breaker.admit(now).expect("closed").failed(now);
        }
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_between_them_does_not() {
        let breaker = Breaker::new(SETTINGS);
        for failed in [true, true, false, true, true] {
            let permit = breaker.admit(at(0)).expect("closed");
            if failed { permit.failed(at(0)) } else { permit.succeeded() }
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        breaker.admit(at(1)).expect("closed").failed(at(1));
        assert_eq!(breaker.state(), BreakerState::Open);
        assert_eq!(breaker.admit(at(4)).err(), Some(Duration::from_secs(7)));
    }

    #[test]
    fn one_call_finds_out_and_its_outcome_decides() {
        let breaker = opened(at(0));
        let probe = breaker.admit(at(10)).expect("rested");
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        assert!(breaker.admit(at(10)).is_err(), "one at a time");
        probe.failed(at(11));
        assert!(breaker.admit(at(20)).is_err(), "it rests again, from the failure on");
        breaker.admit(at(21)).expect("rested").succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert!(breaker.admit(at(21)).is_ok());
    }

    #[test]
    fn a_call_given_up_leaves_the_finding_out_to_the_next() {
        let breaker = opened(at(0));
        drop(breaker.admit(at(10)).expect("rested"));
        assert_eq!(breaker.state(), BreakerState::Open);
        breaker.admit(at(10)).expect("rested").succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn late_outcomes_of_earlier_calls_change_nothing() {
        let breaker = Breaker::new(SETTINGS);
        let early: Vec<_> = (0..5).map(|_| breaker.admit(at(0)).expect("closed")).collect();
        let mut early = early.into_iter();
        for permit in early.by_ref().take(3) {
            permit.failed(at(1));
        }
        early.next().expect("a permit").succeeded();
        assert_eq!(breaker.state(), BreakerState::Open);
        let probe = breaker.admit(at(11)).expect("rested");
        early.next().expect("a permit").failed(at(12));
        assert_eq!(breaker.state(), BreakerState::HalfOpen);
        probe.succeeded();
        assert_eq!(breaker.state(), BreakerState::Closed);
    }

    #[test]
    fn a_clock_set_back_does_not_keep_it_open() {
        let breaker = opened(at(1_000_000));
        assert!(breaker.admit(at(5)).is_ok());
    }

    proptest! {
        /// Against a model that counts: closed passes all, open none before its time.
        #[test]
        fn agrees_with_counting(steps in prop::collection::vec((0_i64..8, any::<bool>()), 1..80)) {
            let breaker = Breaker::new(SETTINGS);
            let (mut now, mut row, mut open_until) = (0, 0, None::<i64>);
            for (pause, works) in steps {
                now += pause;
                let admitted = breaker.admit(at(now));
                prop_assert_eq!(admitted.is_ok(), open_until.is_none_or(|until| now >= until));
                let Ok(permit) = admitted else { continue };
                if works {
                    permit.succeeded();
                    (row, open_until) = (0, None);
                } else {
                    permit.failed(at(now));
                    row += 1;
                    if row >= 3 || open_until.is_some() {
                        open_until = Some(now + 10);
                    }
                }
            }
        }
    }
}
