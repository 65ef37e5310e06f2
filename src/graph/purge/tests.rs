//! Purges against a model that is obviously right.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use activekg_storage::tables::graph::{EDGES, EDGES_IN, EVENTS, EXTERNAL_IDS, HISTORY, VERSIONS};
use activekg_storage::tables::purge::{CHUNKS, RECEIPTS};
use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::graph::tests::{Bench, bench, object, settings};
use crate::graph::{DELETED_CLASS, EventQuery, NewEdge, NewNode, NodeChanges, Object, View};

const PAST: &str = "1970-01-01T00:00:00+00:00";
const FUTURE: &str = "2999-01-01T00:00:00+00:00";

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn new(owner: &str, classes: &[&str], props: serde_json::Value) -> NewNode {
    NewNode {
        tenant: tenant(owner),
        classes: classes.iter().map(|class| (*class).to_owned()).collect(),
        props: object(props),
        payload_ref: None,
        metadata: Object::new(),
        refresh_policy: Object::new(),
        triggers: Vec::new(),
    }
}

async fn create(bench: &Bench, new: NewNode) -> NodeId {
    bench.graph.create(new).await.unwrap().0.id
}

fn run(bench: &Bench, batch_size: usize) -> PurgeRun {
    PurgeRun {
        id: "run".to_owned(),
        actor: "test".to_owned(),
        now: bench.graph.clock.now(),
        batch_size,
        forget: |_, _, _, _| Ok(0),
    }
}

async fn purge_all(bench: &Bench, owner: &str, batch_size: usize) -> PurgeStep {
    let mut sum = PurgeStep::default();
    loop {
        let step = bench.graph.purge_step(&tenant(owner), &run(bench, batch_size)).await.unwrap();
        let removed = (step.parents + step.chunks) as usize;
        assert!(removed <= batch_size.max(2), "{removed} nodes in a batch of {batch_size}");
        sum.parents += step.parents;
        sum.chunks += step.chunks;
        sum.erased.add(step.erased);
        if step.done {
            return sum;
        }
        assert!(removed > 0, "a step that is not the last removes something");
    }
}

/// A deleted document of three chunks, in the form that scripts make them.
async fn document(bench: &Bench, owner: &str, name: &str, grace: &str, n_chunks: usize) -> NodeId {
    let props = json!({ "external_id": name, "text": name, "deletion_grace_until": grace });
    let parent = create(bench, new(owner, &["Document", DELETED_CLASS], props)).await;
    for n in 0..n_chunks {
        let props = json!({ "parent_id": name, "chunk_index": n, "text": format!("{name} {n}") });
        let chunk = create(bench, new(owner, &["Chunk"], props)).await;
        let edge = NewEdge {
            src: chunk,
            rel: "DERIVED_FROM".to_owned(),
            dst: parent,
            props: Object::new(),
        };
        bench.graph.connect(&View::of(tenant(owner)), edge).await.unwrap();
    }
    parent
}

