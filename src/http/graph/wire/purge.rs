//! Purges: what is asked of them and what is answered.

use activekg_storage::ids::TenantId;
use serde::Serialize;
use serde_json::Value;

use super::tenant;
use crate::config::BATCH_MAX;
use crate::connectors::PurgeReport;
use crate::graph::{RECEIPTS_MAX, Receipt};
use crate::http::extract::{Input, Query};
use crate::http::validate::{At, Checked};

/// Body of POST /_admin/connectors/purge_deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeBody {
    /// Only this tenant; none is all that the caller may purge.
    pub tenant: Option<TenantId>,
    /// Nodes of one transaction, 1 to 10,000; none is what the settings say.
    pub batch_size: Option<usize>,
    /// Only count.
    pub dry_run: bool,
    /// First count the grace of what is deleted already by the retention of now.
    pub apply_retention: bool,
}

impl Input for PurgeBody {
    fn parse(body: &Value) -> Checked<Self> {
        let mut fields = At::body(body).fields()?;
        // A name that no tenant can have must not widen the purge to all of them.
        let tenant = fields.nullable("tenant_id", |at| {
            let name = at.string()?;
            TenantId::new(&name).or_else(|error| at.value_error(&error.to_string()))
        });
        let batch_size = fields.nullable("batch_size", |at| {
            Ok(usize::try_from(at.int_in(1, BATCH_MAX as i64)?).unwrap_or(BATCH_MAX))
        });
        let dry_run = fields.optional("dry_run", false, |at| at.bool());
        let apply_retention = fields.optional("apply_retention", false, |at| at.bool());
        fields.finish()?;
        Ok(Self { tenant, batch_size, dry_run, apply_retention })
    }
}

/// Answer of POST /_admin/connectors/purge_deleted. A dry run counts what would go under the same
/// names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PurgeAnswer {
    /// Chunks.
    pub purged_chunks: u64,
    /// Nodes that are no chunks.
    pub purged_parents: u64,
    /// Whether it only counted.
    pub dry_run: bool,
    /// Edges that began or ended at one of them.
    pub purged_edges: u64,
    /// Their former versions.
    pub purged_versions: u64,
    /// Tenants that were gone through.
    pub tenants_processed: u64,
    /// Nodes.
    pub total_purged: u64,
    /// Deleted nodes whose end of grace cannot be told, and which stay.
    pub without_grace: u64,
    /// Where the retention was applied: nodes that got another end of grace.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retention_changed: Option<u64>,
}

impl PurgeAnswer {
    /// The answer that tells of a report.
    pub fn new(report: PurgeReport, dry_run: bool, applied: bool) -> Self {
        let PurgeReport { parents, chunks, edges, versions, tenants, retained, without_grace } =
            report;
        Self {
            purged_chunks: chunks,
            purged_parents: parents,
            dry_run,
            purged_edges: edges,
            purged_versions: versions,
            tenants_processed: tenants,
            total_purged: parents + chunks,
            without_grace,
            retention_changed: (applied && !dry_run).then_some(retained),
        }
    }
}

/// Query of GET /_admin/connectors/purge_receipts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptsQuery {
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// Only receipts with larger numbers, default 0.
    pub after: u64,
    /// 1 to 100, default 100.
    pub limit: usize,
}

impl Query for ReceiptsQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let after = fields.optional("after", 0, |at| Ok(at.int_in(0, i64::MAX)?.cast_unsigned()));
        let limit = fields.optional("limit", RECEIPTS_MAX, |at| {
            Ok(usize::try_from(at.int_in(1, RECEIPTS_MAX as i64)?).unwrap_or(RECEIPTS_MAX))
        });
        fields.finish().map(|()| Self { tenant_id, after, limit })
    }
}

/// Answer of GET /_admin/connectors/purge_receipts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReceiptList {
    /// Whose they are.
    pub tenant_id: String,
    /// In order.
    pub receipts: Vec<ReceiptItem>,
    /// What to ask for receipts after, if there may be more.
    pub next: Option<u64>,
}

/// A receipt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ReceiptItem {
    /// Counts the tenant's receipts, from 1.
    pub number: u64,
    /// SHA-256 of `body`, byte for byte, in hexadecimal digits.
    pub sha256: String,
    /// What it says: a JSON object as text.
    pub body: String,
}

impl ReceiptList {
    /// Receipts of a tenant, of which there may be more if there are `limit`.
    pub fn new(tenant: &TenantId, receipts: Vec<Receipt>, limit: usize) -> Self {
        let next = (receipts.len() == limit).then(|| receipts.last()).flatten();
        let next = next.map(|receipt| receipt.number);
        let item = |Receipt { number, body, sha256 }| ReceiptItem { number, sha256, body };
        let receipts = receipts.into_iter().map(item).collect();
        Self { tenant_id: tenant.as_str().to_owned(), receipts, next }
    }
}
