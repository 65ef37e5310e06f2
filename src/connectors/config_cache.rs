//! Opened connectors, kept for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use activekg_storage::ids::TenantId;
use activekg_storage::time::UnixMicros;

use super::{Connector, Provider};

/// Most connectors that are kept; one more takes the place of the one that was kept longest.
const ENTRIES_MAX: usize = 10_000;

type Key = (TenantId, Provider);

/// Opened connectors that are enabled, each for as long as its time to live.
pub(super) struct ConfigCache {
    ttl: Duration,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    entries: HashMap<Key, (UnixMicros, Arc<Connector>)>,
    /// Counts evictions. What was read before one may be old.
    epoch: u64,
}

/// The state of the cache when something was not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Epoch(u64);

impl ConfigCache {
    pub(super) fn new(ttl: Duration) -> Self {
        Self { ttl, kept: Mutex::default() }
    }

    /// A connector that is kept, or the state to hand to [`ConfigCache::keep`].
    pub(super) fn find(
        &self,
        tenant: &TenantId,
        provider: Provider,
        now: UnixMicros,
    ) -> Result<Arc<Connector>, Epoch> {
        let kept = self.lock();
        match kept.entries.get(&(tenant.clone(), provider)) {
            Some((since, found)) if now.since(*since) < self.ttl => Ok(found.clone()),
            _ => Err(Epoch(kept.epoch)),
        }
    }

    /// Keeps what was read since `epoch`, unless something was evicted meanwhile: it may have been
    /// read before the change that the eviction tells of.
    pub(super) fn keep(
        &self,
        tenant: &TenantId,
        provider: Provider,
        connector: Arc<Connector>,
        (now, epoch): (UnixMicros, Epoch),
    ) {
        let mut kept = self.lock();
        if epoch != Epoch(kept.epoch) {
            return;
        }
        if kept.entries.len() >= ENTRIES_MAX {
            let oldest = kept.entries.iter().min_by_key(|(_, (since, _))| *since);
            if let Some(oldest) = oldest.map(|(key, _)| key.clone()) {
                kept.entries.remove(&oldest);
            }
        }
        kept.entries.insert((tenant.clone(), provider), (now, connector));
    }

    /// Forgets a connector.
    pub(super) fn evict(&self, tenant: &TenantId, provider: Provider) {
        let mut kept = self.lock();
        kept.epoch += 1;
        kept.entries.remove(&(tenant.clone(), provider));
    }

    /// Forgets all connectors; how many they were.
    pub(super) fn flush(&self) -> usize {
        let mut kept = self.lock();
        kept.epoch += 1;
        std::mem::take(&mut kept.entries).len()
    }

    /// The state before a read.
    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.lock().epoch)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing in here is left half done by a panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use activekg_storage::crypt::{Kek, KeyRing};
    use activekg_storage::tables::Json;
    use activekg_storage::tables::connectors::ConnectorRecord;

    use super::*;

    fn connector() -> Arc<Connector> {
        let key = Kek::parse("AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=").unwrap();
        let ring = KeyRing::new([(1, key)].into(), 1).unwrap();
        let record = ConnectorRecord {
            config: Json("{}".to_owned()),
            enabled: true,
            bucket: None,
            key_version: 1,
            created_at: UnixMicros(0),
            updated_at: UnixMicros(0),
        };
        Arc::new(Connector::open(&record, &ring).expect("it opens"))
    }

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name).unwrap()
    }

    const SECOND: i64 = 1_000_000;

    #[test]
    fn what_is_kept_ends_with_its_time_and_belongs_to_its_tenant() {
        let cache = ConfigCache::new(Duration::from_secs(10));
        let (acme, harbor) = (tenant("acme"), tenant("harbor"));
        let Err(epoch) = cache.find(&acme, Provider::S3, UnixMicros(0)) else { panic!("empty") };
        cache.keep(&acme, Provider::S3, connector(), (UnixMicros(0), epoch));
        let found = |tenant, provider, at| cache.find(tenant, provider, UnixMicros(at)).is_ok();
        assert!(found(&acme, Provider::S3, 10 * SECOND - 1));
        assert!(!found(&acme, Provider::S3, 10 * SECOND));
        assert!(!found(&harbor, Provider::S3, 0) && !found(&acme, Provider::Gcs, 0));
        cache.evict(&acme, Provider::Gcs);
        assert!(found(&acme, Provider::S3, 0));
        cache.evict(&acme, Provider::S3);
        assert!(!found(&acme, Provider::S3, 0));
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let cache = ConfigCache::new(Duration::from_secs(10));
        let acme = tenant("acme");
        let changes: [fn(&ConfigCache); 2] = [
            |cache| cache.evict(&tenant("acme"), Provider::S3),
            |cache| assert_eq!(cache.flush(), 0),
        ];
        for change in changes {
            let epoch = cache.epoch();
            change(&cache);
            cache.keep(&acme, Provider::S3, connector(), (UnixMicros(0), epoch));
            assert!(cache.find(&acme, Provider::S3, UnixMicros(0)).is_err());
        }
    }

    #[test]
    fn one_too_many_takes_the_place_of_the_oldest() {
        let cache = ConfigCache::new(Duration::from_secs(1 << 20));
        for n in 0..=ENTRIES_MAX {
            let at = (UnixMicros(n as i64), cache.epoch());
            cache.keep(&tenant(&n.to_string()), Provider::S3, connector(), at);
        }
        let now = UnixMicros(ENTRIES_MAX as i64);
        assert!(cache.find(&tenant("0"), Provider::S3, now).is_err());
        assert!(cache.find(&tenant("1"), Provider::S3, now).is_ok());
        assert_eq!(cache.flush(), ENTRIES_MAX);
    }
}
