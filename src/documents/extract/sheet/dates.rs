//! Numbers that stand for dates.

use time::{Date, Duration, Month, PrimitiveDateTime, Time};

/// The day from which a workbook counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Epoch {
    /// 30 December 1899, which makes 1 March 1900 the day 61: the format counts a 29 February 1900.
    Y1900,
    /// 1 January 1904.
    Y1904,
}

/// Days at most: 31 December 9999.
const DAYS_MAX: f64 = 2_958_466.0;

/// A number of days as a date, a time, or both; nothing for what is none.
pub(super) fn date(days: f64, epoch: Epoch) -> Option<String> {
    if !(0.0..DAYS_MAX).contains(&days) {
        return None;
    }
    let first = match epoch {
        Epoch::Y1900 => Date::from_calendar_date(1899, Month::December, 30),
        Epoch::Y1904 => Date::from_calendar_date(1904, Month::January, 1),
    };
    let seconds = (days * 86_400.0).round();
    let start = PrimitiveDateTime::new(first.ok()?, Time::MIDNIGHT);
    let at = start.checked_add(Duration::seconds(seconds as i64))?;
    let (date, (hour, minute, second)) = (at.date(), at.time().as_hms());
    let day = format!("{:04}-{:02}-{:02}", date.year(), u8::from(date.month()), date.day());
    let clock = format!("{hour:02}:{minute:02}:{second:02}");
    Some(match (days < 1.0, at.time() == Time::MIDNIGHT) {
        (true, _) => clock,
        (false, true) => day,
        (false, false) => format!("{day} {clock}"),
    })
}

/// Whether a number format shows dates: it has a letter of one outside of quotes, brackets and
/// escapes.
pub(super) fn is_date_code(code: &str) -> bool {
    let mut characters = code.chars();
    let (mut quoted, mut bracketed) = (false, false);
    while let Some(character) = characters.next() {
        match character {
            '"' => quoted = !quoted,
            _ if quoted => {}
            '[' => bracketed = true,
            ']' => bracketed = false,
            '\\' | '_' | '*' => {
                characters.next();
            }
            'y' | 'Y' | 'd' | 'D' | 'h' | 'H' | 's' | 'S' | 'm' | 'M' if !bracketed => return true,
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_become_dates() {
        for (days, text) in [
            (45_321.0, "2024-01-30"),
            (61.0, "1900-03-01"),
            (45_321.75, "2024-01-30 18:00:00"),
            (0.5, "12:00:00"),
        ] {
            assert_eq!(date(days, Epoch::Y1900).as_deref(), Some(text));
        }
        assert_eq!(date(0.0, Epoch::Y1904).as_deref(), Some("00:00:00"));
        assert_eq!(date(43_859.0, Epoch::Y1904).as_deref(), Some("2024-01-30"));
        for none in [-1.0, 1e12, f64::NAN, f64::INFINITY] {
            assert_eq!(date(none, Epoch::Y1900), None);
        }
    }

    #[test]
    fn formats_of_dates_are_told_from_others() {
        for code in ["yyyy-mm-dd", "d/m/yy", "h:mm AM/PM", "[$-409]mmm\\-yy"] {
            assert!(is_date_code(code), "{code}");
        }
        for code in ["General", "0.00", "#,##0\\d", "\"days\" 0", "[Red]0", "0_m", "@"] {
            assert!(!is_date_code(code), "{code}");
        }
    }
}
