//! Acts on the embedding queue of a real store, on a clock that stands still.

use activekg_storage::ids::NodeId;
use activekg_storage::queue::State;
use activekg_storage::tables::auth::{AUDIT, AuditRecord};
use activekg_storage::tables::graph::{EmbeddingStatus, Slot};
use activekg_storage::time::ManualClock;
use activekg_storage::{Readable, Scan, StoreOptions};
use serde_json::json;

use super::*;
use crate::graph::{
    FreeSpace, Graph, JOB_PURGED, MadeBy, NewNode, Node, Object, QUEUE, Requeue, Settings, View,
    wrong_counters,
};

const ACTOR: &str = "root";

struct Bench {
    graph: Graph,
    queues: Queues,
    clock: ManualClock,
    _dir: tempfile::TempDir,
}

fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path(), StoreOptions::default()).unwrap());
    let clock = ManualClock::at(UnixMicros(1_000_000_000_000));
    let space = FreeSpace::new(dir.path().to_owned(), Some(0)).unwrap();
    let settings = Settings::default();
    let shown: Arc<dyn Clock> = Arc::new(clock.clone());
    let graph = Graph::new(store.clone(), settings, shown.clone(), space);
    Bench { graph, queues: Queues::new(store, shown), clock, _dir: dir }
}

/// Who makes the vectors of these tests.
fn made_by() -> MadeBy {
    MadeBy { model: "test".to_owned(), dim: 2, slot: Slot::A }
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn embedding() -> &'static Managed {
    find("embedding").unwrap()
}

fn of(name: &str) -> Letters {
    Letters { tenant: Some(tenant(name)), ..Letters::default() }
}

impl Bench {
    /// Creates nodes, each of which waits for its embedding.
    async fn create(&self, owner: &str, n: usize) -> Vec<NodeId> {
        let node = |n| NewNode {
            tenant: tenant(owner),
            classes: vec!["Doc".to_owned()],
            props: json!({ "text": format!("text {n}") }).as_object().unwrap().clone(),
            payload_ref: None,
            metadata: Object::new(),
            refresh_policy: Object::new(),
            triggers: Vec::new(),
        };
        let (outcomes, _) = self.graph.create_many((0..n).map(node).collect(), true).await.unwrap();
        outcomes.into_iter().map(|outcome| outcome.unwrap().id).collect()
    }

    /// Lets every job that waits fail until it is given up.
    async fn give_up(&self, error: &str) {
        for _ in 0..QUEUE.max_attempts {
            self.clock.advance(QUEUE.backoff_cap * 2);
            let (batch, _) = self.graph.take(1000).await.unwrap();
            let results = batch.into_iter().map(|job| (job, Err(error.to_owned()))).collect();
            self.graph.settle(results, made_by()).await.unwrap();
        }
    }

    async fn node(&self, owner: &str, id: NodeId) -> Node {
        self.graph.node(&View::of(tenant(owner)), id).await.unwrap()
    }

    async fn depths(&self, owner: Option<&str>) -> [u64; 5] {
        let stats = self.queues.stats(embedding(), owner.map(tenant)).await.unwrap();
        let queue::Depths { ready, delayed, leased, held, dead } = stats.depths;
        [ready, delayed, leased, held, dead]
    }

    async fn requeue(&self, owner: &str) -> usize {
        // What a request asks for that says nothing.
        let failed = Requeue {
            ids: None,
            status: Some(EmbeddingStatus::Failed),
            only_missing: false,
            backfill_ready: true,
            limit: 2000,
        };
        self.graph.requeue(&View::of(tenant(owner)), failed).await.unwrap().enqueued
    }

    /// The audit trail, with particulars as JSON. Also looks whether the counters hold.
    fn audit(&self) -> Vec<(AuditRecord, Value)> {
        let tx = self.graph.store().read().unwrap();
        assert!(wrong_counters(&tx).unwrap().is_empty());
        let rows = tx.scan(&AUDIT, Scan::all()).unwrap();
        rows.map(|row| {
            let record = row.unwrap().1;
            let details = serde_json::from_str(record.details.as_str()).unwrap();
            (record, details)
        })
        .collect()
    }
}

#[test]
fn queues_have_names_of_their_own() {
    for queue in ALL {
        assert_eq!(find(queue.def.name).unwrap().def, queue.def);
    }
    assert!(matches!(find("nothing"), Err(Error::NotFound)));
}

