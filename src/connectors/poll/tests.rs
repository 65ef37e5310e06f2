use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;

use activekg_storage::crypt::rotate::Selection;
use activekg_storage::tables::connectors::POLLED;
use activekg_storage::time::Clock as _;
use activekg_storage::{Scan, queue as store_queue};
use serde_json::{Value, json};

use super::super::source::tests::drive::{self, FOLDER, fake};
use super::super::tests::{Fixture, fixture};
use super::*;

fn acme() -> TenantId {
    TenantId::new("acme").expect("a tenant")
}

async fn connector(fixture: &Fixture, folder: &Path) -> std::sync::Arc<Connector> {
    let Value::Object(settings) = json!({ "path": folder, "poll_interval_seconds": 60 }) else {
        panic!("an object")
    };
    let tenant = acme();
    let registered = fixture.connectors.register(&tenant, Provider::Local, settings, "a").await;
    registered.expect("registered");
    fixture.connectors.get(&tenant, "local").await.expect("it is there")
}

async fn poll(fixture: &Fixture, folder: &Path) -> Result<Polled, PollError> {
    let connector = fixture.connectors.get(&acme(), "local").await.expect("it is there");
    let parts = SourceParts::of_folders(vec![folder.to_owned()]);
    fixture.connectors.poll(&acme(), Provider::Local, &connector, &parts).await
}

/// What waits in the queue, by the end of the address.
fn queued(fixture: &Fixture) -> BTreeMap<String, &'static str> {
    let snapshot = fixture.store.read().expect("read");
    let def = queue::def(Provider::Local);
    let items = store_queue::peek(&snapshot, def, &acme(), store_queue::End::Oldest, 100);
    let items = items.expect("peek").into_iter().map(|item| {
        let change = Change::parse(&item.payload).expect("a change");
        let name = change.uri.rsplit('/').next().unwrap_or_default().to_owned();
        (name, change.action.as_str())
    });
    items.collect()
}

#[tokio::test]
async fn everything_is_queued_once_and_then_only_what_changed() {
    let (fixture, dir) = (fixture(), tempfile::tempdir().unwrap());
    for n in 0..2500 {
        let folder = dir.path().join(format!("{}", n % 7));
        fs::create_dir_all(&folder).unwrap();
        let path = folder.join(format!("{n}.txt"));
        fs::write(&path, n.to_string()).unwrap();
        let at = std::time::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + (n * 7919) % 10_000);
        fs::File::options().write(true).open(&path).unwrap().set_modified(at).unwrap();
    }
    connector(&fixture, dir.path()).await;
    let first = poll(&fixture, dir.path()).await.unwrap();
    assert_eq!(first, Polled { seen: 2500, queued: 2500, gone: 0, unusable: 0 });
    let second = poll(&fixture, dir.path()).await.unwrap();
    assert_eq!(second, Polled { seen: 2500, queued: 0, gone: 0, unusable: 0 });

    fs::write(dir.path().join("0/7.txt"), "longer than before").unwrap();
    fs::remove_file(dir.path().join("1/1.txt")).unwrap();
    fs::write(dir.path().join("new.txt"), "new").unwrap();
    let third = poll(&fixture, dir.path()).await.unwrap();
    assert_eq!(third, Polled { seen: 2500, queued: 3, gone: 1, unusable: 0 });
    let fourth = poll(&fixture, dir.path()).await.unwrap();
    assert_eq!((fourth.queued, fourth.gone), (0, 0));
}

#[tokio::test]
async fn what_was_seen_to_change_is_looked_at_and_nothing_else() {
    let (fixture, dir) = (fixture(), tempfile::tempdir().unwrap());
    let at = |name: &str| dir.path().join(name);
    fs::create_dir(at("in")).unwrap();
    for name in ["same.txt", "other.txt", "gone.txt", "unseen.txt", "in/one.txt", "in/two.txt"] {
        fs::write(at(name), name).unwrap();
    }
    let connector = connector(&fixture, dir.path()).await;
    assert_eq!(poll(&fixture, dir.path()).await.unwrap().queued, 6);
    let parts = SourceParts::of_folders(vec![dir.path().to_owned()]);
    let look = async |names: &[&str]| {
        let uris = names.iter().map(|name| format!("file://{}", at(name).display()));
        let uris: Vec<String> = uris.collect();
        fixture.connectors.look_at(&acme(), Provider::Local, &connector, &parts, &uris).await
    };
    fs::write(at("other.txt"), "longer than before").unwrap();
    fs::write(at("unseen.txt"), "longer as well").unwrap();
    fs::remove_file(at("gone.txt")).unwrap();
    fs::write(at("new.txt"), "new").unwrap();
    let names = ["same.txt", "other.txt", "gone.txt", "new.txt", "never.txt"];
    let looked = look(&names).await.unwrap();
    assert_eq!(looked, Some(Polled { seen: 3, queued: 3, gone: 1, unusable: 0 }));
    assert_eq!(look(&names).await.unwrap().map(|looked| looked.queued), Some(0));
    assert_eq!(queued(&fixture)["gone.txt"], "deleted");
    let elsewhere = look(&["../elsewhere.txt"]).await.unwrap();
    assert_eq!(elsewhere, Some(Polled::default()), "it is no file of the folder");

    // A folder that went takes with it what was in it: all is to be looked at.
    fs::rename(at("in"), at("out")).unwrap();
    assert_eq!(look(&["in"]).await.unwrap(), None);
    let polled = poll(&fixture, dir.path()).await.unwrap();
    assert_eq!((polled.seen, polled.queued, polled.gone), (6, 5, 2));
    assert_eq!(poll(&fixture, dir.path()).await.unwrap().queued, 0);

    fixture.connectors.delete(&acme(), "local", "a").await.unwrap();
    assert!(matches!(look(&["new.txt"]).await, Err(PollError::Off)));
}

