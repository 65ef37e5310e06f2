use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::super::bits::Bits;
use super::super::engine::Exact;
use super::super::segment::{self, Row};
use super::*;
use crate::{Hit, IdSet, IndexError};

const DIM: usize = 3;
const METRICS: [Metric; 3] = [Metric::Cosine, Metric::L2, Metric::InnerProduct];

/// A sealed segment in a folder of its own.
struct Sample {
    dir: tempfile::TempDir,
    segment: Segment,
    dead: Bits,
}

impl Sample {
    fn new(metric: Metric, rows: &[[f32; DIM]]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.seg");
        let stored: Vec<Vec<f32>> = rows
            .iter()
            .map(|values| {
                let mut values = values.to_vec();
                super::super::metric::prepare(metric, DIM, &mut values).unwrap();
                values
            })
            .collect();
        let tenant = |id: usize| if id.is_multiple_of(3) { "a" } else { "b" };
        let mut live = Vec::new();
        for (id, values) in stored.iter().enumerate() {
            live.push(Row { tenant: tenant(id), id: id as u128, values });
        }
        segment::write(&path, DIM, live).unwrap();
        let segment = Segment::open(&path, DIM).unwrap();
        let dead = Bits::none(segment.rows());
        Self { dir, segment, dead }
    }

    fn build(&self, metric: Metric, wanted: usize) -> Ivf {
        let done = AtomicUsize::new(0);
        let kernels = Kernels::detect();
        match Ivf::build(&self.segment, metric, kernels, wanted, &|| false, &done) {
            Built::Standing(ivf) => {
                assert_eq!(done.into_inner(), self.segment.rows());
                ivf
            }
            Built::Stopped | Built::Rejected(_) => panic!("nothing stops it"),
        }
    }
}

fn hits(
    engine: &dyn VectorIndex,
    query: &Query<'_>,
    allowed: &Allowed<'_>,
    width: usize,
) -> Vec<Hit> {
    let mut top = Top::new(query.k);
    assert!(engine.nearest(query, allowed, width, &mut top));
    top.into_sorted()
}

fn vector() -> impl Strategy<Value = [f32; DIM]> {
    prop::array::uniform3((-8_i8..=8).prop_map(f32::from))
}

proptest! {
    #[test]
    fn lists_agree_with_a_scan(
        metric in prop::sample::select(&METRICS[..]),
        rows in prop::collection::vec(vector(), 1..200),
        dead in prop::collection::vec(0_u32..200, 0..40),
        wanted in 1_usize..40,
        probes in 1_usize..50,
        k in 1_usize..30,
        vector in vector(),
        tenants in prop::sample::subsequence(vec!["a", "b", "c"], 1..=3),
        among in prop::option::of(prop::collection::vec(0_u128..250, 0..60)),
    ) {
        let mut sample = Sample::new(metric, &rows);
        dead.into_iter().filter(|&row| (row as usize) < rows.len()).for_each(|row| sample.dead.insert(row));
        let ivf = sample.build(metric, wanted);
        prop_assert!((1..=wanted).contains(&ivf.lists()));
        let among = among.map(IdSet::from);
        let allowed = Allowed::new(&sample.segment, &sample.dead, &tenants, among.as_ref());
        let mut values = vector.to_vec();
        super::super::metric::prepare(metric, DIM, &mut values).unwrap();
        let query = Query { values: &values, metric, kernels: Kernels::detect(), k };
        let right = hits(&Exact, &query, &allowed, 0);
        prop_assert_eq!(&hits(&ivf, &query, &allowed, ivf.lists()), &right);
        // Few lists may hold others, but never too few, and only such as are allowed.
        let got = hits(&ivf, &query, &allowed, probes);
        prop_assert_eq!(got.len(), right.len());
        let everything = Query { k: rows.len(), ..query };
        let all = hits(&Exact, &everything, &allowed, 0);
        let in_order: Vec<&Hit> = all.iter().filter(|hit| got.contains(hit)).collect();
        prop_assert_eq!(got.iter().collect::<Vec<_>>(), in_order);

        let path = sample.dir.path().join("1.ivf");
        ivf.save(&path, &sample.segment).unwrap();
        let params = IvfParams { lists: wanted, probes };
        let fits = lists_for(rows.len(), params) == wanted;
        let read = Ivf::open(&path, &sample.segment, params).unwrap();
        prop_assert_eq!(read, fits.then_some(ivf));
    }
}

