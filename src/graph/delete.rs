//! Deleting nodes: for a time, or for good.

use std::time::Duration;

use activekg_storage::changes::{Change, ChangeKind};
use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{
    EVENTS, EXTERNAL_IDS, FIRED, HISTORY, NODE_EVENTS, NODES, TEXTS, VERSIONS,
};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan, WriteTx, queue};
use serde_json::Value;

use super::embedded::QUEUE;
use super::{DELETED_CLASS, Error, Graph, Node, View, edge, row, slots};
use crate::timestamp::iso;

/// Marks a node as soft-deleted from `now` on, to be kept for `retention` at least. Keeps marks it
/// already has.
pub(super) fn stamp(node: &mut Node, now: UnixMicros, retention: Duration) {
    if !node.is_deleted() {
        node.classes.push(DELETED_CLASS.to_owned());
    }
    let marks = [("deleted_at", now), ("deletion_grace_until", now.plus(retention))];
    for (key, at) in marks {
        node.props.entry(key).or_insert_with(|| Value::String(iso(at.get())));
    }
}

impl Graph {
    /// Soft-deletes a node of the caller's own tenant: it leaves every listing, search and
    /// answer, and is still read by id until it is purged. Twice is once.
    ///
    /// # Errors
    ///
    /// [`Error::NodeNotFound`], the store's own. A full disk does not stop it.
    pub async fn delete(&self, view: &View, id: NodeId) -> Result<(), Error> {
        let now = self.clock.now();
        let tenant = view.tenant().clone();
        let retention = self.settings.retention;
        self.store
            .make_room(move |tx| -> Result<(), Error> {
                let key = (tenant.clone(), id);
                let before = tx.get(&NODES, &key)?.ok_or(Error::NodeNotFound)?;
                if before.deleted {
                    return Ok(());
                }
                let mut node = Node::from_record(tenant.clone(), id, before.clone())?;
                stamp(&mut node, now, retention);
                let after = node.to_record();
                row::write(tx, &key, Some(&before), &after)?;
                queue::remove_by_key(tx, &QUEUE, &tenant, &id.to_string())?;
                tx.log(Change {
                    at: now,
                    tenant: tenant.clone(),
                    kind: ChangeKind::NodeRemoved(id),
                })?;
                Ok(())
            })
            .await?;
        Ok(())
    }

    /// Removes a node of the caller's own tenant with its edges, events, history, versions,
    /// vector and waiting jobs.
    ///
    /// # Errors
    ///
    /// As [`Graph::delete`].
    pub async fn remove(&self, view: &View, id: NodeId) -> Result<(), Error> {
        let now = self.clock.now();
        let tenant = view.tenant().clone();
        self.store
            .make_room(move |tx| -> Result<(), Error> { purge(tx, &tenant, id, now) })
            .await?;
        Ok(())
    }
}

/// Removes a node with everything that belongs to it.
///
/// # Errors
///
/// [`Error::NodeNotFound`], the store's own.
pub(super) fn purge(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    id: NodeId,
    now: UnixMicros,
) -> Result<(), Error> {
    let before = tx.get(&NODES, &(tenant.clone(), id))?.ok_or(Error::NodeNotFound)?;
    let node = Node::from_record(tenant.clone(), id, before.clone())?;
    erase(tx, &node)?;
    row::remove(tx, &(tenant.clone(), id), &before)?;
    queue::remove_by_key(tx, &QUEUE, tenant, &id.to_string())?;
    tx.log(Change { at: now, tenant: tenant.clone(), kind: ChangeKind::NodeRemoved(id) })?;
    Ok(())
}

/// Removes every row that belongs to the node, but for its own.
fn erase(tx: &mut WriteTx<'_>, node: &Node) -> Result<(), Error> {
    let tenant = &node.tenant;
    let key = (tenant.clone(), node.id);
    edge::disconnect(tx, node)?;
    let events = tx.scan(&NODE_EVENTS, Scan::prefix(&key))?.map(|row| row.map(|(key, ())| key));
    for key in events.collect::<Result<Vec<_>, _>>()? {
        let (tenant, _, at, event) = key.clone();
        tx.remove(&EVENTS, &(tenant, at, event))?;
        tx.remove(&NODE_EVENTS, &key)?;
    }
    let history = tx.scan(&HISTORY, Scan::prefix(&key))?.map(|row| row.map(|(key, _)| key));
    for key in history.collect::<Result<Vec<_>, _>>()? {
        tx.remove(&HISTORY, &key)?;
    }
    let versions = tx.scan(&VERSIONS, Scan::prefix(&key))?.map(|row| row.map(|(key, _)| key));
    for key in versions.collect::<Result<Vec<_>, _>>()? {
        tx.remove(&VERSIONS, &key)?;
    }
    if let Some(external_id) = node.external_id() {
        tx.remove(&EXTERNAL_IDS, &(tenant.clone(), external_id.to_owned()))?;
    }
    let fired = tx.scan(&FIRED, Scan::prefix(&key))?.map(|row| row.map(|(key, _)| key));
    for key in fired.collect::<Result<Vec<_>, _>>()? {
        tx.remove(&FIRED, &key)?;
    }
    slots::clear(tx, &key)?;
    tx.remove(&TEXTS, &key)?;
    Ok(())
}
