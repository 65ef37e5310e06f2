//! Connectors over a real store.

use std::time::Duration;

use activekg_storage::crypt::Kek;
use activekg_storage::crypt::fields::Settings;
use activekg_storage::crypt::rotate::Selection;
use activekg_storage::tables::Json;
use activekg_storage::tables::auth::AUDIT;
use activekg_storage::tables::connectors::{CONFIGS, ConnectorRecord, tenants_of_bucket};
use activekg_storage::{ManualClock, Readable as _, Scan, StoreOptions, UnixMicros};
use prometheus::Registry;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

const FIRST: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const SECOND: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

pub(super) struct Fixture {
    pub(super) connectors: Connectors,
    pub(super) store: Arc<Store>,
    metrics: Arc<Metrics>,
    pub(super) clock: Arc<ManualClock>,
    _dir: TempDir,
}

fn ring(keys: &[(u32, &str)], active: u32) -> Arc<KeyRing> {
    let keys = keys.iter().map(|(version, text)| (*version, Kek::parse(text).unwrap()));
    Arc::new(KeyRing::new(keys.collect(), active).unwrap())
}

pub(super) fn fixture() -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(Store::open(dir.path(), StoreOptions::default()).unwrap());
    let metrics = Arc::new(Metrics::new(Registry::new(), UnixMicros(0)).unwrap());
    let clock = Arc::new(ManualClock::at(UnixMicros(1_000_000)));
    let connectors = over(&store, &metrics, &clock, ring(&[(1, FIRST)], 1));
    Fixture { connectors, store, metrics, clock, _dir: dir }
}

fn over(
    store: &Arc<Store>,
    metrics: &Arc<Metrics>,
    clock: &Arc<ManualClock>,
    keys: Arc<KeyRing>,
) -> Connectors {
    let parts = Parts {
        store: store.clone(),
        keys: Some(keys),
        metrics: metrics.clone(),
        clock: clock.clone(),
        stopping: CancellationToken::new(),
    };
    let settings = options();
    Connectors::new(parts, &settings)
}

fn options() -> config::Connectors {
    config::Connectors {
        cache_ttl: Duration::from_secs(300),
        cache_subscriber: true,
        credentials_dirs: Vec::new(),
        endpoint_hosts: Vec::new(),
        storage_emulator: None,
        drive_api: None,
        tcp_keepalive: None,
        home: None,
        worker: config::ConnectorWorker {
            concurrency: 1,
            batch: 10,
            poll: Duration::from_secs(1),
            rate: 1000,
        },
        max_file_bytes: 1 << 20,
        retention: Duration::from_secs(30 * 24 * 3600),
    }
}

impl Fixture {
    /// The same store after a restart with other keys.
    fn with_keys(&self, keys: &[(u32, &str)], active: u32) -> Connectors {
        over(&self.store, &self.metrics, &self.clock, ring(keys, active))
    }

    /// The same store after a restart with a second key, to which all is to be changed.
    pub(super) fn with_second_key(&self) -> Connectors {
        self.with_keys(&[(1, FIRST), (2, SECOND)], 2)
    }

    fn record(&self, tenant: &str, provider: &str) -> ConnectorRecord {
        let key = (name(tenant), provider.to_owned());
        self.store.read().unwrap().get(&CONFIGS, &key).unwrap().expect("it is there")
    }

    fn audited(&self) -> Vec<(String, String, Value)> {
        let snapshot = self.store.read().unwrap();
        let rows = snapshot.scan(&AUDIT, Scan::all()).unwrap().map(|row| row.unwrap().1);
        let told = rows.map(|entry| {
            let details = serde_json::from_str(entry.details.as_str()).unwrap();
            (entry.actor, entry.action, details)
        });
        told.collect()
    }

    fn counted(&self, name: &str) -> f64 {
        let text = self.metrics.prometheus_text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }
}

fn name(tenant: &str) -> TenantId {
    TenantId::new(tenant).unwrap()
}

fn settings(value: Value) -> Settings {
    let Value::Object(settings) = value else { panic!("an object") };
    settings
}

fn s3(secret: &str) -> Settings {
    settings(json!({ "bucket": "docs", "secret_access_key": secret, "enabled": true }))
}

