//! Bytes of a store's file change while it is closed: whatever is read afterwards is either what
//! was written or an error, and nothing panics.
//!
//! `ACTIVEKG_BIT_ROT_CASES` sets how many damages are tried.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use activekg_storage::check::{self, CheckOptions};
use activekg_storage::tables::Json;
use activekg_storage::tables::graph::{EDGES, EdgeRecord, VERSIONS, VersionRecord, add_count};
use activekg_storage::{
    NodeId, Offline, Readable, Scan, StorageError, Store, StoreOptions, TenantId, UnixMicros,
    repair,
};
use proptest::prelude::*;

fn tenant() -> TenantId {
    TenantId::new("rot").unwrap()
}

fn text(number: u32) -> String {
    format!("{number} ").repeat(number as usize % 200)
}

/// A store's file with rows on many pages.
fn whole() -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    let filled = store.write_blocking(|tx| {
        for number in 0..400u32 {
            let node = NodeId::from_u128(u128::from(number % 7));
            let version = VersionRecord { snapshot: Json(text(number)), created_at: UnixMicros(0) };
            tx.put(&VERSIONS, &(tenant(), node, number), &version)?;
            let edge = EdgeRecord { props: Json(number.to_string()), created_at: UnixMicros(0) };
            let target = NodeId::from_u128(u128::from(number));
            tx.put(&EDGES, &(tenant(), node, "LINKS".to_owned(), target), &edge)?;
        }
        add_count(tx, &tenant(), "n", 1)?;
        Ok::<_, StorageError>(())
    });
    filled.unwrap();
    store.close();
    std::fs::read(dir.path().join("store.redb")).unwrap()
}

/// Reads everything that still can be.
fn read(bytes: &[u8]) -> Result<(), TestCaseError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("store.redb"), bytes).unwrap();
    let Ok(store) = Store::open(dir.path(), StoreOptions::default()) else {
        return Ok(());
    };
    let Ok(tx) = store.read() else {
        return Ok(());
    };
    let mut seen = BTreeMap::new();
    if let Ok(rows) = tx.scan(&VERSIONS, Scan::all()) {
        // Damage may make a ring of pages; no more rows than there were is enough.
        for ((_, node, number), version) in rows.take(500).flatten() {
            prop_assert_eq!(node.as_u128(), u128::from(number % 7));
            prop_assert_eq!(version.snapshot.0, text(number));
            seen.insert(number, ());
        }
    }
    prop_assert!(seen.len() <= 400);
    for number in 0..400u32 {
        let node = NodeId::from_u128(u128::from(number % 7));
        let target = NodeId::from_u128(u128::from(number));
        let key = (tenant(), node, "LINKS".to_owned(), target);
        if let Ok(Some(edge)) = tx.get(&EDGES, &key) {
            prop_assert_eq!(edge.props.0, number.to_string());
        }
    }
    drop(tx);
    // Writing may fail; it must answer.
    drop(store.write_blocking(|tx| add_count(tx, &tenant(), "n", 1)));
    Ok(())
}

fn cases() -> usize {
    let cases = std::env::var("ACTIVEKG_BIT_ROT_CASES");
    cases.map_or(60, |text| text.parse().expect("ACTIVEKG_BIT_ROT_CASES is a number"))
}

/// Runs `test` on copies of a store's file with one to three bytes changed.
fn on_damaged(test: impl Fn(&[u8]) -> Result<(), TestCaseError>) {
    let whole = whole();
    // Most of a small file is room to grow; damage there says nothing.
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let config = ProptestConfig {
        cases: u32::try_from(cases()).unwrap(),
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let damage = prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 1..4);
    let mut runner = proptest::test_runner::TestRunner::new(config);
    let outcome = runner.run(&damage, |damage| {
        let mut bytes = whole.clone();
        for (at, flip) in damage {
            bytes[used[at.index(used.len())]] ^= flip;
        }
        test(&bytes)
    });
    outcome.unwrap();
}

