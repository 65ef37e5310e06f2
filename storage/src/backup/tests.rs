mod any;

use std::path::Path;

use sha2::{Digest, Sha256};

use super::manifest::{encode, hex};
use super::out::Out;
use super::*;
use crate::codec;
use crate::load::BulkLoader;
use crate::open::{FORMAT, STORE_FILE};
use crate::store::testing;
use crate::store::{Store, StoreOptions};
use crate::tables;
use crate::tables::graph::{COUNTS, TENANTS};
use crate::time::UnixMicros;
use crate::{keys, open};

const NOW: UnixMicros = UnixMicros(1_700_000_000_000_000);

/// A table's name, a key, a body.
type Row = (&'static str, Vec<u8>, Vec<u8>);

/// A row whose checksum fits, whatever its table makes of it.
fn summed(key: &[u8], body: &[u8]) -> Vec<u8> {
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(key), &[1]), body);
    [&[1][..], &sum.to_le_bytes(), body].concat()
}

/// A store's directory with `rows` and nothing else but its format.
fn store_of(rows: &[Row]) -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    drop(testing::open(dir.path()));
    let made = dir.path().join(STORE_FILE);
    let meta = all_rows(&testing::open(dir.path()));
    std::fs::remove_file(&made).unwrap();
    let mut loader = BulkLoader::create(&made).unwrap();
    for (table, key, value) in meta.iter().chain(rows) {
        loader.insert(table, key, value).unwrap();
    }
    loader.finish().unwrap();
    let store = testing::open(dir.path());
    (dir, store)
}

fn all_rows(store: &Store) -> Vec<Row> {
    let snapshot = store.read().unwrap();
    let rows = |table: &'static crate::TableInfo| {
        let rows = snapshot.rows(table).unwrap().map(|row| row.unwrap());
        rows.map(|(key, value)| (table.name, key, value)).collect::<Vec<_>>()
    };
    tables::all().flat_map(rows).collect()
}

fn archive_of(store: &Store) -> (Manifest, Vec<u8>) {
    Backup::new("test 1", NOW).write(&store.read().unwrap(), Vec::new()).unwrap()
}

fn restored(archive: &[u8]) -> Result<(tempfile::TempDir, Store), ArchiveError> {
    let dir = tempfile::tempdir().unwrap();
    restore(archive, dir.path(), &mut unattended)?;
    let store = testing::open(dir.path());
    Ok((dir, store))
}

fn reason(error: &ArchiveError) -> String {
    assert!(matches!(error, ArchiveError::Damaged { .. }), "{error:?}");
    error.to_string()
}

/// A row of `graph.counts`.
fn count(tenant: &str, name: &str, value: u64) -> Row {
    let tenant = crate::TenantId::new(tenant).unwrap();
    let key = keys::to_bytes(&(tenant, name.to_owned()));
    let value = codec::encode(&key, &value).unwrap();
    (COUNTS.name(), key, value)
}

fn about_now() -> About {
    About {
        format: ARCHIVE_FORMAT,
        program: "test 1".to_owned(),
        created_at_us: NOW,
        store_format: FORMAT,
        last_seq: Some(0),
        rows: 0,
    }
}

#[test]
fn a_damaged_row_is_kept_aside_and_the_rest_is_backed_up() {
    let (sound, mut bad) = (count("acme", "nodes", 3), count("acme", "edges", 4));
    *bad.2.last_mut().unwrap() ^= 1;
    let (_dir, store) = store_of(&[sound.clone(), bad.clone()]);
    let (manifest, archive) = archive_of(&store);
    assert_eq!(manifest.damage.rows, 1);
    let named = &manifest.damage.named[0];
    assert_eq!(
        (named.table.as_str(), &named.key_sha256),
        ("graph.counts", &hex(&Sha256::digest(&bad.1)))
    );
    assert!(manifest.damage.tables.is_empty());
    let part = manifest.parts.iter().find(|part| part.name == "damaged/graph.counts.000000.rows");
    assert_eq!(part.unwrap().rows, Some(1));

    let (_copy, copy) = restored(&archive).unwrap();
    let counts: Vec<Row> =
        all_rows(&copy).into_iter().filter(|row| row.0 == COUNTS.name()).collect();
    assert_eq!(counts, [sound]);
}

