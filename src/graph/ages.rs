//! How many nodes came and went, by time.

use std::collections::BTreeMap;

use activekg_storage::ids::TenantId;
use activekg_storage::tables::graph::{NODES, tenants};
use activekg_storage::tables::purge::{DELETIONS, NEVER};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan};

use super::{Error, Graph, purge};

const HOUR: i64 = 3600 * 1_000_000;

/// Nodes that came in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Came {
    /// Those that are no chunks.
    pub documents: u64,
    /// Chunks.
    pub chunks: u64,
}

/// Deleted nodes that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Kept {
    /// All of them.
    pub deleted: u64,
    /// Those that were deleted before the instant that was asked for.
    pub older: u64,
    /// Those whose grace is over: the next purge takes them.
    pub due: u64,
    /// Those whose end of grace cannot be told: no purge takes them.
    pub without_grace: u64,
}

impl Graph {
    /// How many of the nodes of a tenant, or of all, were created in each hour from `since` on, by
    /// the start of the hour. Reads every node.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn came(
        &self,
        tenant: Option<TenantId>,
        since: UnixMicros,
    ) -> Result<BTreeMap<UnixMicros, Came>, Error> {
        self.reading(move |tx| {
            let scan = tenant.map_or(Scan::all(), |tenant| Scan::prefix(&(tenant,)));
            let mut hours: BTreeMap<UnixMicros, Came> = BTreeMap::new();
            for row in tx.scan(&NODES, scan)? {
                let (_, record) = row?;
                if record.created_at < since {
                    continue;
                }
                let hour = UnixMicros(record.created_at.get().div_euclid(HOUR) * HOUR);
                let came = hours.entry(hour).or_default();
                match purge::parent_of(&record) {
                    Some(_) => came.chunks += 1,
                    None => came.documents += 1,
                }
            }
            Ok(hours)
        })
        .await
    }

    /// Counts the deleted nodes of a tenant, or of all, and those that were deleted `before`.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn kept(&self, tenant: Option<TenantId>, before: UnixMicros) -> Result<Kept, Error> {
        let now = self.clock.now();
        self.reading(move |tx| {
            let mut kept = Kept::default();
            for tenant in tenant.map_or_else(|| tenants(tx), |tenant| Ok(vec![tenant]))? {
                for row in tx.scan(&DELETIONS, Scan::prefix(&(tenant.clone(),)))? {
                    let ((_, until, id), ()) = row?;
                    kept.deleted += 1;
                    kept.due += u64::from(until < now);
                    kept.without_grace += u64::from(until == NEVER);
                    let record = tx.get(&NODES, &(tenant.clone(), id))?;
                    let at = record.as_ref().and_then(purge::deleted_at);
                    kept.older += u64::from(at.is_some_and(|at| at < before));
                }
            }
            Ok(kept)
        })
        .await
    }
}
