//! Power is lost after, and in the middle of, the syncs of a random workload, and again while the
//! store recovers from that: whatever was acknowledged before is there afterwards, nothing is half
//! there, and nothing that failed is there at all.
//!
//! `ACTIVEKG_POWER_CUT_SEEDS` sets how many workloads are tried (200), and
//! `ACTIVEKG_POWER_CUT_POINTS` how many syncs of each are cut (10; a large number cuts all):
//!
//! ```sh
//! ACTIVEKG_POWER_CUT_SEEDS=5000 ACTIVEKG_POWER_CUT_POINTS=1000 \
//!     cargo test -p activekg-storage --test power_cut
//! ```

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use activekg_storage::{StorageError, Store};
use common::disk::{Disk, Fault, On, Op, torn};
use common::workload::{Model, Step, options, run_together, some_options};
use common::{Dice, number};

/// Groups of changes in a workload, at most.
const GROUPS_MAX: usize = 14;

/// Images tried for each sync: nothing of what was on its way, and parts of it.
const IMAGES: usize = 3;

/// A state the store went through.
struct Stage {
    model: Model,
    /// Syncs that had ended when the changes leading to it were handed in, and when they were
    /// answered.
    begun: usize,
    acknowledged: usize,
}

/// What was done to a disk, and what should be on it.
struct Recording {
    base: Vec<u8>,
    log: Vec<Op>,
    stages: Vec<Stage>,
}

/// The store and the disk while a workload runs.
struct Run {
    disk: Disk,
    store: Arc<Store>,
    stages: Vec<Stage>,
}

impl Run {
    fn on(disk: Disk, dice: &mut Dice) -> Run {
        let store = Store::open_backend(disk.clone(), some_options(dice)).unwrap();
        let store = Arc::new(store);
        let stages = vec![Stage { model: Model::default(), begun: 0, acknowledged: 0 }];
        Run { disk, store, stages }
    }

    fn model(&self) -> &Model {
        &self.stages.last().unwrap().model
    }

    fn group(&mut self, dice: &mut Dice) {
        let begun = self.disk.n_syncs();
        let outcomes = run_together(&self.store, Step::draw_group(dice));
        let mut model = self.model().clone();
        for effect in outcomes.iter().flatten() {
            model.apply(effect);
        }
        self.stages.push(Stage { model, begun, acknowledged: self.disk.n_syncs() });
    }

    fn reopen(&mut self, dice: &mut Dice) {
        self.store.close();
        let store = Store::open_backend(self.disk.clone(), some_options(dice)).unwrap();
        self.store = Arc::new(store);
    }
}

/// A store that was made and closed in peace.
fn fresh() -> Vec<u8> {
    let disk = Disk::default();
    Store::open_backend(disk.clone(), options()).unwrap().close();
    disk.bytes()
}

fn record(base: &[u8], dice: &mut Dice) -> Recording {
    let mut run = Run::on(Disk::with(base.to_vec()), dice);
    for _ in 0..3 + dice.below(GROUPS_MAX - 2) {
        run.group(dice);
        if dice.one_in(8) {
            run.reopen(dice);
        }
    }
    assert_eq!(&Model::read(&run.store, "before any cut"), run.model());
    run.store.close();
    Recording { base: base.to_vec(), log: run.disk.take_log(), stages: run.stages }
}

impl Recording {
    /// Cuts the power at `points` of the syncs, and checks what each cut leaves.
    fn cut(&self, points: usize, dice: &mut Dice, what: &str) {
        let n_syncs = self.log.iter().filter(|op| matches!(op, Op::Sync)).count();
        // The last number is after the last sync.
        let mut chosen: Vec<usize> = (0..=n_syncs).collect();
        while chosen.len() > points {
            chosen.swap_remove(dice.below(chosen.len()));
        }
        let mut durable = self.base.clone();
        let segments = self.log.split(|op| matches!(op, Op::Sync));
        for (n, pending) in segments.enumerate() {
            if chosen.contains(&n) {
                let what = format!("{what}, sync {n}");
                for image in 0..IMAGES {
                    let bytes = match image {
                        0 => durable.clone(),
                        _ => torn(&durable, pending, dice),
                    };
                    self.check(bytes, n, dice, &format!("{what}, image {image}"));
                }
            }
            pending.iter().for_each(|op| op.apply(&mut durable));
        }
    }

    /// Opens what a cut after `n` syncs left; cuts the power again meanwhile, and checks both.
    fn check(&self, bytes: Vec<u8>, n: usize, dice: &mut Dice, what: &str) {
        let disk = Disk::with(bytes.clone());
        self.check_once(&disk, n, what);
        // What opening and closing did to the disk; the check itself writes nothing.
        let log = disk.take_log();
        let segments: Vec<&[Op]> = log.split(|op| matches!(op, Op::Sync)).collect();
        let again = dice.below(segments.len());
        let mut durable = bytes;
        for pending in &segments[..again] {
            pending.iter().for_each(|op| op.apply(&mut durable));
        }
        let disk = Disk::with(torn(&durable, segments[again], dice));
        self.check_once(&disk, n, &format!("{what}, cut again at sync {again}"));
        check_pages(&disk, what);
    }

