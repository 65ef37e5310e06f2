//! A store that no process serves, opened to be looked at.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

use redb::{Database, ReadableDatabase};

use crate::error::{StorageError, WHOLE};
use crate::open::{self, DirLock, Held, OpenError};
use crate::read::{ReadTx, guarded};
use crate::store::{StoreOptions, discard};

/// A data directory held for this process, with its store open for reading alone: not a byte of the
/// file changes, also where it has to be recovered after a crash to be read. What recovery would
/// write is kept in memory.
pub struct Offline {
    database: Database,
    path: PathBuf,
    _lock: DirLock,
}

impl Offline {
    /// Opens the store in `dir`. Blocks, after a crash for as long as the file takes to check.
    ///
    /// # Errors
    ///
    /// [`OpenError`]; nothing was changed.
    pub fn open(dir: &Path, options: &StoreOptions) -> Result<Offline, OpenError> {
        let lock = DirLock::acquire_existing(dir)?;
        let path = dir.join(open::STORE_FILE);
        let file = read_only(&path)?;
        let (database, _) = open::recovered(&path, file, options)?;
        Ok(Offline { database, path, _lock: lock })
    }

    /// A snapshot to read from.
    ///
    /// # Errors
    ///
    /// The disk is at fault.
    pub fn read(&self) -> Result<ReadTx, StorageError> {
        guarded(WHOLE, || self.database.begin_read()).map(ReadTx::new)
    }

    /// The store's file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Bytes of the store's file.
    ///
    /// # Errors
    ///
    /// As the disk says.
    pub fn file_bytes(&self) -> io::Result<u64> {
        self.path.metadata().map(|found| found.len())
    }

    /// Compares every page with its checksum and the list of free pages with those in use.
    ///
    /// # Errors
    ///
    /// What does not fit. Snapshots may still be taken afterwards, and may fail where it does not.
    pub fn check_pages(&mut self) -> Result<(), StorageError> {
        if guarded(WHOLE, || self.database.check_integrity())? {
            Ok(())
        } else {
            Err(StorageError::corrupt(WHOLE, "pages do not match their checksums or the free list"))
        }
    }

    /// How the pages of the file are used. Reads all of them.
    ///
    /// # Errors
    ///
    /// As for every read.
    pub fn pages(&self) -> Result<Pages, StorageError> {
        let stats = guarded(WHOLE, || -> Result<_, redb::Error> {
            let transaction = self.database.begin_write()?;
            let stats = transaction.stats()?;
            transaction.abort()?;
            Ok(stats)
        })?;
        Ok(Pages {
            page_bytes: stats.page_size() as u64,
            allocated_pages: stats.allocated_pages(),
            leaf_pages: stats.leaf_pages(),
            branch_pages: stats.branch_pages(),
            stored_bytes: stats.stored_bytes(),
            metadata_bytes: stats.metadata_bytes(),
            fragmented_bytes: stats.fragmented_bytes(),
            tree_height: stats.tree_height(),
        })
    }
}

/// How the pages of a store's file are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Pages {
    /// Bytes of a page.
    pub page_bytes: u64,
    /// Pages in use.
    pub allocated_pages: u64,
    /// Those that hold rows.
    pub leaf_pages: u64,
    /// Those that lead to others.
    pub branch_pages: u64,
    /// Bytes of all keys and values.
    pub stored_bytes: u64,
    /// Bytes of what leads to them.
    pub metadata_bytes: u64,
    /// Bytes of pages in use that hold nothing.
    pub fragmented_bytes: u64,
    /// Pages from the root to a row, at most.
    pub tree_height: u32,
}

/// Opens the store's file so that nothing can be written to it.
pub(crate) fn read_only(path: &Path) -> Result<File, OpenError> {
    File::open(path).map_err(|source| OpenError::Unreadable { path: path.to_owned(), source })
}

/// The store's file as the layer below would see it: what recovery after a crash changes is in
/// memory, if the file could be recovered at all.
pub(crate) fn medium(path: &Path) -> Result<Held, OpenError> {
    let file = read_only(path)?;
    let plain = file.try_clone().and_then(|file| Held::new(file).map_err(io::Error::other));
    let opened = open::unchecked(path, file, &StoreOptions::default());
    match opened {
        Ok((_, _, Ok(Some(found)))) if found > open::FORMAT => {
            Err(OpenError::NewerFormat { path: path.to_owned(), found, supported: open::FORMAT })
        }
        // Rows of another format would all be taken for damaged.
        Ok((_, _, Ok(Some(found)))) if found < open::FORMAT => {
            Err(OpenError::OlderFormat { path: path.to_owned(), found, present: open::FORMAT })
        }
        Ok((database, held, _)) => {
            // Closing it writes too, into memory.
            discard(Some(database));
            Ok(held)
        }
        Err(_) => plain.map_err(|source| OpenError::Unreadable { path: path.to_owned(), source }),
    }
}