#[test]
fn rows_that_gather_share_a_list() {
    // Four corners, 40 rows at each.
    let corner =
        |n: usize| [[9.0, 0.5, 0.0], [0.0, 9.0, 0.5], [0.5, 0.0, 9.0], [-9.0, -9.0, 0.0]][n];
    let rows: Vec<[f32; DIM]> =
        (0..160).map(|i| corner(i % 4).map(|v| v + (i / 4) as f32 / 100.0)).collect();
    for metric in METRICS {
        let sample = Sample::new(metric, &rows);
        let ivf = sample.build(metric, 4);
        let mut lists: Vec<Vec<u128>> = (0..ivf.lists())
            .map(|list| {
                ivf.list(list).iter().map(|&row| sample.segment.ids()[row as usize] % 4).collect()
            })
            .collect();
        lists.iter_mut().for_each(|list| list.dedup());
        lists.iter_mut().for_each(|list| list.sort_unstable());
        lists.iter_mut().for_each(|list| list.dedup());
        lists.sort();
        assert_eq!(lists, [[0], [1], [2], [3]], "{metric:?}");
        assert_eq!(sample.build(metric, 4), ivf, "the same at every run");
    }
}

#[test]
fn equal_rows_are_on_one_list_and_a_stop_is_heard() {
    for metric in METRICS {
        let sample = Sample::new(metric, &[[2.0, 0.0, 0.0]; 50]);
        assert_eq!(sample.build(metric, 10).lists(), 1, "{metric:?}");
        let sample = Sample::new(metric, &[[0.0; DIM]; 50]);
        assert_eq!(sample.build(metric, 10).list(0).len(), 50, "{metric:?}");
        let done = AtomicUsize::new(0);
        let kernels = Kernels::detect();
        let built = Ivf::build(&sample.segment, metric, kernels, 10, &|| true, &done);
        assert!(matches!(built, Built::Stopped));
    }
}

#[test]
fn lists_are_not_made_for_too_few_rows() {
    let lists = |rows| lists_for(rows, IvfParams { lists: 100, probes: 4 });
    assert_eq!([0, 31, 64, 3_199, 3_200, 1_000_000].map(lists), [1, 1, 2, 99, 100, 100]);
}

#[test]
fn every_changed_byte_and_every_cut_is_noticed() {
    let rows: Vec<[f32; DIM]> = (0..70).map(|i| [1.0, i as f32, (i % 7) as f32]).collect();
    let sample = Sample::new(Metric::L2, &rows);
    let (params, path) = (IvfParams { lists: 2, probes: 1 }, sample.dir.path().join("1.ivf"));
    let open = |path: &Path| Ivf::open(path, &sample.segment, params);
    assert_eq!(open(&path).unwrap(), None);
    sample.build(Metric::L2, 2).save(&path, &sample.segment).unwrap();
    assert!(open(&path).unwrap().is_some());
    let good = fs::read(&path).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        fs::write(&path, &bad).unwrap();
        assert!(matches!(open(&path), Err(IndexError::Damaged { .. })), "byte {at}");
        fs::write(&path, &good[..at]).unwrap();
        assert!(matches!(open(&path), Err(IndexError::Damaged { .. })), "cut at {at}");
    }
    fs::write(&path, &good).unwrap();
    let other = Sample::new(Metric::L2, &rows[..69]);
    assert!(Ivf::open(&path, &other.segment, params).is_err(), "another segment");
}
