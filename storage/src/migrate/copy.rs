//! The copy of a store's file that an upgrade leaves behind.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use crate::open::sync_dir;

/// Keeps a copy of the store's file beside it, named after its format, if that leaves as much room
/// again for the upgrade to grow into. An upgrade goes on without one: the log says which.
pub(crate) fn keep_copy(path: &Path, format: u64) {
    let copy = named(path, &format!(".format-{format}"));
    let shown = copy.display();
    match make(path, &copy) {
        Ok(true) => tracing::info!(
            "kept a copy of the store of format {format} in {shown}; remove it once all is well"
        ),
        Ok(false) => tracing::warn!(
            "upgrading the store of format {format} without a copy: there is too little room for {shown}"
        ),
        Err(error) => tracing::warn!(
            "upgrading the store of format {format} without a copy: cannot write {shown}: {error}"
        ),
    }
}

/// Makes the copy under another name first, so that half of one is never taken for a whole.
fn make(path: &Path, copy: &Path) -> io::Result<bool> {
    let dir = path.parent().unwrap_or(Path::new("."));
    let bytes = fs::metadata(path)?.len();
    if fs4::available_space(dir)? < bytes.saturating_mul(2) {
        return Ok(false);
    }
    let half = named(copy, ".new");
    let made = fs::copy(path, &half)
        .and_then(|_| File::open(&half)?.sync_all())
        .and_then(|()| fs::rename(&half, copy))
        .and_then(|()| sync_dir(dir));
    if made.is_err() {
        // What is left of it takes room that the upgrade may need.
        drop(fs::remove_file(&half));
    }
    made.map(|()| true)
}

fn named(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    name.into()
}
