//! The lock on a data directory.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::{Path, PathBuf};

use super::{OpenError, private};

pub(crate) const LOCK_FILE: &str = "store.lock";

/// Longest process number plus a line end.
const PID_MAX: u64 = 16;

/// Holds a directory for this process; given up when dropped, or when the process ends, however it
/// does. The file stays: removing it would let two processes lock two files of one name.
#[derive(Debug)]
pub(crate) struct DirLock {
    file: File,
    path: PathBuf,
    /// The file was not there before.
    made: bool,
}

impl DirLock {
    /// Takes the lock on `dir`, which is made if it is not there.
    pub(crate) fn acquire(dir: &Path) -> Result<DirLock, OpenError> {
        fs::create_dir_all(dir)
            .map_err(|source| OpenError::NotWritable { path: dir.to_owned(), source })?;
        DirLock::acquire_existing(dir)
    }

    /// Takes the lock on `dir`, which must be there.
    pub(crate) fn acquire_existing(dir: &Path) -> Result<DirLock, OpenError> {
        let not_writable = |source| OpenError::NotWritable { path: dir.to_owned(), source };
        let path = dir.join(LOCK_FILE);
        let (file, made) = open(&path).map_err(not_writable)?;
        match file.try_lock() {
            Ok(()) => Ok(DirLock { file, path, made }),
            Err(TryLockError::WouldBlock) => {
                Err(OpenError::Locked { path: dir.to_owned(), pid: read_pid(file) })
            }
            Err(TryLockError::Error(source)) => Err(not_writable(source)),
        }
    }

    /// Writes this process's number into the file, for those who find it locked.
    pub(crate) fn sign(&mut self) -> Result<(), OpenError> {
        let mut write = || {
            self.file.set_len(0)?;
            self.file.rewind()?;
            writeln!(self.file, "{}", std::process::id())
        };
        write().map_err(|source| OpenError::NotWritable { path: self.path.clone(), source })
    }

    /// Gives up the lock and leaves the directory as it was found.
    pub(crate) fn withdraw(self) {
        if self.made
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!("could not remove {}: {error}", self.path.display());
        }
    }
}

fn open(path: &Path) -> io::Result<(File, bool)> {
    let mut options = OpenOptions::new();
    private(options.read(true).write(true));
    match options.clone().create_new(true).open(path) {
        Ok(file) => Ok((file, true)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => match options.open(path) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => File::open(path),
            opened => opened,
        }
        .map(|file| (file, false)),
        // Nothing can be made here, but the directory itself can be locked.
        Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => {
            let dir = path.parent().ok_or(error)?;
            Ok((File::open(dir)?, false))
        }
        Err(error) => Err(error),
    }
}

fn read_pid(file: File) -> Option<u32> {
    let mut text = String::new();
    file.take(PID_MAX).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
