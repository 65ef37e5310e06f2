//! The one writer of the text index. An error throws it away; the next call makes a new one.

use std::sync::Arc;

use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::{Index, IndexWriter, TantivyDocument, TantivyError, Term};

use super::schema::{FORMAT, Fields};
use super::{TextDoc, TextOp};
use crate::IndexError;

/// tantivy's limits for the memory of one writing thread.
const HEAP_BYTES: std::ops::RangeInclusive<usize> = 15_000_000..=4_000_000_000;

/// Segments of up to this many documents count as equally small. Commits with a few documents
/// are the rule, so the merges they cause must be small ones.
const SMALL_SEGMENT_DOCS: u32 = 500;
/// This many segments of a size become one of the next.
const SEGMENTS_PER_MERGE: usize = 8;
/// A segment with more dead documents than this share is written anew.
const DEAD_SHARE_MAX: f32 = 0.3;

pub(super) struct Writer {
    index: Index,
    fields: Fields,
    heap_bytes: usize,
    /// `None` after an error.
    writer: Option<IndexWriter>,
    committed: Option<u64>,
    synced: Option<u64>,
}

impl Writer {
    pub(super) fn open(
        index: Index,
        fields: Fields,
        heap_bytes: usize,
        committed: Option<u64>,
    ) -> Result<Self, IndexError> {
        if !HEAP_BYTES.contains(&heap_bytes) {
            return Err(IndexError::Invalid(format!(
                "heap_bytes is {heap_bytes}, not within {HEAP_BYTES:?}"
            )));
        }
        let mut this = Self { index, fields, heap_bytes, writer: None, committed, synced: None };
        this.with(|_, _| Ok(()))?;
        Ok(this)
    }

    pub(super) fn apply(&mut self, ops: &[TextOp]) -> Result<(), IndexError> {
        self.with(|writer, fields| {
            for op in ops {
                let (TextOp::Put(TextDoc { id, .. }) | TextOp::Remove { id }) = op;
                writer.delete_term(Term::from_field_bytes(fields.id, &id.to_be_bytes()));
                if let TextOp::Put(doc) = op {
                    writer.add_document(document(fields, doc))?;
                }
            }
            Ok(())
        })
    }

    pub(super) fn commit(&mut self, seq: u64) -> Result<(), IndexError> {
        self.with(|writer, _| {
            let mut commit = writer.prepare_commit()?;
            commit.set_payload(&payload(seq));
            commit.commit()?;
            Ok(())
        })?;
        self.committed = Some(seq);
        Ok(())
    }

    pub(super) fn committed(&self) -> Option<u64> {
        self.committed
    }

    pub(super) fn synced(&mut self, seq: Option<u64>) {
        self.synced = self.synced.max(seq);
    }

    pub(super) fn synced_seq(&self) -> Option<u64> {
        self.synced
    }

    /// Runs `work` with a living writer. On an error the writer goes, and with it all that was
    /// not committed: that of tantivy cannot be used after a failed thread.
    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut IndexWriter, &Fields) -> tantivy::Result<T>,
    ) -> Result<T, IndexError> {
        let mut writer = match self.writer.take() {
            Some(writer) => writer,
            None => self.make().map_err(failed)?,
        };
        let done = work(&mut writer, &self.fields).map_err(failed)?;
        self.writer = Some(writer);
        Ok(done)
    }

    fn make(&self) -> tantivy::Result<IndexWriter> {
        let options = IndexWriterOptions::builder()
            .num_worker_threads(1)
            .num_merge_threads(1)
            .memory_budget_per_thread(self.heap_bytes)
            .build();
        let writer = self.index.writer_with_options(options)?;
        let mut merges = LogMergePolicy::default();
        merges.set_min_layer_size(SMALL_SEGMENT_DOCS);
        merges.set_min_num_segments(SEGMENTS_PER_MERGE);
        merges.set_del_docs_ratio_before_merge(DEAD_SHARE_MAX);
        writer.set_merge_policy(Box::new(merges));
        Ok(writer)
    }
}

fn document(fields: &Fields, doc: &TextDoc) -> TantivyDocument {
    let TextDoc { id, tenant, title, body, metadata, facts } = doc;
    let mut out = TantivyDocument::default();
    out.add_bytes(fields.id, &id.to_be_bytes());
    out.add_u64(fields.id_high, (id >> 64) as u64);
    out.add_u64(fields.id_low, *id as u64);
    out.add_text(fields.tenant, tenant);
    out.add_text(fields.title, title);
    out.add_text(fields.body, body);
    out.add_text(fields.metadata, metadata);
    for &fact in facts {
        out.add_u64(fields.facts, fact);
    }
    out
}

/// What a commit carries beside the documents.
fn payload(seq: u64) -> String {
    format!("activekg-text {FORMAT} {seq}")
}

/// The sequence number in a commit of this format.
pub(super) fn parse_payload(payload: &str) -> Option<u64> {
    let seq = payload.strip_prefix(&format!("activekg-text {FORMAT} "))?;
    seq.parse().ok()
}

/// Errors of a running index are the disk's, or leave the index in doubt for no reason we know;
/// either way it is back at its last commit.
pub(super) fn failed(error: TantivyError) -> IndexError {
    match error {
        TantivyError::IoError(e) => match Arc::try_unwrap(e) {
            Ok(e) => IndexError::Io(e),
            Err(shared) => IndexError::Io(std::io::Error::new(shared.kind(), shared.to_string())),
        },
        other => IndexError::Io(std::io::Error::other(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_payload_of_another_format_is_refused() {
        assert_eq!(parse_payload(&payload(u64::MAX)), Some(u64::MAX));
        assert_eq!(parse_payload("activekg-text 999 5"), None);
        assert_eq!(parse_payload("activekg-text 1 5x"), None);
        assert_eq!(parse_payload(""), None);
    }
}
