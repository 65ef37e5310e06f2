//! Queries of what an operator looks at.

use std::time::Duration;

use serde_json::Value;

use super::tenant;
use crate::http::extract::Query;
use crate::http::validate::{At, Checked};
use crate::refresh::schedule::parse_interval;

/// Most hours that are counted: a year.
const HOURS_MAX: i64 = 366 * 24;

/// Query of GET /_admin/stats/ingest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IngestQuery {
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// 1 to 8784, default 24.
    pub hours: u32,
}

impl Query for IngestQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let hours = fields
            .optional("hours", 24, |at| Ok(u32::try_from(at.int_in(1, HOURS_MAX)?).unwrap_or(24)));
        fields.finish().map(|()| Self { tenant_id, hours })
    }
}

/// An age, such as 30d.
pub(super) fn age(at: At<'_>) -> Checked<Duration> {
    match parse_interval(&at.string()?) {
        Some(age) => Ok(age),
        None => at.value_error("a whole number of minutes, hours or days, such as 30m, 12h, 7d"),
    }
}

/// Query of GET /_admin/stats/deleted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedQuery {
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// Such as 30d; default nothing, which is all that is deleted.
    pub older_than: Duration,
}

impl Query for DeletedQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let older_than = fields.nullable("older_than", age);
        fields.finish()?;
        Ok(Self { tenant_id, older_than: older_than.unwrap_or_default() })
    }
}
