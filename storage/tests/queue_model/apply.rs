//! Operations, on the queue and on its model.

use std::time::Duration;

use activekg_storage::queue::{self, Caps, DeadFilter, Leased, NewJob, Outcome, Purge, Rank};
use activekg_storage::{JobId, ReadTx, StorageError, Store, StoreOptions, UnixMicros, WriteTx};
use proptest::prelude::*;
use tempfile::TempDir;

use super::model::{Meant, Model, New};
use super::{Chosen, DEF, Item, Op, tenant};

/// The real queue, and the leases that were handed out beside the model's numbers for them.
pub(super) struct Real {
    pub(super) store: Store,
    leases: Vec<(Leased, u64)>,
    /// Where the store is, unless it is in memory.
    dir: Option<TempDir>,
}

impl Real {
    pub(super) fn new(store: Store, dir: Option<TempDir>) -> Real {
        Real { store, leases: Vec::new(), dir }
    }

    pub(super) fn write<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut WriteTx<'_>) -> Result<T, StorageError> + Send + 'static,
    ) -> T {
        self.store.write_blocking(change).unwrap().value
    }

    pub(super) fn read<T>(&self, look: impl FnOnce(&ReadTx) -> Result<T, StorageError>) -> T {
        look(&self.store.read().unwrap()).unwrap()
    }

    /// One of the latest leases, whether it still holds or not.
    fn pick(&self, which: usize) -> Option<(Leased, u64)> {
        self.leases.iter().rev().nth(which).cloned()
    }
}

fn job(new: &New, now: UnixMicros) -> NewJob {
    NewJob {
        id: new.id,
        tenant: tenant(new.tenant),
        key: new.key.map(|key| key.to_string()),
        payload: new.payload.clone(),
        rank: new.rank.map(|rank| Rank::of_number(rank.into())),
        run_at: Some(now.plus(Duration::from_micros(new.delay.into()))),
        now,
    }
}

fn new(item: Item, number: u128) -> New {
    let Item { tenant, key, rank, delay } = item;
    let payload = number.to_le_bytes().to_vec();
    New { id: JobId::from_u128(number), tenant, key, payload, rank, delay }
}

fn filter(chosen: Chosen, now: i64) -> (DeadFilter, Meant) {
    let (owner, key, reason, age) = chosen;
    let filter = DeadFilter {
        tenant: owner.map(tenant),
        id: None,
        key: key.map(|key| key.to_string()),
        reason,
        died_before: age.map(|age| UnixMicros(now - i64::from(age))),
    };
    (filter, Meant { tenant: owner, key, reason, age })
}

