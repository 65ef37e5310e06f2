//! The graph over a real store, without HTTP, model or indexes.

use std::sync::Arc;
use std::time::Duration;

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{
    COUNTS, EDGES, EDGES_IN, EVENTS, EXTERNAL_IDS, EmbeddingStatus, HISTORY, NODE_EVENTS, NODES,
    Slot, VECTORS, VERSIONS,
};
use activekg_storage::time::{ManualClock, UnixMicros};
use activekg_storage::{ReadTx, Readable, Scan, Store, StoreOptions};
use serde_json::json;

use super::*;

mod change;
mod document;
mod due;
mod sweep;
mod triggers;

/// A graph on a store of its own, and a clock that stands still.
pub(super) struct Bench {
    pub(super) graph: Graph,
    clock: ManualClock,
    dir: tempfile::TempDir,
}

pub(super) fn bench(settings: Settings) -> Bench {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path(), StoreOptions::default()).expect("a store");
    let clock = ManualClock::at(UnixMicros(1_000_000));
    let space = FreeSpace::new(dir.path().to_owned(), Some(0)).expect("a file system");
    let graph = Graph::new(Arc::new(store), settings, Arc::new(clock.clone()), space);
    Bench { graph, clock, dir }
}

pub(super) fn settings() -> Settings {
    Settings::default()
}

/// Who makes the vectors of these tests.
fn made_by() -> MadeBy {
    MadeBy { model: "test".to_owned(), dim: 2, slot: Slot::A }
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).expect("a tenant")
}

fn view(name: &str) -> View {
    View::of(tenant(name))
}

pub(super) fn object(value: serde_json::Value) -> Object {
    value.as_object().expect("an object").clone()
}

fn new_node(owner: &str, props: serde_json::Value) -> NewNode {
    NewNode {
        tenant: tenant(owner),
        classes: vec!["Doc".to_owned()],
        props: object(props),
        payload_ref: None,
        metadata: Object::new(),
        refresh_policy: Object::new(),
        triggers: Vec::new(),
    }
}

impl Bench {
    pub(super) fn clock_advance(&self, span: Duration) {
        self.clock.advance(span);
    }

    async fn create(&self, owner: &str, props: serde_json::Value) -> NodeId {
        self.graph.create(new_node(owner, props)).await.expect("created").0.id
    }

    /// Takes every job there is and settles it with `vector`.
    async fn embed_all(&self, vector: &[f32]) -> Vec<Embedded> {
        let (batch, _) = self.graph.take(100).await.expect("taken");
        let results = batch.into_iter().map(|job| (job, Ok(vector.to_vec().into()))).collect();
        let (settled, _) = self.graph.settle(results, made_by()).await.expect("settled");
        settled.into_iter().map(|(_, outcome)| outcome).collect()
    }

    async fn statuses(&self, owner: &str) -> Vec<(&'static str, u64)> {
        self.graph.status_counts(Some(tenant(owner))).await.expect("counted").statuses
    }
}

/// The counters of a tenant against what its rows say.
fn assert_counters_hold(tx: &ReadTx, owner: &TenantId) {
    let mut expected = std::collections::BTreeMap::new();
    for row in tx.scan(&NODES, Scan::prefix(&(owner.clone(),))).expect("rows") {
        let (_, record) = row.expect("a row");
        if record.deleted {
            continue;
        }
        let status = format!("status.{}", format!("{:?}", record.embedding_status).to_lowercase());
        let embedded = record.last_refreshed.map(|_| "nodes.embedded".to_owned());
        for name in [Some("nodes".to_owned()), Some(status), embedded].into_iter().flatten() {
            *expected.entry(name).or_insert(0_u64) += 1;
        }
    }
    let kept = tx.scan(&COUNTS, Scan::prefix(&(owner.clone(),))).expect("counters");
    let kept: std::collections::BTreeMap<String, u64> = kept
        .map(|row| row.expect("a counter"))
        .filter_map(|((_, name), n)| (n > 0).then_some((name, n)))
        .collect();
    assert_eq!(kept, expected);
}

