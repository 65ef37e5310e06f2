//! The text index from outside: what is found, by whom, after what.

#![expect(clippy::unwrap_used, reason = "a step that fails should fail its test")]

use std::fs;
use std::path::Path;

use activekg_index::{
    FactFilter, Hit, IndexError, TextDoc, TextIndex, TextOp, TextOptions, TextQuery,
};

fn open(dir: &Path) -> (TextIndex, Option<u64>) {
    TextIndex::open(dir, TextOptions { heap_bytes: 15_000_000 }).unwrap()
}

fn doc(id: u128, tenant: &str, title: &str, body: &str) -> TextOp {
    TextOp::Put(TextDoc {
        id,
        tenant: tenant.into(),
        title: title.into(),
        body: body.into(),
        metadata: "{}".into(),
        facts: vec![id as u64 % 3, 100 + id as u64 % 2],
    })
}

fn find_with(index: &TextIndex, tenants: &[&str], text: &str, facts: &FactFilter) -> Vec<u128> {
    let query = TextQuery { text, tenants, limit: 100, facts };
    index.search(&query).unwrap().iter().map(|hit| hit.id).collect()
}

fn find(index: &TextIndex, tenants: &[&str], text: &str) -> Vec<u128> {
    find_with(index, tenants, text, &FactFilter::default())
}

#[test]
fn any_word_finds_and_more_words_rank_higher() {
    let dir = tempfile::tempdir().unwrap();
    let (index, seq) = open(&dir.path().join("text"));
    assert_eq!(seq, None);
    let ops = [
        doc(1, "a", "Wings", "lift and drag of wings in a slipstream"),
        doc(2, "a", "Cones", "heat transfer to cones"),
        doc(3, "a", "Plates", "drag of plates"),
    ];
    index.apply(&ops).unwrap();
    index.commit(7).unwrap();
    assert_eq!(index.committed_seq(), Some(7));
    assert_eq!(find(&index, &["a"], "what is the drag of a winged body?"), [1, 3]);
    assert_eq!(find(&index, &["a"], "HEATED conical cone"), [2]);
    assert_eq!(find(&index, &["a"], "the of and to a in"), [0; 0]);
    assert_eq!(find(&index, &["a"], ""), [0; 0]);
    assert_eq!(find(&index, &["a"], "zebra"), [0; 0]);
}

#[test]
fn user_text_is_never_syntax() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = open(dir.path());
    index.apply(&[doc(1, "a", "", "drag"), doc(2, "a", "", "lift")]).unwrap();
    index.commit(1).unwrap();
    for text in
        ["+drag -lift", "drag AND lift", "drag^9 OR (lift", "\"drag lift\"~", "*:* drag lift"]
    {
        let mut found = find(&index, &["a"], text);
        found.sort_unstable();
        assert_eq!(found, [1, 2], "{text}");
    }
    assert_eq!(find(&index, &["a"], "tenant:b OR *"), [0; 0]);
    let long = "wing drag ".repeat(100_000);
    assert_eq!(find(&index, &["a"], &long), [1]);
}

#[test]
fn tenants_never_mix() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = open(dir.path());
    let ops: Vec<_> = (0..60)
        .map(|id| doc(id, ["a", "b", "A", "a b"][id as usize % 4], "wing", "drag"))
        .collect();
    index.apply(&ops).unwrap();
    index.commit(1).unwrap();
    for (place, tenant) in ["a", "b", "A", "a b"].into_iter().enumerate() {
        let found = find(&index, &[tenant], "drag");
        assert_eq!(found, (0..60).filter(|id| id % 4 == place as u128).collect::<Vec<_>>());
    }
    assert_eq!(find(&index, &["a", "b"], "drag").len(), 30);
    assert_eq!(find(&index, &[], "drag"), [0; 0]);
    assert_eq!(find(&index, &["c"], "drag"), [0; 0]);
    let any = FactFilter { any: vec![vec![0, 1, 2]], ..FactFilter::default() };
    assert_eq!(index.candidates(&["c"], &any).unwrap(), Some(vec![]));
    assert_eq!(index.candidates(&["b"], &any).unwrap().unwrap().len(), 15);
}

