use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::crypt::Kek;
use crate::store::testing::{open, write};
use crate::time::ManualClock;

const KEYS: [&str; 3] = [
    "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=",
    "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=",
    "cw_0x689RpI-jtRR7oE8h_eQsKImvJapLeSbXpwF4e4=",
];
const THEN: UnixMicros = UnixMicros(1_770_000_000_000_000);
const NOW: UnixMicros = UnixMicros(1_780_000_000_000_000);

fn kek(version: u32) -> Kek {
    Kek::parse(KEYS[version as usize - 1]).unwrap()
}

/// The first `newest` keys, the newest of them active.
fn ring(newest: u32) -> KeyRing {
    KeyRing::new((1..=newest).map(|version| (version, kek(version))).collect(), newest).unwrap()
}

fn sealed(ring: &KeyRing, secret: &str) -> ConnectorRecord {
    let mut settings = Settings::new();
    settings.insert("bucket".to_owned(), json!("docs"));
    settings.insert("access_key_id".to_owned(), json!("AKIA"));
    settings.insert("secret_access_key".to_owned(), json!(secret));
    fields::seal(&mut settings, ring, THEN);
    record(Value::Object(settings), ring.active())
}

fn record(settings: Value, key_version: u32) -> ConnectorRecord {
    ConnectorRecord {
        config: Json(settings.to_string()),
        enabled: false,
        bucket: Some("docs".to_owned()),
        key_version,
        created_at: THEN,
        updated_at: THEN,
    }
}

fn key(tenant: &str, provider: &str) -> ConnectorKey {
    (TenantId::new(tenant).unwrap(), provider.to_owned())
}

fn put(store: &Store, key: &ConnectorKey, record: &ConnectorRecord) {
    let (key, record) = (key.clone(), record.clone());
    write(store, move |tx| tx.put(&CONFIGS, &key, &record));
}

fn rows(store: &Store) -> BTreeMap<(String, String), ConnectorRecord> {
    let snapshot = store.read().unwrap();
    let rows = snapshot.scan(&CONFIGS, Scan::all()).unwrap().map(Result::unwrap);
    rows.map(|((tenant, provider), row)| ((tenant.as_str().to_owned(), provider), row)).collect()
}

fn secret(record: &ConnectorRecord, ring: &KeyRing) -> String {
    let opened = fields::open(&parse(&record.config).unwrap(), ring, record.key_version).unwrap();
    let (_, secret) = opened.iter().find(|(field, _)| *field == "secret_access_key").unwrap();
    secret.reveal_text().unwrap().to_owned()
}

fn run(store: &Store, ring: &KeyRing, selection: &Selection, batch_rows: usize) -> Report {
    let clock = ManualClock::at(NOW);
    let rotation = Rotation { store, ring, clock: &clock };
    let n_pending = rotation.count(selection).unwrap();
    let report = rotation.run(selection, batch_rows, |_| ControlFlow::Continue(()));
    assert!(report.fault.is_none());
    assert_eq!(report.rotated + report.errors + report.skipped, n_pending, "the dry run's figure");
    report
}

#[test]
fn everything_ends_at_the_active_version() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for n in 0..25 {
        put(&store, &key(&format!("t{n:02}"), "s3"), &sealed(&ring(1 + n % 2), &format!("s{n}")));
    }
    let before = rows(&store);
    let report = run(&store, &ring(2), &Selection::default(), 4);
    assert_eq!((report.rotated, report.skipped, report.errors), (13, 0, 0));
    for (n, (at, row)) in rows(&store).iter().enumerate() {
        assert_eq!(row.key_version, 2);
        assert_eq!(secret(row, &ring(2)), format!("s{n}"));
        // The new key alone opens it, the rest of the row is as it was.
        let new_only = KeyRing::new([(2, kek(2))].into(), 2).unwrap();
        assert_eq!(secret(row, &new_only), format!("s{n}"));
        let old = &before[at];
        assert_eq!(row.updated_at, if old.key_version == 1 { NOW } else { THEN });
        assert_eq!(row.created_at, THEN);
        assert_eq!((row.enabled, &row.bucket), (old.enabled, &old.bucket));
    }
    assert_eq!(run(&store, &ring(2), &Selection::default(), 100).rotated, 0);
    // The way back is the same way.
    let back = KeyRing::new((1..=2).map(|v| (v, kek(v))).collect(), 1).unwrap();
    assert_eq!(run(&store, &back, &Selection::default(), 100).rotated, 25);
}