#[tokio::test]
async fn a_node_goes_from_queued_to_ready_and_is_stamped() {
    let bench = bench(settings());
    let id = bench.create("acme", json!({"text": "pump"})).await;
    assert_eq!(bench.statuses("acme").await, [("queued", 1)]);

    let outcomes = bench.embed_all(&[1.0, 0.0]).await;
    let at = UnixMicros(1_000_000);
    assert_eq!(outcomes, [Embedded::Ready { drift: 0.0, at, event: None }]);

    let node = bench.graph.node(&view("acme"), id).await.expect("a node");
    assert_eq!(node.embedding_status, EmbeddingStatus::Ready);
    assert_eq!(node.embedding_attempts, 1);
    assert_eq!(node.last_refreshed, Some(at));
    // printf pump | sha256sum
    let hash = "0b203c464bb32a27e8621a5cfcfae0f86753a7d8881006de7d64090ad5785214";
    assert_eq!(node.props["content_hash"], hash);
    assert_eq!(node.props["extraction_version"], "1.0.0");
    assert_counters_hold(&bench.graph.store().read().expect("a snapshot"), &tenant("acme"));
}

#[tokio::test]
async fn a_node_without_text_is_skipped_and_loses_the_vector_of_its_old_text() {
    let bench = bench(settings());
    let id = bench.create("acme", json!({"k": 1})).await;
    assert_eq!(bench.embed_all(&[1.0]).await, [Embedded::Skipped]);
    let node = bench.graph.node(&view("acme"), id).await.expect("a node");
    assert_eq!(node.embedding_error.as_deref(), Some("empty_text"));

    let to = |props| NodeChanges { props: Some(object(props)), ..NodeChanges::default() };
    bench.graph.update(&view("acme"), id, to(json!({"text": "now"}))).await.expect("changed");
    bench.embed_all(&[1.0]).await;
    assert!(bench.graph.node(&view("acme"), id).await.expect("a node").has_embedding());

    bench.graph.update(&view("acme"), id, to(json!({}))).await.expect("changed");
    assert_eq!(bench.embed_all(&[1.0]).await, [Embedded::Skipped]);
    let node = bench.graph.node(&view("acme"), id).await.expect("a node");
    assert!(!node.has_embedding());
    let tx = bench.graph.store().read().expect("a snapshot");
    assert!(tx.get(&VECTORS, &(tenant("acme"), id)).expect("read").is_none());
    assert_counters_hold(&tx, &tenant("acme"));
}

#[tokio::test]
async fn a_drift_above_the_threshold_is_an_event_that_names_who_asked() {
    let bench = bench(settings());
    let id = bench.create("acme", json!({"text": "pump"})).await;
    bench.embed_all(&[1.0, 0.0]).await;
    bench.clock.advance(Duration::from_secs(1));
    bench.graph.refresh(&view("acme"), id, Work::manual("eva", "user")).await.expect("queued");
    let outcomes = bench.embed_all(&[0.0, 1.0]).await;
    let [Embedded::Ready { drift, event: Some(event), .. }] = outcomes[..] else {
        panic!("an event is expected: {outcomes:?}");
    };
    assert!((drift - 1.0).abs() < 1e-9);

    let query = EventQuery { node: Some(id), kind: None, limit: 10 };
    let events = bench.graph.events(&view("acme"), query.clone()).await.expect("events");
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].id, event);
    assert_eq!(events[0].actor_id.as_deref(), Some("eva"));
    assert_eq!(events[0].payload["manual_trigger"], true);
    assert!(bench.graph.events(&view("other"), query).await.expect("events").is_empty());

    let history = bench.graph.history(&view("acme"), id, 10).await.expect("history");
    assert_eq!(
        history.iter().map(|entry| entry.drift).collect::<Vec<_>>(),
        [Some(drift), Some(0.0)]
    );
    assert!(bench.graph.history(&view("other"), id, 10).await.expect("history").is_empty());
}

