use std::fs;
use std::path::Path;

use proptest::prelude::*;

use super::super::sample::{DIM, METRICS, Sample, TENANTS, hits, stored, vector};
use super::super::{Engine, engine::Exact};
use super::*;
use crate::IdSet;

fn build(sample: &Sample, params: HnswParams) -> Graph {
    let (done, kernels) = (AtomicUsize::new(0), Kernels::detect());
    match Graph::build(&sample.segment, sample.metric, kernels, params, &|| false, &done) {
        Built::Standing(graph) => {
            assert_eq!(done.into_inner(), sample.segment.rows());
            graph
        }
        Built::Stopped => panic!("nothing stops it"),
        Built::Rejected(reason) => panic!("{reason}"),
    }
}

fn open(path: &Path, sample: &Sample, params: HnswParams) -> Result<Option<Graph>, IndexError> {
    Graph::open(path, &sample.segment, sample.metric, Kernels::detect(), params)
}

/// Every row's links, layer by layer.
fn links(graph: &Graph) -> Vec<u32> {
    graph.links.words().collect()
}

proptest! {
    /// A walk as wide as the graph visits everything that can be reached: that is every row, however
    /// few links there are and however many rows are equal.
    #[test]
    fn the_widest_walk_agrees_with_a_scan(
        metric in prop::sample::select(&METRICS[..]),
        rows in prop::collection::vec(vector(), 1..200),
        dead in prop::collection::vec(0_u32..200, 0..40),
        m in 2_usize..6,
        ef_construction in 4_usize..20,
        width in 1_usize..50,
        k in 1_usize..30,
        vector in vector(),
        tenants in prop::sample::subsequence(&TENANTS[..], 1..=3),
        among in prop::option::of(prop::collection::vec(0_u128..250, 0..60)),
    ) {
        let sample = Sample::new(metric, &rows).with_dead(dead);
        let params = HnswParams { m, ef_construction, ef_search: 256 };
        let graph = build(&sample, params);
        let among = among.map(IdSet::from);
        let allowed = Allowed::new(&sample.segment, &sample.dead, &tenants, among.as_ref());
        let values = stored(metric, &vector);
        let query = sample.query(&values, k);
        let right = sample.right(&query, &allowed);
        if let Some(got) = hits(&graph, &query, &allowed, rows.len()) {
            prop_assert_eq!(&got, &right);
        } else {
            prop_assert!(right.len() < k, "it vouches for as many as are wanted");
        }
        // A narrow one may find others, but never too few, and only such as are allowed.
        if let Some(got) = hits(&graph, &query, &allowed, width) {
            prop_assert_eq!(got.len(), right.len());
            let everything = Query { k: rows.len(), ..query };
            let all = hits(&Exact, &everything, &allowed, 0).unwrap();
            prop_assert!(got.iter().all(|hit| all.contains(hit)));
        }

        let path = sample.path(Engine::Hnsw);
        graph.save(&path, &sample.segment).unwrap();
        let read = open(&path, &sample, params).unwrap().unwrap();
        prop_assert_eq!(links(&read), links(&graph));
        prop_assert_eq!(read.entry, graph.entry);
        for other in [
            HnswParams { m: m + 1, ..params },
            HnswParams { ef_construction: ef_construction + 1, ..params },
        ] {
            prop_assert!(open(&path, &sample, other).unwrap().is_none());
        }
    }
}

#[test]
fn rows_that_nothing_leads_to_are_led_to_by_the_nearest() {
    let rows: Vec<[f32; DIM]> = (0..60).map(|i| [1.0, i as f32, 0.0]).collect();
    let sample = Sample::new(Metric::L2, &rows);
    let links = Links::new(rows.len(), 2);
    let distances = Distances::new(&sample.segment, Metric::L2, Kernels::detect());
    let pool = Pool::default();
    let mend = || pool.with(|scratch| mend::mend(&links, &distances, 0, scratch));
    assert_eq!(mend(), rows.len() - 1);
    assert_eq!(mend(), 0, "all are reached now");
    let from = distances.of_row(30);
    let starts = descend(&links, &from, 0, 0);
    let found = pool.with(|scratch| nearest(&links, &from, &starts, 0, 60, scratch));
    assert_eq!((found.len(), found[0].row), (60, 30));

    // As many equal rows as no list has room for: they lead to one another.
    let sample = Sample::new(Metric::Cosine, &[[0.0, 1.0, 0.0]; 500]);
    let graph = build(&sample, HnswParams { m: 2, ..HnswParams::default() });
    let values = stored(Metric::Cosine, &[0.0, 2.0, 0.0]);
    assert_eq!(graph.walk(&values, 500).len(), 500);
}

#[test]
fn a_graph_of_nothing_finds_nothing() {
    for metric in METRICS {
        let sample = Sample::new(metric, &[]);
        let graph = build(&sample, HnswParams::default());
        assert!(graph.walk(&[1.0, 0.0, 0.0], 10).is_empty());
    }
}

#[test]
fn a_stop_is_heard() {
    let sample = Sample::new(Metric::L2, &[[1.0, 2.0, 3.0]; 300]);
    let (done, params) = (AtomicUsize::new(0), HnswParams::default());
    let kernels = Kernels::detect();
    let built = Graph::build(&sample.segment, Metric::L2, kernels, params, &|| true, &done);
    assert!(matches!(built, Built::Stopped));
}

#[test]
fn a_graph_that_finds_little_is_not_used() {
    let rows: Vec<[f32; DIM]> = (0..400).map(|i| [(i % 20) as f32, (i / 20) as f32, 1.0]).collect();
    let sample = Sample::new(Metric::L2, &rows);
    let graph = build(&sample, HnswParams::default());
    assert!(graph.probe(&sample.segment, 64).is_ok());
    // The links of another order of the rows.
    let shifted: Vec<u32> = (0..400).map(|row| (row * 7 + 3) % 400).collect();
    for row in 0..400 {
        let away = [shifted[row as usize], shifted[(row as usize + 200) % 400]];
        graph.links.set(row, 0, away.into_iter());
    }
    let reason = graph.probe(&sample.segment, 1).unwrap_err();
    assert!(reason.ends_with("rows did not find themselves"), "{reason}");
}

#[test]
fn every_changed_byte_and_every_cut_is_noticed() {
    let rows: Vec<[f32; DIM]> = (0..12).map(|i| [1.0, i as f32, (i % 7) as f32]).collect();
    let sample = Sample::new(Metric::L2, &rows);
    let (params, path) = (HnswParams { m: 2, ..HnswParams::default() }, sample.path(Engine::Hnsw));
    assert!(open(&path, &sample, params).unwrap().is_none());
    build(&sample, params).save(&path, &sample.segment).unwrap();
    assert!(open(&path, &sample, params).unwrap().is_some());
    let good = fs::read(&path).unwrap();
    let refused =
        |path: &Path| matches!(open(path, &sample, params), Err(IndexError::Damaged { .. }));
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&path, &bad).unwrap();
        assert!(refused(&path), "byte {at}");
        fs::write(&path, &good[..at]).unwrap();
        assert!(refused(&path), "cut at {at}");
    }
    fs::write(&path, &good).unwrap();
    let other = Sample::new(Metric::L2, &rows[..11]);
    assert!(open(&path, &other, params).is_err(), "another segment");
}