#[test]
fn tables_larger_than_a_part_are_split() {
    let rows: Vec<Row> = (0..40u8)
        .map(|number| {
            let key = keys::to_bytes(&("many".to_owned(), u64::from(number)));
            let body = vec![number; 1 << 20];
            ("changes", key.clone(), summed(&key, &body))
        })
        .collect();
    // They are no entries of a change log, hence all damaged; the parts hold them all the same.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join(STORE_FILE);
    let meta = all_rows(&testing::open(tempfile::tempdir().unwrap().path()));
    let mut loader = BulkLoader::create(&path).unwrap();
    for (table, key, value) in meta.iter().chain(&rows) {
        loader.insert(table, key, value).unwrap();
    }
    loader.finish().unwrap();
    let file = std::fs::OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let database = open::builder(&StoreOptions::default()).create_file(file).unwrap();
    let snapshot = crate::ReadTx::new(redb::ReadableDatabase::begin_read(&database).unwrap());
    let (manifest, archive) = Backup::new("test 1", NOW).write(&snapshot, Vec::new()).unwrap();
    let parts: Vec<_> =
        manifest.parts.iter().filter(|part| part.name.starts_with("damaged/changes")).collect();
    assert_eq!(parts.iter().map(|part| part.rows.unwrap()).sum::<u64>(), 40);
    assert_eq!(
        parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(),
        [
            "damaged/changes.000000.rows",
            "damaged/changes.000001.rows",
            "damaged/changes.000002.rows",
        ]
    );
    assert_eq!(check(&archive[..], &mut unattended).unwrap(), manifest);
}

#[test]
fn formats_of_tomorrow_are_refused_and_those_of_yesterday_restored() {
    let (_dir, store) = store_of(&[]);
    let archive = |about: &About| {
        let (manifest, _) = archive_of(&store);
        let mut out = Out::new(Vec::new(), 1, NOW).unwrap();
        out.part("about.json", None, &encode(about)).unwrap();
        let key = keys::to_bytes(&("yesterday".to_owned(),));
        let mut part = Vec::new();
        part::push_row(&mut part, &key, &summed(&key, b"anything"));
        out.part("tables/of.old.000000.rows", Some(1), &part).unwrap();
        let table = TableSum {
            name: "of.old".to_owned(),
            rows: 1,
            bytes: (part.len() - part::ROW_HEADER) as u64,
        };
        let about = about.clone();
        out.finish(|parts| Manifest { about, tables: vec![table], parts, ..manifest }).unwrap().1
    };
    let newer = About { format: ARCHIVE_FORMAT + 1, ..about_now() };
    let error = check(&archive(&newer)[..], &mut unattended).unwrap_err();
    assert!(
        matches!(error, ArchiveError::NewerArchive { found, .. } if found == ARCHIVE_FORMAT + 1)
    );
    let newer = About { store_format: FORMAT + 1, ..about_now() };
    let error = check(&archive(&newer)[..], &mut unattended).unwrap_err();
    assert!(matches!(error, ArchiveError::NewerStore { found, .. } if found == FORMAT + 1));
    // Its rows are brought up to date by whoever opens the store; here they only have to be whole.
    let older = About { store_format: FORMAT - 1, ..about_now() };
    let dir = tempfile::tempdir().unwrap();
    let manifest = restore(&archive(&older)[..], dir.path(), &mut unattended).unwrap();
    assert_eq!(manifest.tables[0].name, "of.old");
}

