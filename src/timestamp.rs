//! Instants as the API writes them.

use time::format_description::well_known::Rfc3339;
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

/// Microseconds since 1970 of an instant as people and databases write it: a date, a `T` or a blank,
/// a time, and `Z`, an offset such as `+02:00`, `+0200` or `+02`, or nothing for UTC. `None` for
/// anything else.
pub fn parse(text: &str) -> Option<i64> {
    let text = text.trim();
    let (date, rest) = (text.get(..10)?, text.get(11..)?);
    if !matches!(text.as_bytes()[10], b'T' | b't' | b' ') {
        return None;
    }
    let (time, offset) = match rest.find(['Z', 'z', '+', '-']) {
        Some(at) => rest.split_at(at),
        None => (rest, "Z"),
    };
    let offset = match offset.as_bytes() {
        [b'Z' | b'z'] => "Z".to_owned(),
        [_, _, _] => format!("{offset}:00"),
        [_, _, _, b'0'..=b'9', _] => format!("{}:{}", offset.get(..3)?, offset.get(3..)?),
        _ => offset.to_owned(),
    };
    let at = OffsetDateTime::parse(&format!("{date}T{time}{offset}"), &Rfc3339).ok()?;
    i64::try_from(at.unix_timestamp_nanos().div_euclid(1000)).ok()
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
    fn instants_are_read_as_they_are_written() {
        for micros in [0, -1, 1_770_112_800_123_456, FIRST, LAST] {
            assert_eq!(parse(&iso(micros)), Some(micros));
        }
        for text in [
            "2026-02-03T10:00:00Z",
            "2026-02-03t10:00:00z",
            " 2026-02-03 10:00:00+00 ",
            "2026-02-03T10:00:00",
            "2026-02-03 12:00:00+0200",
            "2026-02-03T08:30:00-01:30",
        ] {
            assert_eq!(parse(text), Some(1_770_112_800_000_000), "{text}");
        }
        for text in [
            "",
            "soon",
            "2026-02-03",
            "2026-02-03T",
            "2026-02-30T10:00:00Z",
            "2026-02-03x10:00:00Z",
            "2026-02-03T10:00:00+",
            "2026-02-03T10:00:00+é",
            "1770112800",
            "äääää äääää",
        ] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn the_ends_of_time_are_clamped() {
        assert_eq!(iso(i64::MIN), "0001-01-01T00:00:00+00:00");
        assert_eq!(iso(i64::MAX), "9999-12-31T23:59:59.999999+00:00");
    }
}
