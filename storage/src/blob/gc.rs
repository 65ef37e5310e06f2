//! Removing blobs nobody refers to.
//!
//! A blob may go when no committed row refers to it and no change that could refer to it is on its
//! way. Such a change owns a [`Stored`](super::Stored), which pins the blob until the change has run,
//! and from there until its commit it sits in the committer's batch. So: doom what is not pinned
//! (from now on it cannot be), pass through the committer once (what ran before is committed by
//! then), look again, remove.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::pins::Pins;
use super::{BlobError, BlobId, Blobs, TEMPORARY, new_name};
use crate::error::StorageError;
use crate::read::Readable as _;
use crate::store::Store;
use crate::tables::blobs::BLOBS;

/// What a collection did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Collected {
    /// Blobs removed.
    pub blobs: u64,
    /// Bytes they had.
    pub bytes: u64,
    /// Files left over from interrupted writes, removed.
    pub temporary: u64,
    /// The limit was reached, or a hold came: there may be more.
    pub more: bool,
}

/// What became of a blob to be removed.
enum Aside {
    /// Nothing: there is a hold.
    Held,
    /// It was not there.
    Missing,
    /// It is under this name now.
    At(PathBuf),
}

/// Ends a collection however it is left.
struct Doom<'a>(&'a Pins);

impl Drop for Doom<'_> {
    fn drop(&mut self) {
        self.0.spare();
    }
}

impl Blobs {
    /// Removes up to `limit` blobs nobody refers to, and files left over from interrupted writes;
    /// nothing while there is a [`hold`](Blobs::hold). One collection runs at a time.
    ///
    /// # Errors
    ///
    /// When the disk or the store is at fault. What was removed stays so, and was rightly removed.
    pub fn gc(&self, store: &Store, limit: usize) -> Result<Collected, BlobError> {
        let mut collected = Collected::default();
        let (candidates, more) = self.candidates(store, limit)?;
        collected.more = more;
        let doomed = {
            let mut state = self.pins.lock();
            if state.is_held() || !state.doomed.is_empty() {
                return Ok(Collected { more: true, ..collected });
            }
            let doomed: Vec<BlobId> =
                candidates.into_iter().filter(|id| !state.is_pinned(*id)).collect();
            state.doomed.extend(&doomed);
            doomed
        };
        if !doomed.is_empty() {
            let _doom = Doom(&self.pins);
            store.write_blocking(|_| Ok::<(), StorageError>(()))?;
            let snapshot = store.read()?;
            for id in doomed {
                if snapshot.contains(&BLOBS, &(id,))? {
                    continue;
                }
                match self.set_aside(id)? {
                    Aside::Held => {
                        collected.more = true;
                        break;
                    }
                    Aside::Missing => {}
                    Aside::At(path) => {
                        let size = fs::metadata(&path).map_or(0, |metadata| metadata.len());
                        remove(&path)?;
                        collected.blobs += 1;
                        collected.bytes += size;
                    }
                }
            }
        }
        collected.temporary = self.remove_strays()?;
        Ok(collected)
    }

    /// Up to `limit` blobs without a row, and whether there are more.
    fn candidates(&self, store: &Store, limit: usize) -> Result<(Vec<BlobId>, bool), BlobError> {
        let snapshot = store.read()?;
        let mut found = Vec::new();
        for folder in list(&self.dir)? {
            let Some(prefix) = folder.file_name().and_then(|name| name.to_str()) else { continue };
            if prefix.len() != 2 || !folder.is_dir() {
                continue;
            }
            for file in list(&folder)? {
                let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
                // Whatever else somebody put there is not ours.
                let Ok(id) = format!("{prefix}{name}").parse::<BlobId>() else { continue };
                if snapshot.contains(&BLOBS, &(id,))? {
                    continue;
                }
                if found.len() == limit {
                    return Ok((found, true));
                }
                found.push(id);
            }
        }
        Ok((found, false))
    }

    /// Takes away a blob's name, so that it is gone, and leaves the file to be removed: that can take
    /// long, and changes that are being committed wait for the lock.
    fn set_aside(&self, id: BlobId) -> Result<Aside, BlobError> {
        let (path, aside) = (self.path(id), self.dir.join(TEMPORARY).join(new_name()));
        // Whoever takes a hold after this sees a store that does not refer to the blob.
        let state = self.pins.lock();
        if state.is_held() {
            return Ok(Aside::Held);
        }
        match fs::rename(&path, &aside) {
            Ok(()) => Ok(Aside::At(aside)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Aside::Missing),
            Err(source) => Err(BlobError::Io { path, source }),
        }
    }

    fn remove_strays(&self) -> Result<u64, BlobError> {
        let mut n_removed = 0;
        for path in list(&self.dir.join(TEMPORARY))? {
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            if !self.pins.lock().is_writing(name) && remove(&path)? {
                n_removed += 1;
            }
        }
        Ok(n_removed)
    }
}

/// The entries of a folder.
fn list(dir: &Path) -> Result<Vec<PathBuf>, BlobError> {
    let failed = |source| BlobError::io(dir, source);
    let entries = fs::read_dir(dir).map_err(failed)?;
    entries.map(|entry| entry.map(|entry| entry.path()).map_err(failed)).collect()
}

/// Removes a file; false if it is not there.
fn remove(path: &Path) -> Result<bool, BlobError> {
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(BlobError::io(path, source)),
    }
}