#[test]
fn an_archive_that_says_more_than_it_has_is_damaged() {
    let (_dir, store) = store_of(&[count("acme", "nodes", 3)]);
    let forged = |change: &dyn Fn(&mut Manifest)| {
        let (manifest, archive) = archive_of(&store);
        let tar = zstd::decode_all(&archive[..]).unwrap();
        let mut out = Out::new(Vec::new(), 1, NOW).unwrap();
        let mut at = 0;
        for part in &manifest.parts {
            let size = part.bytes as usize;
            let begin = at + tar::BLOCK;
            out.part(&part.name, part.rows, &tar[begin..begin + size]).unwrap();
            at = begin + size + tar::padding(part.bytes);
        }
        let mut manifest = manifest.clone();
        change(&mut manifest);
        let (_, archive) = out.finish(|_| manifest).unwrap();
        check(&archive[..], &mut unattended)
    };
    assert!(forged(&|_| ()).is_ok());
    let missing = forged(&|manifest| {
        let part = Part { name: "tables/x.000000.rows".to_owned(), ..manifest.parts[0].clone() };
        manifest.parts.push(part);
    });
    assert!(reason(&missing.unwrap_err()).contains("tables/x.000000.rows: it is missing"));
    let more = forged(&|manifest| drop(manifest.parts.pop()));
    assert!(reason(&more.unwrap_err()).contains("does not list it"));
    let other = forged(&|manifest| manifest.parts[1].sha256 = hex(&[0; 32]));
    assert!(reason(&other.unwrap_err()).contains("SHA-256"));
    let rows = forged(&|manifest| manifest.tables[0].rows += 1);
    assert!(reason(&rows.unwrap_err()).contains("row counts"));
    let about = forged(&|manifest| manifest.about.last_seq = Some(9));
    assert!(reason(&about.unwrap_err()).contains("another backup"));
}

