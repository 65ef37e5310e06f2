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

/// Leave to ask a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leave {
    /// After so long a wait.
    pub wait: Duration,
    /// How often the breaker had opened by then.
    opened: u64,
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
    /// How often it has opened, or was to stay open for longer.
    opened: u64,
}

impl State {
    fn is_open(&self) -> bool {
        self.open_until != UnixMicros::default()
    }

    fn close(&mut self) {
        let Self { next, opened, .. } = *self;
        *self = Self { next, opened, ..Self::default() };
    }
}

impl Throttle {
    /// At most `rate` documents of a connector a second.
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self { gap: Duration::from_secs(1) / rate.max(1), states: Mutex::default() }
    }

    /// Leave to ask the source, or until when there is none. While a breaker is half open one gets
    /// leave, and what it learns decides for the others.
    pub fn admit(&self, key: &Key, now: UnixMicros) -> Result<Leave, UnixMicros> {
        let mut states = self.lock();
        make_room(&mut states, now);
        let state = states.entry(key.clone()).or_default();
        if state.is_open() {
            // A clock that was set back must not keep it open.
            if now < state.open_until && state.open_until.since(now) <= OPEN_MAX {
                return Err(state.open_until);
            }
            state.open_until = now.plus(PROBE);
            return Ok(Leave { wait: Duration::ZERO, opened: state.opened });
        }
        // The same goes for the pace.
        let waits = state.next.since(now).min(WAIT_MAX);
        state.next = now.plus(waits + self.gap);
        Ok(Leave { wait: waits, opened: state.opened })
    }

    /// Learns from an attempt that had this leave. True if the breaker opens by it. An attempt that
    /// began before the breaker opened does not close it, however well it ends.
    pub fn learn(&self, key: &Key, leave: Leave, said: Said, now: UnixMicros) -> bool {
        let mut states = self.lock();
        let state = states.entry(key.clone()).or_default();
        let was_open = state.is_open();
        match said {
            Said::Nothing => {}
            Said::Works if was_open && leave.opened != state.opened => {}
            Said::Works => state.close(),
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
                    state.opened += 1;
                }
            }
            Said::Pauses(time) => {
                let until = now.plus(time.min(OPEN_MAX));
                state.open_until = state.open_until.max(until);
                state.opened += 1;
            }
        }
        state.is_open() && !was_open
    }

    /// Forgets what was learnt of a source: its settings have changed. The pace stays.
    pub fn forget(&self, key: &Key) {
        if let Some(state) = self.lock().get_mut(key) {
            state.close();
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

    /// Leave as it is given now, also where none is.
    fn leave(throttle: &Throttle, key: &Key) -> Leave {
        let opened = throttle.lock().get(key).map_or(0, |state| state.opened);
        Leave { wait: Duration::ZERO, opened }
    }

    fn learn(throttle: &Throttle, key: &Key, said: Said, now: UnixMicros) -> bool {
        throttle.learn(key, leave(throttle, key), said, now)
    }

    fn fail(throttle: &Throttle, key: &Key, now: UnixMicros, n: usize) -> bool {
        (0..n).fold(false, |opened, _| opened | learn(throttle, key, Said::Fails, now))
    }

    fn wait(throttle: &Throttle, key: &Key, now: UnixMicros) -> Result<Duration, UnixMicros> {
        throttle.admit(key, now).map(|leave| leave.wait)
    }

    #[test]
    fn documents_of_a_connector_are_begun_at_its_pace() {
        let throttle = Throttle::new(10);
        let waits: Vec<_> = (0..4).map(|_| wait(&throttle, &key("a"), at(0)).unwrap()).collect();
        let tenths = [0, 100, 200, 300].map(Duration::from_millis);
        assert_eq!(waits, tenths);
        assert_eq!(wait(&throttle, &key("b"), at(0)), Ok(Duration::ZERO));
        assert_eq!(wait(&throttle, &key("a"), at(1)), Ok(Duration::ZERO));
    }

    #[test]
    fn failures_in_a_row_open_it_for_longer_and_longer() {
        let (throttle, key) = (Throttle::new(1000), key("a"));
        assert!(!fail(&throttle, &key, at(0), 4));
        learn(&throttle, &key, Said::Works, at(0));
        assert!(!fail(&throttle, &key, at(0), 4));
        assert!(fail(&throttle, &key, at(0), 1));
        assert!(!fail(&throttle, &key, at(0), 3), "it is open already");
        let (mut now, mut open) = (0, 30);
        for _ in 0..7 {
            assert_eq!(wait(&throttle, &key, at(now)), Err(at(now + open)));
            now += open;
            assert!(throttle.admit(&key, at(now)).is_ok(), "one finds out");
            assert_eq!(wait(&throttle, &key, at(now)), Err(at(now + 5)), "and no other");
            fail(&throttle, &key, at(now), 1);
            open = (open * 2).min(900);
        }
        now += open;
        assert!(throttle.admit(&key, at(now)).is_ok());
        learn(&throttle, &key, Said::Works, at(now));
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
        assert!(learn(&throttle, &key, Said::Pauses(Duration::from_secs(7)), at(0)));
        assert_eq!(wait(&throttle, &key, at(1)), Err(at(7)));
        let day = Duration::from_secs(24 * 3600);
        learn(&throttle, &key, Said::Pauses(day), at(1));
        assert_eq!(wait(&throttle, &key, at(7)), Err(at(901)));
        throttle.forget(&key);
        assert_eq!(wait(&throttle, &key, at(7)), Ok(Duration::ZERO));
        throttle.forget(&key);
        assert_eq!(wait(&throttle, &key, at(7)), Ok(Duration::from_millis(1)), "at its pace");
    }

    #[test]
    fn who_began_before_it_opened_does_not_close_it() {
        let (throttle, key) = (Throttle::new(1000), key("a"));
        let early = throttle.admit(&key, at(0)).unwrap();
        learn(&throttle, &key, Said::Pauses(Duration::from_secs(60)), at(0));
        assert!(!throttle.learn(&key, early, Said::Works, at(1)));
        assert_eq!(wait(&throttle, &key, at(2)), Err(at(60)));
        let probe = throttle.admit(&key, at(60)).unwrap();
        throttle.learn(&key, early, Said::Works, at(60));
        assert_eq!(wait(&throttle, &key, at(61)), Err(at(65)), "the other still finds out");
        throttle.learn(&key, probe, Said::Works, at(62));
        assert_eq!(wait(&throttle, &key, at(62)), Ok(Duration::ZERO));
        // What it said before it was closed is said of a source that was well then.
        assert!(!fail(&throttle, &key, at(62), 4));
        throttle.learn(&key, early, Said::Works, at(62));
        assert!(!fail(&throttle, &key, at(62), 4));
    }

    #[test]
    fn a_clock_set_back_does_not_keep_it_open() {
        let (throttle, key) = (Throttle::new(1000), key("a"));
        fail(&throttle, &key, at(1_000_000), 5);
        assert!(throttle.admit(&key, at(0)).is_ok());
    }
}
