//! Queues, for whoever answers for the data of all tenants.

use std::cmp::Reverse;

use activekg_storage::ids::TenantId;
use activekg_storage::queue::{DeadJob, Peeked, QueueStats};
use activekg_storage::time::UnixMicros;
use axum::extract::{Path, State};
use serde_json::{Map, Value, json};

use super::access::{Who, actor};
use super::failure::of_graph;
use super::wire::query::TenantQuery;
use super::wire::queues::{ClearQuery, DeadQuery, ItemsQuery, PurgeQuery, ReplayRequest};
use crate::app::App;
use crate::graph;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Params, Reply};
use crate::queues::{self, Error, LIST_MAX, Letters, Managed, Peek, Purged, Replayed, Waiting};
use crate::timestamp::iso;

/// GET /admin/queues.
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<Value>, ApiError> {
    app.operated(&caller, None)?;
    let listed = app.queues.list().await.map_err(failed)?;
    let now = app.clock.now();
    let listed: Vec<Value> =
        listed.iter().map(|(queue, stats)| whole(queue, stats, now).into()).collect();
    Ok(Reply(json!({ "queues": listed })))
}

/// GET /admin/queues/{queue}.
pub(super) async fn show(
    State(app): State<App>,
    Who(caller): Who,
    Path(name): Path<String>,
    Params(TenantQuery { tenant_id }): Params<TenantQuery>,
) -> Result<Reply<Value>, ApiError> {
    let tenant = app.operated(&caller, tenant_id.as_deref())?;
    let queue = queues::find(&name).map_err(failed)?;
    let all = app.queues.stats(queue, None).await.map_err(failed)?;
    let mut tenants = match tenant {
        Some(tenant) => {
            let mine = app.queues.stats(queue, Some(tenant.clone())).await.map_err(failed)?;
            vec![(tenant, mine)]
        }
        None => app.queues.tenants(queue).await.map_err(failed)?,
    };
    let n_tenants = tenants.len();
    tenants.sort_by_key(|(_, stats)| Reverse(stats.depths.live()));
    tenants.truncate(LIST_MAX);
    let now = app.clock.now();
    let tenants: Vec<Value> = tenants
        .iter()
        .map(|(tenant, stats)| {
            json!({
                "tenant_id": tenant.as_str(),
                "depths": stats.depths,
                "oldest_age_seconds": oldest_age(stats, now),
            })
        })
        .collect();
    let mut shown = whole(queue, &all, now);
    shown.insert("n_tenants".to_owned(), n_tenants.into());
    shown.insert("tenants".to_owned(), tenants.into());
    Ok(Reply(shown.into()))
}

/// GET /admin/queues/{queue}/items.
pub(super) async fn items(
    State(app): State<App>,
    Who(caller): Who,
    Path(name): Path<String>,
    Params(ItemsQuery { tenant_id, from, limit }): Params<ItemsQuery>,
) -> Result<Reply<Value>, ApiError> {
    let tenant = app.operated(&caller, tenant_id.as_deref())?;
    let queue = queues::find(&name).map_err(failed)?;
    let found = app.queues.peek(queue, tenant, from, limit).await.map_err(failed)?;
    let Peek { depth, items } = found;
    let items: Vec<Value> =
        items.into_iter().map(|(tenant, found)| item(queue, &tenant, found)).collect();
    Ok(Reply(json!({ "queue_key": key(queue), "depth": depth, "items": items })))
}

/// DELETE /admin/queues/{queue}/items.
pub(super) async fn purge(
    State(app): State<App>,
    Who(caller): Who,
    Path(name): Path<String>,
    Params(PurgeQuery { tenant_id, keep, older_than }): Params<PurgeQuery>,
) -> Result<Reply<Value>, ApiError> {
    let tenant = app.operated(&caller, tenant_id.as_deref())?;
    let queue = queues::find(&name).map_err(failed)?;
    let waiting = Waiting { tenant, older_than, keep };
    let done = app.queues.purge(queue, waiting, actor(&caller)).await.map_err(failed)?;
    Ok(Reply(purged(done)))
}

/// POST /admin/queues/{queue}/pause.
pub(super) async fn pause(
    State(app): State<App>,
    Who(caller): Who,
    Path(name): Path<String>,
) -> Result<Reply<Value>, ApiError> {
    app.operated(&caller, None)?;
    let queue = queues::find(&name).map_err(failed)?;
    let changed = app.queues.pause(queue, actor(&caller)).await.map_err(failed)?;
    Ok(Reply(json!({ "queue": queue.def.name, "paused": true, "changed": changed })))
}

/// POST /admin/queues/{queue}/resume.
pub(super) async fn resume(
    State(app): State<App>,
    Who(caller): Who,
    Path(name): Path<String>,
) -> Result<Reply<Value>, ApiError> {
    app.operated(&caller, None)?;
    let queue = queues::find(&name).map_err(failed)?;
    let changed = app.queues.resume(queue, actor(&caller)).await.map_err(failed)?;
    Ok(Reply(json!({ "queue": queue.def.name, "paused": false, "changed": changed })))
}