#[tokio::test]
async fn a_text_that_changes_under_the_worker_is_embedded_again() {
    let bench = bench(settings());
    let id = bench.create("acme", json!({"text": "old"})).await;
    let (batch, _) = bench.graph.take(10).await.expect("taken");
    let to = NodeChanges { props: Some(object(json!({"text": "new"}))), ..NodeChanges::default() };
    bench.graph.update(&view("acme"), id, to).await.expect("changed");
    let results = batch.into_iter().map(|job| (job, Ok(vec![1.0].into()))).collect();
    let (settled, _) = bench.graph.settle(results, made_by()).await.expect("settled");
    assert_eq!(settled[0].1, Embedded::Again);
    let (batch, _) = bench.graph.take(10).await.expect("taken");
    assert_eq!(batch[0].text, Ok("new".to_owned()));
}

/// As after a crash: the jobs are leased by nobody, and the graph starts.
async fn restart(bench: &Bench) {
    bench.graph.recover().await.expect("recovered");
}

#[tokio::test]
async fn jobs_under_way_at_a_crash_run_again_one_at_a_time() {
    let bench = bench(settings());
    for n in 0..3 {
        bench.create("acme", json!({ "text": format!("text {n}") })).await;
    }
    assert_eq!(bench.graph.take(10).await.expect("taken").0.len(), 3);
    restart(&bench).await;
    assert_eq!(bench.statuses("acme").await, [("queued", 3)]);
    bench.create("acme", json!({"text": "came later"})).await;
    for left in (0..4).rev() {
        let (batch, _) = bench.graph.take(10).await.expect("taken");
        assert_eq!(batch.len(), 1, "with {left} left");
        let results = batch.into_iter().map(|job| (job, Ok(vec![1.0].into()))).collect();
        bench.graph.settle(results, made_by()).await.expect("settled");
    }
    assert_eq!(bench.statuses("acme").await, [("ready", 4)]);
}

#[tokio::test]
async fn a_job_that_is_under_way_at_every_crash_is_given_up_and_its_node_says_so() {
    let bench = bench(settings());
    let id = bench.create("acme", json!({"text": "poison"})).await;
    let other = bench.create("acme", json!({"text": "harmless"})).await;
    for _ in 0..activekg_storage::queue::CRASHES_MAX {
        assert!(!bench.graph.take(1).await.expect("taken").0.is_empty());
        restart(&bench).await;
    }
    let node = bench.graph.node(&view("acme"), id).await.expect("a node");
    assert_eq!(node.embedding_status, EmbeddingStatus::Failed);
    assert_eq!(node.embedding_error.as_deref(), Some("crash_loop"));
    bench.embed_all(&[1.0]).await;
    assert!(bench.graph.node(&view("acme"), other).await.expect("a node").has_embedding());
    assert_counters_hold(&bench.graph.store().read().expect("a snapshot"), &tenant("acme"));
}

#[tokio::test]
async fn a_failing_job_is_tried_again_and_then_given_up() {
    let bench = bench(settings());
    let id = bench.create("acme", json!({"text": "pump"})).await;
    let mut last = Embedded::Again;
    for _ in 0..QUEUE.max_attempts {
        bench.clock.advance(QUEUE.backoff_cap * 2);
        let (batch, _) = bench.graph.take(10).await.expect("taken");
        assert_eq!(batch.len(), 1, "the job is due");
        let results = batch.into_iter().map(|job| (job, Err("no model".to_owned()))).collect();
        let (settled, _) = bench.graph.settle(results, made_by()).await.expect("settled");
        last = settled[0].1.clone();
    }
    assert_eq!(last, Embedded::Failed);
    let node = bench.graph.node(&view("acme"), id).await.expect("a node");
    assert_eq!(node.embedding_status, EmbeddingStatus::Failed);
    assert_eq!(node.embedding_error.as_deref(), Some("no model"));

    let all = Requeue {
        ids: None,
        status: Some(EmbeddingStatus::Failed),
        only_missing: false,
        backfill_ready: true,
        limit: 10,
    };
    let done = bench.graph.requeue(&view("acme"), all).await.expect("requeued");
    assert_eq!(done, Requeued { backfilled: 0, requested: 1, enqueued: 1 });
    let counts = bench.graph.status_counts(Some(tenant("acme"))).await.expect("counted");
    assert_eq!((counts.queue.dead, counts.queue.ready, counts.pending), (0, 1, 1));
    assert_counters_hold(&bench.graph.store().read().expect("a snapshot"), &tenant("acme"));
}

