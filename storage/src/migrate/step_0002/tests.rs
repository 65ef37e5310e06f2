//! Queues as format 1 wrote them, and what is in them after the step.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::ids::Seq;
use crate::queue::{self, DeadFilter, Depths, End, QueueDef};
use crate::read::Bytes;
use crate::store::testing;
use crate::{Store, open, tables};

const FIRST: QueueDef =
    QueueDef { lease: Duration::from_micros(10), ..QueueDef::named("step.first") };
const SECOND: QueueDef = QueueDef { name: "step.second", ..FIRST };
const DEFS: [QueueDef; 2] = [FIRST, SECOND];
const TENANTS: [&str; 2] = ["", "büro"];

/// After everything that was ever delayed or leased.
const LATE: UnixMicros = UnixMicros(1_000);

/// An item of format 1 and where it is.
#[derive(Debug, Clone)]
struct Given {
    tenant: usize,
    queue: usize,
    id: JobId,
    job: OldJob,
}

fn tenant(number: usize) -> TenantId {
    TenantId::stored(TENANTS[number]).unwrap()
}

fn place() -> impl Strategy<Value = OldPlace> {
    let at = || (0i64..100).prop_map(UnixMicros);
    prop_oneof![
        3 => Just(OldPlace::Ready),
        2 => at().prop_map(|run_at| OldPlace::Delayed { run_at }),
        2 => at().prop_map(|until| OldPlace::Leased { until, token: 0 }),
        2 => at().prop_map(|at| OldPlace::Dead { at }),
    ]
}

fn given_item() -> impl Strategy<Value = Given> {
    let payload = || prop::collection::vec(any::<u8>(), 0..20);
    let error = prop::option::of(prop::sample::select(vec!["crash_loop", "the lease lapsed", "x"]));
    (
        (0..TENANTS.len(), 0..DEFS.len()),
        (prop::option::of("[ab]{0,1}"), payload(), prop::option::of(payload())),
        (1u32..4, 0u32..3, 0i64..100, error),
        place(),
    )
        .prop_map(|((tenant, queue), (key, payload, successor), counts, place)| {
            let (attempts, crashes, enqueued_at, error) = counts;
            let leased = matches!(place, OldPlace::Leased { .. });
            let successor = successor.filter(|_| leased && key.is_some()).map(OldPayload);
            let job = OldJob {
                key,
                payload,
                successor,
                order: 0,
                attempts,
                crashes,
                enqueued_at: UnixMicros(enqueued_at),
                error: error.map(str::to_owned),
                place,
            };
            Given { tenant, queue, id: JobId::from_u128(0), job }
        })
}

/// Items that one store may hold: numbered, and with one live item a key.
fn given_items() -> impl Strategy<Value = Vec<Given>> {
    prop::collection::vec(given_item(), 0..30).prop_shuffle().prop_map(|all| {
        let mut keys = BTreeSet::new();
        let mut number = 0;
        let mut kept = Vec::new();
        for mut item in all {
            let live = !matches!(item.job.place, OldPlace::Dead { .. });
            if let Some(key) = item.job.key.clone().filter(|_| live)
                && !keys.insert((item.tenant, item.queue, key))
            {
                continue;
            }
            number += 1;
            item.job.order = number;
            if let OldPlace::Leased { token, .. } = &mut item.job.place {
                number += 1;
                *token = number;
            }
            // Names sort in another way than numbers.
            item.id = JobId::from_u128(u128::from(number).reverse_bits());
            kept.push(item);
        }
        kept
    })
}

fn name(queue: usize) -> QueueName {
    QueueName::of(&DEFS[queue])
}

