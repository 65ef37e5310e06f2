//! Opening a data directory: lock it, make the store if there is none, check its format.

mod held;
mod lock;
mod recovery;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase};

use crate::error::{StorageError, WHOLE, panic_message};
use crate::migrate;
use crate::read::{ReadTx, Readable, guarded};
use crate::space::{self, FileHolder, Reserve};
use crate::store::StoreOptions;
use crate::table::{Table, TableInfo};
use crate::time::{Clock, SystemClock};
use crate::write::WriteTx;
pub(crate) use held::Held;
pub(crate) use lock::{DirLock, LOCK_FILE};
pub use recovery::Recovery;

/// The format this version writes, and the newest it reads.
pub const FORMAT: u64 = 2;

pub(crate) const STORE_FILE: &str = "store.redb";

/// A store being made. Left over if the process dies meanwhile, and then written anew.
const NEW_FILE: &str = "store.redb.new";

/// (name) -> number. Point look-ups only.
///
/// Every version must be able to read it, so its shape is for good.
const META: Table<(String,), u64> = Table::new("meta").two_phase();

pub(crate) const TABLES: &[TableInfo] = &[TableInfo::of(&META)];

const FORMAT_KEY: &str = "format";

/// Why a store cannot be opened. Each says in one line what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The directory or a file in it cannot be made or written. Nothing was changed.
    #[error("cannot write {}: {source}; choose another data directory or correct its permissions", path.display())]
    NotWritable {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Another process has the directory open. Nothing was changed.
    #[error("{} is in use by {}; stop it or choose another data directory", path.display(), holder(*pid))]
    Locked {
        /// The directory.
        path: PathBuf,
        /// The process, if it could be told.
        pid: Option<u32>,
    },
    /// A newer version wrote the store. Nothing was changed.
    #[error(
        "{} has format {found}, this version reads up to {supported}; run the version that wrote it or a newer one",
        path.display()
    )]
    NewerFormat {
        /// The store's file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// [`FORMAT`].
        supported: u64,
    },
    /// An older version wrote the store, and what is asked for does not change it. Nothing was
    /// changed.
    #[error(
        "{} has format {found}; start `activekg serve` with it once, which brings it to format {present}",
        path.display()
    )]
    OlderFormat {
        /// The store's file.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// [`FORMAT`].
        present: u64,
    },
    /// Another program brought the store to a format in a way of its own. Nothing was changed.
    #[error(
        "{} was brought to format {format} by another program, as \"{step}\"; run the program that did it",
        path.display()
    )]
    Foreign {
        /// The store's file.
        path: PathBuf,
        /// The format.
        format: u64,
        /// What that program calls the change.
        step: String,
    },
    /// The store's file is not, or no longer, a store.
    #[error(
        "{} is damaged: {reason}; save what can be read with `activekg db repair`, or use `activekg backup restore`",
        path.display()
    )]
    Damaged {
        /// The store's file.
        path: PathBuf,
        /// What does not fit.
        reason: String,
    },
    /// The disk failed while the store was read.
    #[error("cannot read {}: {source}; check the disk", path.display())]
    Unreadable {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}

pub(crate) fn builder(options: &StoreOptions) -> redb::Builder {
    let mut builder = Database::builder();
    builder.set_cache_size(options.cache_bytes);
    let recovery = options.recovery.clone();
    builder.set_repair_callback(move |walk| recovery.tell(walk.progress()));
    builder
}

/// A store's parts, open.
pub(crate) struct Opening {
    pub(crate) database: Database,
    pub(crate) lock: DirLock,
    /// `None` where nothing can be written.
    pub(crate) reserve: Option<Arc<Reserve>>,
    /// Why nothing can be written, if so.
    pub(crate) read_only: Option<String>,
}

/// Opens the store in `dir`, making what is not there.
pub(crate) fn directory(dir: &Path, options: &StoreOptions) -> Result<Opening, OpenError> {
    let mut lock = DirLock::acquire(dir)?;
    let path = dir.join(STORE_FILE);
    let exists =
        path.try_exists().map_err(|source| OpenError::Unreadable { path: path.clone(), source })?;
    if !exists {
        create(dir, &path, options)?;
    }
    match existing(dir, &path, options) {
        Ok((database, reserve)) => {
            match lock.sign() {
                // The number is for people; the lock itself needs no space.
                Err(OpenError::NotWritable { source, .. }) if space::is_full(&source) => {}
                signed => signed?,
            }
            Ok(Opening { database, lock, reserve: Some(reserve), read_only: None })
        }
        Err(OpenError::NotWritable { source, .. }) if is_read_only(&source) => {
            let database = for_reading(&path, options)?;
            let read_only = Some(format!("{}: {source}", path.display()));
            Ok(Opening { database, lock, reserve: None, read_only })
        }
        Err(error) => {
            if matches!(error, OpenError::NewerFormat { .. } | OpenError::Foreign { .. }) {
                lock.withdraw();
            }
            Err(error)
        }
    }
}

