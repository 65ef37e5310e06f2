//! Another retention for what is deleted already.

use std::time::Duration;

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{NODES, NodeRecord};
use activekg_storage::tables::purge::{DELETIONS, NEVER};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan};
use serde_json::Value;

use crate::graph::delete::{DELETED_AT, GRACE_UNTIL};
use crate::graph::node::{self, Object};
use crate::graph::{Error, Graph, row};
use crate::timestamp::{self, iso};

/// How far a change of the retention is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retained {
    /// Nodes of this step that have another end of grace now.
    pub changed: u64,
    /// Where the next step goes on; nothing when all are done.
    pub next: Option<NodeId>,
}

/// When a deleted node's grace ends if it lasts this long; [`NEVER`] if that cannot be told.
pub(super) fn until(record: &NodeRecord, retention: Duration) -> UnixMicros {
    let props = node::object(&record.props).unwrap_or_default();
    new_until(&props, retention).unwrap_or(NEVER)
}

fn new_until(props: &Object, retention: Duration) -> Option<UnixMicros> {
    let at = props.get(DELETED_AT).and_then(Value::as_str).and_then(timestamp::parse)?;
    Some(UnixMicros(at).plus(retention))
}

impl Graph {
    /// Counts the grace of the next `limit` deleted nodes of a tenant from their deletion, as if
    /// the retention had been this then. Nodes that do not say when they were deleted stay as they
    /// are.
    ///
    /// # Errors
    ///
    /// The store's own; the step is not done then.
    pub async fn apply_retention(
        &self,
        tenant: &TenantId,
        retention: Duration,
        after: Option<NodeId>,
        limit: usize,
    ) -> Result<Retained, Error> {
        let (owner, of) = (tenant.clone(), tenant.clone());
        let ids = self.reading(move |tx| {
            // By id, since their places in the order of purges are what changes.
            let rows = tx.scan(&DELETIONS, Scan::prefix(&(of,)))?;
            let ids = rows.map(|row| row.map(|((_, _, id), ())| id));
            let mut ids = ids.collect::<Result<Vec<_>, _>>()?;
            ids.retain(|id| after.is_none_or(|after| *id > after));
            ids.sort_unstable();
            ids.truncate(limit);
            Ok(ids)
        });
        let ids = ids.await?;
        let next = (ids.len() == limit).then(|| ids.last().copied()).flatten();
        let changed = self.store.make_room(move |tx| -> Result<u64, Error> {
            let mut changed = 0;
            for id in ids {
                let key = (owner.clone(), id);
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
        Ok(Retained { changed: changed.await?.value, next })
    }
}
