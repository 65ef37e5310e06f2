//! A queue made of one map. Slow and obvious: every question is answered by looking at everything.

mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use activekg_storage::queue::{
    CRASHES_MAX, Caps, DeadReason, Enqueued, Outcome, Purge, Purged, Rank, Refused, Replayed,
};
use activekg_storage::{JobId, UnixMicros};

use super::{DEF, tenant};

/// An item as the model sees it.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) tenant: usize,
    pub(crate) key: Option<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) rank: Option<Rank>,
    pub(crate) successor: Option<Successor>,
    /// Attempts that are over.
    pub(crate) attempts: u32,
    pub(crate) crashes: u32,
    /// Goes first and alone.
    pub(crate) suspect: bool,
    pub(crate) enqueued_at: i64,
    pub(crate) first_failed_at: Option<i64>,
    pub(crate) error: Option<String>,
    pub(crate) state: State,
    /// Place among the items of its tenant.
    pub(crate) order: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Successor {
    payload: Vec<u8>,
    rank: Option<Rank>,
    order: u64,
    at: i64,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) enum State {
    Ready,
    Delayed(i64),
    Leased { until: i64, lease: u64, alone: bool },
    Held(String),
    Dead { at: i64, reason: DeadReason },
}

/// A new item.
#[derive(Debug, Clone)]
pub(crate) struct New {
    pub(crate) id: JobId,
    pub(crate) tenant: usize,
    pub(crate) key: Option<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) rank: Option<u8>,
    pub(crate) delay: u8,
}

/// Which dead items are meant.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Meant {
    pub(crate) tenant: Option<usize>,
    pub(crate) key: Option<u8>,
    pub(crate) reason: Option<DeadReason>,
    /// Dead for at least so long, and longer.
    pub(crate) age: Option<u8>,
}

#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) now: i64,
    pub(crate) count: u64,
    pub(crate) leases: u64,
    pub(crate) turn: Option<usize>,
    pub(crate) paused: bool,
    pub(crate) evicted: u64,
}

impl Job {
    pub(crate) fn is_live(&self) -> bool {
        !matches!(self.state, State::Dead { .. })
    }

    fn is_waiting(&self) -> bool {
        self.is_live() && !matches!(self.state, State::Leased { .. })
    }

    fn begin_afresh(&mut self, payload: Vec<u8>, rank: Option<Rank>) {
        (self.payload, self.rank) = (payload, rank);
        (self.attempts, self.crashes) = (0, 0);
        (self.first_failed_at, self.error) = (None, None);
    }

    fn failed(&mut self, error: &str, now: i64) {
        self.attempts += 1;
        self.first_failed_at.get_or_insert(now);
        self.error = Some(error.to_owned());
    }
}

