//! What can go wrong with a blob.

use std::io;
use std::path::{Path, PathBuf};

use super::BlobId;
use crate::error::StorageError;

/// An error about a blob, by what the caller can do about it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BlobError {
    /// There is no such blob.
    #[error("there is no blob {id}")]
    NotFound {
        /// Its name.
        id: BlobId,
    },
    /// The file does not hold what its name says. It is left where it is; storing the same bytes
    /// again mends it.
    #[error("blob {id} is damaged; restore it from a backup or store it again")]
    Corrupt {
        /// Its name.
        id: BlobId,
    },
    /// What was to be stored is longer than blobs may be.
    #[error("longer than the {max_bytes} bytes a blob may have")]
    TooLarge {
        /// Longest length, in bytes.
        max_bytes: u64,
    },
    /// What was to be stored could not be read.
    #[error("cannot read what is to be stored: {0}")]
    Content(#[source] io::Error),
    /// The disk is at fault, or full.
    #[error("cannot use {}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The store is at fault.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl BlobError {
    pub(super) fn io(path: &Path, source: io::Error) -> BlobError {
        BlobError::Io { path: path.to_owned(), source }
    }
}
