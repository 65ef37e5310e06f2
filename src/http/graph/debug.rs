//! What an operator looks at when something is odd.

use axum::extract::{OriginalUri, State};
use serde_json::{Value, json};

use super::access::Who;
use super::failure::of_graph;
use super::search::rounded;
use crate::app::App;
use crate::ask::intent::{self, Intent};
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::Default as DefaultTenant;
use crate::graph::{Node, SanityStats};
use crate::http::error::ApiError;
use crate::http::extract::{Reply, query_object};
use crate::http::validate::At;

/// GET /debug/dbinfo.
pub(super) async fn dbinfo(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<Value>, ApiError> {
    let view = app.view(&caller, Access::Admin, None, DefaultTenant)?;
    // The store is embedded: it has no host and no port.
    Ok(Reply(json!({
        "database": "activekg",
        "tenant_context": if caller.authenticated { view.tenant().as_str() } else { "" },
        "server_host": null,
        "server_port": null,
    })))
}

/// GET /debug/intent: what a question is taken to ask for.
pub(super) async fn intent(OriginalUri(uri): OriginalUri) -> Result<Reply<Value>, ApiError> {
    let query = query_object(&uri);
    let mut fields = At::query(&query).fields()?.with_null_for_missing();
    let question = fields.required("q", |at| at.string());
    fields.finish()?;
    let found = intent::detect(&question);
    Ok(Reply(json!({
        "query": question,
        "normalized": intent::normalize(&question),
        "intent_type": found.as_ref().map(Intent::name),
        "params": found.as_ref().map(Intent::params),
    })))
}

/// GET /debug/search_sanity.
pub(super) async fn search_sanity(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<Value>, ApiError> {
    let view = app.view(&caller, Access::Admin, None, DefaultTenant)?;
    let stats = app.graph.sanity_stats(&view).await;
    let SanityStats { total, embedded, with_words, sample_with, sample_without } =
        stats.map_err(|error| of_graph(error, Some("search_sanity error")))?;
    let percent = |part: u64| {
        if total == 0 { 0.0 } else { rounded(100.0 * part as f64 / total as f64, 2) }
    };
    Ok(Reply(json!({
        "tenant_id": view.tenant().as_str(),
        "total_nodes": total,
        "nodes_with_embeddings": embedded,
        "nodes_with_text_search": with_words,
        "embedding_coverage_pct": percent(embedded),
        "text_search_coverage_pct": percent(with_words),
        "sample_nodes_with_embedding": sample(&sample_with),
        "sample_nodes_without_embedding": sample(&sample_without),
    })))
}

fn sample(nodes: &[Node]) -> Vec<Value> {
    let view = |node: &Node| {
        let has_text =
            node.props.get("text").and_then(Value::as_str).is_some_and(|text| !text.is_empty());
        json!({ "id": node.id.to_string(), "classes": node.classes, "has_text": has_text })
    };
    nodes.iter().map(view).collect()
}
