//! What can go wrong with a backup.

use std::io;
use std::path::PathBuf;

use activekg_storage::backup::{ArchiveError, BackupError};
use activekg_storage::{OpenError, StorageError};

use super::fault::BucketFault;

/// Why there is no backup, or none that can be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another one is being made.
    #[error("a backup is being made already; try again when it is done")]
    Busy,
    /// There is no such archive.
    #[error("there is no archive {0}")]
    NotFound(String),
    /// The disk would be too full.
    #[error(
        "no space for a backup in {}: {free} bytes are free, {needed} are needed; free some or choose another place",
        path.display()
    )]
    NoSpace {
        /// The folder.
        path: PathBuf,
        /// Free bytes.
        free: u64,
        /// Bytes that must be free.
        needed: u64,
    },
    /// The archive is encrypted, and no key is set.
    #[error("the archive is encrypted; set ACTIVEKG_BACKUP_KEY")]
    NoKey,
    /// The archive is encrypted to another key.
    #[error("cannot decrypt the archive: {0}")]
    WrongKey(String),
    /// The place of the archives does not do what it should.
    #[error("cannot use the place of the archives: {0}")]
    Target(#[source] io::Error),
    /// What was written is not what is there.
    #[error("the archive is not what was written; check the disk")]
    NotAsWritten,
    /// The archive cannot be written.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The archive cannot be used.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A store cannot be read.
    #[error("cannot read the store: {0}")]
    Store(#[from] StorageError),
    /// The restored store cannot be opened.
    #[error("cannot open the restored store: {0}")]
    Open(#[from] OpenError),
    /// The restored store does not answer as it should.
    #[error("the restored store is not sound: {0}")]
    Trial(String),
    /// A fault of the program.
    #[error("the work ended by a panic")]
    Panicked,
}

impl Error {
    /// The fault of the bucket that this is due to, if it is due to one. It says what to do and
    /// holds no secret.
    pub fn bucket(&self) -> Option<&BucketFault> {
        BucketFault::behind(self)
    }
}