#[tokio::test]
async fn a_node_that_was_queued_anew_while_it_was_embedded_still_waits() {
    let bench = bench(settings());
    let id = bench.create("acme", json!({"text": "pump"})).await;
    let (batch, _) = bench.graph.take(10).await.expect("taken");
    let all = Requeue {
        ids: Some(vec![id]),
        status: None,
        only_missing: false,
        backfill_ready: false,
        limit: 10,
    };
    bench.graph.requeue(&view("acme"), all).await.expect("requeued");
    let results = batch.into_iter().map(|job| (job, Ok(vec![1.0].into()))).collect();
    bench.graph.settle(results, made_by()).await.expect("settled");
    assert_eq!(bench.statuses("acme").await, [("queued", 1)]);
    assert!(bench.graph.node(&view("acme"), id).await.expect("a node").has_embedding());
    bench.embed_all(&[1.0]).await;
    assert_eq!(bench.statuses("acme").await, [("ready", 1)]);
}

#[tokio::test]
async fn every_part_of_a_listing_is_that_part_of_the_whole() {
    let bench = bench(settings());
    let shared = TenantId::shared();
    for n in 0..16 {
        let owner = if n % 3 == 0 { shared.clone() } else { tenant("acme") };
        let node = new_node("acme", json!({"text": format!("text {n}")}));
        let node = NewNode { tenant: owner.clone(), ..node };
        let id = bench.graph.create(node).await.expect("created").0.id;
        if n % 4 == 1 {
            bench.embed_all(&[1.0]).await;
        }
        if n % 5 == 2 {
            bench.graph.delete(&View::of(owner), id).await.expect("deleted");
        }
    }
    let list = async |has_embedding, offset, limit| {
        let filter = NodeFilter { has_embedding, classes: Vec::new() };
        let listing = Listing { filter, offset, limit, props: false };
        let page = bench.graph.list(&view("acme"), listing).await.expect("a page");
        (page.nodes.into_iter().map(|node| node.id).collect::<Vec<_>>(), page.total)
    };
    for has_embedding in [None, Some(true), Some(false)] {
        let (all, total) = list(has_embedding, 0, 100).await;
        assert!(!all.is_empty() && all.is_sorted());
        assert_eq!(total, all.len() as u64);
        for offset in 0..=all.len() + 1 {
            for limit in [1, 2, 5] {
                let part: Vec<NodeId> = all.iter().copied().skip(offset).take(limit).collect();
                assert_eq!(list(has_embedding, offset as u64, limit).await, (part, total));
            }
        }
    }
}

#[tokio::test]
async fn external_ids_are_unique_in_a_tenant_and_free_after_removal() {
    let bench = bench(settings());
    let first = bench.create("acme", json!({"external_id": "e"})).await;
    let taken = bench.graph.create(new_node("acme", json!({"external_id": "e"}))).await;
    assert!(matches!(taken, Err(Error::ExternalIdTaken { existing }) if existing == first));
    bench.create("other", json!({"external_id": "e"})).await;
    let found = bench.graph.by_external_id(&view("acme"), "e".to_owned()).await.expect("found");
    assert_eq!(found.id, first);
    bench.graph.remove(&view("acme"), first).await.expect("removed");
    bench.create("acme", json!({"external_id": "e"})).await;
}

