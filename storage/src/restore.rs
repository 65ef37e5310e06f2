//! Restoring: from an archive to a data directory that did not exist before.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use crate::backup::{About, ArchiveError, Manifest, Sink, Watch, walk};
use crate::error::StorageError;
use crate::load::BulkLoader;
use crate::open::{self, DirLock};

/// What the archive `archive` is a backup of. Reads only its beginning.
///
/// # Errors
///
/// [`ArchiveError`]; what follows the beginning is not looked at.
pub fn about(archive: impl Read) -> Result<About, ArchiveError> {
    crate::backup::first(archive)
}

/// Reads all of `archive` and checks everything that [`restore`] checks, but writes nothing.
///
/// # Errors
///
/// [`ArchiveError`].
pub fn check(archive: impl Read, watch: Watch<'_>) -> Result<Manifest, ArchiveError> {
    walk(archive, &mut Nowhere, watch)
}

/// Restores `archive` into the directory `into`, which must not exist or be empty, and returns what
/// the archive says of itself. Opening it with [`Store::open`](crate::Store::open) brings an older
/// format up to date.
///
/// Every part's SHA-256, every row's checksum and the counts of the manifest are checked. Everything
/// is written into a folder `restoring` inside, and synced, before the store gets its name. Left
/// over if the process dies meanwhile, the folder is removed by the next restore.
///
/// # Errors
///
/// [`ArchiveError`]; `into` is then as it was.
pub fn restore(
    archive: impl Read,
    into: &Path,
    watch: Watch<'_>,
) -> Result<Manifest, ArchiveError> {
    let mut fresh = Fresh::make(into)?;
    let manifest = walk(archive, &mut fresh, watch)?;
    fresh.swap_in()?;
    Ok(manifest)
}

/// [`restore`] into a directory that has a store already, which is kept: it gets the name `aside`.
/// What is `carried` of it, files and folders by name, goes along into the restored one if it is
/// there: keys, which no archive has, and the archives themselves.
///
/// # Errors
///
/// [`ArchiveError`]: also if a process has the store open. `into` is then as it was.
pub fn replace(
    archive: impl Read,
    into: &Path,
    aside: &Path,
    carried: &[&str],
    watch: Watch<'_>,
) -> Result<Manifest, ArchiveError> {
    // Held to the end, also under its other name.
    let _held = DirLock::acquire(into).map_err(|error| target(into, error))?;
    let name = into.file_name().ok_or_else(|| target(into, "it has no name"))?;
    let mut fresh = name.to_owned();
    fresh.push(".restored");
    let fresh = into.with_file_name(fresh);
    let manifest = restore(archive, &fresh, watch)?;
    let swapped = swap(into, aside, &fresh, carried);
    if swapped.is_err()
        && fresh.exists()
        && let Err(error) = fs::remove_dir_all(&fresh)
    {
        tracing::warn!("could not remove {}: {error}", fresh.display());
    }
    swapped.map_err(|error| target(into, error))?;
    Ok(manifest)
}

/// Puts `fresh` in the place of `into`, and `into` aside.
fn swap(into: &Path, aside: &Path, fresh: &Path, carried: &[&str]) -> io::Result<()> {
    if aside.try_exists()? {
        return Err(io::Error::other(format!("{} is there already", aside.display())));
    }
    // Copies first: if one fails, nothing has happened.
    for path in carried.iter().map(|name| into.join(name)).filter(|path| path.is_file()) {
        if let Some(name) = path.file_name() {
            let copy = fresh.join(name);
            fs::copy(&path, &copy)?;
            File::open(&copy)?.sync_all()?;
        }
    }
    open::sync_dir(fresh)?;
    fs::rename(into, aside)?;
    if let Err(error) = fs::rename(fresh, into) {
        fs::rename(aside, into)?;
        return Err(error);
    }
    for name in carried.iter().filter(|name| aside.join(name).is_dir()) {
        fs::rename(aside.join(name), into.join(name))?;
    }
    open::sync_dir(into)?;
    match into.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        Some(parent) => open::sync_dir(parent),
        None => Ok(()),
    }
}

/// Where a store is written before it is whole.
const RESTORING: &str = "restoring";

/// Where files are, in an archive and in a data directory.
const BLOBS: &str = "blobs";

/// What an empty directory may have in it: what a restore that died, a lock and a file system leave.
const NOTHING: [&str; 3] = [RESTORING, open::LOCK_FILE, "lost+found"];

