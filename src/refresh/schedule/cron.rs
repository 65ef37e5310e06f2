//! Cron expressions in UTC: five fields, or six with the second as the last.

use time::{Date, Duration, OffsetDateTime};

/// Days looked ahead for the next time: 29 February on a given weekday recurs within 40 years.
const HORIZON_DAYS: u32 = 41 * 366;

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

/// A cron expression. Each set is a bit mask of the values that match.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cron {
    seconds: u64,
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// Sunday is 0.
    weekdays: u64,
    /// Both day fields are restricted; then a day that matches either will do.
    either_day: bool,
}

impl Cron {
    /// Parses `minute hour day month weekday [second]` or an alias such as `@daily`. Fields know
    /// `*`, `?` for the days, lists, ranges, steps and English names; Sunday is 0 or 7.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        let expression = match text.as_str() {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => other,
        };
        let fields: Vec<&str> = expression.split_ascii_whitespace().collect();
        let (minute, hour, day, month, weekday, second) = match fields[..] {
            [minute, hour, day, month, weekday] => (minute, hour, day, month, weekday, "0"),
            [minute, hour, day, month, weekday, second] => {
                (minute, hour, day, month, weekday, second)
            }
            _ => return None,
        };
        let any = |field: &str| field == "*" || field == "?";
        let [day_field, weekday_field] =
            [day, weekday].map(|field| if field == "?" { "*" } else { field });
        let weekdays = set(weekday_field, 0, 7, &WEEKDAYS, 0)?;
        Some(Self {
            seconds: set(second, 0, 59, &[], 0)?,
            minutes: set(minute, 0, 59, &[], 0)?,
            hours: set(hour, 0, 23, &[], 0)?,
            days: set(day_field, 1, 31, &[], 0)?,
            months: set(month, 1, 12, &MONTHS, 1)?,
            weekdays: (weekdays | weekdays >> 7) & 0x7f,
            either_day: !any(day) && !any(weekday),
        })
    }

    /// The first matching second after `last`, in seconds since 1970; nothing if none comes
    /// within 41 years or before the year 10000.
    pub fn next_after(&self, last: i64) -> Option<i64> {
        let from = OffsetDateTime::from_unix_timestamp(last.checked_add(1)?).ok()?;
        let mut date = from.date();
        let mut earliest = from.time().as_hms();
        for _ in 0..HORIZON_DAYS {
            if self.on(date)
                && let Some((hour, minute, second)) = self.at(earliest)
            {
                let at = date.with_hms(hour, minute, second).ok()?;
                return Some(at.assume_utc().unix_timestamp());
            }
            date = date.checked_add(Duration::DAY)?;
            earliest = (0, 0, 0);
        }
        None
    }

    fn on(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().number_days_from_sunday());
        has(self.months, u8::from(date.month()))
            && if self.either_day { day || weekday } else { day && weekday }
    }

    /// The first matching time of a day from `earliest` on.
    fn at(&self, earliest: (u8, u8, u8)) -> Option<(u8, u8, u8)> {
        let (hour, minute, second) = earliest;
        if has(self.hours, hour) {
            if has(self.minutes, minute)
                && let Some(second) = first_from(self.seconds, second)
            {
                return Some((hour, minute, second));
            }
            if let Some(minute) = first_from(self.minutes, minute + 1) {
                return Some((hour, minute, first_from(self.seconds, 0)?));
            }
        }
        let hour = first_from(self.hours, hour + 1)?;
        Some((hour, first_from(self.minutes, 0)?, first_from(self.seconds, 0)?))
    }
}

fn has(set: u64, value: u8) -> bool {
    set >> value & 1 == 1
}

/// The smallest member of `set` that is `from` or more; `from` is at most 60.
fn first_from(set: u64, from: u8) -> Option<u8> {
    let rest = set >> from;
    (rest != 0).then(|| from + rest.trailing_zeros() as u8)
}

