//! Blobs: what is too large for a row, in files named by their SHA-256.
//!
//! A blob is durable before the transaction that refers to it begins, and references are counted in
//! that transaction ([`link`], [`unlink`]); so a row never refers to a blob that is not there,
//! whenever the power goes. What is stored and never referred to is an orphan that [`Blobs::gc`]
//! removes, now or after any number of restarts.
//!
//! ```text
//! blobs/ab/cdef…   the blob whose SHA-256 is abcdef…
//! blobs/tmp/…      blobs being written
//! ```

mod error;
mod gc;
mod id;
mod pins;
mod reader;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use crate::open::{private, sync_dir};
pub use crate::tables::blobs::{BlobRecord, in_use, link, unlink};
pub use error::BlobError;
pub use gc::Collected;
pub use id::BlobId;
pub use pins::{Hold, Stored};
use pins::{Pins, Temporary};
pub use reader::BlobReader;

/// Where blobs are written first.
const TEMPORARY: &str = "tmp";

/// Bytes copied at a time.
const BUFFER_BYTES: usize = 128 << 10;

/// The blobs of one data directory. There is one `Blobs` to a directory, in the process that holds
/// the store beside it; clones share it. All methods block: not for async threads.
#[derive(Clone)]
pub struct Blobs {
    dir: PathBuf,
    max_bytes: u64,
    pins: Arc<Pins>,
}

impl Blobs {
    /// Opens the blobs in `dir`, which is made if it is not there. None may be longer than
    /// `max_bytes`.
    ///
    /// # Errors
    ///
    /// [`BlobError::Io`] if the folder cannot be made.
    pub fn open(dir: &Path, max_bytes: u64) -> Result<Blobs, BlobError> {
        let temporary = dir.join(TEMPORARY);
        fs::create_dir_all(&temporary).map_err(|source| BlobError::io(&temporary, source))?;
        sync_dir(dir).map_err(|source| BlobError::io(dir, source))?;
        if let Some(parent) = dir.parent() {
            sync_dir(parent).map_err(|source| BlobError::io(parent, source))?;
        }
        Ok(Blobs { dir: dir.to_owned(), max_bytes, pins: Arc::default() })
    }

    /// Stores what `content` holds, durably, and keeps it at least as long as the result lives.
    /// Storing the same bytes again costs the writing and changes nothing, except that it mends a
    /// damaged file.
    ///
    /// # Errors
    ///
    /// [`BlobError::TooLarge`], or the disk or `content` is at fault. Nothing is stored then.
    pub fn put(&self, mut content: impl Read) -> Result<Stored, BlobError> {
        let written = self.write(&mut content)?;
        self.publish(written, true)
    }

    /// [`put`](Blobs::put) for many at once: folders are synced once instead of for every blob.
    ///
    /// # Errors
    ///
    /// As for [`put`](Blobs::put); then none of them is kept.
    pub fn put_all<R: Read>(
        &self,
        contents: impl IntoIterator<Item = R>,
    ) -> Result<Vec<Stored>, BlobError> {
        let mut stored = Vec::new();
        for mut content in contents {
            let written = self.write(&mut content)?;
            stored.push(self.publish(written, false)?);
        }
        let mut folders: Vec<PathBuf> =
            stored.iter().map(|stored| self.folder(stored.id())).collect();
        folders.sort_unstable();
        folders.dedup();
        for folder in folders {
            sync_dir(&folder).map_err(|source| BlobError::io(&folder, source))?;
        }
        Ok(stored)
    }