#[tokio::test]
async fn a_connector_is_sealed_and_belongs_to_its_tenant() {
    let f = fixture();
    let (acme, harbor) = (name("acme"), name("harbor"));
    f.connectors.register(&acme, Provider::S3, s3("canary-one"), "root").await.unwrap();
    let stored = f.record("acme", "s3");
    assert!(!stored.config.as_str().contains("canary"));
    assert_eq!((stored.key_version, stored.bucket.as_deref()), (1, Some("docs")));

    let found = f.connectors.get(&acme, "s3").await.unwrap();
    assert_eq!(found.secret("secret_access_key"), Some("canary-one"));
    assert_eq!(found.shown()["secret_access_key"], REDACTED);
    for (tenant, provider) in [(&harbor, "s3"), (&acme, "gcs"), (&acme, "ftp")] {
        let missing = f.connectors.get(tenant, provider).await.err().expect("none there");
        assert_eq!(missing.to_string(), format!("Connector not found: {tenant}/{provider}"));
        assert!(f.connectors.enable(tenant, provider, "root").await.is_err());
        assert!(f.connectors.delete(tenant, provider, "root").await.is_err());
    }
    assert_eq!(f.connectors.list(Some(harbor)).await.unwrap(), []);
    assert_eq!(f.connectors.list(Some(acme)).await.unwrap().len(), 1);
}

