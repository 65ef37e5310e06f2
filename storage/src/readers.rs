//! Who has a snapshot of the store, and since when.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The snapshots that are open.
#[derive(Debug, Clone, Default)]
pub(crate) struct Readers(Arc<Mutex<Open>>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    since: BTreeMap<u64, Instant>,
}

/// A snapshot that is open; no longer when this is dropped.
#[derive(Debug)]
pub(crate) struct Reader {
    number: u64,
    all: Readers,
}

/// Snapshots that are open now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReaderStats {
    /// How many.
    pub n_open: usize,
    /// How long the oldest has been. Pages replaced since then cannot be used again.
    pub oldest: Option<Duration>,
}

impl Readers {
    pub(crate) fn enter(&self) -> Reader {
        let mut open = self.open();
        let number = open.next;
        open.next += 1;
        open.since.insert(number, Instant::now());
        drop(open);
        Reader { number, all: self.clone() }
    }

    pub(crate) fn stats(&self) -> ReaderStats {
        let open = self.open();
        // Numbers are given out in the order of time.
        let oldest = open.since.first_key_value().map(|(_, since)| since.elapsed());
        ReaderStats { n_open: open.since.len(), oldest }
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.all.open().since.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_snapshot_counts_while_it_is_there() {
        let readers = Readers::default();
        assert_eq!(readers.stats(), ReaderStats::default());
        let first = readers.enter();
        let second = readers.enter();
        assert_eq!(readers.stats().n_open, 2);
        drop(first);
        assert_eq!(readers.stats().n_open, 1);
        assert!(readers.stats().oldest.is_some());
        drop(second);
        assert_eq!(readers.stats(), ReaderStats::default());
    }
}
