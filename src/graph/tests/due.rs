//! When nodes are due, over a real store and a clock that the tests move.

use std::collections::BTreeMap;

use activekg_storage::tables::graph::{DUE, DUE_OF, NodeRecord, SWEEPS};
use proptest::prelude::*;

use super::*;

const MINUTE: Duration = Duration::from_secs(60);

impl Bench {
    async fn with_policy(&self, policy: serde_json::Value) -> NodeId {
        let mut new = new_node("acme", json!({"text": "pump"}));
        new.refresh_policy = object(policy);
        self.graph.create(new).await.expect("created").0.id
    }

    /// How many nodes a cycle queues.
    async fn cycle(&self) -> usize {
        self.graph.refresh_due(None, 100).await.expect("queued").0.jobs.len()
    }

    async fn next_due_in(&self) -> Option<Duration> {
        use activekg_storage::time::Clock;
        let due = self.graph.next_due().await.expect("read");
        due.map(|due| due.since(self.clock.now()))
    }
}

#[tokio::test]
async fn a_node_is_refreshed_again_and_again() {
    let bench = bench(settings());
    let id = bench.with_policy(json!({"interval": "5m", "drift_threshold": 0.5})).await;
    assert_eq!(bench.cycle().await, 0, "its first embedding waits anyhow");
    bench.embed_all(&[1.0, 0.0]).await;
    assert_eq!(bench.next_due_in().await, Some(5 * MINUTE));
    bench.clock.advance(5 * MINUTE - Duration::from_secs(1));
    assert_eq!(bench.cycle().await, 0);
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.cycle().await, 1);
    assert_eq!(bench.cycle().await, 0, "it is queued");

    let outcomes = bench.embed_all(&[0.0, 1.0]).await;
    assert!(matches!(outcomes[..], [Embedded::Ready { event: Some(_), .. }]), "{outcomes:?}");
    let query = EventQuery { node: Some(id), kind: None, limit: 10 };
    let events = bench.graph.events(&view("acme"), query).await.expect("events");
    assert_eq!(events[0].kind, "refreshed");
    assert_eq!(events[0].actor_id.as_deref(), Some("scheduler"));
    assert_eq!(events[0].actor_type.as_deref(), Some("scheduler"));
    assert_eq!(events[0].payload["threshold_exceeded"], true);
    assert_eq!(bench.next_due_in().await, Some(5 * MINUTE));
}

#[tokio::test]
async fn only_the_nodes_of_a_tenant_are_queued_for_it() {
    let bench = bench(settings());
    bench.with_policy(json!({"interval": "1m"})).await;
    bench.embed_all(&[1.0]).await;
    bench.clock.advance(MINUTE);
    let of = |name| bench.graph.refresh_due(Some(tenant(name)), 100);
    assert_eq!(of("other").await.expect("queued").0.jobs.len(), 0);
    assert_eq!(of("acme").await.expect("queued").0.jobs.len(), 1);
}

#[tokio::test]
async fn a_node_that_fails_is_tried_later_and_later_and_holds_up_nobody() {
    let bench = bench(settings());
    let bad = bench.with_policy(json!({"interval": "1m"})).await;
    let good = bench.with_policy(json!({"interval": "1m"})).await;
    bench.embed_all(&[1.0]).await;
    let mut waits = Vec::new();
    for _ in 0..4 {
        let due = bench.next_due_in().await.expect("due");
        bench.clock.advance(due.max(MINUTE));
        bench.cycle().await;
        // Every attempt fails, until the job is given up.
        for _ in 0..QUEUE.max_attempts {
            let (batch, _) = bench.graph.take(10).await.expect("taken");
            let settled = batch.into_iter().map(|job| match job.node.id == bad {
                true => (job, Err("no luck".to_owned())),
                false => (job, Ok(vec![1.0].into())),
            });
            bench.graph.settle(settled.collect(), made_by()).await.expect("settled");
            bench.clock.advance(Duration::from_secs(301));
        }
        let tx = bench.graph.store().read().expect("a snapshot");
        let due = tx.get(&DUE_OF, &(tenant("acme"), bad)).expect("read").expect("a row");
        waits.push(due.failures);
    }
    assert_eq!(waits, [1, 2, 3, 4]);
    let node = bench.graph.node(&view("acme"), bad).await.expect("a node");
    assert_eq!(node.embedding_status, EmbeddingStatus::Failed);
    assert!(node.has_embedding(), "it keeps the vector it has");
    let node = bench.graph.node(&view("acme"), good).await.expect("a node");
    assert_eq!(node.embedding_status, EmbeddingStatus::Ready);
}

