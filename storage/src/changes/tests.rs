use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::ids::{NodeId, TenantId};
use crate::store::{Store, testing};
use crate::time::UnixMicros;

const EVERYTHING: Retention = Retention { keep_min: 1, keep_max: u64::MAX };

fn change(number: u64) -> Change {
    Change {
        at: UnixMicros(1),
        tenant: TenantId::shared(),
        kind: ChangeKind::NodeText(NodeId::from_u128(u128::from(number))),
    }
}

fn log(store: &Store, number: u64) -> Seq {
    testing::write(store, move |tx| tx.log(change(number)))
}

fn numbers(store: &Store, after: u64, limit: usize) -> Option<Vec<u64>> {
    match tail(&store.read().unwrap(), Seq(after), limit).unwrap() {
        Tail::Entries(entries) => Some(entries.iter().map(|(seq, _)| seq.get()).collect()),
        Tail::Missed => None,
    }
}

#[test]
fn followers_page_through_and_learn_what_they_missed() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    assert_eq!(store.last_seq(), Seq(0));
    assert_eq!(numbers(&store, 0, 9), Some(vec![]));
    for number in 1..=5 {
        assert_eq!(log(&store, number), Seq(number));
    }
    assert_eq!(numbers(&store, 2, 2), Some(vec![3, 4]));
    assert_eq!(numbers(&store, 5, 2), Some(vec![]));
    assert_eq!(numbers(&store, 6, 2), None, "a position of another store");

    let retention = Retention { keep_min: 2, ..EVERYTHING };
    assert_eq!(testing::write(&store, move |tx| trim(tx, retention)), 3);
    assert_eq!(numbers(&store, 3, 9), Some(vec![4, 5]));
    assert_eq!(numbers(&store, 2, 9), None);
    // The newest stays whatever is asked for.
    let nothing = Retention { keep_min: 0, keep_max: 0 };
    assert_eq!(testing::write(&store, move |tx| trim(tx, nothing)), 1);
    drop(store);

    let store = testing::open(dir.path());
    assert_eq!(store.last_seq(), Seq(5));
    assert_eq!(log(&store, 6), Seq(6));
}

#[test]
fn a_failed_change_leaves_no_entry_and_no_gap() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    let failed = store.write_blocking(|tx| {
        tx.log(change(1))?;
        Err::<(), _>(StorageError::Closed)
    });
    assert!(matches!(failed, Err(StorageError::Closed)));
    assert_eq!(store.last_seq(), Seq(0));
    assert_eq!(log(&store, 2), Seq(1));
}

#[derive(Debug, Clone)]
enum Op {
    Log(u8),
    Checkpoint(u8, u8),
    Retire(u8),
    Trim { keep_min: u8, keep_max: u8 },
    Reopen,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (1u8..5).prop_map(Op::Log),
        4 => (0u8..3, 0u8..40).prop_map(|(who, seq)| Op::Checkpoint(who, seq)),
        1 => (0u8..3).prop_map(Op::Retire),
        3 => (0u8..6, 0u8..20).prop_map(|(keep_min, keep_max)| Op::Trim { keep_min, keep_max }),
        1 => Just(Op::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // The log against a list of numbers and a map of positions.
    #[test]
    fn the_log_agrees_with_a_model(ops in prop::collection::vec(op(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = testing::open(dir.path());
        let (mut newest, mut oldest) = (0u64, 1u64);
        let mut known: BTreeMap<String, u64> = BTreeMap::new();
        for op in ops {
            match op {
                Op::Log(n) => for _ in 0..n {
                    newest += 1;
                    prop_assert_eq!(log(&store, newest), Seq(newest));
                },
                Op::Checkpoint(who, seq) => {
                    let (name, seq) = (who.to_string(), u64::from(seq));
                    let position = known.entry(name.clone()).or_insert(seq);
                    *position = seq.max(*position);
                    testing::write(&store, move |tx| checkpoint(tx, &name, Seq(seq), UnixMicros(7)));
                }
                Op::Retire(who) => {
                    let name = who.to_string();
                    let was_there = known.remove(&name).is_some();
                    prop_assert_eq!(testing::write(&store, move |tx| retire(tx, &name)), was_there);
                }
                Op::Trim { keep_min, keep_max } => {
                    let retention =
                        Retention { keep_min: keep_min.into(), keep_max: keep_max.into() };
                    let n = testing::write(&store, move |tx| trim(tx, retention)) as u64;
                    let done = known.values().copied().min().unwrap_or(newest);
                    let keep = |at_least: u8| newest.saturating_sub(u64::from(at_least).max(1));
                    let gone = done.min(keep(keep_min)).max(keep(keep_max));
                    prop_assert_eq!(n, (gone + 1).saturating_sub(oldest));
                    oldest += n;
                }
                Op::Reopen => {
                    drop(store);
                    store = testing::open(dir.path());
                }
            }
            prop_assert_eq!(store.last_seq(), Seq(newest));
            for after in 0..=newest + 1 {
                let kept = (oldest.saturating_sub(1)..=newest).contains(&after);
                let expected = kept.then(|| (after + 1..=newest).take(3).collect::<Vec<u64>>());
                prop_assert_eq!(numbers(&store, after, 3), expected, "after {}", after);
            }
            let seen = consumers(&store.read().unwrap()).unwrap();
            let seen: BTreeMap<String, u64> =
                seen.into_iter().map(|consumer| (consumer.name, consumer.seq.get())).collect();
            prop_assert_eq!(&seen, &known);
        }
    }
}
