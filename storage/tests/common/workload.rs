//! A workload in which everything has to agree: rows, their count, the change log, the jobs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use activekg_storage::changes::{self, Tail};
use activekg_storage::queue::{self, NewJob, QueueDef};
use activekg_storage::tables::Json;
use activekg_storage::tables::graph::{VERSIONS, VersionRecord, add_count, count};
use activekg_storage::{
    Change, ChangeKind, JobId, NodeId, Readable, Scan, Seq, StorageError, Store, StoreOptions,
    TenantId, UnixMicros, WriteTx,
};

use super::Dice;

const DEF: QueueDef = QueueDef {
    name: "cut",
    lease: Duration::from_secs(1),
    max_attempts: 3,
    backoff_base: Duration::from_secs(1),
    backoff_cap: Duration::from_secs(1),
    ..QueueDef::named("cut")
};

/// Changes that are sent together, at most.
const GROUP_MAX: usize = 6;

/// Rows have numbers below this, so that many are written more than once.
const NUMBERS: usize = 40;

/// A small cache, so that pages are written before the commit too.
pub(crate) fn options() -> StoreOptions {
    StoreOptions { cache_bytes: 1 << 20, ..StoreOptions::default() }
}

/// [`options`], or those with a second sync in every commit.
pub(crate) fn some_options(dice: &mut Dice) -> StoreOptions {
    let quick_repair_from = if dice.one_in(2) { 0 } else { u64::MAX };
    StoreOptions { quick_repair_from, ..options() }
}

/// What should be in the store.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Model {
    rows: BTreeMap<u32, String>,
    jobs: BTreeSet<u32>,
    log: Vec<ChangeKind>,
}

/// One change to the store.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    /// Writes a row, new or not, and a job.
    Put { number: u32, text: String },
    /// Removes a row and its job.
    Remove { number: u32 },
    /// Does the jobs that come first.
    Work { limit: usize },
    /// Writes a row and fails.
    Fail { number: u32 },
}

/// What a step that succeeded did.
#[derive(Debug, Clone)]
pub(crate) enum Effect {
    Put { number: u32, text: String },
    Removed { number: u32 },
    Done { jobs: Vec<u32> },
}

fn tenant() -> TenantId {
    TenantId::new("cut").unwrap()
}

fn node(number: u32) -> NodeId {
    NodeId::from_u128(u128::from(number))
}

impl Model {
    pub(crate) fn apply(&mut self, effect: &Effect) {
        match effect {
            Effect::Put { number, text } => {
                self.rows.insert(*number, text.clone());
                self.jobs.insert(*number);
                self.log.push(ChangeKind::NodeText(node(*number)));
            }
            Effect::Removed { number } => {
                if self.rows.remove(number).is_some() {
                    self.log.push(ChangeKind::NodeRemoved(node(*number)));
                }
                self.jobs.remove(number);
            }
            Effect::Done { jobs } => self.jobs.retain(|job| !jobs.contains(job)),
        }
    }

    /// Reads the store, and checks that what is derived in it agrees with what it is derived from.
    pub(crate) fn read(store: &Store, what: &str) -> Model {
        let tx = store.read().unwrap();
        let rows = tx.scan(&VERSIONS, Scan::all()).unwrap().map(|row| {
            let ((_, _, number), version) = row.unwrap_or_else(|error| panic!("{what}: {error}"));
            (number, version.snapshot.0)
        });
        let rows: BTreeMap<u32, String> = rows.collect();
        assert_eq!(count(&tx, &tenant(), "versions").unwrap(), rows.len() as u64, "{what}");
        let jobs = (0..NUMBERS as u32)
            .filter(|number| queue::is_live(&tx, &DEF, &tenant(), &number.to_string()).unwrap())
            .collect::<BTreeSet<u32>>();
        assert_eq!(queue::depths(&tx, &DEF).unwrap().ready, jobs.len() as u64, "{what}");
        let mut log = Vec::new();
        while let Tail::Entries(page) = changes::tail(&tx, Seq(log.len() as u64), 100).unwrap()
            && !page.is_empty()
        {
            log.extend(page.into_iter().map(|(_, change)| change.kind));
        }
        assert_eq!(store.last_seq().get(), log.len() as u64, "{what}");
        Model { rows, jobs, log }
    }

    /// Whether it went on from `earlier` by whole changes: nothing that was logged is missing.
    pub(crate) fn is_at_least(&self, earlier: &Model) -> bool {
        self.log.starts_with(&earlier.log)
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self == &Model::default()
    }
}

