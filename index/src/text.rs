//! Words: BM25 over title, body and metadata, on tantivy.

mod collect;
mod directory;
mod query;
mod schema;
mod tokens;
mod wordy;
mod writer;

use std::path::Path;
use std::sync::Mutex;
use std::sync::PoisonError;

use tantivy::{Index, IndexReader, ReloadPolicy, TantivyError};

use crate::{FactFilter, Hit, IndexError, files};
use collect::{AllIds, BestIds};
use directory::LazyDirectory;
use schema::Fields;
pub use tokens::terms;
use wordy::WordyFields;
use writer::Writer;

/// A document as the text index takes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TextDoc {
    /// Unique over all tenants.
    pub id: u128,
    /// The tenant that owns it. Searches name the tenants they look into.
    pub tenant: String,
    /// A short text; weighs by [`TextWeights::title`].
    pub title: String,
    /// The text.
    pub body: String,
    /// Anything else worth finding by its words, such as JSON rendered as text.
    pub metadata: String,
    /// What a [`FactFilter`] may ask for.
    pub facts: Vec<u64>,
}

/// A change to the text index.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TextOp {
    /// Adds the document in place of the one with its id, if there is one.
    Put(TextDoc),
    /// Removes the document, if there is one.
    Remove {
        /// Its id.
        id: u128,
    },
}

/// What a word in each field is worth. The default for the title was measured on the Cranfield
/// collection with the title repeated at the head of the body: nDCG@10 is 33.7 without the title
/// field, 35.4 with 0.5 or 0.75, and falls again from 1 on.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TextWeights {
    /// Of a word in the title.
    pub title: f32,
    /// Of a word in the body.
    pub body: f32,
    /// Of a word in the metadata.
    pub metadata: f32,
}

impl Default for TextWeights {
    fn default() -> Self {
        Self { title: 0.5, body: 1.0, metadata: 0.25 }
    }
}

/// Settings of the text index.
#[derive(Debug, Clone, Copy)]
pub struct TextOptions {
    /// Memory for documents that are not on disk yet; 15 MB at least, 4 GB at most.
    pub heap_bytes: usize,
}

impl Default for TextOptions {
    fn default() -> Self {
        Self { heap_bytes: 32 << 20 }
    }
}

/// A search by words.
#[derive(Debug, Clone, Copy)]
pub struct TextQuery<'a> {
    /// Any text. Documents that hold any of its words are found; nothing in it is an operator.
    pub text: &'a str,
    /// Where to look; nowhere if empty.
    pub tenants: &'a [&'a str],
    /// The number of hits wanted.
    pub limit: usize,
    /// What documents must have.
    pub facts: &'a FactFilter,
}

/// The text index in its folder. One process, one value per folder.
pub struct TextIndex {
    reader: IndexReader,
    fields: Fields,
    weights: TextWeights,
    wordy: WordyFields,
    directory: LazyDirectory,
    writer: Mutex<Writer>,
}

impl TextIndex {
    /// Opens the index in `dir`, or makes an empty one if the folder is absent or empty. Gives the
    /// sequence number of its last commit, `None` if there is none. Reads and checks every byte
    /// once.
    ///
    /// # Errors
    ///
    /// [`IndexError::Damaged`] for an index that is incomplete, changed, or of another version:
    /// [`TextIndex::wipe`] and open again. [`IndexError::Invalid`] for settings out of range.
    pub fn open(dir: &Path, options: TextOptions) -> Result<(Self, Option<u64>), IndexError> {
        let (schema, fields) = schema::schema();
        files::create_folder(dir)?;
        let mut names = dir.read_dir().map_err(|e| IndexError::io(dir, &e))?;
        let create = names.next().is_none();
        let failed = |error| opening_failed(dir, error);

        let directory = LazyDirectory::open(dir).map_err(failed)?;
        let index = if create {
            let settings = tantivy::IndexSettings::default();
            Index::create(directory.clone(), schema, settings).map_err(failed)?
        } else {
            let index = Index::open(directory.clone()).map_err(failed)?;
            if index.schema() != schema {
                return Err(IndexError::damaged(dir, "it has other fields"));
            }
            verify(dir, &index)?;
            directory
                .delete_unlisted(&index.directory().list_managed_files())
                .map_err(|e| IndexError::io(dir, &e))?;
            index
        };
        index.tokenizers().register(schema::ANALYZER, tokens::analyzer());

        let payload = index.load_metas().map_err(failed)?.payload;
        let committed =
            match payload {
                Some(payload) => Some(writer::parse_payload(&payload).ok_or_else(|| {
                    IndexError::damaged(dir, format!("its commit says {payload:?}"))
                })?),
                None => None,
            };
        let reader = index
            .reader_builder()
            .reload_policy(ReloadPolicy::Manual)
            .try_into()
            .map_err(failed)?;
        let writer = Writer::open(index, fields, options.heap_bytes, committed)?;
        let this = Self {
            reader,
            fields,
            weights: TextWeights::default(),
            wordy: WordyFields::default(),
            directory,
            writer: Mutex::new(writer),
        };
        Ok((this, committed))
    }

    /// Deletes the index in `dir` with the folder. There must be no open index in it.
    ///
    /// # Errors
    ///
    /// When the file system refuses.
    pub fn wipe(dir: &Path) -> Result<(), IndexError> {
        files::wipe(dir)
    }

    /// Searches with other weights than the default.
    #[must_use]
    pub fn with_weights(mut self, weights: TextWeights) -> Self {
        self.weights = weights;
        self.wordy = WordyFields::default();
        self
    }

