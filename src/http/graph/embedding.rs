//! The embedding queue, and how much is embedded.

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::EmbeddingStatus;
use axum::extract::State;
use serde_json::{Map, Value, json};

use super::access::Who;
use super::failure::of_graph;
use super::search::rounded;
use super::wire::embedding::{RequeueRequest, StatusFilter};
use super::wire::query::EmbeddingStatusQuery;
use crate::app::App;
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::{Default as DefaultTenant, NamedOrDefault};
use crate::graph::{EmbeddingStats, Requeue, StatusCounts};
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Params, Reply};
use crate::models::Served;

/// GET /admin/embedding/status.
pub(super) async fn status(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<EmbeddingStatusQuery>,
) -> Result<Reply<Value>, ApiError> {
    let view = app.view(&caller, Access::Admin, query.tenant_id.as_deref(), NamedOrDefault)?;
    // While tokens are off, who names no tenant means all of them.
    let is_all = !caller.authenticated && query.tenant_id.is_none();
    let tenant = (!is_all).then(|| view.tenant().clone());
    let counts = app.graph.status_counts(tenant.clone()).await;
    let StatusCounts { statuses, queue, oldest, pending } =
        counts.map_err(|error| of_graph(error, None))?;
    let statuses: Map<String, Value> =
        statuses.into_iter().map(|(name, n)| (name.to_owned(), n.into())).collect();
    Ok(Reply(json!({
        "tenant_id": tenant.as_ref().map(TenantId::as_str),
        "status_counts": statuses,
        "queue": {
            "queue": queue.ready,
            "retry": queue.delayed,
            "dlq": queue.dead,
            "leased": queue.leased,
            "oldest_age_seconds": oldest.map(|age| age.as_secs_f64()),
        },
        "pending": pending,
    })))
}

/// POST /admin/embedding/requeue.
pub(super) async fn requeue(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(body): JsonBody<RequeueRequest>,
) -> Result<Reply<Value>, ApiError> {
    let RequeueRequest {
        tenant_id,
        node_ids,
        status,
        only_missing_embedding,
        backfill_ready,
        limit,
    } = body;
    let view = app.view(&caller, Access::Admin, tenant_id.as_deref(), NamedOrDefault)?;
    let selection = Requeue {
        ids: node_ids.map(|ids| ids.into_iter().map(NodeId::from_uuid).collect()),
        status: match status {
            StatusFilter::All => None,
            StatusFilter::Queued => Some(EmbeddingStatus::Queued),
            StatusFilter::Processing => Some(EmbeddingStatus::Processing),
            StatusFilter::Ready => Some(EmbeddingStatus::Ready),
            StatusFilter::Failed => Some(EmbeddingStatus::Failed),
            StatusFilter::Skipped => Some(EmbeddingStatus::Skipped),
        },
        only_missing: only_missing_embedding,
        backfill_ready,
        limit,
    };
    let done = app.graph.requeue(&view, selection).await;
    let done = done.map_err(|error| of_graph(error, None))?;
    Ok(Reply(json!({
        "backfilled": done.backfilled,
        "requested": done.requested,
        "enqueued": done.enqueued,
    })))
}

/// GET /debug/embed_info and GET /_admin/embed_info.
pub(super) async fn info(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<Value>, ApiError> {
    let view = app.view(&caller, Access::Admin, None, DefaultTenant)?;
    let stats = app.graph.embedding_stats(&view).await;
    let stats = stats.map_err(|error| of_graph(error, Some("embed_info error")))?;
    let EmbeddingStats { total, embedded, sampled_dims, norms, example_ids, ages } = stats;
    let oldest = ages.iter().copied().reduce(f64::max);
    let coverage = if total == 0 { 1.0 } else { embedded as f64 / total as f64 };
    app.metrics.embedding.tenant(view.tenant().as_str(), coverage, oldest);
    let Served { backend, model, name: _, dim } = app.models.serving();
    Ok(Reply(json!({
        "embedding_backend": backend,
        "embedding_model": model,
        "counts": {
            "total_nodes": total,
            "with_embedding": embedded,
            "without_embedding": total - embedded,
        },
        "vector_dimension": {
            "db_type": format!("vector({dim})"),
            "db_dim": dim,
            "sampled_dims": sampled_dims,
        },
        "sample": {
            "n": norms.len(),
            "norm_min": least(&norms, 6),
            "norm_max": greatest(&norms, 6),
            "norm_mean": mean(&norms, 6),
            "example_ids": example_ids.iter().map(ToString::to_string).collect::<Vec<_>>(),
        },
        "last_refreshed": {
            "count": ages.len(),
            "age_seconds": {
                "min": least(&ages, 3),
                "avg": mean(&ages, 3),
                "max": greatest(&ages, 3),
            },
        },
    })))
}

fn least(values: &[f64], places: i32) -> Option<f64> {
    values.iter().copied().reduce(f64::min).map(|value| rounded(value, places))
}

fn greatest(values: &[f64], places: i32) -> Option<f64> {
    values.iter().copied().reduce(f64::max).map(|value| rounded(value, places))
}

fn mean(values: &[f64], places: i32) -> Option<f64> {
    let n = values.len();
    (n > 0).then(|| rounded(values.iter().sum::<f64>() / n as f64, places))
}
