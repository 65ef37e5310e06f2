use std::path::Path;

use activekg_storage::tables::graph::add_count;
use activekg_storage::{ManualClock, Readable as _, StorageError, StoreOptions, TenantId};
use prometheus::Registry;
use tempfile::TempDir;

use super::*;
use crate::config::Place;

const START: UnixMicros = UnixMicros(1_770_112_800_000_000);
const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

struct Site {
    dir: TempDir,
    clock: Arc<ManualClock>,
    stopping: CancellationToken,
    metrics: Arc<Metrics>,
    backups: Backups,
}

impl Site {
    /// A store whose archives go beside it.
    fn new(key: Option<&str>, min_free_bytes: u64) -> Self {
        let dir = TempDir::new().unwrap();
        let data_dir = dir.path().join("data");
        let store = Arc::new(Store::open(&data_dir, StoreOptions::default()).unwrap());
        let clock = Arc::new(ManualClock::at(START));
        let stopping = CancellationToken::new();
        let metrics = Arc::new(Metrics::new(Registry::new(), START).unwrap());
        let source = Source {
            store,
            data_dir,
            min_free_bytes: Some(min_free_bytes),
            clock: clock.clone(),
            stopping: stopping.clone(),
        };
        let place = Place::Folder(dir.path().join("backups"));
        let target = target::open(&place, &[]).unwrap();
        let key = key.map(|key| Arc::new(StreamKey::parse(key).unwrap()));
        let backups = Backups::new(source, target, key, Some(metrics.clone()));
        Self { dir, clock, stopping, metrics, backups }
    }

    async fn create(&self) -> Result<Created, Error> {
        self.backups.create(None, Box::new(|_| ())).await
    }

    /// Counts up by one.
    async fn write(&self) {
        let tenant = TenantId::new("acme").unwrap();
        let written = self.backups.0.source.store.write(move |tx| {
            add_count(tx, &tenant, "nodes", 1)?;
            Ok::<_, StorageError>(())
        });
        written.await.unwrap();
    }

    fn files(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.dir.path().join("backups")).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn metric(&self, name: &str) -> f64 {
        let text = self.metrics.prometheus_text();
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.unwrap().parse().unwrap()
    }
}

const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
const OTHER: &str = "ICEiIyQlJicoKSorLC0uLzAxMjM0NTY3ODk6Ozw9Pj8=";

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_is_made_listed_and_tried_out() {
    let site = Site::new(None, 0);
    site.write().await;
    let created = site.create().await.unwrap();
    assert_eq!(created.name.to_string(), "activekg_20260203_100000.tar.zst");
    assert_eq!(site.files(), [created.name.to_string()]);
    assert_eq!(std::fs::metadata(&created.path).unwrap().len(), created.bytes);
    assert!(created.manifest.damage.is_none());
    assert_eq!(site.metric("activekg_backups_total{result=\"ok\"}"), 1.0);
    assert_eq!(site.metric("activekg_backup_last_success_timestamp_seconds"), 1_770_112_800.0);
    assert_eq!(site.metric("activekg_backup_last_bytes"), created.bytes as f64);

    // Another one in the same second gets the next name.
    let second = site.create().await.unwrap();
    assert_eq!(second.name, created.name.next());
    let listed = site.backups.list().await.unwrap();
    let names: Vec<ArchiveName> = listed.iter().map(|listed| listed.name).collect();
    assert_eq!(names, [second.name, created.name]);
    let about = listed[1].about.as_ref().unwrap();
    assert_eq!(*about, created.manifest.about);

    let trial = site.backups.verify(created.name).await.unwrap();
    assert_eq!(trial.manifest, created.manifest);
    assert_eq!(site.files().len(), 2, "nothing is left of the copy");
    let gone = site.backups.verify(second.name.next()).await.unwrap_err();
    assert!(matches!(gone, Error::NotFound(_)), "{gone}");
}