#[test]
fn whoever_watches_can_stop_it() {
    let rows: Vec<Row> = (0..600).map(|number| count("acme", &number.to_string(), 1)).collect();
    let (_dir, store) = store_of(&rows);
    let mut seen = Vec::new();
    let mut watch = |progress: Progress| {
        seen.push(progress.rows);
        if seen.len() < 2 { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    };
    let backup = Backup::new("test 1", NOW).watched(&mut watch);
    let stopped = backup.write(&store.read().unwrap(), Vec::new()).unwrap_err();
    assert!(matches!(stopped, BackupError::Stopped));
    assert_eq!(seen, [256, 512]);
    let (_, archive) = archive_of(&store);
    let dir = tempfile::tempdir().unwrap();
    let into = dir.path().join("copy");
    let stopped = restore(&archive[..], &into, &mut |_| ControlFlow::Break(())).unwrap_err();
    assert!(matches!(stopped, ArchiveError::Stopped));
    assert!(!into.exists());
}

#[test]
fn only_an_empty_directory_is_filled() {
    let (_dir, store) = store_of(&[count("acme", "nodes", 3)]);
    let (_, archive) = archive_of(&store);
    let dir = tempfile::tempdir().unwrap();
    let names = |dir: &Path| {
        let entries = std::fs::read_dir(dir).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    let mine = dir.path().join("mine");
    std::fs::create_dir_all(mine.join("restoring")).unwrap();
    std::fs::write(mine.join("notes"), "mine").unwrap();
    let error = restore(&archive[..], &mine, &mut unattended).unwrap_err();
    assert!(matches!(error, ArchiveError::NotEmpty { .. }));
    assert_eq!(names(&mine), ["notes", "restoring"]);

    // What a restore that died has left, in what is a file system of its own.
    let left = dir.path().join("left");
    std::fs::create_dir_all(left.join("restoring/blobs")).unwrap();
    std::fs::create_dir_all(left.join("lost+found")).unwrap();
    std::fs::write(left.join("restoring").join(STORE_FILE), "half").unwrap();
    restore(&archive[..], &left, &mut unattended).unwrap();
    assert_eq!(names(&left), ["lost+found", "store.lock", STORE_FILE]);

    let held = testing::open(&dir.path().join("held"));
    let error = restore(&archive[..], &dir.path().join("held"), &mut unattended).unwrap_err();
    assert!(error.to_string().contains("in use by"), "{error}");
    drop(held);
}

#[test]
fn files_go_along_and_are_what_their_names_say() {
    let (_dir, store) = store_of(&[]);
    let dir = tempfile::tempdir().unwrap();
    let file = |content: &[u8], digest: &[u8]| {
        let digits = hex(&Sha256::digest(digest));
        let path = dir.path().join(&digits);
        std::fs::write(&path, content).unwrap();
        ExtraFile { name: format!("blobs/{}/{}", &digits[..2], &digits[2..]), path }
    };
    let large = vec![7; (1 << 20) + 3];
    let (one, two) = (file(b"one", b"one"), file(&large, &large));
    let wrong = file(b"flipped", b"three");
    let gone = ExtraFile { path: dir.path().join("gone"), ..file(b"four", b"four") };
    let files = vec![one.clone(), two.clone(), wrong.clone(), gone.clone()];
    let backup = Backup::new("test 1", NOW).files(files);
    let (manifest, archive) = backup.write(&store.read().unwrap(), Vec::new()).unwrap();
    assert_eq!(manifest.damage.files, [wrong.name, gone.name.clone()]);
    let into = dir.path().join("copy");
    restore(&archive[..], &into, &mut unattended).unwrap();
    assert_eq!(std::fs::read(into.join(&one.name)).unwrap(), b"one");
    assert_eq!(std::fs::read(into.join(&two.name)).unwrap(), large);
    assert!(!into.join(&gone.name).exists());

    let elsewhere = ExtraFile { name: "blobs/../../x".to_owned(), ..one };
    let backup = Backup::new("test 1", NOW).files(vec![elsewhere]);
    let refused = backup.write(&store.read().unwrap(), Vec::new()).unwrap_err();
    assert!(matches!(refused, BackupError::File { .. }));
}

#[test]
fn tables_without_rows_are_in_the_manifest() {
    let (_dir, store) = store_of(&[]);
    let (manifest, _) = archive_of(&store);
    assert!(manifest.tables.iter().any(|table| table.name == TENANTS.name() && table.rows == 0));
    assert_eq!(manifest.tables.len(), tables::all().count());
}

#[test]
fn a_store_is_replaced_and_kept() {
    let (_dir, store) = store_of(&[count("acme", "nodes", 3)]);
    let (_, archive) = archive_of(&store);
    let dir = tempfile::tempdir().unwrap();
    let (into, aside) = (dir.path().join("kg"), dir.path().join("kg.before"));
    let carried = ["backups", "kek.key", "none"];
    let held = testing::open(&into);
    std::fs::create_dir(into.join("backups")).unwrap();
    std::fs::write(into.join("backups/one"), "archive").unwrap();
    std::fs::write(into.join("kek.key"), "key").unwrap();
    let error = replace(&archive[..], &into, &aside, &carried, &mut unattended).unwrap_err();
    assert!(error.to_string().contains("in use by"), "{error}");
    drop(held);

    let cut = replace(&archive[..archive.len() / 2], &into, &aside, &carried, &mut unattended);
    assert!(cut.is_err());
    assert_eq!(all_rows(&testing::open(&into)).len(), 1);
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1);

    replace(&archive[..], &into, &aside, &carried, &mut unattended).unwrap();
    assert_eq!(all_rows(&testing::open(&into)), all_rows(&store));
    assert_eq!(all_rows(&testing::open(&aside)).len(), 1);
    assert_eq!(std::fs::read_to_string(into.join("backups/one")).unwrap(), "archive");
    assert_eq!(std::fs::read_to_string(into.join("kek.key")).unwrap(), "key");
    assert!(aside.join("kek.key").exists());

    let error = replace(&archive[..], &into, &aside, &carried, &mut unattended).unwrap_err();
    assert!(error.to_string().contains("there already"), "{error}");
    assert_eq!(all_rows(&testing::open(&into)), all_rows(&store));
}