pub(super) fn apply(
    real: &mut Real,
    model: &mut Model,
    op: Op,
    number: u128,
) -> Result<(), TestCaseError> {
    let now = UnixMicros(model.now);
    match op {
        Op::Enqueue(item) => {
            let new = new(item, number);
            let job = job(&new, now);
            let done = real.write(move |tx| queue::enqueue(tx, &DEF, job));
            prop_assert_eq!(done, model.enqueue(new));
        }
        Op::EnqueueAll(items) => {
            let all = items.into_iter().zip(number..).map(|(item, number)| new(item, number));
            let all: Vec<New> = all.collect();
            let jobs = all.iter().map(|new| job(new, now)).collect();
            let done = real.write(move |tx| queue::enqueue_all(tx, &DEF, jobs));
            let expected: Vec<_> = all.into_iter().map(|new| model.enqueue(new)).collect();
            prop_assert_eq!(done, expected);
        }
        Op::Admit { queue, tenant: each, tenants } => {
            let caps = Caps { queue, tenant: each };
            let names: Vec<_> = tenants.iter().map(|number| tenant(*number)).collect();
            let done = real.read(|tx| queue::admit(tx, &DEF, caps, names.iter()));
            prop_assert_eq!(done, model.admits(caps, &tenants));
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
                prop_assert_eq!(job.enqueued_at.0, same.enqueued_at);
                prop_assert_eq!(job.until().0, model.now + 10);
                real.leases.push((job, lease));
            }
        }
        Op::AckAll { n } => {
            let latest: Vec<_> = real.leases.iter().rev().take(n).cloned().collect();
            let leased: Vec<_> = latest.iter().map(|(job, _)| job.clone()).collect();
            let done = real.write(move |tx| queue::ack_all(tx, &DEF, &leased));
            let expected = latest.into_iter().map(|(job, lease)| {
                let holds = model.holds(job.id, lease);
                if holds {
                    model.ack(job.id);
                }
                holds
            });
            prop_assert_eq!(done, expected.collect::<Vec<_>>());
        }
        Op::Ack { which }
        | Op::Fail { which, .. }
        | Op::Bury { which, .. }
        | Op::Release { which }
        | Op::Hold { which }
        | Op::PutOff { which, .. }
        | Op::Renew { which } => {
            if let Some((job, lease)) = real.pick(which) {
                settle(real, model, op, job, lease)?;
            }
        }
        Op::Remove { tenant: owner, key } => {
            let done = real
                .write(move |tx| queue::remove_by_key(tx, &DEF, &tenant(owner), &key.to_string()));
            let live = model.live(owner, key);
            prop_assert_eq!(done, live.is_some());
            model.jobs.retain(|id, _| Some(*id) != live);
        }
        Op::Advance { by } => model.now += i64::from(by),
        Op::Restart => {
            let done = real.write(move |tx| queue::recover(tx, &DEF, now));
            let done: Vec<_> = done.into_iter().map(|item| (item.id, item.dead)).collect();
            let expected = model.restart();
            prop_assert_eq!(done.len(), expected.len());
            prop_assert_eq!(
                done.into_iter().collect::<std::collections::BTreeMap<_, _>>(),
                expected
            );
        }
        Op::Reopen => {
            if let Some(dir) = &real.dir {
                real.store.close();
                real.store = Store::open(dir.path(), StoreOptions::default()).unwrap();
            }
        }
        Op::Abort(items) => {
            let all = items.into_iter().zip(number..).map(|(item, number)| new(item, number));
            let jobs = all.map(|new| job(&new, now)).collect();
            let done = real.store.write_blocking(move |tx| abort(tx, jobs, now));
            prop_assert!(matches!(done, Err(StorageError::Closed)));
        }
        other => manage(real, model, other)?,
    }
    Ok(())
}

/// Does a little of everything, and fails.
fn abort(tx: &mut WriteTx<'_>, jobs: Vec<NewJob>, now: UnixMicros) -> Result<(), StorageError> {
    queue::enqueue_all(tx, &DEF, jobs)?;
    let leased = queue::lease(tx, &DEF, now, 9)?;
    for (number, leased) in leased.iter().enumerate() {
        match number % 5 {
            0 => drop(queue::ack(tx, &DEF, leased)?),
            1 => drop(queue::fail(tx, &DEF, leased, "aborted", now, 0.5)?),
            2 => drop(queue::hold(tx, &DEF, leased, "aborted")?),
            3 => drop(queue::release(tx, &DEF, leased)?),
            _ => drop(queue::bury(tx, &DEF, leased, queue::DeadReason::Parse, "aborted", now)?),
        }
    }
    queue::pause(tx, &DEF)?;
    queue::clear_dead(tx, &DEF, &DeadFilter::default(), 0, 9)?;
    queue::purge(tx, &DEF, &tenant(0), (Purge::default(), |_| None), 9)?;
    Err(StorageError::Closed)
}