impl Model {
    fn count(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    fn job(&mut self, id: JobId) -> &mut Job {
        self.jobs.get_mut(&id).unwrap()
    }

    /// The ids of the items that fit, by what is asked of them and then by order.
    pub(crate) fn sorted<K: Ord>(&self, by: impl Fn(&Job) -> Option<K>) -> Vec<JobId> {
        let found = self.jobs.iter().filter_map(|(id, job)| Some((by(job)?, job.order, *id)));
        let mut found: Vec<_> = found.collect();
        found.sort();
        found.into_iter().map(|(_, _, id)| id).collect()
    }

    pub(crate) fn live(&self, tenant: usize, key: u8) -> Option<JobId> {
        let alike = |job: &Job| job.is_live() && job.tenant == tenant && job.key == Some(key);
        self.jobs.iter().find(|(_, job)| alike(job)).map(|(id, _)| *id)
    }

    pub(crate) fn enqueue(&mut self, new: New) -> Enqueued {
        let New { id, tenant, key, payload, rank, delay } = new;
        let rank = rank.map(|rank| Rank::of_number(rank.into()));
        let run_at = (delay > 0).then(|| self.now + i64::from(delay));
        let now = self.now;
        let Some(live) = key.and_then(|key| self.live(tenant, key)) else {
            let job = Job {
                tenant,
                key,
                payload,
                rank,
                successor: None,
                attempts: 0,
                crashes: 0,
                suspect: false,
                enqueued_at: now,
                first_failed_at: None,
                error: None,
                state: run_at.map_or(State::Ready, State::Delayed),
                order: self.count(),
            };
            self.jobs.insert(id, job);
            return Enqueued::New(id);
        };
        let next = self.count();
        let job = self.job(live);
        let present = job.successor.as_ref().map_or(&job.rank, |successor| &successor.rank);
        if let (Some(rank), Some(present)) = (&rank, present)
            && rank < present
        {
            return Enqueued::Superseded(live);
        }
        if let State::Leased { .. } = job.state {
            let (order, at) = job.successor.as_ref().map_or((next, now), |s| (s.order, s.at));
            job.successor = Some(Successor { payload, rank, order, at });
            return Enqueued::Existing(live);
        }
        job.begin_afresh(payload, rank);
        if let State::Delayed(then) = job.state {
            job.state = run_at.map_or(State::Ready, |run_at| State::Delayed(run_at.min(then)));
        }
        Enqueued::Existing(live)
    }

    pub(crate) fn admits(&self, caps: Caps, tenants: &[usize]) -> Result<(), Refused> {
        let live = |owner: Option<usize>| {
            let mine = |job: &&Job| job.is_live() && owner.is_none_or(|owner| job.tenant == owner);
            self.jobs.values().filter(mine).count() as u64
        };
        if caps.queue.is_some_and(|cap| live(None) + tenants.len() as u64 > cap) {
            return Err(Refused::Queue);
        }
        for owner in BTreeSet::from_iter(tenants) {
            let more = tenants.iter().filter(|tenant| *tenant == owner).count() as u64;
            if caps.tenant.is_some_and(|cap| live(Some(*owner)) + more > cap) {
                return Err(Refused::Tenant(tenant(*owner)));
            }
        }
        Ok(())
    }

    /// Ends a lease in favour of what came meanwhile; false if nothing did.
    fn succeed(&mut self, id: JobId, to: State) -> bool {
        let job = self.job(id);
        let Some(Successor { payload, rank, order, at }) = job.successor.take() else {
            return false;
        };
        job.begin_afresh(payload, rank);
        (job.order, job.enqueued_at, job.state, job.suspect) = (order, at, to, false);
        true
    }

    fn die(&mut self, id: JobId, reason: DeadReason) {
        let at = self.now;
        self.job(id).state = State::Dead { at, reason };
        let dead = self.dead(Meant::default());
        let excess = dead.len().saturating_sub(DEF.dead_max as usize);
        self.evict(&dead[..excess]);
    }

    fn evict(&mut self, dead: &[JobId]) {
        self.jobs.retain(|id, _| !dead.contains(id));
        self.evicted += dead.len() as u64;
    }

    fn promote(&mut self) {
        let now = self.now;
        let lapsed = self.sorted(|job| match job.state {
            State::Leased { until, .. } if until <= now => Some(until),
            _ => None,
        });
        for id in lapsed {
            if self.succeed(id, State::Ready) {
                continue;
            }
            let job = self.job(id);
            job.failed("the lease lapsed", now);
            if job.attempts >= DEF.max_attempts {
                self.die(id, DeadReason::Exhausted);
            } else {
                job.state = State::Ready;
            }
        }
        for job in self.jobs.values_mut() {
            if matches!(job.state, State::Delayed(run_at) if run_at <= now) {
                (job.state, job.suspect) = (State::Ready, job.crashes > 0);
            }
        }
        let too_old = now - DEF.dead_age.as_micros() as i64;
        let old = |job: &Job| matches!(job.state, State::Dead { at, .. } if at < too_old);
        let old = self.sorted(|job| old(job).then_some(()));
        self.evict(&old);
    }

    /// What `lease` hands out: (id, attempt, number of the lease).
    pub(crate) fn lease(&mut self, n: usize) -> Vec<(JobId, u32, u64)> {
        self.promote();
        let alone = |job: &Job| matches!(job.state, State::Leased { alone: true, .. });
        if n == 0 || self.paused || self.jobs.values().any(alone) {
            return Vec::new();
        }
        let suspect = |job: &Job| (job.suspect && job.state == State::Ready).then_some(());
        if let Some(first) = self.sorted(suspect).first() {
            let leased = |job: &Job| matches!(job.state, State::Leased { .. });
            if self.jobs.values().any(leased) {
                return Vec::new();
            }
            return vec![self.grant(*first, true)];
        }
        let mut leased = Vec::new();
        while leased.len() < n {
            let ready = |job: &&Job| job.state == State::Ready;
            let tenants: BTreeSet<usize> =
                self.jobs.values().filter(ready).map(|job| job.tenant).collect();
            let later = tenants.iter().find(|tenant| Some(**tenant) > self.turn);
            let Some(&tenant) = later.or(tenants.first()) else {
                break;
            };
            let mine =
                |job: &Job| (job.tenant == tenant && job.state == State::Ready).then_some(());
            let id = self.sorted(mine)[0];
            leased.push(self.grant(id, false));
            self.turn = Some(tenant);
        }
        leased
    }

    fn grant(&mut self, id: JobId, alone: bool) -> (JobId, u32, u64) {
        self.leases += 1;
        let (until, lease) = (self.now + 10, self.leases);
        let job = self.job(id);
        job.suspect = false;
        job.state = State::Leased { until, lease, alone };
        (id, job.attempts + 1, lease)
    }

    pub(crate) fn holds(&self, id: JobId, number: u64) -> bool {
        let job = self.jobs.get(&id);
        job.is_some_and(|job| matches!(job.state, State::Leased { lease, .. } if lease == number))
    }

    pub(crate) fn ack(&mut self, id: JobId) {
        if !self.succeed(id, State::Ready) {
            self.jobs.remove(&id);
        }
    }

    pub(crate) fn release(&mut self, id: JobId) {
        if !self.succeed(id, State::Ready) {
            let job = self.job(id);
            job.suspect = matches!(job.state, State::Leased { alone: true, .. });
            job.state = State::Ready;
        }
    }

    pub(crate) fn hold(&mut self, id: JobId, reason: &str) {
        if !self.succeed(id, State::Held(reason.to_owned())) {
            self.job(id).state = State::Held(reason.to_owned());
        }
    }

    pub(crate) fn put_off(&mut self, id: JobId, until: i64) {
        if !self.succeed(id, State::Ready) {
            self.job(id).state = State::Delayed(until);
        }
    }

    pub(crate) fn renew(&mut self, id: JobId) -> u64 {
        self.leases += 1;
        let (number, now) = (self.leases, self.now);
        if let State::Leased { until, lease, .. } = &mut self.job(id).state {
            (*until, *lease) = (now + 10, number);
        }
        number
    }

    pub(crate) fn fail(&mut self, id: JobId, jitter: f64) -> Outcome {
        let now = self.now;
        if self.succeed(id, State::Ready) {
            return Outcome::Retry { run_at: UnixMicros(now) };
        }
        let job = self.job(id);
        job.failed("failed", now);
        if job.attempts >= DEF.max_attempts {
            self.die(id, DeadReason::Exhausted);
            return Outcome::Dead;
        }
        let longest = [4, 8, 12][job.attempts as usize - 1];
        // To the nanosecond as the queue has it, then to the microsecond.
        let wait = Duration::try_from_secs_f64(f64::from(longest) * 1e-6 * jitter).unwrap();
        let run_at = now + wait.as_micros() as i64;
        job.state = State::Delayed(run_at);
        Outcome::Retry { run_at: UnixMicros(run_at) }
    }

    pub(crate) fn bury(&mut self, id: JobId, reason: DeadReason) -> Outcome {
        let now = self.now;
        if self.succeed(id, State::Ready) {
            return Outcome::Retry { run_at: UnixMicros(now) };
        }
        self.job(id).failed("buried", now);
        self.die(id, reason);
        Outcome::Dead
    }

    pub(crate) fn hold_ready(&mut self, tenant: usize, limit: usize) -> usize {
        let mine = |job: &Job| (job.tenant == tenant && job.state == State::Ready).then_some(());
        let ready = self.sorted(mine).into_iter().take(limit);
        ready.map(|id| self.job(id).state = State::Held("all".to_owned())).count()
    }

    pub(crate) fn release_held(&mut self, tenant: usize, limit: usize) -> usize {
        let held = |job: &Job| job.tenant == tenant && matches!(job.state, State::Held(_));
        let held = self.sorted(|job| held(job).then_some(()));
        let released = held.into_iter().take(limit).map(|id| {
            let job = self.job(id);
            (job.state, job.suspect) = (State::Ready, job.crashes > 0);
        });
        released.count()
    }

    pub(crate) fn purge(&mut self, tenant: usize, purge: Purge, limit: usize) -> Purged {
        let mine = |job: &Job| (job.tenant == tenant && job.is_waiting()).then_some(());
        let waiting = self.sorted(mine);
        let most = waiting.len().saturating_sub(purge.keep_newest as usize).min(limit);
        let old = |id: &&JobId| {
            let before = purge.enqueued_before;
            before.is_none_or(|before| self.jobs[id].enqueued_at < before.0)
        };
        let gone: Vec<JobId> = waiting[..most].iter().filter(old).copied().collect();
        let keys = gone.iter().filter_map(|id| Some(self.jobs[id].key?.to_string())).collect();
        self.jobs.retain(|id, _| !gone.contains(id));
        let remaining = (waiting.len() - gone.len()) as u64;
        Purged { purged: gone.len() as u64, keys, remaining }
    }

    /// Voids every lease; the ids of what was leased, and whether they are dead now.
    pub(crate) fn restart(&mut self) -> BTreeMap<JobId, bool> {
        let leased = self.sorted(|job| match job.state {
            State::Leased { until, .. } => Some(until),
            _ => None,
        });
        let mut recovered = BTreeMap::new();
        for id in leased {
            let job = self.job(id);
            job.crashes += 1;
            let dead = job.successor.is_none() && job.crashes >= CRASHES_MAX;
            recovered.insert(id, dead);
            if dead {
                job.error = Some("crash_loop".to_owned());
                self.die(id, DeadReason::CrashLoop);
            } else if !self.succeed(id, State::Ready) {
                let job = self.job(id);
                (job.state, job.suspect) = (State::Ready, true);
            }
        }
        recovered
    }

    /// The dead that are meant, oldest first.
    pub(crate) fn dead(&self, meant: Meant) -> Vec<JobId> {
        let Meant { tenant, key, reason, age } = meant;
        self.sorted(|job| match job.state {
            State::Dead { at, reason: why } => {
                let fits = tenant.is_none_or(|tenant| job.tenant == tenant)
                    && (key.is_none() || job.key == key)
                    && reason.is_none_or(|reason| reason == why)
                    && age.is_none_or(|age| at < self.now - i64::from(age));
                fits.then_some(at)
            }
            _ => None,
        })
    }

    pub(crate) fn replay(&mut self, meant: Meant, limit: usize) -> Replayed {
        let mut done = Replayed::default();
        for id in self.dead(meant) {
            let Job { tenant, key, .. } = self.jobs[&id];
            if done.replayed == limit {
                break;
            }
            if key.is_some_and(|key| self.live(tenant, key).is_some()) {
                done.superseded += 1;
                continue;
            }
            let (order, now) = (self.count(), self.now);
            let job = self.job(id);
            let (payload, rank) = (job.payload.clone(), job.rank.clone());
            job.begin_afresh(payload, rank);
            (job.order, job.enqueued_at) = (order, now);
            (job.state, job.suspect) = (State::Ready, false);
            done.replayed += 1;
            done.keys.extend(key.map(|key| (super::tenant(tenant), key.to_string())));
        }
        done
    }

    pub(crate) fn clear(&mut self, meant: Meant, keep: usize, limit: usize) -> usize {
        let dead = self.dead(meant);
        let n = dead.len().saturating_sub(keep).min(limit);
        self.jobs.retain(|id, _| !dead[..n].contains(id));
        n
    }
}