#[tokio::test]
async fn a_document_goes_with_its_chunks_and_leaves_its_events_and_a_receipt() {
    let bench = bench(settings());
    let parent = document(&bench, "acme", "d", PAST, 3).await;
    let kept = document(&bench, "acme", "later", FUTURE, 2).await;
    document(&bench, "other", "d", PAST, 3).await;
    let to = NodeChanges { metadata: Some(object(json!({"a": 1}))), ..NodeChanges::default() };
    bench.graph.update(&View::of(tenant("acme")), parent, to).await.unwrap();

    let now = bench.graph.clock.now();
    let counted = bench.graph.purge_count(&tenant("acme"), now, None).await.unwrap();
    let expected = PurgeCount { parents: 1, chunks: 3, edges: 3, versions: 1, without_grace: 0 };
    assert_eq!(counted, expected);
    let step = purge_all(&bench, "acme", 500).await;
    assert_eq!((step.parents, step.chunks), (1, 3));
    assert_eq!((step.erased.edges, step.erased.versions, step.erased.jobs), (3, 1, 3));

    let tx = bench.graph.store().read().unwrap();
    let acme = (tenant("acme"),);
    let nodes: Vec<_> = tx.scan(&NODES, Scan::prefix(&acme)).unwrap().map(|r| r.unwrap()).collect();
    assert_eq!(nodes.len(), 3, "what is kept for longer, with its chunks");
    assert!(nodes.iter().any(|((_, id), _)| *id == kept));
    assert_eq!(tx.scan(&EDGES, Scan::prefix(&acme)).unwrap().count(), 2);
    assert_eq!(tx.scan(&EDGES_IN, Scan::prefix(&acme)).unwrap().count(), 2);
    assert_eq!(tx.scan(&VERSIONS, Scan::prefix(&acme)).unwrap().count(), 0);
    assert_eq!(tx.scan(&HISTORY, Scan::prefix(&acme)).unwrap().count(), 0);
    assert_eq!(tx.scan(&EXTERNAL_IDS, Scan::prefix(&acme)).unwrap().count(), 1);
    assert_eq!(tx.scan(&CHUNKS, Scan::prefix(&acme)).unwrap().count(), 2);
    let other = Scan::prefix(&(tenant("other"),));
    assert_eq!(tx.scan(&NODES, other).unwrap().count(), 4, "of another tenant");
    assert_eq!(tx.scan(&EVENTS, Scan::prefix(&acme)).unwrap().count(), 1);

    let query = EventQuery { node: Some(parent), kind: None, limit: 10 };
    let events = bench.graph.events(&View::of(tenant("acme")), query).await.unwrap();
    let receipts = bench.graph.purge_receipts(&tenant("acme"), 0, 10).await.unwrap();
    assert_eq!((events[0].kind.as_str(), receipts.len()), ("purged", 1));
    assert_eq!(events[0].payload["receipt_sha256"], receipts[0].sha256.as_str());
    assert_eq!(digest(&receipts[0].body), receipts[0].sha256);
    let body: serde_json::Value = serde_json::from_str(&receipts[0].body).unwrap();
    assert_eq!(body["previous"], GENESIS);
    assert_eq!(body["parents"], json!([parent.to_string()]));
    assert_eq!(body["chunks"].as_array().unwrap().len(), 3);
    assert!(!receipts[0].body.contains("d 0"), "no content");
}

#[tokio::test]
async fn what_cannot_be_told_stays_and_is_counted() {
    let bench = bench(settings());
    for grace in [json!(null), json!("soon"), json!(7)] {
        let props = json!({ "deletion_grace_until": grace });
        create(&bench, new("acme", &[DELETED_CLASS], props)).await;
    }
    let count = bench.graph.purge_count(&tenant("acme"), NEVER, None).await.unwrap();
    assert_eq!(count, PurgeCount { without_grace: 3, ..PurgeCount::default() });
    assert_eq!(
        purge_all(&bench, "acme", 10).await,
        PurgeStep { done: false, ..Default::default() }
    );
    assert_eq!(bench.graph.without_grace(&tenant("acme")).await.unwrap(), 3);
}

#[tokio::test]
async fn a_parent_goes_with_its_last_chunk() {
    for batch_size in [1, 2, 3, 4, 5] {
        let bench = bench(settings());
        let parent = document(&bench, "acme", "d", PAST, 4).await;
        loop {
            let step = bench.graph.purge_step(&tenant("acme"), &run(&bench, batch_size)).await;
            let tx = bench.graph.store().read().unwrap();
            let left = tx.scan(&CHUNKS, Scan::all()).unwrap().count();
            let has_parent = tx.contains(&NODES, &(tenant("acme"), parent)).unwrap();
            assert_eq!(has_parent, left > 0, "batches of {batch_size}");
            if step.unwrap().done {
                break;
            }
        }
        let receipts = bench.graph.purge_receipts(&tenant("acme"), 0, 10).await.unwrap();
        let mut previous = GENESIS.to_owned();
        for receipt in receipts {
            assert!(receipt.body.contains(&format!("\"previous\":\"{previous}\"")));
            previous = receipt.sha256;
        }
    }
}

