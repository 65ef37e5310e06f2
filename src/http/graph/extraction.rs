//! The extraction of props from texts by a language model, which this program does not do: nodes can
//! say in their props how far another program is with it.

use activekg_storage::ids::TenantId;
use axum::extract::State;
use serde_json::{Value, json};

use super::access::Who;
use super::failure::of_graph;
use super::wire::embedding::ExtractionRequeue;
use super::wire::query::EmbeddingStatusQuery;
use crate::app::App;
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::NamedOrDefault;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Params, Reply};

/// GET /admin/extraction/status.
pub(super) async fn status(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<EmbeddingStatusQuery>,
) -> Result<Reply<Value>, ApiError> {
    let view = app.view(&caller, Access::Admin, query.tenant_id.as_deref(), NamedOrDefault)?;
    // While tokens are off, who names no tenant means all of them.
    let is_all = !caller.authenticated && query.tenant_id.is_none();
    let tenant = (!is_all).then(|| view.tenant().clone());
    let counts = app.graph.extraction_counts(tenant.clone()).await;
    let counts = counts.map_err(|error| of_graph(error, None))?;
    Ok(Reply(json!({
        "enabled": false,
        "mode": "async",
        "tenant_id": tenant.as_ref().map(TenantId::as_str),
        "status_counts": counts,
        // Nothing is ever queued.
        "queue": { "queue": 0, "retry": 0, "dlq": 0 },
    })))
}

/// POST /admin/extraction/requeue.
pub(super) async fn requeue(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(body): JsonBody<ExtractionRequeue>,
) -> Result<Reply<Value>, ApiError> {
    let ExtractionRequeue { tenant_id } = body;
    app.view(&caller, Access::Admin, tenant_id.as_deref(), NamedOrDefault)?;
    Err(ApiError::unavailable("Extraction not enabled"))
}
