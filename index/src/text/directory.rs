//! The folder tantivy writes to, with three habits of our own: nothing waits for the disk until
//! [`LazyDirectory::sync`], the list of files is written once a commit and not once a file, and
//! that list and `meta.json`, which tantivy leaves without a checksum, get one.
//!
//! Leaving the sync out makes a commit some ten disk flushes cheaper and is safe because the
//! index is derived: after a process is killed the page cache still holds every write, and after
//! a power cut whatever did not reach the disk fails a checksum at open, or is an older commit
//! with its own sequence number.

use std::collections::{BTreeSet, HashSet};
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tantivy::directory::error::{DeleteError, LockError, OpenReadError, OpenWriteError};
use tantivy::directory::{
    AntiCallToken, Directory, DirectoryLock, FileHandle, Lock, MmapDirectory, TerminatingWrite,
    WatchCallback, WatchHandle, WritePtr,
};

use crate::files;

/// Every file tantivy has made, so that it can delete those no commit needs.
const LIST: &str = ".managed.json";
/// What makes a commit.
const META: &str = "meta.json";

/// Length of the line with the checksum that ends a small file: a newline and eight hex digits.
const TRAILER_BYTES: usize = 9;

#[derive(Clone)]
pub(super) struct LazyDirectory {
    mapped: MmapDirectory,
    root: PathBuf,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    /// Files that may not have reached the disk.
    unsynced: BTreeSet<PathBuf>,
    /// The list of files when it is newer than the one in the folder. It is written just before
    /// `meta.json`, which may name no file that is not listed.
    list: Option<Vec<u8>>,
}

impl fmt::Debug for LazyDirectory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LazyDirectory").field(&self.root).finish()
    }
}

impl LazyDirectory {
    pub(super) fn open(root: &Path) -> Result<Self, tantivy::TantivyError> {
        // What an earlier process left may be in the page cache only.
        let mut state = State::default();
        for entry in root.read_dir()? {
            state.unsynced.insert(entry?.file_name().into());
        }
        Ok(Self {
            mapped: MmapDirectory::open(root)?,
            root: root.to_owned(),
            state: Arc::new(Mutex::new(state)),
        })
    }

    /// Deletes the segment files that are not in the list: a process that was killed made them
    /// and did not come to its commit.
    pub(super) fn delete_unlisted(&self, listed: &HashSet<PathBuf>) -> io::Result<()> {
        for entry in self.root.read_dir()? {
            let name = PathBuf::from(entry?.file_name());
            // tantivy names segment files by 32 hex digits.
            let is_segment = name.file_stem().is_some_and(|stem| {
                stem.len() >= 32
                    && stem.to_string_lossy().chars().take(32).all(|c| c.is_ascii_hexdigit())
            });
            if is_segment && !listed.contains(&name) {
                std::fs::remove_file(self.root.join(&name))?;
                self.lock().unsynced.remove(&name);
            }
        }
        Ok(())
    }

    fn write_with_checksum(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        let mut bytes = data.to_vec();
        bytes.extend_from_slice(trailer(data).as_bytes());
        files::replace(&self.root.join(path), &bytes, false)?;
        self.lock().unsynced.insert(path.to_owned());
        Ok(())
    }

    /// Brings everything written so far to the disk. When it fails, what is left is tried again
    /// by the next call.
    pub(super) fn sync(&self) -> io::Result<()> {
        let files = std::mem::take(&mut self.lock().unsynced);
        if files.is_empty() {
            return Ok(());
        }
        let synced = files
            .iter()
            .try_for_each(|path| match File::open(self.root.join(path)) {
                Ok(file) => file.sync_data(),
                // Merged away meanwhile.
                Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
                Err(e) => Err(e),
            })
            .and_then(|()| files::sync_folder(&self.root));
        if synced.is_err() {
            self.lock().unsynced.extend(files);
        }
        synced
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // The state is whole after every operation on it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Directory for LazyDirectory {
    fn get_file_handle(&self, path: &Path) -> Result<Arc<dyn FileHandle>, OpenReadError> {
        self.mapped.get_file_handle(path)
    }

    fn delete(&self, path: &Path) -> Result<(), DeleteError> {
        self.lock().unsynced.remove(path);
        self.mapped.delete(path)
    }

    fn exists(&self, path: &Path) -> Result<bool, OpenReadError> {
        self.mapped.exists(path)
    }

    fn open_write(&self, path: &Path) -> Result<WritePtr, OpenWriteError> {
        let file =
            OpenOptions::new().write(true).create_new(true).open(self.root.join(path)).map_err(
                |e| {
                    if e.kind() == io::ErrorKind::AlreadyExists {
                        OpenWriteError::FileAlreadyExists(path.to_owned())
                    } else {
                        OpenWriteError::wrap_io_error(e, path.to_owned())
                    }
                },
            )?;
        self.lock().unsynced.insert(path.to_owned());
        Ok(BufWriter::new(Box::new(Unsynced(file))))
    }

    fn atomic_read(&self, path: &Path) -> Result<Vec<u8>, OpenReadError> {
        if path == Path::new(LIST)
            && let Some(list) = &self.lock().list
        {
            return Ok(list.clone());
        }
        let mut bytes = self.mapped.atomic_read(path)?;
        let body = bytes.len().saturating_sub(TRAILER_BYTES);
        if bytes[body..] != *trailer(&bytes[..body]).as_bytes() {
            let error = io::Error::new(io::ErrorKind::InvalidData, "checksum does not match");
            return Err(OpenReadError::wrap_io_error(error, path.to_owned()));
        }
        bytes.truncate(body);
        Ok(bytes)
    }

    fn atomic_write(&self, path: &Path, data: &[u8]) -> io::Result<()> {
        if path == Path::new(LIST) {
            self.lock().list = Some(data.to_vec());
            return Ok(());
        }
        if path == Path::new(META) {
            let list = self.lock().list.clone();
            if let Some(written) = list {
                self.write_with_checksum(Path::new(LIST), &written)?;
                let mut state = self.lock();
                if state.list.as_ref() == Some(&written) {
                    state.list = None;
                }
            }
        }
        self.write_with_checksum(path, data)
    }

    fn sync_directory(&self) -> io::Result<()> {
        Ok(())
    }

    fn acquire_lock(&self, lock: &Lock) -> Result<DirectoryLock, LockError> {
        self.mapped.acquire_lock(lock)
    }

    fn watch(&self, _: WatchCallback) -> tantivy::Result<WatchHandle> {
        // The one writer tells its reader when to look again.
        Ok(WatchHandle::empty())
    }
}

fn trailer(body: &[u8]) -> String {
    format!("\n{:08x}", crc32c::crc32c(body))
}

/// A file that is complete once it is written, whenever it reaches the disk.
struct Unsynced(File);

impl Write for Unsynced {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl TerminatingWrite for Unsynced {
    fn terminate_ref(&mut self, _: AntiCallToken) -> io::Result<()> {
        self.0.flush()
    }
}
