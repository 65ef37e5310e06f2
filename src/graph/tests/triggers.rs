//! Triggers, over a real store and vectors that the tests make up.

use activekg_storage::tables::graph::LISTENERS;

use super::*;

const PUMP: [f32; 2] = [1.0, 0.0];
const SEAL: [f32; 2] = [0.0, 1.0];

impl Bench {
    async fn pattern(&self, owner: &str, name: &str, example: &str, model: &str, values: [f32; 2]) {
        let new = NewPattern {
            name: name.to_owned(),
            example_text: example.to_owned(),
            description: None,
        };
        let vector = MadeVector { model: model.to_owned(), values: values.to_vec() };
        self.graph.register_pattern(&view(owner), new, vector).await.expect("registered");
    }

    async fn listening(&self, owner: &str, text: &str, threshold: f64) -> NodeId {
        let mut new = new_node(owner, json!({"text": text}));
        new.triggers = vec![Trigger { name: "pump".to_owned(), threshold }];
        self.graph.create(new).await.expect("created").0.id
    }

    /// Makes every check that waits; the names of what fired.
    async fn check(&self) -> Vec<String> {
        let mut fired = Vec::new();
        loop {
            let checked = self.graph.check_triggers(10).await.expect("checked");
            fired.extend(checked.fired.into_iter().map(|(name, _)| name));
            if checked.made.is_empty() || checked.waiting {
                return fired;
            }
        }
    }

    async fn fired(&self, owner: &str, node: NodeId) -> Vec<f64> {
        let query = EventQuery { node: Some(node), kind: Some("trigger_fired".into()), limit: 10 };
        let events = self.graph.events(&view(owner), query).await.expect("events");
        let similarity = |event: &Event| {
            assert_eq!(event.payload["trigger"], "pump");
            assert_eq!(event.actor_id.as_deref(), Some("trigger_engine"));
            assert_eq!(event.actor_type.as_deref(), Some("trigger"));
            event.payload["similarity"].as_f64().expect("a number")
        };
        events.iter().map(similarity).collect()
    }
}

#[tokio::test]
async fn a_trigger_fires_once_for_each_text_and_each_example() {
    let bench = bench(settings());
    let node = bench.listening("acme", "the pump leaks", 0.8).await;
    bench.embed_all(&PUMP).await;
    assert_eq!(bench.check().await, Vec::<String>::new(), "there is no such pattern");

    bench.pattern("acme", "pump", "a pump", "test", PUMP).await;
    assert_eq!(bench.check().await, ["pump"]);
    assert_eq!(bench.fired("acme", node).await, [1.0]);

    // The same example, and the same text embedded again, are no news.
    bench.pattern("acme", "pump", "a pump", "test", PUMP).await;
    let work = Work::manual("eva", "user");
    bench.graph.refresh(&view("acme"), node, work).await.expect("queued");
    bench.clock.advance(Duration::from_secs(1));
    bench.embed_all(&PUMP).await;
    assert_eq!(bench.check().await, Vec::<String>::new());

    let to = NodeChanges { props: Some(object(json!({"text": "new"}))), ..NodeChanges::default() };
    bench.graph.update(&view("acme"), node, to).await.expect("changed");
    bench.embed_all(&PUMP).await;
    assert_eq!(bench.check().await, ["pump"], "another text");
    bench.clock.advance(Duration::from_secs(1));
    bench.pattern("acme", "pump", "another pump", "test", PUMP).await;
    assert_eq!(bench.check().await, ["pump"], "another example");
    assert_eq!(bench.fired("acme", node).await.len(), 3);
}

#[tokio::test]
async fn what_is_too_different_does_not_fire_until_the_threshold_is_lowered() {
    let bench = bench(settings());
    bench.pattern("acme", "pump", "a pump", "test", PUMP).await;
    let node = bench.listening("acme", "something", 0.8).await;
    bench.embed_all(&[1.0, 1.0]).await;
    assert_eq!(bench.check().await, Vec::<String>::new());
    let triggers = Some(vec![Trigger { name: "pump".to_owned(), threshold: 0.7 }]);
    let to = NodeChanges { triggers, ..NodeChanges::default() };
    bench.graph.update(&view("acme"), node, to).await.expect("changed");
    assert_eq!(bench.check().await, ["pump"]);
    let similarity = bench.fired("acme", node).await[0];
    assert!((similarity - 0.5_f64.sqrt()).abs() < 1e-6, "{similarity}");
}

#[tokio::test]
async fn the_best_window_of_a_long_text_counts() {
    let bench = bench(Settings { windows: Windows::Best, ..settings() });
    bench.pattern("acme", "pump", "a pump", "test", PUMP).await;
    let node = bench.listening("acme", "long", 0.8).await;
    let (batch, _) = bench.graph.take(10).await.expect("taken");
    let windows = crate::embedding::FurtherWindows {
        mode: activekg_storage::tables::graph::WindowsMode::Best,
        vectors: vec![SEAL.to_vec(), PUMP.to_vec()],
    };
    let vector = crate::embedding::TextVector { values: SEAL.to_vec(), windows: Some(windows) };
    let results = batch.into_iter().map(|job| (job, Ok(vector.clone()))).collect();
    bench.graph.settle(results, made_by()).await.expect("settled");
    assert_eq!(bench.check().await, ["pump"]);
    assert_eq!(bench.fired("acme", node).await, [1.0]);
}

