//! Stores with damage in known places.

use std::collections::BTreeSet;

use super::*;
use crate::ids::{EventId, NodeId, TenantId};
use crate::read::Readable;
use crate::store::testing;
use crate::table::Scan;
use crate::tables::Json;
use crate::tables::graph::{
    EDGES, EDGES_IN, EVENTS, EdgeRecord, EventRecord, NODE_EVENTS, VERSIONS, VersionRecord,
};
use crate::time::UnixMicros;

const ROWS: u32 = 600;

fn tenant() -> TenantId {
    TenantId::new("acme").unwrap()
}

fn node(n: u32) -> NodeId {
    NodeId::from_u128(u128::from(n))
}

fn snapshot(n: u32) -> String {
    format!("{{\"n\":{n},\"text\":\"{}\"}}", "x".repeat(n as usize % 200))
}

/// A store with versions, edges and events, [`ROWS`] of each.
fn filled(dir: &Path) {
    let store = testing::open(dir);
    testing::write(&store, |tx| {
        for n in 0..ROWS {
            let version =
                VersionRecord { snapshot: Json(snapshot(n)), created_at: UnixMicros(i64::from(n)) };
            tx.put(&VERSIONS, &(tenant(), node(n % 9), n), &version)?;
            let edge = EdgeRecord { props: Json(n.to_string()), created_at: UnixMicros(1) };
            tx.put(&EDGES, &(tenant(), node(n), "LINKS".to_owned(), node(n + 1)), &edge)?;
            tx.put(&EDGES_IN, &(tenant(), node(n + 1), "LINKS".to_owned(), node(n)), &())?;
            let (at, id) = (UnixMicros(i64::from(n)), EventId::from_u128(n.into()));
            let event = EventRecord {
                node: node(n),
                kind: "created".to_owned(),
                payload: Json::default(),
                actor_id: None,
                actor_type: None,
            };
            tx.put(&EVENTS, &(tenant(), at, id), &event)?;
            tx.put(&NODE_EVENTS, &(tenant(), node(n), at, id), &())?;
        }
        Ok(())
    });
    store.close();
}

/// The numbers of the versions that are there, each of which must be the right one.
fn versions(dir: &Path) -> BTreeSet<u32> {
    let store = testing::open(dir);
    let tx = store.read().unwrap();
    let rows = tx.scan(&VERSIONS, Scan::all()).unwrap();
    let mut found = BTreeSet::new();
    for row in rows {
        let ((_, of, n), version) = row.unwrap();
        assert_eq!((of, version.snapshot.0), (node(n % 9), snapshot(n)));
        found.insert(n);
    }
    found
}

fn salvaged<'a>(report: &'a RepairReport, table: &str) -> &'a Salvaged {
    report.tables.iter().find(|found| found.table == table).unwrap()
}

#[test]
fn a_sound_store_is_copied_whole() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let before = fs::read(dir.path().join(open::STORE_FILE)).unwrap();
    let report = repair(dir.path(), "one", &mut |_| {}).unwrap();
    assert!(report.is_whole());
    assert_eq!(report.n_mended, 0);
    assert_eq!(salvaged(&report, "graph.versions").kept, u64::from(ROWS));
    assert_eq!(versions(dir.path()).len(), ROWS as usize);
    let aside = dir.path().join("quarantine/one/store.redb");
    assert!(fs::read(aside).unwrap() == before, "the old file is as it was");
    assert!(fs::read(dir.path().join("quarantine/one/rows.bin")).unwrap().is_empty());
    assert!(!dir.path().join(NEW_FILE).exists());
}

#[test]
fn damaged_rows_are_named_and_kept_and_all_others_saved() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let path = dir.path().join(open::STORE_FILE);
    let mut bytes = fs::read(&path).unwrap();
    let hit: Vec<u32> = vec![3, 250, 599];
    for n in &hit {
        // Inside the text of one version, wherever it is: old pages may still hold it as well.
        let needle = format!("{{\"n\":{n},\"text\":");
        let places: Vec<usize> = bytes
            .windows(needle.len())
            .enumerate()
            .filter(|(_, window)| *window == needle.as_bytes())
            .map(|(at, _)| at)
            .collect();
        assert!(!places.is_empty());
        for at in places {
            bytes[at + 2] ^= 0x20;
        }
    }
    fs::write(&path, bytes).unwrap();
    let report = repair(dir.path(), "two", &mut |_| {}).unwrap();
    assert!(!report.is_whole());
    let of_versions = salvaged(&report, "graph.versions");
    assert_eq!((of_versions.quarantined, of_versions.lost), (3, 0));
    let expected: BTreeSet<u32> = (0..ROWS).filter(|n| !hit.contains(n)).collect();
    assert_eq!(versions(dir.path()), expected);

    let folder = dir.path().join("quarantine/two");
    let list = fs::read_to_string(folder.join("rows.jsonl")).unwrap();
    let raw = fs::read(folder.join("rows.bin")).unwrap();
    assert_eq!(list.lines().count(), 3);
    for line in list.lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(line["table"], "graph.versions");
        assert!(line["reason"].as_str().unwrap().contains("checksum"));
        let at = |name: &str| line[name].as_u64().unwrap() as usize;
        let value =
            at("offset") + at("key_bytes")..at("offset") + at("key_bytes") + at("value_bytes");
        assert!(raw[value].windows(4).any(|window| window == b"text"));
    }
}

#[test]
fn a_lost_table_that_follows_from_another_is_made_again() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let store = testing::open(dir.path());
    testing::write(&store, |tx| {
        for n in 0..10 {
            tx.remove(&EDGES_IN, &(tenant(), node(n + 1), "LINKS".to_owned(), node(n)))?;
            tx.remove(&EVENTS, &(tenant(), UnixMicros(n.into()), EventId::from_u128(n.into())))?;
        }
        Ok(())
    });
    drop(store);
    let report = repair(dir.path(), "three", &mut |_| {}).unwrap();
    assert_eq!(report.n_mended, 20);
    let store = testing::open(dir.path());
    let tx = store.read().unwrap();
    assert_eq!(tx.scan(&EDGES_IN, Scan::all()).unwrap().count(), ROWS as usize);
    assert_eq!(tx.scan(&NODE_EVENTS, Scan::all()).unwrap().count(), ROWS as usize - 10);
}

#[test]
fn a_file_that_is_no_store_is_left_alone() {
    for bytes in [&b"not a store"[..], &[0; 1 << 16]] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(open::STORE_FILE);
        fs::write(&path, bytes).unwrap();
        let error = repair(dir.path(), "four", &mut |_| {}).unwrap_err();
        assert!(error.to_string().contains("store.redb"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), bytes);
        assert!(!dir.path().join(QUARANTINE).exists());
    }
}

#[test]
fn a_store_in_use_is_not_repaired() {
    let dir = tempfile::tempdir().unwrap();
    filled(dir.path());
    let _store = testing::open(dir.path());
    let error = repair(dir.path(), "five", &mut |_| {}).unwrap_err();
    assert!(matches!(error, RepairError::Open(OpenError::Locked { .. })), "{error}");
}
