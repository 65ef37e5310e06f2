//! The disk fills up, at any point of a workload: whatever was acknowledged is there, what was not
//! done was answered so, reads and removals go on, and writes do as soon as there is space again.
//!
//! `ACTIVEKG_DISK_FULL_SEEDS` sets how many workloads are tried (20).

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use activekg_storage::{StorageError, Store};
use common::disk::{Disk, Fault, On};
use common::workload::{Effect, Model, Step, options, run_together};
use common::{Dice, number};

fn seeds() -> u64 {
    number("ACTIVEKG_DISK_FULL_SEEDS", 20)
}

/// A store that was made and closed in peace.
fn fresh() -> Vec<u8> {
    let disk = Disk::default();
    Store::open_backend(disk.clone(), options()).unwrap().close();
    disk.bytes()
}

fn apply(model: &mut Model, outcomes: &[Result<Effect, StorageError>]) {
    outcomes.iter().flatten().for_each(|effect| model.apply(effect));
}

/// What steps may come to while the disk is or becomes full.
fn assert_clean(outcomes: &[Result<Effect, StorageError>], what: &str) {
    for outcome in outcomes {
        // A step that means to fail says `Closed`.
        let clean =
            matches!(outcome, Ok(_) | Err(StorageError::Full { .. } | StorageError::Closed));
        assert!(clean, "{what}: {outcome:?}");
    }
}

fn is_full(outcome: &Result<Effect, StorageError>) -> bool {
    matches!(outcome, Err(StorageError::Full { .. }))
}

#[test]
fn writes_stop_before_the_disk_is_full_and_go_on_when_it_is_not() {
    let base = fresh();
    let mut n_refused = 0;
    for seed in 0..seeds() {
        let mut dice = Dice::new(seed);
        let disk = Disk::with(base.clone());
        disk.limit(64 << 20);
        let store = Store::open_reserved(disk.clone(), disk.clone(), options()).unwrap();
        let store = Arc::new(store);
        let mut model = Model::default();
        for round in 0..6 {
            let what = format!("seed {seed}, round {round}");
            for _ in 0..dice.below(5) {
                apply(&mut model, &run_together(&store, Step::draw_group(&mut dice)));
            }
            // Room for nothing, for some pages, or for some large rows.
            disk.fill([0, 40_000, 400_000][dice.below(3)]);
            for _ in 0..40 {
                let outcomes = run_together(&store, Step::draw_group(&mut dice));
                assert_clean(&outcomes, &what);
                apply(&mut model, &outcomes);
                n_refused += outcomes.iter().filter(|outcome| is_full(outcome)).count();
                assert_eq!(Model::read(&store, &what), model, "{what}");
            }
            // Removals are taken while the disk is full.
            let removed = run_together(&store, vec![Step::Remove { number: 3 }]);
            assert!(removed[0].is_ok(), "{what}: {removed:?}");
            apply(&mut model, &removed);
            disk.drain();
            let put = Step::Put { number: 3, text: "there is space".to_owned() };
            let outcomes = run_together(&store, vec![put]);
            assert!(outcomes[0].is_ok(), "{what}: {outcomes:?}");
            apply(&mut model, &outcomes);
        }
        store.close();
        let store = Store::open_backend(Disk::with(disk.bytes()), options()).unwrap();
        assert_eq!(Model::read(&store, "reopened"), model, "seed {seed}");
    }
    assert!(n_refused > 0, "the disk was never full");
}

/// Without anything kept back, a write of the commit itself may fail. Then the store takes nothing
/// more until it is opened again, and has everything it acknowledged.
#[test]
fn any_write_may_fail_for_want_of_space() {
    let base = fresh();
    for seed in 0..seeds().div_ceil(10) {
        let total = workload(&base, seed, None).n_writes();
        for after in 0..total {
            for lasting in [false, true] {
                let error = ErrorKind::StorageFull;
                workload(&base, seed, Some(Fault { on: On::Space, after, error, lasting }));
            }
        }
    }
}

