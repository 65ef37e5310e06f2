//! So many tokens a day.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use activekg_storage::tables::embedding::{SPENT, SpentRecord};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable as _, StorageError, Store, WriteTx};
use tracing::warn;

use crate::embedding::batcher::lock;

const DAY: Duration = Duration::from_secs(86_400);

/// Counts tokens by the UTC day: in memory, and from [`Budget::keep_in`] on in a store as well, so
/// that a restart does not begin the day anew.
pub(super) struct Budget {
    /// Tokens a day; none is no limit.
    limit: Option<u64>,
    spent: Arc<Mutex<Spent>>,
    kept: OnceLock<Kept>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Spent {
    day: i64,
    tokens: u64,
}

/// Where the count is kept.
struct Kept {
    store: Arc<Store>,
    service: String,
}

impl Budget {
    pub(super) fn new(limit: Option<u64>) -> Self {
        Self { limit, spent: Arc::default(), kept: OnceLock::new() }
    }

    /// Goes on from what `store` knows of `service`, and keeps the count there from now on. What
    /// was counted before this is added. Blocks for one read; once is enough. Nothing is kept
    /// where there is no limit.
    pub(super) fn keep_in(&self, store: Arc<Store>, service: &str) -> Result<(), StorageError> {
        if self.limit.is_none() {
            return Ok(());
        }
        let key = (service.to_owned(),);
        let before = store.read()?.get(&SPENT, &key)?;
        if self.kept.set(Kept { store, service: key.0 }).is_ok()
            && let Some(SpentRecord { day, tokens }) = before
        {
            let mut spent = lock(&self.spent);
            let since = spent.on(day).tokens;
            if spent.day <= day {
                *spent = Spent { day, tokens: tokens.saturating_add(since) };
            }
        }
        Ok(())
    }

    /// Writes down how far the count is. A store that takes no writes is none of the caller's
    /// concern: the count goes on in memory.
    pub(super) async fn write_down(&self) {
        let Some(Kept { store, service }) = self.kept.get() else { return };
        let (spent, key) = (Arc::clone(&self.spent), (service.clone(),));
        let written = store.write(move |tx: &mut WriteTx<'_>| -> Result<(), StorageError> {
            // Read here, so that of two writes the later one has the larger count.
            let Spent { day, tokens } = *lock(&spent);
            tx.put(&SPENT, &key, &SpentRecord { day, tokens })
        });
        if let Err(error) = written.await {
            warn!("could not write down the tokens of the day: {error}");
        }
    }

    /// Sets `tokens` aside; the limit, if they do not fit into what is left of the day.
    pub(super) fn reserve(&self, tokens: u64, now: UnixMicros) -> Result<(), u64> {
        let mut spent = lock(&self.spent);
        *spent = spent.on(day(now));
        let after = spent.tokens.saturating_add(tokens);
        if let Some(limit) = self.limit
            && after > limit
        {
            return Err(limit);
        }
        spent.tokens = after;
        Ok(())
    }

    /// Puts what was really used in the place of what was set aside.
    pub(super) fn correct(&self, reserved: u64, used: u64, now: UnixMicros) {
        let mut spent = lock(&self.spent);
        *spent = spent.on(day(now));
        spent.tokens = spent.tokens.saturating_sub(reserved).saturating_add(used);
    }
}

impl Spent {
    /// The same on `day`: nothing yet, if that is another one.
    fn on(self, day: i64) -> Self {
        if self.day == day { self } else { Self { day, tokens: 0 } }
    }
}

fn day(now: UnixMicros) -> i64 {
    let micros = i64::try_from(DAY.as_micros()).unwrap_or(i64::MAX);
    now.get().div_euclid(micros)
}

#[cfg(test)]
mod tests {
    use activekg_storage::StoreOptions;

    use super::*;

    #[test]
    fn a_day_has_its_tokens_and_the_next_has_them_again() {
        let budget = Budget::new(Some(100));
        let morning = UnixMicros(0);
        assert_eq!(budget.reserve(60, morning), Ok(()));
        assert_eq!(budget.reserve(60, morning), Err(100));
        budget.correct(60, 30, morning);
        assert_eq!(budget.reserve(60, morning), Ok(()));
        budget.correct(60, 90, morning);
        assert_eq!(budget.reserve(0, morning), Err(100), "more was used than set aside");
        assert_eq!(budget.reserve(100, morning.plus(DAY)), Ok(()));
        assert_eq!(budget.reserve(1, morning.plus(DAY)), Err(100));
        assert_eq!(Budget::new(None).reserve(u64::MAX, morning), Ok(()));
    }

    #[tokio::test]
    async fn a_restart_goes_on_with_the_day() {
        let dir = tempfile::tempdir().unwrap();
        let open = || Arc::new(Store::open(dir.path(), StoreOptions::default()).unwrap());
        let (morning, store) = (UnixMicros(0).plus(DAY), open());
        let budget = Budget::new(Some(100));
        assert_eq!(budget.reserve(10, morning), Ok(()), "before the store is open");
        budget.keep_in(Arc::clone(&store), "openai").unwrap();
        assert_eq!(budget.reserve(50, morning), Ok(()));
        budget.write_down().await;
        store.close();
        drop((budget, store));

        let store = open();
        let other = Budget::new(Some(100));
        other.keep_in(Arc::clone(&store), "ollama").unwrap();
        assert_eq!(other.reserve(100, morning), Ok(()), "another service's");
        let budget = Budget::new(Some(100));
        budget.keep_in(Arc::clone(&store), "openai").unwrap();
        assert_eq!(budget.reserve(41, morning), Err(100));
        assert_eq!(budget.reserve(40, morning), Ok(()));
        assert_eq!(budget.reserve(100, morning.plus(DAY)), Ok(()));
        store.close();
    }
}
