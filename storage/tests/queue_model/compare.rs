//! Whether the queue and its model say the same.

use activekg_storage::queue::{self, DeadFilter, Depths, End};
use activekg_storage::{Store, UnixMicros};
use proptest::prelude::*;

use super::model::{Meant, Model, State};
use super::{DEF, OTHER, TENANTS, tenant};

pub(super) fn compare(store: &Store, model: &Model) -> Result<(), TestCaseError> {
    let tx = store.read().unwrap();
    let now = UnixMicros(model.now);
    let depths = queue::depths(&tx, &DEF).unwrap();
    prop_assert_eq!(depths, model.depths(None, false));
    prop_assert_eq!(queue::pending(&tx, &DEF).unwrap(), depths.live());
    let stats = queue::stats(&tx, &DEF, now).unwrap();
    prop_assert_eq!(stats.depths, model.depths(None, true));
    prop_assert_eq!(stats.oldest, model.oldest(None));
    prop_assert_eq!((stats.paused, stats.evicted), (model.paused, model.evicted));
    prop_assert_eq!(queue::next_due(&tx, &DEF).unwrap(), model.next_due());

    let mut by_tenant = queue::stats_by_tenant(&tx, &DEF, now).unwrap().into_iter();
    for number in 0..TENANTS.len() {
        let (owner, mine) = (tenant(number), Some(number));
        let stats = queue::tenant_stats(&tx, &DEF, &owner, now).unwrap();
        prop_assert_eq!(stats.depths, model.depths(mine, true));
        prop_assert_eq!(stats.oldest, model.oldest(mine));
        let pending = queue::tenant_pending(&tx, &DEF, &owner).unwrap();
        prop_assert_eq!(pending, stats.depths.live());
        if stats.depths != Depths::default() {
            prop_assert_eq!(by_tenant.next(), Some((owner, stats)));
        }
        peek(&tx, model, number)?;
    }
    prop_assert_eq!(by_tenant.next(), None);

    let dead = queue::dead(&tx, &DEF, &DeadFilter::default(), End::Oldest, usize::MAX).unwrap();
    let ids: Vec<_> = dead.iter().map(|job| job.id).collect();
    prop_assert_eq!(&ids, &model.dead(Meant::default()));
    for number in [None, Some(0)] {
        let filter = DeadFilter { tenant: number.map(tenant), ..DeadFilter::default() };
        let newest = queue::dead(&tx, &DEF, &filter, End::Newest, 2).unwrap();
        let newest: Vec<_> = newest.iter().map(|job| job.id).collect();
        let mut expected = model.dead(Meant { tenant: number, ..Meant::default() });
        expected.reverse();
        expected.truncate(2);
        prop_assert_eq!(newest, expected);
    }
    for found in dead {
        let job = &model.jobs[&found.id];
        prop_assert_eq!(&found.tenant, &tenant(job.tenant));
        prop_assert_eq!(&found.key, &job.key.map(|key| key.to_string()));
        prop_assert_eq!(&found.payload, &job.payload);
        prop_assert_eq!(Some(&found.error), job.error.as_ref());
        prop_assert_eq!(found.attempts, job.attempts);
        prop_assert_eq!(found.enqueued_at.0, job.enqueued_at);
        prop_assert_eq!(found.first_failed_at.map(|at| at.0), job.first_failed_at);
        let state = State::Dead { at: found.died_at.0, reason: found.reason };
        prop_assert_eq!(&state, &job.state);
    }
    let other = queue::depths(&tx, &OTHER).unwrap();
    prop_assert_eq!(other, Depths { ready: 1, ..Depths::default() });
    Ok(())
}

/// What waits and runs of a tenant, from both ends.
fn peek(tx: &activekg_storage::ReadTx, model: &Model, number: usize) -> Result<(), TestCaseError> {
    let mine = model.sorted(|job| (job.tenant == number && job.is_live()).then_some(()));
    let all = queue::peek(tx, &DEF, &tenant(number), End::Oldest, usize::MAX).unwrap();
    let ids: Vec<_> = all.iter().map(|found| found.id).collect();
    prop_assert_eq!(&ids, &mine);
    for found in all {
        let job = &model.jobs[&found.id];
        prop_assert_eq!(&found.key, &job.key.map(|key| key.to_string()));
        prop_assert_eq!(&found.payload, &job.payload);
        prop_assert_eq!(found.attempts, job.attempts);
        prop_assert_eq!(found.enqueued_at.0, job.enqueued_at);
        prop_assert_eq!(&found.error, &job.error);
        let state = match &job.state {
            State::Ready => (queue::State::Ready, None, None),
            State::Delayed(at) => (queue::State::Delayed, Some(UnixMicros(*at)), None),
            State::Leased { .. } => (queue::State::Leased, None, None),
            State::Held(reason) => (queue::State::Held, None, Some(reason.clone())),
            State::Dead { .. } => (queue::State::Dead, None, None),
        };
        prop_assert_eq!((found.state, found.run_at, found.held), state);
        if let Some(key) = &found.key {
            prop_assert!(queue::is_live(tx, &DEF, &tenant(number), key).unwrap());
        }
    }
    let newest = queue::peek(tx, &DEF, &tenant(number), End::Newest, 2).unwrap();
    let newest: Vec<_> = newest.into_iter().map(|found| found.id).collect();
    let expected: Vec<_> = mine.into_iter().rev().take(2).collect();
    prop_assert_eq!(newest, expected);
    Ok(())
}