/// Opens the store's file. Nothing is written to it before its format is known; if that is an
/// older one, the store is brought to the present one.
fn existing(
    dir: &Path,
    path: &Path,
    options: &StoreOptions,
) -> Result<(Database, Arc<Reserve>), OpenError> {
    let not_writable = |source| OpenError::NotWritable { path: path.to_owned(), source };
    let damaged = |error: StorageError| OpenError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let open = || OpenOptions::new().read(true).write(true).open(path).map_err(not_writable);
    let mut looked = known(path, open()?, options)?;
    let old = migrate::is_old(looked.format).then_some(looked.format);
    if let Some(format) = old {
        // The copy is of the file as it is found, so nothing may be held back in memory meanwhile.
        drop(looked);
        migrate::keep_copy(path, format);
        looked = known(path, open()?, options)?;
    }
    let Known { database, held, format: _ } = looked;
    let len = held.len().map_err(not_writable)?;
    let reserve = FileHolder::open(dir).and_then(|file| Reserve::new(Box::new(file), len));
    let reserve = Arc::new(reserve.map_err(not_writable)?);
    held.release(Arc::clone(&reserve)).map_err(not_writable)?;
    if let Some(format) = old {
        let failed = |error| match error {
            StorageError::Corrupt { .. } => damaged(error),
            // Nothing is wrong with the store: it is as it was, and can be brought on another time.
            other => not_writable(io::Error::other(other.to_string())),
        };
        migrate::run(&database, format, SystemClock.now()).map_err(failed)?;
    }
    Ok((database, reserve))
}

/// Opens the store's file where it cannot be written. What recovery after a crash would write stays
/// in memory.
pub(crate) fn for_reading(path: &Path, options: &StoreOptions) -> Result<Database, OpenError> {
    let unreadable = |source| OpenError::Unreadable { path: path.to_owned(), source };
    let file = File::open(path).map_err(unreadable)?;
    recovered(path, file, options).map(|(database, _)| database)
}

/// Whether an error says that nothing can be written here, while reading goes on.
fn is_read_only(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ReadOnlyFilesystem || space::is_full(error)
}

/// Opens a store's file of the present format, with all writes held back.
pub(crate) fn recovered(
    path: &Path,
    file: File,
    options: &StoreOptions,
) -> Result<(Database, Held), OpenError> {
    let Known { database, held, format } = known(path, file, options)?;
    if format == FORMAT {
        return Ok((database, held));
    }
    Err(OpenError::OlderFormat { path: path.to_owned(), found: format, present: FORMAT })
}

/// A store's file, open, with its writes held back.
struct Known {
    database: Database,
    held: Held,
    /// The present one, or one that can be brought to it.
    format: u64,
}

