//! What connectors bring in: asking for it, and what waits.

use activekg_storage::ids::TenantId;
use activekg_storage::queue::{End, QueueStats};
use axum::extract::{Path, State};
use serde_json::{Value, json};

use super::super::access::{Who, actor};
use super::super::failure::of_graph;
use super::super::queues::{failed as of_queues, purged};
use super::super::wire::connectors::OwnerQuery;
use super::super::wire::connectors::flow::{
    BackfillRequest, Backfilled, CursorView, DropQuery, IngestRequest, Ingested, PeekQuery,
    QueueStatus,
};
use super::AnyBody;
use crate::app::App;
use crate::auth::Caller;
use crate::auth::tenancy::answers_for_all;
use crate::connectors::{FeedError, NoPlace, Provider, Read, queue};
use crate::graph;
use crate::http::error::{ApiError, ErrorKind};
use crate::http::extract::{Params, Reply};
use crate::queues::{self, Managed, Peek, Waiting};
use crate::timestamp::iso;

/// POST /_admin/connectors/{provider}/ingest.
pub(in crate::http::graph) async fn ingest(
    State(app): State<App>,
    Who(caller): Who,
    Path(provider): Path<String>,
    AnyBody(IngestRequest { tenant_id, asked }): AnyBody<IngestRequest>,
) -> Result<Reply<Ingested>, ApiError> {
    let tenant = app.commanded(&caller, tenant_id.as_deref())?;
    let dry_run = asked.dry_run;
    let fed = app.feed.take(&tenant, &provider, asked).await.map_err(failed)?;
    Ok(Reply(Ingested::new(fed, dry_run, key(&provider, &tenant))))
}

/// POST /_admin/connectors/{provider}/backfill.
pub(in crate::http::graph) async fn backfill(
    State(app): State<App>,
    Who(caller): Who,
    Path(provider): Path<String>,
    AnyBody(BackfillRequest { tenant_id, asked }): AnyBody<BackfillRequest>,
) -> Result<Reply<Backfilled>, ApiError> {
    let tenant = app.administered(&caller, tenant_id.as_deref())?;
    let dry_run = asked.dry_run;
    let fed = app.feed.take(&tenant, &provider, asked).await.map_err(failed)?;
    Ok(Reply(Backfilled::new(fed, dry_run, names(&tenant, provider))))
}

/// GET /_admin/connectors/{provider}/queue-status.
pub(in crate::http::graph) async fn status(
    State(app): State<App>,
    Who(caller): Who,
    Path(provider): Path<String>,
    Params(OwnerQuery { tenant_id }): Params<OwnerQuery>,
) -> Result<Reply<QueueStatus>, ApiError> {
    let tenant = watched(&app, &caller, &tenant_id)?;
    // Scripts ask for any provider, and nothing waits for one that there is not.
    let stats = match managed(&provider) {
        Ok(queue) => app.queues.stats(queue, Some(tenant.clone())).await.map_err(of_queues)?,
        Err(_) => QueueStats::default(),
    };
    Ok(Reply(QueueStatus::new(names(&tenant, provider), &stats, app.clock.now())))
}

/// GET /_admin/connectors/{provider}/queue.
pub(in crate::http::graph) async fn peek(
    State(app): State<App>,
    Who(caller): Who,
    Path(provider): Path<String>,
    Params(PeekQuery { tenant_id, from, limit, reason: _ }): Params<PeekQuery>,
) -> Result<Reply<Value>, ApiError> {
    let tenant = app.commanded(&caller, tenant_id.as_deref())?;
    let managed = managed(&provider)?;
    let from = from.unwrap_or(End::Oldest);
    let found = app.queues.peek(managed, Some(tenant.clone()), from, limit).await;
    let Peek { depth, items } = found.map_err(of_queues)?;
    let items: Vec<Value> = items
        .into_iter()
        .map(|(_, found)| {
            json!({
                "id": found.id,
                "state": found.state.as_str(),
                "attempts": found.attempts,
                "run_at": found.run_at.map(|at| iso(at.get())),
                "held": found.held,
                "error": found.error,
                "item": (managed.item)(&found.payload),
            })
        })
        .collect();
    Ok(Reply(json!({ "queue_key": key(&provider, &tenant), "depth": depth, "items": items })))
}

/// DELETE /_admin/connectors/{provider}/queue.
pub(in crate::http::graph) async fn drop_waiting(
    State(app): State<App>,
    Who(caller): Who,
    Path(provider): Path<String>,
    Params(DropQuery { tenant_id, keep, older_than }): Params<DropQuery>,
) -> Result<Reply<Value>, ApiError> {
    let tenant = app.commanded(&caller, tenant_id.as_deref())?;
    let managed = managed(&provider)?;
    let waiting = Waiting { tenant: Some(tenant), older_than, keep };
    let done = app.queues.purge(managed, waiting, actor(&caller)).await.map_err(of_queues)?;
    Ok(Reply(purged(done)))
}

/// GET /_admin/connectors/{provider}/cursor.
pub(in crate::http::graph) async fn cursor(
    State(app): State<App>,
    Who(caller): Who,
    Path(provider): Path<String>,
    Params(OwnerQuery { tenant_id }): Params<OwnerQuery>,
) -> Result<Reply<CursorView>, ApiError> {
    let tenant = app.administered(&caller, Some(&tenant_id))?;
    let read = app.feed.cursor(&tenant, &provider).await.map_err(failed)?;
    let (cursor, updated_at) = match read {
        Some(Read { cursor, updated_at }) => (Some(cursor), Some(iso(updated_at.get()))),
        None => (None, None),
    };
    let tenant_id = tenant.as_str().to_owned();
    Ok(Reply(CursorView { tenant_id, provider, cursor, updated_at }))
}

/// The tenant whose queue the caller may look at: any, or its own.
fn watched(app: &App, caller: &Caller, named: &str) -> Result<TenantId, ApiError> {
    if answers_for_all(caller) {
        app.commanded(caller, Some(named))
    } else {
        app.administered(caller, Some(named))
    }
}

/// The queue of a provider.
pub(super) fn managed(provider: &str) -> Result<&'static Managed, ApiError> {
    let named = Provider::named(provider).ok_or_else(|| no_provider(provider))?;
    queues::find(queue::def(named).name).map_err(of_queues)
}

fn no_provider(provider: &str) -> ApiError {
    ApiError::bad_request(NoPlace::NotRegistered(provider.to_owned()).to_string())
}

fn key(provider: &str, tenant: &TenantId) -> String {
    format!("connector:{provider}:{tenant}:queue")
}

fn names(tenant: &TenantId, provider: String) -> (String, String, String) {
    let key = key(&provider, tenant);
    (tenant.as_str().to_owned(), provider, key)
}

fn failed(error: FeedError) -> ApiError {
    let text = error.to_string();
    match error {
        FeedError::NoPlace(NoPlace::NotRegistered(_)) | FeedError::Prefix | FeedError::Cursor => {
            ApiError::bad_request(text)
        }
        FeedError::NoPlace(NoPlace::Connector(inside)) => super::failed(inside, super::NOT_READ),
        FeedError::NoPlace(NoPlace::Settings(_)) => ApiError::bad_request(text),
        FeedError::Source { .. } => ApiError::new(ErrorKind::BadGateway, text),
        FeedError::Graph(inside) => of_graph(inside, None),
        FeedError::Storage(inside) => of_graph(graph::Error::from(inside), None),
    }
}