#[tokio::test]
async fn tenants_have_patterns_of_their_own_and_see_shared_ones() {
    let bench = bench(settings());
    let ours = bench.listening("acme", "pump", 0.8).await;
    let theirs = bench.listening("other", "pump", 0.8).await;
    bench.embed_all(&PUMP).await;
    bench.pattern("acme", "pump", "a pump", "test", PUMP).await;
    bench.check().await;
    assert_eq!(bench.fired("acme", ours).await.len(), 1);
    assert_eq!(bench.fired("other", theirs).await.len(), 0);
    assert!(bench.graph.patterns(&view("other")).await.expect("listed").is_empty());
    let removed = bench.graph.remove_pattern(&view("other"), "pump".to_owned()).await;
    assert!(matches!(removed, Err(Error::PatternNotFound(_))));

    let shared = View::of(TenantId::shared());
    let new = NewPattern { name: "pump".into(), example_text: "p".into(), description: None };
    let vector = MadeVector { model: "test".to_owned(), values: PUMP.to_vec() };
    bench.graph.register_pattern(&shared, new, vector).await.expect("registered");
    bench.graph.refresh(&view("other"), theirs, Work::manual("e", "user")).await.expect("queued");
    bench.embed_all(&PUMP).await;
    assert_eq!(bench.check().await, ["pump"], "by the shared one");
    assert_eq!(bench.graph.patterns(&view("other")).await.expect("listed").len(), 1);
    assert_eq!(bench.graph.patterns(&view("acme")).await.expect("listed").len(), 1);
    assert_eq!(bench.graph.n_patterns(&view("other")).await.expect("counted"), 0);
}

#[tokio::test]
async fn checks_wait_for_a_pattern_of_the_model_that_serves() {
    let bench = bench(settings());
    bench.pattern("acme", "pump", "a pump", "before", SEAL).await;
    let node = bench.listening("acme", "pump", 0.8).await;
    bench.embed_all(&PUMP).await;
    let checked = bench.graph.check_triggers(10).await.expect("checked");
    assert!(checked.waiting && checked.fired.is_empty());

    let stale = bench.graph.stale_patterns("test".to_owned(), 10).await.expect("listed");
    assert_eq!(stale.len(), 1);
    assert_eq!(stale[0].example_text, "a pump");
    let vector = MadeVector { model: "test".to_owned(), values: PUMP.to_vec() };
    let made = stale.into_iter().map(|stale| (stale, vector.clone())).collect();
    bench.graph.embed_patterns(made).await.expect("written");
    assert!(bench.graph.stale_patterns("test".to_owned(), 9).await.expect("listed").is_empty());
    assert_eq!(bench.check().await, ["pump"]);
    assert_eq!(bench.fired("acme", node).await.len(), 1);
}

#[tokio::test]
async fn a_pattern_is_looked_for_at_more_nodes_than_one_step_takes() {
    let bench = bench(settings());
    let nodes = (0..1100).map(|n| {
        let mut new = new_node("acme", json!({"text": format!("pump {n}")}));
        new.triggers = vec![Trigger { name: "pump".to_owned(), threshold: 0.8 }];
        new
    });
    bench.graph.create_many(nodes.collect(), true).await.expect("created");
    while !bench.embed_all(&PUMP).await.is_empty() {}
    bench.check().await;
    bench.pattern("acme", "pump", "a pump", "test", PUMP).await;
    assert_eq!(bench.check().await.len(), 1100);
    bench.pattern("acme", "pump", "a pump", "test", PUMP).await;
    assert_eq!(bench.check().await.len(), 0);
}

#[tokio::test]
async fn nodes_that_stop_listening_or_go_are_not_looked_at() {
    let bench = bench(settings());
    let stops = bench.listening("acme", "a", 0.8).await;
    let deleted = bench.listening("acme", "b", 0.8).await;
    let removed = bench.listening("acme", "c", 0.8).await;
    bench.embed_all(&PUMP).await;
    let to = NodeChanges { triggers: Some(Vec::new()), ..NodeChanges::default() };
    bench.graph.update(&view("acme"), stops, to).await.expect("changed");
    bench.graph.delete(&view("acme"), deleted).await.expect("deleted");
    bench.graph.remove(&view("acme"), removed).await.expect("removed");
    let tx = bench.graph.store().read().expect("a snapshot");
    assert_eq!(tx.scan(&LISTENERS, Scan::all()).expect("rows").count(), 0);
    drop(tx);
    bench.pattern("acme", "pump", "a pump", "test", PUMP).await;
    assert_eq!(bench.check().await, Vec::<String>::new());
}