#[tokio::test(flavor = "multi_thread")]
async fn encrypted_archives_open_with_their_key_only() {
    let site = Site::new(Some(KEY), 0);
    site.write().await;
    let created = site.create().await.unwrap();
    assert_eq!(created.name.to_string(), "activekg_20260203_100000.tar.zst.enc");
    let path = Path::new(&created.path);
    let [key, other] = [KEY, OTHER].map(|key| StreamKey::parse(key).unwrap());
    assert!(matches!(open_file(path, None).err().unwrap(), Error::NoKey));
    assert!(matches!(open_file(path, Some(&other)).err().unwrap(), Error::WrongKey(_)));
    let opened = open_file(path, Some(&key)).unwrap();
    assert_eq!(archive::check(opened, &mut archive::unattended).unwrap(), created.manifest);
    site.backups.verify(created.name).await.unwrap();

    let mut bytes = std::fs::read(path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(path, bytes).unwrap();
    let damaged = site.backups.verify(created.name).await.unwrap_err();
    assert!(damaged.to_string().contains("damaged"), "{damaged}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_is_made_at_a_time_and_none_on_a_full_disk_or_at_the_end() {
    let site = Site::new(None, 0);
    for number in 0..400 {
        let tenant = TenantId::new(&format!("tenant-{number}")).unwrap();
        let written = site.backups.0.source.store.write(move |tx| {
            add_count(tx, &tenant, "nodes", 1)?;
            Ok::<_, StorageError>(())
        });
        written.await.unwrap();
    }
    // The first one waits inside until the second was turned away.
    let (entered, inside) = std::sync::mpsc::channel();
    let (go_on, wait) = std::sync::mpsc::channel::<()>();
    let report: Report = Box::new(move |_| {
        let _ = entered.send(());
        let _ = wait.recv();
    });
    let backups = site.backups.clone();
    let first = tokio::spawn(async move { backups.create(None, report).await });
    tokio::task::spawn_blocking(move || inside.recv()).await.unwrap().unwrap();
    assert!(matches!(site.create().await.unwrap_err(), Error::Busy));
    drop(go_on);
    first.await.unwrap().unwrap();

    site.stopping.cancel();
    let stopped = site.create().await.unwrap_err();
    assert!(stopped.to_string().contains("stopped"), "{stopped}");
    assert_eq!(site.files().len(), 1, "nothing is left of it");
    assert_eq!(site.metric("activekg_backups_total{result=\"error\"}"), 1.0);

    let full = Site::new(None, u64::MAX);
    let refused = full.create().await.unwrap_err();
    assert!(matches!(refused, Error::NoSpace { needed: u64::MAX, .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn old_archives_go_but_never_the_newest_good_one() {
    let site = Site::new(None, 0);
    let mut made = Vec::new();
    for _ in 0..4 {
        made.push(site.create().await.unwrap());
        site.clock.advance(DAY);
    }
    std::fs::write(site.dir.path().join("backups/notes.txt"), "mine").unwrap();
    assert_eq!(site.backups.prune(10 * DAY).await.unwrap(), []);
    // Four, three, two days and one day old.
    let removed = site.backups.prune(3 * DAY + HOUR).await.unwrap();
    assert_eq!(removed, [made[0].name]);

    // All are old now, and the newest is damaged: the one before it stays.
    site.clock.advance(10 * DAY);
    let mut bytes = std::fs::read(&made[3].path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&made[3].path, &bytes).unwrap();
    let removed = site.backups.prune(DAY).await.unwrap();
    assert_eq!(removed, [made[1].name]);
    let left = [made[2].name.to_string(), made[3].name.to_string(), "notes.txt".to_owned()];
    assert_eq!(site.files(), left);

    // None is good: all stay.
    std::fs::write(&made[2].path, &bytes).unwrap();
    assert_eq!(site.backups.prune(DAY).await.unwrap(), []);
    assert_eq!(site.files(), left);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_schedule_counts_from_the_newest_archive() {
    let site = Site::new(None, 0);
    site.create().await.unwrap();
    let run = |started_at| {
        let stop = CancellationToken::new();
        let schedule = Schedule::new(site.backups.clone(), DAY, Some(DAY), started_at);
        (stop.clone(), tokio::spawn(schedule.run(stop)))
    };
    // Not yet due, however long ago the start was.
    site.clock.advance(DAY - HOUR);
    let (stop, running) = run(UnixMicros(0));
    stop.cancel();
    running.await.unwrap();
    assert_eq!(site.files().len(), 1);

    // Due, and the old one is removed after it.
    site.clock.advance(2 * HOUR);
    let (stop, running) = run(UnixMicros(0));
    while site.metric("activekg_backups_total{result=\"ok\"}") < 2.0 {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    running.await.unwrap();
    assert_eq!(site.files(), ["activekg_20260204_110000.tar.zst"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_copy_is_the_store_at_one_instant() {
    let site = Site::new(None, 0);
    let tenant = TenantId::new("acme").unwrap();
    let stop = CancellationToken::new();
    let writer = tokio::spawn({
        let (store, stop, tenant) =
            (site.backups.0.source.store.clone(), stop.clone(), tenant.clone());
        async move {
            // Both counts move together or not at all.
            while !stop.is_cancelled() {
                let tenant = tenant.clone();
                let written = store.write(move |tx| {
                    add_count(tx, &tenant, "left", 1)?;
                    add_count(tx, &tenant, "right", 1)?;
                    Ok::<_, StorageError>(())
                });
                written.await.unwrap();
            }
        }
    });
    let mut before = 0;
    for _ in 0..5 {
        let created = site.create().await.unwrap();
        let into = site.dir.path().join(created.name.stamp());
        let bytes = open_file(Path::new(&created.path), None).unwrap();
        archive::restore(bytes, &into, &mut archive::unattended).unwrap();
        let copy = Store::open(&into, StoreOptions::default()).unwrap();
        let copy = copy.read().unwrap();
        let count = |name: &str| {
            let key = (tenant.clone(), name.to_owned());
            copy.get(&activekg_storage::tables::graph::COUNTS, &key).unwrap().unwrap_or(0)
        };
        assert_eq!(count("left"), count("right"));
        assert!(count("left") >= before);
        before = count("left");
    }
    stop.cancel();
    writer.await.unwrap();
}
