//! What can go wrong, by what the caller can do about it.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of an index.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// The file system is at fault: full, read-only, failing. Nothing on disk was damaged by the
    /// failed call; it may be tried again.
    #[error("index files cannot be used")]
    Io(#[from] io::Error),
    /// What is on disk is missing, changed, or written by another version. Wipe it, open again and
    /// apply every change from the start.
    #[error("index at {} is damaged: {reason}", path.display())]
    Damaged {
        /// The file or folder at fault.
        path: PathBuf,
        /// What is wrong with it, for a log.
        reason: String,
    },
    /// The caller's input or settings cannot be used. Nothing was changed.
    #[error("invalid: {0}")]
    Invalid(String),
}

impl IndexError {
    pub(crate) fn damaged(path: &Path, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_owned(), reason: reason.into() }
    }

    /// An input or output error that names the file it happened on.
    pub(crate) fn io(path: &Path, error: &io::Error) -> Self {
        Self::Io(io::Error::new(error.kind(), format!("{}: {error}", path.display())))
    }
}
