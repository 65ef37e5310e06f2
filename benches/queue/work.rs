//! Jobs, and whoever moves them through a queue.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use activekg_storage::queue::{self, Leased, NewJob, QueueDef};
use activekg_storage::{Clock, JobId, StorageError, Store, SystemClock, TenantId};

/// What ends a run.
pub(crate) type Fault = Box<dyn Error + Send + Sync>;

pub(crate) const TENANTS: [&str; 4] = ["amber", "birch", "cedar", "delta"];

const QUEUE: QueueDef = QueueDef { lease: Duration::from_secs(300), ..QueueDef::named("bench") };

/// Bytes of a job.
const JOB_BYTES: usize = 100;

/// What a queue must know of its jobs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Their order.
    Plain,
    /// Which keys are taken as well, and how many jobs each tenant has.
    Keyed,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Plain => "plain",
            Kind::Keyed => "keyed",
        }
    }
}

/// The same numbers at every run (splitmix64).
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}

/// A job before it is in a queue.
pub(crate) struct Job {
    pub(crate) tenant: usize,
    pub(crate) id: u128,
    pub(crate) key: Option<String>,
    /// The tenant's number, the key if there is one, and what fills it up.
    pub(crate) payload: Vec<u8>,
}

/// Digits of a key.
pub(crate) const KEY_BYTES: usize = 32;

/// `n` jobs, of every tenant in turn.
pub(crate) fn jobs(random: &mut Random, kind: Kind, n: usize) -> Vec<Job> {
    let draw = |number: usize| {
        let tenant = number % TENANTS.len();
        let id = u128::from(random.next()) << 64 | u128::from(random.next());
        let name = format!("{id:0width$x}", width = KEY_BYTES);
        let mut payload = format!("{tenant}{name}").into_bytes();
        payload.resize(JOB_BYTES, b'.');
        Job { tenant, id, key: (kind == Kind::Keyed).then_some(name), payload }
    };
    (0..n).map(draw).collect()
}

/// Moves jobs through a queue; every call returns when what it did is durable.
pub(crate) trait Client: Send + 'static {
    fn enqueue(&mut self, jobs: Vec<Job>) -> Result<(), Fault>;

    /// Leases up to `n` jobs and keeps them.
    fn lease(&mut self, n: usize) -> Result<(), Fault>;

    /// Acknowledges what was leased, and tells how many that were.
    fn ack(&mut self) -> Result<usize, Fault>;
}

/// A client of the store.
pub(crate) struct Ours {
    store: Arc<Store>,
    tenants: Arc<Vec<TenantId>>,
    leased: Vec<Leased>,
}

impl Ours {
    pub(crate) fn new(store: Arc<Store>) -> Ours {
        let tenants = TENANTS.iter().filter_map(|name| TenantId::new(name).ok());
        Ours { store, tenants: Arc::new(tenants.collect()), leased: Vec::new() }
    }
}

impl Client for Ours {
    fn enqueue(&mut self, jobs: Vec<Job>) -> Result<(), Fault> {
        let now = SystemClock.now();
        let new = |Job { tenant, id, key, payload }: Job| NewJob {
            id: JobId::from_u128(id),
            tenant: self.tenants[tenant].clone(),
            key,
            payload,
            rank: None,
            run_at: None,
            now,
        };
        let jobs: Vec<NewJob> = jobs.into_iter().map(new).collect();
        self.store.write_blocking(move |tx| queue::enqueue_all(tx, &QUEUE, jobs))?;
        Ok(())
    }

    fn lease(&mut self, n: usize) -> Result<(), Fault> {
        let now = SystemClock.now();
        let leased = self.store.write_blocking(move |tx| queue::lease(tx, &QUEUE, now, n))?;
        self.leased = leased.value;
        Ok(())
    }

    fn ack(&mut self) -> Result<usize, Fault> {
        let leased = std::mem::take(&mut self.leased);
        let done = self.store.write_blocking(move |tx| {
            let done = queue::ack_all(tx, &QUEUE, &leased)?;
            Ok::<usize, StorageError>(done.into_iter().filter(|held| *held).count())
        })?;
        Ok(done.value)
    }
}
