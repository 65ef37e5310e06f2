//! Looking after the embedding queue.

use serde_json::Value;
use uuid::Uuid;

use super::tenant;
use crate::http::extract::Input;
use crate::http::validate::{At, Checked};

/// Nodes one call requeues at most.
const REQUEUE_MAX: i64 = 2000;
/// Ids one call may list.
const IDS_MAX: usize = 10_000;

/// Nodes in which state of embedding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StatusFilter {
    /// Any.
    All,
    /// Waiting for the embedder.
    Queued,
    /// With the embedder.
    Processing,
    /// With a vector.
    Ready,
    /// Given up.
    Failed,
    /// Without text.
    Skipped,
}

const STATUSES: [(&str, StatusFilter); 6] = [
    ("all", StatusFilter::All),
    ("queued", StatusFilter::Queued),
    ("processing", StatusFilter::Processing),
    ("ready", StatusFilter::Ready),
    ("failed", StatusFilter::Failed),
    ("skipped", StatusFilter::Skipped),
];

/// Body of POST /admin/embedding/requeue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequeueRequest {
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// Exactly these; then `status` and `limit` do not count. Malformed ids name no node and
    /// are left out.
    pub node_ids: Option<Vec<Uuid>>,
    /// Default `failed`.
    pub status: StatusFilter,
    /// Only nodes without a vector.
    pub only_missing_embedding: bool,
    /// First call ready what has a vector.
    pub backfill_ready: bool,
    /// 1 to 2000, whatever was asked; default 2000.
    pub limit: usize,
}

impl Input for RequeueRequest {
    fn parse(body: &Value) -> Checked<Self> {
        let mut fields = At::body(body).fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let ids = fields.nullable("node_ids", |at| at.list_of(0, IDS_MAX, |at| at.string()));
        let status = fields.nullable("status", |at| at.one_of(&STATUSES));
        let only_missing_embedding =
            fields.optional("only_missing_embedding", false, |at| at.bool());
        let backfill_ready = fields.optional("backfill_ready", true, |at| at.bool());
        let limit = fields.nullable("limit", |at| at.int()).unwrap_or(REQUEUE_MAX);
        fields.finish()?;
        Ok(Self {
            tenant_id,
            node_ids: ids.map(|ids| ids.iter().filter_map(|id| Uuid::try_parse(id).ok()).collect()),
            status: status.unwrap_or(StatusFilter::Failed),
            only_missing_embedding,
            backfill_ready,
            limit: usize::try_from(limit.clamp(1, REQUEUE_MAX)).unwrap_or(1),
        })
    }
}

/// Body of POST /admin/extraction/requeue. The selection is checked and not kept: nothing is
/// extracted here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExtractionRequeue {
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Input for ExtractionRequeue {
    fn parse(body: &Value) -> Checked<Self> {
        let mut fields = At::body(body).fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.nullable("node_ids", |at| at.list_of(0, IDS_MAX, |at| at.string()));
        fields.nullable("status", |at| at.string());
        fields.optional("only_null_status", true, |at| at.bool());
        fields.nullable("limit", |at| at.int());
        fields.finish().map(|()| Self { tenant_id })
    }
}
