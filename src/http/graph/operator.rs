//! What an operator looks at: the settings, and what came and went.

use std::time::Duration;

use activekg_storage::ids::TenantId;
use activekg_storage::time::UnixMicros;
use axum::extract::State;
use serde_json::{Value, json};

use super::access::Who;
use super::failure::of_graph;
use super::wire::operator::{DeletedQuery, IngestQuery};
use crate::app::App;
use crate::auth::tenancy::OpenTenant;
use crate::auth::{Access, Caller};
use crate::graph::{Came, Kept};
use crate::http::error::ApiError;
use crate::http::extract::{Params, Reply};
use crate::timestamp::iso;

const HOUR: Duration = Duration::from_secs(3600);

/// GET /_admin/config: the settings that were given.
pub(super) async fn config(
    State(app): State<App>,
    Who(caller): Who,
) -> Result<Reply<Value>, ApiError> {
    app.view(&caller, Access::Operate, None, OpenTenant::Default)?;
    Ok(Reply(json!({
        "settings": app.config.shown,
        "data_dir": app.config.store.data_dir,
        "version": app.config.server.version,
    })))
}

/// GET /_admin/stats/ingest: nodes that came, by the hour.
pub(super) async fn ingest(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<IngestQuery>,
) -> Result<Reply<Value>, ApiError> {
    let IngestQuery { tenant_id, hours } = query;
    let tenant = tenant(&app, &caller, tenant_id.as_deref())?;
    let since = before(app.clock.now(), HOUR * hours);
    let came = app.graph.came(tenant.clone(), since).await;
    let came = came.map_err(|error| of_graph(error, None))?;
    let hour = |(at, came): (UnixMicros, Came)| json!({ "hour": iso(at.get()), "documents": came.documents, "chunks": came.chunks });
    Ok(Reply(json!({
        "tenant_id": tenant.as_ref().map(TenantId::as_str),
        "hours": hours,
        "ingested": came.into_iter().map(hour).collect::<Vec<_>>(),
    })))
}

/// GET /_admin/stats/deleted: deleted nodes that are kept.
pub(super) async fn deleted(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<DeletedQuery>,
) -> Result<Reply<Value>, ApiError> {
    let DeletedQuery { tenant_id, older_than } = query;
    let tenant = tenant(&app, &caller, tenant_id.as_deref())?;
    let since = before(app.clock.now(), older_than);
    let kept = app.graph.kept(tenant.clone(), since).await;
    let Kept { deleted, older, due, without_grace } =
        kept.map_err(|error| of_graph(error, None))?;
    Ok(Reply(json!({
        "tenant_id": tenant.as_ref().map(TenantId::as_str),
        "deleted": deleted,
        "older": older,
        "due": due,
        "without_grace": without_grace,
    })))
}

/// The tenant that is named, else all that the caller answers for.
pub(super) fn tenant(
    app: &App,
    caller: &Caller,
    named: Option<&str>,
) -> Result<Option<TenantId>, ApiError> {
    // Says in the words of this surface which scope it takes.
    app.view(caller, Access::Admin, None, OpenTenant::Default)?;
    match named {
        Some(name) => app.administered(caller, Some(name)).map(Some),
        None => app.listed(caller),
    }
}

/// The instant so long before `now`.
pub(super) fn before(now: UnixMicros, age: Duration) -> UnixMicros {
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    UnixMicros(now.get().saturating_sub(micros))
}
