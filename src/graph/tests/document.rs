//! Documents that are taken in again and again.

use std::collections::BTreeMap;

use activekg_storage::queue;
use activekg_storage::tables::graph::EdgeRecord;
use proptest::prelude::*;

use super::*;
use crate::documents::identity;

const NAME: &str = "s3:acme:bucket/manual.txt";

/// A document whose chunks have these texts.
fn document(owner: &str, name: &str, texts: &[String]) -> NewDocument {
    let mut at = 0;
    let chunks = texts.iter().map(|text| {
        let start = at;
        at += text.chars().count();
        NewChunk { text: text.clone(), chars: start..at }
    });
    NewDocument {
        tenant: tenant(owner),
        external_id: name.to_owned(),
        title: "manual.txt".to_owned(),
        classes: vec!["Document".to_owned(), "Manual".to_owned()],
        props: object(json!({"etag": "1"})),
        chunk_props: object(json!({"role": null})),
        chunks: chunks.collect(),
    }
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|&word| word.to_owned()).collect()
}

impl Bench {
    async fn take_in(&self, document: NewDocument) -> Taken {
        let (mut outcomes, _) = self.graph.take_in(vec![document]).await.expect("taken in");
        outcomes.pop().expect("one document").expect("stored")
    }

    /// The text of every chunk of a tenant, by name.
    fn chunks(&self, owner: &str) -> BTreeMap<String, Node> {
        let tx = self.graph.store().read().expect("a snapshot");
        let rows = tx.scan(&NODES, Scan::prefix(&(tenant(owner),))).expect("rows");
        let nodes = rows.map(|row| {
            let ((owner, id), record) = row.expect("a row");
            Node::from_record(owner, id, record).expect("a node")
        });
        let chunks = nodes.filter(|node| node.props.contains_key("chunk_index"));
        chunks.map(|node| (node.external_id().expect("a name").to_owned(), node)).collect()
    }

    /// Every edge of a tenant, as it stands in both directions.
    fn edges(&self, owner: &str) -> Vec<(NodeId, NodeId, EdgeRecord)> {
        let tx = self.graph.store().read().expect("a snapshot");
        let owner = Scan::prefix(&(tenant(owner),));
        let back = tx.scan(&EDGES_IN, owner.clone()).expect("edges").count();
        let rows = tx.scan(&EDGES, owner).expect("edges").map(|row| row.expect("an edge"));
        let edges: Vec<_> = rows.map(|((_, src, _, dst), edge)| (src, dst, edge)).collect();
        assert_eq!(edges.len(), back);
        edges
    }
}

#[tokio::test]
async fn a_document_is_its_parent_and_its_chunks() {
    let bench = bench(settings());
    let taken = bench.take_in(document("acme", NAME, &texts(&["one.", "two."]))).await;
    assert_eq!((taken.change, taken.chunks), (DocumentChange::Created, 2));
    assert_eq!((taken.id, taken.jobs.len()), (identity::node_id(NAME), 2));
    let parent = bench.graph.node(&view("acme"), taken.id).await.expect("the parent");
    assert_eq!(parent.classes, ["Document", "Manual"]);
    let expected = json!({"title": "manual.txt", "external_id": NAME, "etag": "1", "is_parent": true, "has_chunks": true});
    assert_eq!(parent.props, object(expected));
    assert_eq!(parent.embedding_status, EmbeddingStatus::Skipped);

    let chunks = bench.chunks("acme");
    let second = &chunks[&identity::chunk(NAME, 1)];
    assert_eq!(second.id, identity::node_id(&identity::chunk(NAME, 1)));
    assert_eq!(second.classes, ["Chunk", "Manual"]);
    let expected = json!({"text": "two.", "chunk_index": 1, "total_chunks": 2, "parent_id": NAME,
        "parent_title": "manual.txt", "external_id": identity::chunk(NAME, 1), "role": null});
    assert_eq!(second.props, object(expected));
    let edges = bench.edges("acme");
    let (_, to, edge) = edges.iter().find(|(from, ..)| *from == second.id).expect("an edge");
    let expected =
        object(json!({"chunk_index": 1, "total_chunks": 2, "char_start": 4, "char_end": 8}));
    assert_eq!((*to, node::object(&edge.props).expect("JSON")), (taken.id, expected));
    assert_eq!(bench.statuses("acme").await, [("queued", 2), ("skipped", 1)]);
    assert_eq!(bench.embed_all(&[1.0, 0.0]).await.len(), 2);
}

