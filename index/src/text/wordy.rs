//! Which fields hold words at all.

use std::sync::Arc;

use arc_swap::ArcSwapOption;
use tantivy::Searcher;
use tantivy::schema::Field;

use super::TextWeights;
use super::schema::Fields;

/// A field to look for words in, and what a word in it is worth.
pub(super) type Weighted = (Field, f32);

/// The fields to look into, remembered for the newest state of the index.
///
/// Most nodes have no title, or no metadata. tantivy keeps the dictionary of a field that is there
/// open, and makes an empty one for every term that is looked for in one that is not: that took
/// half of the time of a search.
#[derive(Default)]
pub(super) struct WordyFields {
    newest: ArcSwapOption<Known>,
}

/// What is known of one state.
struct Known {
    /// tantivy's number of the state.
    generation: u64,
    fields: Arc<[Weighted]>,
}

impl WordyFields {
    /// Those of the fields that count and have a word in some document.
    pub(super) fn of(
        &self,
        searcher: &Searcher,
        fields: &Fields,
        weights: &TextWeights,
    ) -> tantivy::Result<Arc<[Weighted]>> {
        let generation = searcher.generation().generation_id();
        if let Some(known) = &*self.newest.load()
            && known.generation == generation
        {
            return Ok(Arc::clone(&known.fields));
        }
        let mut wordy = Vec::new();
        for (field, weight) in [
            (fields.title, weights.title),
            (fields.body, weights.body),
            (fields.metadata, weights.metadata),
        ] {
            if weight > 0.0 && has_words(searcher, field)? {
                wordy.push((field, weight));
            }
        }
        let fields: Arc<[Weighted]> = wordy.into();
        self.newest.store(Some(Arc::new(Known { generation, fields: Arc::clone(&fields) })));
        Ok(fields)
    }
}

fn has_words(searcher: &Searcher, field: Field) -> tantivy::Result<bool> {
    for segment in searcher.segment_readers() {
        if segment.inverted_index(field)?.terms().num_terms() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}
