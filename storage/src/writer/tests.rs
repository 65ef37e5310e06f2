use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;

use redb::StorageBackend;
use redb::backends::InMemoryBackend;

use super::*;
use crate::ids::TenantId;
use crate::read::Readable;
use crate::store::{Store, StoreOptions};
use crate::table::Table;
use crate::tables::graph::{COUNTS, add_count, count};

fn tenant() -> TenantId {
    TenantId::new("acme").unwrap()
}

fn open() -> Arc<Store> {
    let store = Store::open_backend(InMemoryBackend::new(), StoreOptions::default());
    Arc::new(store.unwrap())
}

fn n(store: &Store, name: &str) -> u64 {
    count(&store.read().unwrap(), &tenant(), name).unwrap()
}

type Answer = oneshot::Receiver<Result<Committed<u64>, StorageError>>;

/// Keeps the committer busy until told to go on, so that what is sent meanwhile is one batch.
fn hold(store: &Arc<Store>) -> (mpsc::Sender<()>, std::thread::JoinHandle<()>) {
    let (go, wait) = mpsc::channel::<()>();
    let (entered, inside) = mpsc::channel();
    let store = Arc::clone(store);
    let thread = std::thread::spawn(move || {
        let held = store.write_blocking(move |_| {
            entered.send(()).unwrap();
            wait.recv().unwrap();
            Ok::<_, StorageError>(())
        });
        held.unwrap();
    });
    inside.recv().unwrap();
    (go, thread)
}

fn send<F>(store: &Store, change: F) -> Answer
where
    F: FnOnce(&mut WriteTx<'_>) -> Result<u64, StorageError> + Send + 'static,
{
    let (message, answer) = pending(Room::Takes, change);
    assert!(store.inbox().try_send(message).is_ok());
    answer
}

#[test]
fn changes_of_one_batch_share_a_commit_and_see_each_other() {
    let store = open();
    let (go, held) = hold(&store);
    let answers: Vec<Answer> =
        (0..50).map(|_| send(&store, |tx| add_count(tx, &tenant(), "n", 1))).collect();
    assert_eq!(store.stats().n_waiting, 50);
    go.send(()).unwrap();
    held.join().unwrap();
    for (before, answer) in answers.into_iter().enumerate() {
        assert_eq!(answer.blocking_recv().unwrap().unwrap().value, before as u64 + 1);
    }
    let stats = store.stats();
    assert_eq!((stats.commits, stats.batch_changes.sum), (1, 50.0));
    assert_eq!((stats.changes, stats.changes_failed, stats.rows), (51, 0, 50));
}

#[test]
fn a_bad_change_is_undone_alone() {
    let store = open();
    store.write_blocking(|tx| add_count(tx, &tenant(), "n", 1)).unwrap();
    let (go, held) = hold(&store);
    let good = send(&store, |tx| add_count(tx, &tenant(), "n", 1));
    let failed = send(&store, |tx| {
        add_count(tx, &tenant(), "n", 10)?;
        add_count(tx, &tenant(), "new", 10)?;
        tx.remove(&COUNTS, &(tenant(), "n".to_owned()))?;
        add_count(tx, &tenant(), "n", 99)?;
        Err(StorageError::Closed)
    });
    let panicked = send(&store, |tx| {
        add_count(tx, &tenant(), "n", 100)?;
        panic!("a bug in a change")
    });
    let late = send(&store, |tx| add_count(tx, &tenant(), "n", 1));
    go.send(()).unwrap();
    held.join().unwrap();
    assert_eq!(good.blocking_recv().unwrap().unwrap().value, 2);
    let failed = failed.blocking_recv().unwrap();
    assert!(matches!(failed, Err(StorageError::Closed)));
    let panicked = panicked.blocking_recv().unwrap();
    assert!(
        matches!(panicked, Err(StorageError::Panicked { reason }) if reason == "a bug in a change")
    );
    assert_eq!(late.blocking_recv().unwrap().unwrap().value, 3);
    assert_eq!((n(&store, "n"), n(&store, "new")), (3, 0));
    assert_eq!(store.stats().changes_failed, 2);
    let batches = store.stats().batch_changes;
    assert_eq!((batches.count(), batches.sum), (2, 5.0));
}

#[test]
fn what_writes_nothing_needs_no_commit() {
    let store = open();
    let read = store.write_blocking(|tx| tx.contains(&COUNTS, &(tenant(), "n".to_owned())));
    assert!(!read.unwrap().value);
    assert_eq!((store.stats().commits, store.stats().changes), (0, 1));
}

#[test]
fn closing_commits_what_waits() {
    let store = open();
    let (go, held) = hold(&store);
    let waiting = send(&store, |tx| add_count(tx, &tenant(), "n", 1));
    let closing = {
        let store = Arc::clone(&store);
        std::thread::spawn(move || store.close())
    };
    go.send(()).unwrap();
    held.join().unwrap();
    closing.join().unwrap();
    assert_eq!(waiting.blocking_recv().unwrap().unwrap().value, 1);
    let late = store.write_blocking(|tx| add_count(tx, &tenant(), "n", 1));
    assert!(matches!(late, Err(StorageError::Closed)));
}

#[test]
fn a_full_queue_makes_writers_wait_and_loses_nobody() {
    let options = StoreOptions { max_batch: 3, queue_len: 2, ..StoreOptions::default() };
    let store = Arc::new(Store::open_backend(InMemoryBackend::new(), options).unwrap());
    let (go, held) = hold(&store);
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let writers = async {
        let mut tasks = tokio::task::JoinSet::new();
        for _ in 0..40 {
            let store = Arc::clone(&store);
            tasks.spawn(async move {
                let change = |tx: &mut WriteTx<'_>| add_count(tx, &tenant(), "n", 1);
                store.write(change).await.unwrap().value
            });
        }
        // Every task has had its turn and waits: for room, or for its commit.
        while store.stats().n_waiting < 2 {
            tokio::task::yield_now().await;
        }
        go.send(()).unwrap();
        let mut seen = tasks.join_all().await;
        seen.sort_unstable();
        seen
    };
    let seen = runtime.block_on(writers);
    held.join().unwrap();
    assert_eq!(seen, (1..=40).collect::<Vec<u64>>());
    // At most three in each.
    assert!(store.stats().batch_changes.count() >= 14);
}

#[test]
fn waiters_hear_of_commits() {
    let store = open();
    let mut newest = store.watch_seq();
    let enqueued = store.enqueued("q");
    let mut woken = std::pin::pin!(enqueued.notified());
    let is_woken = |woken: std::pin::Pin<&mut tokio::sync::futures::Notified<'_>>| woken.enable();
    store.write_blocking(|tx| add_count(tx, &tenant(), "n", 1)).unwrap();
    assert!(!newest.has_changed().unwrap());
    assert!(!is_woken(woken.as_mut()));
    let failed = store.write_blocking(|tx| {
        tx.wake("q");
        Err::<(), _>(StorageError::Closed)
    });
    failed.unwrap_err();
    assert!(!is_woken(woken.as_mut()));
    let change = crate::Change {
        at: crate::UnixMicros(0),
        tenant: tenant(),
        kind: crate::ChangeKind::NodeText(crate::NodeId::from_u128(1)),
    };
    let logged = store.write_blocking(|tx| {
        tx.wake("q");
        tx.log(change)
    });
    assert_eq!(logged.unwrap().seq, Seq(1));
    assert!(is_woken(woken.as_mut()));
    assert_eq!(*newest.borrow_and_update(), Seq(1));
}

/// A disk that counts its syncs, which fail once told to.
#[derive(Debug, Default)]
struct Failing {
    medium: InMemoryBackend,
    broken: Arc<AtomicBool>,
    n_syncs: Arc<AtomicU64>,
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.medium.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.medium.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.medium.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(io::Error::other("the cable is out"));
        }
        self.n_syncs.fetch_add(1, Ordering::SeqCst);
        self.medium.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.medium.write(offset, data)
    }
}