#[tokio::test]
async fn a_failed_chunk_is_tried_again_and_a_deleted_document_comes_back() {
    let bench = bench(settings());
    let whole = || document("acme", NAME, &texts(&["one", "two"]));
    let taken = bench.take_in(whole()).await;
    // One is embedded, the other fails for good.
    let (first, _) = bench.graph.take(1).await.expect("taken");
    let first = first.into_iter().map(|job| (job, Ok(vec![1.0, 0.0].into()))).collect();
    bench.graph.settle(first, made_by()).await.expect("settled");
    for _ in 0..QUEUE.max_attempts {
        let (jobs, _) = bench.graph.take(1).await.expect("taken");
        let failed = jobs.into_iter().map(|job| (job, Err("no".to_owned()))).collect();
        bench.graph.settle(failed, made_by()).await.expect("settled");
        bench.clock.advance(Duration::from_secs(3600));
    }
    let counts = bench.statuses("acme").await;
    assert_eq!(counts, [("ready", 1), ("failed", 1), ("skipped", 1)]);
    let again = bench.take_in(whole()).await;
    assert_eq!((again.change, again.jobs.len()), (DocumentChange::Unchanged, 1));
    bench.embed_all(&[0.0, 1.0]).await;
    assert_eq!(bench.take_in(whole()).await.jobs, []);

    for id in bench.chunks("acme").values().map(|chunk| chunk.id).chain([taken.id]) {
        bench.graph.delete(&view("acme"), id).await.expect("deleted");
    }
    assert_eq!(bench.statuses("acme").await, []);
    let revived = bench.take_in(whole()).await;
    assert_eq!(
        (revived.change, revived.jobs),
        (DocumentChange::Created, vec![]),
        "vectors were kept"
    );
    assert_eq!(bench.statuses("acme").await, [("ready", 2), ("skipped", 1)]);
    let parent = bench.graph.node(&view("acme"), taken.id).await.expect("the parent");
    assert!(!parent.is_deleted() && !parent.props.contains_key("deleted_at"));
}

#[tokio::test]
async fn what_does_not_fit_the_queue_is_not_written_at_all() {
    let bench = bench(Settings { tenant_max: 3, ..settings() });
    let named = |n: usize| format!("s3:acme:{n}");
    let two = |n: usize| document("acme", &named(n), &texts(&["one", "two"]));
    let refused = bench.graph.take_in(vec![two(0), two(1)]).await;
    assert!(matches!(refused, Err(Error::TenantQueueFull)), "{refused:?}");
    let tx = bench.graph.store().read().expect("a snapshot");
    assert_eq!(tx.scan(&NODES, Scan::all()).expect("rows").count(), 0);
    assert_eq!(tx.scan(&EDGES, Scan::all()).expect("rows").count(), 0);
    assert_eq!(queue::pending(&tx, &QUEUE).expect("a count"), 0);

    bench.take_in(two(0)).await;
    bench.take_in(two(0)).await;
    // Others may write as much; a name that another node has stops its own document only.
    let held = bench.create("other", json!({"external_id": identity::chunk(&named(1), 1)})).await;
    let documents = vec![
        document("other", &named(1), &texts(&["one", "two"])),
        document("other", &named(2), &texts(&["three"])),
    ];
    let (outcomes, _) = bench.graph.take_in(documents).await.expect("taken in");
    assert!(matches!(outcomes[0], Err(Error::ExternalIdTaken { existing }) if existing == held));
    assert!(outcomes[1].is_ok());
    assert_eq!(bench.chunks("other").len(), 1);
    assert_eq!(bench.edges("other").len(), 1, "nothing of the refused one");
}

