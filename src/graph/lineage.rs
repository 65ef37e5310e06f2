//! Where a node comes from.

use std::collections::{BTreeMap, HashSet};

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{EDGES, NodeRecord};
use activekg_storage::time::UnixMicros;
use activekg_storage::{ReadTx, Readable, Scan};

use super::node::{Object, object};
use super::{Error, Graph, View, read};

/// The relation that lineage follows.
pub(super) const DERIVED_FROM: &str = "DERIVED_FROM";
/// The deepest walk.
pub const MAX_DEPTH: u32 = 50;
/// The most ancestors one walk returns.
const ANCESTORS_MAX: usize = 10_000;

/// A node that another derives from.
#[derive(Debug, Clone)]
pub struct Ancestor {
    /// Its id.
    pub id: NodeId,
    /// Steps away, from 1; the shortest way counts.
    pub depth: u32,
    /// Properties of the edge that leads to it.
    pub edge_props: Object,
    /// Its labels.
    pub classes: Vec<String>,
    /// Its properties.
    pub props: Object,
    /// When it was created.
    pub created_at: UnixMicros,
}

impl Graph {
    /// The nodes that `id` derives from, nearest first and then by id, up to `max_depth` steps
    /// (1 to [`MAX_DEPTH`]; what is outside is clamped). Each node comes once, so cycles and
    /// diamonds end. What the caller cannot see, or is soft-deleted, stops the walk there.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn lineage(
        &self,
        view: &View,
        id: NodeId,
        max_depth: u32,
    ) -> Result<Vec<Ancestor>, Error> {
        let owners = view.owners();
        let max_depth = max_depth.clamp(1, MAX_DEPTH);
        self.reading(move |tx| walk(tx, &owners, id, max_depth)).await
    }
}

fn walk(
    tx: &ReadTx,
    owners: &[TenantId],
    start: NodeId,
    max_depth: u32,
) -> Result<Vec<Ancestor>, Error> {
    let mut ancestors = Vec::new();
    if read::find(tx, owners, start)?.is_none() {
        return Ok(ancestors);
    }
    let mut visited = HashSet::from([start]);
    let mut level = vec![start];
    for depth in 1..=max_depth {
        let mut next = BTreeMap::new();
        for child in level {
            for owner in owners {
                let edges = Scan::prefix(&(owner.clone(), child, DERIVED_FROM.to_owned()));
                for row in tx.scan(&EDGES, edges)? {
                    let ((.., parent), edge) = row?;
                    if !visited.contains(&parent) {
                        next.entry(parent).or_insert(edge);
                    }
                }
            }
        }
        level = Vec::new();
        for (id, edge) in next {
            visited.insert(id);
            let Some((_, record)) = read::find(tx, owners, id)?.filter(|(_, r)| !r.deleted) else {
                continue;
            };
            let NodeRecord { classes, props, created_at, .. } = record;
            let edge_props = object(&edge.props)?;
            let props = object(&props)?;
            ancestors.push(Ancestor { id, depth, edge_props, classes, props, created_at });
            if ancestors.len() == ANCESTORS_MAX {
                return Ok(ancestors);
            }
            level.push(id);
        }
        if level.is_empty() {
            break;
        }
    }
    Ok(ancestors)
}
