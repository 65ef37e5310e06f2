//! The two derived indexes, as files beside the store.

use std::path::Path;

use activekg_index::{GraphState, IndexError, TextIndex, TextOptions, VectorOptions, VectorSet};
use activekg_storage::Seq;
use tracing::warn;

/// Where an index is kept, and how far it has followed the change log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Opened {
    /// The last change in the text index; `None` = build it from the store.
    pub text: Option<Seq>,
    /// The last change in the vector index; `None` = build it from the store.
    pub vectors: Option<Seq>,
}

/// The text and the vector index.
pub struct Indexes {
    pub(super) text: TextIndex,
    pub(super) vectors: VectorSet,
}

impl Indexes {
    /// Opens the indexes under `dir`. One that is missing, damaged or of another version is
    /// started empty, its old files moved out of the way: the store has all that was in it.
    ///
    /// # Errors
    ///
    /// When a fresh index cannot be made either.
    pub fn open(dir: &Path, vectors: VectorOptions) -> Result<(Self, Opened), IndexError> {
        make_place(dir)?;
        let (text_dir, vectors_dir) = (dir.join("text"), dir.join("vectors"));
        let open_text = || TextIndex::open(&text_dir, TextOptions::default());
        let (text, text_seq) = or_fresh("text", &text_dir, open_text)?;
        let open_vectors = || VectorSet::open(&vectors_dir, vectors);
        let (vectors, vectors_seq) = or_fresh("vector", &vectors_dir, open_vectors)?;
        let opened = Opened { text: text_seq.map(Seq), vectors: vectors_seq.map(Seq) };
        Ok((Self { text, vectors }, opened))
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

impl Indexes {
    /// Whether vector searches go through a graph.
    pub fn graph_is_ready(&self) -> bool {
        self.vectors.graph_state() == GraphState::Ready
    }

    /// How far the building of the graph is, while one is being built.
    pub fn graph_progress(&self) -> Option<(usize, usize)> {
        match self.vectors.graph_state() {
            GraphState::Building { done, total } => Some((done, total)),
            GraphState::NotWanted | GraphState::Ready | GraphState::Rejected => None,
        }
    }
}
