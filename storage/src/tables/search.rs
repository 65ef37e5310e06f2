//! What was decided about the indexes of search while the program ran.

use serde::{Deserialize, Serialize};

use crate::codec::Record;
use crate::table::{Table, TableInfo};
use crate::time::UnixMicros;

/// (type) -> whether to keep the vector index of that type. A row for each that was ever ensured or
/// dropped; of others the settings decide.
pub const VECTOR_INDEXES: Table<(String,), VectorIndexRecord> = Table::new("search.vector_indexes");

pub(crate) const TABLES: &[TableInfo] = &[TableInfo::of(&VECTOR_INDEXES)];

/// What was decided about a vector index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorIndexRecord {
    /// It was ensured, or else dropped.
    pub kept: bool,
    /// When.
    pub decided_at: UnixMicros,
}

impl Record for VectorIndexRecord {
    const FORMAT: u8 = 1;
}
