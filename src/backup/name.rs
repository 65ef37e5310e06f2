//! The names of archives: `activekg_20260203_100000.tar.zst`, with `.enc` behind if encrypted.

use std::fmt;
use std::str::FromStr;

use activekg_storage::UnixMicros;
use time::macros::format_description;
use time::{Date, OffsetDateTime, PrimitiveDateTime};

const PREFIX: &str = "activekg_";
const SUFFIX: &str = ".tar.zst";
const SEALED: &str = ".enc";

/// The name of an archive. Names are in order of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ArchiveName {
    /// When the backup was taken, UTC.
    at: PrimitiveDateTime,
    sealed: bool,
}

/// A name that no archive has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not the name of an archive: they are like activekg_20260203_100000.tar.zst")]
pub struct NotAnArchiveName;

impl ArchiveName {
    /// The name of a backup taken at `at`.
    #[must_use]
    pub fn new(at: UnixMicros, sealed: bool) -> Self {
        let at = OffsetDateTime::from_unix_timestamp(at.get().div_euclid(1_000_000));
        let at = at.unwrap_or(OffsetDateTime::UNIX_EPOCH);
        Self { at: PrimitiveDateTime::new(at.date(), at.time()), sealed }
    }

    /// The next second's.
    #[must_use]
    pub fn next(self) -> Self {
        Self { at: self.at.saturating_add(time::Duration::SECOND), ..self }
    }

    /// When the backup was taken, to the second.
    #[must_use]
    pub fn at(self) -> UnixMicros {
        UnixMicros(self.at.assume_utc().unix_timestamp().saturating_mul(1_000_000))
    }

    /// Whether it is encrypted.
    #[must_use]
    pub fn is_sealed(self) -> bool {
        self.sealed
    }

    /// Whether `wanted` means it: its name, its stamp `20260203_100000`, or its day `2026-02-03`.
    #[must_use]
    pub fn is_meant_by(self, wanted: &str) -> bool {
        let day = Date::parse(wanted, format_description!("[year]-[month]-[day]"));
        day.is_ok_and(|day| day == self.at.date())
            || wanted == self.stamp()
            || wanted == self.to_string()
    }

    /// The instant as names have it: `20260203_100000`.
    #[must_use]
    pub fn stamp(self) -> String {
        let at = self.at;
        format!(
            "{:04}{:02}{:02}_{:02}{:02}{:02}",
            at.year(),
            u8::from(at.month()),
            at.day(),
            at.hour(),
            at.minute(),
            at.second()
        )
    }
}

impl fmt::Display for ArchiveName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sealed = if self.sealed { SEALED } else { "" };
        write!(f, "{PREFIX}{}{SUFFIX}{sealed}", self.stamp())
    }
}

impl FromStr for ArchiveName {
    type Err = NotAnArchiveName;

    fn from_str(text: &str) -> Result<Self, NotAnArchiveName> {
        let (plain, sealed) = match text.strip_suffix(SEALED) {
            Some(plain) => (plain, true),
            None => (text, false),
        };
        let stamp = plain.strip_prefix(PREFIX).and_then(|rest| rest.strip_suffix(SUFFIX));
        let format = format_description!("[year][month][day]_[hour][minute][second]");
        let at = stamp.and_then(|stamp| PrimitiveDateTime::parse(stamp, format).ok());
        let name = at.map(|at| Self { at, sealed }).ok_or(NotAnArchiveName)?;
        // Nothing but the one way to write it.
        if name.to_string() == text { Ok(name) } else { Err(NotAnArchiveName) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: UnixMicros = UnixMicros(1_770_112_800_123_456);

    #[test]
    fn names_say_when_and_whether_encrypted() {
        for (sealed, text) in [
            (false, "activekg_20260203_100000.tar.zst"),
            (true, "activekg_20260203_100000.tar.zst.enc"),
        ] {
            let name = ArchiveName::new(AT, sealed);
            assert_eq!(name.to_string(), text);
            assert_eq!(text.parse(), Ok(name));
            assert_eq!(name.at(), UnixMicros(1_770_112_800_000_000));
            assert!(name.next() > name);
        }
    }

    #[test]
    fn other_names_are_not_ours() {
        for text in [
            "",
            "activekg_.tar.zst",
            "activekg_20260203_100000.tar.gz",
            "activekg_20261303_100000.tar.zst",
            "activekg_20260203_100000.tar.zst.enc.enc",
            "../activekg_20260203_100000.tar.zst",
            "activekg_20260203_100000.tar.zst.partial",
            "db_20260203_100000.sql.gz",
        ] {
            assert_eq!(text.parse::<ArchiveName>(), Err(NotAnArchiveName), "{text}");
        }
    }

    #[test]
    fn an_archive_is_meant_by_its_day_too() {
        let name = ArchiveName::new(AT, false);
        for wanted in ["2026-02-03", "20260203_100000", "activekg_20260203_100000.tar.zst"] {
            assert!(name.is_meant_by(wanted), "{wanted}");
        }
        for wanted in ["2026-02-04", "20260203", "20260203_100001", ""] {
            assert!(!name.is_meant_by(wanted), "{wanted}");
        }
    }
}
