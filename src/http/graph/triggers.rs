//! Patterns that nodes listen for.

use axum::extract::{Path, State};

use super::access::Who;
use super::failure::of_graph;
use super::wire::query::TenantQuery;
use super::wire::trigger::{
    Pattern, PatternCreate, PatternDeleted, PatternList, PatternRegistered, PatternView,
};
use crate::app::App;
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::NamedOrDefault;
use crate::graph::{self, MadeVector, NewPattern};
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Params, Reply};
use crate::timestamp::iso;

const REGISTRATION: Option<&str> = Some("Pattern registration failed");

/// POST /triggers.
pub(super) async fn register(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(body): JsonBody<PatternCreate>,
) -> Result<Reply<PatternRegistered>, ApiError> {
    let PatternCreate { pattern, tenant_id } = body;
    let view = app.view(&caller, Access::Write, tenant_id.as_deref(), NamedOrDefault)?;
    let Some(Pattern { name, example_text, description }) = pattern else {
        return Err(ApiError::bad_request("Missing required fields: name, example_text"));
    };
    let embedder = app.embedder.fixed();
    let made = embedder.batch(view.tenant(), vec![example_text.clone()]).await;
    let failed = |error| ApiError::internal("Pattern registration failed", error);
    let values = made.map_err(failed)?.pop().unwrap_or_default();
    let vector = MadeVector { model: embedder.model().name.clone(), values };
    let new = NewPattern { name: name.clone(), example_text, description: description.clone() };
    let registered = app.graph.register_pattern(&view, new, vector).await;
    registered.map_err(|error| of_graph(error, REGISTRATION))?;
    Ok(Reply(PatternRegistered { status: "registered", name, description }))
}

/// GET /triggers.
pub(super) async fn list(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<TenantQuery>,
) -> Result<Reply<PatternList>, ApiError> {
    let view = app.view(&caller, Access::Read, query.tenant_id.as_deref(), NamedOrDefault)?;
    let patterns = app.graph.patterns(&view).await;
    let patterns = patterns.map_err(|error| of_graph(error, Some("Pattern listing failed")))?;
    let patterns: Vec<_> = patterns.into_iter().map(pattern_view).collect();
    Ok(Reply(PatternList { count: patterns.len(), patterns }))
}

/// DELETE /triggers/{name}. A name may hold slashes, escaped.
pub(super) async fn delete(
    State(app): State<App>,
    Who(caller): Who,
    Path(name): Path<String>,
    Params(query): Params<TenantQuery>,
) -> Result<Reply<PatternDeleted>, ApiError> {
    let view = app.view(&caller, Access::Write, query.tenant_id.as_deref(), NamedOrDefault)?;
    let deleted = app.graph.remove_pattern(&view, name.clone()).await;
    deleted.map_err(|error| of_graph(error, Some("Pattern deletion failed")))?;
    Ok(Reply(PatternDeleted { status: "deleted", name }))
}

fn pattern_view(pattern: graph::Pattern) -> PatternView {
    let graph::Pattern { name, description, created_at, updated_at } = pattern;
    let (created_at, updated_at) = (iso(created_at.get()), iso(updated_at.get()));
    PatternView { name, description, created_at, updated_at }
}