#[test]
fn damage_is_an_error_and_never_another_value() {
    on_damaged(read);
}

/// A folder with this file as its store.
fn placed(bytes: &[u8]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("store.redb"), bytes).unwrap();
    dir
}

/// How many versions there are, each of which must be the right one.
fn versions(store: &Store) -> Result<u64, TestCaseError> {
    let tx = store.read().unwrap();
    let mut found = 0;
    for row in tx.scan(&VERSIONS, Scan::all()).unwrap() {
        let ((_, node, number), version) = row.unwrap();
        prop_assert_eq!(node.as_u128(), u128::from(number % 7));
        prop_assert_eq!(version.snapshot.0, text(number));
        found += 1;
    }
    Ok(found)
}

#[test]
fn a_check_finds_what_a_read_would_stumble_over() {
    on_damaged(|bytes| {
        let dir = placed(bytes);
        let Ok(mut store) = Offline::open(dir.path(), &StoreOptions::default()) else {
            return Ok(());
        };
        let Ok(report) = check::check(&mut store, CheckOptions::default(), &mut |_| {}) else {
            return Ok(());
        };
        prop_assert!(std::fs::read(dir.path().join("store.redb")).unwrap() == bytes);
        drop(store);
        if report.is_sound() {
            // Then everything is there.
            let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
            prop_assert_eq!(versions(&store)?, 400);
            return Ok(());
        }
        // What is wrong with rows is said of a table.
        let named = report.tables.iter().filter(|table| !table.is_sound());
        for table in named {
            let said = table.damaged.iter().all(|row| row.reason.contains(table.table));
            prop_assert!(said, "{:?}", table);
        }
        Ok(())
    });
}

#[test]
fn a_repair_saves_right_rows_and_accounts_for_the_others() {
    on_damaged(|bytes| {
        let dir = placed(bytes);
        let report = match repair::repair(dir.path(), "now", &mut |_| {}) {
            Ok(report) => report,
            Err(error) => {
                // Nothing was touched.
                prop_assert!(error.to_string().contains("store.redb"), "{}", error);
                prop_assert!(std::fs::read(dir.path().join("store.redb")).unwrap() == bytes);
                return Ok(());
            }
        };
        let aside = report.quarantine.join("store.redb");
        prop_assert!(std::fs::read(aside).unwrap() == bytes);
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        let found = versions(&store)?;
        let saved = report.tables.iter().find(|table| table.table == "graph.versions").unwrap();
        prop_assert_eq!(found, saved.kept);
        if saved.expected == Some(400) {
            prop_assert!(saved.kept + saved.quarantined + saved.lost >= 400, "{:?}", saved);
        }
        if report.is_whole() && saved.expected.is_some() {
            prop_assert_eq!(found, 400);
        }
        drop(store);
        let mut store = Offline::open(dir.path(), &StoreOptions::default()).unwrap();
        let checked = check::check(&mut store, CheckOptions::default(), &mut |_| {}).unwrap();
        prop_assert!(checked.is_sound(), "{:?}", checked);
        Ok(())
    });
}

#[test]
fn a_flipped_byte_in_a_value_costs_that_row_alone() {
    let whole = whole();
    // Texts of one word only would be found within others.
    for number in (5..400u32).step_by(37) {
        let needle = text(number);
        let mut bytes = whole.clone();
        let places: Vec<usize> = bytes
            .windows(needle.len())
            .enumerate()
            .filter(|(_, window)| *window == needle.as_bytes())
            .map(|(at, _)| at)
            .collect();
        for at in places {
            bytes[at] ^= 1;
        }
        let dir = placed(&bytes);
        let report = repair::repair(dir.path(), "now", &mut |_| {}).unwrap();
        let saved = report.tables.iter().find(|table| table.table == "graph.versions").unwrap();
        assert_eq!((saved.kept, saved.quarantined, saved.lost), (399, 1, 0), "row {number}");
    }
}