impl Step {
    pub(crate) fn draw(dice: &mut Dice) -> Step {
        let number = dice.below(NUMBERS) as u32;
        match dice.below(12) {
            0..=1 => Step::Remove { number },
            2 => Step::Work { limit: 1 + dice.below(4) },
            3 => Step::Fail { number },
            // Makes the file grow.
            4 => Step::Put { number, text: text(number, 40_000 + dice.below(160_000)) },
            _ => Step::Put { number, text: text(number, dice.below(6_000)) },
        }
    }

    /// Some that are sent together.
    pub(crate) fn draw_group(dice: &mut Dice) -> Vec<Step> {
        (0..=dice.below(GROUP_MAX)).map(|_| Step::draw(dice)).collect()
    }

    fn run(self, tx: &mut WriteTx<'_>) -> Result<Effect, StorageError> {
        match self {
            Step::Put { number, text } => {
                put(tx, number, &text)?;
                Ok(Effect::Put { number, text })
            }
            Step::Remove { number } => {
                if tx.remove(&VERSIONS, &(tenant(), node(number % 5), number))? {
                    add_count(tx, &tenant(), "versions", -1)?;
                    tx.log(change(ChangeKind::NodeRemoved(node(number))))?;
                }
                queue::remove_by_key(tx, &DEF, &tenant(), &number.to_string())?;
                Ok(Effect::Removed { number })
            }
            Step::Work { limit } => Ok(Effect::Done { jobs: work(tx, limit)? }),
            Step::Fail { number } => {
                put(tx, number, &text(number, 3_000))?;
                Err(StorageError::Closed)
            }
        }
    }
}

fn text(number: u32, len: usize) -> String {
    format!("{number} ").chars().cycle().take(len).collect()
}

fn change(kind: ChangeKind) -> Change {
    Change { at: UnixMicros(0), tenant: tenant(), kind }
}

fn put(tx: &mut WriteTx<'_>, number: u32, text: &str) -> Result<(), StorageError> {
    let key = (tenant(), node(number % 5), number);
    if !tx.contains(&VERSIONS, &key)? {
        add_count(tx, &tenant(), "versions", 1)?;
    }
    let version = VersionRecord { snapshot: Json(text.to_owned()), created_at: UnixMicros(0) };
    tx.put(&VERSIONS, &key, &version)?;
    let seq = tx.log(change(ChangeKind::NodeText(node(number))))?;
    let job = NewJob {
        id: JobId::from_u128(u128::from(seq.get())),
        tenant: tenant(),
        key: Some(number.to_string()),
        payload: vec![7; 20],
        rank: None,
        run_at: None,
        now: UnixMicros(0),
    };
    queue::enqueue(tx, &DEF, job).map(drop)
}

/// Takes and finishes jobs, and says which rows they were of.
fn work(tx: &mut WriteTx<'_>, limit: usize) -> Result<Vec<u32>, StorageError> {
    let mut jobs = Vec::new();
    for leased in queue::lease(tx, &DEF, UnixMicros(0), limit)? {
        assert!(queue::ack(tx, &DEF, &leased)?);
        jobs.push(leased.key.as_deref().unwrap().parse().unwrap());
    }
    Ok(jobs)
}

/// Sends the steps together, so that they share a commit, and returns what became of each.
pub(crate) fn run_together(
    store: &Arc<Store>,
    steps: Vec<Step>,
) -> Vec<Result<Effect, StorageError>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        // Keeps the committer busy until all the others wait for it.
        let (started, has_started) = mpsc::channel();
        let (go_on, may_go_on) = mpsc::channel();
        let first = tokio::spawn({
            let store = Arc::clone(store);
            async move {
                let blocker = move |_: &mut WriteTx<'_>| {
                    started.send(()).unwrap();
                    may_go_on.recv().unwrap();
                    Err::<(), _>(StorageError::Closed)
                };
                drop(store.make_room(blocker).await);
            }
        });
        tokio::task::yield_now().await;
        let blocked = has_started.recv().is_ok();
        let send = |step: Step| {
            let store = Arc::clone(store);
            tokio::spawn(async move {
                match step {
                    step @ Step::Remove { .. } => store.make_room(|tx| step.run(tx)).await,
                    step => store.write(|tx| step.run(tx)).await,
                }
            })
        };
        let sent: Vec<_> = steps.into_iter().map(send).collect();
        tokio::task::yield_now().await;
        if blocked {
            go_on.send(()).unwrap();
        }
        let mut outcomes = Vec::new();
        for step in sent {
            outcomes.push(step.await.unwrap().map(|committed| committed.value));
        }
        first.await.unwrap();
        outcomes
    })
}

/// Makes a store in `dir` and fills it.
pub(crate) fn fill(dir: &std::path::Path) {
    let store = Arc::new(Store::open(dir, options()).unwrap());
    let mut dice = Dice::new(0);
    for _ in 0..40 {
        run_together(&store, Step::draw_group(&mut dice));
    }
}
