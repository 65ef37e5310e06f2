//! What there is to see of the model.

use activekg_storage::UnixMicros;
use activekg_storage::queue::Depths;

use super::{Job, Model, State};

impl Model {
    /// How many items of a tenant, or of all, are in which state; `due` ones are ready.
    pub(crate) fn depths(&self, tenant: Option<usize>, due: bool) -> Depths {
        let mut depths = Depths::default();
        for job in self.jobs.values() {
            if tenant.is_some_and(|tenant| job.tenant != tenant) {
                continue;
            }
            *match job.state {
                State::Ready => &mut depths.ready,
                State::Delayed(run_at) if due && run_at <= self.now => &mut depths.ready,
                State::Delayed(_) => &mut depths.delayed,
                State::Leased { .. } => &mut depths.leased,
                State::Held(_) => &mut depths.held,
                State::Dead { .. } => &mut depths.dead,
            } += 1;
        }
        depths
    }

    pub(crate) fn oldest(&self, tenant: Option<usize>) -> Option<UnixMicros> {
        let mine = |job: &&Job| job.is_live() && tenant.is_none_or(|tenant| job.tenant == tenant);
        self.jobs.values().filter(mine).map(|job| UnixMicros(job.enqueued_at)).min()
    }

    pub(crate) fn next_due(&self) -> Option<UnixMicros> {
        let due = self.jobs.values().filter_map(|job| match job.state {
            State::Delayed(at) | State::Leased { until: at, .. } => Some(UnixMicros(at)),
            State::Ready | State::Held(_) | State::Dead { .. } => None,
        });
        due.min()
    }
}
