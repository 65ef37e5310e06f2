//! POST /search, and its explanation.

use std::time::Instant;

use activekg_storage::ids::NodeId;
use axum::extract::{OriginalUri, State};
use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::access::Who;
use super::failure::{of_graph, of_search};
use super::indexes::names;
use super::walks::expanded_node;
use super::wire::search::{
    HitExpansion, SearchAnswer, SearchExplainRequest, SearchHit, SearchMode, SearchRequest,
};
use crate::app::App;
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::{Default as DefaultTenant, NamedOrDefault};
use crate::config::Distance;
use crate::graph::{Expanded, Expansion, Node, View};
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Reply, query_object};
use crate::search::{Filter, Found, FoundNode, Mode, Request, ScoreType, Weighting};

/// Characters of a node's text shown with a hit.
const SNIPPET_MAX: usize = 300;

/// POST /search.
pub(super) async fn search(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(body): JsonBody<SearchRequest>,
) -> Result<Reply<SearchAnswer>, ApiError> {
    let started = Instant::now();
    let SearchRequest {
        query,
        top_k,
        metadata_filters,
        compound_filter,
        classes,
        tenant_id,
        mode,
        use_reranker,
        use_weighted_score,
        decay_lambda,
        drift_beta,
        min_similarity,
        expand,
    } = body;
    let view = app.view(&caller, Access::Read, tenant_id.as_deref(), NamedOrDefault)?;
    let request = Request {
        query: query.clone(),
        top_k,
        mode: match mode {
            SearchMode::Vector => Mode::Vector,
            SearchMode::Hybrid => Mode::Hybrid,
            SearchMode::Text => Mode::Text,
        },
        use_reranker,
        weighting: use_weighted_score.then_some(Weighting { decay_lambda, drift_beta }),
        filter: Filter { metadata_filters, compound_filter, classes },
        min_similarity,
    };
    let found = app.search.find(&view, request).await;
    let Found { hits, mode, score_type, reranked } =
        found.map_err(|error| of_search(error, "Search failed"))?;
    let mut results: Vec<_> = hits.into_iter().map(hit_view).collect();
    if let Some(expansion) = expand {
        put_expansions(&app, &view, expansion, &mut results).await?;
    }
    app.metrics.search.answered(mode.as_str(), score_type.as_str(), reranked, started.elapsed());
    Ok(Reply(SearchAnswer {
        query,
        count: results.len(),
        results,
        search_mode: mode.as_str(),
        mode: mode.as_str(),
        score_type: score_type.as_str(),
    }))
}

/// Shows what is around each of `hits`.
async fn put_expansions(
    app: &App,
    view: &View,
    expansion: Expansion,
    hits: &mut [SearchHit],
) -> Result<(), ApiError> {
    let ids = hits.iter().map(|hit| NodeId::from_uuid(hit.id)).collect();
    let around = app.graph.expand(view, ids, expansion).await;
    let around = around.map_err(|error| of_graph(error, Some("Search failed")))?;
    for (hit, Expanded { nodes, truncated }) in hits.iter_mut().zip(around) {
        let expanded = nodes.into_iter().filter_map(expanded_node).collect();
        hit.expansion = Some(HitExpansion { expanded, expanded_truncated: truncated });
    }
    Ok(())
}

fn hit_view(found: FoundNode) -> SearchHit {
    let FoundNode { node, score, vector_similarity } = found;
    let text = node.props.get("text").and_then(Value::as_str).unwrap_or_default();
    SearchHit {
        id: node.id.as_uuid(),
        text: text.chars().take(SNIPPET_MAX).collect(),
        classes: node.classes,
        props: node.props,
        payload_ref: node.payload_ref,
        metadata: node.metadata,
        similarity: rounded(score, 4),
        vector_similarity: vector_similarity
            .map(|similarity| rounded(similarity.clamp(0.0, 1.0), 4)),
        expansion: None,
    }
}

/// Rounded to so many decimal places.
pub(super) fn rounded(value: f64, places: i32) -> f64 {
    let scale = 10_f64.powi(places);
    (value * scale).round() / scale
}

/// Answer of /debug/search_explain.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    query: String,
    mode: &'static str,
    score_type: &'static str,
    score_range: &'static str,
    result_count: usize,
    results: Vec<ExplainedHit>,
    threshold_info: ThresholdInfo,
    scoring_notes: Map<String, Value>,
    ann_config: AnnConfig,
}

#[derive(Debug, Serialize)]
struct ExplainedHit {
    node_id: Uuid,
    similarity: f64,
    score_type: &'static str,
    classes: Vec<String>,
    snippet: String,
    metadata: Map<String, Value>,
    has_embedding: bool,
    has_text_search: Option<bool>,
}

#[derive(Debug, Serialize)]
struct ThresholdInfo {
    recommended_min: f64,
    recommended_max: f64,
    top_similarity: f64,
    bottom_similarity: f64,
}

#[derive(Debug, Serialize)]
struct AnnConfig {
    metric: &'static str,
    operator: &'static str,
    requested_indexes: Vec<&'static str>,
    existing_indexes: Vec<String>,
    hnsw_ef_search: usize,
    ivfflat_probes: usize,
}