#[tokio::test]
async fn a_revived_node_is_purged_no_more() {
    let bench = bench(settings());
    let parent = document(&bench, "acme", "d", PAST, 1).await;
    let to = NodeChanges {
        classes: Some(vec!["Document".to_owned()]),
        props: Some(object(json!({ "external_id": "d" }))),
        ..NodeChanges::default()
    };
    bench.graph.update(&View::of(tenant("acme")), parent, to).await.unwrap();
    assert_eq!(purge_all(&bench, "acme", 10).await.parents, 0);
    let tx = bench.graph.store().read().unwrap();
    assert_eq!(tx.scan(&DELETIONS, Scan::all()).unwrap().count(), 0);
}

#[tokio::test]
async fn another_retention_moves_what_is_deleted_already() {
    let bench = bench(settings());
    let id = create(&bench, new("acme", &["Doc"], json!({}))).await;
    bench.graph.delete(&View::of(tenant("acme")), id).await.unwrap();
    bench.clock_advance(Duration::from_secs(86_400));
    let now = bench.graph.clock.now();
    let (long, short) = (Duration::from_secs(2 * 86_400), Duration::from_secs(3600));
    let count = async |retention| {
        bench.graph.purge_count(&tenant("acme"), now, retention).await.unwrap().parents
    };
    assert_eq!((count(None).await, count(Some(long)).await, count(Some(short)).await), (0, 0, 1));
    let apply = async |retention| {
        let ids = bench.graph.deleted_nodes(&tenant("acme")).await.unwrap();
        bench.graph.apply_retention(&tenant("acme"), retention, &ids).await.unwrap()
    };
    assert_eq!((apply(long).await, apply(long).await), (1, 0));
    assert_eq!(purge_all(&bench, "acme", 10).await.parents, 0);
    assert_eq!(apply(short).await, 1);
    assert_eq!(purge_all(&bench, "acme", 10).await.parents, 1);
}

#[tokio::test]
async fn what_does_not_say_when_it_was_deleted_is_counted_by_the_grace_it_has() {
    let bench = bench(settings());
    let props = json!({ "deleted_at": "once", "deletion_grace_until": PAST });
    create(&bench, new("acme", &["Document", DELETED_CLASS], props)).await;
    let (now, long) = (bench.graph.clock.now(), Some(Duration::from_secs(2 * 86_400)));
    let count = bench.graph.purge_count(&tenant("acme"), now, long).await.unwrap();
    let ids = bench.graph.deleted_nodes(&tenant("acme")).await.unwrap();
    let of = tenant("acme");
    bench.graph.apply_retention(&of, Duration::from_secs(2 * 86_400), &ids).await.unwrap();
    let purged = purge_all(&bench, "acme", 10).await;
    assert_eq!((count.parents, count.chunks), (purged.parents, purged.chunks));
    assert_eq!(count.parents, 1);
}

#[tokio::test]
async fn nodes_of_an_older_store_get_their_places() {
    let bench = bench(settings());
    document(&bench, "acme", "d", PAST, 2).await;
    let rows = async || {
        let tx = bench.graph.store().read().unwrap();
        let deletions = tx.scan(&DELETIONS, Scan::all()).unwrap().count();
        (deletions, tx.scan(&CHUNKS, Scan::all()).unwrap().count())
    };
    assert_eq!(rows().await, (1, 2));
    let emptied = bench.graph.store().write(|tx| -> Result<(), Error> {
        let keys = tx.scan(&DELETIONS, Scan::all())?.map(|row| row.map(|(key, ())| key));
        for key in keys.collect::<Result<Vec<_>, _>>()? {
            tx.remove(&DELETIONS, &key)?;
        }
        let keys = tx.scan(&CHUNKS, Scan::all())?.map(|row| row.map(|(key, ())| key));
        for key in keys.collect::<Result<Vec<_>, _>>()? {
            tx.remove(&CHUNKS, &key)?;
        }
        Ok(())
    });
    emptied.await.unwrap();
    assert_eq!(rows().await, (0, 0));
    while !bench.graph.upgrade_nodes().await.unwrap() {}
    assert_eq!(rows().await, (1, 2));
}

/// A node of the model: what it is called, whose chunk it says it is, until when it is kept if it
/// is deleted.
#[derive(Debug, Clone)]
struct Made {
    name: Option<u8>,
    parent: Option<u8>,
    grace: Option<&'static str>,
}

