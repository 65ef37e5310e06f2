//! How a store is opened.

use crate::open::Recovery;

/// How a store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Memory for pages read and not yet written back, in bytes. Taken as it is needed.
    pub cache_bytes: usize,
    /// Most changes in one commit; at least 1.
    pub max_batch: usize,
    /// Changes that may wait for a commit before whoever brings another has to; at least 1.
    pub queue_len: usize,
    /// From this size of the file on, in bytes, every commit notes which pages are free, so that
    /// the store of a process that died opens at once and not after a walk over all of it. That
    /// costs a second sync a commit, which a small store is spared: a walk over it is short.
    pub quick_repair_from: u64,
    /// Told how far it is while a store that was not closed is walked over.
    pub recovery: Recovery,
}

impl Default for StoreOptions {
    /// 64 MiB of cache, 1024 changes a commit, 4096 waiting, quick repair from 128 MiB on: below,
    /// a walk takes less than a second even on a disk that reads 100 MB/s (`benches/restart.rs`).
    fn default() -> StoreOptions {
        StoreOptions {
            cache_bytes: 64 << 20,
            max_batch: 1024,
            queue_len: 4096,
            quick_repair_from: 128 << 20,
            recovery: Recovery::default(),
        }
    }
}
