//! Walks against a model that looks at every edge every time.

use std::collections::{BTreeMap, BTreeSet};

use activekg_storage::tables::graph::{EDGES_IN, EdgeRecord};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Scan, StorageError};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::graph::tests::{Bench, bench, object as props_of, settings};
use crate::graph::{NewNode, View};

/// Whose rows there are, with their nodes: a tenant, another one, and everybody.
const OWNERS: [(&str, usize); 3] = [("a", 4), ("b", 2), ("", 3)];
const RELS: [&str; 2] = ["R", "S"];

fn owner(at: usize) -> TenantId {
    match OWNERS[at].0 {
        "" => TenantId::shared(),
        name => TenantId::new(name).expect("a tenant"),
    }
}

/// An edge to be: owner, source, relation, target, by their numbers.
type Edge = (usize, usize, usize, usize);

/// A store with the same nodes always, and what a model knows of them.
struct World {
    bench: Bench,
    /// Rising.
    ids: Vec<NodeId>,
    owners: BTreeMap<NodeId, TenantId>,
    deleted: BTreeSet<NodeId>,
    marked: BTreeSet<NodeId>,
}

impl World {
    /// Every second node is `Marked`, and the last one of the first tenant and of the shared ones
    /// is soft-deleted.
    async fn new() -> Self {
        let bench = bench(settings());
        let (mut ids, mut owners) = (Vec::new(), BTreeMap::new());
        let (mut deleted, mut marked) = (BTreeSet::new(), BTreeSet::new());
        for (at, (_, n)) in OWNERS.iter().enumerate() {
            for i in 0..*n {
                let class = if i % 2 == 0 { "Marked" } else { "Doc" };
                let new = NewNode {
                    tenant: owner(at),
                    classes: vec![class.to_owned()],
                    props: props_of(json!({ "n": i })),
                    payload_ref: None,
                    metadata: Object::new(),
                    refresh_policy: Object::new(),
                    triggers: Vec::new(),
                };
                let (created, _) = bench.graph.create(new).await.expect("created");
                if i + 1 == *n && at != 1 {
                    let view = View::of(owner(at));
                    bench.graph.delete(&view, created.id).await.expect("deleted");
                    deleted.insert(created.id);
                }
                if class == "Marked" {
                    marked.insert(created.id);
                }
                owners.insert(created.id, owner(at));
                ids.push(created.id);
            }
        }
        ids.sort_unstable();
        Self { bench, ids, owners, deleted, marked }
    }

    /// Makes these the only edges, whoever may not have written them.
    async fn connect(&self, edges: &[Edge]) {
        let ids = self.ids.clone();
        let edges = edges.to_vec();
        let written = self.bench.graph.store().write(move |tx| -> Result<(), StorageError> {
            let old = tx.scan(&EDGES, Scan::all())?.map(|row| row.map(|(key, _)| key));
            for key in old.collect::<Result<Vec<_>, _>>()? {
                let (owner, src, rel, dst) = key.clone();
                tx.remove(&EDGES, &key)?;
                tx.remove(&EDGES_IN, &(owner, dst, rel, src))?;
            }
            for (at, src, rel, dst) in edges {
                let (src, rel, dst) = (ids[src], RELS[rel].to_owned(), ids[dst]);
                let props = super::super::node::json(&props_of(json!({ "by": OWNERS[at].0 })));
                let record = EdgeRecord { props, created_at: UnixMicros(1) };
                tx.put(&EDGES, &(owner(at), src, rel.clone(), dst), &record)?;
                tx.put(&EDGES_IN, &(owner(at), dst, rel, src), &())?;
            }
            Ok(())
        });
        written.await.expect("written");
    }

    /// What the first tenant may follow from `from`, in order.
    fn edges_at(&self, edges: &[Edge], from: NodeId, along: &Along) -> BTreeSet<Seen> {
        let mut seen = BTreeSet::new();
        for (at, src, rel, dst) in edges {
            let (src, dst) = (self.ids[*src], self.ids[*dst]);
            let wanted = along.rels.is_empty() || along.rels.iter().any(|r| r == RELS[*rel]);
            if *at == 1 || !wanted {
                continue;
            }
            let rel = RELS[*rel].to_owned();
            if src == from && along.direction != Direction::In {
                seen.insert((rel.clone(), dst, Way::Out));
            }
            let twice = src == dst && along.direction == Direction::Both;
            if dst == from && along.direction != Direction::Out && !twice {
                seen.insert((rel, src, Way::In));
            }
        }
        seen
    }

    fn visible(&self, id: NodeId) -> bool {
        self.owners[&id] != owner(1)
    }

    fn alive(&self, id: NodeId) -> bool {
        self.visible(id) && !self.deleted.contains(&id)
    }