#[test]
fn a_row_that_does_not_open_is_named_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (good, lost, half, text) =
        (key("a", "s3"), key("b", "s3"), key("c", "gcs"), key("d", "s3"));
    put(&store, &good, &sealed(&ring(1), "good"));
    let foreign = KeyRing::new([(1, kek(3))].into(), 1).unwrap();
    put(&store, &lost, &sealed(&foreign, "lost"));
    let mut settings = parse(&sealed(&ring(1), "half").config).unwrap();
    settings["access_key_id"] = json!("gAAAAAunreadable");
    put(&store, &half, &record(Value::Object(settings), 1));
    put(&store, &text, &ConnectorRecord { config: Json("[1]".to_owned()), ..record(json!({}), 1) });
    let before = rows(&store);

    for _ in 0..2 {
        let report = run(&store, &ring(2), &Selection::default(), 2);
        assert_eq!(report.errors, 3);
        assert_eq!(report.failed, [lost.clone(), half.clone(), text.clone()]);
    }
    let after = rows(&store);
    for (tenant, provider) in [&lost, &half, &text] {
        let at = (tenant.as_str().to_owned(), provider.clone());
        assert_eq!(after[&at], before[&at], "untouched");
    }
    assert_eq!(secret(&after[&("a".to_owned(), "s3".to_owned())], &ring(2)), "good");
    // With the lost key loaded again, a further run takes what is left.
    let found = ring(2).with_old(1, kek(3));
    let report = run(&store, &found, &Selection::default(), 2);
    assert_eq!((report.rotated, report.errors), (1, 2));
}

#[test]
fn keys_in_use_are_counted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, &key("a", "s3"), &sealed(&ring(1), "a"));
    put(&store, &key("b", "s3"), &sealed(&ring(2), "b"));
    put(&store, &key("c", "s3"), &sealed(&ring(2), "c"));
    put(&store, &key("d", "local"), &record(json!({"path": "/srv", "token": "clear"}), 1));
    let snapshot = store.read().unwrap();
    let usage = super::super::usage(&snapshot, None).unwrap();
    assert_eq!(usage.total, 4);
    assert_eq!(usage.by_version, [(1, 2), (2, 2)].into());
    assert_eq!(usage.sealed, [(1, 1), (2, 2)].into());
    let unopened = |ring: &KeyRing| super::super::unopened(&snapshot, ring).unwrap();
    assert_eq!(unopened(&ring(2)), BTreeMap::new());
    assert_eq!(unopened(&ring(1)), [(2, 2)].into());
    // The right number of the wrong key.
    let other = KeyRing::new([(1, kek(3)), (2, kek(2))].into(), 2).unwrap();
    assert_eq!(unopened(&other), [(1, 1)].into());
}

#[test]
fn filters_select() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for tenant in ["a", "b", "c"] {
        for provider in ["gcs", "s3"] {
            put(&store, &key(tenant, provider), &sealed(&ring(1), "x"));
        }
    }
    let select = |providers: &[&str], tenants: &[&str]| Selection {
        providers: providers.iter().map(|name| (*name).to_owned()).collect(),
        tenants: tenants.iter().map(|name| TenantId::new(name).unwrap()).collect(),
    };
    let rotated = |selection| run(&store, &ring(2), &selection, 100).rotated;
    assert_eq!(rotated(select(&["azure"], &[])), 0);
    assert_eq!(rotated(select(&["s3"], &["a"])), 1);
    assert_eq!(rotated(select(&["s3", "gcs"], &["a", "b"])), 3);
    assert_eq!(rotated(select(&["gcs"], &[])), 1);
    assert_eq!(rotated(Selection::default()), 1);
}

