//! Looking after queues.

use std::time::Duration;

use activekg_storage::ids::JobId;
use activekg_storage::queue::{DeadReason, End};
use serde_json::Value;

use super::tenant;
use crate::http::extract::{Input, Query};
use crate::http::validate::{At, Checked};
use crate::queues::LIST_MAX;
use crate::refresh::schedule::parse_interval;

/// Rows of a list that does not say how many it wants.
const LIST_DEFAULT: usize = 100;

const ENDS: [(&str, End); 2] = [("oldest", End::Oldest), ("newest", End::Newest)];

/// An age, such as `7d`.
fn age(at: At<'_>) -> Checked<Duration> {
    match parse_interval(&at.string()?) {
        Some(age) => Ok(age),
        None => at.value_error("an age is a whole number of minutes, hours or days: 30m, 12h, 7d"),
    }
}

fn reason(at: At<'_>) -> Checked<DeadReason> {
    at.one_of(&DeadReason::ALL.map(|reason| (reason.as_str(), reason)))
}

fn job(at: At<'_>) -> Checked<JobId> {
    match at.string()?.parse() {
        Ok(id) => Ok(id),
        Err(_) => at.value_error("the id of an item is a UUID"),
    }
}

/// Query of GET /admin/queues/{queue}/items.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ItemsQuery {
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// Default the oldest.
    pub from: End,
    /// 0 to 1000, default 100.
    pub limit: usize,
}

impl Query for ItemsQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let from = fields.optional("from", End::Oldest, |at| at.one_of(&ENDS));
        let limit = fields.optional("limit", LIST_DEFAULT, |at| at.count(LIST_MAX));
        fields.finish().map(|()| Self { tenant_id, from, limit })
    }
}

/// Query of DELETE /admin/queues/{queue}/items. It must say what goes: everything, what is older
/// than an age, all but the newest; the last two may come together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeQuery {
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// Items of each tenant that stay, the newest; default 0.
    pub keep: u64,
    /// Only items older than this.
    pub older_than: Option<Duration>,
}

impl Query for PurgeQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let whole = At::query(query);
        let mut fields = whole.fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let keep = fields.nullable("keep", |at| at.count(usize::MAX));
        let older_than = fields.nullable("older_than", age);
        let all = fields.optional("all", false, |at| at.bool());
        fields.finish()?;
        match (all, keep.is_some() || older_than.is_some()) {
            (false, false) => whole.value_error("say what to purge: all=true, older_than or keep"),
            (true, true) => whole.value_error("all=true goes with neither older_than nor keep"),
            _ => Ok(Self { tenant_id, keep: keep.unwrap_or(0) as u64, older_than }),
        }
    }
}

/// Query of GET /admin/queues/{queue}/dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadQuery {
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// Only the letter of this name.
    pub id: Option<JobId>,
    /// Only letters of items that died for this reason.
    pub reason: Option<DeadReason>,
    /// Default the newest.
    pub from: End,
    /// 0 to 1000, default 100.
    pub limit: usize,
}

impl Query for DeadQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let id = fields.nullable("id", job);
        let reason = fields.nullable("reason", reason);
        let from = fields.optional("from", End::Newest, |at| at.one_of(&ENDS));
        let limit = fields.optional("limit", LIST_DEFAULT, |at| at.count(LIST_MAX));
        fields.finish().map(|()| Self { tenant_id, id, reason, from, limit })
    }
}

/// Query of DELETE /admin/queues/{queue}/dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClearQuery {
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// Only the letter of this name.
    pub id: Option<JobId>,
    /// Only letters of items that died for this reason.
    pub reason: Option<DeadReason>,
    /// Only letters of items that died longer ago than this.
    pub older_than: Option<Duration>,
    /// Letters that stay of those that are meant, the newest; default 0.
    pub keep: usize,
}

impl Query for ClearQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let id = fields.nullable("id", job);
        let reason = fields.nullable("reason", reason);
        let older_than = fields.nullable("older_than", age);
        let keep = fields.optional("keep", 0, |at| at.count(usize::MAX));
        fields.finish().map(|()| Self { tenant_id, id, reason, older_than, keep })
    }
}

/// Body of POST /admin/queues/{queue}/dead/replay, which may be left out.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReplayRequest {
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// Only the letter of this name.
    pub id: Option<JobId>,
    /// Only letters of items that died for this reason.
    pub reason: Option<DeadReason>,
}

impl Input for ReplayRequest {
    fn parse(body: &Value) -> Checked<Self> {
        if body.is_null() {
            return Ok(Self::default());
        }
        let mut fields = At::body(body).fields()?;
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let id = fields.nullable("id", job);
        let reason = fields.nullable("reason", reason);
        fields.finish().map(|()| Self { tenant_id, id, reason })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults<T: std::fmt::Debug>(checked: Checked<T>) -> Vec<Value> {
        checked.expect_err("refused").iter().map(|item| item.to_value()).collect()
    }

    #[test]
    fn a_purge_says_what_goes() {
        let purge = |query: Value| PurgeQuery::parse(&query);
        for vague in [json!({}), json!({"tenant_id": "acme"}), json!({"all": "false"})] {
            let found = faults(purge(vague));
            assert_eq!(found.len(), 1);
            assert_eq!(found[0]["loc"], json!(["query"]));
        }
        assert_eq!(faults(purge(json!({"all": "true", "keep": "1"}))).len(), 1);
        let all = purge(json!({"all": "true"})).expect("accepted");
        assert_eq!(all, PurgeQuery { tenant_id: None, keep: 0, older_than: None });
        let both = purge(json!({"keep": "1", "older_than": "7d"})).expect("accepted");
        let week = Duration::from_secs(7 * 24 * 3600);
        assert_eq!(both, PurgeQuery { tenant_id: None, keep: 1, older_than: Some(week) });
    }

    #[test]
    fn every_fault_is_named() {
        let found = faults(ClearQuery::parse(&json!({
            "id": "7", "reason": "boredom", "older_than": "7", "keep": "-1",
        })));
        let places: Vec<&Value> = found.iter().map(|fault| &fault["loc"][1]).collect();
        assert_eq!(places, ["id", "reason", "older_than", "keep"]);
        assert_eq!(faults(ItemsQuery::parse(&json!({"from": "middle", "limit": "x"}))).len(), 2);
        assert_eq!(faults(ReplayRequest::parse(&json!({"reason": "Exhausted"}))).len(), 1);
    }

    #[test]
    fn what_is_left_out_means_everything() {
        assert_eq!(ReplayRequest::parse(&Value::Null), Ok(ReplayRequest::default()));
        assert_eq!(ReplayRequest::parse(&json!({})), Ok(ReplayRequest::default()));
        let items = ItemsQuery::parse(&json!({"limit": "5000"})).expect("accepted");
        assert_eq!((items.from, items.limit), (End::Oldest, LIST_MAX));
        let dead = DeadQuery::parse(&json!({"reason": "crash_loop"})).expect("accepted");
        assert_eq!((dead.from, dead.reason), (End::Newest, Some(DeadReason::CrashLoop)));
    }
}
