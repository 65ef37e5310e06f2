//! Store files written by every format there has been are opened and read, table by table.
//!
//! `ACTIVEKG_WRITE_FORMAT=1 cargo test -p activekg-storage --test formats` writes the file of the
//! present format, `tests/data/format-<n>.redb`. A file that was released is never written again.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Debug;
use std::path::{Path, PathBuf};
use std::time::Duration;

use activekg_storage::changes::{self, Tail};
use activekg_storage::keys::Key;
use activekg_storage::queue::{self, DeadFilter, DeadReason, Depths, End, NewJob, QueueDef, Rank};
use activekg_storage::tables::Json;
use activekg_storage::tables::graph::*;
use activekg_storage::{
    Change, ChangeKind, EventId, FORMAT, JobId, NodeId, ReadTx, Readable, Record, Scan, Seq,
    StorageError, Store, StoreOptions, Table, TenantId, UnixMicros, WriteTx,
};

const DEF: QueueDef = QueueDef {
    name: "formats",
    lease: Duration::from_secs(10),
    max_attempts: 1,
    backoff_base: Duration::from_secs(1),
    backoff_cap: Duration::from_secs(1),
    ..QueueDef::named("formats")
};

/// A queue with what format 2 brought.
const SECOND: QueueDef = QueueDef { name: "formats.second", ..DEF };

const NODE: NodeId = NodeId::from_u128(0x0123_4567_89AB_CDEF);
const OTHER: NodeId = NodeId::from_u128(u128::MAX);
const EVENT: EventId = EventId::from_u128(7);
const THEN: UnixMicros = UnixMicros(1_770_000_000_000_001);

/// From the root of the crate, where tests run.
fn file(format: u64) -> PathBuf {
    Path::new("tests/data").join(format!("format-{format}.redb"))
}

fn tenant() -> TenantId {
    TenantId::new("büro\u{1}").unwrap()
}

fn json(text: &str) -> Json {
    Json(text.to_owned())
}

