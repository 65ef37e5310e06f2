//! Where archives are kept: a folder or a bucket. Everything here blocks.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use super::bucket::Bucket;
use super::folder::Folder;
use super::name::ArchiveName;
use crate::config::{Place, Secret};

/// A place for archives.
pub trait Target: Send + Sync {
    /// What people call the archive `name`: a path or an address.
    fn called(&self, name: ArchiveName) -> String;

    /// The folder, if it is one.
    fn folder(&self) -> Option<&Path>;

    /// The archives that are there, oldest first. Files with other names are not looked at.
    ///
    /// # Errors
    ///
    /// When the place cannot be read.
    fn list(&self) -> io::Result<Vec<Entry>>;

    /// Begins an archive.
    ///
    /// # Errors
    ///
    /// [`AlreadyExists`](io::ErrorKind::AlreadyExists) if there is one, or it cannot be written.
    fn begin(&self, name: ArchiveName) -> io::Result<Box<dyn Draft>>;

    /// Opens an archive.
    ///
    /// # Errors
    ///
    /// When it is not there or cannot be read.
    fn read(&self, name: ArchiveName) -> io::Result<Box<dyn Read + Send>>;

    /// Removes an archive.
    ///
    /// # Errors
    ///
    /// When it cannot be removed.
    fn remove(&self, name: ArchiveName) -> io::Result<()>;
}

/// An archive that is being written. Nothing is left of one that is dropped.
pub trait Draft: Write + Send {
    /// Makes durable what was written.
    ///
    /// # Errors
    ///
    /// When that fails; the draft is of no use then.
    fn close(&mut self) -> io::Result<()>;

    /// Opens what was written and closed.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    fn read_back(&self) -> io::Result<Box<dyn Read + Send>>;

    /// Gives it its name, durably, and returns its size in bytes.
    ///
    /// # Errors
    ///
    /// When that fails.
    fn publish(self: Box<Self>) -> io::Result<u64>;
}

/// An archive in its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Entry {
    /// Its name.
    pub name: ArchiveName,
    /// Its size.
    pub bytes: u64,
}

/// The place that the settings name. A bucket belongs to the async runtime it is opened on, and is
/// used from threads beside it.
///
/// # Errors
///
/// When the settings of an object store do not go together.
pub fn open(place: &Place, clouds: &[(String, Secret)]) -> io::Result<Arc<dyn Target>> {
    Ok(match place {
        Place::Folder(path) => Arc::new(Folder::new(path.clone())),
        Place::Bucket(url) => Arc::new(Bucket::open(url, clouds)?),
    })
}
