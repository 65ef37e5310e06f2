//! When scheduled jobs ran last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use activekg_storage::time::UnixMicros;

/// The latest run of each scheduled job since the start. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct RunLog {
    runs: Arc<Mutex<BTreeMap<&'static str, UnixMicros>>>,
}

impl RunLog {
    /// Notes a run; how long after the one before it was, if there was one.
    pub fn ran(&self, job: &'static str, now: UnixMicros) -> Option<Duration> {
        self.lock().insert(job, now).map(|before| now.since(before))
    }

    /// The jobs that ran, with their latest run.
    pub fn latest(&self) -> BTreeMap<&'static str, UnixMicros> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, UnixMicros>> {
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_run_counts() {
        let log = RunLog::default();
        assert_eq!(log.ran("cycle", UnixMicros(1_000_000)), None);
        assert_eq!(log.ran("other", UnixMicros(2_000_000)), None);
        assert_eq!(log.ran("cycle", UnixMicros(4_000_000)), Some(Duration::from_secs(3)));
        assert_eq!(
            log.latest(),
            BTreeMap::from([("cycle", UnixMicros(4_000_000)), ("other", UnixMicros(2_000_000))])
        );
    }
}
