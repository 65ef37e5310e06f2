//! Where the extraction of props from texts stands, as nodes say it that another program extracted.

use std::collections::BTreeMap;

use activekg_storage::ids::TenantId;
use activekg_storage::tables::graph::{NODES, NodeRecord};
use activekg_storage::{Readable, Scan};
use serde_json::Value;

use super::{Error, Graph, node};

/// The prop that says it.
const STATUS: &str = "extraction_status";
/// What it may say. Everything else is counted as `other`.
const STATUSES: [&str; 5] = ["queued", "processing", "ready", "failed", "skipped"];
/// Of nodes that were never queued.
const NONE: &str = "none";
const OTHER: &str = "other";

impl Graph {
    /// Counts the nodes of a tenant, or of all, by the state of their extraction; states without
    /// nodes are left out. Reads every node.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn extraction_counts(
        &self,
        tenant: Option<TenantId>,
    ) -> Result<BTreeMap<&'static str, u64>, Error> {
        self.reading(move |tx| {
            let scan = tenant.map_or(Scan::all(), |tenant| Scan::prefix(&(tenant,)));
            let mut counts = BTreeMap::new();
            for row in tx.scan(&NODES, scan)? {
                let (_, record) = row?;
                if !record.deleted {
                    *counts.entry(status_of(&record)?).or_default() += 1;
                }
            }
            Ok(counts)
        })
        .await
    }
}

fn status_of(record: &NodeRecord) -> Result<&'static str, Error> {
    if !record.props.as_str().contains(STATUS) {
        return Ok(NONE);
    }
    let props = node::object(&record.props)?;
    Ok(match props.get(STATUS) {
        None | Some(Value::Null) => NONE,
        Some(said) => STATUSES.into_iter().find(|status| said == status).unwrap_or(OTHER),
    })
}