/// GET /admin/queues/{queue}/dead.
pub(super) async fn dead(
    State(app): State<App>,
    Who(caller): Who,
    Path(name): Path<String>,
    Params(DeadQuery { tenant_id, id, reason, from, limit }): Params<DeadQuery>,
) -> Result<Reply<Value>, ApiError> {
    let tenant = app.operated(&caller, tenant_id.as_deref())?;
    let queue = queues::find(&name).map_err(failed)?;
    let letters = Letters { tenant, id, reason, older_than: None };
    let (depth, found) = app.queues.dead(queue, letters, from, limit).await.map_err(failed)?;
    let found: Vec<Value> = found.into_iter().map(|found| letter(queue, found)).collect();
    Ok(Reply(json!({ "queue_key": key(queue), "depth": depth, "items": found })))
}

/// POST /admin/queues/{queue}/dead/replay.
pub(super) async fn replay(
    State(app): State<App>,
    Who(caller): Who,
    Path(name): Path<String>,
    JsonBody(ReplayRequest { tenant_id, id, reason }): JsonBody<ReplayRequest>,
) -> Result<Reply<Value>, ApiError> {
    let tenant = app.operated(&caller, tenant_id.as_deref())?;
    let queue = queues::find(&name).map_err(failed)?;
    let letters = Letters { tenant, id, reason, older_than: None };
    let done = app.queues.replay(queue, letters, actor(&caller)).await.map_err(failed)?;
    let Replayed { replayed, superseded } = done;
    Ok(Reply(json!({ "replayed": replayed, "superseded": superseded })))
}

/// DELETE /admin/queues/{queue}/dead.
pub(super) async fn clear(
    State(app): State<App>,
    Who(caller): Who,
    Path(name): Path<String>,
    Params(ClearQuery { tenant_id, id, reason, older_than, keep }): Params<ClearQuery>,
) -> Result<Reply<Value>, ApiError> {
    let tenant = app.operated(&caller, tenant_id.as_deref())?;
    let queue = queues::find(&name).map_err(failed)?;
    let letters = Letters { tenant, id, reason, older_than };
    let done = app.queues.clear(queue, letters, keep, actor(&caller)).await.map_err(failed)?;
    Ok(Reply(purged(done)))
}

pub(super) fn purged(done: Purged) -> Value {
    let Purged { purged, remaining } = done;
    json!({ "purged": purged, "remaining": remaining })
}

/// The name that scripts know a queue by.
fn key(queue: &Managed) -> String {
    format!("{}:queue", queue.def.name)
}

fn whole(queue: &Managed, stats: &QueueStats, now: UnixMicros) -> Map<String, Value> {
    let QueueStats { depths, oldest: _, paused, evicted } = stats;
    let members = [
        ("queue", queue.def.name.into()),
        ("paused", (*paused).into()),
        ("depths", json!(depths)),
        ("oldest_age_seconds", oldest_age(stats, now)),
        ("evicted", (*evicted).into()),
    ];
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Null if nothing is live.
fn oldest_age(stats: &QueueStats, now: UnixMicros) -> Value {
    stats.oldest.map(|oldest| now.since(oldest).as_secs_f64()).into()
}

fn item(queue: &Managed, tenant: &TenantId, found: Peeked) -> Value {
    let Peeked { id, key, payload, state, attempts, enqueued_at, run_at, held, error } = found;
    json!({
        "id": id,
        "tenant_id": tenant.as_str(),
        "key": key,
        "state": state.as_str(),
        "attempts": attempts,
        "enqueued_at": iso(enqueued_at.get()),
        "run_at": run_at.map(|at| iso(at.get())),
        "held": held,
        "error": error,
        "item": (queue.item)(&payload),
    })
}

fn letter(queue: &Managed, found: DeadJob) -> Value {
    let DeadJob {
        id,
        tenant,
        key,
        payload,
        attempts,
        reason,
        error,
        enqueued_at,
        first_failed_at,
        died_at,
    } = found;
    json!({
        "id": id,
        "tenant_id": tenant.as_str(),
        "key": key,
        "state": "dead",
        "attempts": attempts,
        "reason": reason.as_str(),
        "error": error,
        "enqueued_at": iso(enqueued_at.get()),
        "first_failed_at": first_failed_at.map(|at| iso(at.get())),
        "died_at": iso(died_at.get()),
        "item": (queue.item)(&payload),
    })
}

pub(super) fn failed(error: Error) -> ApiError {
    match error {
        Error::NotFound => ApiError::not_found(error.to_string()),
        Error::Storage(inside) => of_graph(graph::Error::from(inside), None),
        Error::Interrupted => of_graph(graph::Error::Interrupted, None),
    }
}
