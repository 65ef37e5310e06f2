//! The floor of free disk space below which nothing is written.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use activekg_storage::time::UnixMicros;

use super::Error;

/// How long one look at the file system is trusted. The least floor is 16 MiB, and a disk takes
/// less than that meanwhile; asking at every write would cost a system call each.
const TRUSTED: Duration = Duration::from_millis(50);

/// Watches the free space of the data directory.
///
/// Writes are refused while there is still room for what is under way. Deletes are let through:
/// they are how space is won back. Should somebody else use up the floor at one stroke, the store
/// has a reserve to fall back on, and refuses writes in the same words.
#[derive(Debug)]
pub struct FreeSpace {
    path: PathBuf,
    floor_bytes: u64,
    free_bytes: AtomicU64,
    looked_at: AtomicI64,
}

impl FreeSpace {
    /// Watches the file system of `path`, of which `floor_bytes` must stay free. Without a
    /// floor given it is 5 % of the file system, at least 16 MiB and at most 256 MiB.
    ///
    /// # Errors
    ///
    /// When the file system cannot be asked.
    pub fn new(path: PathBuf, floor_bytes: Option<u64>) -> std::io::Result<Self> {
        let floor_bytes = Self::floor(&path, floor_bytes)?;
        let free_bytes = AtomicU64::new(fs4::available_space(&path)?);
        Ok(Self { path, floor_bytes, free_bytes, looked_at: AtomicI64::new(i64::MIN) })
    }

    /// Bytes of the file system of `path` that must stay free, with `floor_bytes` as given.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn floor(path: &Path, floor_bytes: Option<u64>) -> std::io::Result<u64> {
        const MIB: u64 = 1 << 20;
        match floor_bytes {
            Some(bytes) => Ok(bytes),
            None => Ok((fs4::total_space(path)? / 20).clamp(16 * MIB, 256 * MIB)),
        }
    }

    /// Refuses when less than the floor is free. A file system that does not answer is taken to
    /// be as it last was.
    pub(super) fn check(&self, now: UnixMicros) -> Result<(), Error> {
        let looked_at = self.looked_at.load(Ordering::Relaxed);
        let age = now.get().saturating_sub(looked_at);
        if !(0..TRUSTED.as_micros() as i64).contains(&age) {
            if let Ok(free) = fs4::available_space(&self.path) {
                self.free_bytes.store(free, Ordering::Relaxed);
            }
            self.looked_at.store(now.get(), Ordering::Relaxed);
        }
        let free = self.free_bytes.load(Ordering::Relaxed);
        if free >= self.floor_bytes {
            return Ok(());
        }
        let path = self.path.display().to_string();
        Err(Error::NoSpace { path, free, needed: self.floor_bytes })
    }
}
