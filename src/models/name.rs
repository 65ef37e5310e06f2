//! Names of models.

use std::fmt;
use std::str::FromStr;

/// Longest name, in bytes.
const NAME_MAX: usize = 64;

/// The name of a kept model: 1 to 64 of `A-Z a-z 0-9 . _ -`, not beginning with a dot. So it is a
/// file name on every system, never a path, and never an address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelName(String);

/// A text that names no model.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} cannot name a model: 1 to {NAME_MAX} letters, digits, dots, dashes and underscores, not beginning with a dot"
)]
pub struct BadName(String);

impl ModelName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ModelName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fits = (1..=NAME_MAX).contains(&text.len())
            && !text.starts_with('.')
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
        if fits { Ok(Self(text.to_owned())) } else { Err(BadName(text.to_owned())) }
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_a_file_name_and_nothing_else() {
        for good in ["bge-small-en-v1.5", "a", "Q4_K_M.gguf", &"x".repeat(64)] {
            assert_eq!(good.parse::<ModelName>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", ".hidden", "a/b", "a b", "ü", "a\0", &"x".repeat(65)] {
            assert!(bad.parse::<ModelName>().is_err(), "{bad:?}");
        }
    }
}
