//! The embedding model and its change, for whoever answers for the data of all tenants.

use activekg_storage::ids::TenantId;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::access::{Who, actor};
use super::failure::of_graph;
use super::wire::models::{ChangeRequest, CompareRequest, SwitchRequest};
use crate::app::App;
use crate::config::ModelChoice;
use crate::graph;
use crate::http::error::{ApiError, ErrorKind};
use crate::http::extract::{JsonBody, Reply};
use crate::models::{ChangeError, ChangeStatus, Comparison, Phase, Queries, Served, Side, Status};
use crate::timestamp::iso;

/// The embedder in this process.
const LOCAL: &str = "sentence-transformers";

/// GET /admin/model.
pub(super) async fn show(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<Value>, ApiError> {
    app.operated(&caller, None)?;
    Ok(Reply(shown(app.models.status().await.map_err(failed)?)))
}

/// POST /admin/model/change.
pub(super) async fn begin(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(request): JsonBody<ChangeRequest>,
) -> Result<Response, ApiError> {
    app.operated(&caller, None)?;
    let ChangeRequest { backend, model, base_url, dimensions } = request;
    let backend = backend.unwrap_or_else(|| LOCAL.to_owned());
    let is_path = backend == LOCAL && (model.starts_with(['.', '/']));
    if (is_path || base_url.is_some()) && !caller.local {
        // Anybody else could have the server read files or ask services wherever it can.
        return Err(ApiError::new(
            ErrorKind::Forbidden,
            "only the administrator on the server's machine names a folder or an address",
        ));
    }
    let choice = ModelChoice { backend, model, base_url, dimensions };
    let begun = app.models.begin(&choice, actor(&caller)).await.map_err(failed)?;
    Ok((StatusCode::ACCEPTED, Reply(shown(begun))).into_response())
}

/// POST /admin/model/compare.
pub(super) async fn compare(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(request): JsonBody<CompareRequest>,
) -> Result<Reply<Value>, ApiError> {
    let CompareRequest { sample, queries, tenant_id } = request;
    let tenant = app.operated(&caller, tenant_id.as_deref())?;
    let queries = match queries.is_empty() {
        true => Queries::Sampled(sample),
        false => Queries::Given(tenant.unwrap_or_else(TenantId::shared), queries),
    };
    Ok(Reply(compared(app.models.compare(queries).await.map_err(failed)?)))
}

/// POST /admin/model/switch.
pub(super) async fn switch(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(SwitchRequest { accept_missing }): JsonBody<SwitchRequest>,
) -> Result<Reply<Value>, ApiError> {
    app.operated(&caller, None)?;
    let switched = app.models.switch(false, accept_missing, actor(&caller)).await;
    Ok(Reply(shown(switched.map_err(failed)?)))
}

/// POST /admin/model/roll-back.
pub(super) async fn roll_back(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(SwitchRequest { accept_missing }): JsonBody<SwitchRequest>,
) -> Result<Reply<Value>, ApiError> {
    app.operated(&caller, None)?;
    let switched = app.models.switch(true, accept_missing, actor(&caller)).await;
    Ok(Reply(shown(switched.map_err(failed)?)))
}

/// DELETE /admin/model/change.
pub(super) async fn drop_other(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Response, ApiError> {
    app.operated(&caller, None)?;
    let dropped = app.models.drop_other(actor(&caller)).await.map_err(failed)?;
    Ok((StatusCode::ACCEPTED, Reply(shown(dropped))).into_response())
}

fn shown(status: Status) -> Value {
    let Status { serving, change } = status;
    json!({ "serving": model(serving), "change": change.map(changing) })
}

fn model(served: Served) -> Value {
    let Served { backend, model, name, dim } = served;
    json!({ "backend": backend, "model": model, "name": name, "dimensions": dim })
}

fn changing(change: ChangeStatus) -> Value {
    let ChangeStatus {
        other,
        phase,
        checked,
        nodes,
        embedded,
        behind,
        failed,
        started_at,
        filled_at,
        switched_at,
        problem,
    } = change;
    // After the switch the other model is the one before.
    let role = match phase {
        Phase::Filling | Phase::Ready => "to",
        Phase::Switched => "from",
        Phase::Dropping => "dropped",
    };
    json!({
        "phase": phase.as_str(),
        role: model(other),
        "checked": checked,
        "nodes": nodes,
        "embedded": embedded,
        "behind": behind,
        "failed": failed,
        "started_at": iso(started_at.get()),
        "filled_at": filled_at.map(|at| iso(at.get())),
        "switched_at": switched_at.map(|at| iso(at.get())),
        "problem": problem,
    })
}

fn compared(comparison: Comparison) -> Value {
    let Comparison { queries, serving, other, overlap, same_first } = comparison;
    let side = |Side { model, own_node_mrr, query_p50 }: Side| {
        json!({
            "name": model,
            "own_node_mrr": own_node_mrr.map(rounded),
            "query_p50_ms": rounded(query_p50.as_secs_f64() * 1000.0),
        })
    };
    json!({
        "queries": queries,
        "overlap_at_10": rounded(overlap),
        "same_first_hit": rounded(same_first),
        "serving": side(serving),
        "other": side(other),
    })
}

fn rounded(value: f64) -> f64 {
    (value * 10_000.0).round() / 10_000.0
}

fn failed(error: ChangeError) -> ApiError {
    let text = error.to_string();
    match error {
        ChangeError::Change(graph::ChangeError::Graph(inside)) => of_graph(inside, None),
        ChangeError::Change(graph::ChangeError::None) => ApiError::not_found(text),
        ChangeError::Change(_) => ApiError::conflict(text),
        ChangeError::Choice(_) | ChangeError::Unusable(_) | ChangeError::Asked(_) => {
            ApiError::bad_request(text)
        }
        ChangeError::NoWorker | ChangeError::NotLoaded(_) | ChangeError::Embedding(_) => {
            ApiError::unavailable(text)
        }
        ChangeError::Index(inside) => ApiError::unhandled(inside),
        ChangeError::Interrupted => of_graph(graph::Error::Interrupted, None),
    }
}
