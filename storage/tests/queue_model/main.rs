//! The durable queue against a model made of plain maps.
//!
//! `ACTIVEKG_QUEUE_CASES` sets how many random workloads are tried.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod model;

use std::time::Duration;

use activekg_storage::queue::{self, CRASHES_MAX, Depths, Leased, NewJob, Outcome, QueueDef};
use activekg_storage::{JobId, StorageError, Store, StoreOptions, TenantId, UnixMicros, WriteTx};
use proptest::prelude::*;
use redb::backends::InMemoryBackend;

use model::{Job, Model, State};

const DEF: QueueDef = QueueDef {
    name: "model",
    lease: Duration::from_micros(10),
    max_attempts: 3,
    backoff_base: Duration::from_micros(4),
    backoff_cap: Duration::from_micros(12),
};

/// A queue beside it, which nothing done to [`DEF`] may touch.
const OTHER: QueueDef = QueueDef { name: "model.other", ..DEF };

#[derive(Debug, Clone)]
enum Op {
    Enqueue {
        tenant: usize,
        key: Option<u8>,
        delay: u8,
    },
    Lease {
        n: usize,
    },
    Ack {
        which: usize,
    },
    Fail {
        which: usize,
        jitter: f64,
    },
    Bury {
        which: usize,
    },
    Release {
        which: usize,
    },
    Renew {
        which: usize,
    },
    Remove {
        tenant: usize,
        key: u8,
    },
    Advance {
        by: u8,
    },
    Restart,
    Replay {
        limit: usize,
    },
    Clear {
        limit: usize,
    },
    /// A change that enqueues and leases and then fails.
    Abort {
        tenant: usize,
    },
}

fn op() -> impl Strategy<Value = Op> {
    let tenant = 0..TENANTS.len();
    let which = 0usize..6;
    prop_oneof![
        8 => (tenant.clone(), prop::option::of(0u8..3), prop_oneof![Just(0u8), 0u8..20])
            .prop_map(|(tenant, key, delay)| Op::Enqueue { tenant, key, delay }),
        6 => (0usize..4).prop_map(|n| Op::Lease { n }),
        3 => which.clone().prop_map(|which| Op::Ack { which }),
        3 => (which.clone(), 0.0..=1.0f64).prop_map(|(which, jitter)| Op::Fail { which, jitter }),
        1 => which.clone().prop_map(|which| Op::Bury { which }),
        2 => which.clone().prop_map(|which| Op::Release { which }),
        1 => which.prop_map(|which| Op::Renew { which }),
        1 => (tenant.clone(), 0u8..3).prop_map(|(tenant, key)| Op::Remove { tenant, key }),
        4 => (0u8..15).prop_map(|by| Op::Advance { by }),
        1 => Just(Op::Restart),
        1 => (0usize..4).prop_map(|limit| Op::Replay { limit }),
        1 => (0usize..3).prop_map(|limit| Op::Clear { limit }),
        1 => tenant.prop_map(|tenant| Op::Abort { tenant }),
    ]
}

const TENANTS: [&str; 3] = ["a", "b", "c"];

fn tenant(number: usize) -> TenantId {
    TenantId::new(TENANTS[number]).unwrap()
}

/// The real queue, and the leases that were handed out beside the model's numbers for them.
struct Real {
    store: Store,
    leases: Vec<(Leased, u64)>,
}

impl Real {
    fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut WriteTx<'_>) -> Result<T, StorageError> + Send + 'static,
    ) -> T {
        self.store.write_blocking(change).unwrap().value
    }

    /// One of the latest leases, whether it still holds or not.
    fn pick(&self, which: usize) -> Option<(Leased, u64)> {
        self.leases.iter().rev().nth(which).cloned()
    }
}

