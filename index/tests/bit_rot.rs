//! Bytes of index files change while nobody has them open: the index says which file is damaged, or
//! answers as before. It never answers otherwise.
//!
//! `ACTIVEKG_BIT_ROT_CASES` sets how many damages are tried.

#![expect(clippy::unwrap_used, reason = "a step that fails should fail its test")]

mod common;

use std::fs;
use std::path::{Path, PathBuf};

use activekg_index::{
    FactFilter, IndexError, Metric, TextDoc, TextIndex, TextOp, TextOptions, TextQuery,
    VectorOptions, VectorQuery, VectorSet,
};
use common::{Clusters, ids};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const DIM: usize = 6;

fn cases() -> usize {
    let cases = std::env::var("ACTIVEKG_BIT_ROT_CASES");
    cases.map_or(60, |text| text.parse().expect("ACTIVEKG_BIT_ROT_CASES is a number"))
}

/// The files of a folder, with what is in them.
fn files(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_type().unwrap().is_file())
        .map(|entry| (PathBuf::from(entry.file_name()), fs::read(entry.path()).unwrap()))
        .collect();
    files.sort();
    files
}

/// Opens copies of the index in `dir` with a changed byte; `answer` opens and asks.
fn damaged<T: PartialEq + std::fmt::Debug>(
    dir: &Path,
    answer: impl Fn(&Path) -> Result<T, IndexError>,
) {
    let whole = files(dir);
    let expected = answer(dir).unwrap();
    let mut dice = StdRng::seed_from_u64(7);
    let mut found = 0;
    for case in 0..cases() {
        let copy = tempfile::tempdir().unwrap();
        let (hit, bytes) = &whole[dice.random_range(0..whole.len())];
        if bytes.is_empty() {
            continue;
        }
        let (at, flip) = (dice.random_range(0..bytes.len()), dice.random_range(1..=255u8));
        for (name, bytes) in &whole {
            let mut bytes = bytes.clone();
            if name == hit {
                bytes[at] ^= flip;
            }
            fs::write(copy.path().join(name), bytes).unwrap();
        }
        match answer(copy.path()) {
            Ok(answer) => assert_eq!(answer, expected, "case {case}: {} at {at}", hit.display()),
            Err(IndexError::Damaged { path, reason }) => {
                assert!(path.starts_with(copy.path()) && !reason.is_empty(), "{}", path.display());
                found += 1;
            }
            Err(other) => panic!("case {case}: {} at {at}: {other:?}", hit.display()),
        }
    }
    assert!(found * 2 > cases(), "most damage is noticed: {found}");
}

#[test]
fn a_text_index_with_a_changed_byte_is_right_or_refused() {
    let open = |dir: &Path| TextIndex::open(dir, TextOptions { heap_bytes: 15_000_000 });
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = open(dir.path()).unwrap();
    for part in 0..3u128 {
        let doc = |n: u128| {
            TextOp::Put(TextDoc {
                id: part * 100 + n,
                tenant: "a".into(),
                title: format!("Pump {n}"),
                body: format!("valve number{n} part{part} of a pump in water"),
                metadata: "{}".into(),
                facts: vec![n as u64],
            })
        };
        index.apply(&(0..100).map(doc).collect::<Vec<_>>()).unwrap();
        index.commit(part as u64 + 1).unwrap();
    }
    index.sync().unwrap();
    drop(index);
    damaged(dir.path(), |dir| {
        let (index, seq) = open(dir)?;
        let mut found = Vec::new();
        for text in ["number7 pump", "part2", "valve water"] {
            let facts = FactFilter::default();
            let query = TextQuery { text, tenants: &["a"], limit: 1000, facts: &facts };
            let mut hits: Vec<u128> = index.search(&query)?.iter().map(|hit| hit.id).collect();
            hits.sort_unstable();
            found.push(hits);
        }
        Ok((seq, found))
    });
}

#[test]
fn a_vector_index_with_a_changed_byte_is_right_or_refused() {
    let open = |dir: &Path| VectorSet::open(dir, VectorOptions::new(DIM, Metric::Cosine));
    let dir = tempfile::tempdir().unwrap();
    let (set, _) = open(dir.path()).unwrap();
    let mut data = Clusters::new(3, 4, DIM);
    set.apply(&data.puts(0, 5000, 2)).unwrap();
    set.commit(1).unwrap();
    set.maintain().unwrap();
    set.apply(&data.puts(10_000, 50, 2)).unwrap();
    set.commit(2).unwrap();
    drop(set);
    damaged(dir.path(), |dir| {
        let (set, seq) = open(dir)?;
        let query =
            VectorQuery { vector: &[1.0; DIM], k: 500, tenants: &["t0"], among: None, ef: None };
        Ok((seq, ids(&set, &query)))
    });
}
