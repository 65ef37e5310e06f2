//! Another retention for what is deleted already.

use std::time::Duration;

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{NODES, NodeRecord};
use activekg_storage::tables::purge::{DELETIONS, NEVER};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan};
use serde_json::Value;

use super::places;
use crate::graph::delete::{DELETED_AT, GRACE_UNTIL};
use crate::graph::node::{self, Object};
use crate::graph::{Error, Graph, row};
use crate::timestamp::{self, iso};

/// When a deleted node's grace ends if it lasts this long, as [`Graph::apply_retention`] would have
/// it: one that does not say when it was deleted keeps the end that it has. [`NEVER`] if that cannot
/// be told, and for nodes that are not deleted.
pub(super) fn until(record: &NodeRecord, retention: Duration) -> UnixMicros {
    let Some(until) = places::until(record) else { return NEVER };
    let props = node::object(&record.props).unwrap_or_default();
    new_until(&props, retention).unwrap_or(until)
}

fn new_until(props: &Object, retention: Duration) -> Option<UnixMicros> {
    let at = props.get(DELETED_AT).and_then(Value::as_str).and_then(timestamp::parse)?;
    Some(UnixMicros(at).plus(retention))
}

impl Graph {
    /// The deleted nodes of a tenant.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn deleted_nodes(&self, tenant: &TenantId) -> Result<Vec<NodeId>, Error> {
        let of = tenant.clone();
        self.reading(move |tx| {
            let rows = tx.scan(&DELETIONS, Scan::prefix(&(of,)))?;
            let ids = rows.map(|row| row.map(|((_, _, id), ())| id));
            Ok(ids.collect::<Result<Vec<_>, _>>()?)
        })
        .await
    }

    /// Counts the grace of these deleted nodes of a tenant from their deletion, as if the retention
    /// had been this then; how many have another end of grace now. Nodes that do not say when they
    /// were deleted stay as they are.
    ///
    /// # Errors
    ///
    /// The store's own; then all stay as they are.
    pub async fn apply_retention(
        &self,
        tenant: &TenantId,
        retention: Duration,
        ids: &[NodeId],
    ) -> Result<u64, Error> {
        let (owner, ids) = (tenant.clone(), ids.to_vec());
        let changed = self.store.make_room(move |tx| -> Result<u64, Error> {
            let mut changed = 0;
            for id in &ids {
                let key = (owner.clone(), *id);
                let Some(before) = tx.get(&NODES, &key)?.filter(|node| node.deleted) else {
                    continue;
                };
                let mut props = node::object(&before.props)?;
                let Some(until) = new_until(&props, retention) else { continue };
                let until = Value::String(iso(until.get()));
                if props.get(GRACE_UNTIL) == Some(&until) {
                    continue;
                }
                props.insert(GRACE_UNTIL.to_owned(), until);
                let after = NodeRecord { props: node::json(&props), ..before.clone() };
                row::write(tx, &key, Some(&before), &after)?;
                changed += 1;
            }
            Ok(changed)
        });
        Ok(changed.await?.value)
    }
}
