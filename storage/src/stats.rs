//! What the committer has done since the store was opened.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Counts since the store was opened. Taken one after the other, so that they may be a commit
/// apart from each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct StoreStats {
    /// Commits, each with one sync.
    pub commits: u64,
    /// Changes run, those that failed or wrote nothing included.
    pub changes: u64,
    /// Changes that returned an error or panicked.
    pub changes_failed: u64,
    /// Rows written or removed by commits.
    pub rows: u64,
    /// Changes that shared a commit, over all commits: by `commits` gives the mean batch.
    pub batch_size_sum: u64,
    /// Most changes that shared one commit.
    pub batch_size_max: u64,
    /// Time the latest commit took to become durable, the changes' own time not included.
    pub last_commit: Duration,
    /// The same, over all commits.
    pub commit_sum: Duration,
    /// The same, of the slowest commit.
    pub commit_max: Duration,
    /// Changes waiting for their turn now.
    pub n_waiting: usize,
}

#[derive(Debug, Default)]
pub(crate) struct Counters {
    commits: AtomicU64,
    changes: AtomicU64,
    changes_failed: AtomicU64,
    rows: AtomicU64,
    batch_size_sum: AtomicU64,
    batch_size_max: AtomicU64,
    last_commit_nanos: AtomicU64,
    commit_sum_nanos: AtomicU64,
    commit_max_nanos: AtomicU64,
}

impl Counters {
    pub(crate) fn committed(&self, n_changes: u64, failed: u64, rows: u64, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.skipped(n_changes, failed);
        self.commits.fetch_add(1, Relaxed);
        self.rows.fetch_add(rows, Relaxed);
        self.batch_size_sum.fetch_add(n_changes, Relaxed);
        self.batch_size_max.fetch_max(n_changes, Relaxed);
        self.last_commit_nanos.store(nanos, Relaxed);
        self.commit_sum_nanos.fetch_add(nanos, Relaxed);
        self.commit_max_nanos.fetch_max(nanos, Relaxed);
    }

    /// A batch that wrote nothing and needed no commit.
    pub(crate) fn skipped(&self, n_changes: u64, failed: u64) {
        self.changes.fetch_add(n_changes, Relaxed);
        self.changes_failed.fetch_add(failed, Relaxed);
    }

    pub(crate) fn snapshot(&self, n_waiting: usize) -> StoreStats {
        StoreStats {
            commits: self.commits.load(Relaxed),
            changes: self.changes.load(Relaxed),
            changes_failed: self.changes_failed.load(Relaxed),
            rows: self.rows.load(Relaxed),
            batch_size_sum: self.batch_size_sum.load(Relaxed),
            batch_size_max: self.batch_size_max.load(Relaxed),
            last_commit: Duration::from_nanos(self.last_commit_nanos.load(Relaxed)),
            commit_sum: Duration::from_nanos(self.commit_sum_nanos.load(Relaxed)),
            commit_max: Duration::from_nanos(self.commit_max_nanos.load(Relaxed)),
            n_waiting,
        }
    }
}
