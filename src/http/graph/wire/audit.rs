//! The audit trail.

use std::time::Duration;

use activekg_storage::ids::TenantId;
use activekg_storage::tables::auth::AuditRecord;
use activekg_storage::time::UnixMicros;
use serde::Serialize;
use serde_json::Value;

use super::operator::age;
use super::tenant;
use crate::audit::{Entries, Place};
use crate::http::extract::Query;
use crate::http::validate::{At, Checked};
use crate::timestamp::iso;

/// Most entries of an answer.
const LIMIT_MAX: i64 = 1000;
/// Longest name of an actor or act.
const NAME_MAX: usize = 256;

/// Query of GET /_admin/audit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditQuery {
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// Those of acts by this name.
    pub actor: Option<String>,
    /// Those of acts whose names begin so.
    pub action: Option<String>,
    /// Those of acts within this time.
    pub within: Option<Duration>,
    /// Only older ones than this.
    pub before: Option<Place>,
    /// 1 to 1000, default 100.
    pub limit: usize,
}

impl Query for AuditQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let actor = fields.nullable("actor", |at| at.string_of(1, NAME_MAX));
        let action = fields.nullable("action", |at| at.string_of(1, NAME_MAX));
        let within = fields.nullable("within", age);
        let before = fields.nullable("before", |at| match place(&at.string()?) {
            Some(place) => Ok(place),
            None => at.value_error("it is the \"next\" of an answer"),
        });
        let limit = fields.optional("limit", 100, |at| at.int_in(1, LIMIT_MAX));
        fields.finish()?;
        // Within the bounds it fits.
        Ok(Self { tenant_id, actor, action, within, before, limit: limit as usize })
    }
}

/// What [`text`] wrote.
fn place(text: &str) -> Option<Place> {
    let (at, id) = text.split_once('.')?;
    Some((UnixMicros(at.parse().ok()?), id.parse().ok()?))
}

fn text((UnixMicros(at), id): Place) -> String {
    format!("{at}.{id}")
}

/// Answer of GET /_admin/audit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditList {
    /// The newest first.
    pub entries: Vec<AuditItem>,
    /// What to ask for entries before, if there may be more.
    pub next: Option<String>,
}

/// An entry.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditItem {
    /// When.
    pub at: String,
    /// Whose data it was about; null for everybody's.
    pub tenant_id: Option<TenantId>,
    /// Who.
    pub actor: String,
    /// What, as `area.verb`.
    pub action: String,
    /// To what.
    pub object: String,
    /// Particulars.
    pub details: Value,
}

impl AuditList {
    /// What was found.
    pub fn new(found: Entries) -> Self {
        let item = |(place, record): (Place, AuditRecord)| {
            let details = serde_json::from_str(record.details.as_str()).unwrap_or_default();
            AuditItem {
                at: iso(place.0.get()),
                tenant_id: record.tenant,
                actor: record.actor,
                action: record.action,
                object: record.object,
                details,
            }
        };
        Self { entries: found.entries.into_iter().map(item).collect(), next: found.next.map(text) }
    }
}

#[cfg(test)]
mod tests {
    use activekg_storage::ids::EventId;
    use serde_json::json;

    use super::*;

    #[test]
    fn places_come_back() {
        let at = (UnixMicros(1_767_323_045_000_001), EventId::at(UnixMicros(7)));
        assert_eq!(place(&text(at)), Some(at));
        let asked = AuditQuery::parse(&json!({ "before": text(at), "limit": "7" })).unwrap();
        assert_eq!((asked.before, asked.limit), (Some(at), 7));
        for bad in ["", "1", "1.2", "x.00000000-0000-0000-0000-000000000000"] {
            assert!(AuditQuery::parse(&json!({ "before": bad })).is_err(), "{bad}");
        }
        for bad in [json!({"limit": "0"}), json!({"limit": "1001"}), json!({"within": "noon"})] {
            assert!(AuditQuery::parse(&bad).is_err(), "{bad}");
        }
    }
}
