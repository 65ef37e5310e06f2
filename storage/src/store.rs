//! The store: opened once by one process, read by anyone, written through the committer.

mod options;

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use redb::ReadableDatabase;
use tokio::sync::{Notify, mpsc, watch};

use crate::changes;
use crate::error::{StorageError, WHOLE};
use crate::ids::Seq;
use crate::open::{self, DirLock, OpenError, Opening};
use crate::read::{ReadTx, guarded};
use crate::readers::{ReaderStats, Readers};
use crate::space::{Holder, Reserve, Reserved};
use crate::stats::{Counters, StoreStats};
use crate::write::WriteTx;
use crate::writer::{Committed, Committer, Message, Room, pending};

pub use options::StoreOptions;

/// One store in one directory, held by this process alone. Share it in an `Arc`.
///
/// Dropping it closes it as [`Store::close`] does.
pub struct Store {
    shared: Arc<Shared>,
    inbox: mpsc::Sender<Message>,
    committer: Mutex<Option<JoinHandle<()>>>,
    /// Given back last, when the file is closed.
    lock: Mutex<Option<DirLock>>,
}

/// What the store and its committer share.
pub(crate) struct Shared {
    /// `None` once closed.
    database: RwLock<Option<redb::Database>>,
    newest: watch::Sender<Seq>,
    queues: Mutex<HashMap<&'static str, Arc<Notify>>>,
    closing: AtomicBool,
    /// Set by the first failed commit and never cleared.
    fault: OnceLock<StorageError>,
    reopen: Option<Reopen>,
    readers: Readers,
    pub(crate) stats: Counters,
}

/// Opens the file again, for reading alone.
type Reopen = Box<dyn Fn() -> Result<redb::Database, StorageError> + Send + Sync>;

/// What a store is made of.
struct Parts {
    database: redb::Database,
    lock: Option<DirLock>,
    reserve: Option<Arc<Reserve>>,
    /// Why nothing can be written, if so.
    read_only: Option<String>,
    reopen: Option<Reopen>,
}

impl Parts {
    fn of(database: redb::Database) -> Parts {
        Parts { database, lock: None, reserve: None, read_only: None, reopen: None }
    }
}

