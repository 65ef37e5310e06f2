//! The store: opened once by one process, read by anyone, written through the committer.

use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread::JoinHandle;

use redb::ReadableDatabase;
use tokio::sync::{Notify, mpsc, watch};

use crate::changes;
use crate::error::{StorageError, WHOLE};
use crate::ids::Seq;
use crate::open::{self, DirLock, OpenError};
use crate::read::{ReadTx, guarded};
use crate::stats::{Counters, StoreStats};
use crate::write::WriteTx;
use crate::writer::{Committed, Committer, Message, pending};

/// How a store is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreOptions {
    /// Memory for pages read and not yet written back, in bytes. Taken as it is needed.
    pub cache_bytes: usize,
    /// Most changes in one commit; at least 1.
    pub max_batch: usize,
    /// Changes that may wait for a commit before whoever brings another has to; at least 1.
    pub queue_len: usize,
}

impl Default for StoreOptions {
    /// 64 MiB of cache, 1024 changes a commit, 4096 waiting.
    fn default() -> StoreOptions {
        StoreOptions { cache_bytes: 64 << 20, max_batch: 1024, queue_len: 4096 }
    }
}

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
    pub(crate) stats: Counters,
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
        let (database, lock) = open::directory(dir, &options)?;
        let path = dir.join(open::STORE_FILE);
        let damaged = |error: StorageError| OpenError::Damaged {
            path: path.clone(),
            reason: error.to_string(),
        };
        Store::start(database, Some(lock), options).map_err(damaged)
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
        Store::start(database, None, options)
    }

    fn start(
        database: redb::Database,
        lock: Option<DirLock>,
        options: StoreOptions,
    ) -> Result<Store, StorageError> {
        let snapshot = ReadTx::new(guarded(WHOLE, || database.begin_read())?);
        let shared = Arc::new(Shared {
            database: RwLock::new(Some(database)),
            newest: watch::Sender::new(changes::newest(&snapshot)?),
            queues: Mutex::default(),
            closing: AtomicBool::new(false),
            stats: Counters::default(),
        });
        drop(snapshot);
        let (sender, inbox) = mpsc::channel(options.queue_len.max(1));
        let committer = Committer {
            shared: Arc::clone(&shared),
            inbox,
            max_batch: options.max_batch.max(1),
            fault: None,
        };
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
        guarded(WHOLE, || database.begin_read()).map(ReadTx::new)
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
    /// [`StorageError::Unavailable`] if the commit failed, now or at any time since the store was
    /// opened; [`StorageError::Closed`].
    pub async fn write<T, E, F>(&self, change: F) -> Result<Committed<T>, E>
    where
        T: Send + 'static,
        E: From<StorageError> + Send + 'static,
        F: FnOnce(&mut WriteTx<'_>) -> Result<T, E> + Send + 'static,
    {
        let (message, answer) = pending(change);
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
        let (message, answer) = pending(change);
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

    /// What the committer has done so far.
    #[must_use]
    pub fn stats(&self) -> StoreStats {
        let n_waiting = self.inbox.max_capacity() - self.inbox.capacity();
        self.shared.stats.snapshot(n_waiting)
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
        if let Some(database) = database.take() {
            // A damaged file can make closing it panic; there is nothing left to save by then.
            let dropped = guarded(WHOLE, || {
                drop(database);
                Ok::<_, redb::StorageError>(())
            });
            if let Err(error) = dropped {
                tracing::error!("could not close the store in order: {error}");
            }
        }
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

impl Shared {
    pub(crate) fn database(&self) -> RwLockReadGuard<'_, Option<redb::Database>> {
        self.database.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
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