fn apply(real: &mut Real, model: &mut Model, op: Op, number: u128) -> Result<(), TestCaseError> {
    let now = UnixMicros(model.now);
    match op {
        Op::Enqueue { tenant: owner, key, delay } => {
            let id = JobId::from_u128(number);
            let payload = number.to_le_bytes().to_vec();
            let job = NewJob {
                id,
                tenant: tenant(owner),
                key: key.map(|key| key.to_string()),
                payload: payload.clone(),
                run_at: Some(now.plus(Duration::from_micros(u64::from(delay)))),
                now,
            };
            let done = real.write(move |tx| queue::enqueue(tx, &DEF, job));
            prop_assert_eq!(done, model.enqueue(id, owner, key, payload, delay));
        }
        Op::Lease { n } => {
            let leased = real.write(move |tx| queue::lease(tx, &DEF, now, n));
            let expected = model.lease(n);
            let seen: Vec<_> = leased.iter().map(|job| (job.id, job.attempt)).collect();
            let wanted: Vec<_> = expected.iter().map(|(id, attempt, _)| (*id, *attempt)).collect();
            prop_assert_eq!(seen, wanted);
            for (job, (id, _, lease)) in leased.into_iter().zip(expected) {
                let same = &model.jobs[&id];
                prop_assert_eq!(&job.payload, &same.payload);
                prop_assert_eq!(&job.tenant, &tenant(same.tenant));
                prop_assert_eq!(&job.key, &same.key.map(|key| key.to_string()));
                prop_assert_eq!(job.crashes, same.crashes);
                real.leases.push((job, lease));
            }
        }
        Op::Ack { which } => {
            let Some((job, lease)) = real.pick(which) else {
                return Ok(());
            };
            let id = job.id;
            let done = real.write(move |tx| queue::ack(tx, &DEF, &job));
            prop_assert_eq!(done, model.holds(id, lease));
            if done && model.jobs[&id].successor.is_some() {
                model.give_back(id);
            } else if done {
                model.jobs.remove(&id);
            }
        }
        Op::Fail { which, jitter } => {
            let Some((job, lease)) = real.pick(which) else {
                return Ok(());
            };
            let id = job.id;
            let done = real.write(move |tx| queue::fail(tx, &DEF, &job, "failed", now, jitter));
            let expected = match model.holds(id, lease) {
                true => model.fail(id, Some(jitter)),
                false => Outcome::LeaseLost,
            };
            prop_assert_eq!(done, expected);
        }
        Op::Bury { which } => {
            let Some((job, lease)) = real.pick(which) else {
                return Ok(());
            };
            let id = job.id;
            let done = real.write(move |tx| queue::bury(tx, &DEF, &job, "failed", now));
            let expected = match model.holds(id, lease) {
                true => model.fail(id, None),
                false => Outcome::LeaseLost,
            };
            prop_assert_eq!(done, expected);
        }
        Op::Release { which } => {
            let Some((job, lease)) = real.pick(which) else {
                return Ok(());
            };
            let id = job.id;
            let done = real.write(move |tx| queue::release(tx, &DEF, &job));
            prop_assert_eq!(done, model.holds(id, lease));
            if done {
                model.jobs.get_mut(&id).unwrap().attempts -= 1;
                model.give_back(id);
            }
        }
        Op::Renew { which } => {
            let Some((job, number)) = real.pick(which) else {
                return Ok(());
            };
            let id = job.id;
            let done = real.write(move |tx| queue::renew(tx, &DEF, &job, now));
            prop_assert_eq!(done, model.holds(id, number));
            if done {
                let until = model.now + 10;
                let lease = number;
                model.jobs.get_mut(&id).unwrap().state = State::Leased { until, lease };
            }
        }
        Op::Remove { tenant: owner, key } => {
            let done = real
                .write(move |tx| queue::remove_by_key(tx, &DEF, &tenant(owner), &key.to_string()));
            let live = model.live(owner, key);
            prop_assert_eq!(done, live.is_some());
            if let Some(id) = live {
                model.jobs.remove(&id);
            }
        }
        Op::Advance { by } => model.now += i64::from(by),
        Op::Restart => {
            real.write(move |tx| queue::recover(tx, &DEF, now));
            model.restart();
        }
        Op::Replay { limit } => {
            let done = real.write(move |tx| queue::replay_dead(tx, &DEF, limit));
            prop_assert_eq!(done, model.replay(limit));
        }
        Op::Clear { limit } => {
            let done = real.write(move |tx| queue::clear_dead(tx, &DEF, limit));
            let gone: Vec<_> = model.dead().into_iter().take(limit).collect();
            prop_assert_eq!(done, gone.len());
            for id in gone {
                model.jobs.remove(&id);
            }
        }
        Op::Abort { tenant: owner } => {
            let job = NewJob {
                id: JobId::from_u128(number),
                tenant: tenant(owner),
                key: Some("0".to_owned()),
                payload: Vec::new(),
                run_at: None,
                now,
            };
            let done = real.store.write_blocking(move |tx| {
                queue::enqueue(tx, &DEF, job)?;
                queue::lease(tx, &DEF, now, 9)?;
                Err::<(), _>(StorageError::Closed)
            });
            prop_assert!(matches!(done, Err(StorageError::Closed)));
        }
    }
    Ok(())
}

