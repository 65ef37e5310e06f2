//! Deleting nodes: for a time, or for good.

use std::collections::HashSet;
use std::time::Duration;

use activekg_storage::changes::{Change, ChangeKind};
use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{
    EVENTS, EXTERNAL_IDS, FIRED, HISTORY, NODE_EVENTS, NODES, NodeRecord, TEXTS, VERSIONS,
};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan, WriteTx, queue};
use serde::Serialize;
use serde_json::Value;

use super::embedded::QUEUE;
use super::fire::{self, QUEUE as CHECKS};
use super::slots::Key;
use super::{DELETED_CLASS, Error, Graph, Node, View, edge, row, slots};
use crate::timestamp::iso;

/// When a node was deleted.
pub(super) const DELETED_AT: &str = "deleted_at";
/// Until when a deleted node is kept.
pub(super) const GRACE_UNTIL: &str = "deletion_grace_until";

/// Who deleted a node, where that was not somebody by hand.
const DELETED_BY: &str = "deleted_by";
/// What that is for one whose source has its object no more.
const SOURCE: &str = "source";

/// Notes that a node is deleted because its source has the object no more.
pub(super) fn by_source(node: &mut Node) {
    node.props.insert(DELETED_BY.to_owned(), SOURCE.into());
}

/// Whether the mark of [`by_source`] is among the props of a node.
pub(super) fn is_by_source(props: &super::Object) -> bool {
    props.get(DELETED_BY).and_then(Value::as_str) == Some(SOURCE)
}

/// Marks a node that is there as soft-deleted from `now` on and kept for `grace`.
pub(super) fn mark(node: &mut Node, now: UnixMicros, grace: Duration) {
    // Marks on a node that is there are of no deletion that counts.
    unmark(node);
    node.classes.push(DELETED_CLASS.to_owned());
    stamp(node, now, grace);
}

/// Gives a node that was written as soft-deleted the marks that it was not written with.
pub(super) fn stamp(node: &mut Node, now: UnixMicros, grace: Duration) {
    for (key, at) in [(DELETED_AT, now), (GRACE_UNTIL, now.plus(grace))] {
        node.props.entry(key).or_insert_with(|| Value::String(iso(at.get())));
    }
}

/// Takes the marks from a node that is there again: else its next deletion would be as old as the
/// last.
pub(super) fn unmark(node: &mut Node) {
    for key in [DELETED_AT, GRACE_UNTIL, DELETED_BY] {
        node.props.remove(key);
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
        let (tenant, grace) = (view.tenant().clone(), self.settings.retention);
        self.store
            .make_room(move |tx| -> Result<(), Error> {
                let key = (tenant.clone(), id);
                let before = tx.get(&NODES, &key)?.ok_or(Error::NodeNotFound)?;
                if before.deleted {
                    return Ok(());
                }
                let mut node = Node::from_record(tenant.clone(), id, before.clone())?;
                mark(&mut node, now, grace);
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
    let key = (tenant.clone(), id);
    let before = tx.get(&NODES, &key)?.ok_or(Error::NodeNotFound)?;
    forget_events(tx, &key)?;
    erase(tx, &key, &before, now)?;
    Ok(())
}

/// What was removed with nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Erased {
    /// Edges that began or ended at one of them.
    pub edges: u64,
    /// Former versions.
    pub versions: u64,
    /// Entries of the history of their embeddings.
    pub history: u64,
    /// Vectors that searches worked with.
    pub vectors: u64,
    /// Texts that were loaded for them.
    pub texts: u64,
    /// Jobs that waited or were under way.
    pub jobs: u64,
    /// Jobs that had been given up.
    pub dead_letters: u64,
}

impl Erased {
    /// Adds what was removed with others.
    pub(super) fn add(&mut self, other: Self) {
        let Self { edges, versions, history, vectors, texts, jobs, dead_letters } = other;
        self.edges += edges;
        self.versions += versions;
        self.history += history;
        self.vectors += vectors;
        self.texts += texts;
        self.jobs += jobs;
        self.dead_letters += dead_letters;
    }
}

/// Removes a node with every row that belongs to it, but for its events and its dead letters.
pub(super) fn erase(
    tx: &mut WriteTx<'_>,
    key: &Key,
    before: &NodeRecord,
    now: UnixMicros,
) -> Result<Erased, Error> {
    let (tenant, id) = key;
    let node = Node::from_record(tenant.clone(), *id, before.clone())?;
    let edges = edge::disconnect(tx, &node)?;
    let history = tx.scan(&HISTORY, Scan::prefix(key))?.map(|row| row.map(|(key, _)| key));
    let history = history.collect::<Result<Vec<_>, _>>()?;
    for key in &history {
        tx.remove(&HISTORY, key)?;
    }
    let versions = tx.scan(&VERSIONS, Scan::prefix(key))?.map(|row| row.map(|(key, _)| key));
    let versions = versions.collect::<Result<Vec<_>, _>>()?;
    for key in &versions {
        tx.remove(&VERSIONS, key)?;
    }
    if let Some(external_id) = node.external_id() {
        tx.remove(&EXTERNAL_IDS, &(tenant.clone(), external_id.to_owned()))?;
    }
    let fired = tx.scan(&FIRED, Scan::prefix(key))?.map(|row| row.map(|(key, _)| key));
    for key in fired.collect::<Result<Vec<_>, _>>()? {
        tx.remove(&FIRED, &key)?;
    }
    let vectors = slots::clear(tx, key)?;
    let texts = tx.remove(&TEXTS, key)?;
    let mut jobs = 0;
    for (queue, job) in [(&QUEUE, id.to_string()), (&CHECKS, fire::key_of(*id))] {
        jobs += u64::from(queue::remove_by_key(tx, queue, tenant, &job)?);
    }
    row::remove(tx, key, before)?;
    tx.log(Change { at: now, tenant: tenant.clone(), kind: ChangeKind::NodeRemoved(*id) })?;
    Ok(Erased {
        edges,
        versions: versions.len() as u64,
        history: history.len() as u64,
        vectors: u64::from(vectors),
        texts: u64::from(texts),
        jobs,
        dead_letters: 0,
    })
}

/// Removes the dead letters of nodes that were erased; how many there were.
pub(super) fn forget_letters(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    ids: &[NodeId],
) -> Result<u64, Error> {
    let embeddings: HashSet<String> = ids.iter().map(ToString::to_string).collect();
    let checks: HashSet<String> = ids.iter().map(|id| fire::key_of(*id)).collect();
    let mut n = 0;
    for (queue, keys) in [(&QUEUE, &embeddings), (&CHECKS, &checks)] {
        n += queue::clear_dead_of(tx, queue, tenant, keys)? as u64;
    }
    Ok(n)
}

/// Removes the events of a node.
fn forget_events(tx: &mut WriteTx<'_>, key: &Key) -> Result<(), Error> {
    let events = tx.scan(&NODE_EVENTS, Scan::prefix(key))?.map(|row| row.map(|(key, ())| key));
    for key in events.collect::<Result<Vec<_>, _>>()? {
        let (tenant, _, at, event) = key.clone();
        tx.remove(&EVENTS, &(tenant, at, event))?;
        tx.remove(&NODE_EVENTS, &key)?;
    }
    Ok(())
}
