//! The derived indexes, as files beside the store.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use activekg_index::{Engines, IndexError, TextIndex, TextOptions, VectorOptions, VectorSet};
use activekg_storage::Seq;
use activekg_storage::tables::graph::Slot;
use arc_swap::ArcSwapOption;
use tracing::warn;

/// Where an index is kept, and how far it has followed the change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The last change in the text index; `None` = build it from the store.
    pub text: Option<Seq>,
    /// The last change in every vector index; `None` = build them from the store.
    pub vectors: Option<Seq>,
}

/// The text index, and a vector index for each slot in use.
pub struct Indexes {
    dir: PathBuf,
    pub(super) text: TextIndex,
    vectors: [ArcSwapOption<VectorSet>; 2],
    /// Held by whoever changes an index, or what indexes there are. The engines that every vector
    /// index keeps.
    changing: Mutex<Engines>,
}

impl Indexes {
    /// Opens the indexes under `dir`, of vectors those in `slots`. One that is missing, damaged or
    /// of another version is started empty, its old files moved out of the way: the store has all
    /// that was in it. Vectors of other slots are removed.
    ///
    /// # Errors
    ///
    /// When a fresh index cannot be made either.
    pub fn open(dir: &Path, slots: &[(Slot, VectorOptions)]) -> Result<(Self, Opened), IndexError> {
        make_place(dir)?;
        let text_dir = dir.join("text");
        let open_text = || TextIndex::open(&text_dir, TextOptions::default());
        let (text, text_seq) = or_fresh("text", &text_dir, open_text)?;
        let this = Self {
            dir: dir.to_owned(),
            text,
            vectors: Default::default(),
            // The slots of one process have their settings in common, but for the dimension.
            changing: Mutex::new(slots.first().map_or(Engines::NONE, |(_, first)| first.engines)),
        };
        let mut vectors_seq = Some(u64::MAX);
        for slot in Slot::ALL {
            let place = this.place(slot);
            let Some((_, options)) = slots.iter().find(|(used, _)| *used == slot) else {
                VectorSet::wipe(&place)?;
                continue;
            };
            let open_vectors = || VectorSet::open(&place, *options);
            let (set, seq) = or_fresh("vector", &place, open_vectors)?;
            this.at(slot).store(Some(Arc::new(set)));
            // None is the least.
            vectors_seq = vectors_seq.min(seq);
        }
        let opened = Opened { text: text_seq.map(Seq), vectors: vectors_seq.map(Seq) };
        Ok((this, opened))
    }

    /// Begins an empty index for the vectors of a slot.
    ///
    /// # Errors
    ///
    /// When the disk refuses.
    pub fn open_slot(&self, slot: Slot, options: VectorOptions) -> Result<(), IndexError> {
        let engines = self.change();
        let place = self.place(slot);
        VectorSet::wipe(&place)?;
        let options = VectorOptions { engines: *engines, ..options };
        let (set, _) = VectorSet::open(&place, options)?;
        self.at(slot).store(Some(Arc::new(set)));
        Ok(())
    }

    /// Removes the index of the vectors of a slot. Searches in it that are under way end well.
    ///
    /// # Errors
    ///
    /// When the disk refuses. Searches do not find the index either way.
    pub fn close_slot(&self, slot: Slot) -> Result<(), IndexError> {
        let _changing = self.change();
        self.at(slot).store(None);
        VectorSet::wipe(&self.place(slot))
    }

    /// The vectors of a slot, if it is in use.
    pub fn vectors(&self, slot: Slot) -> Option<Arc<VectorSet>> {
        self.at(slot).load_full()
    }

    /// The vectors of each slot in use.
    pub(super) fn all_vectors(&self) -> Vec<(Slot, Arc<VectorSet>)> {
        let used = |slot| Some((slot, self.vectors(slot)?));
        Slot::ALL.into_iter().filter_map(used).collect()
    }

    /// The engines that every vector index keeps, in use or not yet built.
    pub(super) fn engines(&self) -> Engines {
        *self.change()
    }

    /// Has every vector index keep these engines and no others.
    pub(super) fn keep(&self, engines: Engines) {
        let mut kept = self.change();
        *kept = engines;
        for (_, set) in self.all_vectors() {
            set.keep(engines);
        }
    }

    /// Has these engines built anew.
    pub(super) fn forget(&self, engines: Engines) {
        let _changing = self.change();
        for (_, set) in self.all_vectors() {
            set.forget(engines);
        }
    }

    /// Keeps others from changing an index, and what indexes there are.
    pub(super) fn change(&self) -> MutexGuard<'_, Engines> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn at(&self, slot: Slot) -> &ArcSwapOption<VectorSet> {
        match slot {
            Slot::A => &self.vectors[0],
            Slot::B => &self.vectors[1],
        }
    }

    fn place(&self, slot: Slot) -> PathBuf {
        self.dir.join(match slot {
            Slot::A => "vectors",
            Slot::B => "vectors-b",
        })
    }
}

/// What `open` gives, the second time in an empty folder if the first finds damage.
fn or_fresh<T>(
    what: &str,
    dir: &Path,
    open: impl Fn() -> Result<T, IndexError>,
) -> Result<T, IndexError> {
    make_place(dir)?;
    match open() {
        Err(IndexError::Damaged { reason, .. }) => {
            warn!(path = %dir.display(), "{what} index is damaged and will be rebuilt: {reason}");
            move_aside(dir)?;
            open()
        }
        opened => opened,
    }
}

/// Moves what is no folder, but has the name of one, out of the way.
fn make_place(dir: &Path) -> Result<(), IndexError> {
    match std::fs::symlink_metadata(dir) {
        Ok(_) if !dir.is_dir() => {
            warn!(path = %dir.display(), "moved aside: a folder of indexes belongs here");
            move_aside(dir)
        }
        _ => Ok(()),
    }
}

/// Gives what is at `path` another name, in place of what had that.
fn move_aside(path: &Path) -> Result<(), IndexError> {
    let aside = path.with_extension("damaged");
    let gone = match std::fs::symlink_metadata(&aside) {
        Ok(found) if found.is_dir() => std::fs::remove_dir_all(&aside),
        Ok(_) => std::fs::remove_file(&aside),
        Err(_) => Ok(()),
    };
    gone.map_err(IndexError::Io)?;
    match std::fs::rename(path, &aside) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(IndexError::Io(error)),
        _ => Ok(()),
    }
}
