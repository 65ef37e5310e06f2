//! Any rows, any damage, any bytes.

use proptest::prelude::*;

use super::*;

fn rows() -> impl Strategy<Value = Vec<Row>> {
    let row = ("[a-z]{1,8}", ".{0,12}", any::<u64>())
        .prop_map(|(tenant, name, value)| count(&tenant, &name, value));
    prop::collection::vec(row, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_restored_is_what_was_there(rows in rows(), level in 1..6) {
        let (_dir, store) = store_of(&rows);
        let backup = Backup::new("test 1", NOW).level(level);
        let (manifest, archive) = backup.write(&store.read().unwrap(), Vec::new()).unwrap();
        prop_assert!(manifest.damage.is_none());
        let n_rows = manifest.tables.iter().map(|table| table.rows).sum::<u64>();
        prop_assert_eq!(n_rows, all_rows(&store).len() as u64);
        prop_assert_eq!(n_rows, manifest.about.rows);
        prop_assert_eq!(&check(&archive[..], &mut unattended).unwrap(), &manifest);
        let (_copy, copy) = restored(&archive).unwrap();
        prop_assert_eq!(all_rows(&copy), all_rows(&store));
        // Two archives of one snapshot are the same bytes.
        prop_assert_eq!(archive_of(&copy).0, archive_of(&store).0);
    }

    #[test]
    fn a_changed_byte_is_found_or_changes_nothing(
        rows in rows(),
        damages in prop::collection::vec((any::<prop::sample::Index>(), 1..=255u8), 40),
    ) {
        let (_dir, store) = store_of(&rows);
        let (_, archive) = archive_of(&store);
        for (at, flip) in damages {
            let mut damaged = archive.clone();
            damaged[at.index(archive.len())] ^= flip;
            // Some bits of a zstd frame mean nothing.
            if check(&damaged[..], &mut unattended).is_ok() {
                let (_copy, copy) = restored(&damaged).unwrap();
                prop_assert_eq!(all_rows(&copy), all_rows(&store));
            }
        }
    }

    #[test]
    fn bytes_changed_before_compression_are_found(
        rows in rows(),
        at in any::<prop::sample::Index>(),
        flip in 1..=255u8,
    ) {
        let (_dir, store) = store_of(&rows);
        let mut tar = zstd::decode_all(&archive_of(&store).1[..]).unwrap();
        let manifest = find(&tar, b"manifest.json");
        // The manifest's own bytes are for the frame's sum to keep.
        let at = at.index(manifest);
        tar[at] ^= flip;
        let error = check(&zstd::encode_all(&tar[..], 1).unwrap()[..], &mut unattended);
        prop_assert!(error.is_err());
    }

    #[test]
    fn an_archive_cut_short_is_damaged(rows in rows(), cut in any::<prop::sample::Index>()) {
        let (_dir, store) = store_of(&rows);
        let (_, archive) = archive_of(&store);
        let cut = &archive[..cut.index(archive.len())];
        let dir = tempfile::tempdir().unwrap();
        let into = dir.path().join("copy");
        prop_assert!(restore(cut, &into, &mut unattended).is_err());
        prop_assert!(!into.exists());
    }

    #[test]
    fn documents_of_any_shape_do_not_panic(text in any::<Vec<u8>>(), json in "[\\[\\]{}:,\"a-z0-9]{0,60}") {
        for text in [&text[..], json.as_bytes()] {
            let mut out = Out::new(Vec::new(), 1, NOW).unwrap();
            out.part("about.json", None, text).unwrap();
            let archive = finish(out);
            prop_assert!(check(&archive[..], &mut unattended).is_err());
            let mut out = Out::new(Vec::new(), 1, NOW).unwrap();
            out.part("about.json", None, &encode(&about_now())).unwrap();
            out.part("manifest.json", None, text).unwrap();
            prop_assert!(check(&finish(out)[..], &mut unattended).is_err());
        }
    }

    #[test]
    fn rows_of_any_bytes_do_not_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut out = Out::new(Vec::new(), 1, NOW).unwrap();
        out.part("about.json", None, &encode(&about_now())).unwrap();
        out.part("tables/graph.nodes.000000.rows", Some(1), &bytes).unwrap();
        prop_assert!(check(&finish(out)[..], &mut unattended).is_err());
    }

    #[test]
    fn anything_else_is_no_archive(bytes in any::<Vec<u8>>()) {
        let error = check(&bytes[..], &mut unattended).unwrap_err();
        prop_assert!(matches!(error, ArchiveError::NotAnArchive), "{error:?}");
    }
}

fn find(bytes: &[u8], what: &[u8]) -> usize {
    bytes.windows(what.len()).position(|window| window == what).unwrap()
}

/// Ends an archive without a manifest.
fn finish(out: Out<Vec<u8>>) -> Vec<u8> {
    let manifest = |parts| Manifest {
        about: about_now(),
        tables: Vec::new(),
        parts,
        key_versions: Vec::new(),
        damage: Damage::default(),
    };
    out.finish(manifest).unwrap().1
}
