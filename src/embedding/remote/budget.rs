//! So many tokens a day.

use std::sync::Mutex;
use std::time::Duration;

use activekg_storage::time::UnixMicros;

use crate::embedding::batcher::lock;

const DAY: Duration = Duration::from_secs(86_400);

/// Counts tokens by the UTC day. It is kept in memory: a restart begins the day anew.
#[derive(Debug)]
pub(super) struct Budget {
    /// Tokens a day; none is no limit.
    limit: Option<u64>,
    spent: Mutex<Spent>,
}

#[derive(Debug, Default, Clone, Copy)]
struct Spent {
    day: i64,
    tokens: u64,
}

impl Budget {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self { limit, spent: Mutex::default() }
    }

    /// Sets `tokens` aside; the limit, if they do not fit into what is left of the day.
    pub(super) fn reserve(&self, tokens: u64, now: UnixMicros) -> Result<(), u64> {
        let mut spent = lock(&self.spent);
        *spent = spent.on(day(now));
        let after = spent.tokens.saturating_add(tokens);
        if let Some(limit) = self.limit
            && after > limit
        {
            return Err(limit);
        }
        spent.tokens = after;
        Ok(())
    }

    /// Puts what was really used in the place of what was set aside.
    pub(super) fn correct(&self, reserved: u64, used: u64, now: UnixMicros) {
        let mut spent = lock(&self.spent);
        *spent = spent.on(day(now));
        spent.tokens = spent.tokens.saturating_sub(reserved).saturating_add(used);
    }
}

impl Spent {
    /// The same on `day`: nothing yet, if that is another one.
    fn on(self, day: i64) -> Self {
        if self.day == day { self } else { Self { day, tokens: 0 } }
    }
}

fn day(now: UnixMicros) -> i64 {
    let micros = i64::try_from(DAY.as_micros()).unwrap_or(i64::MAX);
    now.get().div_euclid(micros)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_has_its_tokens_and_the_next_has_them_again() {
        let budget = Budget::new(Some(100));
        let morning = UnixMicros(0);
        assert_eq!(budget.reserve(60, morning), Ok(()));
        assert_eq!(budget.reserve(60, morning), Err(100));
        budget.correct(60, 30, morning);
        assert_eq!(budget.reserve(60, morning), Ok(()));
        budget.correct(60, 90, morning);
        assert_eq!(budget.reserve(0, morning), Err(100), "more was used than set aside");
        assert_eq!(budget.reserve(100, morning.plus(DAY)), Ok(()));
        assert_eq!(budget.reserve(1, morning.plus(DAY)), Err(100));
        assert_eq!(Budget::new(None).reserve(u64::MAX, morning), Ok(()));
    }
}