#[tokio::test]
async fn purged_jobs_leave_nodes_that_a_requeue_finds() {
    let bench = bench();
    let ids = bench.create("acme", 3).await;
    bench.create("other", 2).await;
    let (taken, _) = bench.graph.take(1).await.unwrap();
    let held = taken[0].node.id;
    assert_eq!(held, ids[0], "the first tenant's first");

    let waiting = Waiting { tenant: Some(tenant("acme")), ..Waiting::default() };
    let done = bench.queues.purge(embedding(), waiting, ACTOR).await.unwrap();
    assert_eq!(done, Purged { purged: 2, remaining: 0 });
    assert_eq!(bench.depths(Some("acme")).await, [0, 0, 1, 0, 0], "what is leased stays");
    assert_eq!(bench.depths(Some("other")).await, [2, 0, 0, 0, 0]);
    for id in &ids[1..] {
        let node = bench.node("acme", *id).await;
        assert_eq!(node.embedding_status, EmbeddingStatus::Failed);
        assert_eq!(node.embedding_error.as_deref(), Some(JOB_PURGED));
    }
    assert_eq!(bench.node("acme", held).await.embedding_status, EmbeddingStatus::Processing);

    let [(entry, details)] = &bench.audit()[..] else { panic!("one act, one entry") };
    assert_eq!((entry.actor.as_str(), entry.action.as_str()), (ACTOR, "queue.purge"));
    assert_eq!((entry.object.as_str(), &entry.tenant), ("embedding", &Some(tenant("acme"))));
    assert_eq!(details, &json!({ "purged": 2 }));

    assert_eq!(bench.requeue("acme").await, 2);
    assert_eq!(bench.depths(Some("acme")).await, [2, 0, 1, 0, 0]);
    assert_eq!(bench.node("acme", ids[1]).await.embedding_error, None);
}

#[tokio::test]
async fn a_purge_keeps_the_newest_of_each_tenant() {
    let bench = bench();
    bench.create("acme", 5).await;
    bench.create("other", 1).await;
    let waiting = Waiting { keep: 2, ..Waiting::default() };
    let done = bench.queues.purge(embedding(), waiting, ACTOR).await.unwrap();
    assert_eq!(done, Purged { purged: 3, remaining: 3 });
    assert_eq!(bench.depths(Some("acme")).await[0], 2);
    let (taken, _) = bench.graph.take(9).await.unwrap();
    let texts: Vec<_> = taken.iter().map(|job| job.text.clone().unwrap()).collect();
    assert_eq!(texts, ["text 3", "text 0", "text 4"], "the newest, tenants in turn");
    assert_eq!(bench.audit()[0].1, json!({ "keep": 2, "purged": 3 }));
}

#[tokio::test]
async fn a_purge_goes_by_age() {
    let bench = bench();
    bench.create("acme", 2).await;
    bench.clock.advance(Duration::from_secs(3600));
    let young = bench.create("acme", 1).await;
    bench.clock.advance(Duration::from_secs(60));
    let waiting = |minutes: u64| Waiting {
        older_than: Some(Duration::from_secs(minutes * 60)),
        ..Waiting::default()
    };
    let none = bench.queues.purge(embedding(), waiting(120), ACTOR).await.unwrap();
    assert_eq!(none, Purged { purged: 0, remaining: 3 });
    bench.clock.advance(Duration::from_secs(1));
    let old = bench.queues.purge(embedding(), waiting(30), ACTOR).await.unwrap();
    assert_eq!(old, Purged { purged: 2, remaining: 1 });
    let peek = bench.queues.peek(embedding(), None, End::Oldest, 9).await.unwrap();
    assert_eq!(peek.items[0].1.key, Some(young[0].to_string()));
    let told: Vec<Value> = bench.audit().into_iter().map(|(_, details)| details).collect();
    assert_eq!(
        told,
        [
            json!({ "older_than_seconds": 7200, "purged": 0 }),
            json!({ "older_than_seconds": 1800, "purged": 2 }),
        ]
    );
}

