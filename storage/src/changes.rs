//! The change log: what happened to which node, in the order of the commits.
//!
//! Whatever is derived from the store follows this log ([`tail`]) and says from time to time how far
//! it came ([`checkpoint`]), which is how far the log may be shortened ([`trim`]). An entry says only
//! that a node changed; the follower reads the node as it is now.

mod consumers;
mod retention;

use serde::{Deserialize, Serialize};

use crate::codec::Record;
use crate::error::StorageError;
use crate::ids::{NodeId, Seq, TenantId};
use crate::read::Readable;
use crate::table::{Scan, Table, TableInfo};
use crate::time::UnixMicros;

/// (seq) -> change. Upwards from a follower's position; the ends give the oldest and newest number.
///
/// Not tenant-owned: followers read it whole, in order.
pub const CHANGES: Table<(Seq,), ChangeRecord> = Table::new("changes");

pub(crate) const TABLES: &[TableInfo] =
    &[TableInfo::of(&CHANGES), TableInfo::of(&consumers::CONSUMERS)];

pub use consumers::{Consumer, checkpoint, consumers, retire};
pub use retention::{Retention, TRIM_MAX, trim};

/// An entry of the change log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeRecord {
    /// When the change was made.
    pub at: UnixMicros,
    /// Whose node it is.
    pub tenant: TenantId,
    /// What happened, and to which node.
    pub kind: ChangeKind,
}

impl Record for ChangeRecord {
    const FORMAT: u8 = 1;
}

/// What [`WriteTx::log`](crate::WriteTx::log) takes.
pub type Change = ChangeRecord;

/// What happened to a node. Variants are stored by position: new ones go last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum ChangeKind {
    /// It was created, or its text or facts changed.
    NodeText(NodeId),
    /// Its embedding changed.
    NodeVector(NodeId),
    /// It was deleted or made invisible.
    NodeRemoved(NodeId),
}

impl ChangeKind {
    /// The node it happened to.
    #[must_use]
    pub fn node(self) -> NodeId {
        match self {
            ChangeKind::NodeText(node)
            | ChangeKind::NodeVector(node)
            | ChangeKind::NodeRemoved(node) => node,
        }
    }
}

/// What a follower finds after its position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tail {
    /// The next entries, oldest first; none if it has seen them all.
    Entries(Vec<(Seq, ChangeRecord)>),
    /// Entries it has not seen are gone: it must start over from the rows, and go on from the
    /// newest number of the snapshot it reads them in.
    Missed,
}

/// Up to `limit` entries after `seq`. A position beyond the newest entry is one of another store,
/// and has missed everything.
///
/// # Errors
///
/// As for every read.
pub fn tail(tx: &(impl Readable + ?Sized), seq: Seq, limit: usize) -> Result<Tail, StorageError> {
    let next = seq.next();
    let oldest = tx.first(&CHANGES, Scan::all())?.map_or(Seq(1), |((oldest,), _)| oldest);
    if next < oldest || seq > newest(tx)? {
        return Ok(Tail::Missed);
    }
    let rows = tx.scan(&CHANGES, Scan::all().after(&seq))?;
    let entries = rows.take(limit).map(|row| row.map(|((seq,), change)| (seq, change)));
    entries.collect::<Result<_, _>>().map(Tail::Entries)
}

/// The newest number in the log, 0 if nothing was ever logged.
///
/// # Errors
///
/// As for every read.
pub fn newest(tx: &(impl Readable + ?Sized)) -> Result<Seq, StorageError> {
    let last = tx.last(&CHANGES, Scan::all())?;
    Ok(last.map_or(Seq(0), |((seq,), _)| seq))
}

#[cfg(test)]
mod tests;
