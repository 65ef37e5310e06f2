//! Disk space kept back, so that a commit never meets a full disk.
//!
//! The layer below gives up for good when a write fails, even one that fails for want of space:
//! nothing can then be read or written until the file is opened again. So beside the store's file
//! lies another that only holds space. When the disk is full it gives up as much as the write
//! needs, and the write is done again. From then on only changes that make room are taken, until
//! there is space to make the reserve whole.

use std::fs::{File, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use fs4::fs_std::FileExt;
use redb::StorageBackend;

use crate::error::StorageError;

/// The file that holds the space, in the data directory.
pub(crate) const RESERVE_FILE: &str = "store.reserve";

/// Space kept back for every store, in bytes.
const RESERVE_MIN: u64 = 8 << 20;

/// Most space kept back, in bytes: what one commit may still have to write, which is the half of
/// the largest usual cache that may wait to be written, and the commit's own pages.
const RESERVE_MAX: u64 = 40 << 20;

/// Share of the store's file that is kept back, between the two limits: a small store changes few
/// pages at a time.
const SHARE: u64 = 4;

/// Of what is free, the reserve takes at most this share to grow.
const PLENTY: u64 = 8;

/// Share of the reserve that is enough for a change that makes room.
const ENOUGH: u64 = 4;

/// What is given up at a time, in bytes, unless a write needs more.
const STEP: u64 = 256 << 10;

/// Where space is held, and what is left on the same disk.
#[doc(hidden)]
pub trait Holder: Send + Sync + 'static {
    /// Holds this many bytes and no more. After an error it may hold fewer.
    ///
    /// # Errors
    ///
    /// As the disk says; nothing more may be free.
    fn hold(&self, bytes: u64) -> io::Result<()>;

    /// Bytes held.
    ///
    /// # Errors
    ///
    /// As the disk says.
    fn held(&self) -> io::Result<u64>;

    /// Bytes free beside those.
    ///
    /// # Errors
    ///
    /// As the disk says.
    fn free(&self) -> io::Result<u64>;

    /// The place, for the operator.
    fn name(&self) -> String;
}

/// The space kept back for one store. Shared by its committer and its file.
pub(crate) struct Reserve {
    holder: Mutex<Box<dyn Holder>>,
    /// Bytes held now.
    held: AtomicU64,
    /// Bytes to be held.
    wanted: AtomicU64,
    /// Length of the store's file.
    store_bytes: AtomicU64,
}

impl Reserve {
    /// Holds what `holder` can of what a store of `store_bytes` needs, and fails if it cannot tell.
    pub(crate) fn new(holder: Box<dyn Holder>, store_bytes: u64) -> io::Result<Reserve> {
        let held = holder.held()?;
        let reserve = Reserve {
            holder: Mutex::new(holder),
            held: AtomicU64::new(held),
            wanted: AtomicU64::new(RESERVE_MIN),
            store_bytes: AtomicU64::new(0),
        };
        reserve.suit(store_bytes);
        reserve.refill();
        Ok(reserve)
    }

    /// Notes the length of the store's file and wants what suits it, never less than before. It
    /// grows out of plenty only: it must not be what fills the disk.
    fn suit(&self, store_bytes: u64) {
        self.store_bytes.store(store_bytes, Ordering::Relaxed);
        let suits = (store_bytes / SHARE).min(RESERVE_MAX);
        let missing = suits.saturating_sub(self.held());
        let free = self.holder().free().unwrap_or(0);
        if suits > self.wanted.load(Ordering::Relaxed) && missing <= free / PLENTY {
            self.wanted.store(suits, Ordering::Relaxed);
            self.refill();
        }
    }

    /// Length of the store's file.
    pub(crate) fn store_bytes(&self) -> u64 {
        self.store_bytes.load(Ordering::Relaxed)
    }

