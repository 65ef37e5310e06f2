//! What lies around a node.

use std::collections::HashSet;

use activekg_storage::ids::NodeId;
use activekg_storage::tables::graph::NodeRecord;
use activekg_storage::time::UnixMicros;

use super::{Along, Direction, EDGES_LOOKED_AT_MAX, Room, Step, Trail, Verdict, Walker, Way};
use crate::graph::node::{Object, object};
use crate::graph::{Error, Graph, View};

/// Edges in a part of the graph at most.
const EDGES_MAX: usize = 10_000;

/// An edge of a node, and what is at its other end.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbor {
    /// The node at the other end.
    pub id: NodeId,
    /// What the edge means.
    pub rel: String,
    /// How the edge lies.
    pub way: Way,
    /// Properties of the edge.
    pub edge_props: Object,
    /// Labels of the node.
    pub classes: Vec<String>,
    /// Its properties.
    pub props: Object,
    /// When it was created.
    pub created_at: UnixMicros,
}

/// The edges of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Neighbors {
    /// By relation, node and way.
    pub neighbors: Vec<Neighbor>,
    /// There are more, or may be.
    pub truncated: bool,
}

/// Which part of the graph around a node is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Around {
    /// Which edges are followed.
    pub along: Along,
    /// How many of them, one after the other.
    pub depth: u32,
    /// Classes of which a node has one to be entered; empty = any. The start needs none.
    pub classes: Vec<String>,
    /// Most nodes, the start included.
    pub limit: usize,
}

/// A node that a walk reached.
#[derive(Debug, Clone, PartialEq)]
pub struct Reached {
    /// Its id.
    pub id: NodeId,
    /// Edges from the start; the shortest way counts.
    pub depth: u32,
    /// Relation and way of the last edge of that way; none at the start.
    pub by: Option<(String, Way)>,
    /// Its labels.
    pub classes: Vec<String>,
    /// Its properties.
    pub props: Object,
    /// When it was created.
    pub created_at: UnixMicros,
}

/// An edge between two nodes that a walk reached.
#[derive(Debug, Clone, PartialEq)]
pub struct EdgeBetween {
    /// Where it starts.
    pub src: NodeId,
    /// What it means.
    pub rel: String,
    /// Where it ends.
    pub dst: NodeId,
    /// Its properties.
    pub props: Object,
}

/// A part of the graph.
#[derive(Debug, Clone, PartialEq)]
pub struct Subgraph {
    /// The start, then what was reached, in the order of the walk.
    pub nodes: Vec<Reached>,
    /// Every edge of the wanted relations between two of them.
    pub edges: Vec<EdgeBetween>,
    /// There is more, or may be.
    pub truncated: bool,
}

/// How far to go from each of several nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expansion {
    /// Which edges are followed.
    pub along: Along,
    /// How many of them, one after the other.
    pub depth: u32,
    /// Most nodes for each.
    pub limit: usize,
}

/// What was reached from one of several nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct Expanded {
    /// In the order of the walk, without the start.
    pub nodes: Vec<Reached>,
    /// There is more, or may be.
    pub truncated: bool,
}

impl Graph {
    /// The edges at `id`, each with the node at its other end: at most `limit` of those whose node
    /// has one of `classes` (empty = any).
    ///
    /// # Errors
    ///
    /// [`Error::NodeNotFound`], the store's own.
    pub async fn neighbors(
        &self,
        view: &View,
        id: NodeId,
        along: Along,
        classes: Vec<String>,
        limit: usize,
    ) -> Result<Neighbors, Error> {
        let owners = view.owners();
        self.reading(move |tx| {
            let walker = Walker::new(tx, &owners, &along);
            walker.node(id)?;
            let (mut neighbors, mut room) = (Vec::new(), Room::new());
            for (looked_at, hop) in walker.hops(id)?.enumerate() {
                let hop = hop?;
                if looked_at == EDGES_LOOKED_AT_MAX {
                    return Ok(Neighbors { neighbors, truncated: true });
                }
                let node = walker.alive(hop.to)?.filter(|node| is_one(node, &classes));
                let Some(record) = node else { continue };
                if neighbors.len() == limit || !room.take(record.props.as_str().len()) {
                    return Ok(Neighbors { neighbors, truncated: true });
                }
                neighbors.push(Neighbor {
                    id: hop.to,
                    edge_props: hop.props(tx, id)?,
                    rel: hop.rel,
                    way: hop.way,
                    props: object(&record.props)?,
                    classes: record.classes,
                    created_at: record.created_at,
                });
            }
            Ok(Neighbors { neighbors, truncated: false })
        })
        .await
    }

