//! Power is lost after, and in the middle of, every sync of a random workload: whatever was
//! acknowledged before is there afterwards, and nothing is half there.
//!
//! `ACTIVEKG_POWER_CUT_SEEDS` sets how many workloads are tried.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use activekg_storage::queue::{self, NewJob, QueueDef};
use activekg_storage::tables::Json;
use activekg_storage::tables::graph::{VERSIONS, VersionRecord, add_count, count};
use activekg_storage::{
    Change, ChangeKind, JobId, NodeId, Readable, Scan, StorageError, Store, StoreOptions, TenantId,
    UnixMicros,
};
use proptest::test_runner::{RngAlgorithm, TestRng};
use redb::{ReadableDatabase, StorageBackend};

const DEF: QueueDef = QueueDef {
    name: "cut",
    lease: Duration::from_secs(1),
    max_attempts: 3,
    backoff_base: Duration::from_secs(1),
    backoff_cap: Duration::from_secs(1),
};

/// A disk. Writes are in its cache until a sync, and of those in the cache at a cut, any may have
/// reached the platter, in any order, the last one perhaps in part.
#[derive(Debug, Clone, Default)]
struct Disk(Arc<Mutex<State>>);

#[derive(Debug, Default, Clone)]
struct State {
    durable: Vec<u8>,
    cached: Vec<u8>,
    pending: Vec<Write>,
    /// What was durable after each sync, and what was pending before it.
    history: Vec<(Vec<u8>, Vec<Write>)>,
}

#[derive(Debug, Clone)]
enum Write {
    Bytes { offset: usize, data: Vec<u8> },
    Resize(usize),
}

impl Write {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Write::Bytes { offset, data } => {
                // A write beyond the end whose resize was lost is lost too.
                let end = (offset + data.len()).min(to.len());
                if *offset < end {
                    to[*offset..end].copy_from_slice(&data[..end - offset]);
                }
            }
            Write::Resize(len) => to.resize(*len, 0),
        }
    }
}

