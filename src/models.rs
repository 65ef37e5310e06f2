//! The models kept beside the data: each a folder of its files with a list of their digests.
//!
//! ```text
//! <data directory>/models/<name>/model.json      kind, files, SHA-256 of each
//!                                config.json ..  the files as they were added
//! ```
//!
//! A model that is here goes by its name wherever a setting wants one. A folder appears whole or
//! not at all: it is made under another name, synced, and renamed.

mod change;
mod compare;
mod manifest;
mod name;
mod open;
mod source;

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use activekg_storage::time::UnixMicros;
use tempfile::TempDir;

pub use change::{ChangeStatus, Error as ChangeError, ModelChanges, Parts, Phase, Served, Status};
pub(crate) use change::{choice_of, named_by};
pub use compare::{Comparison, Queries, SAMPLE_MAX, Side};
pub use manifest::{Kept, Kind, Part};
pub use name::{BadName, ModelName};
pub(crate) use open::{Opened, options, prepare};

use manifest::Manifest;
use source::Source;

/// The folder of models in the data directory.
const FOLDER: &str = "models";
/// What the name of a folder begins with while a model is being added. Left over if the process
/// dies; the next addition removes it.
const DRAFT: &str = ".adding-";
/// The file that whoever changes the library holds a lock on.
const LOCK: &str = ".lock";
/// Free space that an addition leaves on the file system, which the store may be on, in bytes.
const LEAVE_FREE: u64 = 512 << 20;

/// Why a model could not be added, read or removed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is a model of that name.
    #[error("there is a model named {0} already; remove it first, or choose another --name")]
    Exists(ModelName),
    /// There is none of that name.
    #[error("there is no model named {0}; `activekg models list` names those there are")]
    NotFound(ModelName),
    /// What was to be added is no model this program knows.
    #[error("{} is not a model: {reason}", path.display())]
    NotAModel {
        /// Where it was looked for.
        path: PathBuf,
        /// What is missing or wrong.
        reason: String,
    },
    /// The model's list of files cannot be read.
    #[error("{} is damaged: {reason}; remove the model and add it again", path.display())]
    Damaged {
        /// The list.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Somebody else changes the library.
    #[error("another process adds or removes a model in {}; try again when it is done", .0.display())]
    Busy(PathBuf),
    /// The disk has not enough room.
    #[error("the model has {needed} bytes and {} has {free} free, of which {LEAVE_FREE} are to stay so", path.display())]
    NoRoom {
        /// Where it was to go.
        path: PathBuf,
        /// The model's size.
        needed: u64,
        /// What is free.
        free: u64,
    },
    /// The disk refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// What could not be read or written.
        path: PathBuf,
        /// Why.
        #[source]
        error: io::Error,
    },
}

impl Error {
    fn io(path: &Path, error: io::Error) -> Self {
        Self::Io { path: path.to_owned(), error }
    }
}

/// A file of a model that is not what it was when the model was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Its name in the model's folder.
    pub file: String,
    /// What is wrong with it.
    pub reason: String,
}

/// A name in the library, and what goes by it.
#[derive(Debug)]
pub struct Entry {
    /// The name.
    pub name: ModelName,
    /// The model, or why it cannot be told what it is.
    pub kept: Result<Kept, Error>,
}

/// The models of a data directory.
#[derive(Debug, Clone)]
pub struct Library {
    dir: PathBuf,
}

impl Library {
    /// The models kept in `data_dir`. Nothing is made until one is added.
    #[must_use]
    pub fn of(data_dir: &Path) -> Self {
        Self { dir: data_dir.join(FOLDER) }
    }

    /// The folder of a model, whether or not it is there.
    #[must_use]
    pub fn folder(&self, name: &ModelName) -> PathBuf {
        self.dir.join(name.as_str())
    }

    /// What loads by this name: the folder of an embedder, the file of a writer. `None` if there
    /// is no such model.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], or the disk's.
    pub fn find(&self, name: &ModelName) -> Result<Option<PathBuf>, Error> {
        let folder = self.folder(name);
        match Manifest::read(&folder)? {
            Some(manifest) => Ok(Some(manifest.loads(&folder))),
            None => Ok(None),
        }
    }

    /// The models there are, by name.
    ///
    /// # Errors
    ///
    /// The disk's.
    pub fn list(&self) -> Result<Vec<Entry>, Error> {
        let folders = match fs::read_dir(&self.dir) {
            Ok(folders) => folders,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(Error::io(&self.dir, error)),
        };
        let mut models = Vec::new();
        for folder in folders {
            let folder = folder.map_err(|error| Error::io(&self.dir, error))?;
            let name = folder.file_name().to_str().and_then(|name| name.parse().ok());
            let Some(name): Option<ModelName> = name else { continue };
            let kept = self.get(&name);
            models.push(Entry { name, kept });
        }
        models.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(models)
    }

    /// One model.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`], [`Error::Damaged`], or the disk's.
    pub fn get(&self, name: &ModelName) -> Result<Kept, Error> {
        let folder = self.folder(name);
        let manifest = Manifest::read(&folder)?.ok_or_else(|| Error::NotFound(name.clone()))?;
        Ok(Kept { loads: manifest.loads(&folder), manifest })
    }

