//! Refreshing on demand, and what behaves oddly.

use activekg_storage::ids::NodeId;
use serde_json::Value;

use super::tenant;
use crate::http::extract::{Input, Query};
use crate::http::validate::{At, Checked};

/// Most ids of one refresh.
const IDS_MAX: usize = 10_000;

/// Body of POST /admin/refresh: a list of ids, an object that holds one, or nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshRequest {
    /// How many ids there are; 0 asks for everything that is due.
    pub requested: usize,
    /// Those of them that are ids.
    pub ids: Vec<NodeId>,
}

impl Input for RefreshRequest {
    fn parse(body: &Value) -> Checked<Self> {
        let texts = |at: At<'_>| at.list_of(0, IDS_MAX, |at| at.string());
        let ids = match body {
            Value::Null => Vec::new(),
            Value::Object(_) => {
                let mut fields = At::body(body).fields()?;
                let ids = fields.nullable("node_ids", texts);
                fields.finish()?;
                ids.unwrap_or_default()
            }
            _ => texts(At::body(body))?,
        };
        let requested = ids.len();
        // What is no id names no node.
        let ids = ids.iter().filter_map(|id| id.parse().ok()).collect();
        Ok(Self { requested, ids })
    }
}

/// Query of GET /admin/anomalies.
#[derive(Debug, Clone, PartialEq)]
pub struct AnomaliesQuery {
    /// The kinds that were asked for, as they were named; empty = all.
    pub types: Vec<String>,
    /// 1 to 8784 (a year), default 24.
    pub lookback_hours: i64,
    /// Times the mean drift; default 2.
    pub drift_spike_threshold: f64,
    /// Events; default 50.
    pub trigger_storm_threshold: usize,
    /// Times the interval of a policy; default 2.
    pub scheduler_lag_multiplier: f64,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Query for AnomaliesQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?;
        let types = fields.optional("types", String::new(), |at| at.string());
        let lookback_hours = fields.optional("lookback_hours", 24, |at| at.int_in(1, 8784));
        let spike = fields.optional("drift_spike_threshold", 2.0, |at| at.float_in(0.0, 1e6));
        let storm = fields.optional("trigger_storm_threshold", 50, |at| at.int_in(0, i64::MAX));
        let lag = fields.optional("scheduler_lag_multiplier", 2.0, |at| at.float_in(0.0, 1e6));
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.finish()?;
        let types = types.split(',').map(str::trim).filter(|kind| !kind.is_empty());
        Ok(Self {
            types: types.map(str::to_owned).collect(),
            lookback_hours,
            drift_spike_threshold: spike,
            trigger_storm_threshold: usize::try_from(storm).unwrap_or(usize::MAX),
            scheduler_lag_multiplier: lag,
            tenant_id,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const ID: &str = "5b1cf6a0-0000-4000-8000-000000000001";

    #[test]
    fn ids_come_alone_or_in_an_object() {
        for body in [json!([ID, "xyz"]), json!({"node_ids": [ID, "xyz"]})] {
            let RefreshRequest { requested, ids } = RefreshRequest::parse(&body).unwrap();
            assert_eq!((requested, ids.len()), (2, 1), "{body}");
        }
        for body in [json!(null), json!([]), json!({}), json!({"node_ids": null})] {
            assert_eq!(RefreshRequest::parse(&body).unwrap().requested, 0, "{body}");
        }
        for body in [json!("x"), json!([5]), json!({"node_ids": "x"}), json!(true)] {
            assert!(RefreshRequest::parse(&body).is_err(), "{body}");
        }
    }

    #[test]
    fn anomalies_have_their_defaults() {
        let query = AnomaliesQuery::parse(&json!({"types": "drift_spike, ,nope"})).unwrap();
        assert_eq!(query.types, ["drift_spike", "nope"]);
        assert_eq!((query.lookback_hours, query.trigger_storm_threshold), (24, 50));
        for bad in [json!({"lookback_hours": "0"}), json!({"drift_spike_threshold": "x"})] {
            assert!(AnomaliesQuery::parse(&bad).is_err(), "{bad}");
        }
    }
}
