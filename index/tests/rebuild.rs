//! What is left of a set after stops, restarts and damage.

#![expect(clippy::unwrap_used, reason = "a step that fails should fail its test")]

mod common;

use std::fs;
use std::path::Path;
use std::sync::atomic::AtomicBool;

use activekg_index::{
    Engine, EngineState, Engines, HnswParams, IndexError, IvfParams, Metric, VectorOp,
    VectorOptions, VectorQuery, VectorSet,
};
use common::{Clusters, ids};

const DIM: usize = 5;

fn options() -> VectorOptions {
    VectorOptions::new(DIM, Metric::Cosine)
}

fn open(dir: &Path) -> (VectorSet, Option<u64>) {
    VectorSet::open(dir, options()).unwrap()
}

fn all(set: &VectorSet) -> Vec<u128> {
    let mut ids = ids(
        set,
        &VectorQuery {
            vector: &[1.0; DIM],
            k: usize::MAX,
            tenants: &["t0", "t1"],
            among: None,
            ef: None,
        },
    );
    ids.sort_unstable();
    ids
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Two segments with dead rows and a log with puts and removes.
fn sample(dir: &Path) -> Vec<u128> {
    let mut data = Clusters::new(1, 5, DIM);
    let (set, seq) = open(dir);
    assert_eq!(seq, None);
    for (seq, first) in [(1, 0), (2, 5_000)] {
        set.apply(&data.puts(first, 5_000, 2)).unwrap();
        set.apply(&[VectorOp::Remove { id: 17 }]).unwrap();
        set.commit(seq).unwrap();
        set.maintain().unwrap();
    }
    set.apply(&data.puts(20_000, 20, 2)).unwrap();
    set.apply(&[VectorOp::Remove { id: 18 }, VectorOp::Remove { id: 20_001 }]).unwrap();
    set.commit(3).unwrap();
    all(&set)
}

#[test]
fn a_drop_loses_only_what_was_not_committed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("vectors");
    let before = sample(&dir);
    assert_eq!(before.len(), 10_000 + 20 - 3);
    {
        let (set, seq) = open(&dir);
        assert_eq!(seq, Some(3));
        assert_eq!(all(&set), before);
        set.apply(&[VectorOp::Remove { id: 1 }]).unwrap();
        set.apply(&Clusters::new(2, 5, DIM).puts(30_000, 5_000, 2)).unwrap();
        assert_eq!(set.len(), before.len() - 1 + 5_000);
        assert!(!set.maintain().unwrap(), "it must not run ahead of the commit");
    }
    let (set, seq) = open(&dir);
    assert_eq!(seq, Some(3));
    assert_eq!(all(&set), before);
    set.commit(9).unwrap();
    drop(set);
    assert_eq!(open(&dir).1, Some(9));
}

#[test]
fn the_graph_comes_back_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    let options = VectorOptions { exact_limit: 1_000, ..options() };
    let (set, _) = VectorSet::open(dir.path(), options).unwrap();
    let before = all(&set);
    assert!(matches!(set.state(Engine::Hnsw), EngineState::Building { done: 0, .. }));
    set.build(&AtomicBool::new(false), &|_| ()).unwrap();
    assert_eq!(set.state(Engine::Hnsw), EngineState::Ready);
    assert_eq!(all(&set), before);
    drop(set);
    let (set, seq) = VectorSet::open(dir.path(), options).unwrap();
    assert_eq!((seq, set.state(Engine::Hnsw)), (Some(3), EngineState::Ready));
    assert_eq!(all(&set), before);
    drop(set);
    let graph = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "hnsw"))
        .unwrap();
    let good = fs::read(&graph).unwrap();
    for bad in [&good[..good.len() / 2], b"another file", b""] {
        fs::write(&graph, bad).unwrap();
        let (set, _) = VectorSet::open(dir.path(), options).unwrap();
        assert!(matches!(set.state(Engine::Hnsw), EngineState::Building { done: 0, .. }));
        set.build(&AtomicBool::new(false), &|_| ()).unwrap();
        assert_eq!(fs::read(&graph).unwrap().len(), good.len(), "built anew");
    }
    let options = VectorOptions { engines: Engines::NONE, ..options };
    drop(VectorSet::open(dir.path(), options).unwrap());
    assert!(!graph.exists(), "what is not kept takes no room");
}

#[test]
fn damage_anywhere_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    sample(&good);
    let bad = dir.path().join("bad");
    let mut tried = 0;
    for entry in fs::read_dir(&good).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let bytes = fs::read(good.join(&name)).unwrap();
        for step in 0..16 {
            let at = (bytes.len() - 1) * step / 15;
            for cut in [false, true] {
                copy(&good, &bad);
                let mut changed = bytes.clone();
                if cut {
                    changed.truncate(at)
                } else {
                    changed[at] ^= 1 << (step % 8)
                }
                fs::write(bad.join(&name), changed).unwrap();
                let opened = VectorSet::open(&bad, options());
                assert!(
                    matches!(opened, Err(IndexError::Damaged { .. })),
                    "{name} at {at}, cut: {cut}: {:?}",
                    opened.err()
                );
                VectorSet::wipe(&bad).unwrap();
                tried += 1;
            }
        }
        copy(&good, &bad);
        fs::remove_file(bad.join(&name)).unwrap();
        let opened = VectorSet::open(&bad, options());
        assert!(matches!(opened, Err(IndexError::Damaged { .. })), "without {name}");
        VectorSet::wipe(&bad).unwrap();
        VectorSet::wipe(&bad).unwrap();
        assert_eq!(open(&bad).1, None);
        VectorSet::wipe(&bad).unwrap();
    }
    assert!(tried >= 4 * 32, "manifest, two segments or one merged, dead rows, log: {tried}");
}

