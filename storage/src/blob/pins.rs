//! What garbage collection must not touch: blobs on their way into the store, files being written,
//! everything while a backup copies.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::{fs, io};

use super::BlobId;

/// Shared by the clones of one [`Blobs`](super::Blobs).
#[derive(Default)]
pub(super) struct Pins {
    state: Mutex<State>,
    /// A collection is over: `doomed` is empty.
    collected: Condvar,
}

#[derive(Default)]
pub(super) struct State {
    /// Blobs that a [`Stored`] keeps, and how many do.
    pinned: HashMap<BlobId, usize>,
    /// Names of files being written.
    writing: HashSet<String>,
    /// Holds there are.
    n_holds: usize,
    /// Blobs that a collection is about to remove. They cannot be pinned meanwhile.
    pub(super) doomed: HashSet<BlobId>,
}

impl State {
    pub(super) fn is_pinned(&self, id: BlobId) -> bool {
        self.pinned.contains_key(&id)
    }

    pub(super) fn is_held(&self) -> bool {
        self.n_holds > 0
    }

    pub(super) fn is_writing(&self, name: &str) -> bool {
        self.writing.contains(name)
    }
}

impl Pins {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // What is done under the lock cannot be left half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Pins a blob, after a collection that is about to remove it.
    pub(super) fn pin(pins: &Arc<Pins>, id: BlobId, size: u64) -> Stored {
        let mut state = pins.lock();
        while state.doomed.contains(&id) {
            state = pins.collected.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        *state.pinned.entry(id).or_default() += 1;
        Stored { pin: Arc::new(Pin { pins: Arc::clone(pins), id, size }) }
    }

    pub(super) fn writing(pins: &Arc<Pins>, name: String, path: PathBuf) -> Temporary {
        pins.lock().writing.insert(name.clone());
        Temporary { pins: Arc::clone(pins), name, path, renamed: false }
    }

    pub(super) fn hold(pins: &Arc<Pins>) -> Hold {
        pins.lock().n_holds += 1;
        Hold { pins: Arc::clone(pins) }
    }

    /// Ends a collection: what it left can be pinned again.
    pub(super) fn spare(&self) {
        self.lock().doomed.clear();
        self.collected.notify_all();
    }
}

/// A blob that is on disk and is kept there while this, or a clone of it, lives. To keep it for
/// longer, a change that owns a clone must [`link`](super::link) it.
#[derive(Clone)]
pub struct Stored {
    pin: Arc<Pin>,
}

impl Stored {
    /// The blob's name.
    #[must_use]
    pub fn id(&self) -> BlobId {
        self.pin.id
    }

    /// Its length, in bytes.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.pin.size
    }
}

struct Pin {
    pins: Arc<Pins>,
    id: BlobId,
    size: u64,
}

impl Drop for Pin {
    fn drop(&mut self) {
        let mut state = self.pins.lock();
        if let Some(n_pins) = state.pinned.get_mut(&self.id) {
            *n_pins -= 1;
            if *n_pins == 0 {
                state.pinned.remove(&self.id);
            }
        }
    }
}

/// While it lives, no blob is removed.
#[must_use]
pub struct Hold {
    pins: Arc<Pins>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.pins.lock().n_holds -= 1;
    }
}

/// A file being written; removed when dropped, unless it was renamed.
pub(super) struct Temporary {
    pins: Arc<Pins>,
    name: String,
    path: PathBuf,
    renamed: bool,
}

impl Temporary {
    pub(super) fn rename(mut self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            // If it was never made, or stays, a collection will see to it.
            drop(fs::remove_file(&self.path));
        }
        self.pins.lock().writing.remove(&self.name);
    }
}
