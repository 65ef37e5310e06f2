//! Lists against the scan, on seeded data with and without clusters.

#![expect(clippy::unwrap_used, reason = "a step that fails should fail its test")]

mod common;

use std::cell::RefCell;
use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use activekg_index::{
    Engine, EngineState, Engines, IdSet, IvfParams, Metric, VectorOp, VectorOptions, VectorQuery,
    VectorSet,
};
use common::{Clusters, ids};

const DIM: usize = 32;
const ROWS: usize = 12_000;
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::L2, Metric::InnerProduct];

fn options(metric: Metric) -> VectorOptions {
    VectorOptions {
        engines: Engine::IvfFlat.into(),
        exact_limit: 0,
        ..VectorOptions::new(DIM, metric)
    }
}

/// The same vectors in a set with lists and in one without.
struct Pair {
    dirs: [tempfile::TempDir; 2],
    options: VectorOptions,
    lists: VectorSet,
    exact: VectorSet,
    data: Clusters,
}

impl Pair {
    fn new(options: VectorOptions, data: Clusters) -> Self {
        Self::of(ROWS, options, data)
    }

    fn of(rows: usize, options: VectorOptions, mut data: Clusters) -> Self {
        let dirs = [(); 2].map(|()| tempfile::tempdir().unwrap());
        let (lists, _) = VectorSet::open(dirs[0].path(), options).unwrap();
        let scanned = VectorOptions { engines: Engines::NONE, ..options };
        let (exact, _) = VectorSet::open(dirs[1].path(), scanned).unwrap();
        let ops = data.puts(0, rows, 1);
        for set in [&lists, &exact] {
            set.apply(&ops).unwrap();
            set.commit(1).unwrap();
            set.maintain().unwrap();
        }
        build(&lists, &[Engine::IvfFlat]);
        Self { dirs, options, lists, exact, data }
    }

    fn recall(&mut self, k: usize, among: Option<&IdSet>) -> f64 {
        let (mut found, mut all) = (0, 0);
        for _ in 0..50 {
            let vector = self.data.vector();
            let query = VectorQuery { vector: &vector, k, tenants: &["t0"], among, ef: None };
            let right = self.exact.search(&query).unwrap();
            let got = self.lists.search(&query).unwrap();
            assert_eq!(got.len(), right.len(), "as many hits as there are");
            all += right.len();
            let got: HashSet<u128> = got.iter().map(|hit| hit.id).collect();
            found += right.iter().filter(|hit| got.contains(&hit.id)).count();
        }
        found as f64 / all as f64
    }

    /// Closes the set with lists and opens it with these options.
    fn reopen(self, options: VectorOptions) -> Self {
        let Self { dirs, options: _, lists, exact, data } = self;
        drop(lists);
        let (lists, _) = VectorSet::open(dirs[0].path(), options).unwrap();
        Self { dirs, options, lists, exact, data }
    }
}

/// Builds, and expects just these engines to be built, in this order.
fn build(set: &VectorSet, expected: &[Engine]) {
    let told = RefCell::new(Vec::new());
    set.build(&AtomicBool::new(false), &|build| {
        assert!(build.stands && build.rows > 0);
        told.borrow_mut().push(build.engine);
    })
    .unwrap();
    assert_eq!(told.into_inner(), expected);
}

fn list_files(dir: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|e| e == "ivf")).collect()
}

#[test]
fn as_many_probes_as_lists_are_a_scan() {
    for metric in METRICS {
        let ivfflat = IvfParams { lists: 50, probes: 50 };
        let mut pair = Pair::new(VectorOptions { ivfflat, ..options(metric) }, gathered());
        for _ in 0..50 {
            let vector = pair.data.vector();
            let query =
                VectorQuery { vector: &vector, k: 20, tenants: &["t0"], among: None, ef: None };
            assert_eq!(pair.lists.search(&query).unwrap(), pair.exact.search(&query).unwrap());
        }
    }
}

