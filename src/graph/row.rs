//! A node's row, with all that is kept beside it so that nodes are counted and found by something
//! other than their ids. Whoever changes the row does it here, so that the two cannot disagree.

use activekg_storage::tables::graph::{NODES, NodeRecord};
use activekg_storage::{StorageError, WriteTx};

use super::slots::Key;
use super::{counts, due, listeners, purge};

/// Writes a node's row in place of `before`.
pub(super) fn write(
    tx: &mut WriteTx<'_>,
    key: &Key,
    before: Option<&NodeRecord>,
    after: &NodeRecord,
) -> Result<(), StorageError> {
    tx.put(&NODES, key, after)?;
    moved(tx, key, before, Some(after))
}

/// Removes a node's row.
pub(super) fn remove(
    tx: &mut WriteTx<'_>,
    key: &Key,
    before: &NodeRecord,
) -> Result<(), StorageError> {
    tx.remove(&NODES, key)?;
    moved(tx, key, Some(before), None)
}

fn moved(
    tx: &mut WriteTx<'_>,
    key: &Key,
    before: Option<&NodeRecord>,
    after: Option<&NodeRecord>,
) -> Result<(), StorageError> {
    counts::moved(tx, &key.0, before, after)?;
    due::moved(tx, key, before, after)?;
    listeners::moved(tx, key, before, after)?;
    purge::moved(tx, key, before, after)
}
