//! The graph against the scan, on seeded clustered vectors.

#![expect(clippy::unwrap_used, reason = "a step that fails should fail its test")]

mod common;

use std::sync::atomic::AtomicBool;

use activekg_index::{
    Engine, EngineState, Engines, IdSet, Metric, VectorOp, VectorOptions, VectorQuery, VectorSet,
};
use common::{Clusters, ids};

const DIM: usize = 48;
const ROWS: usize = 8_000;

struct Pair {
    _dirs: [tempfile::TempDir; 2],
    graph: VectorSet,
    exact: VectorSet,
    data: Clusters,
}

/// The same vectors in a set that always asks its graph and in one without.
fn pair(metric: Metric, tenants: u128) -> Pair {
    let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let options = VectorOptions { exact_limit: 0, ..VectorOptions::new(DIM, metric) };
    let (graph, _) = VectorSet::open(dirs[0].path(), options).unwrap();
    let options = VectorOptions { engines: Engines::NONE, ..options };
    let (exact, _) = VectorSet::open(dirs[1].path(), options).unwrap();
    let mut data = Clusters::new(7, 60, DIM);
    let ops = data.puts(0, ROWS, tenants);
    for set in [&graph, &exact] {
        set.apply(&ops).unwrap();
        set.commit(1).unwrap();
        assert!(set.maintain().unwrap());
        assert!(!set.maintain().unwrap());
    }
    assert_eq!(exact.state(Engine::Hnsw), EngineState::Off);
    let waiting = EngineState::Building { done: 0, total: ROWS, serving: false };
    assert_eq!(graph.state(Engine::Hnsw), waiting);
    graph.build(&AtomicBool::new(false), &|_| ()).unwrap();
    assert_eq!(graph.state(Engine::Hnsw), EngineState::Ready);
    Pair { _dirs: dirs, graph, exact, data }
}

impl Pair {
    fn recall(&mut self, k: usize, tenants: &[&str], among: Option<&IdSet>) -> f64 {
        self.recall_at(80, k, tenants, among)
    }

    fn recall_at(&mut self, ef: usize, k: usize, tenants: &[&str], among: Option<&IdSet>) -> f64 {
        let (mut found, mut all) = (0, 0);
        for _ in 0..100 {
            let vector = self.data.vector();
            let ef = Some(ef);
            let query = VectorQuery { vector: &vector, k, tenants, among, ef };
            let right = self.exact.search(&query).unwrap();
            let got = self.graph.search(&query).unwrap();
            assert_eq!(got.len(), right.len());
            assert!(got.is_sorted_by(|a, b| a.score >= b.score));
            all += right.len();
            found += right.iter().filter(|hit| got.contains(hit)).count();
        }
        found as f64 / all as f64
    }
}

#[test]
fn a_graph_finds_what_a_scan_finds() {
    for metric in [Metric::Cosine, Metric::L2, Metric::InnerProduct] {
        let mut pair = pair(metric, 1);
        let recall = pair.recall(10, &["t0"], None);
        assert!(recall >= 0.95, "{metric:?}: {recall}");
        // A walk that is too narrow misses some, so this is the graph and not the scan.
        let narrow = pair.recall_at(1, 1, &["t0"], None);
        assert!(narrow < 1.0, "{metric:?}: {narrow}");
    }
}

#[test]
fn filters_cost_no_recall() {
    let mut pair = pair(Metric::Cosine, 3);
    assert!(pair.recall(10, &["t1"], None) >= 0.95);
    assert!(pair.recall(10, &["t0", "t2"], None) >= 0.95);
    let half: IdSet = (0..ROWS as u128).filter(|id| id % 2 == 0).collect();
    assert!(pair.recall(10, &["t0", "t1", "t2"], Some(&half)) >= 0.95);
    // So few that even a wide walk does not find ten: the scan steps in.
    let few: IdSet = (0..ROWS as u128).filter(|id| id % 97 == 0).collect();
    assert_eq!(pair.recall(10, &["t0", "t1", "t2"], Some(&few)), 1.0);
    let nothing = pair.recall(10, &["t0"], Some(&IdSet::default()));
    assert!(nothing.is_nan(), "no hits of no hits");
    assert_eq!(pair.recall(ROWS, &["t0", "t1", "t2"], None), 1.0);
}

#[test]
fn a_graph_keeps_up_with_changes() {
    let mut pair = pair(Metric::Cosine, 2);
    let mut ops = pair.data.puts(ROWS as u128, 500, 2);
    ops.extend((0..ROWS as u128).step_by(3).map(|id| VectorOp::Remove { id }));
    // Vectors that move, some to the other tenant.
    ops.extend(pair.data.puts(1, 200, 3));
    for set in [&pair.graph, &pair.exact] {
        set.apply(&ops).unwrap();
    }
    assert_eq!(pair.graph.len(), pair.exact.len());
    assert!(pair.recall(10, &["t0"], None) >= 0.95);
    for set in [&pair.graph, &pair.exact] {
        set.commit(2).unwrap();
        set.maintain().unwrap();
    }
    // A third of the graph is dead: it is built anew, and nothing else changes.
    pair.graph.build(&AtomicBool::new(false), &|_| ()).unwrap();
    assert_eq!(pair.graph.state(Engine::Hnsw), EngineState::Ready);
    assert!(pair.recall(10, &["t0", "t1", "t2"], None) >= 0.95);
}

#[test]
fn a_stopped_build_leaves_an_exact_set() {
    let mut pair = pair(Metric::L2, 1);
    let ops = pair.data.puts(ROWS as u128, 2 * ROWS, 1);
    for set in [&pair.graph, &pair.exact] {
        set.apply(&ops).unwrap();
        set.commit(2).unwrap();
        set.maintain().unwrap();
    }
    pair.graph.build(&AtomicBool::new(true), &|_| ()).unwrap();
    assert!(matches!(pair.graph.state(Engine::Hnsw), EngineState::Building { .. }));
    assert!(pair.recall(10, &["t0"], None) >= 0.95);
}

#[test]
fn many_equal_vectors_do_not_hurt() {
    let dir = tempfile::tempdir().unwrap();
    let options = VectorOptions { exact_limit: 0, ..VectorOptions::new(4, Metric::Cosine) };
    let (set, _) = VectorSet::open(dir.path(), options).unwrap();
    let same = |id: u128| VectorOp::Put {
        id,
        tenant: "t".into(),
        values: if id.is_multiple_of(2) { vec![0.0; 4] } else { vec![1.0, 2.0, 3.0, 4.0] },
    };
    set.apply(&(0..5_000).map(same).collect::<Vec<_>>()).unwrap();
    set.commit(1).unwrap();
    set.maintain().unwrap();
    set.build(&AtomicBool::new(false), &|_| ()).unwrap();
    assert_eq!(set.state(Engine::Hnsw), EngineState::Ready);
    let query = VectorQuery { vector: &[1.0; 4], k: 5_000, tenants: &["t"], among: None, ef: None };
    assert_eq!(ids(&set, &query).len(), 5_000);
    let hits = set.search(&VectorQuery { k: 3, ..query }).unwrap();
    assert_eq!(hits.len(), 3);
    assert!(hits.iter().all(|hit| (-1.0..=1.0).contains(&hit.score)));
}
