//! The fields of the text index.

use tantivy::schema::{
    BytesOptions, Field, INDEXED, IndexRecordOption, NumericOptions, STRING, Schema,
    TextFieldIndexing, TextOptions,
};

/// Version of everything that decides what is in the index: fields, analysis, payload. An index
/// of another version is rebuilt.
pub(super) const FORMAT: u32 = 1;

/// The name under which the analyzer is registered.
pub(super) const ANALYZER: &str = "activekg_english";

/// Fast fields hold an id as two halves.
pub(super) const ID_HIGH: &str = "id_high";
pub(super) const ID_LOW: &str = "id_low";

/// Handles to the fields. Nothing is stored and no positions are kept: the index answers with ids
/// and scores only, and user text never becomes a phrase query.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields {
    /// The id's sixteen bytes, to delete by.
    pub(super) id: Field,
    pub(super) id_high: Field,
    pub(super) id_low: Field,
    /// The tenant's exact name.
    pub(super) tenant: Field,
    pub(super) facts: Field,
    pub(super) title: Field,
    pub(super) body: Field,
    pub(super) metadata: Field,
}

/// The schema with the handles into it.
pub(super) fn schema() -> (Schema, Fields) {
    let words = TextOptions::default().set_indexing_options(
        TextFieldIndexing::default()
            .set_tokenizer(ANALYZER)
            .set_index_option(IndexRecordOption::WithFreqs)
            .set_fieldnorms(true),
    );
    let mut builder = Schema::builder();
    let fields = Fields {
        id: builder.add_bytes_field("id", BytesOptions::default().set_indexed()),
        id_high: builder.add_u64_field(ID_HIGH, NumericOptions::default().set_fast()),
        id_low: builder.add_u64_field(ID_LOW, NumericOptions::default().set_fast()),
        tenant: builder.add_text_field("tenant", STRING),
        facts: builder.add_u64_field("facts", INDEXED),
        title: builder.add_text_field("title", words.clone()),
        body: builder.add_text_field("body", words.clone()),
        metadata: builder.add_text_field("metadata", words),
    };
    (builder.build(), fields)
}
