use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicUsize;

use proptest::prelude::*;

use super::super::Engine;
use super::super::sample::{DIM, METRICS, Sample, TENANTS, hits, stored, vector};
use super::*;
use crate::{Hit, IdSet, IndexError};

fn build(sample: &Sample, wanted: usize) -> Ivf {
    let (done, kernels) = (AtomicUsize::new(0), Kernels::detect());
    match Ivf::build(&sample.segment, sample.metric, kernels, wanted, &|| false, &done) {
        Built::Standing(ivf) => {
            assert_eq!(done.into_inner(), sample.segment.rows());
            ivf
        }
        Built::Stopped | Built::Rejected(_) => panic!("nothing stops it"),
    }
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
        tenants in prop::sample::subsequence(&TENANTS[..], 1..=3),
        among in prop::option::of(prop::collection::vec(0_u128..250, 0..60)),
    ) {
        let sample = Sample::new(metric, &rows).with_dead(dead);
        let ivf = build(&sample, wanted);
        prop_assert!((1..=wanted).contains(&ivf.lists()));
        let among = among.map(IdSet::from);
        let allowed = Allowed::new(&sample.segment, &sample.dead, &tenants, among.as_ref());
        let values = stored(metric, &vector);
        let query = sample.query(&values, k);
        let right = sample.right(&query, &allowed);
        let got = hits(&ivf, &query, &allowed, ivf.lists()).unwrap();
        prop_assert_eq!(&got, &right);
        // Few lists may hold others, but never too few, and only such as are allowed.
        let got = hits(&ivf, &query, &allowed, probes).unwrap();
        prop_assert_eq!(got.len(), right.len());
        let all = sample.right(&Query { k: rows.len(), ..query }, &allowed);
        let in_order: Vec<&Hit> = all.iter().filter(|hit| got.contains(hit)).collect();
        prop_assert_eq!(got.iter().collect::<Vec<_>>(), in_order);

        let path = sample.path(Engine::IvfFlat);
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
        let ivf = build(&sample, 4);
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
        assert_eq!(build(&sample, 4), ivf, "the same at every run");
    }
}

#[test]
fn equal_rows_are_on_one_list_and_a_stop_is_heard() {
    for metric in METRICS {
        let sample = Sample::new(metric, &[[2.0, 0.0, 0.0]; 50]);
        assert_eq!(build(&sample, 10).lists(), 1, "{metric:?}");
        let sample = Sample::new(metric, &[[0.0; DIM]; 50]);
        assert_eq!(build(&sample, 10).list(0).len(), 50, "{metric:?}");
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
    let (params, path) = (IvfParams { lists: 2, probes: 1 }, sample.path(Engine::IvfFlat));
    let open = |path: &Path| Ivf::open(path, &sample.segment, params);
    assert_eq!(open(&path).unwrap(), None);
    build(&sample, 2).save(&path, &sample.segment).unwrap();
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
