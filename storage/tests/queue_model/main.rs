//! The durable queue against a model made of one map.
//!
//! `ACTIVEKG_QUEUE_CASES` sets how many random workloads are tried.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod apply;
mod compare;
mod crash_loop;
mod model;

use std::time::Duration;

use activekg_storage::queue::{self, DeadReason, NewJob, QueueDef};
use activekg_storage::{JobId, Store, StoreOptions, TenantId, UnixMicros};
use proptest::prelude::*;
use redb::backends::InMemoryBackend;

use apply::{Real, apply};
use compare::compare;
use model::Model;

const DEF: QueueDef = QueueDef {
    name: "model",
    lease: Duration::from_micros(10),
    max_attempts: 3,
    backoff_base: Duration::from_micros(4),
    backoff_cap: Duration::from_micros(12),
    dead_max: 4,
    dead_age: Duration::from_micros(60),
};

/// A queue beside it, which nothing done to [`DEF`] may touch.
const OTHER: QueueDef = QueueDef { name: "model.other", ..DEF };

/// An item to enqueue.
#[derive(Debug, Clone)]
struct Item {
    tenant: usize,
    key: Option<u8>,
    rank: Option<u8>,
    delay: u8,
}

/// Dead items by what they are chosen by.
type Chosen = (Option<usize>, Option<u8>, Option<DeadReason>, Option<u8>);

#[derive(Debug, Clone)]
enum Op {
    Enqueue(Item),
    EnqueueAll(Vec<Item>),
    Admit {
        queue: Option<u64>,
        tenant: Option<u64>,
        tenants: Vec<usize>,
    },
    Lease {
        n: usize,
    },
    Ack {
        which: usize,
    },
    AckAll {
        n: usize,
    },
    Fail {
        which: usize,
        jitter: f64,
    },
    Bury {
        which: usize,
        reason: DeadReason,
    },
    Release {
        which: usize,
    },
    Hold {
        which: usize,
    },
    PutOff {
        which: usize,
        by: u8,
    },
    Renew {
        which: usize,
    },
    Remove {
        tenant: usize,
        key: u8,
    },
    HoldReady {
        tenant: usize,
        limit: usize,
    },
    ReleaseHeld {
        tenant: usize,
        limit: usize,
    },
    Pause,
    Resume,
    Purge {
        tenant: usize,
        age: Option<u8>,
        keep: u64,
        limit: usize,
    },
    Advance {
        by: u8,
    },
    Restart,
    Reopen,
    Replay {
        chosen: Chosen,
        limit: usize,
    },
    Clear {
        chosen: Chosen,
        keep: usize,
        limit: usize,
    },
    ClearOf {
        tenant: usize,
        keys: Vec<u8>,
    },
    /// A change that does much and then fails.
    Abort(Vec<Item>),
}

fn item() -> impl Strategy<Value = Item> {
    let tenant = 0..TENANTS.len();
    let delay = prop_oneof![3 => Just(0u8), 1 => 0u8..20];
    (tenant, prop::option::of(0u8..3), prop::option::of(0u8..4), delay)
        .prop_map(|(tenant, key, rank, delay)| Item { tenant, key, rank, delay })
}

fn reason() -> impl Strategy<Value = DeadReason> {
    prop::sample::select(&DeadReason::ALL[..])
}

fn chosen() -> impl Strategy<Value = Chosen> {
    let tenant = 0..TENANTS.len();
    let rarely = |strategy| prop::option::weighted(0.3, strategy);
    (
        prop::option::weighted(0.4, tenant),
        rarely(0u8..3),
        prop::option::weighted(0.2, reason()),
        rarely(0u8..20),
    )
}

