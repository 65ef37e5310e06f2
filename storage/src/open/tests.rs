use super::*;
use crate::StorageError;
use crate::store::{Store, testing};
use crate::tables::graph::{add_count, count};

fn options() -> StoreOptions {
    StoreOptions::default()
}

/// Names and bytes of everything in a directory.
fn contents(dir: &Path) -> Vec<(std::ffi::OsString, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.file_name(), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

fn set_format(dir: &Path, format: u64) {
    let store = testing::open(dir);
    testing::write(&store, move |tx| tx.put(&META, &(FORMAT_KEY.to_owned(),), &format));
}

#[test]
fn makes_the_directory_and_opens_again() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("a/b");
    testing::open(&dir).close();
    assert!(!dir.join(NEW_FILE).exists());
    testing::open(&dir);
}

#[test]
fn an_interrupted_creation_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join(NEW_FILE), b"half a store").unwrap();
    testing::open(dir.path());
}

#[test]
fn a_held_directory_names_its_holder() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    let error = Store::open(dir.path(), options()).unwrap_err();
    let ours = std::process::id();
    assert!(matches!(&error, OpenError::Locked { pid: Some(pid), .. } if *pid == ours));
    assert!(error.to_string().contains(&format!("in use by process {ours};")));
    store.close();
    testing::open(dir.path());
}

#[test]
fn a_newer_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    set_format(dir.path(), FORMAT + 1);
    // As copied from elsewhere, without the lock's file.
    fs::remove_file(dir.path().join("store.lock")).unwrap();
    let before = contents(dir.path());
    let error = Store::open(dir.path(), options()).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { found, supported, .. }
        if found == FORMAT + 1 && supported == FORMAT));
    assert!(contents(dir.path()) == before, "opening changed the directory");
}

/// A copy of the store's file while it is open: what a killed process leaves.
fn as_if_killed(from: &Path) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::copy(from.join(STORE_FILE), dir.path().join(STORE_FILE)).unwrap();
    dir
}

#[test]
fn a_store_that_was_not_closed_is_repaired() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    let tenant = crate::TenantId::new("acme").unwrap();
    for _ in 0..20 {
        let tenant = tenant.clone();
        testing::write(&store, move |tx| add_count(tx, &tenant, "n", 1));
    }
    let killed = as_if_killed(dir.path());
    for _ in 0..2 {
        let store = testing::open(killed.path());
        assert_eq!(count(&store.read().unwrap(), &tenant, "n").unwrap(), 20);
    }
}

#[test]
fn a_newer_format_that_needs_repair_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    testing::write(&store, |tx| tx.put(&META, &(FORMAT_KEY.to_owned(),), &(FORMAT + 1)));
    let killed = as_if_killed(dir.path());
    let before = contents(killed.path());
    let error = Store::open(killed.path(), options()).unwrap_err();
    assert!(matches!(error, OpenError::NewerFormat { .. }), "{error}");
    assert!(contents(killed.path()) == before, "opening changed the directory");
}

#[test]
fn an_unknown_older_format_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    set_format(dir.path(), 0);
    let error = Store::open(dir.path(), options()).unwrap_err();
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}

#[test]
fn a_directory_that_cannot_be_made_is_not_writable() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, b"").unwrap();
    let error = Store::open(&file.join("data"), options()).unwrap_err();
    assert!(matches!(error, OpenError::NotWritable { .. }), "{error}");
    assert!(!error.to_string().contains('\n'));
}

#[test]
fn what_is_no_store_is_damaged_and_kept() {
    for bytes in [b"".as_slice(), b"not a store", &[0; 8192], &[0xA5; 1 << 16]] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(STORE_FILE);
        fs::write(&path, bytes).unwrap();
        let error = Store::open(dir.path(), options()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
    }
}

#[test]
fn a_store_cut_short_is_an_error_wherever_it_is_cut() {
    let dir = tempfile::tempdir().unwrap();
    testing::open(dir.path()).close();
    let path = dir.path().join(STORE_FILE);
    let whole = fs::read(&path).unwrap();
    for part in 0..8 {
        fs::write(&path, &whole[..whole.len() * part / 8]).unwrap();
        let error = Store::open(dir.path(), options()).unwrap_err();
        assert!(matches!(error, OpenError::Damaged { .. }), "{part}: {error}");
    }
}

#[test]
fn a_closed_store_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    store.close();
    store.close();
    assert!(matches!(store.read(), Err(StorageError::Closed)));
    let late = store.write_blocking(|_| Ok::<_, StorageError>(()));
    assert!(matches!(late, Err(StorageError::Closed)));
}

#[test]
fn recovery_says_how_far_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    testing::write(&store, |tx| add_count(tx, &crate::TenantId::shared(), "n", 1));
    // As the file is when the process dies.
    let copy = tempfile::tempdir().unwrap();
    fs::copy(dir.path().join(STORE_FILE), copy.path().join(STORE_FILE)).unwrap();
    store.close();
    for (dir, recovers) in [(dir.path(), false), (copy.path(), true)] {
        let told = Arc::new(std::sync::Mutex::new(Vec::new()));
        let heard = told.clone();
        let recovery = Recovery::told(move |done| heard.lock().unwrap().push(done));
        Store::open(dir, StoreOptions { recovery, ..options() }).unwrap();
        let told = told.lock().unwrap();
        assert_eq!(!told.is_empty(), recovers);
        assert!(told.is_sorted() && told.iter().all(|done| (0.0..=1.0).contains(done)));
    }
}