#[tokio::test]
async fn a_source_that_cannot_be_read_loses_nothing() {
    let (fixture, dir) = (fixture(), tempfile::tempdir().unwrap());
    let (there, away) = (dir.path().join("there"), dir.path().join("away"));
    fs::create_dir(&there).unwrap();
    fs::write(there.join("a.txt"), "a").unwrap();
    connector(&fixture, &there).await;
    assert_eq!(poll(&fixture, dir.path()).await.unwrap().queued, 1);
    // As a bucket that was renamed, or a disk that is not mounted.
    fs::rename(&there, &away).unwrap();
    let failed = poll(&fixture, dir.path()).await.unwrap_err();
    assert_eq!(failed.as_str(), "list_changes");
    assert!(matches!(failed, PollError::List(Fault { class: FaultClass::NotFound, .. })));
    fs::rename(&away, &there).unwrap();
    assert_eq!(poll(&fixture, dir.path()).await.unwrap().queued, 0);
    assert_eq!(queued(&fixture), BTreeMap::from([("a.txt".to_owned(), "upsert")]));
}

#[tokio::test]
async fn what_the_settings_leave_out_is_gone_and_what_a_deleted_connector_found_is_not_kept() {
    let (fixture, dir) = (fixture(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("a.txt"), "a").unwrap();
    fs::write(dir.path().join("b.md"), "b").unwrap();
    let connector = connector(&fixture, dir.path()).await;
    assert_eq!(poll(&fixture, dir.path()).await.unwrap().queued, 2);
    let change = json!({ "exclude_globs": ["*.md"] });
    let settings = connector.changed(change.as_object().unwrap());
    fixture.connectors.register(&acme(), Provider::Local, settings, "a").await.unwrap();
    assert_eq!(poll(&fixture, dir.path()).await.unwrap().gone, 1);
    assert_eq!(queued(&fixture)["b.md"], "deleted");

    fixture.connectors.delete(&acme(), "local", "a").await.unwrap();
    let known = |fixture: &Fixture| {
        fixture.store.read().unwrap().scan(&POLLED, Scan::all()).unwrap().count()
    };
    assert_eq!(known(&fixture), 0);
    let parts = SourceParts::of_folders(vec![dir.path().to_owned()]);
    let late = fixture.connectors.poll(&acme(), Provider::Local, &connector, &parts).await;
    assert!(matches!(late, Err(PollError::Off)));
    assert_eq!(known(&fixture), 0);
}

#[tokio::test]
async fn a_connector_is_due_at_first_after_its_interval_and_after_a_change() {
    let (fixture, dir) = (fixture(), tempfile::tempdir().unwrap());
    let new = connector(&fixture, dir.path()).await;
    let due = async |connector: &Connector| {
        let due = fixture.connectors.poll_due(&acme(), Provider::Local, connector).await.unwrap();
        due <= fixture.clock.now()
    };
    assert!(due(&new).await);
    poll(&fixture, dir.path()).await.unwrap();
    assert!(!due(&new).await);
    fixture.clock.advance(Duration::from_secs(59));
    assert!(!due(&new).await);
    fixture.clock.advance(Duration::from_secs(1));
    assert!(due(&new).await);
    poll(&fixture, dir.path()).await.unwrap();
    fixture.clock.advance(Duration::from_secs(1));
    let changed = connector(&fixture, dir.path()).await;
    assert!(due(&changed).await);
}

#[tokio::test]
async fn secrets_that_are_sealed_anew_are_no_other_settings() {
    let (fixture, dir) = (fixture(), tempfile::tempdir().unwrap());
    fs::write(dir.path().join("a.txt"), "a").unwrap();
    let before = connector(&fixture, dir.path()).await;
    assert_eq!(poll(&fixture, dir.path()).await.unwrap().queued, 1);
    fixture.clock.advance(Duration::from_secs(1));
    let connectors = fixture.with_second_key();
    let rotated = connectors.rotate(Selection::default(), 10, "a").await.unwrap();
    assert_eq!((rotated.rotated, rotated.errors), (1, 0));
    let after = connectors.get(&acme(), "local").await.unwrap();
    assert!(after.updated_at > before.updated_at && after.key_version == 2);
    let parts = SourceParts::of_folders(vec![dir.path().to_owned()]);
    for (connector, what) in [(&before, "a poll under way goes on"), (&after, "so does the next")] {
        let due = connectors.poll_due(&acme(), Provider::Local, connector).await.unwrap();
        assert!(due > fixture.clock.now(), "{what}");
        let polled = connectors.poll(&acme(), Provider::Local, connector, &parts).await;
        assert_eq!(polled.expect(what).queued, 0, "{what}");
    }
    fixture.clock.advance(Duration::from_secs(1));
    let settings = after.changed(json!({ "include_globs": ["*.txt"] }).as_object().unwrap());
    connectors.register(&acme(), Provider::Local, settings, "a").await.unwrap();
    let changed = connectors.get(&acme(), "local").await.unwrap();
    let due = connectors.poll_due(&acme(), Provider::Local, &changed).await.unwrap();
    assert!(due <= fixture.clock.now());
    let polled = connectors.poll(&acme(), Provider::Local, &after, &parts).await;
    assert!(matches!(polled, Err(PollError::Off)), "it has other settings");
}

/// A connector to the folder `top` of a Drive, and one run over it.
struct OnDrive {
    fixture: Fixture,
    addr: SocketAddr,
}

impl OnDrive {
    async fn register(&self, change: &Value) -> std::sync::Arc<Connector> {
        let Value::Object(mut settings) = drive::settings(self.addr, change) else {
            panic!("an object")
        };
        settings.insert("folder_id".to_owned(), "top".into());
        self.fixture.clock.advance(Duration::from_secs(1));
        let (connectors, tenant) = (&self.fixture.connectors, acme());
        let registered = connectors.register(&tenant, Provider::Drive, settings, "a").await;
        registered.expect("registered");
        self.fixture.connectors.get(&acme(), "drive").await.expect("it is there")
    }

    async fn poll(&self, connector: &Connector) -> Result<Polled, PollError> {
        self.fixture.clock.advance(Duration::from_secs(1));
        let parts = drive::source_parts(self.addr);
        self.fixture.connectors.poll(&acme(), Provider::Drive, connector, &parts).await
    }
}

#[tokio::test]
async fn that_folders_moved_is_known_until_the_listing_succeeds() {
    let (fake, addr) = fake().await;
    fake.put("top", FOLDER, "drive");
    fake.put("in", FOLDER, "top");
    fake.put("a", "text/plain", "in");
    let drive = OnDrive { fixture: fixture(), addr };
    let connector = drive.register(&json!({})).await;
    assert_eq!(drive.poll(&connector).await.unwrap().queued, 1);
    fake.put("in", FOLDER, "elsewhere");
    fake.put("b", "text/plain", "top");
    fake.is_unlisted.store(true, Ordering::SeqCst);
    for _ in 0..2 {
        let failed = drive.poll(&connector).await.unwrap_err();
        assert_eq!(failed.as_str(), "list_changes");
    }
    fake.is_unlisted.store(false, Ordering::SeqCst);
    let polled = drive.poll(&connector).await.unwrap();
    assert_eq!((polled.queued, polled.gone), (2, 1), "a is out, b is new");
    assert_eq!(drive.poll(&connector).await.unwrap().queued, 0);
}

#[tokio::test]
async fn other_settings_are_a_reason_to_list_what_has_a_feed() {
    let (fake, addr) = fake().await;
    fake.put("top", FOLDER, "drive");
    fake.put("a", "text/plain", "top");
    fake.put("b", "text/plain", "top");
    let drive = OnDrive { fixture: fixture(), addr };
    let narrow = drive.register(&json!({ "exclude_globs": ["b*"] })).await;
    assert_eq!(drive.poll(&narrow).await.unwrap().queued, 1);
    let wide = drive.register(&json!({ "exclude_globs": [] })).await;
    assert!(matches!(drive.poll(&narrow).await, Err(PollError::Off)), "the settings of before");
    assert_eq!(drive.poll(&wide).await.unwrap().queued, 1);
    assert_eq!(drive.poll(&wide).await.unwrap(), Polled::default(), "the feed has no news");
}

#[tokio::test(start_paused = true)]
async fn a_run_that_does_not_end_is_cut_off() {
    let never = std::future::pending::<Result<Polled, PollError>>();
    let cut = within(RUN_MAX, never).await.unwrap_err();
    assert_eq!(cut.as_str(), "list_changes");
    assert!(cut.to_string().contains("narrow the source"), "{cut}");
    let done = within(RUN_MAX, async { Ok(Polled { seen: 1, ..Polled::default() }) }).await;
    assert_eq!(done.unwrap().seen, 1);
}

#[tokio::test]
async fn everything_that_is_gone_is_found_however_much_is_known() {
    let (fixture, dir) = (fixture(), tempfile::tempdir().unwrap());
    for n in 0..50 {
        fs::write(dir.path().join(format!("{n}.txt")), "text").unwrap();
    }
    connector(&fixture, dir.path()).await;
    assert_eq!(poll(&fixture, dir.path()).await.unwrap().queued, 50);
    for n in 0..45 {
        fs::remove_file(dir.path().join(format!("{n}.txt"))).unwrap();
    }
    let polled = poll(&fixture, dir.path()).await.unwrap();
    assert_eq!((polled.seen, polled.gone), (5, 45));
}