#[test]
fn a_failed_sync_ends_all_writing() {
    let broken = Arc::new(AtomicBool::new(false));
    let disk = Failing { broken: Arc::clone(&broken), ..Failing::default() };
    let store = Store::open_backend(disk, StoreOptions::default()).unwrap();
    let add = |tx: &mut WriteTx<'_>| add_count(tx, &tenant(), "n", 1);
    store.write_blocking(add).unwrap();
    broken.store(true, Ordering::SeqCst);
    let failed = store.write_blocking(add).unwrap_err();
    assert!(matches!(&failed, StorageError::Unavailable { reason } if reason.contains("cable")));
    // What the disk kept after that nobody knows, so it is not trusted again.
    broken.store(false, Ordering::SeqCst);
    let later = store.write_blocking(add).unwrap_err();
    assert!(matches!(later, StorageError::Unavailable { .. }));
    assert_eq!((store.stats().commits, store.stats().writable), (1, false));
    assert!(matches!(store.fault(), Some(StorageError::Unavailable { .. })));
    assert_eq!(n(&store, "n"), 1, "reading goes on");
}

#[test]
fn what_touches_a_guarded_table_is_committed_in_two_phases() {
    const GUARDED: Table<(TenantId, String), u64> = Table::new("graph.counts").two_phase();
    let n_syncs = Arc::new(AtomicU64::new(0));
    let disk = Failing { n_syncs: Arc::clone(&n_syncs), ..Failing::default() };
    let store = Store::open_backend(disk, StoreOptions::default()).unwrap();
    let syncs_of = |change: fn(&mut WriteTx<'_>) -> Result<(), StorageError>| {
        let before = n_syncs.load(Ordering::SeqCst);
        store.write_blocking(change).unwrap();
        n_syncs.load(Ordering::SeqCst) - before
    };
    let key = || (tenant(), "n".to_owned());
    syncs_of(move |tx| tx.put(&COUNTS, &(tenant(), "n".to_owned()), &1));
    let plain = syncs_of(move |tx| tx.put(&COUNTS, &(tenant(), "n".to_owned()), &2));
    let guarded = syncs_of(move |tx| tx.put(&GUARDED, &(tenant(), "n".to_owned()), &3));
    assert_eq!((plain, guarded), (1, 2));
    assert_eq!(store.stats().commits_two_phase, 1);
    assert_eq!(store.read().unwrap().get(&COUNTS, &key()).unwrap(), Some(3));
}