fn made() -> impl Strategy<Value = Made> {
    let grace = prop_oneof![
        2 => Just(None),
        3 => Just(Some(PAST)),
        1 => Just(Some(FUTURE)),
        1 => Just(Some("soon")),
    ];
    let few = || prop::option::of(0_u8..6);
    (few(), few(), grace).prop_map(|(name, parent, grace)| Made { name, parent, grace })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn purges_agree_with_the_model(
        nodes in prop::collection::vec(made(), 1..14),
        edges in prop::collection::vec((0_usize..14, 0_usize..14), 0..10),
        batch_size in 1_usize..6,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(agree(&nodes, &edges, batch_size));
    }
}

async fn agree(made: &[Made], edges: &[(usize, usize)], batch_size: usize) {
    let bench = bench(settings());
    let mut nodes: BTreeMap<NodeId, &Made> = BTreeMap::new();
    let mut named: BTreeMap<u8, NodeId> = BTreeMap::new();
    for node in made {
        let name = node.name.filter(|name| !named.contains_key(name));
        let mut props = Object::new();
        props.extend(name.map(|name| ("external_id".to_owned(), format!("n{name}").into())));
        props.extend(node.parent.map(|name| ("parent_id".to_owned(), format!("n{name}").into())));
        props.extend(node.grace.map(|at| ("deletion_grace_until".to_owned(), at.into())));
        let classes: &[&str] = if node.grace.is_some() { &[DELETED_CLASS] } else { &["Doc"] };
        let id = create(&bench, new("acme", classes, serde_json::Value::Object(props))).await;
        named.extend(name.map(|name| (name, id)));
        nodes.insert(id, node);
    }
    let ids: Vec<NodeId> = nodes.keys().copied().collect();
    let mut model_edges = BTreeSet::new();
    for (src, dst) in edges {
        let (src, dst) = (ids[src % ids.len()], ids[dst % ids.len()]);
        if model_edges.insert((src, dst)) {
            let edge = NewEdge { src, rel: "R".to_owned(), dst, props: Object::new() };
            bench.graph.connect(&View::of(tenant("acme")), edge).await.unwrap();
        }
    }

    // What is due, and the direct chunks of that.
    let due = |id: &NodeId| nodes[id].grace == Some(PAST);
    let goes = |id: &&NodeId| {
        let parent = nodes[id].parent.and_then(|name| named.get(&name));
        due(id) || parent.is_some_and(due)
    };
    let gone: BTreeSet<NodeId> = ids.iter().filter(goes).copied().collect();
    let chunks = gone.iter().filter(|id| nodes[id].parent.is_some()).count() as u64;
    let n_edges = model_edges.iter().filter(|(s, d)| gone.contains(s) || gone.contains(d)).count();
    let expected = (gone.len() as u64 - chunks, chunks, n_edges as u64);

    let now = bench.graph.clock.now();
    let counted = bench.graph.purge_count(&tenant("acme"), now, None).await.unwrap();
    assert_eq!((counted.parents, counted.chunks, counted.edges), expected, "counted");
    let done = purge_all(&bench, "acme", batch_size).await;
    assert_eq!((done.parents, done.chunks, done.erased.edges), expected, "purged");

    let tx = bench.graph.store().read().unwrap();
    let left = tx.scan(&NODES, Scan::all()).unwrap().map(|row| row.unwrap().0.1);
    let left: BTreeSet<NodeId> = left.collect();
    let expected: BTreeSet<NodeId> = ids.iter().copied().filter(|id| !gone.contains(id)).collect();
    assert_eq!(left, expected);
    let mut accounted = BTreeSet::new();
    for row in tx.scan(&RECEIPTS, Scan::all()).unwrap() {
        let body: serde_json::Value = serde_json::from_str(row.unwrap().1.body.as_str()).unwrap();
        for list in ["parents", "chunks"] {
            for id in body[list].as_array().unwrap() {
                assert!(accounted.insert(id.as_str().unwrap().parse::<NodeId>().unwrap()));
            }
        }
    }
    assert_eq!(accounted, gone, "every node that went is in one receipt");
}
