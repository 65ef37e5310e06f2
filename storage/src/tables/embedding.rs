//! What embedding has taken of others.

use serde::{Deserialize, Serialize};

use crate::codec::Record;
use crate::table::{Table, TableInfo};

/// (service and model) -> the tokens it took today. A row for each.
pub const SPENT: Table<(String,), SpentRecord> = Table::new("embedding.spent");

pub(crate) const TABLES: &[TableInfo] = &[TableInfo::of(&SPENT)];

/// What a service took in a day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpentRecord {
    /// Days since 1970, in UTC.
    pub day: i64,
    /// Tokens.
    pub tokens: u64,
}

impl Record for SpentRecord {
    const FORMAT: u8 = 1;
}