/// POST /debug/search_explain.
pub(super) async fn explain(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(body): JsonBody<SearchExplainRequest>,
) -> Result<Reply<Explanation>, ApiError> {
    let view = app.view(&caller, Access::Admin, None, DefaultTenant)?;
    explanation(&app, &view, body).await
}

/// GET /debug/search_explain.
pub(super) async fn explain_query(
    State(app): State<App>,
    Who(caller): Who,
    OriginalUri(uri): OriginalUri,
) -> Result<Reply<Explanation>, ApiError> {
    let request = SearchExplainRequest::parse_query(&query_object(&uri))?;
    let view = app.view(&caller, Access::Admin, None, DefaultTenant)?;
    explanation(&app, &view, request).await
}

async fn explanation(
    app: &App,
    view: &View,
    request: SearchExplainRequest,
) -> Result<Reply<Explanation>, ApiError> {
    let SearchExplainRequest { query, use_hybrid, top_k } = request;
    let wanted = Request {
        query: query.clone(),
        top_k,
        mode: if use_hybrid { Mode::Hybrid } else { Mode::Vector },
        use_reranker: true,
        weighting: None,
        filter: Filter::default(),
        min_similarity: None,
    };
    let found = app.search.find(view, wanted).await;
    let Found { hits, mode, score_type, .. } =
        found.map_err(|error| of_search(error, "search_explain error"))?;
    let threshold_info = thresholds(&hits, score_type);
    let hybrid = mode == Mode::Hybrid;
    let results: Vec<_> =
        hits.into_iter().map(|hit| explained_hit(hit, score_type, hybrid)).collect();
    Ok(Reply(Explanation {
        query,
        mode: mode.as_str(),
        score_type: score_type.as_str(),
        score_range: match score_type {
            ScoreType::RrfFused => "0.01-0.04 (low)",
            ScoreType::WeightedFusion => "0.0-1.0 (cosine-like)",
            ScoreType::Cosine | ScoreType::Bm25 => "0.0-1.0",
        },
        result_count: results.len(),
        results,
        threshold_info,
        scoring_notes: scoring_notes(),
        ann_config: ann_config(app),
    }))
}

/// What a caller could ask for at least, from the best and the worst hit. Fused ranks are small
/// numbers, so the floor that suits a cosine does not apply to them.
fn thresholds(hits: &[FoundNode], score_type: ScoreType) -> ThresholdInfo {
    let (Some(top), Some(bottom)) = (hits.first(), hits.last()) else {
        return ThresholdInfo {
            recommended_min: 0.15,
            recommended_max: 0.30,
            top_similarity: 0.0,
            bottom_similarity: 0.0,
        };
    };
    let (floor, places) = if score_type == ScoreType::RrfFused { (0.0, 4) } else { (0.15, 2) };
    ThresholdInfo {
        recommended_min: rounded((0.8 * bottom.score).max(floor), places),
        recommended_max: rounded(0.9 * top.score, places),
        top_similarity: rounded(top.score, 4),
        bottom_similarity: rounded(bottom.score, 4),
    }
}

fn explained_hit(found: FoundNode, score_type: ScoreType, hybrid: bool) -> ExplainedHit {
    let FoundNode { node, score, vector_similarity: _ } = found;
    let snippet = snippet(&node);
    ExplainedHit {
        node_id: node.id.as_uuid(),
        similarity: rounded(score, 4),
        score_type: score_type.as_str(),
        has_embedding: node.has_embedding(),
        classes: node.classes,
        snippet,
        metadata: node.metadata,
        has_text_search: hybrid.then_some(true),
    }
}

/// The beginning of a node's text, with a mark where it was cut.
fn snippet(node: &Node) -> String {
    let text = node.text();
    let mut snippet: String = text.chars().take(SNIPPET_MAX).collect();
    if snippet.len() < text.len() {
        snippet.push_str("...");
    }
    snippet
}

fn scoring_notes() -> Map<String, Value> {
    let notes = [
        ("rrf_fused", "RRF scores range 0.01-0.04 (rank-based fusion of vector+BM25)"),
        ("weighted_fusion", "Weighted scores range 0.0-1.0 (linear combination of vector+BM25)"),
        ("cosine", "Cosine similarity range 0.0-1.0 (vector-only)"),
    ];
    notes.into_iter().map(|(name, note)| (name.to_owned(), note.into())).collect()
}

fn ann_config(app: &App) -> AnnConfig {
    let search = &app.config.search;
    let operator = match search.distance {
        Distance::Cosine => "<=>",
        Distance::L2 => "<->",
        Distance::Ip => "<#>",
    };
    AnnConfig {
        metric: search.distance.as_str(),
        operator,
        requested_indexes: search.index_types.iter().map(|engine| engine.as_str()).collect(),
        existing_indexes: names(app, app.vector_indexes.existing()),
        hnsw_ef_search: search.hnsw.ef_search,
        ivfflat_probes: search.ivfflat.probes,
    }
}