    /// Copies the model at `path` into the library: a folder with `config.json`, `tokenizer.json`
    /// and `model.safetensors`, or a `.gguf` file. `check` loads the copy before it counts, and
    /// says what is wrong with it; `copied` is told the bytes of each step.
    ///
    /// # Errors
    ///
    /// Any but [`Error::NotFound`]; nothing is added then.
    pub fn add(
        &self,
        path: &Path,
        name: &ModelName,
        now: UnixMicros,
        check: impl FnOnce(&Kept) -> Result<(), String>,
        copied: impl Fn(u64),
    ) -> Result<Kept, Error> {
        let target = self.folder(name);
        if target.symlink_metadata().is_ok() {
            return Err(Error::Exists(name.clone()));
        }
        let source = Source::at(path)?;
        let _alone = self.lock()?;
        self.make_room(source.bytes())?;
        let draft = tempfile::Builder::new()
            .prefix(DRAFT)
            .tempdir_in(&self.dir)
            .map_err(|error| Error::io(&self.dir, error))?;
        let files = source.copy_to(draft.path(), copied)?;
        let manifest = Manifest::new(source.kind(), files, now);
        manifest.write(draft.path())?;
        let kept = Kept { loads: manifest.loads(draft.path()), manifest };
        check(&kept).map_err(|reason| Error::NotAModel { path: path.to_owned(), reason })?;
        let Kept { manifest, loads: _ } = kept;
        put_in_place(draft, &target, name)?;
        sync_folder(&self.dir)?;
        Ok(Kept { loads: manifest.loads(&target), manifest })
    }

    /// Reads every byte of a model and compares it with what was added.
    ///
    /// # Errors
    ///
    /// As [`Library::get`]; a file that cannot be read is a fault and not an error.
    pub fn verify(&self, name: &ModelName, read: impl Fn(u64)) -> Result<Vec<Fault>, Error> {
        let folder = self.folder(name);
        let kept = self.get(name)?;
        let mut faults = Vec::new();
        for part in &kept.manifest.files {
            if let Err(reason) = part.compare(&folder, &read) {
                faults.push(Fault { file: part.name.clone(), reason });
            }
        }
        Ok(faults)
    }

    /// Removes a model, whole or damaged. Who uses it has it in memory and does not notice until
    /// the next start.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] or the disk's.
    pub fn remove(&self, name: &ModelName) -> Result<(), Error> {
        let folder = self.folder(name);
        if !folder.is_dir() {
            return Err(Error::NotFound(name.clone()));
        }
        let _alone = self.lock()?;
        // Out of the way in one step, so that a half-removed model is never taken for one.
        let doomed = tempfile::Builder::new()
            .prefix(DRAFT)
            .tempdir_in(&self.dir)
            .map_err(|error| Error::io(&self.dir, error))?;
        fs::rename(&folder, doomed.path().join("removed"))
            .map_err(|error| Error::io(&folder, error))?;
        sync_folder(&self.dir)?;
        doomed.close().map_err(|error| Error::io(&folder, error))
    }

    /// Makes the library's folder and keeps others from changing it.
    fn lock(&self) -> Result<File, Error> {
        let at = |error| Error::io(&self.dir, error);
        fs::create_dir_all(&self.dir).map_err(at)?;
        let lock = File::create(self.dir.join(LOCK)).map_err(at)?;
        match lock.try_lock() {
            Ok(()) => Ok(lock),
            Err(TryLockError::WouldBlock) => Err(Error::Busy(self.dir.clone())),
            Err(TryLockError::Error(error)) => Err(at(error)),
        }
    }

    /// Clears the library of what was left unfinished, and sees that `needed` bytes fit.
    fn make_room(&self, needed: u64) -> Result<(), Error> {
        let at = |error| Error::io(&self.dir, error);
        for folder in fs::read_dir(&self.dir).map_err(at)? {
            let folder = folder.map_err(at)?;
            if folder.file_name().to_string_lossy().starts_with(DRAFT) {
                fs::remove_dir_all(folder.path()).map_err(at)?;
            }
        }
        let free = fs4::available_space(&self.dir).map_err(at)?;
        if free < needed.saturating_add(LEAVE_FREE) {
            return Err(Error::NoRoom { path: self.dir.clone(), needed, free });
        }
        Ok(())
    }
}

/// Makes the draft the model `name`, unless one of that name came meanwhile: the system does not
/// rename a folder onto one that holds something.
fn put_in_place(draft: TempDir, target: &Path, name: &ModelName) -> Result<(), Error> {
    sync_folder(draft.path())?;
    match fs::rename(draft.path(), target) {
        Ok(()) => {
            // The folder is elsewhere now, and not to be removed.
            let _moved = draft.keep();
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
            Err(Error::Exists(name.clone()))
        }
        Err(error) => Err(Error::io(target, error)),
    }
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    let synced = File::open(folder).and_then(|folder| folder.sync_all());
    synced.map_err(|error| Error::io(folder, error))
}

#[cfg(test)]
mod tests;
