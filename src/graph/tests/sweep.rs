//! Texts that come out differently under other rules.

use activekg_storage::tables::graph::{WINDOWS, WindowsMode};

use super::*;
use crate::embedding::{FurtherWindows, TextVector, Windows};

/// The same store under a graph of other settings, as after a restart.
fn restarted(bench: &Bench, settings: Settings) -> Graph {
    let space = FreeSpace::new(bench.dir.path().to_owned(), Some(0)).expect("a file system");
    let clock = Arc::new(bench.clock.clone());
    Graph::new(bench.graph.store().clone(), settings, clock, space)
}

fn with_prefix() -> Settings {
    Settings { embedding_prefix: true, ..settings() }
}

async fn swept(graph: &Graph) -> Sweep {
    loop {
        let sweep = graph.sweep_texts(|_| false).await.expect("swept");
        if sweep.done {
            return sweep;
        }
    }
}

#[tokio::test]
async fn only_nodes_whose_text_differs_are_embedded_again() {
    let bench = bench(settings());
    let job = bench.create("acme", json!({"text": "pump", "job_title": "Fitter"})).await;
    let plain = bench.create("acme", json!({"text": "pump"})).await;
    let none = bench.create("other", json!({"k": 1})).await;
    bench.embed_all(&[1.0, 0.0]).await;
    let unchanged = swept(&bench.graph).await;
    assert_eq!(unchanged, Sweep { checked: 3, queued: 0, done: true });

    let graph = restarted(&bench, with_prefix());
    assert_eq!(swept(&graph).await, Sweep { checked: 3, queued: 1, done: true });
    let (batch, _) = graph.take(10).await.expect("taken");
    let taken: Vec<NodeId> = batch.iter().map(|job| job.node.id).collect();
    assert_eq!(taken, [job]);
    assert_eq!(batch[0].text, Ok("JOB_TITLE: Fitter\n\npump".to_owned()));
    for id in [plain, none] {
        assert!(!taken.contains(&id));
    }
    let results = batch.into_iter().map(|job| (job, Ok(vec![0.0, 1.0].into()))).collect();
    graph.settle(results, made_by()).await.expect("settled");
    assert_counters_hold(&graph.store().read().expect("a snapshot"), &tenant("acme"));

    // Swept under these rules: a further start looks at nothing.
    let again = restarted(&bench, with_prefix());
    assert_eq!(swept(&again).await, Sweep { done: true, ..Sweep::default() });
}

#[tokio::test]
async fn a_sweep_goes_on_where_it_was_and_the_vector_stays_meanwhile() {
    let bench = bench(settings());
    let mut ids = Vec::new();
    for n in 0..260 {
        ids.push(bench.create("acme", json!({"text": n.to_string(), "job_title": "t"})).await);
    }
    // The order of the sweep, which is not that of nodes created in one instant.
    ids.sort_unstable();
    while !bench.embed_all(&[1.0]).await.is_empty() {}
    let graph = restarted(&bench, with_prefix());
    let half = graph.sweep_texts(|_| false).await.expect("swept");
    assert_eq!(half, Sweep { checked: 250, queued: 250, done: false });
    let node = graph.node(&view("acme"), ids[0]).await.expect("a node");
    assert_eq!(node.embedding_status, EmbeddingStatus::Queued);
    assert!(node.has_embedding());
    let graph = restarted(&bench, with_prefix());
    assert_eq!(swept(&graph).await, Sweep { checked: 260, queued: 260, done: true });
    assert_eq!(graph.embeddings_pending().await.expect("counted"), 260);
}

#[tokio::test]
async fn a_node_that_changes_meanwhile_is_left_to_its_change() {
    let bench = bench(settings());
    let id = bench.create("acme", json!({"text": "pump", "job_title": "Fitter"})).await;
    bench.embed_all(&[1.0]).await;
    let to = NodeChanges {
        props: Some(object(json!({"text": "valve", "job_title": "Fitter"}))),
        ..NodeChanges::default()
    };
    bench.graph.update(&view("acme"), id, to).await.expect("changed");
    let graph = restarted(&bench, with_prefix());
    assert_eq!(swept(&graph).await.queued, 0);
    assert_eq!(graph.embeddings_pending().await.expect("counted"), 1);
}

/// Whether a text is longer than the model of these tests reads.
fn is_long(text: &str) -> bool {
    text.len() > 10
}

#[tokio::test]
async fn other_windows_are_wanted_of_long_texts_only() {
    let bench = bench(settings());
    let long = bench.create("acme", json!({"text": "a pump, a valve and a boiler"})).await;
    bench.create("acme", json!({"text": "pump"})).await;
    bench.embed_all(&[1.0, 0.0]).await;
    let with = |windows| Settings { windows, ..settings() };
    let kept = |graph: &Graph| {
        let tx = graph.store().read().expect("a snapshot");
        let rows = tx.scan(&WINDOWS, Scan::all()).expect("rows");
        rows.map(|row| row.expect("a row"))
            .map(|((_, id), row)| (id, row.mode, row.values))
            .collect::<Vec<_>>()
    };
    for (windows, mode) in [
        (Windows::Best, Some(WindowsMode::Best)),
        (Windows::Mean, Some(WindowsMode::Mean)),
        (Windows::First, None),
    ] {
        let graph = restarted(&bench, with(windows));
        let swept = graph.sweep_texts(is_long).await.expect("swept");
        assert_eq!(swept, Sweep { checked: 2, queued: 1, done: true }, "{windows}");
        let (batch, _) = graph.take(10).await.expect("taken");
        assert_eq!(batch.len(), 1);
        assert_eq!(batch[0].node.id, long);
        let windows = mode.map(|mode| FurtherWindows { mode, vectors: vec![vec![0.0, 1.0]; 2] });
        let vector = TextVector { values: vec![1.0, 0.0], windows };
        let results = batch.into_iter().map(|job| (job, Ok(vector.clone()))).collect();
        graph.settle(results, made_by()).await.expect("settled");
        let rows: Vec<_> =
            mode.into_iter().map(|mode| (long, mode, vec![0.0, 1.0, 0.0, 1.0])).collect();
        assert_eq!(kept(&graph), rows);
    }
    // They go with their node.
    let graph = restarted(&bench, with(Windows::Best));
    graph.sweep_texts(is_long).await.expect("swept");
    let (batch, _) = graph.take(10).await.expect("taken");
    let further = FurtherWindows { mode: WindowsMode::Best, vectors: vec![vec![0.0, 1.0]] };
    let vector = TextVector { values: vec![1.0, 0.0], windows: Some(further) };
    let results = batch.into_iter().map(|job| (job, Ok(vector.clone()))).collect();
    graph.settle(results, made_by()).await.expect("settled");
    assert_eq!(kept(&graph).len(), 1);
    graph.remove(&view("acme"), long).await.expect("removed");
    assert_eq!(kept(&graph), []);
}