#[test]
fn facts_restrict_without_changing_scores() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = open(dir.path());
    let ops: Vec<_> = (0..30).map(|id| doc(id, "a", "wing", "drag")).collect();
    index.apply(&ops).unwrap();
    index.commit(1).unwrap();
    let both = FactFilter { all: vec![1, 101], any: vec![vec![0, 1]] };
    let expected: Vec<u128> = (0..30).filter(|id| id % 3 == 1 && id % 2 == 1).collect();
    assert_eq!(find_with(&index, &["a"], "drag", &both), expected);
    assert_eq!(index.candidates(&["a"], &both).unwrap(), Some(expected));
    assert_eq!(index.candidates(&["a"], &FactFilter::default()).unwrap(), None);
    let none = FactFilter { all: vec![], any: vec![vec![]] };
    assert_eq!(index.candidates(&["a"], &none).unwrap(), Some(vec![]));
    assert_eq!(find_with(&index, &["a"], "drag", &none), [0; 0]);

    let score = |facts: &FactFilter| -> Hit {
        let query = TextQuery { text: "drag", tenants: &["a"], limit: 1, facts };
        index.search(&query).unwrap()[0]
    };
    assert_eq!(score(&both).score, score(&FactFilter::default()).score);
}

#[test]
fn a_longer_list_starts_with_the_shorter_one_whatever_the_segments() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = open(dir.path());
    // Ties everywhere, put in falling order of id and in many commits.
    for round in 0..12_u64 {
        let ops: Vec<_> = (0..10)
            .map(|i| {
                doc(
                    1000 - u128::from(round * 10 + i),
                    "a",
                    "",
                    ["drag", "drag lift"][i as usize % 2],
                )
            })
            .collect();
        index.apply(&ops).unwrap();
        index.commit(round).unwrap();
    }
    let facts = FactFilter::default();
    let top = |limit| {
        let query = TextQuery { text: "drag", tenants: &["a"], limit, facts: &facts };
        index.search(&query).unwrap()
    };
    let all = top(1000);
    assert_eq!(all.len(), 120);
    assert!(all.is_sorted_by(|a, b| a.score > b.score || (a.score == b.score && a.id < b.id)));
    for limit in [0, 1, 9, 10, 59, 60, 61, 119, 120] {
        assert_eq!(top(limit), all[..limit]);
    }
}

#[test]
fn a_put_replaces_and_a_remove_removes() {
    let dir = tempfile::tempdir().unwrap();
    let (index, _) = open(dir.path());
    index
        .apply(&[doc(1, "a", "", "drag"), doc(1, "a", "", "lift"), doc(2, "a", "", "lift")])
        .unwrap();
    index.commit(1).unwrap();
    assert_eq!(find(&index, &["a"], "drag"), [0; 0]);
    assert_eq!(find(&index, &["a"], "lift"), [1, 2]);
    index
        .apply(&[TextOp::Remove { id: 1 }, TextOp::Remove { id: 9 }, doc(2, "b", "", "lift")])
        .unwrap();
    index.commit(2).unwrap();
    assert_eq!(find(&index, &["a"], "lift"), [0; 0]);
    assert_eq!(find(&index, &["b"], "lift"), [2]);
    assert_eq!(index.len(), 1);
}

#[test]
fn what_was_not_committed_is_gone_and_the_rest_is_there() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (index, _) = open(dir.path());
        index.apply(&[doc(1, "a", "", "drag")]).unwrap();
        index.commit(5).unwrap();
        index.apply(&[doc(2, "a", "", "drag")]).unwrap();
        assert_eq!(find(&index, &["a"], "drag"), [1], "not visible before the commit");
    }
    let (index, seq) = open(dir.path());
    assert_eq!((seq, index.committed_seq()), (Some(5), Some(5)));
    assert_eq!(find(&index, &["a"], "drag"), [1]);
    assert_eq!(index.synced_seq(), None);
    index.sync().unwrap();
    assert_eq!(index.synced_seq(), Some(5));
}