#[tokio::test]
async fn an_older_store_is_gone_through_once() {
    let bench = bench(settings());
    let ids = [
        bench.with_policy(json!({"interval": "1m"})).await,
        bench.with_policy(json!({"cron": "*/5 * * * *"})).await,
        bench.with_policy(json!({})).await,
    ];
    bench.embed_all(&[1.0]).await;
    assert!(bench.graph.upgrade_nodes().await.expect("placed"));
    // As if it had been written by a version without these tables.
    let forget = move |tx: &mut activekg_storage::WriteTx<'_>| -> Result<(), Error> {
        tx.remove(&SWEEPS, &("refresh_due".to_owned(),))?;
        for id in ids {
            let key = (tenant("acme"), id);
            if let Some(due) = tx.take(&DUE_OF, &key)? {
                tx.remove(&DUE, &(due.at, key.0, key.1))?;
            }
        }
        Ok(())
    };
    bench.graph.store().write(forget).await.expect("forgotten");
    assert_eq!(bench.next_due_in().await, None);
    assert!(bench.graph.upgrade_nodes().await.expect("placed"));
    assert_eq!(bench.next_due_in().await, Some(MINUTE));
    bench.clock.advance(5 * MINUTE);
    assert_eq!(bench.cycle().await, 2);
}

#[derive(Debug, Clone)]
enum Op {
    Create(u8),
    Policy(usize, u8),
    Embed,
    Refresh(usize),
    Delete(usize),
    Remove(usize),
    Advance(u16),
    Cycle,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        3 => any::<u8>().prop_map(Op::Create),
        2 => (any::<usize>(), any::<u8>()).prop_map(|(n, p)| Op::Policy(n, p)),
        3 => Just(Op::Embed),
        1 => any::<usize>().prop_map(Op::Refresh),
        1 => any::<usize>().prop_map(Op::Delete),
        1 => any::<usize>().prop_map(Op::Remove),
        3 => any::<u16>().prop_map(Op::Advance),
        2 => Just(Op::Cycle),
    ]
}

fn policy(n: u8) -> serde_json::Value {
    match n % 4 {
        0 => json!({}),
        1 => json!({"interval": "1m"}),
        2 => json!({"interval": "2h"}),
        _ => json!({"cron": "*/7 * * * *"}),
    }
}

/// Every node with a schedule has one row, which is in order and not before the schedule has it;
/// nothing else has any.
fn assert_order_holds(tx: &ReadTx) {
    let rows = tx.scan(&DUE, Scan::all()).expect("rows").map(|row| row.expect("a row").0);
    let order: BTreeMap<_, _> = rows.map(|(at, tenant, node)| ((tenant, node), at)).collect();
    let rows = tx.scan(&DUE_OF, Scan::all()).expect("rows").map(|row| row.expect("a row"));
    let of: BTreeMap<_, _> = rows.map(|(key, due)| (key, due.at)).collect();
    assert_eq!(order, of);
    assert_eq!(tx.scan(&DUE, Scan::all()).expect("rows").count(), of.len());
    for row in tx.scan(&NODES, Scan::all()).expect("rows") {
        let (key, record): (_, NodeRecord) = row.expect("a row");
        let scheduled = !record.deleted && record.refresh_policy.as_str() != "{}";
        assert_eq!(of.contains_key(&key), scheduled, "{}", record.refresh_policy.as_str());
        if let (Some(at), Some(last)) = (of.get(&key), record.last_refreshed) {
            assert!(*at > last, "due before it was refreshed");
        }
    }
    let nodes = tx.scan(&NODES, Scan::all()).expect("rows").count();
    assert!(of.len() <= nodes);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn the_order_follows_the_nodes(ops in prop::collection::vec(op(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let bench = bench(settings());
            let mut ids = Vec::new();
            let view = view("acme");
            for op in ops {
                let pick = |n: usize| ids.get(n % ids.len().max(1)).copied();
                // Nodes may be gone: that is refused and changes nothing.
                match op {
                    Op::Create(p) => ids.push(bench.with_policy(policy(p)).await),
                    Op::Policy(n, p) => if let Some(id) = pick(n) {
                        let to = Some(object(policy(p)));
                        let to = NodeChanges { refresh_policy: to, ..NodeChanges::default() };
                        drop(bench.graph.update(&view, id, to).await);
                    },
                    Op::Embed => drop(bench.embed_all(&[1.0]).await),
                    Op::Refresh(n) => if let Some(id) = pick(n) {
                        drop(bench.graph.refresh(&view, id, Work::manual("e", "user")).await);
                    },
                    Op::Delete(n) => if let Some(id) = pick(n) {
                        drop(bench.graph.delete(&view, id).await);
                    },
                    Op::Remove(n) => if let Some(id) = pick(n) {
                        drop(bench.graph.remove(&view, id).await);
                    },
                    Op::Advance(s) => bench.clock.advance(Duration::from_secs(s.into())),
                    Op::Cycle => drop(bench.cycle().await),
                }
                assert_order_holds(&bench.graph.store().read().expect("a snapshot"));
            }
        });
    }
}