#[test]
fn a_row_changed_meanwhile_is_skipped() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (changed, removed, same) = (key("a", "s3"), key("b", "s3"), key("c", "s3"));
    for key in [&changed, &removed, &same] {
        put(&store, key, &sealed(&ring(1), "old"));
    }
    let clock = ManualClock::at(NOW);
    let ring = ring(2);
    let rotation = Rotation { store: &store, ring: &ring, clock: &clock };
    let page = rotation.page(&Selection::default(), 10, None).unwrap();
    put(&store, &changed, &sealed(&ring, "new"));
    let gone = removed.clone();
    write(&store, move |tx| tx.remove(&CONFIGS, &gone));
    let batch = rotation.write(page.resealed).unwrap();
    assert_eq!(batch, Batch { rotated: vec![(same, 1)], skipped: 2, errors: 0 });
    let rows = rows(&store);
    assert_eq!(rows.len(), 2);
    assert_eq!(secret(&rows[&("a".to_owned(), "s3".to_owned())], &ring), "new");
}

#[test]
fn secrets_in_the_clear_are_sealed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let clear = json!({"secret_access_key": "imported", "password": "gAAAAA"});
    put(&store, &key("a", "s3"), &record(json!({"secret_access_key": "imported"}), 2));
    put(&store, &key("b", "s3"), &record(clear, 1));
    let report = run(&store, &ring(2), &Selection::default(), 100);
    assert_eq!((report.rotated, report.errors), (1, 1), "what looks sealed must open");
    let rows = rows(&store);
    let row = &rows[&("a".to_owned(), "s3".to_owned())];
    assert!(!row.config.as_str().contains("imported"));
    assert_eq!(secret(row, &ring(2)), "imported");
}

#[test]
fn two_keys_of_one_version_are_told_apart() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let file = KeyRing::new([(1, kek(3))].into(), 1).unwrap();
    put(&store, &key("a", "s3"), &sealed(&file, "from the file"));
    put(&store, &key("b", "s3"), &sealed(&ring(1), "from the environment"));
    let both = ring(1).with_old(1, kek(3));
    assert_eq!(run(&store, &both, &Selection::default(), 100).rotated, 1);
    let rows = rows(&store);
    assert_eq!(secret(&rows[&("a".to_owned(), "s3".to_owned())], &ring(1)), "from the file");
    assert_eq!(run(&store, &both, &Selection::default(), 100).rotated, 0);
}

#[test]
fn a_damaged_row_is_counted_and_does_not_hide_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, &key("a", "s3"), &sealed(&ring(1), "a"));
    put(&store, &key("c", "s3"), &sealed(&ring(1), "c"));
    // A record of another table's shape stands for a damaged one.
    const FOREIGN: crate::Table<ConnectorKey, u64> = crate::Table::new("connectors.configs");
    write(&store, |tx| tx.put(&FOREIGN, &key("b", "s3"), &7));
    let report = run(&store, &ring(2), &Selection::default(), 1);
    assert_eq!((report.rotated, report.errors, report.failed.len()), (2, 1, 0));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Rotations to any version in turn, each stopped (as a kill between two commits stops it) after
    /// some batches: every secret stays what it was, under the version its row says.
    #[test]
    fn stopped_anywhere_nothing_is_lost(
        n_rows in 1..12usize,
        runs in prop::collection::vec((1..=3u32, 1..5usize, 0..4usize), 1..6),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        for n in 0..n_rows {
            put(&store, &key(&format!("t{n:02}"), "s3"), &sealed(&ring(1), &format!("s{n}")));
        }
        let clock = ManualClock::at(NOW);
        for (active, batch_rows, n_batches) in runs {
            let all = KeyRing::new((1..=3).map(|v| (v, kek(v))).collect(), active).unwrap();
            let rotation = Rotation { store: &store, ring: &all, clock: &clock };
            let n_pending = rotation.count(&Selection::default()).unwrap();
            let mut left = n_batches;
            let report = rotation.run(&Selection::default(), batch_rows, |_| {
                left = left.saturating_sub(1);
                if left == 0 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
            prop_assert_eq!(report.rotated, n_pending.min((batch_rows * n_batches.max(1)) as u64));
            drop(store);
            store = open(dir.path());
            for (n, row) in rows(&store).values().enumerate() {
                prop_assert_eq!(secret(row, &all), format!("s{n}"));
                let one = KeyRing::new([(row.key_version, kek(row.key_version))].into(), row.key_version);
                prop_assert_eq!(secret(row, &one.unwrap()), format!("s{n}"));
            }
        }
    }
}
