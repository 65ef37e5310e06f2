//! The rows beside nodes by which purges find them: the order in which deleted nodes may go, and the
//! chunks of documents.

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::NodeRecord;
use activekg_storage::tables::purge::{CHUNKS, DELETIONS, NEVER};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan, StorageError, WriteTx};
use serde::Deserialize;
use serde_json::Value;

use crate::graph::slots::Key;
use crate::timestamp;

/// Longest name of a parent whose chunks are known, in bytes: keys of the store have a limit.
const NAME_MAX: usize = 32 << 10;

/// The props that purges go by. Anything that is not as it should be is as if it were not there.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Marks {
    parent_id: Value,
    deleted_at: Value,
    deletion_grace_until: Value,
}

fn marks(record: &NodeRecord) -> Marks {
    serde_json::from_str(record.props.as_str()).unwrap_or_default()
}

/// The document that a node says it is a chunk of.
pub(in crate::graph) fn parent_of(record: &NodeRecord) -> Option<String> {
    // Most nodes are none, and names are written without escapes.
    if !record.props.as_str().contains("\"parent_id\"") {
        return None;
    }
    match marks(record).parent_id {
        Value::String(name) if (1..=NAME_MAX).contains(&name.len()) => Some(name),
        _ => None,
    }
}

/// The end of a deleted node's grace, [`NEVER`] if it cannot be told; nothing for other nodes.
pub(super) fn until(record: &NodeRecord) -> Option<UnixMicros> {
    if !record.deleted {
        return None;
    }
    let text = match marks(record).deletion_grace_until {
        Value::String(text) => text,
        _ => return Some(NEVER),
    };
    Some(timestamp::parse(&text).map_or(NEVER, UnixMicros))
}

/// When a node was deleted, if that can be told.
pub(in crate::graph) fn deleted_at(record: &NodeRecord) -> Option<UnixMicros> {
    marks(record).deleted_at.as_str().and_then(timestamp::parse).map(UnixMicros)
}

/// Whether a node may be purged.
pub(super) fn is_due(record: &NodeRecord, now: UnixMicros) -> bool {
    until(record).is_some_and(|until| until < now)
}

/// Moves a node's rows from what `before` says of it to what `after` does.
pub(in crate::graph) fn moved(
    tx: &mut WriteTx<'_>,
    key: &Key,
    before: Option<&NodeRecord>,
    after: Option<&NodeRecord>,
) -> Result<(), StorageError> {
    if let (Some(before), Some(after)) = (before, after)
        && before.props == after.props
        && before.deleted == after.deleted
    {
        return Ok(());
    }
    let (tenant, node) = key;
    let (was, is) = (before.and_then(until), after.and_then(until));
    if was != is {
        if let Some(was) = was {
            tx.remove(&DELETIONS, &(tenant.clone(), was, *node))?;
        }
        if let Some(is) = is {
            tx.put(&DELETIONS, &(tenant.clone(), is, *node), &())?;
        }
    }
    let (was, is) = (before.and_then(parent_of), after.and_then(parent_of));
    if was != is {
        if let Some(was) = was {
            tx.remove(&CHUNKS, &(tenant.clone(), was, *node))?;
        }
        if let Some(is) = is {
            tx.put(&CHUNKS, &(tenant.clone(), is, *node), &())?;
        }
    }
    Ok(())
}

/// The direct chunks of a node, by id.
pub(super) fn chunks_of<'a, R: Readable>(
    tx: &'a R,
    tenant: &TenantId,
    record: &NodeRecord,
) -> Result<impl Iterator<Item = Result<NodeId, StorageError>> + use<'a, R>, StorageError> {
    let name = record.external_id.as_deref();
    let name = name.filter(|name| (1..=NAME_MAX).contains(&name.len()));
    let rows = name.map(|name| tx.scan(&CHUNKS, Scan::prefix(&(tenant.clone(), name.to_owned()))));
    let rows = rows.transpose()?;
    Ok(rows.into_iter().flatten().map(|row| row.map(|((_, _, node), ())| node)))
}
