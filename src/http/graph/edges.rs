//! Edges, and what lies at their far ends.

use activekg_storage::ids::NodeId;
use axum::extract::{Path, State};

use super::access::Who;
use super::failure::of_graph;
use super::wire::edge::{AncestorView, EdgeCreate, EdgeCreated, EventList, EventView, Lineage};
use super::wire::query::{EventsQuery, LineageQuery};
use crate::app::App;
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::NamedOrDefault;
use crate::graph::{Ancestor, Event, EventQuery, NewEdge};
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Params, Reply};
use crate::timestamp::iso;

/// POST /edges.
pub(super) async fn create(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(body): JsonBody<EdgeCreate>,
) -> Result<Reply<EdgeCreated>, ApiError> {
    let EdgeCreate { src, rel, dst, props, tenant_id } = body;
    let view = app.view(&caller, Access::Write, tenant_id.as_deref(), NamedOrDefault)?;
    let (from, to) = (NodeId::from_uuid(src), NodeId::from_uuid(dst));
    let edge = NewEdge { src: from, rel: rel.clone(), dst: to, props };
    let connected = app.graph.connect(&view, edge).await;
    connected.map_err(|error| of_graph(error, Some("Edge creation failed")))?;
    Ok(Reply(EdgeCreated { status: "created", src, rel, dst }))
}

/// GET /lineage/{id}.
pub(super) async fn lineage(
    State(app): State<App>,
    Who(caller): Who,
    Path(id): Path<String>,
    Params(query): Params<LineageQuery>,
) -> Result<Reply<Lineage>, ApiError> {
    let view = app.view(&caller, Access::Read, query.tenant_id.as_deref(), NamedOrDefault)?;
    let ancestors = match id.parse::<NodeId>() {
        Ok(id) => app.graph.lineage(&view, id, query.max_depth).await,
        Err(_) => Ok(Vec::new()),
    };
    let ancestors = ancestors.map_err(|error| of_graph(error, Some("Lineage retrieval failed")))?;
    let ancestors: Vec<_> = ancestors.into_iter().map(ancestor_view).collect();
    Ok(Reply(Lineage { node_id: id, depth: ancestors.len(), ancestors }))
}

/// GET /events.
pub(super) async fn events(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<EventsQuery>,
) -> Result<Reply<EventList>, ApiError> {
    let EventsQuery { node_id, event_type, limit, tenant_id } = query;
    let view = app.view(&caller, Access::Read, tenant_id.as_deref(), NamedOrDefault)?;
    let node = node_id.map(|id| id.parse::<NodeId>()).transpose();
    let events = match node {
        Ok(node) => app.graph.events(&view, EventQuery { node, kind: event_type, limit }).await,
        Err(_) => Ok(Vec::new()), // what is no id has no events
    };
    let events = events.map_err(|error| of_graph(error, Some("Event listing failed")))?;
    let events: Vec<_> = events.into_iter().map(event_view).collect();
    Ok(Reply(EventList { count: events.len(), events }))
}

fn ancestor_view(ancestor: Ancestor) -> AncestorView {
    let Ancestor { id, depth, edge_props, classes, props, created_at } = ancestor;
    let created_at = iso(created_at.get());
    AncestorView { id: id.as_uuid(), depth, edge_props, classes, props, created_at }
}

fn event_view(event: Event) -> EventView {
    let Event { id, node, kind, payload, actor_id, actor_type, created_at } = event;
    let (node_id, created_at) = (Some(node.as_uuid()), iso(created_at.get()));
    EventView { id: id.as_uuid(), node_id, kind, payload, created_at, actor_id, actor_type }
}