#[test]
fn what_a_killed_process_left_is_cut_off_and_swept() {
    let dir = tempfile::tempdir().unwrap();
    let before = sample(dir.path());
    let log = fs::read_dir(dir.path())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|e| e == "log"))
        .unwrap();
    let mut bytes = fs::read(&log).unwrap();
    let committed = bytes.len();
    bytes.extend([7; 1000]);
    fs::write(&log, bytes).unwrap();
    fs::write(dir.path().join("00009999.seg"), b"half a segment").unwrap();
    fs::write(dir.path().join("manifest.tmp"), b"half a manifest").unwrap();
    fs::write(dir.path().join("notes.txt"), b"not ours").unwrap();
    let (set, seq) = open(dir.path());
    assert_eq!((seq, all(&set)), (Some(3), before));
    assert_eq!(fs::metadata(&log).unwrap().len(), committed as u64);
    assert!(!dir.path().join("00009999.seg").exists());
    assert!(!dir.path().join("manifest.tmp").exists());
    assert!(dir.path().join("notes.txt").exists());
}

#[test]
fn another_shape_is_a_rebuild_and_bad_settings_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    sample(dir.path());
    for other in [VectorOptions::new(DIM + 1, Metric::Cosine), VectorOptions::new(DIM, Metric::L2)]
    {
        let opened = VectorSet::open(dir.path(), other);
        assert!(matches!(opened, Err(IndexError::Damaged { .. })));
    }
    for hnsw in [
        HnswParams { m: 1, ..HnswParams::default() },
        HnswParams { m: 257, ..HnswParams::default() },
        HnswParams { ef_construction: 0, ..HnswParams::default() },
        HnswParams { ef_search: 0, ..HnswParams::default() },
    ] {
        let opened = VectorSet::open(dir.path(), VectorOptions { hnsw, ..options() });
        assert!(matches!(opened, Err(IndexError::Invalid(_))));
    }
    for ivfflat in [
        IvfParams { lists: 0, ..IvfParams::default() },
        IvfParams { lists: 32_769, ..IvfParams::default() },
        IvfParams { probes: 0, ..IvfParams::default() },
    ] {
        let opened = VectorSet::open(dir.path(), VectorOptions { ivfflat, ..options() });
        assert!(matches!(opened, Err(IndexError::Invalid(_))));
    }
    let opened = VectorSet::open(dir.path(), VectorOptions::new(0, Metric::Cosine));
    assert!(matches!(opened, Err(IndexError::Invalid(_))));
}

#[test]
fn tenants_never_mix() {
    let dir = tempfile::tempdir().unwrap();
    let (set, _) = open(dir.path());
    let mut data = Clusters::new(3, 5, DIM);
    for round in 0..3_u64 {
        set.apply(&data.puts(u128::from(round) * 5_000, 5_000, 4)).unwrap();
        set.commit(round).unwrap();
        if round < 2 {
            set.maintain().unwrap();
        }
    }
    let vector = data.vector();
    let find = |tenants: &[&str]| {
        ids(&set, &VectorQuery { vector: &vector, k: usize::MAX, tenants, among: None, ef: None })
    };
    for tenant in 0..4_u128 {
        let found = find(&[&format!("t{tenant}")]);
        assert_eq!(found.len(), 3_750);
        assert!(found.iter().all(|id| id % 4 == tenant));
    }
    assert_eq!(find(&["t0", "t3", "t0"]).len(), 7_500);
    assert!(find(&[]).is_empty() && find(&["t"]).is_empty() && find(&["t00"]).is_empty());
}

#[test]
fn a_failed_commit_can_be_tried_again() {
    let dir = tempfile::tempdir().unwrap();
    let (here, away) = (dir.path().join("vectors"), dir.path().join("away"));
    let mut data = Clusters::new(4, 5, DIM);
    let (set, _) = open(&here);
    set.apply(&data.puts(0, 10, 2)).unwrap();
    for seq in [1, 2] {
        // The folder is gone: first for a new log, then for one that is open.
        fs::rename(&here, &away).unwrap();
        assert!(matches!(set.commit(seq), Err(IndexError::Io(_))));
        fs::rename(&away, &here).unwrap();
        assert_eq!(set.committed_seq(), (seq == 2).then_some(1));
        set.apply(&data.puts(100 * u128::from(seq), 10, 2)).unwrap();
        set.commit(seq).unwrap();
    }
    let before = all(&set);
    assert_eq!(before.len(), 30);
    drop(set);
    let (set, seq) = open(&here);
    assert_eq!((seq, all(&set)), (Some(2), before));
}
