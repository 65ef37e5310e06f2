//! The change log: what happened to which node, in the order of the commits.
//!
//! Whatever is derived from the store follows this log and remembers how far it came. An entry says
//! only that a node changed; the follower reads the node as it is now.

use serde::{Deserialize, Serialize};

use crate::codec::Record;
use crate::error::StorageError;
use crate::ids::{NodeId, Seq, TenantId};
use crate::read::Readable;
use crate::table::{Scan, Table};
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// (seq) -> change. Upwards from a follower's position; the ends give the oldest and newest number.
///
/// Not tenant-owned: followers read it whole, in order.
pub const CHANGES: Table<(Seq,), ChangeRecord> = Table::new("changes");

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

/// What [`WriteTx::log`] takes.
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

pub(crate) fn after(
    tx: &(impl Readable + ?Sized),
    seq: Seq,
    limit: usize,
) -> Result<Vec<(Seq, ChangeRecord)>, StorageError> {
    let rows = tx.scan(&CHANGES, Scan::all().after(&seq))?;
    rows.take(limit).map(|row| row.map(|((seq,), change)| (seq, change))).collect()
}

pub(crate) fn newest(tx: &(impl Readable + ?Sized)) -> Result<Seq, StorageError> {
    let last = tx.last(&CHANGES, Scan::all())?;
    Ok(last.map_or(Seq(0), |((seq,), _)| seq))
}

pub(crate) fn oldest(tx: &(impl Readable + ?Sized)) -> Result<Option<Seq>, StorageError> {
    let first = tx.first(&CHANGES, Scan::all())?;
    Ok(first.map(|((seq,), _)| seq))
}

/// Most entries removed by one call of [`trim_changes`].
pub const TRIM_MAX: usize = 10_000;

/// Removes entries up to and including `up_to`, at most [`TRIM_MAX`] of them, and returns how many
/// there were. The newest entry always stays: it is what the next number is counted from.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn trim_changes(tx: &mut WriteTx<'_>, up_to: Seq) -> Result<usize, StorageError> {
    let end = up_to.next().min(tx.seq());
    let rows = tx.scan(&CHANGES, Scan::all().until(&end))?;
    let gone: Vec<(Seq,)> =
        rows.take(TRIM_MAX).map(|row| row.map(|(key, _)| key)).collect::<Result<_, _>>()?;
    for key in &gone {
        tx.remove(&CHANGES, key)?;
    }
    Ok(gone.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::testing;

    fn change(number: u128) -> Change {
        Change {
            at: UnixMicros(1),
            tenant: TenantId::shared(),
            kind: ChangeKind::NodeText(NodeId::from_u128(number)),
        }
    }

    #[test]
    fn followers_page_through_and_trimming_keeps_the_count() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open(dir.path());
        assert_eq!(store.last_seq(), Seq(0));
        assert_eq!(store.read().unwrap().oldest_seq().unwrap(), None);
        for number in 1..=5 {
            let seq = testing::write(&store, move |tx| tx.log(change(number)));
            assert_eq!(seq, Seq(number as u64));
        }
        let page = store.read().unwrap().changes_after(Seq(2), 2).unwrap();
        assert_eq!(page, [(Seq(3), change(3)), (Seq(4), change(4))]);

        assert_eq!(testing::write(&store, |tx| trim_changes(tx, Seq(3))), 3);
        assert_eq!(store.read().unwrap().oldest_seq().unwrap(), Some(Seq(4)));
        assert_eq!(testing::write(&store, |tx| trim_changes(tx, Seq(99))), 1);
        drop(store);

        let store = testing::open(dir.path());
        assert_eq!(store.last_seq(), Seq(5));
        assert_eq!(testing::write(&store, |tx| tx.log(change(6))), Seq(6));
    }

    #[test]
    fn a_failed_change_leaves_no_entry_and_no_gap() {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open(dir.path());
        let failed = store.write_blocking(|tx| {
            tx.log(change(1))?;
            Err::<(), _>(StorageError::Closed)
        });
        assert!(matches!(failed, Err(StorageError::Closed)));
        assert_eq!(store.last_seq(), Seq(0));
        assert_eq!(testing::write(&store, |tx| tx.log(change(2))), Seq(1));
    }
}