    /// Applies changes in order. They are found after the next [`TextIndex::commit`].
    ///
    /// # Errors
    ///
    /// After an error the index is back at its last commit and works again: apply everything from
    /// [`TextIndex::committed_seq`] on.
    pub fn apply(&self, ops: &[TextOp]) -> Result<(), IndexError> {
        self.lock().apply(ops)
    }

    /// Makes what was applied visible to searches, and outlive the process, as the state after
    /// change `seq`. Waits for neither the disk nor merges: see [`TextIndex::sync`].
    ///
    /// # Errors
    ///
    /// As [`TextIndex::apply`].
    pub fn commit(&self, seq: u64) -> Result<(), IndexError> {
        let mut writer = self.lock();
        writer.commit(seq)?;
        // Under the lock, so that a later commit cannot be overtaken by the view of an earlier.
        self.reader.reload().map_err(writer::failed)
    }

    /// Brings the last commit to the disk, so that it outlives a power cut. What a cut takes away
    /// otherwise is noticed at open. Call it now and then, and when stopping.
    ///
    /// # Errors
    ///
    /// When the disk refuses; the next call tries again.
    pub fn sync(&self) -> Result<(), IndexError> {
        // Without the writer's lock: a slow disk must not hold up commits. A commit that comes in
        // between is either whole on the disk or not complete, which the checksums tell.
        let seq = self.lock().committed();
        self.directory.sync()?;
        self.lock().synced(seq);
        Ok(())
    }

    /// The sequence number of the last commit.
    #[must_use]
    pub fn committed_seq(&self) -> Option<u64> {
        self.lock().committed()
    }

    /// The sequence number up to which the index surely outlives a power cut. Changes after it
    /// must be kept by whoever applies them.
    #[must_use]
    pub fn synced_seq(&self) -> Option<u64> {
        self.lock().synced_seq()
    }

    /// The best documents by BM25, best first. Text without a word to look for finds nothing.
    ///
    /// # Errors
    ///
    /// When index files cannot be read.
    pub fn search(&self, query: &TextQuery<'_>) -> Result<Vec<Hit>, IndexError> {
        let &TextQuery { text, tenants, limit, facts } = query;
        let searcher = self.reader.searcher();
        let wordy = self.wordy.of(&searcher, &self.fields, &self.weights);
        let wordy = wordy.map_err(writer::failed)?;
        let words = query::any_word(&self.fields, &wordy, text, tenants, facts);
        let Some(words) = words.filter(|_| limit > 0 && !tenants.is_empty()) else {
            return Ok(Vec::new());
        };
        searcher.search(&words, &BestIds { limit }).map_err(writer::failed)
    }

    /// The ids of the tenants' documents that meet the condition, sorted; `None` when the
    /// condition is empty, which every document meets.
    ///
    /// # Errors
    ///
    /// When index files cannot be read.
    pub fn candidates(
        &self,
        tenants: &[&str],
        facts: &FactFilter,
    ) -> Result<Option<Vec<u128>>, IndexError> {
        if facts.is_empty() {
            return Ok(None);
        }
        let condition = query::condition(&self.fields, tenants, facts);
        let searcher = self.reader.searcher();
        let mut ids = searcher.search(&condition, &AllIds).map_err(writer::failed)?;
        ids.sort_unstable();
        Ok(Some(ids))
    }

    /// The number of documents visible to searches, over all tenants.
    #[must_use]
    pub fn len(&self) -> usize {
        usize::try_from(self.reader.searcher().num_docs()).unwrap_or(usize::MAX)
    }

    /// Whether no document is visible.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Writer> {
        // A call that panicked had taken the tantivy writer out; the next one makes a new one.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Compares every file of every segment with its checksum.
fn verify(dir: &Path, index: &Index) -> Result<(), IndexError> {
    let failed = |error| opening_failed(dir, error);
    let managed = index.directory();
    let known = managed.list_managed_files();
    let bad = index.validate_checksum().map_err(failed)?;
    if let Some(path) = bad.into_iter().next() {
        return Err(IndexError::damaged(&dir.join(path), "checksum does not match"));
    }
    // The check above passes over files that are not in the list of files.
    for segment in index.searchable_segment_metas().map_err(failed)? {
        let name = segment.id().uuid_string();
        if !known.iter().any(|path| path.to_string_lossy().starts_with(&name)) {
            return Err(IndexError::damaged(dir, format!("segment {name} is not listed")));
        }
    }
    Ok(())
}

/// While opening, everything but a failing disk means that the files are no index of ours.
fn opening_failed(dir: &Path, error: TantivyError) -> IndexError {
    match error {
        TantivyError::LockFailure(..) | TantivyError::InvalidArgument(_) => writer::failed(error),
        TantivyError::IoError(e) if is_disk(e.kind()) => IndexError::io(dir, &e),
        TantivyError::OpenReadError(tantivy::directory::error::OpenReadError::IoError {
            io_error,
            ..
        }) if is_disk(io_error.kind()) => IndexError::io(dir, &io_error),
        other => IndexError::damaged(dir, other.to_string()),
    }
}

/// Faults of the file system, as opposed to what a changed file leads to.
fn is_disk(kind: std::io::ErrorKind) -> bool {
    use std::io::ErrorKind as K;
    matches!(kind, K::PermissionDenied | K::StorageFull | K::ReadOnlyFilesystem | K::QuotaExceeded)
}