fn op() -> impl Strategy<Value = Op> {
    let tenant = || 0..TENANTS.len();
    let which = || 0usize..6;
    let some = || 0usize..4;
    let items = || prop::collection::vec(item(), 0..6);
    let working = prop_oneof![
        8 => item().prop_map(Op::Enqueue),
        3 => items().prop_map(Op::EnqueueAll),
        8 => (0usize..5).prop_map(|n| Op::Lease { n }),
        4 => which().prop_map(|which| Op::Ack { which }),
        2 => (0usize..6).prop_map(|n| Op::AckAll { n }),
        4 => (which(), 0.0..=1.0f64).prop_map(|(which, jitter)| Op::Fail { which, jitter }),
        2 => (which(), reason()).prop_map(|(which, reason)| Op::Bury { which, reason }),
        2 => which().prop_map(|which| Op::Release { which }),
        2 => which().prop_map(|which| Op::Hold { which }),
        2 => (which(), 0u8..15).prop_map(|(which, by)| Op::PutOff { which, by }),
        2 => which().prop_map(|which| Op::Renew { which }),
        5 => (0u8..15).prop_map(|by| Op::Advance { by }),
        2 => Just(Op::Restart),
        2 => items().prop_map(Op::Abort),
    ];
    let caps = (prop::option::of(0u64..8), prop::option::of(0u64..5));
    let purge = (tenant(), prop::option::of(0u8..20), 0u64..3, 0usize..9);
    let clear = (chosen(), 0usize..3, some());
    let keys = prop::collection::vec(0u8..3, 0..3);
    let managing = prop_oneof![
        2 => (tenant(), 0u8..3).prop_map(|(tenant, key)| Op::Remove { tenant, key }),
        1 => (caps, prop::collection::vec(tenant(), 0..4)).prop_map(
            |((queue, tenant), tenants)| Op::Admit { queue, tenant, tenants }),
        1 => (tenant(), some()).prop_map(|(tenant, limit)| Op::HoldReady { tenant, limit }),
        2 => (tenant(), some()).prop_map(|(tenant, limit)| Op::ReleaseHeld { tenant, limit }),
        1 => Just(Op::Pause),
        2 => Just(Op::Resume),
        1 => purge.prop_map(|(tenant, age, keep, limit)| Op::Purge { tenant, age, keep, limit }),
        2 => (chosen(), some()).prop_map(|(chosen, limit)| Op::Replay { chosen, limit }),
        1 => clear.prop_map(|(chosen, keep, limit)| Op::Clear { chosen, keep, limit }),
        1 => (tenant(), keys).prop_map(|(tenant, keys)| Op::ClearOf { tenant, keys }),
        1 => Just(Op::Reopen),
    ];
    prop_oneof![4 => working, 1 => managing]
}

const TENANTS: [&str; 3] = ["a", "b", "c"];

fn tenant(number: usize) -> TenantId {
    TenantId::new(TENANTS[number]).unwrap()
}

fn cases() -> u32 {
    let cases = std::env::var("ACTIVEKG_QUEUE_CASES");
    cases.map_or(256, |text| text.parse().expect("ACTIVEKG_QUEUE_CASES is a number"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn queue_agrees_with_model(
        ops in prop::collection::vec(op(), 1..120),
        on_disk in prop::bool::weighted(0.1),
    ) {
        let dir = on_disk.then(|| tempfile::tempdir().unwrap());
        let store = match &dir {
            Some(dir) => Store::open(dir.path(), StoreOptions::default()).unwrap(),
            None => {
                let memory = InMemoryBackend::new();
                Store::open_backend(memory, StoreOptions::default()).unwrap()
            }
        };
        let mut real = Real::new(store, dir);
        real.write(|tx| {
            let job = NewJob {
                id: JobId::from_u128(1 << 100),
                tenant: tenant(0),
                key: Some("0".to_owned()),
                payload: Vec::new(),
                rank: None,
                run_at: None,
                now: UnixMicros(0),
            };
            queue::enqueue(tx, &OTHER, job)
        });
        let mut model = Model::default();
        for (number, op) in ops.into_iter().enumerate() {
            apply(&mut real, &mut model, op, number as u128 * 100)?;
            compare(&real.store, &model)?;
        }
    }
}