#[tokio::test]
async fn a_long_purge_is_one_entry() {
    let bench = bench();
    bench.create("acme", 600).await;
    bench.create("other", 300).await;
    let all = Waiting::default();
    let done = bench.queues.purge(embedding(), all.clone(), ACTOR).await.unwrap();
    assert_eq!(done, Purged { purged: 900, remaining: 0 });
    assert_eq!(bench.depths(None).await, [0; 5]);
    let [(_, details)] = &bench.audit()[..] else { panic!("one act, one entry") };
    assert_eq!(details, &json!({ "purged": 900 }));
    // An act that finds nothing is one all the same.
    bench.clock.advance(Duration::from_secs(1));
    let done = bench.queues.purge(embedding(), all, ACTOR).await.unwrap();
    assert_eq!(done, Purged::default());
    assert_eq!(bench.audit().len(), 2);
}

#[tokio::test]
async fn replayed_letters_bring_their_nodes_back() {
    let bench = bench();
    let ids = bench.create("acme", 2).await;
    bench.create("other", 1).await;
    bench.give_up("no model").await;
    assert_eq!(bench.depths(None).await, [0, 0, 0, 0, 3]);
    let node = bench.node("acme", ids[0]).await;
    assert_eq!((node.embedding_status, node.embedding_attempts), (EmbeddingStatus::Failed, 5));

    // One of them, by its name.
    let (depth, letters) =
        bench.queues.dead(embedding(), of("acme"), End::Oldest, 9).await.unwrap();
    assert_eq!((depth, letters.len()), (2, 2));
    let first = letters.iter().find(|letter| letter.key == Some(ids[0].to_string())).unwrap();
    assert_eq!((first.error.as_str(), first.reason), ("no model", DeadReason::Exhausted));
    let one = Letters { id: Some(first.id), ..Letters::default() };
    let done = bench.queues.replay(embedding(), one, ACTOR).await.unwrap();
    assert_eq!(done, Replayed { replayed: 1, superseded: 0 });
    let node = bench.node("acme", ids[0]).await;
    assert_eq!((node.embedding_status, node.embedding_attempts), (EmbeddingStatus::Queued, 0));
    assert_eq!(node.embedding_error, None);
    assert_eq!(bench.node("acme", ids[1]).await.embedding_status, EmbeddingStatus::Failed);

    // Those of a reason: none died of another.
    let parse = Letters { reason: Some(DeadReason::Parse), ..Letters::default() };
    let done = bench.queues.replay(embedding(), parse, ACTOR).await.unwrap();
    assert_eq!(done, Replayed::default());
    let exhausted = Letters { reason: Some(DeadReason::Exhausted), ..of("other") };
    let done = bench.queues.replay(embedding(), exhausted, ACTOR).await.unwrap();
    assert_eq!(done.replayed, 1);
    let done = bench.queues.replay(embedding(), Letters::default(), ACTOR).await.unwrap();
    assert_eq!(done.replayed, 1);
    assert_eq!(bench.depths(None).await, [3, 0, 0, 0, 0]);

    let (taken, _) = bench.graph.take(9).await.unwrap();
    assert!(taken.iter().all(|job| job.leased.attempt == 1), "all attempts are before them");
    let told: Vec<Value> = bench.audit().into_iter().map(|(_, details)| details).collect();
    assert_eq!(told.len(), 4);
    assert!(told.contains(&json!({ "reason": "parse", "replayed": 0, "superseded": 0 })));
    let one = json!({ "id": first.id.to_string(), "replayed": 1, "superseded": 0 });
    assert!(told.contains(&one), "{told:?}");
}

#[tokio::test]
async fn letters_about_what_is_queued_again_stay() {
    let bench = bench();
    let ids = bench.create("acme", 600).await;
    bench.give_up("no model").await;
    let work = crate::graph::Work::manual("someone", "user");
    bench.graph.refresh(&View::of(tenant("acme")), ids[0], work).await.unwrap();
    let done = bench.queues.replay(embedding(), Letters::default(), ACTOR).await.unwrap();
    assert_eq!(done, Replayed { replayed: 599, superseded: 1 }, "in several batches");
    assert_eq!(bench.depths(None).await, [600, 0, 0, 0, 1]);
    let [(_, details)] = &bench.audit()[..] else { panic!("one act, one entry") };
    assert_eq!(details, &json!({ "replayed": 599, "superseded": 1 }));
    let peek = bench.queues.peek(embedding(), Some(tenant("acme")), End::Oldest, 1).await.unwrap();
    let item = (embedding().item)(&peek.items[0].1.payload);
    assert_eq!(item, json!({ "node_id": ids[0].to_string(), "requested_by": "someone" }));
}