fn gathered() -> Clusters {
    Clusters::new(7, 60, DIM)
}

/// One cluster: no direction is denser than another.
fn uniform() -> Clusters {
    Clusters::new(8, 1, DIM)
}

#[test]
fn few_probes_find_most_of_what_gathers() {
    for metric in METRICS {
        let mut pair = Pair::new(options(metric), gathered());
        let recall = pair.recall(10, None);
        assert!(recall >= 0.9, "{metric:?}: {recall}");
    }
}

#[test]
fn where_nothing_gathers_more_probes_find_more() {
    let recall = |probes| {
        let ivfflat = IvfParams { probes, ..IvfParams::default() };
        Pair::new(VectorOptions { ivfflat, ..options(Metric::L2) }, uniform()).recall(10, None)
    };
    let recalls = [1, 4, 16, 64].map(recall);
    assert!(recalls.is_sorted(), "{recalls:?}");
    assert!(recalls[0] < 1.0, "these are lists and not a scan: {recalls:?}");
    assert!(recalls[3] >= 0.95, "{recalls:?}");
}

#[test]
fn filters_cost_no_recall() {
    let mut pair = Pair::new(options(Metric::Cosine), uniform());
    let open = pair.recall(10, None);
    for share in [20, 100, 1000] {
        let among: IdSet = (0..ROWS as u128).filter(|id| id % share == 3).collect();
        let recall = pair.recall(10, Some(&among));
        assert!(recall >= open, "one in {share}: {recall} with the filter, {open} without");
    }
    assert!(pair.recall(10, Some(&IdSet::default())).is_nan(), "no hits of no hits");
}

#[test]
fn a_search_never_gives_fewer_hits_than_there_are() {
    let ivfflat = IvfParams { lists: 100, probes: 1 };
    let mut pair = Pair::new(VectorOptions { ivfflat, ..options(Metric::L2) }, gathered());
    assert_eq!(pair.recall(ROWS, None), 1.0);
    pair.recall(ROWS / 2, None);
    let few: IdSet = [5_u128, 77, 11_999, 40_000].into_iter().collect();
    assert_eq!(pair.recall(10, Some(&few)), 1.0);
}

#[test]
fn removed_vectors_are_not_found_and_moved_ones_are_found_where_they_are() {
    let mut pair = Pair::new(options(Metric::Cosine), gathered());
    let mut ops: Vec<_> = (0..ROWS as u128).step_by(5).map(|id| VectorOp::Remove { id }).collect();
    ops.extend(pair.data.puts(1, 200, 1));
    for set in [&pair.lists, &pair.exact] {
        set.apply(&ops).unwrap();
        set.commit(2).unwrap();
    }
    assert!(pair.recall(10, None) >= 0.9);
    assert_eq!(pair.recall(ROWS, None), 1.0);
    let vector = pair.data.vector();
    let query = VectorQuery { vector: &vector, k: 500, tenants: &["t0"], among: None, ef: None };
    let gone = |id: &u128| id.is_multiple_of(5) && !(1..=200).contains(id);
    assert!(!ids(&pair.lists, &query).iter().any(gone));
    let hollow: Vec<_> =
        (0..ROWS as u128).filter(|id| id % 5 < 3).map(|id| VectorOp::Remove { id }).collect();
    for set in [&pair.lists, &pair.exact] {
        set.apply(&hollow).unwrap();
        set.commit(3).unwrap();
        set.maintain().unwrap();
    }
    // Most rows are dead, so the rest is written and listed anew.
    build(&pair.lists, &[Engine::IvfFlat]);
    assert_eq!(list_files(pair.dirs[0].path()).len(), 1);
    assert!(pair.recall(10, None) >= 0.9);
}

