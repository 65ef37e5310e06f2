//! Vectors of recent queries.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use lru::LruCache;

use super::batcher::lock;
use super::stats::CacheStats;

/// Longest text kept, in bytes: beyond it a text is unlikely to be asked for again, and the
/// number of entries would no longer bound the memory.
const TEXT_MAX: usize = 4096;

/// A vector, and when it was put in.
struct Entry {
    vector: Arc<[f32]>,
    since: Instant,
}

/// The least recently used text makes room. One vector of 384 numbers takes 1.5 KiB.
pub(super) struct QueryCache {
    /// Absent if nothing is to be kept.
    entries: Option<Mutex<LruCache<Box<str>, Entry>>>,
    /// Age at which a vector is no longer taken; `None` is never.
    ttl: Option<Duration>,
    hits: AtomicU64,
    misses: AtomicU64,
    evicted_room: AtomicU64,
    evicted_age: AtomicU64,
}

impl QueryCache {
    pub(super) fn new(capacity: usize, ttl: Option<Duration>) -> Self {
        Self {
            entries: NonZeroUsize::new(capacity).map(|n| Mutex::new(LruCache::new(n))),
            ttl,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            evicted_room: AtomicU64::new(0),
            evicted_age: AtomicU64::new(0),
        }
    }

    /// The vector of `text`, if it is there and not too old at the instant `now`.
    pub(super) fn get(&self, text: &str, now: Instant) -> Option<Arc<[f32]>> {
        let found = self.entries.as_ref().and_then(|entries| {
            let mut entries = lock(entries);
            let Entry { vector, since } = entries.get(text)?;
            if self.ttl.is_none_or(|ttl| now.saturating_duration_since(*since) < ttl) {
                return Some(Arc::clone(vector));
            }
            entries.pop(text);
            self.evicted_age.fetch_add(1, Ordering::Relaxed);
            None
        });
        let counter = if found.is_some() { &self.hits } else { &self.misses };
        counter.fetch_add(1, Ordering::Relaxed);
        found
    }

    /// Keeps the vector of `text`, computed at the instant `now`.
    pub(super) fn put(&self, text: &str, vector: Arc<[f32]>, now: Instant) {
        if let Some(entries) = &self.entries
            && text.len() <= TEXT_MAX
        {
            let old = lock(entries).push(text.into(), Entry { vector, since: now });
            // The text's own older vector, from a query at the same time, made no room.
            if old.is_some_and(|(evicted, _)| *evicted != *text) {
                self.evicted_room.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    pub(super) fn stats(&self) -> CacheStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        CacheStats {
            hits: read(&self.hits),
            misses: read(&self.misses),
            evicted_room: read(&self.evicted_room),
            evicted_age: read(&self.evicted_age),
            entries: self.entries.as_ref().map_or(0, |entries| lock(entries).len() as u64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_makes_room() {
        let (cache, now) = (QueryCache::new(2, None), Instant::now());
        for text in ["a", "b", "b"] {
            cache.put(text, Arc::new([1.0]), now);
        }
        assert!(cache.get("a", now).is_some());
        cache.put("c", Arc::new([2.0]), now);
        assert!(cache.get("b", now).is_none());
        assert!(cache.get("a", now).is_some());
        assert_eq!(cache.get("c", now).unwrap()[0], 2.0);
        let stats = CacheStats { hits: 3, misses: 1, evicted_room: 1, evicted_age: 0, entries: 2 };
        assert_eq!(cache.stats(), stats);
    }

    #[test]
    fn what_is_too_old_is_not_taken() {
        let (cache, then) = (QueryCache::new(2, Some(Duration::from_secs(10))), Instant::now());
        cache.put("a", Arc::new([1.0]), then);
        assert!(cache.get("a", then + Duration::from_millis(9_999)).is_some());
        // Use does not keep it young.
        assert!(cache.get("a", then + Duration::from_secs(10)).is_none());
        let stats = CacheStats { hits: 1, misses: 1, evicted_room: 0, evicted_age: 1, entries: 0 };
        assert_eq!(cache.stats(), stats);
        cache.put("a", Arc::new([2.0]), then + Duration::from_secs(11));
        assert!(cache.get("a", then + Duration::from_secs(20)).is_some());
    }

    #[test]
    fn nothing_is_kept_without_room_or_of_long_texts() {
        let now = Instant::now();
        let none = QueryCache::new(0, None);
        none.put("a", Arc::new([1.0]), now);
        assert!(none.get("a", now).is_none());
        let some = QueryCache::new(1, None);
        let long = "x".repeat(TEXT_MAX + 1);
        some.put(&long, Arc::new([1.0]), now);
        assert!(some.get(&long, now).is_none());
    }
}