    fn check_once(&self, disk: &Disk, n: usize, what: &str) {
        let opened = Store::open_backend(disk.clone(), options());
        let store = opened.unwrap_or_else(|error| panic!("{what}: {error}"));
        let found = Model::read(&store, what);
        store.close();
        let promised = self.stages.iter().rposition(|stage| stage.acknowledged <= n).unwrap();
        let possible = self.stages.iter().rposition(|stage| stage.begun <= n).unwrap();
        let stages = &self.stages[promised..=possible];
        assert!(
            stages.iter().any(|stage| stage.model == found),
            "{what}: found {found:?}, none of the {} states it may be in",
            stages.len()
        );
    }
}

/// The file is sound in itself, and its store takes changes.
fn check_pages(disk: &Disk, what: &str) {
    let database = redb::Database::builder().create_with_backend(disk.clone());
    let mut database = database.unwrap_or_else(|error| panic!("{what}: {error}"));
    assert!(matches!(database.check_integrity(), Ok(true)), "{what}");
    drop(database);
    let store = Arc::new(Store::open_backend(disk.clone(), options()).unwrap());
    let mut model = Model::read(&store, what);
    let step = Step::Put { number: 1, text: "after the cut".to_owned() };
    for effect in run_together(&store, vec![step]) {
        model.apply(&effect.unwrap());
    }
    assert_eq!(Model::read(&store, what), model, "{what}");
}

fn seeds() -> u64 {
    number("ACTIVEKG_POWER_CUT_SEEDS", 200)
}

#[test]
fn acknowledged_changes_survive_any_cut() {
    let points = usize::try_from(number("ACTIVEKG_POWER_CUT_POINTS", 10)).unwrap();
    let base = fresh();
    for seed in 0..seeds() {
        let mut dice = Dice::new(seed);
        record(&base, &mut dice).cut(points, &mut dice, &format!("seed {seed}"));
    }
}

/// A sync that fails tells nobody what is on the disk: nothing of that commit is acknowledged, and
/// nothing is taken after it.
#[test]
fn a_failed_sync_is_the_end_of_writing() {
    let base = fresh();
    for seed in 0..seeds() / 4 {
        let mut dice = Dice::new(seed);
        let mut run = Run::on(Disk::with(base.clone()), &mut dice);
        for _ in 0..dice.below(4) {
            run.group(&mut dice);
        }
        let after = dice.below(3);
        run.disk.fail(Fault { on: On::Sync, after, error: ErrorKind::Other, lasting: false });
        let mut failed = false;
        for _ in 0..6 {
            let begun = run.disk.n_syncs();
            let outcomes = run_together(&run.store, Step::draw_group(&mut dice));
            let unavailable =
                |outcome: &Result<_, _>| matches!(outcome, Err(StorageError::Unavailable { .. }));
            // The disk is well again, but the store does not know what it holds.
            assert!(!failed || outcomes.iter().all(unavailable), "seed {seed}");
            failed |= outcomes.iter().any(unavailable);
            let mut model = run.model().clone();
            outcomes.iter().flatten().for_each(|effect| model.apply(effect));
            let acknowledged = run.disk.n_syncs();
            run.stages.push(Stage { model, begun, acknowledged });
        }
        assert!(failed, "seed {seed}");
        run.store.close();
        // What the failed commit had written may be there or not, as one.
        let disk = Disk::with(run.disk.bytes());
        let store = Store::open_backend(disk, options()).unwrap();
        let found = Model::read(&store, "after the fault");
        let told = run.model();
        assert!(&found == told || found.is_at_least(told), "seed {seed}");
    }
}

/// A store that was being made when the power went is made anew.
#[test]
fn a_cut_while_a_store_is_made_leaves_no_store() {
    let disk = Disk::default();
    Store::open_backend(disk.clone(), options()).unwrap().close();
    let log = disk.take_log();
    let mut dice = Dice::new(0);
    let mut durable = Vec::new();
    for pending in log.split(|op| matches!(op, Op::Sync)) {
        for _ in 0..4 {
            let dir = tempfile::tempdir().unwrap();
            std::fs::write(dir.path().join("store.redb.new"), torn(&durable, pending, &mut dice))
                .unwrap();
            let store = Arc::new(Store::open(dir.path(), options()).unwrap());
            assert!(Model::read(&store, "made anew").is_empty());
            assert!(!dir.path().join("store.redb.new").exists());
        }
        pending.iter().for_each(|op| op.apply(&mut durable));
    }
}

/// A store that was being brought to the present format when the power went holds all of the old
/// one or all of the new, and is brought there when it is opened.
#[test]
fn a_cut_while_a_store_is_upgraded_loses_nothing() {
    // When a step was taken is a row too, and differs.
    let rows = |path: &Path| {
        let rows = common::rows(path).into_iter();
        let rows = rows.filter(|(table, ..)| table.name != "meta.steps");
        rows.map(|(table, key, value)| (table.name, key, value)).collect::<Vec<_>>()
    };
    let open = |image: &[u8]| {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store.redb");
        std::fs::write(&path, image).unwrap();
        Store::open(dir.path(), options()).unwrap().close();
        rows(&path)
    };
    let old = include_bytes!("data/format-1.redb");
    let uncut = open(old);
    assert!(uncut.len() > 10);
    let disk = Disk::with(old.to_vec());
    Store::upgrade_backend(disk.clone(), &options(), 1).unwrap();
    let log = disk.take_log();
    let mut dice = Dice::new(0);
    let mut durable = old.to_vec();
    for (n, pending) in log.split(|op| matches!(op, Op::Sync)).enumerate() {
        for _ in 0..8 {
            assert!(open(&torn(&durable, pending, &mut dice)) == uncut, "sync {n}");
        }
        pending.iter().for_each(|op| op.apply(&mut durable));
    }
}
