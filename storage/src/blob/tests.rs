use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::error::StorageError;
use crate::read::Readable as _;
use crate::store::Store;
use crate::store::testing::{open, write};

const MAX: u64 = 1 << 20;

struct World {
    dir: tempfile::TempDir,
    store: Option<Store>,
    blobs: Blobs,
}

impl World {
    fn new() -> World {
        let dir = tempfile::tempdir().unwrap();
        let store = Some(open(dir.path()));
        let blobs = Blobs::open(&dir.path().join("blobs"), MAX).unwrap();
        World { dir, store, blobs }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn link(&self, stored: &Stored) {
        let stored = stored.clone();
        write(self.store(), move |tx| link(tx, &stored));
    }

    fn gc(&self) -> Collected {
        self.blobs.gc(self.store(), usize::MAX).unwrap()
    }

    /// Ends without a goodbye: nothing in memory survives.
    fn restart(&mut self) {
        drop(self.store.take());
        self.store = Some(open(self.dir.path()));
        self.blobs = Blobs::open(&self.dir.path().join("blobs"), MAX).unwrap();
    }

    /// The names of all files, temporary ones included.
    fn files(&self) -> BTreeSet<String> {
        let mut files = BTreeSet::new();
        for folder in fs::read_dir(self.dir.path().join("blobs")).unwrap() {
            let folder = folder.unwrap();
            let prefix = folder.file_name().into_string().unwrap();
            for file in fs::read_dir(folder.path()).unwrap() {
                files.insert(format!(
                    "{prefix}{}",
                    file.unwrap().file_name().into_string().unwrap()
                ));
            }
        }
        files
    }
}

fn content(n: u8) -> Vec<u8> {
    vec![n; usize::from(n) * 1000]
}

#[test]
fn blobs_are_named_by_what_they_hold() {
    let world = World::new();
    let stored = world.blobs.put(b"abc".as_slice()).unwrap();
    let name = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    assert_eq!((stored.id().to_string().as_str(), stored.size()), (name, 3));
    let path = world.dir.path().join("blobs").join(&name[..2]).join(&name[2..]);
    assert_eq!(fs::read(path).unwrap(), b"abc");
    assert_eq!(world.blobs.get(stored.id()).unwrap(), b"abc");
    let again = world.blobs.put(b"abc".as_slice()).unwrap();
    assert_eq!(again.id(), stored.id());
    assert_eq!(world.files(), [name.to_owned()].into());

    let all = world.blobs.put_all([b"abc".as_slice(), b"", b"x"]).unwrap();
    assert_eq!(all[0].id(), stored.id());
    for (stored, bytes) in all.iter().zip([b"abc".as_slice(), b"", b"x"]) {
        assert_eq!(world.blobs.get(stored.id()).unwrap(), bytes);
        assert_eq!(world.blobs.verify(stored.id()).unwrap(), bytes.len() as u64);
    }
    let missing = BlobId::new([7; 32]);
    assert!(matches!(world.blobs.get(missing), Err(BlobError::NotFound { id }) if id == missing));
}

#[test]
fn what_is_not_stored_leaves_nothing() {
    struct Broken;
    impl Read for Broken {
        fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
            Err(io::Error::other("gone"))
        }
    }
    let world = World::new();
    let long = io::repeat(1).take(MAX + 1);
    assert!(matches!(world.blobs.put(long), Err(BlobError::TooLarge { max_bytes: MAX })));
    let broken = b"some".as_slice().chain(Broken);
    assert!(matches!(world.blobs.put(broken), Err(BlobError::Content(_))));
    assert_eq!(world.files(), BTreeSet::new());
    assert!(world.blobs.put(io::repeat(1).take(MAX)).is_ok());
}

#[test]
fn damage_is_named_left_in_place_and_mended_by_storing_again() {
    let world = World::new();
    let bytes = content(200);
    let stored = world.blobs.put(bytes.as_slice()).unwrap();
    let id = stored.id();
    let path = world.blobs.path(id);
    for damaged in [
        [&bytes[..99], &[0], &bytes[100..]].concat(),
        bytes[1..].to_vec(),
        [&bytes[..], &[200]].concat(),
        Vec::new(),
    ] {
        fs::write(&path, &damaged).unwrap();
        assert!(
            matches!(world.blobs.get(id), Err(BlobError::Corrupt { id: named }) if named == id)
        );
        assert!(matches!(world.blobs.verify(id), Err(BlobError::Corrupt { .. })));
        assert_eq!(fs::read(&path).unwrap(), damaged);
        world.blobs.put(bytes.as_slice()).unwrap();
        assert_eq!(world.blobs.get(id).unwrap(), bytes);
    }
}

