//! The audit trail, for who answers for the data it is about.

use axum::extract::State;

use super::access::Who;
use super::failure::of_graph;
use super::operator::{before, tenant};
use super::wire::audit::{AuditList, AuditQuery};
use crate::app::App;
use crate::audit::{self, Wanted};
use crate::graph;
use crate::http::error::ApiError;
use crate::http::extract::{Params, Reply};

/// GET /_admin/audit.
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<AuditQuery>,
) -> Result<Reply<AuditList>, ApiError> {
    let AuditQuery { tenant_id, actor, action, within, before: older, limit } = query;
    let tenant = tenant(&app, &caller, tenant_id.as_deref())?;
    let since = within.map(|within| before(app.clock.now(), within));
    let wanted = Wanted { tenant, actor, action, since };
    let store = app.graph.store().clone();
    let read = move || audit::entries(&store, &wanted, older, limit);
    let found = tokio::task::spawn_blocking(read).await.map_err(ApiError::unhandled)?;
    let found = found.map_err(|error| of_graph(graph::Error::from(error), None))?;
    Ok(Reply(AuditList::new(found)))
}
