//! What happened to nodes, append-only.

use activekg_storage::ids::{EventId, NodeId, TenantId};
use activekg_storage::tables::graph::{EVENTS, EventRecord, NODE_EVENTS};
use activekg_storage::time::UnixMicros;
use activekg_storage::{ReadTx, Readable, Scan, StorageError, WriteTx};
use serde_json::Value;

use super::node::{Object, json, object};
use super::slots::Key;
use super::{Error, Graph, Node, View};
use crate::timestamp::iso;

/// Kind of the events that tell of a trigger.
pub(super) const TRIGGER_FIRED: &str = "trigger_fired";

/// Something that happened to a node.
#[derive(Debug, Clone)]
pub struct Event {
    /// Its id.
    pub id: EventId,
    /// The node it happened to.
    pub node: NodeId,
    /// Its kind, such as `refreshed`.
    pub kind: String,
    /// What there is to tell.
    pub payload: Object,
    /// Who or what caused it.
    pub actor_id: Option<String>,
    /// The sort of actor: `user`, `scheduler`, `trigger`, `system`.
    pub actor_type: Option<String>,
    /// When.
    pub created_at: UnixMicros,
}

/// Which events to read, newest first.
#[derive(Debug, Clone)]
pub struct EventQuery {
    /// Only this node's.
    pub node: Option<NodeId>,
    /// Only this kind.
    pub kind: Option<String>,
    /// At most so many.
    pub limit: usize,
}

/// Why a node was embedded, as its event tells it.
pub(super) struct Occasion<'a> {
    pub(super) flag: &'static str,
    pub(super) actor_id: &'a str,
    pub(super) actor_type: &'a str,
}

/// Writes the event that tells of a refresh.
pub(super) fn refreshed(
    tx: &mut WriteTx<'_>,
    node: &Node,
    drift: f64,
    occasion: Occasion<'_>,
    now: UnixMicros,
) -> Result<EventId, StorageError> {
    let mut payload = Object::new();
    payload.insert("drift_score".to_owned(), drift.into());
    payload.insert("last_refreshed".to_owned(), iso(now.get()).into());
    payload.insert(occasion.flag.to_owned(), Value::Bool(true));
    let record = EventRecord {
        node: node.id,
        kind: "refreshed".to_owned(),
        payload: json(&payload),
        actor_id: Some(occasion.actor_id.to_owned()),
        actor_type: Some(occasion.actor_type.to_owned()),
    };
    put(tx, &node.tenant, &record, now)
}

/// Writes the event that tells of a trigger.
pub(super) fn trigger_fired(
    tx: &mut WriteTx<'_>,
    (tenant, node): &Key,
    pattern: &str,
    similarity: f64,
    now: UnixMicros,
) -> Result<EventId, StorageError> {
    let mut payload = Object::new();
    payload.insert("trigger".to_owned(), pattern.into());
    payload.insert("similarity".to_owned(), similarity.into());
    let record = EventRecord {
        node: *node,
        kind: TRIGGER_FIRED.to_owned(),
        payload: json(&payload),
        actor_id: Some("trigger_engine".to_owned()),
        actor_type: Some("trigger".to_owned()),
    };
    put(tx, tenant, &record, now)
}

/// Writes the event that tells that a node was purged.
pub(super) fn purged(
    tx: &mut WriteTx<'_>,
    (tenant, node): &Key,
    payload: Object,
    actor: &str,
    now: UnixMicros,
) -> Result<EventId, StorageError> {
    let record = EventRecord {
        node: *node,
        kind: "purged".to_owned(),
        payload: json(&payload),
        actor_id: Some(actor.to_owned()),
        actor_type: Some("system".to_owned()),
    };
    put(tx, tenant, &record, now)
}

fn put(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    record: &EventRecord,
    now: UnixMicros,
) -> Result<EventId, StorageError> {
    let id = EventId::at(now);
    tx.put(&EVENTS, &(tenant.clone(), now, id), record)?;
    tx.put(&NODE_EVENTS, &(tenant.clone(), record.node, now, id), &())?;
    Ok(id)
}

impl Graph {
    /// The caller's events, newest first.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn events(&self, view: &View, query: EventQuery) -> Result<Vec<Event>, Error> {
        let owners = view.owners();
        self.reading(move |tx| {
            let mut found = Vec::new();
            for owner in owners {
                match query.node {
                    Some(node) => {
                        let scan = Scan::prefix(&(owner.clone(), node)).reversed();
                        let keys = tx.scan(&NODE_EVENTS, scan)?.map(|row| row.map(|(key, ())| key));
                        collect(
                            tx,
                            &query,
                            keys.map(|key| key.map(|(t, _, at, id)| (t, at, id))),
                            &mut found,
                        )?;
                    }
                    None => {
                        let scan = Scan::prefix(&(owner.clone(),)).reversed();
                        let keys = tx.scan(&EVENTS, scan)?.map(|row| row.map(|(key, _)| key));
                        collect(tx, &query, keys, &mut found)?;
                    }
                }
            }
            found.sort_by_key(|event: &Event| std::cmp::Reverse((event.created_at, event.id)));
            found.truncate(query.limit);
            Ok(found)
        })
        .await
    }
}

type EventKey = (TenantId, UnixMicros, EventId);

/// Adds the first `limit` events of `keys` that the query asks for.
fn collect(
    tx: &ReadTx,
    query: &EventQuery,
    keys: impl Iterator<Item = Result<EventKey, StorageError>>,
    found: &mut Vec<Event>,
) -> Result<(), Error> {
    let mut left = query.limit;
    for key in keys {
        if left == 0 {
            break;
        }
        let (tenant, created_at, id) = key?;
        let Some(record) = tx.get(&EVENTS, &(tenant, created_at, id))? else { continue };
        let EventRecord { node, kind, payload, actor_id, actor_type } = record;
        if query.kind.as_ref().is_some_and(|wanted| *wanted != kind) {
            continue;
        }
        let payload = object(&payload)?;
        found.push(Event { id, node, kind, payload, actor_id, actor_type, created_at });
        left -= 1;
    }
    Ok(())
}
