//! When scheduled jobs ran last.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use activekg_storage::time::UnixMicros;

/// The scheduled jobs, each with its latest run; nothing for one that has not run since the start.
pub type Jobs = BTreeMap<&'static str, Option<UnixMicros>>;

/// The latest run of each scheduled job since the start. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct RunLog {
    jobs: Arc<Mutex<Jobs>>,
}

impl RunLog {
    /// Notes that there is such a job, before it runs.
    pub fn expect(&self, job: &'static str) {
        self.lock().entry(job).or_default();
    }

    /// Notes a run; how long after the one before it was, if there was one.
    pub fn ran(&self, job: &'static str, now: UnixMicros) -> Option<Duration> {
        self.lock().insert(job, Some(now)).flatten().map(|before| now.since(before))
    }

    /// The latest run of a job.
    pub fn last(&self, job: &str) -> Option<UnixMicros> {
        self.lock().get(job).copied().flatten()
    }

    /// All that there are.
    pub fn jobs(&self) -> Jobs {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Jobs> {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_run_counts() {
        let log = RunLog::default();
        log.expect("never");
        log.expect("cycle");
        assert_eq!((log.last("cycle"), log.last("unknown")), (None, None));
        assert_eq!(log.ran("cycle", UnixMicros(1_000_000)), None);
        assert_eq!(log.ran("other", UnixMicros(2_000_000)), None);
        assert_eq!(log.ran("cycle", UnixMicros(4_000_000)), Some(Duration::from_secs(3)));
        log.expect("cycle");
        assert_eq!(log.last("cycle"), Some(UnixMicros(4_000_000)));
        let other = Some(UnixMicros(2_000_000));
        let jobs = [("cycle", log.last("cycle")), ("other", other), ("never", None)];
        assert_eq!(log.jobs(), BTreeMap::from(jobs));
    }
}
