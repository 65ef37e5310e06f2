//! Why an archive cannot be written, or cannot be used.

use std::io;
use std::path::PathBuf;

use crate::error::StorageError;

/// Why there is no archive. What was written of it is of no use.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackupError {
    /// The archive cannot be written.
    #[error("cannot write the archive: {0}; free space there or choose another place")]
    Write(#[source] io::Error),
    /// The store cannot be read.
    #[error("cannot read the store: {0}")]
    Store(#[from] StorageError),
    /// A file of the data directory cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The [`Watch`](super::Watch) said so.
    #[error("the backup was stopped")]
    Stopped,
}

/// Why an archive cannot be restored. Whatever it was to be restored into is as before.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// The bytes do not come.
    #[error("cannot read the archive: {0}")]
    Read(#[source] io::Error),
    /// It is something else, or encrypted.
    #[error("this is not an archive; an encrypted one needs its key")]
    NotAnArchive,
    /// It is not what was written.
    #[error("the archive is damaged in {part}: {reason}; use another one")]
    Damaged {
        /// The part; `the archive` itself where no part begins.
        part: String,
        /// What does not fit.
        reason: String,
    },
    /// A newer version wrote it.
    #[error(
        "the archive has format {found}, this version reads up to {supported}; run the version that wrote it or a newer one"
    )]
    NewerArchive {
        /// Its format.
        found: u64,
        /// [`ARCHIVE_FORMAT`](super::ARCHIVE_FORMAT).
        supported: u64,
    },
    /// The store in it is of a newer format.
    #[error(
        "the archive holds a store of format {found}, this version reads up to {supported}; run the version that wrote it or a newer one"
    )]
    NewerStore {
        /// The store's format.
        found: u64,
        /// [`FORMAT`](crate::FORMAT).
        supported: u64,
    },
    /// There is something where the store is to be.
    #[error("{} is not empty; restore into a directory that does not exist", path.display())]
    NotEmpty {
        /// The directory.
        path: PathBuf,
    },
    /// The store cannot be written.
    #[error("cannot write {}: {reason}; free space there or choose another place", path.display())]
    Target {
        /// The directory or file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
    /// The [`Watch`](super::Watch) said so.
    #[error("reading the archive was stopped")]
    Stopped,
}

pub(crate) fn damaged(part: &str, reason: impl Into<String>) -> ArchiveError {
    ArchiveError::Damaged { part: part.to_owned(), reason: reason.into() }
}

/// Tells bytes that are wrong from bytes that do not come.
pub(crate) fn read_error(part: &str, error: io::Error) -> ArchiveError {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => damaged(part, "the archive ends there"),
        io::ErrorKind::InvalidData | io::ErrorKind::Other => damaged(part, error.to_string()),
        _ => ArchiveError::Read(error),
    }
}