    /// How far each node is that can be reached, by relaxing all edges again and again.
    fn distances(
        &self,
        edges: &[Edge],
        start: NodeId,
        along: &Along,
        enters: impl Fn(NodeId) -> bool,
    ) -> BTreeMap<NodeId, u32> {
        let mut far = BTreeMap::from([(start, 0)]);
        for _ in 0..self.ids.len() {
            for from in far.clone().into_keys() {
                let next = far[&from] + 1;
                for (_, to, _) in self.edges_at(edges, from, along) {
                    if self.alive(to) && enters(to) && far.get(&to).is_none_or(|far| *far > next) {
                        far.insert(to, next);
                    }
                }
            }
        }
        far
    }

    /// Every way from `from` to `to` of `n` edges.
    fn ways(
        &self,
        edges: &[Edge],
        from: NodeId,
        to: NodeId,
        along: &Along,
        n: u32,
    ) -> BTreeSet<Vec<Seen>> {
        if n == 0 {
            return if from == to { BTreeSet::from([Vec::new()]) } else { BTreeSet::new() };
        }
        let mut ways = BTreeSet::new();
        for hop in self.edges_at(edges, from, along) {
            if self.alive(hop.1) {
                for rest in self.ways(edges, hop.1, to, along, n - 1) {
                    ways.insert([vec![hop.clone()], rest].concat());
                }
            }
        }
        ways
    }
}

/// Relation, far end and way of an edge seen from one end.
type Seen = (String, NodeId, Way);

fn a() -> View {
    View::of(owner(0))
}

fn edges() -> impl Strategy<Value = Vec<Edge>> {
    let n: usize = OWNERS.iter().map(|(_, n)| n).sum();
    prop::collection::btree_set((0..3_usize, 0..n, 0..RELS.len(), 0..n), 0..40)
        .prop_map(|edges| edges.into_iter().collect())
}

fn along() -> impl Strategy<Value = Along> {
    let direction = prop_oneof![Just(Direction::Out), Just(Direction::In), Just(Direction::Both)];
    let rels = prop::sample::subsequence(RELS.map(str::to_owned).to_vec(), 0..=2);
    (direction, rels).prop_map(|(direction, rels)| Along::new(direction, rels))
}

/// Runs `check` on random graphs over the nodes of one world.
fn on_random_graphs<S: Strategy>(
    more: S,
    check: impl AsyncFn(&World, &[Edge], Along, NodeId, S::Value) -> Result<(), TestCaseError>,
) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let world = runtime.block_on(World::new());
    let cases = (edges(), along(), 0..world.ids.len(), more);
    proptest!(ProptestConfig::with_cases(96), |((edges, along, start, more) in cases)| {
        runtime.block_on(async {
            world.connect(&edges).await;
            check(&world, &edges, along, world.ids[start], more).await
        })?;
    });
}

#[test]
fn neighbors_agree_with_the_model() {
    on_random_graphs((any::<bool>(), 0..12_usize), async |world, edges, along, start, more| {
        let (marked, limit) = more;
        let classes = if marked { vec!["Marked".to_owned()] } else { Vec::new() };
        let found = world.bench.graph.neighbors(&a(), start, along.clone(), classes, limit).await;
        if !world.visible(start) {
            prop_assert!(matches!(found, Err(Error::NodeNotFound)));
            return Ok(());
        }
        let found = found.expect("found");
        let expected: Vec<Seen> = world
            .edges_at(edges, start, &along)
            .into_iter()
            .filter(|(_, to, _)| world.alive(*to) && (!marked || world.marked.contains(to)))
            .collect();
        prop_assert_eq!(found.truncated, expected.len() > limit);
        let seen = found.neighbors.iter().map(|n| (n.rel.clone(), n.id, n.way));
        prop_assert_eq!(
            seen.collect::<Vec<_>>(),
            expected.into_iter().take(limit).collect::<Vec<_>>()
        );
        // An edge that both have is shown as the tenant's own.
        for Neighbor { id, rel, way, edge_props, .. } in found.neighbors {
            let (src, dst) = if way == Way::Out { (start, id) } else { (id, start) };
            let own = edges.iter().any(|(at, s, r, d)| {
                *at == 0 && world.ids[*s] == src && RELS[*r] == rel && world.ids[*d] == dst
            });
            prop_assert_eq!(&edge_props["by"], if own { "a" } else { "" });
        }
        Ok(())
    });
}

