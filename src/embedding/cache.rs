//! Vectors of recent queries.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};

use lru::LruCache;

use super::batcher::lock;

/// Longest text kept, in bytes: beyond it a text is unlikely to be asked for again, and the
/// number of entries would no longer bound the memory.
const TEXT_MAX: usize = 4096;

type Vectors = LruCache<Box<str>, Arc<[f32]>>;

/// The least recently used text makes room. One vector of 384 numbers takes 1.5 KiB.
pub(super) struct QueryCache {
    /// Absent if nothing is to be kept.
    entries: Option<Mutex<Vectors>>,
}

impl QueryCache {
    pub(super) fn new(capacity: usize) -> Self {
        Self { entries: NonZeroUsize::new(capacity).map(|n| Mutex::new(LruCache::new(n))) }
    }

    pub(super) fn get(&self, text: &str) -> Option<Arc<[f32]>> {
        lock(self.entries.as_ref()?).get(text).cloned()
    }

    pub(super) fn put(&self, text: &str, vector: Arc<[f32]>) {
        if let Some(entries) = &self.entries
            && text.len() <= TEXT_MAX
        {
            lock(entries).put(text.into(), vector);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_least_recently_used_makes_room() {
        let cache = QueryCache::new(2);
        for text in ["a", "b"] {
            cache.put(text, Arc::new([1.0]));
        }
        assert!(cache.get("a").is_some());
        cache.put("c", Arc::new([2.0]));
        assert!(cache.get("b").is_none());
        assert!(cache.get("a").is_some());
        assert_eq!(cache.get("c").unwrap()[0], 2.0);
    }

    #[test]
    fn nothing_is_kept_without_room_or_of_long_texts() {
        let none = QueryCache::new(0);
        none.put("a", Arc::new([1.0]));
        assert!(none.get("a").is_none());
        let some = QueryCache::new(1);
        let long = "x".repeat(TEXT_MAX + 1);
        some.put(&long, Arc::new([1.0]));
        assert!(some.get(&long).is_none());
    }
}