impl Store {
    /// Opens the store in `dir`, making both if they are not there. Blocks, after a crash for as
    /// long as the file takes to check.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing was changed if it says that the directory is not writable, that
    /// another process holds it, or that a newer version wrote it.
    pub fn open(dir: &Path, options: StoreOptions) -> Result<Store, OpenError> {
        let Opening { database, lock, reserve, read_only } = open::directory(dir, &options)?;
        let path = dir.join(open::STORE_FILE);
        let again = (path.clone(), options.clone());
        let reopen: Reopen = Box::new(move || {
            let opened = open::for_reading(&again.0, &again.1);
            opened.map_err(StorageError::unavailable)
        });
        let damaged = |error: StorageError| OpenError::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        };
        let parts = Parts { database, lock: Some(lock), reserve, read_only, reopen: Some(reopen) };
        Store::start(parts, options).map_err(damaged)
    }

    /// Opens the store's file `path`, without lock and format check: for one that is being made.
    pub(crate) fn open_file(path: &Path, options: StoreOptions) -> Result<Store, StorageError> {
        let database = guarded(WHOLE, || open::builder(&options).open(path))?;
        Store::start(Parts::of(database), options)
    }

    /// Opens a store on any medium, without lock and format check: for tests that lose power.
    ///
    /// # Errors
    ///
    /// If the medium fails or does not hold a store.
    #[doc(hidden)]
    pub fn open_backend(
        backend: impl redb::StorageBackend,
        options: StoreOptions,
    ) -> Result<Store, StorageError> {
        let database = guarded(WHOLE, || open::builder(&options).create_with_backend(backend))?;
        Store::start(Parts::of(database), options)
    }

    /// [`Store::open_backend`] with a second look at the medium, `again`, to read from when the
    /// first can no longer be written: for tests that fail writes.
    ///
    /// # Errors
    ///
    /// As [`Store::open_backend`].
    #[doc(hidden)]
    pub fn open_faulty<B: redb::StorageBackend>(
        backend: impl redb::StorageBackend,
        again: impl Fn() -> B + Send + Sync + 'static,
        options: StoreOptions,
    ) -> Result<Store, StorageError> {
        let database = guarded(WHOLE, || open::builder(&options).create_with_backend(backend))?;
        let later = options.clone();
        let reopen: Reopen =
            Box::new(move || guarded(WHOLE, || open::builder(&later).create_with_backend(again())));
        Store::start(Parts { reopen: Some(reopen), ..Parts::of(database) }, options)
    }

    /// Brings a store of format `from` on any medium to the present one: for tests that lose power
    /// meanwhile.
    ///
    /// # Errors
    ///
    /// As [`Store::open_backend`].
    #[doc(hidden)]
    pub fn upgrade_backend(
        backend: impl redb::StorageBackend,
        options: &StoreOptions,
        from: u64,
    ) -> Result<(), StorageError> {
        let database = guarded(WHOLE, || open::builder(options).create_with_backend(backend))?;
        crate::migrate::run(&database, from, crate::time::UnixMicros(0))
    }

    /// [`Store::open_backend`] with space kept back by `holder`: for tests that fill the disk.
    ///
    /// # Errors
    ///
    /// As [`Store::open_backend`], or if the holder fails.
    #[doc(hidden)]
    pub fn open_reserved(
        backend: impl redb::StorageBackend,
        holder: impl Holder,
        options: StoreOptions,
    ) -> Result<Store, StorageError> {
        let len = backend.len().map_err(StorageError::unavailable)?;
        let reserve = Reserve::new(Box::new(holder), len).map_err(StorageError::unavailable)?;
        let reserve = Arc::new(reserve);
        let backend = Reserved::new(backend);
        backend.fall_back_on(Arc::clone(&reserve));
        let database = guarded(WHOLE, || open::builder(&options).create_with_backend(backend))?;
        Store::start(Parts { reserve: Some(reserve), ..Parts::of(database) }, options)
    }

    fn start(parts: Parts, options: StoreOptions) -> Result<Store, StorageError> {
        let Parts { database, lock, reserve, read_only, reopen } = parts;
        let snapshot = ReadTx::new(guarded(WHOLE, || database.begin_read())?);
        let shared = Arc::new(Shared {
            database: RwLock::new(Some(database)),
            newest: watch::Sender::new(changes::newest(&snapshot)?),
            queues: Mutex::default(),
            closing: AtomicBool::new(false),
            fault: OnceLock::new(),
            reopen,
            readers: Readers::default(),
            stats: Counters::default(),
        });
        drop(snapshot);
        let (sender, inbox) = mpsc::channel(options.queue_len.max(1));
        let committer = Committer {
            shared: Arc::clone(&shared),
            inbox,
            max_batch: options.max_batch.max(1),
            quick_repair_from: options.quick_repair_from,
            reserve,
        };
        if let Some(reason) = read_only {
            tracing::error!("the store can be read and not written: {reason}");
            shared.fail(StorageError::Unavailable { reason });
        }
        let thread = std::thread::Builder::new().name("store-committer".to_owned());
        let thread = thread.spawn(move || committer.run()).map_err(StorageError::unavailable)?;
        Ok(Store {
            shared,
            inbox: sender,
            committer: Mutex::new(Some(thread)),
            lock: Mutex::new(lock),
        })
    }

    /// A snapshot to read from. Cheap, but blocks on the disk as it is read: not for async threads.
    ///
    /// # Errors
    ///
    /// [`StorageError::Closed`], or the disk is at fault.
    pub fn read(&self) -> Result<ReadTx, StorageError> {
        let database = self.shared.database();
        let database = database.as_ref().ok_or(StorageError::Closed)?;
        let tx = guarded(WHOLE, || database.begin_read()).map(ReadTx::new)?;
        Ok(tx.counted(self.shared.readers.enter()))
    }

    /// Runs `change` in the committer's thread, and returns once it is durable.
    ///
    /// The change runs exactly once, together with others that arrived meanwhile, and is all or
    /// nothing: an error or a panic undoes what it wrote. It must not block on anything but the
    /// store. Waits while the queue of changes is full. If the returned future is dropped, the
    /// change may or may not happen.
    ///
    /// # Errors
    ///
    /// What the change returned; [`StorageError::Panicked`] if it panicked;
    /// [`StorageError::Full`] while the disk is; [`StorageError::Unavailable`] if the commit failed,
    /// now or at any time since the store was opened; [`StorageError::Closed`].
    pub async fn write<T, E, F>(&self, change: F) -> Result<Committed<T>, E>
    where
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
        F: FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.send(Room::Takes, change).await
    }

    /// [`Store::write`] for changes that make room, by removing rows or marking them: they are
    /// taken on a full disk too, as long as the space kept back lasts.
    ///
    /// # Errors
    ///
    /// As for [`Store::write`].
    pub async fn make_room<T, E, F>(&self, change: F) -> Result<Committed<T>, E>
    where
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
        F: FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send + 'static,
    {
        self.send(Room::Makes, change).await
    }

    async fn send<T, E, F>(&self, room: Room, change: F) -> Result<Committed<T>, E>
    where
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
        F: FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send + 'static,
    {
        let (message, answer) = pending(room, change);
        if self.inbox.send(message).await.is_err() {
            return Err(E::from(StorageError::Closed));
        }
        answer.await.unwrap_or(Err(E::from(StorageError::Closed)))
    }

    /// [`Store::write`] for threads that may block.
    ///
    /// # Errors
    ///
    /// As for [`Store::write`].
    ///
    /// # Panics
    ///
    /// On an async thread.
    pub fn write_blocking<T, E, F>(&self, change: F) -> Result<Committed<T>, E>
    where
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
        F: FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send + 'static,
    {
        let (message, answer) = pending(Room::Takes, change);
        if self.inbox.blocking_send(message).is_err() {
            return Err(E::from(StorageError::Closed));
        }
        let closed = |_| Err(E::from(StorageError::Closed));
        answer.blocking_recv().unwrap_or_else(closed)
    }

    /// The newest durable number in the change log.
    #[must_use]
    pub fn last_seq(&self) -> Seq {
        self.shared.last_seq()
    }

    /// Follows [`Store::last_seq`]: changes after every commit that logged something.
    #[must_use]
    pub fn watch_seq(&self) -> watch::Receiver<Seq> {
        self.shared.newest.subscribe()
    }

    /// Where `queue` announces new work, with `notify_waiters` after the commit that brought it.
    /// A worker makes its `notified()` future before it looks for work, so that none is missed.
    /// Items that merely come due are not announced: see [`next_due`](crate::queue::next_due).
    #[must_use]
    pub fn enqueued(&self, queue: &'static str) -> Arc<Notify> {
        let mut queues = self.shared.queues.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(queues.entry(queue).or_default())
    }

    /// The snapshots that are open.
    #[must_use]
    pub fn readers(&self) -> ReaderStats {
        self.shared.readers.stats()
    }

    /// What the committer has done so far.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let n_waiting = self.inbox.max_capacity() - self.inbox.capacity();
        self.shared.stats.snapshot(n_waiting, self.shared.fault().is_none())
    }

    /// Why the store takes no writes, if it takes none: its file system cannot be written, or a commit
    /// has failed since it was opened. Reading goes on; opening it anew is what helps, once the disk
    /// is well.
    #[must_use]
    pub fn fault(&self) -> Option<StorageError> {
        self.shared.fault().cloned()
    }

    /// Turns away new changes, commits those that wait, closes the file and gives up the directory.
    /// Blocks until that is done; then every read and write answers [`StorageError::Closed`].
    pub fn close(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        // If the queue is full the committer is awake, and sees the flag without this.
        drop(self.inbox.try_send(Message::Wake));
        let mut committer = self.committer.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(thread) = committer.take()
            && thread.join().is_err()
        {
            tracing::error!("the committer panicked");
        }
        let mut database = self.shared.database.write().unwrap_or_else(PoisonError::into_inner);
        discard(database.take());
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        drop(lock.take());
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        self.close();
    }
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("last_seq", &self.last_seq()).finish_non_exhaustive()
    }
}

