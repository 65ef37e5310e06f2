//! What connectors bring in: what is asked and what is answered.

use activekg_storage::ids::JobId;
use activekg_storage::queue::{DeadReason, End, QueueStats};
use activekg_storage::time::UnixMicros;
use serde::Serialize;
use serde_json::Value;

use crate::connectors::change::URI_MAX;
use crate::connectors::{Asked, Fed, Objects, Origin};
use crate::http::extract::{Input, Query};
use crate::http::graph::wire::queues::PurgeQuery;
use crate::http::graph::wire::tenant;
use crate::http::validate::{At, Checked};
use crate::queues::LIST_MAX;

/// Most items that one call enqueues.
const ITEMS_MAX: i64 = 10_000;
/// Longest prefix, in characters.
const TEXT_MAX: usize = 4096;
/// Longest cursor, in characters. Some hold every folder that is still to be gone into.
const CURSOR_MAX: usize = 4 << 20;
/// Items of a list that does not say how many it wants.
const LIST_DEFAULT: usize = 100;
/// Items of one transaction, unless somebody says otherwise.
const BATCH: usize = 100;

/// Body of POST /_admin/connectors/{provider}/ingest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestRequest {
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// What it asks for.
    pub asked: Asked,
}

impl Input for IngestRequest {
    fn parse(body: &Value) -> Checked<Self> {
        let mut fields = At::body(body).fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let limit = fields.optional("max_items", 1000, |at| within(at, ITEMS_MAX));
        let batch = fields.optional("batch_size", BATCH, |at| within(at, 500));
        let cursor = fields.nullable("cursor", |at| at.string_of(0, CURSOR_MAX));
        let dry_run = fields.optional("dry_run", true, |at| at.bool());
        let skip_existing = fields.optional("skip_existing", true, |at| at.bool());
        let uris = fields.nullable("uris", |at| at.list_of(1, ITEMS_MAX as usize, uri));
        fields.finish()?;
        let (objects, origin) = match uris {
            Some(uris) => (Objects::Named(uris), Origin::Manual),
            None => {
                let cursor = cursor.filter(|cursor| !cursor.is_empty());
                (Objects::Listed { prefix: None, cursor }, Origin::Ingest)
            }
        };
        let asked = Asked { objects, limit, batch, skip_existing, dry_run, origin };
        Ok(Self { tenant_id, asked })
    }
}

/// Body of POST /_admin/connectors/{provider}/backfill, which may be left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackfillRequest {
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// What it asks for.
    pub asked: Asked,
}

impl Input for BackfillRequest {
    fn parse(body: &Value) -> Checked<Self> {
        let nothing = Value::Object(serde_json::Map::new());
        let mut fields = At::body(if body.is_null() { &nothing } else { body }).fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let limit = fields.optional("limit", 200, |at| within(at, ITEMS_MAX));
        let prefix = fields.nullable("prefix", |at| at.string_of(0, TEXT_MAX));
        let dry_run = fields.optional("dry_run", false, |at| at.bool());
        fields.finish()?;
        let asked = Asked {
            objects: Objects::Listed { prefix, cursor: None },
            limit,
            batch: BATCH,
            skip_existing: true,
            dry_run,
            origin: Origin::Backfill,
        };
        Ok(Self { tenant_id, asked })
    }
}

/// From 1 to `max`.
fn within(at: At<'_>, max: i64) -> Checked<usize> {
    // What is within the bounds fits.
    at.int_in(1, max).map(|n| usize::try_from(n).unwrap_or(1))
}

fn uri(at: At<'_>) -> Checked<String> {
    let uri = at.string()?;
    if uri.trim().is_empty() || uri.len() > URI_MAX {
        return at.value_error(&format!("a URI has 1 to {URI_MAX} bytes"));
    }
    Ok(uri)
}

/// Answer of POST /_admin/connectors/{provider}/ingest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ingested {
    status: &'static str,
    job_id: String,
    dry_run: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    would_queue: Option<usize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    queued_count: Option<usize>,
    skipped_count: usize,
    total_found: usize,
    queue_key: String,
    next_cursor: Option<String>,
}

impl Ingested {
    /// What was done.
    pub fn new(fed: Fed, dry_run: bool, queue_key: String) -> Self {
        let Fed { job, found, queued, skipped, next } = fed;
        Self {
            status: if dry_run { "dry_run" } else { "queued" },
            job_id: job.to_string(),
            dry_run,
            would_queue: dry_run.then_some(queued),
            queued_count: (!dry_run).then_some(queued),
            skipped_count: skipped,
            total_found: found,
            queue_key,
            next_cursor: next,
        }
    }
}

/// Answer of POST /_admin/connectors/{provider}/backfill.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backfilled {
    status: &'static str,
    found: usize,
    next_cursor: Option<String>,
    queued: usize,
    skipped: usize,
    tenant_id: String,
    provider: String,
    queue_key: String,
}