#[test]
fn references_are_counted_with_the_rows_that_hold_them() {
    let world = World::new();
    let stored = world.blobs.put(b"abc".as_slice()).unwrap();
    let id = stored.id();
    world.link(&stored);
    world.link(&stored);
    drop(stored);
    let record = |world: &World| {
        world.store().read().unwrap().get(&crate::tables::blobs::BLOBS, &(id,)).unwrap()
    };
    assert_eq!(record(&world), Some(BlobRecord { refs: 2, size: 3 }));
    assert_eq!(write(world.store(), move |tx| unlink(tx, id)), 1);
    assert_eq!(world.gc().blobs, 0);
    assert_eq!(write(world.store(), move |tx| unlink(tx, id)), 0);
    assert_eq!(record(&world), None);
    let again = world.store().write_blocking(move |tx| unlink(tx, id));
    assert!(matches!(again, Err(StorageError::Corrupt { table: "blobs", .. })));
    assert_eq!(world.gc(), Collected { blobs: 1, bytes: 3, temporary: 0, more: false });
    assert_eq!(world.files(), BTreeSet::new());
}

#[test]
fn collection_keeps_what_is_on_its_way() {
    let mut world = World::new();
    let stored = world.blobs.put(b"on its way".as_slice()).unwrap();
    assert_eq!(world.gc().blobs, 0);
    // The change alone keeps it, too: whoever asked may be gone.
    let id = stored.id();
    let (entered, wait) = std::sync::mpsc::channel();
    let (go, gone) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let store = world.store();
        scope.spawn(move || {
            write(store, move |tx| {
                entered.send(()).unwrap();
                gone.recv().unwrap();
                link(tx, &stored)
            });
        });
        wait.recv().unwrap();
        let collector = scope.spawn(|| world.gc());
        go.send(()).unwrap();
        assert_eq!(collector.join().unwrap().blobs, 0);
    });
    assert_eq!(world.blobs.get(id).unwrap(), b"on its way");
    // A crash forgets who was on the way.
    drop(world.blobs.put(b"orphan".as_slice()).unwrap());
    fs::write(world.dir.path().join("blobs/tmp/half"), "half").unwrap();
    world.restart();
    assert_eq!(world.gc(), Collected { blobs: 1, bytes: 6, temporary: 1, more: false });
    assert_eq!(world.files(), [id.to_string()].into());
}

#[test]
fn a_file_being_written_is_no_stray() {
    struct Midway<'a>(&'a World, bool);
    impl Read for Midway<'_> {
        fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
            assert_eq!(self.0.gc().temporary, 0);
            out[0] = b'x';
            Ok(usize::from(!std::mem::replace(&mut self.1, true)))
        }
    }
    let world = World::new();
    let stored = world.blobs.put(Midway(&world, false)).unwrap();
    assert_eq!(world.blobs.get(stored.id()).unwrap(), b"x");
}

#[test]
fn a_hold_keeps_everything() {
    let world = World::new();
    let ids: Vec<_> =
        (1..4).map(|n| world.blobs.put(content(n).as_slice()).unwrap().id()).collect();
    let (hold, other) = (world.blobs.hold(), world.blobs.hold());
    assert_eq!(world.gc(), Collected { more: true, ..Collected::default() });
    drop(hold);
    assert_eq!(world.gc().blobs, 0);
    drop(other);
    let first = world.blobs.gc(world.store(), 2).unwrap();
    assert_eq!((first.blobs, first.more), (2, true));
    assert_eq!((world.gc().blobs, ids.len()), (1, 3));
}

#[test]
fn other_files_are_left_alone() {
    let world = World::new();
    for name in ["README", "ab/notes", "zz"] {
        let path = world.dir.path().join("blobs").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "mine").unwrap();
    }
    assert_eq!(world.gc(), Collected::default());
}

