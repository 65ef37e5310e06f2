//! What the model of a queue leaves out: payloads that say when they came, and shares.

use super::*;
use crate::store::{Store, testing};

const QUEUE: QueueDef = QueueDef::named("work");
const OTHER: QueueDef = QueueDef::named("other work");

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

/// A job whose payload is the second at which it came.
fn job(of: &str, key: &str, second: u8) -> NewJob {
    NewJob {
        id: JobId::from_u128(u128::from(second)),
        tenant: tenant(of),
        key: Some(key.to_owned()),
        payload: vec![second],
        rank: None,
        run_at: None,
        now: at(second),
    }
}

fn at(second: u8) -> UnixMicros {
    UnixMicros(i64::from(second) * 1_000_000)
}

fn came_at(payload: &[u8]) -> Option<UnixMicros> {
    payload.first().copied().map(at)
}

fn waiting(store: &Store, of: &str) -> Vec<String> {
    let items = peek(&store.read().unwrap(), &QUEUE, &tenant(of), End::Oldest, 99).unwrap();
    items.into_iter().filter_map(|item| item.key).collect()
}

#[test]
fn what_was_renewed_is_as_old_as_its_renewal() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    testing::write(&store, |tx| {
        for (key, second) in [("a", 1), ("b", 2), ("c", 3), ("d", 4), ("a", 9)] {
            enqueue(tx, &QUEUE, job("acme", key, second))?;
        }
        hold_ready(tx, &QUEUE, &tenant("acme"), "no_config", 2)?;
        // The held one is renewed once more, and only then.
        enqueue(tx, &QUEUE, job("acme", "a", 10))?;
        Ok(())
    });
    let removed = testing::write(&store, |tx| {
        let before = (at(10), came_at as CameAt);
        assert!(!remove_waiting(tx, &QUEUE, &tenant("acme"), "a", before)?);
        assert!(remove_waiting(tx, &QUEUE, &tenant("acme"), "b", before)?);
        let old = Purge { enqueued_before: Some(at(10)), keep_newest: 0 };
        // Cut into steps, each of which goes past what stays.
        let first = purge(tx, &QUEUE, &tenant("acme"), (old, came_at), 1)?;
        let second = purge(tx, &QUEUE, &tenant("acme"), (old, came_at), 1)?;
        let last = purge(tx, &QUEUE, &tenant("acme"), (old, came_at), 1)?;
        Ok([first, second, last].map(|step| (step.keys, step.remaining)))
    });
    let key = |key: &str| vec![key.to_owned()];
    assert_eq!(removed, [(key("c"), 2), (key("d"), 1), (Vec::new(), 1)]);
    assert_eq!(waiting(&store, "acme"), ["a"]);
}

#[test]
fn the_newest_are_kept_though_older_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    let purged = testing::write(&store, |tx| {
        for (key, second) in [("a", 1), ("b", 2), ("c", 3), ("a", 9)] {
            enqueue(tx, &QUEUE, job("acme", key, second))?;
        }
        let old = Purge { enqueued_before: Some(at(9)), keep_newest: 1 };
        purge(tx, &QUEUE, &tenant("acme"), (old, came_at), 9)
    });
    assert_eq!(purged.keys, ["b"]);
    assert_eq!(waiting(&store, "acme"), ["a", "c"]);
}

#[test]
fn what_may_have_ended_the_process_goes_alone_though_it_was_put_off() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    let leased = testing::write(&store, |tx| {
        for (key, second) in [("a", 1), ("b", 2)] {
            enqueue(tx, &QUEUE, job("acme", key, second))?;
        }
        lease(tx, &QUEUE, at(3), 1)?;
        recover(tx, &QUEUE, at(4))?;
        let alone = lease(tx, &QUEUE, at(5), 9)?;
        assert!(put_off(tx, &QUEUE, &alone[0], at(9))?);
        let others = lease(tx, &QUEUE, at(6), 9)?;
        assert!(ack(tx, &QUEUE, &others[0])?);
        enqueue(tx, &QUEUE, job("acme", "c", 7))?;
        let again = lease(tx, &QUEUE, at(10), 9)?;
        let keys = |leased: &[Leased]| leased.iter().map(|item| item.key.clone()).collect();
        Ok::<[Vec<_>; 3], _>([keys(&alone), keys(&others), keys(&again)])
    });
    let only = |key: &str| vec![Some(key.to_owned())];
    assert_eq!(leased, [only("a"), only("b"), only("a")]);
}

#[test]
fn nobody_has_more_leased_than_its_share() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    let queues = [&QUEUE, &OTHER];
    let leased = testing::write(&store, move |tx| {
        for n in 0..9 {
            enqueue(tx, &QUEUE, job("acme", &n.to_string(), n))?;
            enqueue(tx, &OTHER, job("acme", &n.to_string(), n))?;
        }
        let share = Share { queues: &queues, tenant_max: 4 };
        let mut first = lease_shared(tx, &QUEUE, at(20), 3, share)?;
        first.extend(lease_shared(tx, &OTHER, at(20), 3, share)?);
        assert_eq!(lease_shared(tx, &QUEUE, at(20), 3, share)?, []);
        assert_eq!(lease_shared(tx, &OTHER, at(20), 3, share)?, []);
        enqueue(tx, &QUEUE, job("harbor", "h", 20))?;
        enqueue(tx, &QUEUE, job("harbor", "i", 20))?;
        let others = lease_shared(tx, &QUEUE, at(20), 9, share)?;
        assert!(others.iter().all(|leased| leased.tenant == tenant("harbor")));
        assert!(ack(tx, &QUEUE, &first[0])?);
        let freed = lease_shared(tx, &QUEUE, at(20), 9, share)?;
        Ok([first.len(), others.len(), freed.len()])
    });
    assert_eq!(leased, [4, 2, 1]);
}