#[test]
fn a_path_is_the_first_of_the_shortest() {
    on_random_graphs((0..9_usize, 1..5_u32), async |world, edges, along, from, more| {
        let (to, max_depth) = (world.ids[more.0], more.1);
        let found = world.bench.graph.path(&a(), from, to, along.clone(), max_depth).await;
        if !world.visible(from) || !world.visible(to) {
            prop_assert!(matches!(found, Err(Error::NodeNotFound)));
            return Ok(());
        }
        let Path { places, legs, truncated } = found.expect("found");
        prop_assert!(!truncated);
        let shortest =
            (0..=max_depth).find_map(|n| world.ways(edges, from, to, &along, n).into_iter().next());
        let Some(shortest) = shortest else {
            prop_assert_eq!((places.len(), legs.len()), (0, 0));
            return Ok(());
        };
        let ids: Vec<NodeId> = places.iter().map(|place| place.id).collect();
        let expected = std::iter::once(from).chain(shortest.iter().map(|hop| hop.1));
        prop_assert_eq!(&ids, &expected.collect::<Vec<_>>());
        prop_assert_eq!(legs.len(), shortest.len());
        for ((leg, hop), pair) in legs.iter().zip(&shortest).zip(ids.windows(2)) {
            let ends = if hop.2 == Way::Out { (pair[0], pair[1]) } else { (pair[1], pair[0]) };
            prop_assert_eq!((&leg.rel, leg.src, leg.dst), (&hop.0, ends.0, ends.1));
        }
        Ok(())
    });
}

#[test]
fn a_subgraph_holds_what_is_near_and_every_edge_between() {
    let more = (any::<bool>(), 0..5_u32, 0..10_usize);
    on_random_graphs(more, async |world, edges, along, start, (marked, depth, limit)| {
        let classes = if marked { vec!["Marked".to_owned()] } else { Vec::new() };
        let part = Around { along: along.clone(), depth, classes, limit };
        let found = world.bench.graph.subgraph(&a(), start, part).await;
        if !world.visible(start) {
            prop_assert!(matches!(found, Err(Error::NodeNotFound)));
            return Ok(());
        }
        let Subgraph { nodes, edges: shown, truncated } = found.expect("found");
        let mut far =
            world.distances(edges, start, &along, |id| !marked || world.marked.contains(&id));
        far.retain(|_, far| *far <= depth);
        prop_assert_eq!(truncated, far.len() > limit);
        prop_assert_eq!(nodes.len(), far.len().min(limit));
        prop_assert!(nodes.windows(2).all(|pair| pair[0].depth <= pair[1].depth));
        let ids: BTreeSet<NodeId> = nodes.iter().map(|node| node.id).collect();
        prop_assert_eq!(ids.len(), nodes.len());
        for node in &nodes {
            prop_assert_eq!(far.get(&node.id), Some(&node.depth));
            prop_assert_eq!(node.by.is_none(), node.id == start);
        }
        let forwards = Along::new(Direction::Out, along.rels.clone());
        let expected: BTreeSet<_> = ids
            .iter()
            .flat_map(|src| {
                let out = world.edges_at(edges, *src, &forwards).into_iter();
                out.filter(|(_, dst, _)| ids.contains(dst)).map(|(rel, dst, _)| (*src, rel, dst))
            })
            .collect();
        prop_assert_eq!(shown.len(), expected.len());
        let shown = shown.into_iter().map(|edge| (edge.src, edge.rel, edge.dst));
        prop_assert_eq!(shown.collect::<BTreeSet<_>>(), expected);
        Ok(())
    });
}

#[test]
fn an_expansion_reaches_the_same_nodes_without_the_start() {
    on_random_graphs((1..4_u32, 1..10_usize), async |world, edges, along, start, more| {
        let (depth, limit) = more;
        let expansion = Expansion { along: along.clone(), depth, limit };
        let ids = vec![start, world.ids[0]];
        let found = world.bench.graph.expand(&a(), ids.clone(), expansion).await.expect("found");
        for (id, Expanded { nodes, truncated }) in ids.into_iter().zip(found) {
            let mut far = world.distances(edges, id, &along, |_| true);
            far.retain(|_, far| (1..=depth).contains(far));
            if !world.alive(id) {
                far.clear();
            }
            prop_assert_eq!(nodes.len(), far.len().min(limit));
            prop_assert_eq!(truncated, far.len() > limit);
            for node in nodes {
                prop_assert_eq!(far.get(&node.id), Some(&node.depth));
                prop_assert!(node.by.is_some());
            }
        }
        Ok(())
    });
}

#[test]
fn an_answer_has_room_for_one_node_of_any_size() {
    let mut room = Room::new();
    assert!(room.take(10 * ANSWER_BYTES_MAX) && !room.take(1));
    let mut room = Room::new();
    assert!(room.take(ANSWER_BYTES_MAX / 2) && room.take(ANSWER_BYTES_MAX / 2) && !room.take(1));
}
