//! What is asked about the neighbourhood of nodes: neighbours, paths, parts of the graph.

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::tenant;
use crate::graph::{Along, Direction, Expansion};
use crate::http::extract::{Input, Query};
use crate::http::validate::{At, Checked};

/// Relations, or classes, that one request names.
const NAMES_MAX: usize = 50;
/// Nodes or edges of one answer at most; more is read as this.
const LIMIT_MAX: usize = 1000;
/// Edges of a walk at most.
const DEPTH_MAX: i64 = 10;
/// Edges from a hit of a search at most.
const EXPAND_DEPTH_MAX: i64 = 3;
/// Nodes reached from one hit at most.
const EXPAND_LIMIT_MAX: i64 = 100;

/// Names of the directions in requests.
const DIRECTIONS: [(&str, Direction); 3] =
    [("out", Direction::Out), ("in", Direction::In), ("both", Direction::Both)];

/// Query of GET /graph/neighbors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NeighborsQuery {
    /// The node, as it was written.
    pub id: String,
    /// Which edges.
    pub along: Along,
    /// Classes of which a neighbour has one; empty = any.
    pub classes: Vec<String>,
    /// 0 to 1000, default 100.
    pub limit: usize,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Query for NeighborsQuery {
    fn parse(query: &Value) -> Checked<Self> {
        Self::check(At::query(query), names)
    }
}

/// The same as a body, in which names stand in lists.
impl Input for NeighborsQuery {
    fn parse(body: &Value) -> Checked<Self> {
        Self::check(At::body(body), |at| at.list_of(0, NAMES_MAX, |at| at.string()))
    }
}

impl NeighborsQuery {
    fn check(at: At<'_>, names: fn(At<'_>) -> Checked<Vec<String>>) -> Checked<Self> {
        let mut fields = at.fields()?.with_null_for_missing();
        let id = fields.required("id", |at| at.string());
        let rels = fields.optional("rel", Vec::new(), names);
        let classes = fields.optional("classes", Vec::new(), names);
        let direction = fields.optional("direction", Direction::Both, direction);
        let limit = fields.optional("limit", 100, |at| at.count(LIMIT_MAX));
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.finish()?;
        Ok(Self { id, along: Along::new(direction, rels), classes, limit, tenant_id })
    }
}

/// Query of GET /graph/path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathQuery {
    /// Where it starts, as it was written.
    pub from: String,
    /// Where it ends, as it was written.
    pub to: String,
    /// Which edges.
    pub along: Along,
    /// 1 to 10, default 6.
    pub max_depth: u32,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Query for PathQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?.with_null_for_missing();
        let from = fields.required("from", |at| at.string());
        let to = fields.required("to", |at| at.string());
        let rels = fields.optional("rel", Vec::new(), names);
        let direction = fields.optional("direction", Direction::Both, direction);
        let max_depth = fields.optional("max_depth", 6, |at| depth(at, DEPTH_MAX));
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.finish()?;
        Ok(Self { from, to, along: Along::new(direction, rels), max_depth, tenant_id })
    }
}

/// Query of GET /graph/subgraph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubgraphQuery {
    /// The node, as it was written.
    pub id: String,
    /// Which edges.
    pub along: Along,
    /// Classes of which a node has one to be walked through; empty = any.
    pub classes: Vec<String>,
    /// 1 to 10, default 2.
    pub depth: u32,
    /// 0 to 1000, default 100.
    pub limit: usize,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

impl Query for SubgraphQuery {
    fn parse(query: &Value) -> Checked<Self> {
        let mut fields = At::query(query).fields()?.with_null_for_missing();
        let id = fields.required("id", |at| at.string());
        let depth = fields.optional("depth", 2, |at| depth(at, DEPTH_MAX));
        let rels = fields.optional("rel", Vec::new(), names);
        let classes = fields.optional("classes", Vec::new(), names);
        let direction = fields.optional("direction", Direction::Both, direction);
        let limit = fields.optional("limit", 100, |at| at.count(LIMIT_MAX));
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.finish()?;
        Ok(Self { id, along: Along::new(direction, rels), classes, depth, limit, tenant_id })
    }
}

/// The member `expand` of a search: how far to go from each hit. It is checked strictly, as
/// clients that know it are new.
pub(super) fn expansion(at: At<'_>) -> Checked<Expansion> {
    const KNOWN: [&str; 4] = ["rel", "direction", "depth", "limit"];
    let mut fields = at.fields()?;
    for name in at.value.as_object().into_iter().flatten().map(|(name, _)| name) {
        if !KNOWN.contains(&name.as_str())
            && let Some(Err(faults)) = at.member(name, |at| {
                at.fault::<()>("extra_forbidden", "Extra inputs are not permitted")
            })
        {
            return Err(faults);
        }
    }
    let rels = |at: At<'_>| at.list_of(0, NAMES_MAX, |at| at.string_of(1, 100));
    let rels = fields.optional("rel", Vec::new(), rels);
    let direction = fields.optional("direction", Direction::Both, direction);
    let depth = fields.optional("depth", 1, |at| depth(at, EXPAND_DEPTH_MAX));
    let limit = fields.optional("limit", 10, |at| at.int_in(1, EXPAND_LIMIT_MAX));
    fields.finish()?;
    let limit = usize::try_from(limit).unwrap_or(1);
    Ok(Expansion { along: Along::new(direction, rels), depth, limit })
}

/// Words between commas.
fn names(at: At<'_>) -> Checked<Vec<String>> {
    let text = at.string()?;
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let names: Vec<String> = names.map(str::to_owned).collect();
    if names.len() > NAMES_MAX {
        return at.value_error(&format!("At most {NAMES_MAX} names can be given"));
    }
    Ok(names)
}

