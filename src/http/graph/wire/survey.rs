//! What is measured over all nodes of a tenant, and figures that others publish here.

use serde::Serialize;
use serde_json::Value;

use super::tenant;
use crate::http::extract::{Input, Query};
use crate::http::validate::{At, Checked};

/// Buckets of a histogram at most; more is read as this.
const BUCKETS_MAX: i64 = 1000;
/// A gain in percent lies within this, either way.
const PERCENT_MAX: f64 = 1e6;

/// Query of GET /_admin/drift_histogram.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DriftQuery {
    /// 1 to 1000, default 10.
    pub buckets: usize,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Query for DriftQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?;
        let buckets = fields.optional("buckets", 10, |at| at.int_in(1, i64::MAX));
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.finish()?;
        Ok(Self { buckets: usize::try_from(buckets.min(BUCKETS_MAX)).unwrap_or(1), tenant_id })
    }
}

/// Answer of GET /_admin/drift_histogram.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DriftHistogram {
    /// From the least drift on.
    pub buckets: Vec<DriftBucket>,
}

/// Nodes whose drift lies between two bounds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct DriftBucket {
    /// From this on.
    pub lower: f64,
    /// Below this; the last bucket has no upper bound, whatever stands here.
    pub upper: f64,
    /// Nodes.
    pub count: u64,
}

/// Answer of GET /_admin/embed_class_coverage.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassCoverage {
    /// Classes with the most nodes first.
    pub classes: Vec<CoveredClass>,
    /// How many classes.
    pub count: usize,
}

/// How much of a class is embedded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CoveredClass {
    /// The class.
    pub class: String,
    /// Its nodes.
    pub total: u64,
    /// Those with a vector.
    pub with_embedding: u64,
    /// The same in percent.
    pub coverage_pct: f64,
}

/// Body of POST /_admin/metrics/retrieval_uplift, and what it answers with.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Uplift {
    /// Gain of hybrid search over plain vector search, in percent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hybrid: Option<f64>,
    /// The same of weighted search.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weighted: Option<f64>,
}

impl Input for Uplift {
    fn parse(body: &Value) -> Checked<Self> {
        let percent = |at: At<'_>| at.float_in(-PERCENT_MAX, PERCENT_MAX);
        let values = |at: At<'_>| {
            let mut fields = at.fields()?;
            let hybrid = fields.nullable("hybrid", percent);
            let weighted = fields.nullable("weighted", percent);
            fields.finish()?;
            match at.object()?.keys().find(|mode| !["hybrid", "weighted"].contains(&mode.as_str()))
            {
                Some(_) => at.value_error("Modes are hybrid and weighted"),
                None => Ok(Some(Self { hybrid, weighted })),
            }
        };
        let mut fields = At::body(body).fields()?;
        let values = fields.required("values", values);
        fields.finish()?;
        Ok(values.unwrap_or(Self { hybrid: None, weighted: None }))
    }
}

/// Answer of POST /_admin/metrics/retrieval_uplift.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct UpliftAnswer {
    /// `ok`.
    pub status: &'static str,
    /// What was published.
    pub values: Uplift,
}