/// A store of format 1 with these items.
fn write(path: &Path, items: &[Given]) {
    let database = redb::Database::create(path).unwrap();
    let transaction = database.begin_write().unwrap();
    for table in TABLES {
        let definition = redb::TableDefinition::<Bytes, Bytes>::new(table);
        let mut rows = transaction.open_table(definition).unwrap();
        let mut put = |key: Vec<u8>, value: Vec<u8>| {
            rows.insert(key.as_slice(), value.as_slice()).unwrap();
        };
        if table == JOBS {
            for Given { tenant: owner, queue, id, job } in items {
                let key = keys::to_bytes(&(tenant(*owner), name(*queue), *id));
                let value = codec::encode(&key, job).unwrap();
                put(key, value);
            }
        } else if table == QUEUES {
            for queue in 0..DEFS.len() {
                let number = items.iter().map(|item| item.job.order + 1).max().unwrap_or(0);
                let state = OldQueue { number, turn: Some(tenant(0)), ..OldQueue::default() };
                let key = keys::to_bytes(&(name(queue),));
                let value = codec::encode(&key, &state).unwrap();
                put(key, value);
            }
        } else {
            put(b"index".to_vec(), b"that is not looked at".to_vec());
        }
    }
    let mut tx = WriteTx::new(&transaction, Seq(0));
    open::note_format(&mut tx, 1).unwrap();
    tx.keep();
    tx.finish().unwrap();
    transaction.commit().unwrap();
}

/// What there is of one queue and tenant, in the order of the items' numbers.
fn mine(items: &[Given], queue: usize, tenant: usize) -> Vec<Given> {
    let mine = |item: &&Given| item.queue == queue && item.tenant == tenant;
    let mut mine: Vec<_> = items.iter().filter(mine).cloned().collect();
    mine.sort_by_key(|item| item.job.order);
    mine
}

fn check_waiting(store: &Store, items: &[Given]) -> Result<(), TestCaseError> {
    let tx = store.read().unwrap();
    for (number, def) in DEFS.iter().enumerate() {
        let mut total = Depths::default();
        for owner in 0..TENANTS.len() {
            let stats = queue::tenant_stats(&tx, def, &tenant(owner), UnixMicros(-1)).unwrap();
            let mut expected = Depths::default();
            let found = queue::peek(&tx, def, &tenant(owner), End::Oldest, 99).unwrap();
            let mut found = found.into_iter();
            for Given { id, job, .. } in mine(items, number, owner) {
                let (state, run_at, over) = match job.place {
                    OldPlace::Ready => (State::Ready, None, job.attempts),
                    OldPlace::Delayed { run_at } => (State::Delayed, Some(run_at), job.attempts),
                    OldPlace::Leased { .. } => (State::Leased, None, job.attempts - 1),
                    OldPlace::Dead { .. } => (State::Dead, None, job.attempts),
                };
                *expected.of(state) += 1;
                *total.of(state) += 1;
                if state == State::Dead {
                    continue;
                }
                let item = found.next().unwrap();
                prop_assert_eq!((item.id, item.state, item.run_at), (id, state, run_at));
                prop_assert_eq!((item.key, item.payload), (job.key, job.payload));
                prop_assert_eq!((item.attempts, item.error), (over, job.error));
                prop_assert_eq!(item.enqueued_at, job.enqueued_at);
            }
            prop_assert_eq!(found.next(), None);
            prop_assert_eq!(stats.depths, expected);
        }
        prop_assert_eq!(queue::depths(&tx, def).unwrap(), total);
    }
    Ok(())
}