#[tokio::test]
async fn limits_count_waiting_jobs_and_refuse_before_anything_is_written() {
    let bench = bench(Settings { tenant_max: 2, ..settings() });
    for _ in 0..2 {
        bench.create("acme", json!({"text": "n"})).await;
    }
    let over = bench.graph.create(new_node("acme", json!({"text": "n"}))).await;
    assert!(matches!(over, Err(Error::TenantQueueFull)));
    bench.create("other", json!({"text": "n"})).await;
    let page = bench
        .graph
        .list(&view("acme"), Listing { limit: 10, ..Listing::default() })
        .await
        .expect("a page");
    assert_eq!((page.nodes.len(), page.total), (2, 2));
}

#[tokio::test]
async fn a_removed_node_leaves_nothing_behind() {
    let bench = bench(settings());
    let id = bench.create("acme", json!({"text": "pump", "external_id": "e"})).await;
    let other = bench.create("acme", json!({"text": "seal"})).await;
    bench.embed_all(&[1.0, 0.0]).await;
    bench.graph.refresh(&view("acme"), id, Work::manual("eva", "user")).await.expect("queued");
    bench.clock.advance(Duration::from_secs(1));
    bench.embed_all(&[0.0, 1.0]).await;
    for (src, dst) in [(id, other), (other, id), (id, id)] {
        let edge = NewEdge { src, rel: "R".to_owned(), dst, props: Object::new() };
        bench.graph.connect(&view("acme"), edge).await.expect("connected");
    }
    let to = NodeChanges { metadata: Some(object(json!({"a": 1}))), ..NodeChanges::default() };
    bench.graph.update(&view("acme"), id, to).await.expect("changed");
    bench.graph.remove(&view("acme"), id).await.expect("removed");

    let tx = bench.graph.store().read().expect("a snapshot");
    let key = (tenant("acme"), id);
    assert!(tx.get(&NODES, &key).expect("read").is_none());
    assert!(tx.get(&VECTORS, &key).expect("read").is_none());
    assert!(tx.get(&EXTERNAL_IDS, &(tenant("acme"), "e".to_owned())).expect("read").is_none());
    assert_eq!(tx.scan(&EDGES, Scan::all()).expect("rows").count(), 0);
    assert_eq!(tx.scan(&EDGES_IN, Scan::all()).expect("rows").count(), 0);
    assert_eq!(tx.scan(&HISTORY, Scan::prefix(&key)).expect("rows").count(), 0);
    assert_eq!(tx.scan(&VERSIONS, Scan::prefix(&key)).expect("rows").count(), 0);
    assert_eq!(tx.scan(&NODE_EVENTS, Scan::prefix(&key)).expect("rows").count(), 0);
    assert_eq!(tx.scan(&EVENTS, Scan::all()).expect("rows").count(), 0);
    assert_counters_hold(&tx, &tenant("acme"));
    assert!(matches!(bench.graph.remove(&view("acme"), id).await, Err(Error::NodeNotFound)));
}

#[tokio::test]
async fn a_deleted_node_is_read_by_id_only_and_can_come_back() {
    let bench = bench(settings());
    let id = bench.create("acme", json!({"text": "pump"})).await;
    bench.graph.delete(&view("acme"), id).await.expect("deleted");
    bench.graph.delete(&view("acme"), id).await.expect("deleted twice is deleted");
    let node = bench.graph.node(&view("acme"), id).await.expect("a node");
    assert!(node.is_deleted() && node.props.contains_key("deletion_grace_until"));
    let page = bench
        .graph
        .list(&view("acme"), Listing { limit: 10, ..Listing::default() })
        .await
        .expect("a page");
    assert_eq!((page.nodes.len(), page.total), (0, 0));
    assert!(bench.embed_all(&[1.0]).await.is_empty());

    let classes = Some(vec!["Doc".to_owned()]);
    let props = Some(object(json!({"text": "pump"})));
    let to = NodeChanges { classes, props, ..NodeChanges::default() };
    bench.graph.update(&view("acme"), id, to).await.expect("revived");
    assert_eq!(bench.embed_all(&[1.0]).await.len(), 1);
    assert_counters_hold(&bench.graph.store().read().expect("a snapshot"), &tenant("acme"));
}

