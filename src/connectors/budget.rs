//! Memory that all workers share.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// What one permit stands for, in bytes.
const UNIT: u64 = 4 << 10;

/// So many bytes, to be in use at the same time. A clone shares them.
#[derive(Clone)]
pub(super) struct Budget {
    units: u32,
    free: Arc<Semaphore>,
}

/// Part of a budget, for as long as it is held.
pub(super) struct Room(
    #[expect(dead_code, reason = "held to be dropped")] Option<OwnedSemaphorePermit>,
);

impl Budget {
    /// A budget of `bytes`, rounded up to 4 KiB, at least that and at most 16 TiB.
    pub(super) fn new(bytes: u64) -> Self {
        let units = units(bytes);
        Self { units, free: Arc::new(Semaphore::new(units as usize)) }
    }

    /// Room for so many bytes, as soon as there is. In the order of asking, so that many small
    /// things do not keep a large one waiting; one that is larger than all of it has all of it, and
    /// is alone.
    pub(super) async fn room_for(&self, bytes: u64) -> Room {
        // The semaphore is never closed.
        Room(self.free.clone().acquire_many_owned(units(bytes).min(self.units)).await.ok())
    }
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX).clamp(1, u32::MAX >> 3)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn no_more_is_given_than_there_is() {
        let budget = Budget::new(100 << 20);
        let room = |bytes: u64| budget.room_for(bytes).now_or_never();
        let (first, second) = (room(60 << 20).expect("room"), room(40 << 20).expect("room"));
        assert!(budget.clone().room_for(1).now_or_never().is_none());
        drop(second);
        let small = room(0).expect("room");
        drop((first, small));
        let huge = room(1 << 50).expect("all of it");
        assert!(room(0).is_none());
        drop(huge);
        assert!(room(100 << 20).is_some());
    }

    #[test]
    fn what_is_large_gets_its_turn() {
        let budget = Budget::new(1 << 20);
        let first = budget.room_for(1).now_or_never().expect("room");
        let mut large = Box::pin(budget.room_for(1 << 20));
        assert!((&mut large).now_or_never().is_none());
        assert!(budget.room_for(1).now_or_never().is_none(), "it waits behind");
        drop(first);
        assert!(large.now_or_never().is_some());
    }
}
