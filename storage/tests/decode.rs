//! Bytes from a disk, whatever they are: reading them as a row of any table is a row or an error,
//! never a panic, and takes no more memory than the bytes justify.
//!
//! `ACTIVEKG_DECODE_CASES` sets how many bytes are tried (2,000 in each test). `storage/fuzz`
//! searches for bytes instead of drawing them.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod common;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::sync::Once;

use activekg_storage::codec::VALUE_MAX;
use activekg_storage::{StorageError, TableInfo, tables};
use common::{Row, number};
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

/// Counts what each thread has, so that a test can tell what a call took.
struct Counted;

thread_local! {
    static NOW: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
    static PANICS: Cell<usize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends frees what is no longer counted.
    let _ = NOW.try_with(|now| {
        now.set(now.get() + bytes);
        PEAK.with(|peak| peak.set(peak.get().max(now.get())));
    });
}

// SAFETY: every call is handed to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size().cast_signed());
        // SAFETY: the caller's promise is the one that is asked for here.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-layout.size().cast_signed());
        // SAFETY: the caller's promise is the one that is asked for here.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counted = Counted;

/// Most bytes of memory that a decoder takes for a value of up to four kilobytes: what it reserves
/// for a list whose length it has read, before it has read the elements.
const AHEAD: usize = 2 << 20;

/// And for each byte of the input: an element of one byte may become a record in memory.
const PER_BYTE: usize = 64;

/// Counts the panics of each thread: a check turns a decoder's panic into an error.
fn count_panics() {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            usual(info);
        }));
    });
}

/// Checks a row, with its memory.
fn check(table: &TableInfo, key: &[u8], value: &[u8]) -> bool {
    count_panics();
    let panics = PANICS.get();
    let before = NOW.get();
    PEAK.set(before);
    let fits = table.check(key, value).is_ok();
    let took = usize::try_from(PEAK.get() - before).unwrap();
    let ahead = if value.len() <= 4_000 { AHEAD } else { AHEAD + VALUE_MAX };
    let allowed = ahead + PER_BYTE * (key.len() + value.len());
    assert_eq!(PANICS.get(), panics, "{}: {key:?} {value:?}", table.name);
    assert!(took <= allowed, "{}: {took} bytes for {} of input", table.name, value.len());
    fits
}

/// A value with a header that fits: format byte, CRC-32C over key, format and body.
fn sealed(key: &[u8], format: u8, body: &[u8]) -> Vec<u8> {
    let sum = crc32c::crc32c_append(crc32c::crc32c_append(crc32c::crc32c(key), &[format]), body);
    [&[format], &sum.to_le_bytes()[..], body].concat()
}

/// Bytes as decoders meet them: lengths that claim too much, texts, marks, and anything.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just(vec![0]),
        Just(vec![0, 1]),
        Just(vec![0, 0xFF]),
        // Integers of two, four, eight and sixteen bytes, as the encoding marks them.
        (251u8..=255, any::<[u8; 16]>()).prop_map(|(mark, rest)| [&[mark], &rest[..]].concat()),
        "[a-z{}\":]{0,8}".prop_map(|text| [&[text.len() as u8], text.as_bytes()].concat()),
        "[a-z]{1,5}".prop_map(|text| [text.as_bytes(), &[0, 1]].concat()),
        prop::collection::vec(any::<u8>(), 0..24),
        prop::collection::vec(0u8..4, 0..24),
    ];
    prop::collection::vec(piece, 0..10).prop_map(|pieces| pieces.concat())
}

/// Bytes that are often a key: a few texts, numbers and ids.
fn key() -> impl Strategy<Value = Vec<u8>> {
    let text = || "[a-z]{1,5}".prop_map(|text| [text.as_bytes(), &[0, 1]].concat());
    let part = prop_oneof![
        3 => text(),
        3 => any::<[u8; 16]>().prop_map(Vec::from),
        2 => any::<[u8; 8]>().prop_map(Vec::from),
        1 => any::<[u8; 4]>().prop_map(Vec::from),
    ];
    (text(), prop::collection::vec(part, 0..4), any::<bool>()).prop_map(|(first, rest, named)| {
        let rest = rest.concat();
        if named { [first, rest].concat() } else { rest }
    })
}

fn is_invalid_key(checked: Result<(), StorageError>) -> bool {
    matches!(checked, Err(StorageError::Corrupt { reason, .. }) if reason == "invalid key")
}

fn runner() -> TestRunner {
    TestRunner::new(ProptestConfig {
        cases: u32::try_from(number("ACTIVEKG_DECODE_CASES", 2_000)).unwrap(),
        failure_persistence: None,
        ..ProptestConfig::default()
    })
}

#[test]
fn any_bytes_are_an_error() {
    let outcome = runner().run(&(bytes(), bytes()), |(key, value)| {
        for table in tables::all() {
            prop_assert!(!check(table, &key, &value), "{}: {key:?} {value:?}", table.name);
        }
        Ok(())
    });
    outcome.unwrap();
}

/// The checksum keeps damage out, but not a body written by a faulty program.
#[test]
fn any_body_under_a_good_checksum_is_a_row_or_an_error() {
    let reached = RefCell::new(BTreeSet::new());
    let outcome = runner().run(&(key(), bytes(), 1u8..3), |(key, body, format)| {
        let value = sealed(&key, format, &body);
        for table in tables::all() {
            check(table, &key, &value);
            if !is_invalid_key(table.check(&key, &value)) {
                reached.borrow_mut().insert(table.name);
            }
        }
        Ok(())
    });
    outcome.unwrap();
    let all: BTreeSet<&str> = tables::all().map(|table| table.name).collect();
    assert_eq!(reached.into_inner(), all, "some decoder was never run");
}

/// Every row of a store that a whole workload has filled, changed in one place or cut off.
#[test]
fn a_changed_row_is_an_error() {
    let (rows, changes) = (rows(), (any::<prop::sample::Index>(), any::<prop::sample::Index>()));
    let outcome = runner().run(&(changes, 1u8..), |((row, at), flip)| {
        let (table, key, value) = &rows[row.index(rows.len())];
        prop_assert!(check(table, key, value));
        let at = at.index(value.len());
        let mut changed = value.clone();
        changed[at] ^= flip;
        prop_assert!(!check(table, key, &changed));
        prop_assert!(!check(table, key, &value[..at]));
        // The body alone, with a checksum that fits: anything but a panic.
        if at >= 5 {
            check(table, key, &sealed(key, value[0], &changed[5..]));
            check(table, key, &sealed(key, value[0], &value[5..at]));
        }
        Ok(())
    });
    outcome.unwrap();
}

/// The rows of a store with something in many tables.
fn rows() -> Vec<Row> {
    let dir = tempfile::tempdir().unwrap();
    common::workload::fill(dir.path());
    let rows = common::rows(&dir.path().join("store.redb"));
    assert!(rows.len() > 50);
    rows
}
