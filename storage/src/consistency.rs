//! Whether tables that say the same thing twice agree, and whether anything leads out of a tenant.

use std::collections::HashMap;

use serde::Serialize;

use crate::codec::Record;
use crate::error::StorageError;
use crate::ids::{NodeId, TenantId};
use crate::keys::{self, Key};
use crate::read::Readable;
use crate::table::{Scan, Table};
use crate::tables::graph::{
    BEHIND, EDGES, EDGES_IN, EVENTS, EXTERNAL_IDS, HISTORY, NODE_EVENTS, NODES, Slot, TENANTS,
    TEXTS, TenantRecord, VERSIONS,
};
use crate::walk::shown;
use crate::{changes, queue, tables};

/// A row that says something else than another does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Disagreement {
    /// The table it is in, or would have to be in.
    pub table: &'static str,
    /// Its key, with everything but letters, digits and signs escaped.
    pub key: String,
    /// What does not fit.
    pub reason: &'static str,
}

/// A disagreement, and the row that would end it.
pub(crate) struct Finding {
    pub(crate) table: &'static str,
    pub(crate) key: Vec<u8>,
    pub(crate) reason: &'static str,
    /// The row as it should be; `None` if it should not be there.
    pub(crate) should_be: Option<Vec<u8>>,
}

impl From<&Finding> for Disagreement {
    fn from(finding: &Finding) -> Disagreement {
        let Finding { table, key, reason, should_be: _ } = finding;
        Disagreement { table, key: shown(key), reason }
    }
}

impl Finding {
    pub(crate) fn missing<K: Key, V: Record>(
        table: &Table<K, V>,
        key: &K,
        value: &V,
        reason: &'static str,
    ) -> Result<Finding, StorageError> {
        let key = keys::to_bytes(key);
        let value = table.encode(&key, value)?;
        Ok(Finding { table: table.name(), key, reason, should_be: Some(value) })
    }

    pub(crate) fn surplus<K: Key, V: Record>(
        table: &Table<K, V>,
        key: &K,
        reason: &'static str,
    ) -> Finding {
        Finding { table: table.name(), key: keys::to_bytes(key), reason, should_be: None }
    }
}

/// Tells of every row that can be derived from others and is not what follows from them.
///
/// # Errors
///
/// As for every read.
pub(crate) fn derived(
    tx: &impl Readable,
    found: &mut dyn FnMut(Finding),
) -> Result<(), StorageError> {
    edges(tx, found)?;
    events(tx, found)?;
    external_ids(tx, found)?;
    tenants(tx, found)?;
    queue::derived(tx, found)
}

fn edges(tx: &impl Readable, found: &mut dyn FnMut(Finding)) -> Result<(), StorageError> {
    for row in tx.scan(&EDGES, Scan::all())? {
        let ((tenant, source, relation, target), _) = row?;
        let back = (tenant, target, relation, source);
        if !tx.contains(&EDGES_IN, &back)? {
            found(Finding::missing(&EDGES_IN, &back, &(), "an edge is not listed at its target")?);
        }
    }
    for row in tx.scan(&EDGES_IN, Scan::all())? {
        let (back, ()) = row?;
        let (tenant, target, relation, source) = back.clone();
        if !tx.contains(&EDGES, &(tenant, source, relation, target))? {
            found(Finding::surplus(&EDGES_IN, &back, "leads to an edge that is not there"));
        }
    }
    Ok(())
}

fn events(tx: &impl Readable, found: &mut dyn FnMut(Finding)) -> Result<(), StorageError> {
    for row in tx.scan(&EVENTS, Scan::all())? {
        let ((tenant, at, id), event) = row?;
        let of_node = (tenant, event.node, at, id);
        if !tx.contains(&NODE_EVENTS, &of_node)? {
            let reason = "an event is not listed at its node";
            found(Finding::missing(&NODE_EVENTS, &of_node, &(), reason)?);
        }
    }
    for row in tx.scan(&NODE_EVENTS, Scan::all())? {
        let (of_node, ()) = row?;
        let (tenant, node, at, id) = of_node.clone();
        let event = tx.get(&EVENTS, &(tenant, at, id))?;
        if event.is_none_or(|event| event.node != node) {
            found(Finding::surplus(&NODE_EVENTS, &of_node, "leads to an event that is not there"));
        }
    }
    Ok(())
}

fn external_ids(tx: &impl Readable, found: &mut dyn FnMut(Finding)) -> Result<(), StorageError> {
    for row in tx.scan(&NODES, Scan::all())? {
        let ((tenant, id), node) = row?;
        let Some(name) = node.external_id else { continue };
        let key = (tenant, name);
        if tx.get(&EXTERNAL_IDS, &key)?.is_none() {
            let reason = "a node is not found by its external id";
            found(Finding::missing(&EXTERNAL_IDS, &key, &id, reason)?);
        }
    }
    for row in tx.scan(&EXTERNAL_IDS, Scan::all())? {
        let (key, id) = row?;
        let (tenant, name) = key.clone();
        let node = tx.get(&NODES, &(tenant, id))?;
        if node.is_none_or(|node| node.external_id.as_ref() != Some(&name)) {
            let reason = "leads to a node that is not there or has another external id";
            found(Finding::surplus(&EXTERNAL_IDS, &key, reason));
        }
    }
    Ok(())
}

fn tenants(tx: &impl Readable, found: &mut dyn FnMut(Finding)) -> Result<(), StorageError> {
    let mut known = None;
    for row in tx.scan(&NODES, Scan::all())? {
        let ((tenant, _), node) = row?;
        if known.as_ref() == Some(&tenant) {
            continue;
        }
        let key = (tenant.clone(),);
        if !tx.contains(&TENANTS, &key)? {
            let record = TenantRecord { created_at: node.created_at };
            found(Finding::missing(&TENANTS, &key, &record, "a tenant with nodes is not listed")?);
        }
        known = Some(tenant);
    }
    Ok(())
}