impl Disk {
    fn with(bytes: Vec<u8>) -> Disk {
        Disk(Arc::new(Mutex::new(State {
            cached: bytes.clone(),
            durable: bytes,
            ..State::default()
        })))
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    fn n_syncs(&self) -> usize {
        self.state().history.len()
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state().cached.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let state = self.state();
        let from = offset as usize;
        let bytes = state.cached.get(from..from + out.len());
        out.copy_from_slice(bytes.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut state = self.state();
        let write = Write::Resize(len as usize);
        write.apply(&mut state.cached);
        state.pending.push(write);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut state = self.state();
        let pending = std::mem::take(&mut state.pending);
        let before = state.durable.clone();
        state.durable = state.cached.clone();
        // The bytes before, and what was on its way: enough to make any cut up to this sync.
        state.history.push((before, pending));
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut state = self.state();
        let write = Write::Bytes { offset: offset as usize, data: data.to_vec() };
        write.apply(&mut state.cached);
        state.pending.push(write);
        Ok(())
    }
}

/// Small numbers from a seed.
struct Dice(TestRng);

impl Dice {
    fn new(seed: u64) -> Dice {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Dice(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    fn below(&mut self, end: u64) -> u64 {
        use proptest::prelude::Rng;
        self.0.next_u64() % end
    }
}

/// What an acknowledged change promised, and how many syncs had happened by then.
struct Acknowledged {
    number: u32,
    text: String,
    n_syncs: usize,
}

fn tenant() -> TenantId {
    TenantId::new("cut").unwrap()
}

/// One change: a row, a count, a change-log entry and a job, which must never disagree.
fn write(store: &Store, number: u32, text: String) {
    let done = store.write_blocking(move |tx| {
        let node = NodeId::from_u128(1);
        let version = VersionRecord { snapshot: Json(text), created_at: UnixMicros(0) };
        tx.put(&VERSIONS, &(tenant(), node, number), &version)?;
        add_count(tx, &tenant(), "versions", 1)?;
        tx.log(Change { at: UnixMicros(0), tenant: tenant(), kind: ChangeKind::NodeText(node) })?;
        let job = NewJob {
            id: JobId::from_u128(u128::from(number)),
            tenant: tenant(),
            key: Some(number.to_string()),
            payload: Vec::new(),
            run_at: None,
            now: UnixMicros(0),
        };
        queue::enqueue(tx, &DEF, job)?;
        Ok::<(), StorageError>(())
    });
    done.unwrap();
}

fn options() -> StoreOptions {
    StoreOptions { cache_bytes: 1 << 20, ..StoreOptions::default() }
}

/// A store that was made and closed in peace.
fn fresh() -> Vec<u8> {
    let disk = Disk::default();
    Store::open_backend(disk.clone(), options()).unwrap().close();
    let state = disk.state();
    state.cached.clone()
}

/// Opens what a cut left and checks it against what was acknowledged by then.
fn check(bytes: Vec<u8>, acknowledged: &[Acknowledged], n_syncs: usize, what: &str) {
    let disk = Disk::with(bytes);
    let mut database = redb::Database::builder()
        .create_with_backend(disk.clone())
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(database.check_integrity().is_ok(), "{what}");
    drop(database.begin_read().unwrap());
    drop(database);

    let store = Store::open_backend(disk, options()).unwrap();
    let tx = store.read().unwrap();
    let rows = tx.scan(&VERSIONS, Scan::all()).unwrap();
    let rows: BTreeMap<u32, String> = rows
        .map(|row| row.unwrap())
        .map(|((_, _, number), version)| (number, version.snapshot.0))
        .collect();
    let promised = acknowledged.iter().filter(|change| change.n_syncs <= n_syncs);
    for Acknowledged { number, text, .. } in promised {
        assert_eq!(rows.get(number), Some(text), "{what}: version {number}");
    }
    let n_rows = rows.len() as u64;
    assert_eq!(count(&tx, &tenant(), "versions").unwrap(), n_rows, "{what}");
    assert_eq!(queue::pending(&tx, &DEF).unwrap(), n_rows, "{what}");
    assert_eq!(queue::depths(&tx, &DEF).unwrap().ready, n_rows, "{what}");
    assert_eq!(store.last_seq().get(), n_rows, "{what}");
    drop(tx);
    // It is a store like any other.
    let leased = store.write_blocking(|tx| queue::lease(tx, &DEF, UnixMicros(0), usize::MAX));
    assert_eq!(leased.unwrap().value.len(), rows.len(), "{what}");
}

fn seeds() -> u64 {
    let seeds = std::env::var("ACTIVEKG_POWER_CUT_SEEDS");
    seeds.map_or(3, |text| text.parse().expect("ACTIVEKG_POWER_CUT_SEEDS is a number"))
}

#[test]
fn acknowledged_changes_survive_a_cut_at_any_sync() {
    for seed in 0..seeds() {
        let mut dice = Dice::new(seed);
        let disk = Disk::with(fresh());
        let store = Store::open_backend(disk.clone(), options()).unwrap();
        let mut acknowledged = Vec::new();
        for number in 0..12 {
            let text = "x".repeat(dice.below(20_000) as usize);
            write(&store, number, text.clone());
            acknowledged.push(Acknowledged { number, text, n_syncs: disk.n_syncs() });
        }
        store.close();
        let history = disk.state().history.clone();
        assert!(history.len() >= acknowledged.len());
        for (n, (before, pending)) in history.into_iter().enumerate() {
            let what = format!("seed {seed}, sync {n}");
            check(before.clone(), &acknowledged, n, &format!("{what}, nothing written"));
            for round in 0..3 {
                let torn = torn(&before, &pending, &mut dice);
                check(torn, &acknowledged, n, &format!("{what}, part written, {round}"));
            }
        }
    }
}

/// `before` with some of the pending writes, in any order, one of them in part.
fn torn(before: &[u8], pending: &[Write], dice: &mut Dice) -> Vec<u8> {
    let mut bytes = before.to_vec();
    let mut order: Vec<&Write> = Vec::new();
    for write in pending {
        // The length of a file is its file system's business, and journalled in order.
        if let Write::Resize(_) = write {
            write.apply(&mut bytes);
        } else if dice.below(2) == 0 {
            let at = dice.below(order.len() as u64 + 1) as usize;
            order.insert(at, write);
        }
    }
    let cut = dice.below(order.len() as u64 + 1) as usize;
    for (n, write) in order.into_iter().enumerate() {
        match write {
            Write::Bytes { offset, data } if n == cut => {
                // Sectors are written whole.
                let sectors = (data.len() / 512) as u64;
                let len = dice.below(sectors + 1) as usize * 512;
                let data = data[..len].to_vec();
                Write::Bytes { offset: *offset, data }.apply(&mut bytes);
            }
            _ => write.apply(&mut bytes),
        }
    }
    bytes
}