#[tokio::test]
async fn nodes_that_derive_from_a_document_are_not_its_chunks() {
    let bench = bench(settings());
    let taken = bench.take_in(document("acme", NAME, &texts(&["one", "two"]))).await;
    // One of them even has the name of a chunk.
    let names = ["summary".to_owned(), identity::chunk(NAME, 7)];
    for name in names {
        let src = bench.create("acme", json!({"external_id": name})).await;
        let (rel, dst) = ("DERIVED_FROM".to_owned(), taken.id);
        let edge = NewEdge { src, rel, dst, props: Object::new() };
        bench.graph.connect(&view("acme"), edge).await.expect("connected");
    }
    bench.take_in(document("acme", NAME, &texts(&["one"]))).await;
    assert_eq!(bench.edges("acme").len(), 3);
    assert_eq!(bench.chunks("acme").len(), 1);
}

/// What one step does: another text of the document, or all jobs.
#[derive(Debug, Clone)]
enum Step {
    TakeIn(Vec<String>),
    Embed,
}

fn step() -> impl Strategy<Value = Step> {
    let words = prop::sample::select(vec!["one", "two", "three", "four"]);
    let texts = prop::collection::vec(words.prop_map(str::to_owned), 0..6);
    prop_oneof![3 => texts.prop_map(Step::TakeIn), 1 => Just(Step::Embed)]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Whatever was there before: after a document was taken in, it is what it was said to be.
    #[test]
    fn only_the_latest_text_of_a_document_is_there(
        steps in prop::collection::vec(step(), 1..8),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let bench = bench(settings());
            bench.take_in(document("other", NAME, &texts(&["theirs"]))).await;
            let theirs = bench.chunks("other");
            let mut now: Vec<String> = Vec::new();
            // The texts by which chunks have been embedded.
            let mut embedded: BTreeMap<String, String> = BTreeMap::new();
            for step in steps {
                let named = |(index, text): (usize, &String)| (identity::chunk(NAME, index), text.clone());
                match step {
                    Step::Embed => {
                        bench.embed_all(&[1.0, 0.0]).await;
                        embedded = now.iter().enumerate().map(named).collect();
                    }
                    Step::TakeIn(texts) => {
                        let queued = bench.chunks("acme").into_iter().filter(|(_, chunk)| {
                            chunk.embedding_status == EmbeddingStatus::Queued
                        });
                        let queued: BTreeMap<String, Node> = queued.collect();
                        let taken = bench.take_in(document("acme", NAME, &texts)).await;
                        let wanted: BTreeMap<String, String> = texts.iter().enumerate().map(named).collect();
                        embedded.retain(|name, text| wanted.get(name) == Some(&*text));
                        let needed = wanted.iter().filter(|(name, text)| match queued.get(*name) {
                            // What waits has a job already, which takes over another text.
                            Some(waiting) => waiting.text() != text.as_str(),
                            None => embedded.get(*name) != Some(*text),
                        });
                        prop_assert_eq!(taken.jobs.len(), needed.count());
                        now = texts;
                    }
                }
                let chunks = bench.chunks("acme");
                let kept: Vec<String> = (0..now.len())
                    .map(|index| chunks[&identity::chunk(NAME, index)].text().to_owned())
                    .collect();
                prop_assert_eq!(&kept, &now);
                prop_assert_eq!(chunks.len(), now.len());
                for (name, chunk) in &chunks {
                    let is_ready = chunk.embedding_status == EmbeddingStatus::Ready;
                    prop_assert_eq!(is_ready, embedded.get(name).is_some_and(|text| text == chunk.text()));
                }
                prop_assert_eq!(bench.edges("acme").len(), now.len());
                let tx = bench.graph.store().read().expect("a snapshot");
                let of_acme = Scan::prefix(&(tenant("acme"),));
                let vectors = tx.scan(&VECTORS, of_acme.clone()).expect("rows").count();
                prop_assert!(vectors <= now.len(), "no vector of a chunk that is gone");
                let names = tx.scan(&EXTERNAL_IDS, Scan::prefix(&(tenant("acme"),))).expect("rows").count();
                prop_assert!(names <= now.len() + 1);
                assert_counters_hold(&tx, &tenant("acme"));
            }
            prop_assert_eq!(bench.chunks("other").len(), theirs.len());
            Ok(())
        })?;
    }
}