/// Runs the workload of `seed` against a disk with a fault, and checks what is left when it is
/// gone.
fn workload(base: &[u8], seed: u64, fault: Option<Fault>) -> Disk {
    let what = format!("seed {seed}, {fault:?}");
    let mut dice = Dice::new(seed);
    let disk = Disk::with(base.to_vec());
    if let Some(fault) = fault {
        disk.fail(fault);
    }
    let Ok(store) = Store::open_backend(disk.clone(), options()) else {
        return disk;
    };
    let store = Arc::new(store);
    let mut model = Model::default();
    let mut failed = false;
    for _ in 0..6 {
        let outcomes = run_together(&store, Step::draw_group(&mut dice));
        let unavailable =
            |outcome: &Result<_, _>| matches!(outcome, Err(StorageError::Unavailable { .. }));
        assert!(!failed || outcomes.iter().all(unavailable), "{what}: {outcomes:?}");
        failed |= outcomes.iter().any(unavailable);
        apply(&mut model, &outcomes);
    }
    store.close();
    let store = Store::open_backend(Disk::with(disk.bytes()), options())
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    let found = Model::read(&store, &what);
    // A commit whose last step failed may have happened all the same.
    assert!(found == model || failed && found.is_at_least(&model), "{what}");
    disk
}

/// A small file system in memory, gone when dropped.
struct Mounted(PathBuf);

impl Mounted {
    /// Nothing where that is not allowed.
    fn new(dir: &Path, bytes: usize) -> Option<Mounted> {
        let size = format!("size={bytes}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir);
        let mounted = mount.output().is_ok_and(|output| output.status.success());
        mounted.then(|| Mounted(dir.to_owned()))
    }

    /// Takes what is free but for `left` bytes.
    fn fill(&self, left: u64) -> PathBuf {
        let path = self.0.join("ballast");
        let mut file = File::create(&path).unwrap();
        let chunk = vec![1; 1 << 16];
        while let Ok(()) = file.write_all(&chunk) {}
        let len = file.metadata().unwrap().len();
        file.set_len(len.saturating_sub(left)).unwrap();
        path
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn a_small_file_system_fills_up() {
    let dir = tempfile::tempdir().unwrap();
    let Some(mounted) = Mounted::new(dir.path(), 32 << 20) else {
        println!("skipped: mounting a file system is not allowed here");
        return;
    };
    let data = dir.path().join("data");
    let mut dice = Dice::new(0);
    let mut model = Model::default();
    let mut n_refused = 0;
    let mut store = Arc::new(Store::open(&data, options()).unwrap());
    for round in 0..30 {
        let what = format!("round {round}");
        let ballast = mounted.fill([0, 8 << 10, 100 << 10, 1 << 20][dice.below(4)]);
        for _ in 0..20 {
            let outcomes = run_together(&store, Step::draw_group(&mut dice));
            assert_clean(&outcomes, &what);
            apply(&mut model, &outcomes);
            n_refused += outcomes.iter().filter(|outcome| is_full(outcome)).count();
            assert_eq!(Model::read(&store, &what), model, "{what}");
        }
        if dice.one_in(3) {
            // A store on a full disk closes in order, opens and is read.
            store.close();
            store = Arc::new(Store::open(&data, options()).unwrap());
            assert_eq!(Model::read(&store, &what), model, "{what}, opened on a full disk");
        }
        fs::remove_file(ballast).unwrap();
        let put = Step::Put { number: 3, text: "there is space".to_owned() };
        let outcomes = run_together(&store, vec![put]);
        assert!(outcomes[0].is_ok(), "{what}: {outcomes:?}");
        apply(&mut model, &outcomes);
        assert_eq!(Model::read(&store, &what), model, "{what}");
    }
    store.close();
    assert!(n_refused > 0, "the file system was never full");
}
