//! What can go wrong in the store, by what the caller can do about it.

/// An error of a read or a write.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The disk or the file is at fault. The process should stop taking writes: once a commit has
    /// failed, every later write gets this answer until the store is opened again.
    #[error("storage unavailable: {reason}")]
    Unavailable {
        /// What the disk or the store below said; for the log, not for clients.
        reason: String,
    },
    /// The disk is full. Nothing was written, and nothing is but by changes that make room, until
    /// there is space again; then writes go on by themselves.
    #[error("Insufficient storage at {path}: {free} bytes free, {needed} needed")]
    Full {
        /// The data directory.
        path: String,
        /// Bytes free there.
        free: u64,
        /// Bytes that must be free.
        needed: u64,
    },
    /// The store was closed; the process is going down.
    #[error("the store is closed")]
    Closed,
    /// Bytes in `table` do not decode. Never repaired silently.
    #[error("corrupt record in table {table}: {reason}")]
    Corrupt {
        /// Name of the table.
        table: &'static str,
        /// What does not fit.
        reason: String,
    },
    /// A record is larger than [`VALUE_MAX`](crate::codec::VALUE_MAX), or its key is larger than
    /// [`KEY_MAX`](crate::codec::KEY_MAX). Nothing was written.
    #[error("record of {bytes} bytes is too large for table {table}")]
    TooLarge {
        /// Name of the table.
        table: &'static str,
        /// Encoded size of the larger part, key or value.
        bytes: usize,
    },
    /// The change panicked. What it had written was undone; changes beside it are not affected.
    #[error("a change to the store panicked: {reason}")]
    Panicked {
        /// The panic's message, if it had one.
        reason: String,
    },
}

impl StorageError {
    pub(crate) fn unavailable(reason: impl std::fmt::Display) -> StorageError {
        StorageError::Unavailable { reason: reason.to_string() }
    }

    pub(crate) fn corrupt(table: &'static str, reason: impl std::fmt::Display) -> StorageError {
        StorageError::Corrupt { table, reason: reason.to_string() }
    }

    /// The answer to every write after this error.
    pub(crate) fn lasting(self) -> StorageError {
        match self {
            StorageError::Unavailable { .. } | StorageError::Full { .. } | StorageError::Closed => {
                self
            }
            other => StorageError::unavailable(other),
        }
    }

    /// Sorts an error of the layer below into damage of one table and trouble with the file.
    pub(crate) fn from_redb(table: &'static str, error: impl Into<redb::Error>) -> StorageError {
        match error.into() {
            redb::Error::Corrupted(reason) => StorageError::Corrupt { table, reason },
            other => StorageError::unavailable(other),
        }
    }
}

/// Stands for a table in errors about the store as a whole.
pub(crate) const WHOLE: &str = "(all)";

/// The message of a caught panic.
pub(crate) fn panic_message(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("no message").to_owned()
}