/// Closes the file.
pub(crate) fn discard(database: Option<redb::Database>) {
    // A damaged file can make closing it panic; there is nothing left to save by then.
    let dropped = guarded(WHOLE, || {
        drop(database);
        Ok::<_, redb::StorageError>(())
    });
    if let Err(error) = dropped {
        tracing::error!("could not close the store in order: {error}");
    }
}

impl Shared {
    pub(crate) fn database(&self) -> RwLockReadGuard<'_, Option<redb::Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a failed write the layer below refuses to read as well; what is on the disk can be
    /// read all the same.
    pub(crate) fn go_on_reading(&self) {
        let Some(reopen) = &self.reopen else { return };
        let mut database = self.database.write().unwrap_or_else(PoisonError::into_inner);
        discard(database.take());
        match reopen() {
            Ok(reopened) => *database = Some(reopened),
            Err(error) => tracing::error!("nor can it be read: {error}"),
        }
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    pub(crate) fn fault(&self) -> Option<&StorageError> {
        self.fault.get()
    }

    /// Keeps the first fault; whether this is it.
    pub(crate) fn fail(&self, fault: StorageError) -> bool {
        self.fault.set(fault).is_ok()
    }

    pub(crate) fn last_seq(&self) -> Seq {
        *self.newest.borrow()
    }

    /// Publishes the newest durable number.
    pub(crate) fn advance(&self, seq: Seq) {
        self.newest.send_if_modified(|newest| {
            let moved = seq > *newest;
            *newest = seq.max(*newest);
            moved
        });
    }

    /// Wakes the workers of `queues`.
    pub(crate) fn notify(&self, queues: &[&'static str]) {
        let known = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        for queue in queues {
            if let Some(notify) = known.get(queue) {
                notify.notify_waiters();
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    impl Store {
        /// The committer's queue, to send to without waiting for the answer.
        pub(crate) fn inbox(&self) -> &mpsc::Sender<Message> {
            &self.inbox
        }
    }

    pub(crate) fn open(dir: &Path) -> Store {
        Store::open(dir, StoreOptions::default()).unwrap()
    }

    /// Commits `change`, which must succeed.
    pub(crate) fn write<T: Send + 'static>(
        store: &Store,
        change: impl FnOnce(&mut WriteTx<'_>) -> Result<T, StorageError> + Send + 'static,
    ) -> T {
        store.write_blocking(change).unwrap().value
    }
}
