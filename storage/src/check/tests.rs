//! Stores in which something does not fit.

use super::*;
use crate::ids::{NodeId, TenantId};
use crate::store::{StoreOptions, testing};
use crate::tables::Json;
use crate::tables::graph::{EDGES, EDGES_IN, EdgeRecord, EmbeddingStatus, NODES, NodeRecord};
use crate::time::UnixMicros;

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn node(number: u128) -> NodeId {
    NodeId::from_u128(number)
}

fn record() -> NodeRecord {
    NodeRecord {
        classes: Vec::new(),
        props: Json::default(),
        payload_ref: None,
        metadata: Json::default(),
        refresh_policy: Json::default(),
        triggers: Vec::new(),
        external_id: None,
        version: 1,
        embedding_status: EmbeddingStatus::Skipped,
        embedding_error: None,
        embedding_attempts: 0,
        embedding_updated_at: None,
        last_refreshed: None,
        drift_score: None,
        deleted: false,
        text_revision: 0,
        created_at: UnixMicros(1),
        updated_at: UnixMicros(1),
    }
}

fn checked(dir: &std::path::Path) -> CheckReport {
    let mut store = Offline::open(dir, &StoreOptions::default()).unwrap();
    check(&mut store, CheckOptions { isolation: true }, &mut |_| {}).unwrap()
}

#[test]
fn a_store_without_faults_is_sound_and_untouched() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    testing::write(&store, |tx| {
        crate::tables::graph::note_tenant(tx, &tenant("acme"), UnixMicros(1))?;
        tx.put(&NODES, &(tenant("acme"), node(1)), &record())
    });
    // Killed, in effect: the file is as a crash leaves it.
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(dir.path().join("store.redb"), copy.path().join("store.redb")).unwrap();
    drop(store);
    for dir in [dir.path(), copy.path()] {
        let before = std::fs::read(dir.join("store.redb")).unwrap();
        let report = checked(dir);
        assert!(report.is_sound(), "{report:?}");
        assert_eq!(report.format, Some(open::FORMAT));
        assert_eq!(report.rows(), 3);
        assert_eq!(report.file_bytes, before.len() as u64);
        assert!(std::fs::read(dir.join("store.redb")).unwrap() == before);
    }
}

#[test]
fn rows_that_contradict_each_other_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    testing::write(&store, |tx| {
        let edge = EdgeRecord { props: Json::default(), created_at: UnixMicros(1) };
        tx.put(&EDGES, &(tenant("acme"), node(1), "A".to_owned(), node(2)), &edge)?;
        tx.put(&EDGES_IN, &(tenant("acme"), node(8), "B".to_owned(), node(9)), &())
    });
    drop(store);
    let report = checked(dir.path());
    assert!(!report.is_sound());
    assert_eq!(report.n_disagreements, 2);
    assert!(report.disagreements.iter().all(|found| found.table == "graph.edges_in"));
    assert!(report.disagreements[0].key.starts_with("acme"), "{:?}", report.disagreements);
}

#[test]
fn a_reference_into_another_tenant_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = testing::open(dir.path());
    testing::write(&store, |tx| {
        tx.put(&NODES, &(tenant("acme"), node(1)), &record())?;
        tx.put(&NODES, &(tenant("other"), node(2)), &record())?;
        tx.put(&NODES, &(TenantId::shared(), node(3)), &record())?;
        let edge = EdgeRecord { props: Json::default(), created_at: UnixMicros(1) };
        for target in [node(1), node(2), node(3), node(4)] {
            tx.put(&EDGES, &(tenant("acme"), node(1), "A".to_owned(), target), &edge)?;
        }
        Ok(())
    });
    drop(store);
    let isolation = checked(dir.path()).isolation.unwrap();
    assert_eq!((isolation.nodes, isolation.references), (3, 8));
    // Its own, a shared one and one that is gone are no crossing.
    assert_eq!(isolation.n_crossing, 1);
    assert!(isolation.tenant_tables.contains(&"graph.nodes"));
    assert!(isolation.other_tables.contains(&"changes"));
}
