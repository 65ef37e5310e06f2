//! Which nodes listen for a pattern.

use activekg_storage::tables::graph::{LISTENERS, NodeRecord};
use activekg_storage::{StorageError, WriteTx};

use super::slots::Key;

/// Moves a node's rows from what `before` listens for to what `after` does.
pub(super) fn moved(
    tx: &mut WriteTx<'_>,
    key: &Key,
    before: Option<&NodeRecord>,
    after: Option<&NodeRecord>,
) -> Result<(), StorageError> {
    let (before, after) = (heard(before), heard(after));
    if before == after {
        return Ok(());
    }
    let (tenant, node) = key;
    for name in before.iter().filter(|name| !after.contains(name)) {
        tx.remove(&LISTENERS, &(tenant.clone(), (*name).to_owned(), *node))?;
    }
    for name in after.iter().filter(|name| !before.contains(name)) {
        tx.put(&LISTENERS, &(tenant.clone(), (*name).to_owned(), *node), &())?;
    }
    Ok(())
}

/// What a node listens for; nothing once it is deleted.
fn heard(record: Option<&NodeRecord>) -> Vec<&str> {
    let live = record.filter(|record| !record.deleted);
    let triggers = live.map_or(&[][..], |record| &record.triggers[..]);
    triggers.iter().map(|trigger| trigger.name.as_str()).collect()
}