fn node() -> NodeRecord {
    NodeRecord {
        classes: vec!["Document".to_owned(), "Page".to_owned()],
        props: json(r#"{"text":"Öl","n":1.50}"#),
        payload_ref: Some("file:///a".to_owned()),
        metadata: json("{}"),
        refresh_policy: json(r#"{"interval":"5m"}"#),
        triggers: vec![TriggerRecord { name: "fire".to_owned(), threshold: 0.85 }],
        external_id: Some("doc\0 1".to_owned()),
        version: 3,
        embedding_status: EmbeddingStatus::Skipped,
        embedding_error: Some("none".to_owned()),
        embedding_attempts: 2,
        embedding_updated_at: Some(THEN),
        last_refreshed: None,
        drift_score: Some(0.125),
        deleted: true,
        text_revision: 300,
        created_at: UnixMicros(-1),
        updated_at: THEN,
    }
}

fn event() -> EventRecord {
    EventRecord {
        node: NODE,
        kind: "created".to_owned(),
        payload: json("[1]"),
        actor_id: Some("me".to_owned()),
        actor_type: None,
    }
}

fn vector() -> VectorRecord {
    VectorRecord {
        model: "all-MiniLM-L6-v2".to_owned(),
        text_revision: 299,
        text_sha256: [9; 32],
        values: vec![0.25, -1.0, f32::MIN_POSITIVE],
    }
}

fn version() -> VersionRecord {
    VersionRecord { snapshot: json(r#"{"version":2}"#), created_at: THEN }
}

fn history() -> HistoryRecord {
    HistoryRecord { drift: Some(0.5), embedding_ref: None }
}

fn edge() -> EdgeRecord {
    EdgeRecord { props: json(r#"{"weight":2}"#), created_at: THEN }
}

fn changes() -> [Change; 3] {
    let change = |kind| Change { at: THEN, tenant: tenant(), kind };
    [
        change(ChangeKind::NodeText(NODE)),
        change(ChangeKind::NodeVector(NODE)),
        change(ChangeKind::NodeRemoved(OTHER)),
    ]
}

/// A row in every table.
fn fill(tx: &mut WriteTx<'_>) -> Result<(), StorageError> {
    let t = tenant;
    let rel = || "LINKS".to_owned();
    note_tenant(tx, &t(), THEN)?;
    note_tenant(tx, &TenantId::shared(), THEN)?;
    tx.put(&NODES, &(t(), NODE), &node())?;
    tx.put(&EXTERNAL_IDS, &(t(), "doc\0 1".to_owned()), &NODE)?;
    tx.put(&EDGES, &(t(), NODE, rel(), OTHER), &edge())?;
    tx.put(&EDGES_IN, &(t(), OTHER, rel(), NODE), &())?;
    tx.put(&EVENTS, &(t(), THEN, EVENT), &event())?;
    tx.put(&NODE_EVENTS, &(t(), NODE, THEN, EVENT), &())?;
    tx.put(&VECTORS, &(t(), NODE), &vector())?;
    let text = "Öl".to_owned();
    tx.put(&TEXTS, &(t(), NODE), &TextRecord { text })?;
    tx.put(&HISTORY, &(t(), NODE, THEN), &history())?;
    tx.put(&VERSIONS, &(t(), NODE, 2), &version())?;
    add_count(tx, &t(), "nodes", 1)?;
    for change in changes() {
        tx.log(change)?;
    }
    for (number, run_at) in [(1, None), (2, None), (3, None), (4, Some(THEN))] {
        let job = NewJob {
            id: JobId::from_u128(number),
            tenant: t(),
            key: (number < 4).then(|| number.to_string()),
            payload: vec![0, 0xFF],
            rank: None,
            run_at,
            now: UnixMicros(0),
        };
        queue::enqueue(tx, &DEF, job)?;
    }
    let leased = queue::lease(tx, &DEF, UnixMicros(0), 2)?;
    queue::fail(tx, &DEF, &leased[0], "broken", UnixMicros(1), 0.5)?;
    fill_second(tx)
}

/// One item held, one that was leased when the process ended, one leased with a successor, one
/// ready, one dead; and the queue paused.
fn fill_second(tx: &mut WriteTx<'_>) -> Result<(), StorageError> {
    let job = |number: u128, payload: u8, rank: u64| NewJob {
        id: JobId::from_u128(number),
        tenant: tenant(),
        key: Some(number.to_string()),
        payload: vec![payload],
        rank: Some(Rank::of_number(rank)),
        run_at: None,
        now: UnixMicros(5),
    };
    queue::enqueue(tx, &SECOND, job(1, 0, 9))?;
    queue::lease(tx, &SECOND, UnixMicros(5), 1)?;
    queue::recover(tx, &SECOND, UnixMicros(6))?;
    let suspect = queue::lease(tx, &SECOND, UnixMicros(6), 1)?;
    queue::enqueue_all(tx, &SECOND, (2..=5).map(|n| job(n, 0, 9)).collect())?;
    queue::release(tx, &SECOND, &suspect[0])?;
    let suspect = queue::lease(tx, &SECOND, UnixMicros(6), 1)?;
    queue::hold(tx, &SECOND, &suspect[0], "no_config")?;
    let leased = queue::lease(tx, &SECOND, UnixMicros(6), 3)?;
    queue::bury(tx, &SECOND, &leased[0], DeadReason::Parse, "not JSON", UnixMicros(7))?;
    queue::hold(tx, &SECOND, &leased[1], "disabled")?;
    queue::enqueue(tx, &SECOND, job(4, 1, 10))?;
    queue::release_held(tx, &SECOND, &tenant(), 1)?;
    queue::pause(tx, &SECOND)?;
    Ok(())
}

fn read_second(store: &Store) {
    let tx = store.read().unwrap();
    let stats = queue::stats(&tx, &SECOND, UnixMicros(8)).unwrap();
    assert_eq!(stats.depths, Depths { ready: 2, leased: 1, held: 1, dead: 1, delayed: 0 });
    assert_eq!((stats.paused, stats.oldest), (true, Some(UnixMicros(5))));
    let found = queue::peek(&tx, &SECOND, &tenant(), End::Oldest, 9).unwrap();
    let found: Vec<_> = found.iter().map(|item| (item.id.as_u128(), item.state.as_str())).collect();
    assert_eq!(found, [(1, "ready"), (3, "held"), (4, "leased"), (5, "ready")]);
    let dead = queue::dead(&tx, &SECOND, &DeadFilter::default(), End::Oldest, 9).unwrap();
    assert_eq!((dead[0].id, dead[0].reason), (JobId::from_u128(2), DeadReason::Parse));
    drop(tx);
    let leased = store.write_blocking(|tx| {
        queue::resume(tx, &SECOND)?;
        queue::recover(tx, &SECOND, UnixMicros(9))?;
        queue::release_held(tx, &SECOND, &tenant(), 9)?;
        let mut order = Vec::new();
        while let Some(leased) = queue::lease(tx, &SECOND, UnixMicros(9), 1)?.pop() {
            order.push((leased.id.as_u128(), leased.payload[0]));
            assert!(queue::ack(tx, &SECOND, &leased)?);
        }
        Ok::<_, StorageError>(order)
    });
    // The suspect first; what took over from the fourth came after the fifth.
    assert_eq!(leased.unwrap().value, [(1, 0), (3, 0), (5, 0), (4, 1)]);
}

#[track_caller]
fn only<K: Key + PartialEq + Debug, V: Record + PartialEq + Debug>(
    tx: &ReadTx,
    table: &Table<K, V>,
    key: K,
    value: V,
) {
    let rows = tx.scan(table, Scan::all()).unwrap();
    let rows: Vec<_> = rows.collect::<Result<_, _>>().unwrap();
    assert_eq!(rows, [(key, value)]);
}

fn read(store: &Store) {
    let t = tenant;
    let tx = store.read().unwrap();
    let rel = || "LINKS".to_owned();
    assert_eq!(tenants(&tx).unwrap(), [TenantId::shared(), t()]);
    only(&tx, &NODES, (t(), NODE), node());
    only(&tx, &EXTERNAL_IDS, (t(), "doc\0 1".to_owned()), NODE);
    only(&tx, &EDGES, (t(), NODE, rel(), OTHER), edge());
    only(&tx, &EDGES_IN, (t(), OTHER, rel(), NODE), ());
    only(&tx, &EVENTS, (t(), THEN, EVENT), event());
    only(&tx, &NODE_EVENTS, (t(), NODE, THEN, EVENT), ());
    only(&tx, &VECTORS, (t(), NODE), vector());
    let text = "Öl".to_owned();
    only(&tx, &TEXTS, (t(), NODE), TextRecord { text });
    only(&tx, &HISTORY, (t(), NODE, THEN), history());
    only(&tx, &VERSIONS, (t(), NODE, 2), version());
    only(&tx, &COUNTS, (t(), "nodes".to_owned()), 1);

    assert_eq!(store.last_seq(), Seq(3));
    let Tail::Entries(logged) = changes::tail(&tx, Seq(0), 10).unwrap() else {
        panic!("the log begins at 1")
    };
    let logged: Vec<_> = logged.into_iter().map(|(_, change)| change).collect();
    assert_eq!(logged, changes());

    let depths = Depths { ready: 1, delayed: 1, leased: 1, dead: 1, held: 0 };
    assert_eq!(queue::depths(&tx, &DEF).unwrap(), depths);
    assert_eq!(queue::tenant_pending(&tx, &DEF, &t()).unwrap(), 3);
    let dead = queue::dead(&tx, &DEF, &DeadFilter::default(), End::Oldest, 10).unwrap();
    assert_eq!((dead[0].id, dead[0].error.as_str()), (JobId::from_u128(1), "broken"));
    drop(tx);
    // The queue goes on where it was: the lapsed lease had used up its one attempt.
    let leased = store.write_blocking(|tx| queue::lease(tx, &DEF, THEN, 10));
    let ids: Vec<_> = leased.unwrap().value.into_iter().map(|job| job.id).collect();
    assert_eq!(ids, [JobId::from_u128(3), JobId::from_u128(4)]);
}

#[test]
fn every_format_is_read() {
    if std::env::var_os("ACTIVEKG_WRITE_FORMAT").is_some() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        store.write_blocking(fill).unwrap();
        store.close();
        std::fs::copy(dir.path().join("store.redb"), file(FORMAT)).unwrap();
    }
    for format in 1..=FORMAT {
        let dir = tempfile::tempdir().unwrap();
        std::fs::copy(file(format), dir.path().join("store.redb")).unwrap();
        let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
        read(&store);
        if format >= 2 {
            read_second(&store);
        }
    }
}

/// What this version writes it reads; so a file made by `ACTIVEKG_WRITE_FORMAT` is a good one.
#[test]
fn what_is_written_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path(), StoreOptions::default()).unwrap();
    store.write_blocking(fill).unwrap();
    read(&store);
    read_second(&store);
}