/// Threads store, link, unlink and collect the same few blobs; whoever linked one can read it.
#[test]
fn collection_beside_writers_loses_nothing() {
    let world = World::new();
    let n_rounds = 30;
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u8)
            .map(|_| {
                scope.spawn(|| {
                    for round in 0..n_rounds {
                        let bytes = content(round % 3);
                        let stored = world.blobs.put(bytes.as_slice()).unwrap();
                        let id = stored.id();
                        let moved = stored;
                        write(world.store(), move |tx| link(tx, &moved));
                        assert!(world.blobs.get(id).unwrap() == bytes);
                        write(world.store(), move |tx| unlink(tx, id));
                    }
                })
            })
            .collect();
        while writers.iter().any(|writer| !writer.is_finished()) {
            world.gc();
        }
    });
    world.gc();
    assert_eq!(world.files(), BTreeSet::new());
}

#[derive(Debug, Clone)]
enum Op {
    /// Stores a blob and keeps it for a change to come.
    Put(u8),
    /// A row refers to the blob that was stored first and is still kept.
    Link,
    /// The same, undone.
    Abort,
    /// Gives up the one stored first without a change.
    Forget,
    /// A row that refers to a blob goes, if there is one.
    Unlink(u8),
    Gc(usize),
    Crash,
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        4 => (0..5u8).prop_map(Op::Put),
        4 => Just(Op::Link),
        1 => Just(Op::Abort),
        1 => Just(Op::Forget),
        4 => (0..5u8).prop_map(Op::Unlink),
        3 => (0..4usize).prop_map(Op::Gc),
        1 => Just(Op::Crash),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn blobs_agree_with_model(ops in prop::collection::vec(op(), 1..40)) {
        let mut world = World::new();
        let mut refs: BTreeMap<u8, u64> = BTreeMap::new();
        let mut kept: Vec<(u8, Stored)> = Vec::new();
        let id = |n: u8| BlobId::new(Sha256::digest(content(n)).into());
        for op in ops {
            match op {
                Op::Put(n) => kept.push((n, world.blobs.put(content(n).as_slice()).unwrap())),
                Op::Link if !kept.is_empty() => {
                    let (n, stored) = kept.remove(0);
                    write(world.store(), move |tx| link(tx, &stored));
                    *refs.entry(n).or_default() += 1;
                }
                Op::Abort if !kept.is_empty() => {
                    let (_, stored) = kept.remove(0);
                    let undone = world.store().write_blocking(move |tx| {
                        link(tx, &stored)?;
                        Err::<(), _>(StorageError::Closed)
                    });
                    prop_assert!(undone.is_err());
                }
                Op::Forget if !kept.is_empty() => drop(kept.remove(0)),
                Op::Link | Op::Abort | Op::Forget => {}
                Op::Unlink(n) => {
                    let unlinked = world.store().write_blocking(move |tx| unlink(tx, id(n)));
                    let n_refs = refs.get(&n).copied().unwrap_or(0);
                    prop_assert_eq!(unlinked.is_ok(), n_refs > 0);
                    if n_refs > 1 { refs.insert(n, n_refs - 1); } else { refs.remove(&n); }
                }
                Op::Gc(limit) => {
                    let collected = world.blobs.gc(world.store(), limit).unwrap();
                    prop_assert!(collected.blobs <= limit as u64);
                    prop_assert_eq!(collected.temporary, 0);
                }
                Op::Crash => {
                    kept.clear();
                    world.restart();
                }
            }
            let snapshot = world.store().read().unwrap();
            let rows = in_use(&snapshot).unwrap().map(|row| row.unwrap());
            let counted: BTreeMap<BlobId, u64> = rows.map(|(id, row)| (id, row.refs)).collect();
            let expected = refs.iter().map(|(n, refs)| (id(*n), *refs)).collect();
            prop_assert_eq!(counted, expected);
            for n in refs.keys().chain(kept.iter().map(|(n, _)| n)) {
                prop_assert!(world.blobs.get(id(*n)).unwrap() == content(*n));
            }
        }
        kept.clear();
        world.gc();
        let left: BTreeSet<String> = refs.keys().map(|n| id(*n).to_string()).collect();
        prop_assert_eq!(world.files(), left);
    }
}