#[test]
fn lists_are_there_again_after_a_restart() {
    let pair = Pair::new(options(Metric::InnerProduct), gathered());
    let options = pair.options;
    let mut pair = pair.reopen(options);
    assert_eq!(pair.lists.state(Engine::IvfFlat), EngineState::Ready);
    build(&pair.lists, &[]);
    assert!(pair.recall(10, None) >= 0.9);

    let ivfflat = IvfParams { lists: 64, ..options.ivfflat };
    let pair = pair.reopen(VectorOptions { ivfflat, ..options });
    assert!(matches!(pair.lists.state(Engine::IvfFlat), EngineState::Building { .. }));
    build(&pair.lists, &[Engine::IvfFlat]);

    let pair = pair.reopen(VectorOptions { engines: Engines::NONE, ..options });
    assert_eq!(pair.lists.state(Engine::IvfFlat), EngineState::Off);
    assert!(list_files(pair.dirs[0].path()).is_empty(), "what is not kept takes no room");
}

#[test]
fn damaged_lists_are_built_anew() {
    let pair = Pair::new(options(Metric::Cosine), gathered());
    let (options, path) = (pair.options, list_files(pair.dirs[0].path()).remove(0));
    let good = fs::read(&path).unwrap();
    let mut pair = pair;
    for bad in
        [vec![], good[..good.len() / 2].to_vec(), [&good[..99], &[0xAA], &good[100..]].concat()]
    {
        fs::write(&path, bad).unwrap();
        pair = pair.reopen(options);
        let waiting = EngineState::Building { done: 0, total: ROWS, serving: false };
        assert_eq!(pair.lists.state(Engine::IvfFlat), waiting);
        assert_eq!(pair.recall(10, None), 1.0, "scanned meanwhile");
        build(&pair.lists, &[Engine::IvfFlat]);
        assert_eq!(fs::read(&path).unwrap(), good, "the same lists again");
    }
}

#[test]
fn engines_come_and_go() {
    // Enough to be sealed at once.
    let rows = 5_000;
    let mut pair = Pair::of(rows, options(Metric::Cosine), gathered());
    let set = &pair.lists;
    let states = |set: &VectorSet| Engine::ALL.map(|engine| set.state(engine));
    assert_eq!(states(set), [EngineState::Off, EngineState::Ready]);

    let both: Engines = Engine::ALL.into_iter().collect();
    set.keep(both);
    let waiting = EngineState::Building { done: 0, total: rows, serving: false };
    assert_eq!(states(set), [waiting, EngineState::Ready]);
    assert!(!waiting.is_in_place());
    build(set, &[Engine::Hnsw]);
    assert_eq!(states(set), [EngineState::Ready; 2]);

    set.forget(Engine::IvfFlat.into());
    assert_eq!(states(set), [EngineState::Ready, waiting]);
    assert!(list_files(pair.dirs[0].path()).is_empty());
    build(set, &[Engine::IvfFlat]);
    assert_eq!(list_files(pair.dirs[0].path()).len(), 1);

    set.keep(Engine::IvfFlat.into());
    assert_eq!(states(set), [EngineState::Off, EngineState::Ready]);
    set.keep(Engines::NONE);
    assert_eq!(states(set), [EngineState::Off; 2]);
    assert!(list_files(pair.dirs[0].path()).is_empty());
    build(set, &[]);
    assert_eq!(pair.recall(10, None), 1.0, "scanned");
    pair.lists.keep(both);
    build(&pair.lists, &[Engine::IvfFlat, Engine::Hnsw]);
}

#[test]
fn a_small_set_needs_no_engine() {
    let dir = tempfile::tempdir().unwrap();
    let options = VectorOptions { exact_limit: 20_000, ..options(Metric::Cosine) };
    let (set, _) = VectorSet::open(dir.path(), options).unwrap();
    set.apply(&gathered().puts(0, 6_000, 1)).unwrap();
    set.commit(1).unwrap();
    assert!(set.maintain().unwrap());
    build(&set, &[]);
    assert_eq!(set.state(Engine::IvfFlat), EngineState::Idle);
    assert!(set.state(Engine::IvfFlat).is_in_place());
}