    /// The part of the graph around `id`.
    ///
    /// # Errors
    ///
    /// [`Error::NodeNotFound`], the store's own.
    pub async fn subgraph(&self, view: &View, id: NodeId, part: Around) -> Result<Subgraph, Error> {
        let owners = view.owners();
        self.reading(move |tx| {
            let Around { along, depth, classes, limit } = part;
            let mut walker = Walker::new(tx, &owners, &along);
            let start = walker.node(id)?;
            if limit == 0 {
                return Ok(Subgraph { nodes: Vec::new(), edges: Vec::new(), truncated: true });
            }
            let mut room = Room::new();
            room.take(start.props.as_str().len());
            let mut nodes = vec![reached(&Step { id, depth: 0, by: None }, start)?];
            let trail = walker.walk(id, depth, |step, record| {
                if !is_one(&record, &classes) {
                    return Ok(Verdict::Pass);
                }
                if nodes.len() == limit || !room.take(record.props.as_str().len()) {
                    return Ok(Verdict::Full);
                }
                nodes.push(reached(step, record)?);
                Ok(Verdict::Enter)
            })?;
            let (edges, cut) = between(&walker, &nodes, &along, room)?;
            Ok(Subgraph { nodes, edges, truncated: trail.cut || cut })
        })
        .await
    }

    /// What is reached from each of `ids`, in their order; nothing from a node that is not there
    /// any more.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn expand(
        &self,
        view: &View,
        ids: Vec<NodeId>,
        expansion: Expansion,
    ) -> Result<Vec<Expanded>, Error> {
        let owners = view.owners();
        self.reading(move |tx| {
            let Expansion { along, depth, limit } = expansion;
            let mut walker = Walker::new(tx, &owners, &along);
            let mut room = Room::new();
            let from = |id| {
                let mut nodes = Vec::new();
                if walker.alive(id)?.is_none() {
                    return Ok(Expanded { nodes, truncated: false });
                }
                let Trail { cut, .. } = walker.walk(id, depth, |step, record| {
                    if nodes.len() == limit || !room.take(record.props.as_str().len()) {
                        return Ok(Verdict::Full);
                    }
                    nodes.push(reached(step, record)?);
                    Ok(Verdict::Enter)
                })?;
                Ok(Expanded { nodes, truncated: cut })
            };
            ids.into_iter().map(from).collect()
        })
        .await
    }
}

/// The edges between `nodes`, by source, relation and target, and whether some are left out.
fn between(
    walker: &Walker<'_>,
    nodes: &[Reached],
    along: &Along,
    mut room: Room,
) -> Result<(Vec<EdgeBetween>, bool), Error> {
    let ids: HashSet<NodeId> = nodes.iter().map(|node| node.id).collect();
    // Every edge is met once when all nodes are asked for those that start there.
    let forwards = Along::new(Direction::Out, along.rels.clone());
    let outward = Walker::new(walker.tx, walker.owners, &forwards);
    let (mut edges, mut looked_at) = (Vec::new(), 0);
    for node in nodes {
        for hop in outward.hops(node.id)? {
            let hop = hop?;
            looked_at += 1;
            if looked_at > EDGES_LOOKED_AT_MAX {
                return Ok((edges, true));
            }
            if !ids.contains(&hop.to) {
                continue;
            }
            let props = hop.props(walker.tx, node.id)?;
            let size = props.iter().map(|(name, value)| name.len() + value.to_string().len()).sum();
            if edges.len() == EDGES_MAX || !room.take(size) {
                return Ok((edges, true));
            }
            edges.push(EdgeBetween { src: node.id, rel: hop.rel, dst: hop.to, props });
        }
    }
    Ok((edges, false))
}

fn is_one(node: &NodeRecord, classes: &[String]) -> bool {
    classes.is_empty() || node.classes.iter().any(|class| classes.contains(class))
}

fn reached(step: &Step, record: NodeRecord) -> Result<Reached, Error> {
    let NodeRecord { classes, props, created_at, .. } = record;
    let by = step.by.as_ref().map(|(_, hop)| (hop.rel.clone(), hop.way));
    let props = object(&props)?;
    Ok(Reached { id: step.id, depth: step.depth, by, classes, props, created_at })
}
