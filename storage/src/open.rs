//! Opening a data directory: lock it, make the store if there is none, check its format.

mod held;
mod lock;

use std::fs::{self, File, OpenOptions};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase};

use crate::error::panic_message;
use crate::read::{ReadTx, Readable};
use crate::store::StoreOptions;
use crate::table::Table;
use crate::write::WriteTx;
use held::Held;
pub(crate) use lock::DirLock;

/// The format this version writes, and the newest it reads.
pub const FORMAT: u64 = 1;

pub(crate) const STORE_FILE: &str = "store.redb";

/// A store being made. Left over if the process dies meanwhile, and then written anew.
const NEW_FILE: &str = "store.redb.new";

/// (name) -> number. Point look-ups only.
///
/// Every version must be able to read it, so its shape is for good.
const META: Table<(String,), u64> = Table::new("meta");

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
    /// The store's file is not, or no longer, a store.
    #[error("{} is damaged: {reason}; move it aside and restore a backup", path.display())]
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
    builder
}

/// Opens the store in `dir`, making what is not there.
pub(crate) fn directory(
    dir: &Path,
    options: &StoreOptions,
) -> Result<(Database, DirLock), OpenError> {
    let mut lock = DirLock::acquire(dir)?;
    let path = dir.join(STORE_FILE);
    let exists =
        path.try_exists().map_err(|source| OpenError::Unreadable { path: path.clone(), source })?;
    if !exists {
        create(dir, &path, options)?;
    }
    match existing(&path, options) {
        Ok(database) => {
            lock.sign()?;
            Ok((database, lock))
        }
        Err(error) => {
            if matches!(error, OpenError::NewerFormat { .. }) {
                lock.withdraw();
            }
            Err(error)
        }
    }
}

/// Opens the store's file. Nothing is written to it before its format is known.
fn existing(path: &Path, options: &StoreOptions) -> Result<Database, OpenError> {
    let not_writable = |source| OpenError::NotWritable { path: path.to_owned(), source };
    let damaged = |reason: String| OpenError::Damaged { path: path.to_owned(), reason };
    let file = OpenOptions::new().read(true).write(true).open(path).map_err(not_writable)?;
    let held = Held::new(file).map_err(|error| failed(path, error))?;
    // An empty file would be taken for one to be filled.
    if held.is_empty().map_err(not_writable)? {
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
    let found = snapshot
        .get(&META, &(FORMAT_KEY.to_owned(),))
        .map_err(|error| damaged(error.to_string()))?;
    drop(snapshot);
    match found {
        Some(FORMAT) => {
            held.release().map_err(not_writable)?;
            Ok(database)
        }
        Some(found) if found > FORMAT => {
            Err(OpenError::NewerFormat { path: path.to_owned(), found, supported: FORMAT })
        }
        Some(found) => Err(damaged(format!("there is no format {found}"))),
        None => Err(damaged("it does not say its format".to_owned())),
    }
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
    let written = tx.put(&META, &(FORMAT_KEY.to_owned(),), &FORMAT).and_then(|()| {
        tx.keep();
        tx.finish()
    });
    written.map_err(|error| redb::Error::Corrupted(error.to_string()))?;
    transaction.commit()?;
    Ok(())
}

/// Sorts the errors of the layer below by what the operator can do.
fn failed(path: &Path, error: impl Into<redb::Error>) -> OpenError {
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
fn private(options: &mut OpenOptions) -> &mut OpenOptions {
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(options, 0o600);
    options
}

/// Makes a rename in `dir` durable.
fn sync_dir(dir: &Path) -> io::Result<()> {
    #[cfg(unix)]
    File::open(dir)?.sync_all()?;
    #[cfg(not(unix))]
    let _ = dir;
    Ok(())
}

#[cfg(test)]
mod tests;
