//! Which folders folders are in, remembered for a while.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Folders that are remembered.
const KNOWN_MAX: usize = 10_000;
/// For how long. A folder that moved is soon seen to have, by those whom no feed tells.
const KNOWN_FOR: Duration = Duration::from_secs(60);

/// The folders that folders are in.
#[derive(Default)]
pub(super) struct Above(Mutex<HashMap<String, (Instant, Vec<String>)>>);

impl Above {
    /// What a folder is in, if that is known as of a short while ago.
    pub(super) fn of(&self, folder: &str, now: Instant) -> Option<Vec<String>> {
        let known = self.lock();
        let (since, parents) = known.get(folder)?;
        (now.saturating_duration_since(*since) < KNOWN_FOR).then(|| parents.clone())
    }

    pub(super) fn keep(&self, folder: &str, parents: Vec<String>, now: Instant) {
        let mut known = self.lock();
        if known.len() >= KNOWN_MAX {
            known.clear();
        }
        known.insert(folder.to_owned(), (now, parents));
    }

    pub(super) fn forget(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, (Instant, Vec<String>)>> {
        // Nothing in here is left half done by a panic.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_known_of_folders_is_known_for_a_while() {
        let (above, now) = (Above::default(), Instant::now());
        above.keep("in", vec!["top".to_owned()], now);
        let later = |seconds| above.of("in", now + Duration::from_secs(seconds));
        assert_eq!(later(59), Some(vec!["top".to_owned()]));
        assert_eq!(later(60), None);
        above.keep("in", Vec::new(), now + Duration::from_secs(60));
        assert_eq!(later(61), Some(Vec::new()));
        above.forget();
        assert_eq!(later(61), None);
    }
}
