//! Not asking too much of a source.
//!
//! Two things keep from it: a pace, at which documents of a connector are begun, and a breaker,
//! which lets none through for a while after the source has failed too often in a row or has said
//! that it wants to be left alone. Neither outlives the process.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use activekg_storage::ids::TenantId;
use activekg_storage::time::UnixMicros;

use super::Provider;

/// Failures in a row that open a breaker.
const FAILURES: u32 = 5;
/// How long a breaker stays open at first; doubled by every failure of the one who finds out.
const OPEN_FIRST: Duration = Duration::from_secs(30);
/// Longest time for that.
const OPEN_MAX: Duration = Duration::from_secs(15 * 60);
/// How long the others wait for the one who finds out.
const PROBE: Duration = Duration::from_secs(5);
/// Longest wait for one's turn.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// Connectors that are remembered. Those that have done nothing wrong go first.
const CONNECTORS_MAX: usize = 10_000;

/// Whose source it is.
pub(super) type Key = (TenantId, Provider);

/// What an attempt says about the source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// It answers.
    Works,
    /// It does not answer, or lets nobody in.
    Fails,
    /// It wants to be left alone for so long.
    Pauses(Duration),
    /// Nothing.
    Nothing,
}

/// The paces and breakers of all connectors.
#[derive(Debug)]
pub struct Throttle {
    /// Time between two documents.
    gap: Duration,
    states: Mutex<HashMap<Key, State>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// When the next document may be begun.
    next: UnixMicros,
    failures: u32,
    /// The breaker is open until then; closed if that is the beginning of time.
    open_until: UnixMicros,
    /// How long it was open last.
    open_for: Duration,
}

impl State {
    fn is_open(&self) -> bool {
        self.open_until != UnixMicros::default()
    }
}

