//! Instants as the API writes them.

use time::{OffsetDateTime, UtcOffset};

/// Microseconds since 1970 of 0001-01-01T00:00:00Z.
const FIRST: i64 = -62_135_596_800_000_000;
/// Microseconds since 1970 of the last microsecond of the year 9999.
const LAST: i64 = 253_402_300_799_999_999;

/// ISO-8601 text of an instant in microseconds since 1970: `2026-02-03T10:00:00.123456+00:00`.
/// The fraction is left out when it is zero. Instants outside the years 1 to 9999 read as the
/// nearest instant inside.
pub fn iso(micros: i64) -> String {
    let micros = micros.clamp(FIRST, LAST);
    let at = OffsetDateTime::from_unix_timestamp_nanos(i128::from(micros) * 1000)
        .expect("the years 1 to 9999 are in range")
        .to_offset(UtcOffset::UTC);
    let mut text = format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}",
        at.year(),
        u8::from(at.month()),
        at.day(),
        at.hour(),
        at.minute(),
        at.second()
    );
    if at.microsecond() != 0 {
        text.push_str(&format!(".{:06}", at.microsecond()));
    }
    text.push_str("+00:00");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fraction_has_six_digits_or_is_absent() {
        assert_eq!(iso(1_770_112_800_123_456), "2026-02-03T10:00:00.123456+00:00");
        assert_eq!(iso(1_770_112_800_000_100), "2026-02-03T10:00:00.000100+00:00");
        assert_eq!(iso(1_770_112_800_000_000), "2026-02-03T10:00:00+00:00");
        assert_eq!(iso(0), "1970-01-01T00:00:00+00:00");
        assert_eq!(iso(-1), "1969-12-31T23:59:59.999999+00:00");
    }

    #[test]
    fn the_ends_of_time_are_clamped() {
        assert_eq!(iso(i64::MIN), "0001-01-01T00:00:00+00:00");
        assert_eq!(iso(i64::MAX), "9999-12-31T23:59:59.999999+00:00");
    }
}
