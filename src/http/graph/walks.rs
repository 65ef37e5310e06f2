//! Reading the graph as a graph: neighbours, paths, parts.

use activekg_storage::ids::NodeId;
use axum::extract::State;

use super::access::Who;
use super::failure::of_graph;
use super::nodes::node_id;
use super::wire::walk::{
    EdgeView, ExpandedNode, NeighborList, NeighborView, NeighborsQuery, PathPiece, PathQuery,
    PathView, SubgraphNode, SubgraphQuery, SubgraphView,
};
use crate::app::App;
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::NamedOrDefault;
use crate::graph::{
    Around, EdgeBetween, Leg, Neighbor, Neighbors, Path, Place, Reached, Subgraph, Way,
};
use crate::http::error::ApiError;
use crate::http::extract::{Params, Reply};
use crate::timestamp::iso;

/// What a client reads of a failure inside.
const FAILED: Option<&str> = Some("Graph traversal failed");

/// GET /graph/neighbors.
pub(super) async fn neighbors(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<NeighborsQuery>,
) -> Result<Reply<NeighborList>, ApiError> {
    let NeighborsQuery { id, along, classes, limit, tenant_id } = query;
    let view = app.view(&caller, Access::Read, tenant_id.as_deref(), NamedOrDefault)?;
    let id = node_id(&id)?;
    let found = app.graph.neighbors(&view, id, along, classes, limit).await;
    let Neighbors { neighbors, truncated } = found.map_err(|error| of_graph(error, FAILED))?;
    let neighbors: Vec<_> = neighbors.into_iter().map(neighbor_view).collect();
    Ok(Reply(NeighborList { node_id: id.as_uuid(), count: neighbors.len(), neighbors, truncated }))
}

/// GET /graph/path.
pub(super) async fn path(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<PathQuery>,
) -> Result<Reply<PathView>, ApiError> {
    let PathQuery { from, to, along, max_depth, tenant_id } = query;
    let view = app.view(&caller, Access::Read, tenant_id.as_deref(), NamedOrDefault)?;
    let (from, to) = (node_id(&from)?, node_id(&to)?);
    let found = app.graph.path(&view, from, to, along, max_depth).await;
    Ok(Reply(path_view(from, to, found.map_err(|error| of_graph(error, FAILED))?)))
}

/// GET /graph/subgraph.
pub(super) async fn subgraph(
    State(app): State<App>,
    Who(caller): Who,
    Params(query): Params<SubgraphQuery>,
) -> Result<Reply<SubgraphView>, ApiError> {
    let SubgraphQuery { id, along, classes, depth, limit, tenant_id } = query;
    let view = app.view(&caller, Access::Read, tenant_id.as_deref(), NamedOrDefault)?;
    let part = Around { along, depth, classes, limit };
    let found = app.graph.subgraph(&view, node_id(&id)?, part).await;
    let Subgraph { nodes, edges, truncated } = found.map_err(|error| of_graph(error, FAILED))?;
    let nodes = nodes.into_iter().map(subgraph_node).collect();
    let edges = edges.into_iter().map(edge_view).collect();
    Ok(Reply(SubgraphView { nodes, edges, truncated }))
}

/// A node reached from a hit of a search; nothing for the hit itself.
pub(super) fn expanded_node(reached: Reached) -> Option<ExpandedNode> {
    let Reached { id, depth, by, classes, props, created_at: _ } = reached;
    let (rel, way) = by?;
    Some(ExpandedNode { id: id.as_uuid(), rel, direction: name(way), depth, classes, props })
}

fn name(way: Way) -> &'static str {
    match way {
        Way::Out => "out",
        Way::In => "in",
    }
}

fn neighbor_view(neighbor: Neighbor) -> NeighborView {
    let Neighbor { id, rel, way, edge_props, classes, props, created_at } = neighbor;
    let (id, direction, created_at) = (id.as_uuid(), name(way), iso(created_at.get()));
    NeighborView { id, rel, direction, edge_props, classes, props, created_at }
}

fn path_view(from: NodeId, to: NodeId, path: Path) -> PathView {
    let Path { places, legs, truncated } = path;
    let length = (!places.is_empty()).then_some(legs.len());
    let mut legs = legs.into_iter();
    let mut path = Vec::new();
    for Place { id, classes, props, created_at } in places {
        let created_at = iso(created_at.get());
        path.push(PathPiece::Node { id: id.as_uuid(), classes, props, created_at });
        let leg = legs.next().map(|Leg { src, rel, dst, props }| EdgeView {
            src: src.as_uuid(),
            rel,
            dst: dst.as_uuid(),
            props,
        });
        path.extend(leg.map(PathPiece::Edge));
    }
    let (from, to) = (from.as_uuid(), to.as_uuid());
    PathView { from, to, found: length.is_some(), length, path, truncated }
}

fn subgraph_node(reached: Reached) -> SubgraphNode {
    let Reached { id, depth, by: _, classes, props, created_at } = reached;
    SubgraphNode { id: id.as_uuid(), depth, classes, props, created_at: iso(created_at.get()) }
}

fn edge_view(edge: EdgeBetween) -> EdgeView {
    let EdgeBetween { src, rel, dst, props } = edge;
    EdgeView { src: src.as_uuid(), rel, dst: dst.as_uuid(), props }
}