impl Backfilled {
    /// What was done. A dry run queues nothing.
    pub fn new(
        fed: Fed,
        dry_run: bool,
        (tenant_id, provider, queue_key): (String, String, String),
    ) -> Self {
        let Fed { job: _, found, queued, skipped, next } = fed;
        let queued = if dry_run { 0 } else { queued };
        Self {
            status: "ok",
            found,
            next_cursor: next,
            queued,
            skipped,
            tenant_id,
            provider,
            queue_key,
        }
    }
}

/// Answer of GET /_admin/connectors/{provider}/queue-status.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct QueueStatus {
    tenant_id: String,
    provider: String,
    queue_key: String,
    pending: u64,
    ready: u64,
    leased: u64,
    delayed: u64,
    held: u64,
    dlq: u64,
    oldest_age_seconds: Option<f64>,
}

impl QueueStatus {
    /// A tenant's part of a queue.
    pub fn new(
        (tenant_id, provider, queue_key): (String, String, String),
        stats: &QueueStats,
        now: UnixMicros,
    ) -> Self {
        let QueueStats { depths, oldest, paused: _, evicted: _ } = stats;
        Self {
            tenant_id,
            provider,
            queue_key,
            pending: depths.live(),
            ready: depths.ready,
            leased: depths.leased,
            delayed: depths.delayed,
            held: depths.held,
            dlq: depths.dead,
            oldest_age_seconds: oldest.map(|oldest| now.since(oldest).as_secs_f64()),
        }
    }
}

/// Answer of GET /_admin/connectors/{provider}/cursor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct CursorView {
    /// Its owner.
    pub tenant_id: String,
    /// Its provider.
    pub provider: String,
    /// What the provider goes on from.
    pub cursor: Option<String>,
    /// When it last moved.
    pub updated_at: Option<String>,
}

const ENDS: [(&str, End); 2] = [("oldest", End::Oldest), ("newest", End::Newest)];

/// Query of GET /_admin/connectors/{provider}/queue and of the inspection of dead letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeekQuery {
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// Which end is first; each list has its own default.
    pub from: Option<End>,
    /// 0 to 1000, default 100.
    pub limit: usize,
    /// Only letters of items that died for this reason.
    pub reason: Option<DeadReason>,
}

impl Query for PeekQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let from = fields.nullable("from", |at| at.one_of(&ENDS));
        let limit = fields.optional("limit", LIST_DEFAULT, |at| at.count(LIST_MAX));
        let reason = fields.nullable("reason", reason);
        fields.finish().map(|()| Self { tenant_id, from, limit, reason })
    }
}

/// Query of DELETE /_admin/connectors/{provider}/queue.
pub type DropQuery = PurgeQuery;

/// Body of the replay and the clearance of dead letters, which may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LettersRequest {
    /// Only the letter of this name.
    pub id: Option<JobId>,
    /// Only letters of items that died for this reason.
    pub reason: Option<DeadReason>,
}

impl Input for LettersRequest {
    fn parse(body: &Value) -> Checked<Self> {
        if body.is_null() {
            return Ok(Self::default());
        }
        let mut fields = At::body(body).fields()?;
        let id = fields.nullable("id", |at| match at.string()?.parse() {
            Ok(id) => Ok(id),
            Err(_) => at.value_error("the id of an item is a UUID"),
        });
        let reason = fields.nullable("reason", reason);
        fields.finish().map(|()| Self { id, reason })
    }
}

fn reason(at: At<'_>) -> Checked<DeadReason> {
    at.one_of(&DeadReason::ALL.map(|reason| (reason.as_str(), reason)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn nothing_said_is_a_dry_run_over_everything() {
        let IngestRequest { tenant_id, asked } = IngestRequest::parse(&json!({})).unwrap();
        let objects = Objects::Listed { prefix: None, cursor: None };
        assert_eq!((tenant_id, &asked.objects), (None, &objects));
        assert!(asked.dry_run && asked.skip_existing);
        assert_eq!((asked.limit, asked.batch), (1000, 100));
        let backfill = BackfillRequest::parse(&Value::Null).unwrap().asked;
        assert_eq!((backfill.objects, backfill.limit), (objects, 200));
        assert!(!backfill.dry_run);
    }

    #[test]
    fn bounds_are_kept() {
        for bad in [
            json!({"max_items": 0}),
            json!({"max_items": 10_001}),
            json!({"batch_size": 501}),
            json!({"dry_run": "perhaps"}),
            json!({"uris": []}),
            json!({"uris": [" "]}),
            json!({"uris": ["x".repeat(4097)]}),
            json!({"uris": "s3://b/k"}),
        ] {
            assert_eq!(IngestRequest::parse(&bad).map_err(|items| items.len()), Err(1), "{bad}");
        }
        assert!(BackfillRequest::parse(&json!({"limit": 0})).is_err());
        assert!(LettersRequest::parse(&json!({"reason": "boredom"})).is_err());
    }
}
