//! Purging: how long what was deleted is kept, and how much goes at a time.

use std::time::Duration;

use super::options::PurgeOptions;
use super::{ConfigError, read};

/// Most nodes of one transaction.
pub const BATCH_MAX: usize = 10_000;

/// Purging what was deleted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Purge {
    /// Most nodes that go in one transaction, 1 to [`BATCH_MAX`].
    pub batch_size: usize,
    /// How long a soft-deleted node is kept that does not say it itself.
    pub retention: Duration,
}

impl Purge {
    /// What the settings mean, with how long deleted nodes are kept.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting whose value cannot be used.
    pub fn new(options: &PurgeOptions, retention: Duration) -> Result<Self, ConfigError> {
        let PurgeOptions { purger_batch_size } = options;
        let batch_size = read::number("PURGER_BATCH_SIZE", purger_batch_size, 1..=BATCH_MAX)?;
        Ok(Self { batch_size: batch_size.unwrap_or(500), retention })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};

    #[test]
    fn a_month_and_five_hundred_unless_told_otherwise() {
        let purge = config(&[]).unwrap().purge;
        assert_eq!((purge.batch_size, purge.retention.as_secs()), (500, 30 * 86_400));
        let set = [("PURGER_BATCH_SIZE", "7"), ("PURGER_RETENTION_DAYS", "0")];
        let purge = config(&set).unwrap().purge;
        assert_eq!((purge.batch_size, purge.retention.as_secs()), (7, 0));
    }

    #[test]
    fn what_is_out_of_range_is_named() {
        for (setting, bad) in [
            ("PURGER_BATCH_SIZE", "0"),
            ("PURGER_BATCH_SIZE", "10001"),
            ("PURGER_BATCH_SIZE", "many"),
        ] {
            assert!(fault(&[(setting, bad)]).starts_with(&format!("{setting}: ")), "{setting}");
        }
    }
}