    /// Bytes held. What the committer compares before it commits.
    pub(crate) fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }

    /// Tries to hold all that is wanted, and says what is missing.
    ///
    /// # Errors
    ///
    /// [`StorageError::Full`].
    pub(crate) fn whole(&self) -> Result<(), StorageError> {
        if self.held() >= self.wanted.load(Ordering::Relaxed) || self.refill() {
            return Ok(());
        }
        let holder = self.holder();
        // A disk that does not say what is free is taken to be as full as it behaves.
        let free = holder.free().unwrap_or(0);
        let needed = self.wanted.load(Ordering::Relaxed).saturating_sub(self.held());
        Err(StorageError::Full { path: holder.name(), free, needed })
    }

    /// Whether there is enough for one change that makes room.
    ///
    /// # Errors
    ///
    /// [`StorageError::Full`].
    pub(crate) fn some(&self) -> Result<(), StorageError> {
        match self.whole() {
            Err(full) if self.held() < self.wanted.load(Ordering::Relaxed) / ENOUGH => Err(full),
            _ => Ok(()),
        }
    }

    fn refill(&self) -> bool {
        let holder = self.holder();
        let wanted = self.wanted.load(Ordering::Relaxed);
        let before = self.held();
        if before >= wanted {
            return true;
        }
        // Asked first, so that a full disk is not stirred up at every attempt.
        let missing = wanted - before;
        let whole = holder.free().is_ok_and(|free| free >= missing) && holder.hold(wanted).is_ok();
        if !whole && holder.held().is_ok_and(|held| held != before) {
            // What could be had in part goes back: somebody else may need it to finish.
            drop(holder.hold(before));
        }
        self.held.store(holder.held().unwrap_or(0), Ordering::Relaxed);
        if whole {
            tracing::debug!(bytes = wanted, "disk space is kept back for the store");
        }
        whole
    }

    /// Gives up `bytes`, or what is left; false if nothing was.
    fn give_up(&self, bytes: u64) -> bool {
        let holder = self.holder();
        let before = self.held();
        let after = before.saturating_sub(bytes.max(STEP));
        if before == 0 || holder.hold(after).is_err() {
            return false;
        }
        self.held.store(after, Ordering::Relaxed);
        if before >= self.wanted.load(Ordering::Relaxed) {
            let path = holder.name();
            tracing::error!(
                path,
                "the disk is full; only changes that make room are taken until there is space"
            );
        }
        true
    }

    fn holder(&self) -> MutexGuard<'_, Box<dyn Holder>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Reserve {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (held, wanted) = (&self.held, &self.wanted);
        f.debug_struct("Reserve").field("held", held).field("wanted", wanted).finish()
    }
}

/// A file whose writes find space as long as there is a reserve.
#[derive(Debug)]
pub(crate) struct Reserved<B> {
    file: B,
    /// Set once the file may be written.
    reserve: OnceLock<Arc<Reserve>>,
}

impl<B: StorageBackend> Reserved<B> {
    /// A file that has no reserve yet.
    pub(crate) fn new(file: B) -> Reserved<B> {
        Reserved { file, reserve: OnceLock::new() }
    }

    /// Lets the file fall back on `reserve` from here on; a second one is ignored.
    pub(crate) fn fall_back_on(&self, reserve: Arc<Reserve>) {
        self.reserve.get_or_init(|| reserve);
    }

    /// Runs `write`, again as long as it fails for want of `bytes` and the reserve can give them.
    fn with_space<T>(&self, bytes: u64, mut write: impl FnMut() -> io::Result<T>) -> io::Result<T> {
        loop {
            match write() {
                Err(error) if is_full(&error) && self.give_up(bytes) => {}
                done => return done,
            }
        }
    }

    fn give_up(&self, bytes: u64) -> bool {
        self.reserve.get().is_some_and(|reserve| reserve.give_up(bytes))
    }
}

/// Whether an error says that there is no space.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl<B: StorageBackend> StorageBackend for Reserved<B> {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.with_space(0, || self.file.set_len(len))?;
        if let Some(reserve) = self.reserve.get() {
            reserve.suit(len);
        }
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.with_space(data.len() as u64, || self.file.write(offset, data))
    }
}

/// A file that holds space on its file system.
pub(crate) struct FileHolder {
    file: File,
    dir: PathBuf,
}

impl FileHolder {
    /// The one of the store in `dir`.
    pub(crate) fn open(dir: &Path) -> io::Result<FileHolder> {
        let mut options = OpenOptions::new();
        crate::open::private(options.read(true).write(true).create(true).truncate(false));
        Ok(FileHolder { file: options.open(dir.join(RESERVE_FILE))?, dir: dir.to_owned() })
    }
}

impl Holder for FileHolder {
    fn hold(&self, bytes: u64) -> io::Result<()> {
        if bytes <= self.held()? {
            return self.file.set_len(bytes);
        }
        self.file.allocate(bytes)
    }

    fn held(&self) -> io::Result<u64> {
        self.file.metadata().map(|file| file.len())
    }

    fn free(&self) -> io::Result<u64> {
        fs4::available_space(&self.dir)
    }

    fn name(&self) -> String {
        self.dir.display().to_string()
    }
}
