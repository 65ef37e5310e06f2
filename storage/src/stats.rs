//! What the committer has done since the store was opened.

mod histogram;

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

pub use histogram::Histogram;
use histogram::Observed;

/// Upper bounds of the buckets for commit times, in seconds.
const COMMIT_SECONDS: &[f64] =
    &[0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0];

/// Upper bounds of the buckets for changes that share a commit.
const BATCH_CHANGES: &[f64] = &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];

/// Counts since the store was opened. Taken one after the other, so that they may be a commit
/// apart from each other.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct StoreStats {
    /// Commits, each with one sync, those in two phases with two.
    pub commits: u64,
    /// Commits in two phases: those that touched keys, tokens or the audit trail.
    pub commits_two_phase: u64,
    /// Changes run, those that failed or wrote nothing included.
    pub changes: u64,
    /// Changes that returned an error or panicked.
    pub changes_failed: u64,
    /// Rows written or removed by commits.
    pub rows: u64,
    /// Changes that shared a commit.
    pub batch_changes: Histogram,
    /// Seconds a commit took to become durable, the changes' own time not included.
    pub commit_seconds: Histogram,
    /// Seconds from the first change of a batch being taken up until all of it was durable: how
    /// long one commit keeps the next waiting.
    pub batch_seconds: Histogram,
    /// Time the slowest commit took to become durable.
    pub commit_max: Duration,
    /// Changes waiting for their turn now.
    pub n_waiting: usize,
    /// The store takes writes. False after a failed commit, until it is opened anew.
    pub writable: bool,
}

#[derive(Debug)]
pub(crate) struct Counters {
    commits_two_phase: AtomicU64,
    changes: AtomicU64,
    changes_failed: AtomicU64,
    rows: AtomicU64,
    batch_changes: Observed,
    commit_seconds: Observed,
    batch_seconds: Observed,
    commit_max_nanos: AtomicU64,
}

/// One batch, committed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Batch {
    pub(crate) n_changes: u64,
    pub(crate) n_failed: u64,
    pub(crate) rows: u64,
    pub(crate) two_phase: bool,
    /// Of the commit alone.
    pub(crate) commit: Duration,
    /// From the first change on.
    pub(crate) whole: Duration,
}

impl Default for Counters {
    fn default() -> Counters {
        Counters {
            commits_two_phase: AtomicU64::default(),
            changes: AtomicU64::default(),
            changes_failed: AtomicU64::default(),
            rows: AtomicU64::default(),
            batch_changes: Observed::new(BATCH_CHANGES),
            commit_seconds: Observed::new(COMMIT_SECONDS),
            batch_seconds: Observed::new(COMMIT_SECONDS),
            commit_max_nanos: AtomicU64::default(),
        }
    }
}

impl Counters {
    pub(crate) fn committed(&self, batch: Batch) {
        let Batch { n_changes, n_failed, rows, two_phase, commit, whole } = batch;
        self.skipped(n_changes, n_failed);
        self.commits_two_phase.fetch_add(u64::from(two_phase), Relaxed);
        self.rows.fetch_add(rows, Relaxed);
        self.batch_changes.observe(n_changes as f64);
        self.commit_seconds.observe(commit.as_secs_f64());
        self.batch_seconds.observe(whole.as_secs_f64());
        let nanos = u64::try_from(commit.as_nanos()).unwrap_or(u64::MAX);
        self.commit_max_nanos.fetch_max(nanos, Relaxed);
    }

    /// A batch that wrote nothing and needed no commit.
    pub(crate) fn skipped(&self, n_changes: u64, n_failed: u64) {
        self.changes.fetch_add(n_changes, Relaxed);
        self.changes_failed.fetch_add(n_failed, Relaxed);
    }

    pub(crate) fn snapshot(&self, n_waiting: usize, writable: bool) -> StoreStats {
        let commit_seconds = self.commit_seconds.snapshot();
        StoreStats {
            commits: commit_seconds.count(),
            commits_two_phase: self.commits_two_phase.load(Relaxed),
            changes: self.changes.load(Relaxed),
            changes_failed: self.changes_failed.load(Relaxed),
            rows: self.rows.load(Relaxed),
            batch_changes: self.batch_changes.snapshot(),
            commit_seconds,
            batch_seconds: self.batch_seconds.snapshot(),
            commit_max: Duration::from_nanos(self.commit_max_nanos.load(Relaxed)),
            n_waiting,
            writable,
        }
    }
}