/// Whether there is nothing that counts in the directory `path`.
fn is_free(path: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(path)? {
        let name = entry?.file_name();
        if !NOTHING.iter().any(|nothing| name == *nothing) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn target(path: &Path, reason: impl ToString) -> ArchiveError {
    ArchiveError::Target { path: path.to_owned(), reason: reason.to_string() }
}

/// A [`Sink`] for those who only want to know that all is in order.
struct Nowhere;

impl Sink for Nowhere {
    fn row(&mut self, _: &str, _: &[u8], _: &[u8]) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn file(&mut self, _: &str) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn bytes(&mut self, _: &[u8]) -> Result<(), ArchiveError> {
        Ok(())
    }

    fn end_file(&mut self) -> Result<(), ArchiveError> {
        Ok(())
    }
}

/// A data directory in the making. Nothing of it is left unless it becomes whole.
struct Fresh {
    /// The directory.
    into: PathBuf,
    /// It was not there before.
    made: bool,
    /// Where it is written.
    path: PathBuf,
    /// That folder is ours to remove.
    prepared: bool,
    /// So that nobody opens it meanwhile, or restores into it too.
    lock: Option<DirLock>,
    store: Option<BulkLoader>,
    file: Option<(PathBuf, File)>,
    /// Folders made for files, to be synced.
    folders: Vec<PathBuf>,
    whole: bool,
}

impl Fresh {
    fn make(into: &Path) -> Result<Fresh, ArchiveError> {
        let made = !into.try_exists().map_err(|error| target(into, error))?;
        let lock = DirLock::acquire(into).map_err(|error| target(into, error))?;
        let mut fresh = Fresh {
            into: into.to_owned(),
            made,
            path: into.join(RESTORING),
            prepared: false,
            lock: Some(lock),
            store: None,
            file: None,
            folders: Vec::new(),
            whole: false,
        };
        if !is_free(into).map_err(|error| target(into, error))? {
            return Err(ArchiveError::NotEmpty { path: into.to_owned() });
        }
        fresh.prepared = true;
        let prepared = remove_all(&fresh.path).and_then(|()| fs::create_dir(&fresh.path));
        prepared.map_err(|error| target(&fresh.path, error))?;
        let store = fresh.path.join(open::STORE_FILE);
        fresh.store = Some(BulkLoader::create(&store).map_err(|error| target(&store, error))?);
        Ok(fresh)
    }

    fn swap_in(mut self) -> Result<(), ArchiveError> {
        if let Some(loader) = self.store.take() {
            loader.finish().map_err(|error| target(&self.path, error))?;
        }
        self.rename().map_err(|error| target(&self.into, error))?;
        self.whole = true;
        // The store is in place; what is left behind is an empty folder.
        if let Err(error) = fs::remove_dir(&self.path) {
            tracing::warn!("could not remove {}: {error}", self.path.display());
        }
        Ok(())
    }

    /// Gives everything its name, the store last: without it the rest means nothing.
    fn rename(&self) -> io::Result<()> {
        self.folders.iter().try_for_each(|folder| open::sync_dir(folder))?;
        if !self.folders.is_empty() {
            fs::rename(self.path.join(BLOBS), self.into.join(BLOBS))?;
            open::sync_dir(&self.into)?;
        }
        fs::rename(self.path.join(open::STORE_FILE), self.into.join(open::STORE_FILE))?;
        open::sync_dir(&self.into)?;
        match self.into.parent().filter(|parent| self.made && !parent.as_os_str().is_empty()) {
            Some(parent) => open::sync_dir(parent),
            None => Ok(()),
        }
    }

    /// Leaves the directory as it was found.
    fn undo(&mut self) -> io::Result<()> {
        if self.prepared {
            remove_all(&self.path)?;
        }
        if let Some(lock) = self.lock.take() {
            lock.withdraw();
        }
        if self.made { fs::remove_dir(&self.into) } else { Ok(()) }
    }

    /// Makes the folder of a file.
    fn folder(&mut self, folder: &Path) -> io::Result<()> {
        if self.folders.is_empty() {
            self.folders.push(self.path.join(BLOBS));
        }
        if !self.folders.iter().any(|known| known == folder) {
            fs::create_dir_all(folder)?;
            self.folders.push(folder.to_owned());
        }
        Ok(())
    }
}

impl Sink for Fresh {
    fn row(&mut self, table: &str, key: &[u8], value: &[u8]) -> Result<(), ArchiveError> {
        let written = match &mut self.store {
            Some(store) => store.insert(table, key, value),
            None => Err(StorageError::Closed),
        };
        written.map_err(|error| target(&self.path.join(open::STORE_FILE), error))
    }

    fn file(&mut self, name: &str) -> Result<(), ArchiveError> {
        let path = self.path.join(name);
        if let Some(folder) = path.parent() {
            let made = self.folder(folder);
            made.map_err(|error| target(folder, error))?;
        }
        let file = open::private(OpenOptions::new().write(true).create_new(true)).open(&path);
        let file = file.map_err(|error| target(&path, error))?;
        self.file = Some((path, file));
        Ok(())
    }

    fn bytes(&mut self, bytes: &[u8]) -> Result<(), ArchiveError> {
        let Some((path, file)) = &mut self.file else { return Ok(()) };
        file.write_all(bytes).map_err(|error| target(path, error))
    }

    fn end_file(&mut self) -> Result<(), ArchiveError> {
        let Some((path, file)) = self.file.take() else { return Ok(()) };
        file.sync_all().map_err(|error| target(&path, error))
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if self.whole {
            return;
        }
        drop(self.store.take());
        drop(self.file.take());
        if let Err(error) = self.undo() {
            tracing::warn!("could not clean up {}: {error}", self.into.display());
        }
    }
}

fn remove_all(path: &Path) -> io::Result<()> {
    match fs::remove_dir_all(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
