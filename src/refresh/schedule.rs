//! When a node refreshes itself: an interval, a cron expression, or a cron expression with an
//! interval to fall back on.

mod cron;

use std::time::Duration;

use serde_json::{Map, Value};

pub use cron::Cron;

/// The parsed schedule of a refresh policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Schedule {
    /// At the minutes (or seconds) a cron expression names, in UTC.
    Cron(Cron),
    /// When so much time has passed since the last refresh.
    Every(Duration),
}

/// What is wrong with a refresh policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PolicyFault {
    /// The member of this name must be a string.
    NotText(&'static str),
    /// `drift_threshold` must be a number.
    NotNumber,
    /// `interval` or `cron` is there, but neither can be used.
    NoSchedule,
}

impl Schedule {
    /// The schedule of a policy; nothing if it names none. `cron` takes precedence, and one that
    /// does not parse gives way to a good `interval`. Members of other names do not count.
    ///
    /// # Errors
    ///
    /// The first fault of the policy.
    pub fn of_policy(policy: &Map<String, Value>) -> Result<Option<Self>, PolicyFault> {
        let text = |name| match policy.get(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.as_str())),
            Some(_) => Err(PolicyFault::NotText(name)),
        };
        let (interval, cron) = (text("interval")?, text("cron")?);
        if policy.get("drift_threshold").is_some_and(|threshold| !threshold.is_number()) {
            return Err(PolicyFault::NotNumber);
        }
        if interval.is_none() && cron.is_none() {
            return Ok(None);
        }
        let cron = cron.and_then(Cron::parse).map(Self::Cron);
        let schedule = cron.or_else(|| interval.and_then(parse_interval).map(Self::Every));
        schedule.map(Some).ok_or(PolicyFault::NoSchedule)
    }

    /// The first instant after `last` at which the node is due, both in seconds since 1970;
    /// nothing if it never is.
    pub fn next_after(&self, last: i64) -> Option<i64> {
        match self {
            Self::Cron(cron) => cron.next_after(last),
            Self::Every(interval) => last.checked_add_unsigned(interval.as_secs()),
        }
    }
}

/// An interval: digits and one of `m`, `h`, `d` in either case, or the word `minute`. Nothing
/// for zero, which would refresh without end, and for more than a thousand years.
pub fn parse_interval(text: &str) -> Option<Duration> {
    const MINUTE: u64 = 60;
    const LONGEST: u64 = 1000 * 366 * 24 * 60 * MINUTE;
    if text == "minute" {
        return Some(Duration::from_secs(MINUTE));
    }
    let unit = match text.bytes().last()?.to_ascii_lowercase() {
        b'm' => MINUTE,
        b'h' => 60 * MINUTE,
        b'd' => 24 * 60 * MINUTE,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None; // `parse` would take a sign
    }
    let seconds = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=LONGEST).contains(&seconds).then(|| Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(policy: Value) -> Result<Option<Schedule>, PolicyFault> {
        Schedule::of_policy(policy.as_object().expect("an object"))
    }

    #[test]
    fn intervals_have_a_unit() {
        for (text, seconds) in
            [("5m", 300), ("2H", 7200), ("1d", 86400), ("minute", 60), ("007m", 420)]
        {
            assert_eq!(parse_interval(text), Some(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "m",
            "5",
            "5s",
            "1w",
            "-5m",
            "+5m",
            "5 m",
            " 5m",
            "5mm",
            "1.5h",
            "Minute",
            "0m",
            "٣m",
            "5é",
            "99999999999999999999m",
            "9999999999d",
        ] {
            assert_eq!(parse_interval(text), None, "{text}");
        }
    }

    #[test]
    fn a_policy_without_schedule_keys_is_fine() {
        assert_eq!(of(json!({})), Ok(None));
        assert_eq!(of(json!({"interval_seconds": 5, "drift_threshold": -1})), Ok(None));
    }

    #[test]
    fn cron_wins_and_falls_back() {
        assert!(matches!(
            of(json!({"interval": "5m", "cron": "0 * * * *"})),
            Ok(Some(Schedule::Cron(_)))
        ));
        let five = Ok(Some(Schedule::Every(Duration::from_secs(300))));
        assert_eq!(of(json!({"interval": "5m", "cron": "not a cron"})), five);
    }

    #[test]
    fn unusable_policies_are_refused() {
        assert_eq!(
            of(json!({"interval": 5, "cron": "not a cron"})),
            Err(PolicyFault::NotText("interval"))
        );
        assert_eq!(of(json!({"cron": null})), Err(PolicyFault::NotText("cron")));
        assert_eq!(of(json!({"drift_threshold": "0.2"})), Err(PolicyFault::NotNumber));
        assert_eq!(of(json!({"interval": "10s"})), Err(PolicyFault::NoSchedule));
        assert_eq!(of(json!({"cron": "not a cron", "interval": ""})), Err(PolicyFault::NoSchedule));
    }

    #[test]
    fn the_next_time_follows_the_schedule() {
        assert_eq!(Schedule::Every(Duration::from_secs(300)).next_after(1000), Some(1300));
        assert_eq!(Schedule::Every(Duration::from_secs(300)).next_after(i64::MAX), None);
        let hourly = of(json!({"cron": "@hourly"})).expect("valid").expect("a schedule");
        assert_eq!(hourly.next_after(3600), Some(7200));
    }
}
