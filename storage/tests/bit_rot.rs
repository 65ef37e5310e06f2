//! Bytes of a store's file change while it is closed: whatever is read afterwards is either what
//! was written or an error, and nothing panics.
//!
//! `ACTIVEKG_BIT_ROT_CASES` sets how many damages are tried.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use activekg_storage::tables::Json;
use activekg_storage::tables::graph::{EDGES, EdgeRecord, VERSIONS, VersionRecord, add_count};
use activekg_storage::{
    NodeId, Readable, Scan, StorageError, Store, StoreOptions, TenantId, UnixMicros,
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

#[test]
fn damage_is_an_error_and_never_another_value() {
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
        read(&bytes)
    });
    outcome.unwrap();
}