fn check_dead(store: &Store, items: &[Given]) -> Result<(), TestCaseError> {
    let tx = store.read().unwrap();
    for (number, def) in DEFS.iter().enumerate() {
        let dead = queue::dead(&tx, def, &DeadFilter::default(), End::Oldest, 99).unwrap();
        let mut expected: Vec<_> = items
            .iter()
            .filter(|item| item.queue == number)
            .filter_map(|item| match item.job.place {
                OldPlace::Dead { at } => Some((at, item.job.order, item)),
                _ => None,
            })
            .collect();
        expected.sort_by_key(|(at, order, _)| (*at, *order));
        prop_assert_eq!(dead.len(), expected.len());
        for (found, (at, _, Given { tenant: owner, id, job, .. })) in dead.iter().zip(expected) {
            prop_assert_eq!((found.id, &found.tenant), (*id, &tenant(*owner)));
            prop_assert_eq!((&found.key, &found.payload), (&job.key, &job.payload));
            prop_assert_eq!((found.attempts, found.died_at), (job.attempts, at));
            prop_assert_eq!(&found.error, &job.error.clone().unwrap_or_default());
            let mine = DeadFilter { tenant: Some(tenant(*owner)), ..DeadFilter::default() };
            let by_key = DeadFilter { key: found.key.clone(), ..mine };
            let listed = queue::dead(&tx, def, &by_key, End::Oldest, 99).unwrap();
            prop_assert!(listed.contains(found));
        }
    }
    Ok(())
}

/// Works everything off; a tenant's items come in the order of their numbers.
fn drain(store: &Store, items: &[Given]) -> Result<(), TestCaseError> {
    for (number, def) in DEFS.into_iter().enumerate() {
        let seen = testing::write(store, move |tx| {
            queue::recover(tx, &def, LATE)?;
            let mut seen = Vec::new();
            while let Some(leased) = queue::lease(tx, &def, LATE, 1)?.pop() {
                assert!(queue::ack(tx, &def, &leased)?);
                seen.push(leased);
            }
            Ok(seen)
        });
        for owner in 0..TENANTS.len() {
            let live = mine(items, number, owner).into_iter();
            let live = live.filter(|item| !matches!(item.job.place, OldPlace::Dead { .. }));
            // Those that may have ended the process go first, those with something newer last.
            let mut expected: Vec<_> = live
                .map(|Given { id, job, .. }| {
                    let suspect = match job.place {
                        OldPlace::Leased { .. } => true,
                        OldPlace::Delayed { .. } => job.crashes > 0,
                        OldPlace::Ready | OldPlace::Dead { .. } => false,
                    };
                    let group = match (&job.successor, suspect) {
                        (Some(_), _) => 2,
                        (None, true) => 0,
                        (None, false) => 1,
                    };
                    let payload = job.successor.map_or(job.payload, |OldPayload(newer)| newer);
                    (group, id, payload)
                })
                .collect();
            expected.sort_by_key(|(group, ..)| *group);
            // What follows a leased item was numbered in the order of the old rows, by name.
            let newer = expected.partition_point(|(group, ..)| *group < 2);
            expected[newer..].sort_by_key(|(_, id, _)| *id);
            let found = seen.iter().filter(|leased| leased.tenant == tenant(owner));
            let found: Vec<_> = found.map(|job| (job.id, job.payload.clone())).collect();
            let expected: Vec<_> = expected.into_iter().map(|(_, id, p)| (id, p)).collect();
            prop_assert_eq!(found, expected);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn nothing_of_a_queue_is_lost(items in given_items()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(open::STORE_FILE);
        write(&path, &items);
        let store = testing::open(dir.path());
        let tx = store.read().unwrap();
        for table in tables::all() {
            for row in tx.rows(table).unwrap() {
                let (key, value) = row.unwrap();
                prop_assert!(table.check(&key, &value).is_ok());
            }
        }
        drop(tx);
        check_waiting(&store, &items)?;
        check_dead(&store, &items)?;
        // Once more, now that it is of the present format.
        store.close();
        let store = testing::open(dir.path());
        check_waiting(&store, &items)?;
        drain(&store, &items)?;
        store.close();
        let database = redb::Database::open(&path).unwrap();
        let transaction = database.begin_write().unwrap();
        let names: Vec<_> = transaction.list_tables().unwrap().collect();
        for table in names {
            let name = redb::TableHandle::name(&table);
            prop_assert!(tables::find(name).is_some(), "{} is still there", name);
        }
    }
}
