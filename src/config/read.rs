//! From text to values: booleans, numbers in a range, words of a closed set.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;

use super::ConfigError;

/// The text of a setting, or `None` when it is unset or blank.
pub(super) fn text(raw: &Option<String>) -> Option<&str> {
    raw.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// A switch; no other word than the ones in the message is taken.
pub(super) fn boolean(
    setting: &'static str,
    raw: &Option<String>,
    default: bool,
) -> Result<bool, ConfigError> {
    Ok(optional_boolean(setting, raw)?.unwrap_or(default))
}

/// A switch for which unset has a meaning of its own.
pub(super) fn optional_boolean(
    setting: &'static str,
    raw: &Option<String>,
) -> Result<Option<bool>, ConfigError> {
    let Some(word) = text(raw) else {
        return Ok(None);
    };
    match word.to_ascii_lowercase().as_str() {
        "true" | "1" | "yes" | "on" => Ok(Some(true)),
        "false" | "0" | "no" | "off" => Ok(Some(false)),
        _ => {
            let fault = format!("{word:?} is neither true/1/yes/on nor false/0/no/off");
            Err(ConfigError::new(setting, fault))
        }
    }
}

/// A number within `range`; `None` when the setting is unset.
pub(super) fn number<T>(
    setting: &'static str,
    raw: &Option<String>,
    range: RangeInclusive<T>,
) -> Result<Option<T>, ConfigError>
where
    T: FromStr + PartialOrd + Display,
{
    let Some(word) = text(raw) else {
        return Ok(None);
    };
    match word.parse() {
        Ok(value) if range.contains(&value) => Ok(Some(value)),
        _ => {
            let (least, most) = range.into_inner();
            let fault = format!("{word:?} is not a number from {least} to {most}");
            Err(ConfigError::new(setting, fault))
        }
    }
}

/// One word of a closed set, in any case; `None` when the setting is unset.
pub(super) fn word<T: Copy>(
    setting: &'static str,
    raw: &Option<String>,
    known: &[(&str, T)],
) -> Result<Option<T>, ConfigError> {
    let Some(word) = text(raw) else {
        return Ok(None);
    };
    if let Some((_, value)) = known.iter().find(|(name, _)| name.eq_ignore_ascii_case(word)) {
        return Ok(Some(*value));
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    Err(ConfigError::new(setting, format!("{word:?} is not one of {}", names.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_to_their_range() {
        let raw = |text: &str| Some(text.to_owned());
        assert_eq!(number("N", &raw(" 7 "), 1..=9), Ok(Some(7)));
        assert_eq!(number("N", &None, 1..=9), Ok(None));
        for bad in ["0", "10", "-1", "7.5", "seven", "99999999999999999999999"] {
            let fault = number("N", &raw(bad), 1..=9).unwrap_err().to_string();
            assert_eq!(fault, format!("N: {bad:?} is not a number from 1 to 9"));
        }
        assert!(number("X", &raw("NaN"), 0.0..=1.0).is_err());
        assert!(number("X", &raw("inf"), 0.0..=f64::MAX).is_err());
    }

    #[test]
    fn words_are_of_a_closed_set() {
        let known = [("tenant", 1), ("scopes", 2)];
        assert_eq!(word("M", &Some("SCOPES".to_owned()), &known), Ok(Some(2)));
        let fault = word("M", &Some("all".to_owned()), &known).unwrap_err().to_string();
        assert_eq!(fault, "M: \"all\" is not one of tenant, scopes");
    }
}