/// What ends or extends a lease.
fn settle(
    real: &mut Real,
    model: &mut Model,
    op: Op,
    job: Leased,
    lease: u64,
) -> Result<(), TestCaseError> {
    let now = UnixMicros(model.now);
    let (id, holds) = (job.id, model.holds(job.id, lease));
    match op {
        Op::Ack { .. } => {
            prop_assert_eq!(real.write(move |tx| queue::ack(tx, &DEF, &job)), holds);
            if holds {
                model.ack(id);
            }
        }
        Op::Fail { jitter, .. } => {
            let done = real.write(move |tx| queue::fail(tx, &DEF, &job, "failed", now, jitter));
            let expected = if holds { model.fail(id, jitter) } else { Outcome::LeaseLost };
            prop_assert_eq!(done, expected);
        }
        Op::Bury { reason, .. } => {
            let done = real.write(move |tx| queue::bury(tx, &DEF, &job, reason, "buried", now));
            let expected = if holds { model.bury(id, reason) } else { Outcome::LeaseLost };
            prop_assert_eq!(done, expected);
        }
        Op::Release { .. } => {
            prop_assert_eq!(real.write(move |tx| queue::release(tx, &DEF, &job)), holds);
            if holds {
                model.release(id);
            }
        }
        Op::Hold { .. } => {
            prop_assert_eq!(real.write(move |tx| queue::hold(tx, &DEF, &job, "one")), holds);
            if holds {
                model.hold(id, "one");
            }
        }
        Op::PutOff { by, .. } => {
            let until = UnixMicros(model.now + i64::from(by));
            prop_assert_eq!(real.write(move |tx| queue::put_off(tx, &DEF, &job, until)), holds);
            if holds {
                model.put_off(id, until.0);
            }
        }
        Op::Renew { .. } => {
            let done = real.write(move |tx| queue::renew(tx, &DEF, &job, now));
            prop_assert_eq!(done.is_some(), holds);
            if let Some(renewed) = done {
                prop_assert_eq!(renewed.until().0, model.now + 10);
                real.leases.push((renewed, model.renew(id)));
            }
        }
        other => prop_assert!(false, "{other:?} settles nothing"),
    }
    Ok(())
}

/// What an operator does.
fn manage(real: &mut Real, model: &mut Model, op: Op) -> Result<(), TestCaseError> {
    let now = UnixMicros(model.now);
    match op {
        Op::HoldReady { tenant: owner, limit } => {
            let done =
                real.write(move |tx| queue::hold_ready(tx, &DEF, &tenant(owner), "all", limit));
            prop_assert_eq!(done, model.hold_ready(owner, limit));
        }
        Op::ReleaseHeld { tenant: owner, limit } => {
            let done = real.write(move |tx| queue::release_held(tx, &DEF, &tenant(owner), limit));
            prop_assert_eq!(done, model.release_held(owner, limit));
        }
        Op::Pause => {
            let done = real.write(|tx| queue::pause(tx, &DEF));
            prop_assert_eq!(done, !std::mem::replace(&mut model.paused, true));
        }
        Op::Resume => {
            let done = real.write(|tx| queue::resume(tx, &DEF));
            prop_assert_eq!(done, std::mem::replace(&mut model.paused, false));
        }
        Op::Purge { tenant: owner, age, keep, limit } => {
            let enqueued_before = age.map(|age| UnixMicros(model.now - i64::from(age)));
            let purge = Purge { enqueued_before, keep_newest: keep };
            let done = real
                .write(move |tx| queue::purge(tx, &DEF, &tenant(owner), (purge, |_| None), limit));
            prop_assert_eq!(done, model.purge(owner, purge, limit));
        }
        Op::Replay { chosen, limit } => {
            let (filter, meant) = filter(chosen, model.now);
            let done = real.write(move |tx| queue::replay_dead(tx, &DEF, &filter, limit, now));
            prop_assert_eq!(done, model.replay(meant, limit));
        }
        Op::Clear { chosen, keep, limit } => {
            let (filter, meant) = filter(chosen, model.now);
            let done = real.write(move |tx| queue::clear_dead(tx, &DEF, &filter, keep, limit));
            prop_assert_eq!(done, model.clear(meant, keep, limit));
        }
        Op::ClearOf { tenant: owner, keys } => {
            let named = keys.iter().map(u8::to_string).collect();
            let done = real.write(move |tx| queue::clear_dead_of(tx, &DEF, &tenant(owner), &named));
            let of = |model: &Model| {
                let mine = Meant { tenant: Some(owner), ..Meant::default() };
                let keyed = |id: &JobId| model.jobs[id].key.is_some_and(|key| keys.contains(&key));
                model.dead(mine).into_iter().filter(keyed).collect::<Vec<_>>()
            };
            let gone = of(model);
            prop_assert_eq!(done, gone.len());
            model.jobs.retain(|id, _| !gone.contains(id));
        }
        other => prop_assert!(false, "{other:?} is not known"),
    }
    Ok(())
}
