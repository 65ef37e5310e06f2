//! Backups: one archive with every row and every file of a store, taken while it is in use.
//!
//! An archive is a tar file in a zstd frame (`tar --zstd -tf` lists it) with these parts, in order:
//!
//! - `about.json`: [`About`], so that a reader knows what it has without reading to the end;
//! - `tables/<table>.<number>.rows`: the rows of one snapshot, keys and values as they are stored,
//!   checksums included, in the order of the keys; the manifest says how many;
//! - `damaged/<table>.<number>.rows`: rows that do not decode; nothing restores them;
//! - `blobs/<2 digits>/<62 digits>`: the files that rows refer to, by the SHA-256 of their bytes;
//! - `manifest.json`: [`Manifest`], with the SHA-256 of every part before it.
//!
//! A row is two lengths (32 bits each, little-endian), the key, the value. No key is inside that
//! opens sealed rows: the manifest names the versions that are needed.
//!
//! ```
//! use activekg_storage::backup::{self, Backup};
//! use activekg_storage::{Store, StoreOptions, UnixMicros};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let aside = tempfile::tempdir()?;
//! let store = Store::open(dir.path(), StoreOptions::default())?;
//! let backup = Backup::new("doc 1.0", UnixMicros(0));
//! let (manifest, archive) = backup.write(&store.read()?, Vec::new())?;
//! assert!(manifest.damage.is_none());
//!
//! let copy = aside.path().join("copy");
//! let restored = backup::restore(&archive[..], &copy, &mut backup::unattended)?;
//! assert_eq!(restored, manifest);
//! Store::open(&copy, StoreOptions::default())?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # }
//! ```

mod archive;
mod error;
mod manifest;
mod out;
mod part;
mod parts;
mod tar;
mod whole;
mod write;

use std::ops::ControlFlow;

pub use crate::restore::{about, check, replace, restore};
pub(crate) use archive::{Sink, first, walk};
pub use error::{ArchiveError, BackupError};
pub use manifest::{
    ARCHIVE_FORMAT, About, Damage, DamagedRow, DamagedTable, Manifest, Part, TableSum,
};
pub use whole::{blob_files, count};
pub use write::{Backup, ExtraFile};

/// How far a backup or a restore is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Rows so far.
    pub rows: u64,
    /// Rows there are, as the store counts them.
    pub rows_total: u64,
    /// Bytes of parts so far, before compression.
    pub bytes: u64,
}

/// Told how far it is, several times a second; says whether to go on.
pub type Watch<'a> = &'a mut dyn FnMut(Progress) -> ControlFlow<()>;

/// A [`Watch`] that lets everything pass.
pub fn unattended(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

/// Lets every other thread of the machine go before this one, for good: for the thread of a backup.
pub fn yield_to_others() {
    // The calling thread, on Linux; a whole process elsewhere, which is not asked for.
    #[cfg(target_os = "linux")]
    if let Err(error) = rustix::process::setpriority_process(None, LEAST_PRIORITY) {
        tracing::debug!("could not lower the priority of a thread: {error}");
    }
}

/// The niceness of those who yield to everybody.
#[cfg(target_os = "linux")]
const LEAST_PRIORITY: i32 = 19;

#[cfg(test)]
mod tests;