fn compare(real: &Real, model: &Model) -> Result<(), TestCaseError> {
    let tx = real.store.read().unwrap();
    let depths = queue::depths(&tx, &DEF).unwrap();
    prop_assert_eq!(depths, model.depths());
    prop_assert_eq!(queue::pending(&tx, &DEF).unwrap(), depths.live());
    for owner in 0..TENANTS.len() {
        let live = |job: &&Job| job.tenant == owner && !matches!(job.state, State::Dead(_));
        let expected = model.jobs.values().filter(live).count() as u64;
        let pending = queue::tenant_pending(&tx, &DEF, &tenant(owner)).unwrap();
        prop_assert_eq!(pending, expected);
    }
    prop_assert_eq!(queue::next_due(&tx, &DEF).unwrap(), model.next_due());
    let dead = queue::dead(&tx, &DEF, usize::MAX).unwrap();
    let ids: Vec<_> = dead.iter().map(|job| job.id).collect();
    prop_assert_eq!(&ids, &model.dead());
    for job in dead {
        prop_assert_eq!(&job.error, &model.error[&job.id]);
        prop_assert_eq!(job.attempts, model.jobs[&job.id].attempts);
    }
    let other = queue::depths(&tx, &OTHER).unwrap();
    prop_assert_eq!(other, Depths { ready: 1, ..Depths::default() });
    Ok(())
}

fn cases() -> u32 {
    let cases = std::env::var("ACTIVEKG_QUEUE_CASES");
    cases.map_or(256, |text| text.parse().expect("ACTIVEKG_QUEUE_CASES is a number"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(cases()))]

    #[test]
    fn queue_agrees_with_model(ops in prop::collection::vec(op(), 1..80)) {
        let store = Store::open_backend(InMemoryBackend::new(), StoreOptions::default()).unwrap();
        let mut real = Real { store, leases: Vec::new() };
        real.write(|tx| {
            let job = NewJob {
                id: JobId::from_u128(1 << 100),
                tenant: tenant(0),
                key: Some("0".to_owned()),
                payload: Vec::new(),
                run_at: None,
                now: UnixMicros(0),
            };
            queue::enqueue(tx, &OTHER, job)
        });
        let mut model = Model::default();
        for (number, op) in ops.into_iter().enumerate() {
            apply(&mut real, &mut model, op, number as u128)?;
            compare(&real, &model)?;
        }
    }
}

/// Twenty ends of the process with the same item leased are enough.
#[test]
fn an_item_that_ends_the_process_again_and_again_is_dead() {
    let store = Store::open_backend(InMemoryBackend::new(), StoreOptions::default()).unwrap();
    let real = Real { store, leases: Vec::new() };
    let now = UnixMicros(0);
    let job = NewJob {
        id: JobId::from_u128(1),
        tenant: tenant(0),
        key: None,
        payload: Vec::new(),
        run_at: None,
        now,
    };
    real.write(move |tx| queue::enqueue(tx, &DEF, job));
    for crashes in 0..CRASHES_MAX {
        let leased = real.write(move |tx| queue::lease(tx, &DEF, now, 1));
        assert_eq!((leased[0].attempt, leased[0].crashes), (1, crashes));
        assert_eq!(real.write(move |tx| queue::recover(tx, &DEF, now)).len(), 1);
    }
    let tx = real.store.read().unwrap();
    let dead = queue::dead(&tx, &DEF, 10).unwrap();
    assert_eq!(dead[0].error, "crash_loop");
    assert_eq!(queue::pending(&tx, &DEF).unwrap(), 0);
}
