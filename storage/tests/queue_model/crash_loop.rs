//! Items that end the process, and those that were leased beside them.

use activekg_storage::queue::{self, CRASHES_MAX, DeadFilter, DeadReason, End, NewJob};
use activekg_storage::{JobId, Store, StoreOptions, UnixMicros};
use redb::backends::InMemoryBackend;

use super::apply::Real;
use super::{DEF, tenant};

/// Twenty ends of the process with the same item leased are enough, and whoever was leased beside
/// it at the first is blamed no more.
#[test]
fn an_item_that_ends_the_process_again_and_again_is_dead() {
    let store = Store::open_backend(InMemoryBackend::new(), StoreOptions::default()).unwrap();
    let real = Real::new(store, None);
    let now = UnixMicros(0);
    let job = |number| NewJob {
        id: JobId::from_u128(number),
        tenant: tenant(0),
        key: None,
        payload: Vec::new(),
        rank: None,
        run_at: None,
        now,
    };
    let jobs = (1..=3).map(job).collect();
    real.write(move |tx| queue::enqueue_all(tx, &DEF, jobs));
    assert_eq!(real.write(move |tx| queue::lease(tx, &DEF, now, 2)).len(), 2);
    assert_eq!(real.write(move |tx| queue::recover(tx, &DEF, now)).len(), 2);
    for crashes in 1..CRASHES_MAX {
        let leased = real.write(move |tx| queue::lease(tx, &DEF, now, 9));
        let [leased] = &leased[..] else { panic!("{} items were leased", leased.len()) };
        assert_eq!((leased.id, leased.attempt), (JobId::from_u128(1), 1));
        assert_eq!(leased.crashes, crashes);
        assert!(real.write(move |tx| queue::lease(tx, &DEF, now, 9)).is_empty());
        assert_eq!(real.write(move |tx| queue::recover(tx, &DEF, now)).len(), 1);
    }
    let dead = real.read(|tx| queue::dead(tx, &DEF, &DeadFilter::default(), End::Oldest, 10));
    assert_eq!((dead[0].reason, dead[0].error.as_str()), (DeadReason::CrashLoop, "crash_loop"));

    let leased = real.write(move |tx| queue::lease(tx, &DEF, now, 9));
    assert_eq!(leased.len(), 1);
    assert_eq!((leased[0].id, leased[0].crashes), (JobId::from_u128(2), 1));
    let done = leased[0].clone();
    assert!(real.write(move |tx| queue::ack(tx, &DEF, &done)));
    let leased = real.write(move |tx| queue::lease(tx, &DEF, now, 9));
    assert_eq!((leased[0].id, leased[0].crashes), (JobId::from_u128(3), 0));
}