#[tokio::test]
async fn a_change_is_seen_at_once_although_it_was_kept() {
    let f = fixture();
    let acme = name("acme");
    f.connectors.register(&acme, Provider::S3, s3("one"), "root").await.unwrap();
    for n in 0..3 {
        f.connectors.get(&acme, "s3").await.unwrap();
        let hits = f.counted(r#"connector_config_cache_hits_total{provider="s3"}"#);
        assert_eq!(hits, f64::from(n));
    }
    f.clock.advance(Duration::from_secs(1));
    f.connectors.register(&acme, Provider::S3, s3("two"), "root").await.unwrap();
    let found = f.connectors.get(&acme, "s3").await.unwrap();
    assert_eq!(found.secret("secret_access_key"), Some("two"));
    assert_eq!(found.updated_at.since(found.created_at), Duration::from_secs(1));

    f.connectors.disable(&acme, "s3", "root").await.unwrap();
    let misses = f.counted(r#"connector_config_cache_misses_total{provider="s3"}"#);
    for _ in 0..2 {
        let found = f.connectors.get(&acme, "s3").await.unwrap();
        assert!(!found.enabled && found.shown()["enabled"] == false);
    }
    let after = f.counted(r#"connector_config_cache_misses_total{provider="s3"}"#);
    assert_eq!(after, misses + 2.0, "what is disabled is not kept");
    f.connectors.enable(&acme, "s3", "root").await.unwrap();
    let found = f.connectors.get(&acme, "s3").await.unwrap();
    assert!(found.enabled && found.shown()["enabled"] == true);

    f.connectors.delete(&acme, "s3", "root").await.unwrap();
    assert!(f.connectors.get(&acme, "s3").await.is_err());
    assert_eq!(tenants_of_bucket(&f.store.read().unwrap(), "s3", "docs").unwrap(), []);
    let acts: Vec<_> = f.audited().into_iter().map(|(actor, action, _)| (actor, action)).collect();
    let expected = ["register", "register", "disable", "enable", "delete"];
    let expected = expected.map(|act| ("root".to_owned(), format!("connector.{act}")));
    let mut sorted = (acts, expected.to_vec());
    sorted.0.sort();
    sorted.1.sort();
    assert_eq!(sorted.0, sorted.1);
}

#[tokio::test]
async fn a_change_of_what_has_changed_meanwhile_is_refused() {
    let f = fixture();
    let acme = name("acme");
    f.connectors.register(&acme, Provider::S3, s3("one"), "root").await.unwrap();
    let read = f.connectors.stored(&acme, Provider::S3).await.unwrap();
    let late = f.connectors.stored(&acme, Provider::S3).await.unwrap();
    f.connectors.replace(&acme, Provider::S3, read, s3("two"), "root").await.unwrap();
    let refused = f.connectors.replace(&acme, Provider::S3, late, s3("three"), "root").await;
    assert!(matches!(refused, Err(Error::Contended)));
    let found = f.connectors.get(&acme, "s3").await.unwrap();
    assert_eq!(found.secret("secret_access_key"), Some("two"));
}

#[tokio::test]
async fn rotation_seals_all_but_what_does_not_open() {
    let f = fixture();
    for n in 0..25 {
        let tenant = name(&format!("t{n:02}"));
        f.connectors
            .register(&tenant, Provider::S3, s3(&format!("secret {n}")), "root")
            .await
            .unwrap();
    }
    f.connectors.disable(&name("t03"), "s3", "root").await.unwrap();
    let mut broken = f.record("t07", "s3");
    broken.config = Json(broken.config.as_str().replacen("gAAAAA", "gAAAAAAAA", 1));
    let damaged = broken.clone();
    let damage =
        f.store.write(move |tx| tx.put(&CONFIGS, &(name("t07"), "s3".to_owned()), &damaged));
    damage.await.unwrap();

    let connectors = f.with_second_key();
    let held = connectors.get(&name("t01"), "s3").await.unwrap();
    assert_eq!(held.key_version, 1);
    let all = Selection::default();
    assert_eq!(connectors.candidates(all.clone()).await.unwrap(), 25);
    let one = Selection { tenants: vec![name("t01")], ..Selection::default() };
    assert_eq!(connectors.candidates(one).await.unwrap(), 1);
    let done = connectors.rotate(all.clone(), 10, "root").await.unwrap();
    assert_eq!((done.rotated, done.skipped, done.errors), (24, 0, 1));
    assert_eq!(done.failed, [(name("t07"), "s3".to_owned())]);
    assert_eq!(done.ended_by, None);
    assert_eq!(f.record("t07", "s3"), broken, "left as it was");
    assert_eq!(connectors.get(&name("t01"), "s3").await.unwrap().key_version, 2, "not kept");
    assert_eq!(f.counted(r#"connector_rotation_total{result="rotated"}"#), 24.0);
    assert_eq!(f.counted(r#"connector_rotation_total{result="error"}"#), 1.0);
    assert_eq!(f.counted("connector_rotation_batch_latency_seconds_count"), 1.0);

    let again = connectors.rotate(all, 10, "root").await.unwrap();
    assert_eq!((again.rotated, again.errors), (0, 1), "a second run tries what is left");
    let only_second = f.with_keys(&[(2, SECOND)], 2);
    for n in (0..25).filter(|n| *n != 7) {
        let found = only_second.get(&name(&format!("t{n:02}")), "s3").await.unwrap();
        assert_eq!(found.secret("secret_access_key"), Some(format!("secret {n}").as_str()));
    }
    let lost = only_second.get(&name("t07"), "s3").await.err().expect("it does not open");
    assert_eq!(lost.to_string(), "Config decryption failed: t07/s3");
    let failures = r#"connector_config_decrypt_failures_total{field="secret_key",provider="s3"}"#;
    assert_eq!(f.counted(failures), 1.0);
    let (_, action, details) = f
        .audited()
        .into_iter()
        .find(|(_, action, details)| action == "connector.rotate_keys" && details["rotated"] == 24)
        .expect("an entry");
    assert_eq!((action.as_str(), &details["errors"]), ("connector.rotate_keys", &json!(1)));
}

#[tokio::test]
async fn one_rotation_at_a_time() {
    let f = fixture();
    let held = f.connectors.0.rotating.clone().try_acquire_owned().unwrap();
    let refused = f.connectors.rotate(Selection::default(), 10, "root").await;
    assert!(matches!(refused, Err(Error::RotationRunning)));
    drop(held);
    let done = f.connectors.rotate(Selection::default(), 10, "root").await.unwrap();
    assert_eq!(done, Rotated::default());
}

#[tokio::test]
async fn a_rotation_ends_when_the_server_goes_down_and_is_taken_up_again() {
    let f = fixture();
    for n in 0..6 {
        f.connectors
            .register(&name(&format!("t{n}")), Provider::S3, s3("x"), "root")
            .await
            .unwrap();
    }
    let connectors = f.with_keys(&[(1, FIRST), (2, SECOND)], 2);
    connectors.0.stopping.cancel();
    let cut = connectors.rotate(Selection::default(), 2, "root").await.unwrap();
    assert_eq!((cut.rotated, cut.errors), (2, 0));
    assert!(cut.ended_by.is_some());
    let connectors = f.with_keys(&[(1, FIRST), (2, SECOND)], 2);
    let rest = connectors.rotate(Selection::default(), 2, "root").await.unwrap();
    assert_eq!((rest.rotated, rest.ended_by), (4, None));
}

#[tokio::test]
async fn without_a_key_nothing_is_stored() {
    let f = fixture();
    let parts = Parts {
        store: f.store.clone(),
        keys: None,
        metrics: f.metrics.clone(),
        clock: f.clock.clone(),
        stopping: CancellationToken::new(),
    };
    let settings = config::Connectors {
        cache_ttl: Duration::from_secs(1),
        cache_subscriber: false,
        ..options()
    };
    let connectors = Connectors::new(parts, &settings);
    let refused = connectors.register(&name("acme"), Provider::S3, s3("x"), "root").await;
    assert!(matches!(refused, Err(Error::NoKey)));
    assert_eq!(connectors.list(None).await.unwrap(), []);
    assert_eq!(connectors.subscriber(), None);
}

#[tokio::test]
async fn the_subscriber_hears_of_every_change() {
    let f = fixture();
    let health = f.connectors.subscriber().unwrap();
    assert_eq!((health.connected, health.last_message_at, health.reconnects), (false, None, 0));
    let stop = CancellationToken::new();
    let following = tokio::spawn(f.connectors.clone().follow_changes(stop.clone()));
    while !f.connectors.subscriber().unwrap().connected {
        tokio::task::yield_now().await;
    }
    f.connectors.register(&name("acme"), Provider::S3, s3("x"), "root").await.unwrap();
    while f.connectors.subscriber().unwrap().last_message_at.is_none() {
        tokio::task::yield_now().await;
    }
    assert_eq!(f.counted(r#"connector_pubsub_messages_total{operation="upsert"}"#), 1.0);
    assert_eq!(f.counted("connector_cache_subscriber_up"), 1.0);
    stop.cancel();
    following.await.unwrap();
    assert!(!f.connectors.subscriber().unwrap().connected);
    assert_eq!(f.counted("connector_pubsub_shutdown_total"), 1.0);
}

#[tokio::test]
async fn one_that_is_started_again_or_falls_behind_flushes_everything() {
    let f = fixture();
    let acme = name("acme");
    f.connectors.register(&acme, Provider::S3, s3("x"), "root").await.unwrap();
    for restarts in 0..2 {
        f.connectors.get(&acme, "s3").await.unwrap();
        let stop = CancellationToken::new();
        stop.cancel();
        f.connectors.clone().follow_changes(stop).await;
        assert_eq!(f.connectors.subscriber().unwrap().reconnects, restarts);
    }
    assert_eq!(f.connectors.flush(), 0, "the second start has flushed");
    assert_eq!(f.counted("connector_pubsub_reconnect_total"), 1.0);
}

#[tokio::test]
async fn enabled_connectors_are_opened_beforehand() {
    let f = fixture();
    for tenant in ["a", "b", "c"] {
        f.connectors.register(&name(tenant), Provider::S3, s3("x"), "root").await.unwrap();
    }
    f.connectors.disable(&name("b"), "s3", "root").await.unwrap();
    let connectors = f.with_keys(&[(1, FIRST)], 1);
    connectors.warm_up().await.unwrap();
    assert_eq!(connectors.flush(), 2);
    let lost = f.with_keys(&[(1, SECOND)], 1);
    lost.warm_up().await.unwrap();
    assert_eq!(lost.flush(), 0, "what does not open is no reason not to start");
}

/// How many changes of a tenant are ready, and how many are held.
fn ready_and_held(f: &Fixture, tenant: &str) -> (u64, u64) {
    let snapshot = f.store.read().unwrap();
    let def = queue::def(Provider::S3);
    let stats = activekg_storage::queue::tenant_stats(&snapshot, def, &name(tenant), UnixMicros(9));
    let depths = stats.unwrap().depths;
    (depths.ready, depths.held)
}

async fn enqueued(f: &Fixture, tenant: &str, changes: Vec<Change>) -> usize {
    let owner = name(tenant);
    let written = f.store.write(move |tx| -> Result<usize, StorageError> {
        queue::enqueue(tx, &owner, Provider::S3, &changes, UnixMicros(5))
    });
    written.await.unwrap().value
}

#[tokio::test]
async fn changes_are_held_for_as_long_as_no_connector_runs() {
    let f = fixture();
    let acme = name("acme");
    let change = |key: usize, sequencer: &str| Change {
        sequencer: Some(sequencer.to_owned()),
        ..Change::new(format!("s3://docs/{key}"), Action::Upsert, Origin::Webhook)
    };
    let all = (0..queue::MOVED_MAX + 5).map(|key| change(key, "0A")).collect();
    assert_eq!(enqueued(&f, "acme", all).await, queue::MOVED_MAX + 5);
    let n = queue::MOVED_MAX as u64 + 5;
    assert_eq!(ready_and_held(&f, "acme"), (0, n));
    assert_eq!(
        enqueued(&f, "acme", vec![change(1, "09"), change(2, "0B")]).await,
        1,
        "one is older"
    );
    assert_eq!(ready_and_held(&f, "acme"), (0, n), "an object has one item");

    f.connectors.register(&acme, Provider::S3, s3("canary-one"), "root").await.unwrap();
    assert_eq!(ready_and_held(&f, "acme"), (n, 0));
    f.connectors.disable(&acme, "s3", "root").await.unwrap();
    assert_eq!(ready_and_held(&f, "acme"), (0, n));
    f.connectors.enable(&acme, "s3", "root").await.unwrap();
    assert_eq!(ready_and_held(&f, "acme"), (n, 0));
    assert_eq!(enqueued(&f, "harbor", vec![change(1, "01")]).await, 1, "others have their own");
    assert_eq!(ready_and_held(&f, "harbor"), (0, 1));
    f.connectors.delete(&acme, "s3", "root").await.unwrap();
    assert_eq!(ready_and_held(&f, "acme"), (0, n));
}