#[test]
fn a_commit_without_changes_moves_the_sequence() {
    let dir = tempfile::tempdir().unwrap();
    {
        let (index, _) = open(dir.path());
        index.commit(41).unwrap();
    }
    assert_eq!(open(dir.path()).1, Some(41));
}

#[test]
fn damage_is_found_and_a_wiped_index_starts_anew() {
    let dir = tempfile::tempdir().unwrap();
    let good = dir.path().join("good");
    {
        let (index, _) = open(&good);
        let ops: Vec<_> = (0..40).map(|id| doc(id, "a", "wing", "drag and lift")).collect();
        index.apply(&ops).unwrap();
        index.commit(3).unwrap();
        index.apply(&[TextOp::Remove { id: 4 }]).unwrap();
        index.commit(4).unwrap();
    }
    let mut tried = 0;
    for entry in fs::read_dir(&good).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let bytes = fs::read(good.join(&name)).unwrap();
        if bytes.is_empty() {
            continue; // lock files
        }
        for step in 0..12 {
            let at = bytes.len() * step / 12;
            for cut in [false, true] {
                let bad = dir.path().join("bad");
                fs::create_dir(&bad).unwrap();
                for entry in fs::read_dir(&good).unwrap() {
                    let entry = entry.unwrap();
                    fs::copy(entry.path(), bad.join(entry.file_name())).unwrap();
                }
                let mut changed = bytes.clone();
                if cut {
                    changed.truncate(at)
                } else {
                    changed[at] ^= 0x10
                }
                fs::write(bad.join(&name), changed).unwrap();
                match TextIndex::open(&bad, TextOptions::default()) {
                    Err(IndexError::Damaged { .. }) => {}
                    Err(other) => panic!("{name} at {at}: {other:?}"),
                    // A byte that no one reads, such as a space in a footer.
                    Ok((index, seq)) => {
                        assert_eq!(seq, Some(4), "{name} at {at}");
                        assert_eq!(find(&index, &["a"], "drag").len(), 39, "{name} at {at}");
                    }
                }
                TextIndex::wipe(&bad).unwrap();
                tried += 1;
            }
        }
        let bad = dir.path().join("bad");
        fs::create_dir(&bad).unwrap();
        for entry in fs::read_dir(&good).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name().to_str() != Some(&name) {
                fs::copy(entry.path(), bad.join(entry.file_name())).unwrap();
            }
        }
        let opened = TextIndex::open(&bad, TextOptions::default());
        assert!(matches!(opened, Err(IndexError::Damaged { .. })), "without {name}");
        TextIndex::wipe(&bad).unwrap();
        let (_, seq) = open(&bad);
        assert_eq!(seq, None);
        TextIndex::wipe(&bad).unwrap();
        TextIndex::wipe(&bad).unwrap();
    }
    assert!(tried > 100);
}

#[test]
fn settings_out_of_range_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for heap_bytes in [0, 14_000_000, usize::MAX] {
        let opened = TextIndex::open(dir.path(), TextOptions { heap_bytes });
        assert!(matches!(opened, Err(IndexError::Invalid(_))));
    }
}

#[test]
fn after_a_failed_commit_the_index_is_back_at_its_last_one_and_works() {
    let dir = tempfile::tempdir().unwrap();
    let (here, away) = (dir.path().join("text"), dir.path().join("away"));
    let (index, _) = open(&here);
    index.apply(&[doc(1, "a", "", "drag")]).unwrap();
    index.commit(1).unwrap();
    fs::rename(&here, &away).unwrap();
    let changes = [TextOp::Remove { id: 1 }, doc(2, "a", "", "drag")];
    let failed = index.apply(&changes).and_then(|()| index.commit(2));
    assert!(matches!(failed, Err(IndexError::Io(_))));
    assert_eq!(index.committed_seq(), Some(1));
    fs::rename(&away, &here).unwrap();
    assert_eq!(find(&index, &["a"], "drag"), [1]);
    index.apply(&changes).unwrap();
    index.commit(2).unwrap();
    assert_eq!(find(&index, &["a"], "drag"), [2]);
    drop(index);
    assert_eq!(open(&here).1, Some(2));
}