fn direction(at: At<'_>) -> Checked<Direction> {
    at.one_of(&DIRECTIONS)
}

fn depth(at: At<'_>, max: i64) -> Checked<u32> {
    at.int_in(1, max).map(|depth| u32::try_from(depth).unwrap_or(1))
}

/// Answer of GET /graph/neighbors.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NeighborList {
    /// The node that was asked for.
    pub node_id: Uuid,
    /// By relation, node and direction.
    pub neighbors: Vec<NeighborView>,
    /// How many.
    pub count: usize,
    /// There are more, or may be.
    pub truncated: bool,
}

/// An edge and the node at its other end.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NeighborView {
    /// The node.
    pub id: Uuid,
    /// What the edge means.
    pub rel: String,
    /// `out` if it starts at the node asked for, `in` if it ends there.
    pub direction: &'static str,
    /// Properties of the edge.
    pub edge_props: Map<String, Value>,
    /// Labels of the node.
    pub classes: Vec<String>,
    /// Its properties.
    pub props: Map<String, Value>,
    /// When it was created.
    pub created_at: String,
}

/// Answer of GET /graph/path.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PathView {
    /// Where it starts.
    pub from: Uuid,
    /// Where it ends.
    pub to: Uuid,
    /// Whether there is a path within the bounds.
    pub found: bool,
    /// Its edges; null without a path.
    pub length: Option<usize>,
    /// Node, edge, node, and so on; empty without a path.
    pub path: Vec<PathPiece>,
    /// The search gave up before it had seen everything within `max_depth`.
    pub truncated: bool,
}

/// A node or an edge of a path.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum PathPiece {
    /// A node.
    Node {
        /// Its id.
        id: Uuid,
        /// Labels.
        classes: Vec<String>,
        /// Its properties.
        props: Map<String, Value>,
        /// When it was created.
        created_at: String,
    },
    /// An edge, as it was written; the path may go against it.
    Edge(EdgeView),
}

/// An edge.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EdgeView {
    /// Where it starts.
    pub src: Uuid,
    /// What it means.
    pub rel: String,
    /// Where it ends.
    pub dst: Uuid,
    /// Its properties.
    pub props: Map<String, Value>,
}

/// Answer of GET /graph/subgraph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SubgraphView {
    /// The node that was asked for, then the others, nearest first.
    pub nodes: Vec<SubgraphNode>,
    /// Every edge between two of them.
    pub edges: Vec<EdgeView>,
    /// There is more, or may be.
    pub truncated: bool,
}

/// A node of a part of the graph.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SubgraphNode {
    /// Its id.
    pub id: Uuid,
    /// Edges from the node that was asked for.
    pub depth: u32,
    /// Labels.
    pub classes: Vec<String>,
    /// Its properties.
    pub props: Map<String, Value>,
    /// When it was created.
    pub created_at: String,
}

/// A node reached from a hit.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExpandedNode {
    /// Its id.
    pub id: Uuid,
    /// What the last edge on the way to it means.
    pub rel: String,
    /// `out` if that edge leads to the node, `in` if it leads away from it.
    pub direction: &'static str,
    /// Edges from the hit.
    pub depth: u32,
    /// Labels.
    pub classes: Vec<String>,
    /// Its properties.
    pub props: Map<String, Value>,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn faults<T: std::fmt::Debug>(checked: Checked<T>) -> Vec<Value> {
        checked.expect_err("faults").iter().map(|item| item.to_value()["loc"].clone()).collect()
    }

    #[test]
    fn names_stand_between_commas() {
        let query = json!({ "id": "x", "rel": " B,A,,B ", "direction": "in", "limit": "5000" });
        let query = <NeighborsQuery as Query>::parse(&query).expect("a query");
        let rels = vec!["A".to_owned(), "B".to_owned()];
        assert_eq!(query.along, Along::new(Direction::In, rels));
        assert_eq!(query.limit, 1000, "read as the cap");
        let all =
            <NeighborsQuery as Query>::parse(&json!({ "id": "x", "rel": "" })).expect("a query");
        assert_eq!((all.along, all.limit), (Along::new(Direction::Both, Vec::new()), 100));
    }

    #[test]
    fn every_fault_of_a_query_is_reported() {
        let query = json!({ "direction": "up", "depth": "11", "limit": "-1" });
        let places = [json!(["query", "id"]), json!(["query", "depth"])];
        assert_eq!(faults(SubgraphQuery::parse(&query))[..2], places);
        assert_eq!(faults(SubgraphQuery::parse(&query)).len(), 4);
        let query = json!({ "from": "x", "max_depth": "0" });
        let places = [json!(["query", "to"]), json!(["query", "max_depth"])];
        assert_eq!(faults(PathQuery::parse(&query)), places);
        let many = vec!["R"; NAMES_MAX + 1].join(",");
        assert_eq!(
            faults(<NeighborsQuery as Query>::parse(&json!({ "id": "x", "rel": many }))).len(),
            1
        );
    }

    #[test]
    fn an_expansion_has_no_members_but_its_own() {
        let read = |value: Value| expansion(At::body(&value));
        let plain = read(json!({})).expect("an expansion");
        assert_eq!((plain.depth, plain.limit), (1, 10));
        assert_eq!(plain.along, Along::new(Direction::Both, Vec::new()));
        for bad in [
            json!({ "rels": ["R"] }),
            json!({ "rel": "R" }),
            json!({ "rel": [""] }),
            json!({ "depth": 4 }),
            json!({ "depth": 0 }),
            json!({ "limit": 101 }),
            json!({ "direction": "up" }),
            json!([]),
        ] {
            assert!(read(bad.clone()).is_err(), "{bad}");
        }
    }
}