/// The values of one field as a bit mask. `names` stand for the values from `first` on.
fn set(field: &str, min: u8, max: u8, names: &[&str], first: u8) -> Option<u64> {
    let value = |text: &str| {
        let named = names.iter().position(|name| *name == text).map(|at| first + at as u8);
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        let value = named.or_else(|| text.parse().ok().filter(|_| digits))?;
        (min..=max).contains(&value).then_some(value)
    };
    let mut mask = 0;
    for part in field.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) if step.bytes().all(|byte| byte.is_ascii_digit()) => {
                (range, Some(step.parse::<u8>().ok().filter(|step| *step > 0)?))
            }
            Some(_) => return None,
            None => (part, None),
        };
        let (low, high) = match (range, range.split_once('-'), step) {
            ("*", ..) => (min, max),
            (_, Some((low, high)), _) => (value(low)?, value(high)?),
            (single, None, None) => (value(single)?, value(single)?),
            (start, None, Some(_)) => (value(start)?, max), // `5/15` runs to the end
        };
        if low > high {
            return None;
        }
        for value in (low..=high).step_by(step.unwrap_or(1).into()) {
            mask |= 1 << value;
        }
    }
    Some(mask)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use time::macros::datetime;

    use super::*;

    fn next(expression: &str, last: OffsetDateTime) -> Option<OffsetDateTime> {
        let cron = Cron::parse(expression).expect(expression);
        cron.next_after(last.unix_timestamp())
            .map(|at| OffsetDateTime::from_unix_timestamp(at).expect("in range"))
    }

    #[test]
    fn known_times() {
        let last = datetime!(2026-02-03 10:00:00 UTC); // a Tuesday
        for (expression, expected) in [
            ("* * * * *", datetime!(2026-02-03 10:01:00 UTC)),
            ("*/15 * * * *", datetime!(2026-02-03 10:15:00 UTC)),
            ("0 10 * * *", datetime!(2026-02-04 10:00:00 UTC)),
            ("30 9-17/4 * * mon-fri", datetime!(2026-02-03 13:30:00 UTC)),
            ("0 0 1 jan *", datetime!(2027-01-01 0:00:00 UTC)),
            ("0 0 29 2 *", datetime!(2028-02-29 0:00:00 UTC)),
            ("0 0 13 * 5", datetime!(2026-02-06 0:00:00 UTC)),
            ("0 0 13 * ?", datetime!(2026-02-13 0:00:00 UTC)),
            ("0 0 * * 7", datetime!(2026-02-08 0:00:00 UTC)),
            ("5/20 10 * * *", datetime!(2026-02-03 10:05:00 UTC)),
            ("0 10 * * * 30", datetime!(2026-02-03 10:00:30 UTC)),
            ("* * * * * */20", datetime!(2026-02-03 10:00:20 UTC)),
            ("@weekly", datetime!(2026-02-08 0:00:00 UTC)),
            ("@monthly", datetime!(2026-03-01 0:00:00 UTC)),
            ("@yearly", datetime!(2027-01-01 0:00:00 UTC)),
        ] {
            assert_eq!(next(expression, last), Some(expected), "{expression}");
        }
    }

    #[test]
    fn what_never_comes_is_nothing() {
        assert_eq!(next("0 0 31 2 *", datetime!(2026-02-03 10:00:00 UTC)), None);
        assert_eq!(Cron::parse("* * * * *").expect("valid").next_after(i64::MAX), None);
        assert_eq!(Cron::parse("* * * * *").expect("valid").next_after(i64::MIN), None);
    }

    #[test]
    fn garbage_is_refused() {
        for text in [
            "",
            "not a cron",
            "* * * *",
            "* * * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 8",
            "5-1 * * * *",
            "*/0 * * * *",
            "*/x * * * *",
            "1- * * * *",
            ", * * * *",
            "1,,2 * * * *",
            "mon * * * *",
            "+5 * * * *",
            "@often",
            "* * * * * 60",
        ] {
            assert_eq!(Cron::parse(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_trying_every_minute(
            minute in 0u8..60, hour in 0u8..24, day in 1u8..29, weekday in 0u8..7, which in 0..4, last in 0i64..4_000_000_000,
        ) {
            let expression = match which {
                0 => format!("{minute} {hour} * * *"),
                1 => format!("{minute} */7 * * {weekday}"),
                2 => format!("{minute} {hour} {day} * *"),
                _ => format!("{minute} {hour} {day} * {weekday}"),
            };
            let cron = Cron::parse(&expression).expect("valid");
            let by_minutes = (last / 60 + 1..).map(|minute| minute * 60).find(|at| {
                let at = OffsetDateTime::from_unix_timestamp(*at).expect("in range");
                has(cron.minutes, at.minute()) && has(cron.hours, at.hour()) && cron.on(at.date())
            });
            prop_assert_eq!(cron.next_after(last), by_minutes);
        }

        #[test]
        fn never_panics(text in "[-*?,/0-9a-z@ ]{0,20}", last in any::<i64>()) {
            if let Some(cron) = Cron::parse(&text) {
                let _ = cron.next_after(last);
            }
        }
    }
}
