use std::path::Path;

use super::*;
use crate::OpenError;
use crate::open::STORE_FILE;
use crate::store::{Store, StoreOptions, testing};
use crate::tables::graph::{add_count, count};

/// The file that format 1 left for all times.
const FORMAT_1: &[u8] = include_bytes!("../../tests/data/format-1.redb");

fn with_format_1() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join(STORE_FILE), FORMAT_1).unwrap();
    dir
}

fn open(dir: &Path) -> Result<Store, OpenError> {
    Store::open(dir, StoreOptions::default())
}

#[test]
fn there_is_a_step_for_every_format() {
    let formats: Vec<u64> = STEPS.iter().map(|step| step.format).collect();
    assert_eq!(formats, Vec::from_iter(OLDEST + 1..=crate::FORMAT));
}

/// A step that is out says what it does once and for all.
#[test]
fn steps_are_what_they_were() {
    let sum = STEPS[0].checksum().map(|byte| format!("{byte:02x}")).concat();
    assert_eq!(sum, "563600460e7ff9f3b5626ca10087160014fbf4e3a85099e63eed59c0be43ca85");
}

#[test]
fn an_upgrade_leaves_a_copy_that_can_be_opened() {
    let dir = with_format_1();
    open(dir.path()).unwrap().close();
    let copy = dir.path().join("store.redb.format-1");
    assert!(std::fs::read(&copy).unwrap() == FORMAT_1);
    assert!(!dir.path().join("store.redb.format-1.new").exists());
    // The second time there is nothing to do.
    std::fs::remove_file(&copy).unwrap();
    open(dir.path()).unwrap().close();
    assert!(!copy.exists());
}

#[test]
fn steps_are_written_down() {
    let dir = with_format_1();
    let store = open(dir.path()).unwrap();
    let tx = store.read().unwrap();
    let done = tx.get(&DONE, &(2,)).unwrap().unwrap();
    assert_eq!((done.name.as_str(), done.checksum), (STEPS[0].name, STEPS[0].checksum()));
    assert!(done.at > UnixMicros(0));
    // A store that was made by this version took no steps.
    let fresh = tempfile::tempdir().unwrap();
    let store = open(fresh.path()).unwrap();
    assert_eq!(store.read().unwrap().scan(&DONE, Scan::all()).unwrap().count(), 0);
}

#[test]
fn a_step_of_another_program_is_refused() {
    for format in [2, 3] {
        let dir = tempfile::tempdir().unwrap();
        let store = testing::open(dir.path());
        let name = "sharded queues".to_owned();
        let record = StepRecord { name, checksum: [7; 32], at: UnixMicros(1) };
        testing::write(&store, move |tx| tx.put(&DONE, &(format,), &record));
        store.close();
        let before = std::fs::read(dir.path().join(STORE_FILE)).unwrap();
        let error = open(dir.path()).unwrap_err();
        assert!(matches!(error, OpenError::Foreign { format: found, .. } if found == format));
        assert!(error.to_string().contains("\"sharded queues\""), "{error}");
        assert!(std::fs::read(dir.path().join(STORE_FILE)).unwrap() == before);
    }
}

/// A step that fails half way leaves everything as it was.
#[test]
fn half_a_step_is_none() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    let tenant = crate::TenantId::new("acme").unwrap();
    let owner = tenant.clone();
    testing::write(&store, move |tx| {
        add_count(tx, &owner, "n", 1)?;
        open::note_format(tx, 1)
    });
    store.close();
    let half = Step {
        format: 2,
        name: "half",
        declaration: "",
        run: |_, tx| {
            add_count(tx, &crate::TenantId::new("acme").unwrap(), "n", 1)?;
            tx.keep();
            Err(StorageError::corrupt("graph.counts", "torn"))
        },
    };
    let database = redb::Database::open(dir.path().join(STORE_FILE)).unwrap();
    assert!(take(&database, &half, UnixMicros(1)).is_err());
    drop(database);
    let store = open(dir.path()).unwrap();
    let tx = store.read().unwrap();
    assert_eq!(count(&tx, &tenant, "n").unwrap(), 1);
    assert_eq!(tx.get(&DONE, &(2,)).unwrap().unwrap().name, STEPS[0].name);
}
