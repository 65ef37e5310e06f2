//! How long a failed item waits.

use std::time::Duration;

use super::QueueDef;

/// The wait after failed attempt number `attempt`, from 1: a share of `backoff_base` doubled for
/// every attempt after the first, at most `backoff_cap`. `jitter`, 0 to 1, is the share ("full
/// jitter": items that failed together do not come back together).
pub(super) fn backoff(def: &QueueDef, attempt: u32, jitter: f64) -> Duration {
    let doublings = attempt.saturating_sub(1);
    let factor = 2u32.checked_pow(doublings).unwrap_or(u32::MAX);
    let longest = def.backoff_base.saturating_mul(factor).min(def.backoff_cap);
    let share = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 1.0 };
    // By seconds as f64, a span of 2^64 seconds times 1.0 could exceed the largest span.
    Duration::try_from_secs_f64(longest.as_secs_f64() * share).unwrap_or(longest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEF: QueueDef = QueueDef {
        name: "retry",
        lease: Duration::from_secs(1),
        max_attempts: 5,
        backoff_base: Duration::from_secs(2),
        backoff_cap: Duration::from_secs(60),
        ..QueueDef::named("retry")
    };

    #[test]
    fn doubles_up_to_the_cap() {
        let longest: Vec<u64> = (1..=7).map(|n| backoff(&DEF, n, 1.0).as_secs()).collect();
        assert_eq!(longest, [2, 4, 8, 16, 32, 60, 60]);
        assert_eq!(backoff(&DEF, u32::MAX, 1.0), DEF.backoff_cap);
    }

    #[test]
    fn jitter_is_a_share() {
        assert_eq!(backoff(&DEF, 3, 0.5), Duration::from_secs(4));
        assert_eq!(backoff(&DEF, 3, 0.0), Duration::ZERO);
        assert_eq!(backoff(&DEF, 3, 7.0), Duration::from_secs(8));
        assert_eq!(backoff(&DEF, 3, f64::NAN), Duration::from_secs(8));
        let endless = QueueDef { backoff_base: Duration::MAX, backoff_cap: Duration::MAX, ..DEF };
        assert_eq!(backoff(&endless, 9, 1.0), Duration::MAX);
    }
}
