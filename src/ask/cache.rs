//! Answers that were written lately.
//!
//! What is kept is the writer's text alone. Ages, lineage and scores are of the moment and are
//! made anew for every answer. The key holds the revision of every source's text, so an answer
//! from a text that has changed is never found again, and needs no other invalidation.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::time::UnixMicros;
use lru::LruCache;

use super::candidate::Candidate;

/// What an answer depends on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Key {
    tenant: TenantId,
    question: String,
    /// Id and text revision of each source, in order.
    sources: Vec<(NodeId, u64)>,
    /// Which writer was asked, and by which way.
    path: &'static str,
}

impl Key {
    /// The key of what `tenant` is answered to `question` from `sources` by `path`. The tenant
    /// is the one whose view the sources were read in, never one that a body names.
    pub fn new(
        tenant: &TenantId,
        question: &str,
        sources: &[Candidate],
        path: &'static str,
    ) -> Self {
        let revision = |source: &Candidate| (source.node.id, source.node.text_revision);
        Self {
            tenant: tenant.clone(),
            question: question.to_owned(),
            sources: sources.iter().map(revision).collect(),
            path,
        }
    }
}

/// A text and when it was written.
struct Written {
    text: Arc<str>,
    at: UnixMicros,
}

/// Answers by what they depend on, the least recently used going first.
pub struct Cache {
    /// None when nothing is to be kept.
    kept: Option<Mutex<LruCache<Key, Written>>>,
    ttl: Duration,
}

impl Cache {
    /// Keeps `max` answers, each for less than `ttl`; with `max` 0, none.
    pub fn new(max: usize, ttl: Duration) -> Self {
        // Room grows with use: `max` may be set far beyond what is ever asked.
        let kept = NonZeroUsize::new(max).map(|max| {
            let mut cache = LruCache::unbounded();
            cache.resize(max);
            Mutex::new(cache)
        });
        Self { kept, ttl }
    }

    /// The text written for `key`, if it is young enough at `now`.
    pub fn get(&self, key: &Key, now: UnixMicros) -> Option<Arc<str>> {
        let mut kept = self.kept.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let written = kept.get(key)?;
        if now.since(written.at) < self.ttl {
            return Some(written.text.clone());
        }
        kept.pop(key);
        None
    }

    /// Keeps `text` for `key`.
    pub fn put(&self, key: Key, text: &str, now: UnixMicros) {
        if let Some(kept) = &self.kept {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            kept.put(key, Written { text: text.into(), at: now });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::candidate::tests::found;
    use super::*;

    const NOW: UnixMicros = UnixMicros(1_000_000);
    const TTL: Duration = Duration::from_secs(600);

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).expect("a name")
    }

    fn key(question: &str) -> Key {
        Key::new(&tenant("t"), question, &[found(0.03, Some(0.5))], "fallback")
    }

    #[test]
    fn everything_an_answer_depends_on_is_in_the_key() {
        let cache = Cache::new(8, TTL);
        cache.put(key("q"), "answer", NOW);
        assert_eq!(cache.get(&key("q"), NOW).as_deref(), Some("answer"));

        let source = || found(0.03, Some(0.5));
        let mut changed = source();
        changed.node.text_revision += 1;
        let others = [
            Key::new(&tenant("u"), "q", &[source()], "fallback"),
            Key::new(&tenant("t"), "r", &[source()], "fallback"),
            Key::new(&tenant("t"), "q", &[changed], "fallback"),
            Key::new(&tenant("t"), "q", &[source(), source()], "fallback"),
            Key::new(&tenant("t"), "q", &[source()], "fast"),
        ];
        for other in others {
            assert_eq!(cache.get(&other, NOW), None, "{other:?}");
        }
    }

    #[test]
    fn scores_drift_and_age_are_not() {
        let cache = Cache::new(8, TTL);
        cache.put(key("q"), "answer", NOW);
        let mut refreshed = found(0.016, Some(0.4));
        refreshed.node.last_refreshed = Some(NOW);
        refreshed.node.drift_score = Some(0.0);
        let key = Key::new(&tenant("t"), "q", &[refreshed], "fallback");
        assert_eq!(cache.get(&key, NOW).as_deref(), Some("answer"));
    }

    #[test]
    fn answers_grow_old() {
        let cache = Cache::new(8, TTL);
        cache.put(key("q"), "answer", NOW);
        let almost = NOW.plus(TTL - Duration::from_micros(1));
        assert!(cache.get(&key("q"), almost).is_some());
        assert!(cache.get(&key("q"), NOW.plus(TTL)).is_none());
        assert!(cache.get(&key("q"), NOW).is_none(), "an old answer is forgotten");
    }

    #[test]
    fn room_is_bounded_and_may_be_none() {
        let cache = Cache::new(2, TTL);
        for question in ["a", "b"] {
            cache.put(key(question), question, NOW);
        }
        assert!(cache.get(&key("a"), NOW).is_some());
        cache.put(key("c"), "c", NOW);
        assert!(cache.get(&key("b"), NOW).is_none(), "the least recently used goes first");
        assert!(cache.get(&key("a"), NOW).is_some());

        let none = Cache::new(0, TTL);
        none.put(key("a"), "a", NOW);
        assert!(none.get(&key("a"), NOW).is_none());
    }
}
