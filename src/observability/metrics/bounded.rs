//! Label values that come from data, of which there may be any number.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Values with a series of their own; a scrape stays readable and small.
const VALUES_MAX: usize = 1000;
/// Stands for all others.
pub(super) const OTHER: &str = "_other";

/// The values that have a series of their own: the first thousand.
#[derive(Debug, Default)]
pub(super) struct Bounded {
    shown: Mutex<BTreeSet<String>>,
}

impl Bounded {
    /// Whether `value` has a series of its own.
    pub(super) fn shows(&self, value: &str) -> bool {
        let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
        if shown.contains(value) {
            return true;
        }
        shown.len() < VALUES_MAX && shown.insert(value.to_owned())
    }

    /// Whether `value` has had a series of its own before.
    pub(super) fn has(&self, value: &str) -> bool {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).contains(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_thousand_are_shown_and_stay() {
        let bounded = Bounded::default();
        for n in 0..2 * VALUES_MAX {
            assert_eq!(bounded.shows(&n.to_string()), n < VALUES_MAX);
        }
        assert!(bounded.shows("7"));
        assert!(bounded.has("7") && !bounded.has("2000") && !bounded.has("new"));
    }
}