/// What was looked at to show that tenants are kept apart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Isolation {
    /// Tables in which every key names the tenant that owns the row.
    pub tenant_tables: Vec<&'static str>,
    /// Tables that are not any tenant's.
    pub other_tables: Vec<&'static str>,
    /// Nodes whose tenant is known.
    pub nodes: u64,
    /// References to nodes that were followed.
    pub references: u64,
    /// References to a node of another tenant, which there must be none of.
    pub n_crossing: u64,
    /// The first hundred of them.
    pub crossing: Vec<Disagreement>,
}

impl Isolation {
    fn follow<K: Key, V: Record>(
        &mut self,
        owners: &Owners,
        table: &Table<K, V>,
        key: &K,
        tenant: &TenantId,
        node: NodeId,
    ) {
        self.references += 1;
        if owners.admit(tenant, node) {
            return;
        }
        self.n_crossing += 1;
        if self.crossing.len() < crate::walk::EXAMPLES_MAX {
            let key = shown(&keys::to_bytes(key));
            let reason = "leads to a node of another tenant";
            self.crossing.push(Disagreement { table: table.name(), key, reason });
        }
    }
}

/// Whose each node is. Twenty bytes a node and more.
struct Owners {
    tenants: HashMap<TenantId, u32>,
    nodes: HashMap<NodeId, u32>,
}

impl Owners {
    fn of(tx: &impl Readable) -> Result<Owners, StorageError> {
        let (mut tenants, mut nodes) = (HashMap::new(), HashMap::new());
        for row in tx.scan(&NODES, Scan::all())? {
            let ((tenant, node), _) = row?;
            let next = u32::try_from(tenants.len()).unwrap_or(u32::MAX);
            let number = *tenants.entry(tenant).or_insert(next);
            // The same id under two tenants: each finds its own first, by key.
            nodes.insert(node, number);
        }
        Ok(Owners { tenants, nodes })
    }

    /// Whether `node` is the tenant's own, a shared one, or nobody's any more.
    fn admit(&self, tenant: &TenantId, node: NodeId) -> bool {
        let Some(owner) = self.nodes.get(&node) else { return true };
        let is = |tenant: &TenantId| self.tenants.get(tenant) == Some(owner);
        is(tenant) || is(&TenantId::shared())
    }
}

/// Follows every reference from a tenant's row to a node.
///
/// # Errors
///
/// As for every read: all rows must decode, which proves that each key names a tenant.
pub(crate) fn isolation(tx: &impl Readable) -> Result<Isolation, StorageError> {
    let owners = Owners::of(tx)?;
    let mut seen = Isolation { nodes: owners.nodes.len() as u64, ..Isolation::default() };
    for table in tables::all() {
        let list =
            if table.tenant_owned { &mut seen.tenant_tables } else { &mut seen.other_tables };
        list.push(table.name);
    }
    for row in tx.scan(&EXTERNAL_IDS, Scan::all())? {
        let (key, node) = row?;
        seen.follow(&owners, &EXTERNAL_IDS, &key, &key.0, node);
    }
    for row in tx.scan(&EDGES, Scan::all())? {
        let (key, _) = row?;
        seen.follow(&owners, &EDGES, &key, &key.0, key.1);
        seen.follow(&owners, &EDGES, &key, &key.0, key.3);
    }
    for row in tx.scan(&EDGES_IN, Scan::all())? {
        let (key, ()) = row?;
        seen.follow(&owners, &EDGES_IN, &key, &key.0, key.1);
        seen.follow(&owners, &EDGES_IN, &key, &key.0, key.3);
    }
    for row in tx.scan(&EVENTS, Scan::all())? {
        let (key, event) = row?;
        seen.follow(&owners, &EVENTS, &key, &key.0, event.node);
    }
    for row in tx.scan(&NODE_EVENTS, Scan::all())? {
        let (key, ()) = row?;
        seen.follow(&owners, &NODE_EVENTS, &key, &key.0, key.1);
    }
    for vectors in Slot::ALL.map(Slot::vectors) {
        for row in tx.scan(vectors, Scan::all())? {
            let (key, _) = row?;
            seen.follow(&owners, vectors, &key, &key.0, key.1);
        }
    }
    for windows in Slot::ALL.map(Slot::windows) {
        for row in tx.scan(windows, Scan::all())? {
            let (key, _) = row?;
            seen.follow(&owners, windows, &key, &key.0, key.1);
        }
    }
    for row in tx.scan(&BEHIND, Scan::all())? {
        let (key, _) = row?;
        seen.follow(&owners, &BEHIND, &key, &key.0, key.1);
    }
    for row in tx.scan(&TEXTS, Scan::all())? {
        let (key, _) = row?;
        seen.follow(&owners, &TEXTS, &key, &key.0, key.1);
    }
    for row in tx.scan(&HISTORY, Scan::all())? {
        let (key, _) = row?;
        seen.follow(&owners, &HISTORY, &key, &key.0, key.1);
    }
    for row in tx.scan(&VERSIONS, Scan::all())? {
        let (key, _) = row?;
        seen.follow(&owners, &VERSIONS, &key, &key.0, key.1);
    }
    for row in tx.scan(&changes::CHANGES, Scan::all())? {
        let (key, change) = row?;
        seen.follow(&owners, &changes::CHANGES, &key, &change.tenant, change.kind.node());
    }
    Ok(seen)
}