impl Throttle {
    /// At most `rate` documents of a connector a second.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self { gap: Duration::from_secs(1) / rate.max(1), states: Mutex::default() }
    }

    /// Leave to ask the source after so long a wait, or until when there is none. While a breaker
    /// is half open one gets leave, and what it learns decides for the others.
    pub fn admit(&self, key: &Key, now: UnixMicros) -> Result<Duration, UnixMicros> {
        let mut states = self.lock();
        make_room(&mut states, now);
        let state = states.entry(key.clone()).or_default();
        if state.is_open() {
            // A clock that was set back must not keep it open.
            if now < state.open_until && state.open_until.since(now) <= OPEN_MAX {
                return Err(state.open_until);
            }
            state.open_until = now.plus(PROBE);
            return Ok(Duration::ZERO);
        }
        // The same goes for the pace.
        let waits = state.next.since(now).min(WAIT_MAX);
        state.next = now.plus(waits + self.gap);
        Ok(waits)
    }

    /// Learns from an attempt that had leave. True if the breaker opens by it.
    pub fn learn(&self, key: &Key, said: Said, now: UnixMicros) -> bool {
        let mut states = self.lock();
        let state = states.entry(key.clone()).or_default();
        let was_open = state.is_open();
        match said {
            Said::Nothing => {}
            Said::Works => {
                let next = state.next;
                *state = State { next, ..State::default() };
            }
            Said::Fails => {
                state.failures = state.failures.saturating_add(1);
                if state.failures >= FAILURES {
                    let time = match state.open_for {
                        Duration::ZERO => OPEN_FIRST,
                        // Those that were let through together fail together.
                        before if was_open && state.open_until.since(now) > PROBE => before,
                        before => (before * 2).min(OPEN_MAX),
                    };
                    state.open_for = time;
                    state.open_until = now.plus(time);
                }
            }
            Said::Pauses(time) => {
                let until = now.plus(time.min(OPEN_MAX));
                state.open_until = state.open_until.max(until);
            }
        }
        state.is_open() && !was_open
    }

    /// Forgets what was learnt of a source: its settings have changed. The pace stays.
    pub fn forget(&self, key: &Key) {
        if let Some(state) = self.lock().get_mut(key) {
            *state = State { next: state.next, ..State::default() };
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, State>> {
        self.states.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(states: &mut HashMap<Key, State>, now: UnixMicros) {
    if states.len() >= CONNECTORS_MAX {
        states.retain(|_, state| state.failures > 0 || state.is_open() || state.next > now);
    }
    if states.len() >= CONNECTORS_MAX {
        states.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(tenant: &str) -> Key {
        (TenantId::new(tenant).unwrap(), Provider::S3)
    }

    fn at(seconds: i64) -> UnixMicros {
        UnixMicros(1_000_000_000 + seconds * 1_000_000)
    }

    fn fail(throttle: &Throttle, key: &Key, now: UnixMicros, n: usize) -> bool {
        (0..n).fold(false, |opened, _| opened | throttle.learn(key, Said::Fails, now))
    }

    #[test]
    fn documents_of_a_connector_are_begun_at_its_pace() {
        let throttle = Throttle::new(10);
        let waits: Vec<_> = (0..4).map(|_| throttle.admit(&key("a"), at(0)).unwrap()).collect();
        let tenths = [0, 100, 200, 300].map(Duration::from_millis);
        assert_eq!(waits, tenths);
        assert_eq!(throttle.admit(&key("b"), at(0)), Ok(Duration::ZERO));
        assert_eq!(throttle.admit(&key("a"), at(1)), Ok(Duration::ZERO));
    }

    #[test]
    fn failures_in_a_row_open_it_for_longer_and_longer() {
        let (throttle, key) = (Throttle::new(1000), key("a"));
        assert!(!fail(&throttle, &key, at(0), 4));
        throttle.learn(&key, Said::Works, at(0));
        assert!(!fail(&throttle, &key, at(0), 4));
        assert!(fail(&throttle, &key, at(0), 1));
        assert!(!fail(&throttle, &key, at(0), 3), "it is open already");
        let (mut now, mut open) = (0, 30);
        for _ in 0..7 {
            assert_eq!(throttle.admit(&key, at(now)), Err(at(now + open)));
            now += open;
            assert!(throttle.admit(&key, at(now)).is_ok(), "one finds out");
            assert_eq!(throttle.admit(&key, at(now)), Err(at(now + 5)), "and no other");
            fail(&throttle, &key, at(now), 1);
            open = (open * 2).min(900);
        }
        now += open;
        assert!(throttle.admit(&key, at(now)).is_ok());
        throttle.learn(&key, Said::Works, at(now));
        assert!(throttle.admit(&key, at(now)).is_ok() && throttle.admit(&key, at(now)).is_ok());
        assert!(!fail(&throttle, &key, at(now), 4), "it counts from the beginning");
    }

    #[test]
    fn the_one_who_finds_out_may_get_lost() {
        let (throttle, key) = (Throttle::new(1000), key("a"));
        fail(&throttle, &key, at(0), 5);
        assert!(throttle.admit(&key, at(30)).is_ok());
        assert!(throttle.admit(&key, at(34)).is_err());
        assert!(throttle.admit(&key, at(35)).is_ok());
    }

    #[test]
    fn a_source_that_wants_to_be_left_alone_is() {
        let (throttle, key) = (Throttle::new(1000), key("a"));
        assert!(throttle.learn(&key, Said::Pauses(Duration::from_secs(7)), at(0)));
        assert_eq!(throttle.admit(&key, at(1)), Err(at(7)));
        let day = Duration::from_secs(24 * 3600);
        throttle.learn(&key, Said::Pauses(day), at(1));
        assert_eq!(throttle.admit(&key, at(7)), Err(at(901)));
        throttle.forget(&key);
        assert_eq!(throttle.admit(&key, at(7)), Ok(Duration::ZERO));
        throttle.forget(&key);
        assert_eq!(throttle.admit(&key, at(7)), Ok(Duration::from_millis(1)), "at its pace");
    }

    #[test]
    fn a_clock_set_back_does_not_keep_it_open() {
        let (throttle, key) = (Throttle::new(1000), key("a"));
        fail(&throttle, &key, at(1_000_000), 5);
        assert!(throttle.admit(&key, at(0)).is_ok());
    }
}
