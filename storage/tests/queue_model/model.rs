//! A queue made of one map. Slow and obvious: every question is answered by looking at everything.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use activekg_storage::queue::{CRASHES_MAX, Depths, Enqueued, Outcome};
use activekg_storage::{JobId, UnixMicros};

use super::DEF;

/// An item as the model sees it.
#[derive(Debug, Clone)]
pub(crate) struct Job {
    pub(crate) tenant: usize,
    pub(crate) key: Option<u8>,
    pub(crate) payload: Vec<u8>,
    pub(crate) successor: Option<Vec<u8>>,
    pub(crate) attempts: u32,
    pub(crate) crashes: u32,
    pub(crate) state: State,
    /// Place among ready or dead items, or among delayed or leased ones of one instant.
    pub(crate) order: u64,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum State {
    Ready,
    Delayed(i64),
    Leased { until: i64, lease: u64 },
    Dead(i64),
}

/// Everything in one map; every question is answered by looking at all of it.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) jobs: BTreeMap<JobId, Job>,
    pub(crate) now: i64,
    pub(crate) count: u64,
    pub(crate) leases: u64,
    pub(crate) turn: Option<usize>,
    pub(crate) error: BTreeMap<JobId, String>,
}

impl Model {
    pub(crate) fn count(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub(crate) fn live(&self, tenant: usize, key: u8) -> Option<JobId> {
        let alike = |job: &Job| job.tenant == tenant && job.key == Some(key);
        let mut found = self.jobs.iter().filter(|(_, job)| alike(job));
        found.find(|(_, job)| !matches!(job.state, State::Dead(_))).map(|(id, _)| *id)
    }

    pub(crate) fn enqueue(
        &mut self,
        id: JobId,
        tenant: usize,
        key: Option<u8>,
        payload: Vec<u8>,
        delay: u8,
    ) -> Enqueued {
        let run_at = (delay > 0).then(|| self.now + i64::from(delay));
        if let Some(live) = key.and_then(|key| self.live(tenant, key)) {
            let order = self.count();
            let job = self.jobs.get_mut(&live).unwrap();
            if let State::Leased { .. } = job.state {
                job.successor = Some(payload);
                return Enqueued::Existing(live);
            }
            job.payload = payload;
            let to = match (job.state, run_at) {
                (State::Delayed(then), Some(run_at)) => State::Delayed(then.min(run_at)),
                _ => State::Ready,
            };
            if to != job.state {
                (job.state, job.order) = (to, order);
            }
            return Enqueued::Existing(live);
        }
        let order = self.count();
        let state = run_at.map_or(State::Ready, State::Delayed);
        let job =
            Job { tenant, key, payload, successor: None, attempts: 0, crashes: 0, state, order };
        self.jobs.insert(id, job);
        Enqueued::New(id)
    }

    /// Ends a lease without an outcome.
    pub(crate) fn give_back(&mut self, id: JobId) {
        let order = self.count();
        let job = self.jobs.get_mut(&id).unwrap();
        job.state = State::Ready;
        if let Some(payload) = job.successor.take() {
            job.payload = payload;
            job.attempts = 0;
            job.crashes = 0;
            job.order = order;
        }
    }

    pub(crate) fn die(&mut self, id: JobId, error: &str) {
        let order = self.jobs[&id].order;
        let job = self.jobs.get_mut(&id).unwrap();
        (job.state, job.order) = (State::Dead(self.now), order);
        self.error.insert(id, error.to_owned());
    }

    /// The ids whose state is as asked, in the order of (instant, order).
    pub(crate) fn by_time(&self, at: impl Fn(State) -> Option<i64>) -> Vec<JobId> {
        let mut found: Vec<_> = self
            .jobs
            .iter()
            .filter_map(|(id, job)| at(job.state).map(|at| (at, job.order, *id)))
            .collect();
        found.sort();
        found.into_iter().map(|(_, _, id)| id).collect()
    }

    pub(crate) fn promote(&mut self) {
        let now = self.now;
        let lapsed = |state| match state {
            State::Leased { until, .. } if until <= now => Some(until),
            _ => None,
        };
        for id in self.by_time(lapsed) {
            let job = &self.jobs[&id];
            if job.successor.is_none() && job.attempts >= DEF.max_attempts {
                self.die(id, "the lease lapsed");
            } else {
                self.give_back(id);
            }
        }
        let due = |state| match state {
            State::Delayed(run_at) if run_at <= now => Some(run_at),
            _ => None,
        };
        for id in self.by_time(due) {
            let order = self.count();
            let job = self.jobs.get_mut(&id).unwrap();
            (job.state, job.order) = (State::Ready, order);
        }
    }

    /// What `lease` hands out: (id, attempt, number of the lease).
    pub(crate) fn lease(&mut self, n: usize) -> Vec<(JobId, u32, u64)> {
        self.promote();
        let mut leased = Vec::new();
        while leased.len() < n {
            let ready = |job: &&Job| job.state == State::Ready;
            let tenants: BTreeSet<usize> =
                self.jobs.values().filter(ready).map(|job| job.tenant).collect();
            let later = tenants.iter().find(|tenant| Some(**tenant) > self.turn);
            let Some(&tenant) = later.or(tenants.first()) else {
                break;
            };
            let mine = self.jobs.iter().filter(|(_, job)| ready(job) && job.tenant == tenant);
            let id = *mine.min_by_key(|(_, job)| job.order).unwrap().0;
            self.leases += 1;
            let (until, lease) = (self.now + 10, self.leases);
            let job = self.jobs.get_mut(&id).unwrap();
            job.attempts += 1;
            job.state = State::Leased { until, lease };
            leased.push((id, job.attempts, lease));
            self.turn = Some(tenant);
        }
        leased
    }

    pub(crate) fn holds(&self, id: JobId, number: u64) -> bool {
        let job = self.jobs.get(&id);
        job.is_some_and(|job| matches!(job.state, State::Leased { lease, .. } if lease == number))
    }

    pub(crate) fn fail(&mut self, id: JobId, jitter: Option<f64>) -> Outcome {
        let order = self.count();
        let now = self.now;
        let job = self.jobs.get_mut(&id).unwrap();
        if job.successor.is_some() {
            self.give_back(id);
            return Outcome::Retry { run_at: UnixMicros(now) };
        }
        let Some(jitter) = jitter.filter(|_| job.attempts < DEF.max_attempts) else {
            self.die(id, "failed");
            return Outcome::Dead;
        };
        let longest = [4, 8, 12][job.attempts as usize - 1];
        // To the nanosecond as the queue has it, then to the microsecond.
        let wait = Duration::try_from_secs_f64(f64::from(longest) * 1e-6 * jitter).unwrap();
        let run_at = now + wait.as_micros() as i64;
        (job.state, job.order) = (State::Delayed(run_at), order);
        Outcome::Retry { run_at: UnixMicros(run_at) }
    }

    pub(crate) fn restart(&mut self) {
        let leased = |state| match state {
            State::Leased { until, .. } => Some(until),
            _ => None,
        };
        for id in self.by_time(leased) {
            let job = self.jobs.get_mut(&id).unwrap();
            job.attempts -= 1;
            job.crashes += 1;
            if job.successor.is_none() && job.crashes >= CRASHES_MAX {
                self.die(id, "crash_loop");
            } else {
                self.give_back(id);
            }
        }
    }

    pub(crate) fn dead(&self) -> Vec<JobId> {
        self.by_time(|state| match state {
            State::Dead(at) => Some(at),
            _ => None,
        })
    }

    pub(crate) fn replay(&mut self, limit: usize) -> usize {
        let mut replayed = 0;
        for id in self.dead() {
            let Job { tenant, key, .. } = self.jobs[&id];
            if replayed == limit {
                break;
            }
            if key.is_some_and(|key| self.live(tenant, key).is_some()) {
                continue;
            }
            let order = self.count();
            let job = self.jobs.get_mut(&id).unwrap();
            (job.state, job.order) = (State::Ready, order);
            (job.attempts, job.crashes) = (0, 0);
            replayed += 1;
        }
        replayed
    }

    pub(crate) fn depths(&self) -> Depths {
        let mut depths = Depths::default();
        for job in self.jobs.values() {
            *match job.state {
                State::Ready => &mut depths.ready,
                State::Delayed(_) => &mut depths.delayed,
                State::Leased { .. } => &mut depths.leased,
                State::Dead(_) => &mut depths.dead,
            } += 1;
        }
        depths
    }

    pub(crate) fn next_due(&self) -> Option<UnixMicros> {
        let due = self.jobs.values().filter_map(|job| match job.state {
            State::Delayed(at) | State::Leased { until: at, .. } => Some(UnixMicros(at)),
            State::Ready | State::Dead(_) => None,
        });
        due.min()
    }
}
