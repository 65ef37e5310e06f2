//! The workers on changes, whose number can be changed while the process runs.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use activekg_storage::StorageError;
use activekg_storage::tables::Json;
use activekg_storage::tables::auth::AuditRecord;
use serde_json::{Value, json};
use tracing::info;

use super::{ConnectorWorker, Member, Supervisor, WorkerCounts};

/// Most workers that can be asked for.
pub const CREW_MAX: usize = 64;

/// The connector workers of the process. Clones share them.
#[derive(Clone)]
pub struct Crew {
    supervisor: Supervisor,
    worker: ConnectorWorker,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// `None` where none may run.
    wanted: Option<usize>,
    members: Vec<Member>,
}

/// Why an act on the workers came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum CrewError {
    /// No worker may run: they are off, or the store takes no changes.
    #[error(
        "connector workers are off in this process; start the server without RUN_CONNECTOR_WORKER=false, on a store that can be written"
    )]
    Off,
    /// It could not be entered in the audit trail.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl Crew {
    /// A crew of copies of `worker`, none of which runs.
    #[must_use]
    pub fn new(supervisor: Supervisor, worker: ConnectorWorker) -> Self {
        Self { supervisor, worker, state: Arc::default() }
    }

    /// Lets the first `n` work.
    pub fn begin(&self, n: usize) {
        let mut state = self.lock();
        state.wanted = Some(n);
        self.keep(&mut state);
    }

    /// How many there are to be; zero where none may run.
    #[must_use]
    pub fn wanted(&self) -> usize {
        self.lock().wanted.unwrap_or(0)
    }

    /// How many run and work.
    #[must_use]
    pub fn counts(&self) -> Arc<WorkerCounts> {
        self.worker.counts()
    }

    /// Lets `n` work, until the process ends; how many it were before. Those that are too many finish
    /// what they hold, as at a stop.
    ///
    /// # Errors
    ///
    /// [`CrewError`].
    pub async fn scale(&self, n: usize, actor: &str) -> Result<usize, CrewError> {
        self.enter("workers.scale", actor, json!({ "workers": n })).await?;
        let mut state = self.lock();
        let before = state.wanted.ok_or(CrewError::Off)?;
        state.wanted = Some(n);
        self.keep(&mut state);
        info!(before, n, "connector workers: {before} were to run, now {n}");
        Ok(before)
    }

    /// Lets all of them finish what they hold, as at a stop, and then as many begin anew; how many.
    ///
    /// # Errors
    ///
    /// [`CrewError`].
    pub async fn restart(&self, actor: &str) -> Result<usize, CrewError> {
        self.enter("workers.restart", actor, json!({})).await?;
        let old = {
            let mut state = self.lock();
            state.wanted.ok_or(CrewError::Off)?;
            std::mem::take(&mut state.members)
        };
        let crew = self.clone();
        // In a task of its own, so that who stops waiting leaves nobody without workers.
        let begun = tokio::spawn(async move {
            for member in &old {
                member.dismiss();
            }
            for member in old {
                member.ended().await;
            }
            let mut state = crew.lock();
            crew.keep(&mut state);
            state.wanted.unwrap_or(0)
        });
        let n = match begun.await {
            Ok(n) => n,
            Err(ended) => match ended.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime goes down.
                Err(_) => self.wanted(),
            },
        };
        info!(n, "connector workers began anew: {n} are to run");
        Ok(n)
    }

    /// Enters an act of `actor` in the audit trail before it is done.
    async fn enter(&self, action: &str, actor: &str, details: Value) -> Result<(), CrewError> {
        if self.lock().wanted.is_none() {
            return Err(CrewError::Off);
        }
        let record = AuditRecord {
            tenant: None,
            actor: actor.to_owned(),
            action: action.to_owned(),
            object: "connector".to_owned(),
            details: Json(details.to_string()),
        };
        Ok(self.worker.enter(record).await?)
    }

    /// Begins and dismisses members until there are as many as there are to be.
    fn keep(&self, state: &mut State) {
        let wanted = state.wanted.unwrap_or(0);
        while state.members.len() < wanted {
            let worker = self.worker.clone();
            let run = move |stop| worker.clone().run(stop);
            state.members.push(self.supervisor.run("connector_worker", run));
        }
        for member in state.members.drain(wanted..) {
            member.dismiss();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing in here is left half done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
