//! When to try again.

use std::time::Duration;

use reqwest::header::HeaderValue;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc2822;

use activekg_storage::time::UnixMicros;

/// How often a call is tried again, and how long is waited before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retries {
    /// Attempts after the first.
    pub max: u32,
    /// The longest wait before the second attempt; doubles with each.
    pub base: Duration,
    /// Where the doubling ends.
    pub cap: Duration,
}

impl Default for Retries {
    fn default() -> Self {
        Self { max: 3, base: Duration::from_millis(250), cap: Duration::from_secs(8) }
    }
}

impl Retries {
    /// The wait after attempt `attempt` (from 0), none when it was the last. What the service
    /// asks for is kept to; otherwise the wait is anything up to a bound that doubles, so that
    /// many callers do not come back at once ("full jitter": Brooker, "Exponential Backoff and
    /// Jitter", AWS Architecture Blog, 2015). `jitter` is uniform in 0..1.
    pub fn wait(&self, attempt: u32, asked_for: Option<Duration>, jitter: f64) -> Option<Duration> {
        if attempt >= self.max {
            return None;
        }
        let bound = self.base.saturating_mul(1 << attempt.min(20)).min(self.cap);
        let random = bound.mul_f64(jitter.clamp(0.0, 1.0));
        // Not all at the very instant that was named, either.
        Some(asked_for.map_or(random, |asked| asked.saturating_add(random)))
    }
}

/// What a `Retry-After` header asks for: seconds, or an instant. Nothing if it is neither.
pub(super) fn retry_after(value: &HeaderValue, now: UnixMicros) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(seconds).ok();
    }
    let at = OffsetDateTime::parse(text, &Rfc2822).ok()?;
    let micros = i64::try_from(at.unix_timestamp_nanos() / 1000).ok()?;
    Some(UnixMicros(micros).since(now))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_cap_and_end() {
        let retries =
            Retries { max: 4, base: Duration::from_millis(100), cap: Duration::from_millis(350) };
        let longest: Vec<_> = (0..6).map(|n| retries.wait(n, None, 1.0)).collect();
        let ms = |n| Some(Duration::from_millis(n));
        assert_eq!(longest, [ms(100), ms(200), ms(350), ms(350), None, None]);
        assert_eq!(retries.wait(2, None, 0.0), ms(0));
        assert_eq!(retries.wait(1, None, 0.5), ms(100));
        assert_eq!(retries.wait(0, ms(5000), 0.5), ms(5050));
        assert_eq!(retries.wait(4, ms(1), 0.5), None);
        let many = Retries { max: u32::MAX, ..retries };
        assert_eq!(many.wait(1_000_000, None, 1.0), ms(350));
    }

    #[test]
    fn retry_after_is_seconds_or_an_instant() {
        // 1994-11-06T08:49:37Z
        let now = UnixMicros(784_111_777_000_000);
        let asked = |text: &'static str| retry_after(&HeaderValue::from_static(text), now);
        assert_eq!(asked("7"), Some(Duration::from_secs(7)));
        assert_eq!(asked(" 0.5 "), Some(Duration::from_millis(500)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:47 GMT"), Some(Duration::from_secs(10)));
        assert_eq!(asked("Sun, 06 Nov 1994 08:49:07 GMT"), Some(Duration::ZERO));
        for nonsense in ["", "soon", "-3", "NaN", "inf", "1e300", "Sun, 06 Nov"] {
            assert_eq!(asked(nonsense), None, "{nonsense}");
        }
    }
}
