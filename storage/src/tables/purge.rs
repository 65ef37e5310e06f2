//! Purging: which deleted nodes may go and when, whose chunks go with them, and what went.

use serde::{Deserialize, Serialize};

use super::Json;
use crate::codec::Record;
use crate::ids::{NodeId, TenantId};
use crate::table::{Table, TableInfo};
use crate::time::UnixMicros;

/// (tenant, end of grace, node). A tenant's deleted nodes in the order in which they may be purged.
/// Those whose end of grace cannot be told come last, at [`NEVER`].
pub const DELETIONS: Table<(TenantId, UnixMicros, NodeId), ()> = Table::new("purge.deletions");

/// (tenant, name of a parent, node). The nodes that say in their props that they are chunks of a
/// document, whether there is one of that name or not.
pub const CHUNKS: Table<(TenantId, String, NodeId), ()> = Table::new("purge.chunks");

/// (tenant, number) -> receipt. What was purged of a tenant, in order; the numbers begin at 1.
pub const RECEIPTS: Table<(TenantId, u64), ReceiptRecord> = Table::new("purge.receipts");

/// (job) -> when it ran last. A handful of rows.
pub const RUNS: Table<(String,), RunRecord> = Table::new("purge.runs");

/// Where nodes stand whose end of grace cannot be told.
pub const NEVER: UnixMicros = UnixMicros(i64::MAX);

pub(crate) const TABLES: &[TableInfo] = &[
    TableInfo::of(&DELETIONS),
    TableInfo::of(&CHUNKS),
    TableInfo::of(&RECEIPTS),
    TableInfo::of(&RUNS),
];

/// What one transaction purged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptRecord {
    /// What it says: a JSON object, which names the digest of the receipt before it.
    pub body: Json,
    /// SHA-256 of `body`, byte for byte.
    pub sha256: [u8; 32],
}

impl Record for ReceiptRecord {
    const FORMAT: u8 = 1;
}

/// When a job ran last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunRecord {
    /// The instant.
    pub at: UnixMicros,
}

impl Record for RunRecord {
    const FORMAT: u8 = 1;
}
