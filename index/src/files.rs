//! File habits shared by the indexes: whole-file replacement and folder sync.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;

use crate::IndexError;

/// Replaces `path` by a file with `bytes`, all or nothing: written beside it, renamed over it.
/// With `synced`, the file and then the folder reach the disk before this returns.
pub(crate) fn replace(path: &Path, bytes: &[u8], synced: bool) -> io::Result<()> {
    let beside = path.with_extension("tmp");
    let mut file = File::create(&beside)?;
    file.write_all(bytes)?;
    if synced {
        file.sync_data()?;
    }
    drop(file);
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) if synced => sync_folder(folder),
        _ => Ok(()),
    }
}

/// Makes the names in a folder durable. A no-op where folders cannot be opened (Windows).
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Creates the folder and its parents, and makes its own name durable.
pub(crate) fn create_folder(folder: &Path) -> Result<(), IndexError> {
    fs::create_dir_all(folder).map_err(|e| IndexError::io(folder, &e))?;
    if let Some(parent) = folder.parent().filter(|p| !p.as_os_str().is_empty()) {
        sync_folder(parent).map_err(|e| IndexError::io(parent, &e))?;
    }
    Ok(())
}

/// Deletes the folder with everything in it; one that is not there is fine.
pub(crate) fn wipe(folder: &Path) -> Result<(), IndexError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(IndexError::io(folder, &e)),
        _ => Ok(()),
    }
}