    /// Opens a blob. The reader checks the bytes against the id as they are read: see [`BlobReader`].
    ///
    /// # Errors
    ///
    /// [`BlobError::NotFound`], or the disk is at fault.
    pub fn open_blob(&self, id: BlobId) -> Result<BlobReader, BlobError> {
        let path = self.path(id);
        match File::open(&path) {
            Ok(file) => Ok(BlobReader::new(id, file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                Err(BlobError::NotFound { id })
            }
            Err(source) => Err(BlobError::Io { path, source }),
        }
    }

    /// The bytes of a blob, checked.
    ///
    /// # Errors
    ///
    /// [`BlobError::NotFound`], [`BlobError::Corrupt`], or the disk is at fault.
    pub fn get(&self, id: BlobId) -> Result<Vec<u8>, BlobError> {
        let mut bytes = Vec::new();
        let mut reader = self.open_blob(id)?;
        reader.read_to_end(&mut bytes).map_err(|source| self.failed(id, source))?;
        Ok(bytes)
    }

    /// Reads a blob through and returns its length.
    ///
    /// # Errors
    ///
    /// As for [`get`](Blobs::get).
    pub fn verify(&self, id: BlobId) -> Result<u64, BlobError> {
        let mut reader = self.open_blob(id)?;
        io::copy(&mut reader, &mut io::sink()).map_err(|source| self.failed(id, source))
    }

    /// Keeps [`gc`](Blobs::gc) from removing anything while the result lives. Whoever copies blobs
    /// that a snapshot of the store refers to takes this before the snapshot.
    pub fn hold(&self) -> Hold {
        Pins::hold(&self.pins)
    }

    fn failed(&self, id: BlobId, source: io::Error) -> BlobError {
        match source.kind() {
            io::ErrorKind::InvalidData => BlobError::Corrupt { id },
            _ => BlobError::Io { path: self.path(id), source },
        }
    }

    /// Writes `content` under a temporary name and syncs it.
    fn write(&self, content: &mut dyn Read) -> Result<Written, BlobError> {
        let name = new_name();
        let path = self.dir.join(TEMPORARY).join(&name);
        let failed = |source| BlobError::io(&path, source);
        // Before the file is there, so that it is never taken for a stray.
        let temporary = Pins::writing(&self.pins, name, path.clone());
        let mut file =
            private(OpenOptions::new().write(true).create_new(true)).open(&path).map_err(failed)?;
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let n = match content.read(&mut buffer) {
                Ok(0) => break,
                Ok(n) => n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(BlobError::Content(error)),
            };
            size += n as u64;
            if size > self.max_bytes {
                return Err(BlobError::TooLarge { max_bytes: self.max_bytes });
            }
            hash.update(&buffer[..n]);
            file.write_all(&buffer[..n]).map_err(failed)?;
        }
        file.sync_all().map_err(failed)?;
        Ok(Written { temporary, id: BlobId::new(hash.finalize().into()), size })
    }

    /// Gives a written blob its name, in place of a file that is there. That one should hold the
    /// same bytes; if it does not, it is mended.
    fn publish(&self, written: Written, sync: bool) -> Result<Stored, BlobError> {
        let Written { temporary, id, size } = written;
        // From here on, garbage collection does not touch it.
        let stored = Pins::pin(&self.pins, id, size);
        let folder = self.folder(id);
        match fs::create_dir(&folder) {
            Ok(()) => sync_dir(&self.dir).map_err(|source| BlobError::io(&self.dir, source))?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(source) => return Err(BlobError::io(&folder, source)),
        }
        let path = self.path(id);
        temporary.rename(&path).map_err(|source| BlobError::io(&path, source))?;
        if sync {
            sync_dir(&folder).map_err(|source| BlobError::io(&folder, source))?;
        }
        Ok(stored)
    }

    fn folder(&self, id: BlobId) -> PathBuf {
        self.dir.join(format!("{:02x}", id.as_bytes()[0]))
    }

    fn path(&self, id: BlobId) -> PathBuf {
        let name = id.to_string();
        self.folder(id).join(&name[2..])
    }
}

/// A name that no other temporary file has.
fn new_name() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

/// A blob that is on disk under a temporary name.
struct Written {
    temporary: Temporary,
    id: BlobId,
    size: u64,
}

#[cfg(test)]
mod tests;