/// Opens a store's file of any format that this version can work with.
fn known(path: &Path, file: File, options: &StoreOptions) -> Result<Known, OpenError> {
    let damaged = |error: StorageError| OpenError::Damaged {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let (database, held, found) = unchecked(path, file, options)?;
    let no_format = |reason: String| OpenError::Damaged { path: path.to_owned(), reason };
    let format = match found.map_err(damaged)? {
        Some(format) if format == FORMAT || migrate::is_old(format) => format,
        Some(found) if found > FORMAT => {
            return Err(OpenError::NewerFormat { path: path.to_owned(), found, supported: FORMAT });
        }
        Some(found) => return Err(no_format(format!("there is no format {found}"))),
        None => return Err(no_format("it does not say its format".to_owned())),
    };
    let snapshot = guarded(WHOLE, || database.begin_read()).map(ReadTx::new).map_err(damaged)?;
    if let Some((format, step)) = migrate::foreign(&snapshot).map_err(damaged)? {
        return Err(OpenError::Foreign { path: path.to_owned(), format, step });
    }
    drop(snapshot);
    Ok(Known { database, held, format })
}

/// A store with all writes held back, and the format it says it has.
pub(crate) type Unchecked = (Database, Held, Result<Option<u64>, StorageError>);

/// Opens a store's file with all writes held back, and tells the format it says it has.
pub(crate) fn unchecked(
    path: &Path,
    file: File,
    options: &StoreOptions,
) -> Result<Unchecked, OpenError> {
    let damaged = |reason: String| OpenError::Damaged { path: path.to_owned(), reason };
    let held = Held::new(file).map_err(|error| failed(path, error))?;
    let len = held.len().map_err(|error| failed(path, redb::Error::Io(error)))?;
    // An empty file would be taken for one to be filled.
    if len == 0 {
        return Err(damaged("it is empty".to_owned()));
    }
    let opened = catch_unwind(AssertUnwindSafe(|| {
        let database = builder(options).create_with_backend(held.backend())?;
        let snapshot = ReadTx::new(database.begin_read().map_err(redb::Error::from)?);
        Ok::<_, redb::Error>((database, snapshot))
    }));
    let (database, snapshot) = match opened {
        Ok(opened) => opened.map_err(|error| failed(path, error))?,
        Err(payload) => return Err(damaged(panic_message(&*payload))),
    };
    let found = format_of(&snapshot);
    drop(snapshot);
    Ok((database, held, found))
}

/// Writes down that the store has this format.
pub(crate) fn note_format(tx: &mut WriteTx<'_>, format: u64) -> Result<(), StorageError> {
    tx.put(&META, &(FORMAT_KEY.to_owned(),), &format)
}

/// The row that says a store's format: table, key, value.
pub(crate) fn format_row() -> Result<(&'static str, Vec<u8>, Vec<u8>), StorageError> {
    let key = crate::keys::to_bytes(&(FORMAT_KEY.to_owned(),));
    let value = META.encode(&key, &FORMAT)?;
    Ok((META.name(), key, value))
}

/// The format that a store says it has.
pub(crate) fn format_of(snapshot: &ReadTx) -> Result<Option<u64>, StorageError> {
    snapshot.get(&META, &(FORMAT_KEY.to_owned(),))
}

/// Makes an empty store. Under another name at first: power lost while a store is made leaves a
/// file that nothing can open.
fn create(dir: &Path, path: &Path, options: &StoreOptions) -> Result<(), OpenError> {
    let temporary = dir.join(NEW_FILE);
    let not_writable = |source| OpenError::NotWritable { path: temporary.clone(), source };
    let file = private(OpenOptions::new().read(true).write(true).create(true).truncate(true))
        .open(&temporary)
        .map_err(not_writable)?;
    let synced = file.try_clone().map_err(not_writable)?;
    fill(file, options).map_err(|error| failed(&temporary, error))?;
    synced.sync_all().map_err(not_writable)?;
    fs::rename(&temporary, path).map_err(not_writable)?;
    sync_dir(dir).map_err(not_writable)
}

fn fill(file: File, options: &StoreOptions) -> Result<(), redb::Error> {
    let database = builder(options).create_file(file)?;
    let transaction = database.begin_write()?;
    let mut tx = WriteTx::new(&transaction, crate::ids::Seq(0));
    let written = note_format(&mut tx, FORMAT).and_then(|()| {
        tx.keep();
        tx.finish()
    });
    written.map_err(|error| redb::Error::Corrupted(error.to_string()))?;
    transaction.commit()?;
    Ok(())
}

/// Sorts the errors of the layer below by what the operator can do.
pub(crate) fn failed(path: &Path, error: impl Into<redb::Error>) -> OpenError {
    let path = path.to_owned();
    match error.into() {
        redb::Error::Io(source) => match source.kind() {
            io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData => {
                OpenError::Damaged { path, reason: source.to_string() }
            }
            io::ErrorKind::PermissionDenied
            | io::ErrorKind::ReadOnlyFilesystem
            | io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded => OpenError::NotWritable { path, source },
            _ => OpenError::Unreadable { path, source },
        },
        redb::Error::DatabaseAlreadyOpen => OpenError::Locked { path, pid: None },
        other => OpenError::Damaged { path, reason: other.to_string() },
    }
}

/// Files that only their owner reads: they hold everybody's data.
pub(crate) fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Makes a rename in `dir` durable.
pub(crate) fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

#[cfg(test)]
mod tests;
