//! Changes that were given up.

use activekg_storage::ids::TenantId;
use activekg_storage::queue::{DeadJob, End};
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::super::access::{Who, actor};
use super::super::queues::{failed as of_queues, purged};
use super::super::wire::connectors::flow::{LettersRequest, PeekQuery};
use super::AnyBody;
use super::flow::managed;
use crate::app::App;
use crate::auth::Caller;
use crate::http::error::ApiError;
use crate::http::extract::{Params, Reply};
use crate::queues::{Letters, Managed, Replayed};
use crate::timestamp::iso;

/// GET /_admin/connectors/dlq/inspect/{provider}/{tenant}.
pub(in crate::http::graph) async fn inspect(
    State(app): State<App>,
    Who(caller): Who,
    Path((provider, tenant)): Path<(String, String)>,
    Params(PeekQuery { tenant_id: _, from, limit, reason }): Params<PeekQuery>,
) -> Result<Reply<Value>, ApiError> {
    let (managed, tenant) = meant(&app, &caller, &provider, &tenant)?;
    let letters = Letters { tenant: Some(tenant.clone()), reason, ..Letters::default() };
    let from = from.unwrap_or(End::Newest);
    let (depth, found) = app.queues.dead(managed, letters, from, limit).await.map_err(of_queues)?;
    let items: Vec<Value> =
        found.into_iter().map(|found| letter(managed, &provider, found)).collect();
    let key = format!("connector:{provider}:{tenant}:dlq");
    Ok(Reply(json!({ "queue_key": key, "depth": depth, "items": items })))
}

/// POST /_admin/connectors/dlq/replay/{provider}/{tenant}.
pub(in crate::http::graph) async fn replay(
    State(app): State<App>,
    Who(caller): Who,
    Path((provider, tenant)): Path<(String, String)>,
    AnyBody(LettersRequest { id, reason }): AnyBody<LettersRequest>,
) -> Result<Reply<Value>, ApiError> {
    let (managed, tenant) = meant(&app, &caller, &provider, &tenant)?;
    let letters = Letters { tenant: Some(tenant), id, reason, older_than: None };
    let done = app.queues.replay(managed, letters, actor(&caller)).await.map_err(of_queues)?;
    let Replayed { replayed, superseded } = done;
    Ok(Reply(json!({ "replayed": replayed, "superseded": superseded })))
}

/// POST /_admin/connectors/dlq/clear/{provider}/{tenant}.
pub(in crate::http::graph) async fn clear(
    State(app): State<App>,
    Who(caller): Who,
    Path((provider, tenant)): Path<(String, String)>,
    AnyBody(LettersRequest { id, reason }): AnyBody<LettersRequest>,
) -> Result<Reply<Value>, ApiError> {
    let (managed, tenant) = meant(&app, &caller, &provider, &tenant)?;
    let letters = Letters { tenant: Some(tenant), id, reason, older_than: None };
    let done = app.queues.clear(managed, letters, 0, actor(&caller)).await.map_err(of_queues)?;
    Ok(Reply(purged(done)))
}

/// The queue and the tenant that a path names.
fn meant(
    app: &App,
    caller: &Caller,
    provider: &str,
    tenant: &str,
) -> Result<(&'static Managed, TenantId), ApiError> {
    let tenant = app.commanded(caller, Some(tenant))?;
    Ok((managed(provider)?, tenant))
}

fn letter(queue: &Managed, provider: &str, found: DeadJob) -> Value {
    let DeadJob {
        id,
        tenant,
        key: _,
        payload,
        attempts,
        reason,
        error,
        enqueued_at,
        first_failed_at,
        died_at,
    } = found;
    let item = (queue.item)(&payload);
    // Errors begin with the name of their class.
    let class = error.split_once(": ").map(|(class, _)| class);
    let died_at = iso(died_at.get());
    json!({
        "id": id,
        "operation": item["operation"],
        "item": item,
        "error": error,
        "error_class": class,
        "reason": reason.as_str(),
        "attempts": attempts,
        "enqueued_at": iso(enqueued_at.get()),
        "first_failed_at": first_failed_at.map(|at| iso(at.get())),
        "failed_at": died_at,
        "timestamp": died_at,
        "provider": provider,
        "tenant_id": tenant.as_str(),
    })
}