#[tokio::test]
async fn letters_are_cleared_by_what_they_are() {
    let bench = bench();
    bench.create("acme", 2).await;
    bench.give_up("old").await;
    bench.clock.advance(Duration::from_secs(24 * 3600));
    bench.create("acme", 2).await;
    bench.create("other", 1).await;
    bench.give_up("new").await;
    let clear =
        async |letters, keep| bench.queues.clear(embedding(), letters, keep, ACTOR).await.unwrap();
    let crashed = Letters { reason: Some(DeadReason::CrashLoop), ..Letters::default() };
    assert_eq!(clear(crashed, 0).await, Purged { purged: 0, remaining: 5 });
    let old = Letters { older_than: Some(Duration::from_secs(12 * 3600)), ..Letters::default() };
    assert_eq!(clear(old, 1).await, Purged { purged: 1, remaining: 4 });
    assert_eq!(clear(of("acme"), 1).await, Purged { purged: 2, remaining: 1 });
    let (depth, left) = bench.queues.dead(embedding(), of("acme"), End::Newest, 9).await.unwrap();
    assert_eq!((depth, left[0].error.as_str()), (1, "new"));
    assert_eq!(clear(Letters::default(), 0).await, Purged { purged: 2, remaining: 0 });
    let actions = bench.audit().into_iter().map(|(entry, _)| entry.action);
    assert_eq!(actions.collect::<Vec<_>>(), ["queue.dead.clear"; 4]);
    // The nodes are as they were, and a requeue finds them.
    assert_eq!(bench.requeue("acme").await, 4);
}

#[tokio::test]
async fn a_paused_queue_gives_nothing_until_it_is_resumed() {
    let bench = bench();
    bench.create("acme", 1).await;
    assert!(bench.queues.pause(embedding(), ACTOR).await.unwrap());
    assert!(!bench.queues.pause(embedding(), ACTOR).await.unwrap());
    assert!(bench.graph.take(9).await.unwrap().0.is_empty());
    let listed = bench.queues.list().await.unwrap();
    assert!(listed.iter().any(|(queue, stats)| queue.def == QUEUE && stats.paused));
    assert!(bench.queues.resume(embedding(), ACTOR).await.unwrap());
    assert_eq!(bench.graph.take(9).await.unwrap().0.len(), 1);
    let mut told: Vec<_> = bench
        .audit()
        .into_iter()
        .map(|(entry, details)| (entry.action, details["changed"] == true))
        .collect();
    told.sort();
    let expected = [("queue.pause", false), ("queue.pause", true), ("queue.resume", true)]
        .map(|(action, changed)| (action.to_owned(), changed));
    assert_eq!(told, expected);
}

#[tokio::test]
async fn items_of_all_tenants_are_shown_by_age() {
    let bench = bench();
    let mut ids = Vec::new();
    for owner in ["b", "a", "b", "c"] {
        ids.extend(bench.create(owner, 1).await);
        bench.clock.advance(Duration::from_secs(1));
    }
    let peek = async |owner: Option<&str>, from, limit| {
        let peek = bench.queues.peek(embedding(), owner.map(tenant), from, limit).await.unwrap();
        let keys =
            peek.items.into_iter().map(|(_, item)| item.key.unwrap().parse::<NodeId>().unwrap());
        (peek.depth, keys.collect::<Vec<_>>())
    };
    assert_eq!(peek(None, End::Oldest, 3).await, (4, ids[..3].to_vec()));
    assert_eq!(peek(None, End::Newest, 2).await, (4, vec![ids[3], ids[2]]));
    assert_eq!(peek(Some("b"), End::Newest, 9).await, (2, vec![ids[2], ids[0]]));
    assert_eq!(peek(Some("nobody"), End::Oldest, 9).await, (0, Vec::new()));
    bench.graph.take(1).await.unwrap();
    let all = bench.queues.peek(embedding(), None, End::Oldest, 9).await.unwrap();
    let leased = all.items.iter().filter(|(_, item)| item.state == State::Leased);
    assert_eq!(leased.count(), 1);
    let tenants = bench.queues.tenants(embedding()).await.unwrap();
    let names: Vec<&str> = tenants.iter().map(|(tenant, _)| tenant.as_str()).collect();
    assert_eq!(names, ["a", "b", "c"]);
}
