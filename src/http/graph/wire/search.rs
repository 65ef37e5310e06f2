//! Searches and the explanation of one.

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::walk::{ExpandedNode, expansion};
use super::{sentence, tenant};
use crate::graph::Expansion;
use crate::http::extract::Input;
use crate::http::validate::{At, Checked};

/// Characters in a query at most, before blanks are collapsed.
const QUERY_MAX: usize = 2000;
/// Hits at most.
const TOP_K_MAX: i64 = 100;
/// Classes a search may name.
const CLASSES_MAX: usize = 100;
/// Hits an explanation shows at most.
const EXPLAIN_MAX: i64 = 20;

/// How hits are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SearchMode {
    /// By meaning.
    Vector,
    /// By meaning and by words.
    Hybrid,
    /// By words.
    Text,
}

/// Names of the modes in requests.
const MODES: [(&str, SearchMode); 5] = [
    ("hybrid", SearchMode::Hybrid),
    ("similarity", SearchMode::Vector),
    ("vector", SearchMode::Vector),
    ("bm25", SearchMode::Text),
    ("text", SearchMode::Text),
];

/// Body of POST /search.
#[derive(Debug, Clone, PartialEq)]
pub struct SearchRequest {
    /// Not blank; blanks collapsed.
    pub query: String,
    /// 1 to 100, default 10; `limit` is another name for it.
    pub top_k: usize,
    /// Metadata members and the values they must have.
    pub metadata_filters: Option<Map<String, Value>>,
    /// An object the metadata must contain.
    pub compound_filter: Option<Map<String, Value>>,
    /// Classes of which a hit has one, from `classes` or `classes_filter`; empty = any.
    pub classes: Vec<String>,
    /// The tenant it names.
    pub tenant_id: Option<String>,
    /// From `mode`, else from `use_hybrid`.
    pub mode: SearchMode,
    /// Whether hybrid hits are reranked.
    pub use_reranker: bool,
    /// Whether age and drift lower the scores of vector hits.
    pub use_weighted_score: bool,
    /// How fast age counts, a day; 0 to 1.
    pub decay_lambda: f64,
    /// How much drift counts; 0 to 1.
    pub drift_beta: f64,
    /// Cosine below which nothing is a hit, -1 to 1.
    pub min_similarity: Option<f64>,
    /// How far to go from each hit, if at all.
    pub expand: Option<Expansion>,
}

impl Input for SearchRequest {
    fn parse(body: &Value) -> Checked<Self> {
        let top_k = |at: At<'_>| at.int_in(1, TOP_K_MAX);
        let weight = |at: At<'_>| at.float_in(0.0, 1.0);
        let mut fields = At::body(body).fields()?;
        let query = fields.required("query", |at| sentence(at, QUERY_MAX, "Query cannot be empty"));
        let named = fields.optional("top_k", None, |at| top_k(at).map(Some));
        let metadata_filters = fields.nullable("metadata_filters", |at| at.object());
        let compound_filter = fields.nullable("compound_filter", |at| at.object());
        let tenant_id = fields.optional("tenant_id", None, tenant);
        let use_hybrid = fields.optional("use_hybrid", false, |at| at.bool());
        let use_reranker = fields.optional("use_reranker", true, |at| at.bool());
        let use_weighted_score = fields.optional("use_weighted_score", false, |at| at.bool());
        let decay_lambda = fields.optional("decay_lambda", 0.01, weight);
        let drift_beta = fields.optional("drift_beta", 0.1, weight);
        let limit = fields.nullable("limit", top_k);
        let mode = fields.nullable("mode", |at| at.one_of(&MODES));
        let min_similarity = fields.nullable("min_similarity", |at| at.float_in(-1.0, 1.0));
        let classes = |at: At<'_>| at.list_of(0, CLASSES_MAX, |at| at.string());
        let named_classes = fields.nullable("classes", classes);
        let classes_filter = fields.nullable("classes_filter", classes);
        let expand = fields.nullable("expand", expansion);
        fields.finish()?;
        Ok(Self {
            query,
            top_k: usize::try_from(named.or(limit).unwrap_or(10)).unwrap_or(1),
            metadata_filters,
            compound_filter,
            classes: named_classes.or(classes_filter).unwrap_or_default(),
            tenant_id,
            mode: mode.unwrap_or(if use_hybrid { SearchMode::Hybrid } else { SearchMode::Vector }),
            use_reranker,
            use_weighted_score,
            decay_lambda,
            drift_beta,
            min_similarity,
            expand,
        })
    }
}

/// Body of POST /debug/search_explain, query of GET. Its members are parameters of their own:
/// null is as good as absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchExplainRequest {
    /// Not blank; blanks collapsed.
    pub query: String,
    /// Whether to explain the hybrid search.
    pub use_hybrid: bool,
    /// 1 to 20, whatever was asked; default 5.
    pub top_k: usize,
}

impl Input for SearchExplainRequest {
    fn parse(body: &Value) -> Checked<Self> {
        let given = without_nulls(body);
        Self::check(At::body(&given))
    }
}

impl SearchExplainRequest {
    /// The same as the query of GET /debug/search_explain.
    ///
    /// # Errors
    ///
    /// What is wrong with it.
    pub fn parse_query(query: &Value) -> Checked<Self> {
        Self::check(At::query(query))
    }

    fn check(at: At<'_>) -> Checked<Self> {
        let mut fields = at.fields()?.with_null_for_missing();
        let query = fields.required("query", |at| sentence(at, QUERY_MAX, "Query cannot be empty"));
        let use_hybrid = fields.optional("use_hybrid", false, |at| at.bool());
        let top_k = fields.optional("top_k", 5, |at| at.int()).clamp(1, EXPLAIN_MAX);
        fields.finish()?;
        Ok(Self { query, use_hybrid, top_k: usize::try_from(top_k).unwrap_or(1) })
    }
}

/// The members that are there and not null; none of what is no object.
fn without_nulls(body: &Value) -> Value {
    let members = body.as_object().into_iter().flatten().filter(|(_, value)| !value.is_null());
    Value::Object(members.map(|(name, value)| (name.clone(), value.clone())).collect())
}

/// Answer of POST /search.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SearchAnswer {
    /// The query with its blanks collapsed.
    pub query: String,
    /// Best first.
    pub results: Vec<SearchHit>,
    /// How many.
    pub count: usize,
    /// `vector`, `hybrid` or `text`.
    pub search_mode: &'static str,
    /// The same.
    pub mode: &'static str,
    /// What `similarity` is: `cosine`, `rrf_fused`, `weighted_fusion` or `bm25`.
    pub score_type: &'static str,
}

/// A node that was found.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SearchHit {
    /// Its id.
    pub id: Uuid,
    /// Labels.
    pub classes: Vec<String>,
    /// Its properties.
    pub props: Map<String, Value>,
    /// Where its text is loaded from.
    pub payload_ref: Option<String>,
    /// Properties that searches filter on.
    pub metadata: Map<String, Value>,
    /// Its score, 4 decimal places.
    pub similarity: f64,
    /// The beginning of its text.
    pub text: String,
    /// Cosine to the query, 0 to 1, 4 decimal places; absent without a vector.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector_similarity: Option<f64>,
    /// What is around it, when `expand` asks for that.
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub expansion: Option<HitExpansion>,
}

/// What is around a hit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HitExpansion {
    /// Nearest first, without the hit.
    pub expanded: Vec<ExpandedNode>,
    /// There is more, or may be.
    pub expanded_truncated: bool,
}
