//! A set against a map that is obviously right, through every kind of upkeep and restart.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use proptest::prelude::*;

use super::*;

const DIM: usize = 3;
const TENANTS: [&str; 3] = ["a", "b", ""];

#[derive(Debug, Clone)]
enum Step {
    Apply(Vec<VectorOp>),
    Commit,
    Seal,
    Merge,
    Build,
    Keep(Engines),
    Forget(Engine),
    Reopen,
    Search { vector: Vec<f32>, k: usize, tenants: Vec<&'static str>, among: Option<Vec<u128>> },
}

/// Small whole numbers: every product and sum of them is exact, whatever the order of adding.
fn values() -> impl Strategy<Value = Vec<f32>> {
    prop::collection::vec((-4_i8..=4).prop_map(f32::from), DIM)
}

fn id() -> impl Strategy<Value = u128> {
    (0_u128..24).prop_map(|id| if id % 2 == 0 { id } else { u128::MAX - id })
}

fn op() -> impl Strategy<Value = VectorOp> {
    let tenant = prop::sample::select(&TENANTS[..]);
    prop_oneof![
        3 => (id(), tenant, values()).prop_map(|(id, tenant, values)| VectorOp::Put {
            id,
            tenant: tenant.into(),
            values
        }),
        1 => id().prop_map(|id| VectorOp::Remove { id }),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let tenants = prop::sample::subsequence(&TENANTS[..], 0..=3);
    let among = prop::option::of(prop::collection::vec(id(), 0..20));
    prop_oneof![
        6 => prop::collection::vec(op(), 0..12).prop_map(Step::Apply),
        3 => Just(Step::Commit),
        2 => Just(Step::Seal),
        1 => Just(Step::Merge),
        1 => Just(Step::Build),
        1 => prop::sample::subsequence(&Engine::ALL[..], 0..=2)
            .prop_map(|engines| Step::Keep(engines.into_iter().collect())),
        1 => prop::sample::select(&Engine::ALL[..]).prop_map(Step::Forget),
        1 => Just(Step::Reopen),
        6 => (values(), 0_usize..30, tenants, among).prop_map(|(vector, k, tenants, among)| {
            Step::Search { vector, k, tenants, among }
        }),
    ]
}

type Model = BTreeMap<u128, (String, Vec<f32>)>;

fn open(dir: &Path, metric: Metric, engines: Engines) -> (VectorSet, Option<u64>) {
    let options = VectorOptions { engines, exact_limit: 0, ..VectorOptions::new(DIM, metric) };
    VectorSet::open(dir, options).unwrap()
}

/// Every allowed vector with what a hit for it must be, best first.
fn expected(
    model: &Model,
    metric: Metric,
    vector: &[f32],
    tenants: &[&str],
    among: Option<&IdSet>,
) -> Vec<Hit> {
    let mut all: Vec<(f32, u128)> = model
        .iter()
        .filter(|(_, (tenant, _))| tenants.contains(&tenant.as_str()))
        .filter(|(id, _)| among.is_none_or(|among| among.contains(**id)))
        .map(|(&id, (_, values))| {
            (metric::nearness(metric, &Kernels::portable(), vector, values), id)
        })
        .collect();
    all.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let hit = |(nearness, id)| Hit { id, score: metric::score(metric, nearness) };
    all.into_iter().map(hit).collect()
}

fn run(metric: Metric, mut engines: Engines, steps: Vec<Step>) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    let (mut set, _) = open(dir.path(), metric, engines);
    let (mut model, mut committed) = (Model::new(), Model::new());
    let mut seq = None;
    for step in steps {
        match step {
            Step::Apply(ops) => {
                set.apply(&ops).unwrap();
                for op in ops {
                    match op {
                        VectorOp::Put { id, tenant, values } => {
                            model.insert(id, (tenant, values));
                        }
                        VectorOp::Remove { id } => {
                            model.remove(&id);
                        }
                    }
                }
            }
            Step::Commit => {
                seq = Some(seq.map_or(1, |seq| seq + 1));
                set.commit(seq.unwrap()).unwrap();
                committed = model.clone();
            }
            Step::Seal => {
                set.seal_from(0).unwrap();
            }
            Step::Merge => {
                set.merge().unwrap();
            }
            Step::Build => {
                set.build(&AtomicBool::new(false), &|_| ()).unwrap();
                let lists = set.state(Engine::IvfFlat);
                prop_assert_eq!(lists.is_in_place(), engines.contains(Engine::IvfFlat));
            }
            Step::Keep(kept) => {
                engines = kept;
                set.keep(engines);
            }
            Step::Forget(engine) => set.forget(engine.into()),
            Step::Reopen => {
                drop(set);
                let opened = open(dir.path(), metric, engines);
                set = opened.0;
                prop_assert_eq!(opened.1, seq);
                model = committed.clone();
            }
            Step::Search { vector, k, tenants, among } => {
                let among = among.map(IdSet::from);
                let query = VectorQuery {
                    vector: &vector,
                    k,
                    tenants: &tenants,
                    among: among.as_ref(),
                    ef: None,
                };
                let got = set.search(&query).unwrap();
                let all = expected(&model, metric, &vector, &tenants, among.as_ref());
                if engines.contains(Engine::Hnsw) {
                    // A graph may miss a hit, but what it gives is right and enough.
                    prop_assert_eq!(got.len(), k.min(all.len()));
                    let in_order: Vec<&Hit> = all.iter().filter(|h| got.contains(h)).collect();
                    prop_assert_eq!(got.iter().collect::<Vec<_>>(), in_order);
                } else {
                    // So few rows are all compared, on lists or not.
                    prop_assert_eq!(&got[..], &all[..k.min(all.len())]);
                }
            }
        }
        prop_assert_eq!(set.len(), model.len());
        prop_assert_eq!(set.committed_seq(), seq);
        for id in [0, 2, u128::MAX - 1] {
            prop_assert_eq!(set.get(id), model.get(&id).map(|(_, values)| values.clone()));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn a_set_agrees_with_a_map_whatever_engines_it_keeps(
        metric in prop::sample::select(vec![Metric::L2, Metric::InnerProduct]),
        engines in prop::sample::subsequence(&Engine::ALL[..], 0..=2),
        steps in prop::collection::vec(step(), 1..40),
    ) {
        run(metric, engines.into_iter().collect(), steps)?;
    }
}

fn put(id: u128, values: &[f32]) -> VectorOp {
    VectorOp::Put { id, tenant: "a".into(), values: values.to_vec() }
}

#[test]
fn a_refused_vector_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (set, _) = open(dir.path(), Metric::L2, Engines::NONE);
    for bad in [&[1.0][..], &[f32::NAN, 0.0, 0.0], &[f32::INFINITY; 3], &[1e30; 3]] {
        let applied = set.apply(&[put(1, &[1.0; 3]), put(2, bad)]);
        assert!(matches!(applied, Err(IndexError::Invalid(_))));
        assert!(set.is_empty());
        let query = VectorQuery { vector: bad, k: 1, tenants: &["a"], among: None, ef: None };
        assert!(matches!(set.search(&query), Err(IndexError::Invalid(_))));
    }
}

#[test]
fn a_merge_that_runs_beside_changes_keeps_them() {
    let dir = tempfile::tempdir().unwrap();
    let (set, _) = open(dir.path(), Metric::L2, Engines::NONE);
    for round in 0..4_u8 {
        let ops: Vec<_> =
            (0..5).map(|i| put(u128::from(round * 5 + i), &[f32::from(i); 3])).collect();
        set.apply(&ops).unwrap();
        set.commit(u64::from(round)).unwrap();
        assert!(set.seal_from(0).unwrap());
    }
    // What `merge` does, with changes between its halves: one committed, one not.
    let inputs = set.lock().committed.sealed.clone();
    let rows: Vec<_> = inputs.iter().flat_map(view::Sealed::live_rows).collect();
    let file = set.lock().take_file();
    let merged = writer::write_segment(dir.path(), file, DIM, rows).unwrap();
    set.apply(&[VectorOp::Remove { id: 3 }, put(4, &[9.0; 3])]).unwrap();
    set.commit(10).unwrap();
    set.apply(&[VectorOp::Remove { id: 7 }]).unwrap();
    set.lock().install_merged(&inputs, Some(&merged)).unwrap();
    let view = set.view.load().with_merged(&inputs, Some(&merged));
    set.view.store(Arc::new(view));

    assert_eq!(set.len(), 18);
    assert_eq!((set.get(3), set.get(7)), (None, None));
    assert_eq!(set.get(4), Some(vec![9.0; 3]));
    drop(set);
    let (set, seq) = open(dir.path(), Metric::L2, Engines::NONE);
    assert_eq!((seq, set.len()), (Some(10), 19));
    assert_eq!(set.get(3), None);
    assert!(set.get(7).is_some());
    assert_eq!(set.get(4), Some(vec![9.0; 3]));
}
