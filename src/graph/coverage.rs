//! How much of each tenant is embedded and how old that is, over all tenants.

use std::collections::BTreeMap;

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::NODES;
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan};

use super::{Error, Graph};

/// Nodes looked at in one step.
const STEP: usize = 1000;

/// What is known of a tenant's embeddings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Coverage {
    /// Its nodes, soft-deleted ones left out.
    pub nodes: u64,
    /// Those of them with a vector.
    pub embedded: u64,
    /// The refresh that is longest ago, of those that were the last of their node.
    pub oldest: Option<UnixMicros>,
}

/// A walk over all nodes, some at a time.
#[derive(Debug, Clone, Default)]
pub struct CoverageWalk {
    /// What was found so far.
    pub tenants: BTreeMap<TenantId, Coverage>,
    at: Option<(TenantId, NodeId)>,
    /// Whether all nodes have been looked at.
    pub done: bool,
}

impl Graph {
    /// Goes on with a walk.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn cover(&self, mut walk: CoverageWalk) -> Result<CoverageWalk, Error> {
        self.reading(move |tx| {
            let scan = walk.at.as_ref().map_or(Scan::all(), |at| Scan::all().after(at));
            let mut n = 0;
            for row in tx.scan(&NODES, scan)?.take(STEP) {
                let (key, node) = row?;
                n += 1;
                if !node.deleted {
                    let tenant = walk.tenants.entry(key.0.clone()).or_default();
                    tenant.nodes += 1;
                    tenant.embedded += u64::from(node.last_refreshed.is_some());
                    let refreshed = [tenant.oldest, node.last_refreshed].into_iter().flatten();
                    tenant.oldest = refreshed.min();
                }
                walk.at = Some(key);
            }
            walk.done = n < STEP;
            Ok(walk)
        })
        .await
    }
}
