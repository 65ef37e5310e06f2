//! What the tests of power cuts and full disks share.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(dead_code, reason = "each test binary uses its part")]

pub(crate) mod disk;
pub(crate) mod workload;

use std::path::Path;

use activekg_storage::{TableInfo, tables};
use proptest::prelude::Rng;
use proptest::test_runner::{RngAlgorithm, TestRng};
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

/// Small numbers from a seed.
pub(crate) struct Dice(TestRng);

impl Dice {
    pub(crate) fn new(seed: u64) -> Dice {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&seed.to_le_bytes());
        Dice(TestRng::from_seed(RngAlgorithm::ChaCha, &bytes))
    }

    /// From 0 to one below `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.0.next_u64() % end as u64).unwrap()
    }

    pub(crate) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// The number in the environment variable `name`, or `default`.
pub(crate) fn number(name: &str, default: u64) -> u64 {
    let text = std::env::var(name);
    text.map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

/// A row as it is stored: table, key, value.
pub(crate) type Row = (&'static TableInfo, Vec<u8>, Vec<u8>);

/// All rows of a store's file that nobody has open.
pub(crate) fn rows(path: &Path) -> Vec<Row> {
    let database = redb::Database::open(path).unwrap();
    let tx = database.begin_read().unwrap();
    let mut rows = Vec::new();
    for table in tables::all() {
        let definition = TableDefinition::<&[u8], &[u8]>::new(table.name);
        let Ok(opened) = tx.open_table(definition) else { continue };
        for row in opened.iter().unwrap() {
            let (key, value) = row.unwrap();
            rows.push((table, key.value().to_vec(), value.value().to_vec()));
        }
    }
    rows
}