#[tokio::test]
async fn lineage_ends_in_cycles_and_takes_the_shortest_way() {
    let bench = bench(settings());
    let mut ids = Vec::new();
    for _ in 0..4 {
        ids.push(bench.create("acme", json!({"text": "n"})).await);
    }
    // 0 -> 1 -> 3, 0 -> 2 -> 3, 0 -> 3, and back from 3 to 0.
    for (src, dst) in [(0, 1), (1, 3), (0, 2), (2, 3), (0, 3), (3, 0)] {
        let edge = NewEdge {
            src: ids[src],
            rel: "DERIVED_FROM".to_owned(),
            dst: ids[dst],
            props: Object::new(),
        };
        bench.graph.connect(&view("acme"), edge).await.expect("connected");
    }
    let found = bench.graph.lineage(&view("acme"), ids[0], 50).await.expect("a lineage");
    assert!(found.iter().all(|ancestor| ancestor.depth == 1));
    let mut expected = ids[1..].to_vec();
    expected.sort();
    assert_eq!(found.iter().map(|ancestor| ancestor.id).collect::<Vec<_>>(), expected);
    assert!(bench.graph.lineage(&view("other"), ids[0], 50).await.expect("a lineage").is_empty());
}

#[tokio::test]
async fn edges_need_both_ends_and_come_once() {
    let bench = bench(settings());
    let (mine, theirs) =
        (bench.create("acme", json!({})).await, bench.create("other", json!({})).await);
    let edge = |dst| NewEdge { src: mine, rel: "R".to_owned(), dst, props: Object::new() };
    let refused = bench.graph.connect(&view("acme"), edge(theirs)).await;
    assert!(matches!(refused, Err(Error::NodeNotFound)));
    bench.graph.connect(&view("acme"), edge(mine)).await.expect("connected");
    assert!(matches!(bench.graph.connect(&view("acme"), edge(mine)).await, Err(Error::EdgeExists)));
}

#[tokio::test]
async fn a_batch_goes_on_or_stops_at_the_first_failure() {
    for (go_on, outcomes) in [(true, 3), (false, 2)] {
        let bench = bench(settings());
        bench.create("acme", json!({"external_id": "e"})).await;
        let nodes = [json!({}), json!({"external_id": "e"}), json!({})];
        let nodes = nodes.into_iter().map(|props| new_node("acme", props)).collect();
        let (results, _) = bench.graph.create_many(nodes, go_on).await.expect("written");
        assert_eq!(results.len(), outcomes);
        assert!(results[0].is_ok() && results[1].is_err());
        let tx = bench.graph.store().read().expect("a snapshot");
        assert_counters_hold(&tx, &tenant("acme"));
    }
}

#[tokio::test]
async fn below_the_floor_writes_are_refused_and_deletes_are_not() {
    let mut bench = bench(settings());
    let id = bench.create("acme", json!({"text": "pump"})).await;
    let space = FreeSpace::new(bench.dir.path().to_owned(), Some(u64::MAX)).expect("a file system");
    bench.graph.space = Arc::new(space);
    let refused = bench.graph.create(new_node("acme", json!({}))).await;
    assert!(matches!(refused, Err(Error::NoSpace { needed: u64::MAX, .. })));
    bench.graph.node(&view("acme"), id).await.expect("reads go on");
    bench.graph.remove(&view("acme"), id).await.expect("deletes go on");
}
