//! Files of the layer below, whole and damaged, read without it.

use redb::backends::InMemoryBackend;
use redb::{ReadableDatabase, ReadableTable, TableDefinition};

use super::*;
use crate::read::Bytes;

const ROWS: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("rows");
const MORE: TableDefinition<'_, Bytes, Bytes> = TableDefinition::new("more");

/// A value that says which key it is under.
fn value(n: u32) -> Vec<u8> {
    let mut value = n.to_be_bytes().repeat(1 + n as usize % 40);
    if n.is_multiple_of(500) {
        value = n.to_be_bytes().repeat(9000);
    }
    value
}

fn is_row(key: &[u8], value: &[u8]) -> bool {
    !value.is_empty() && value.chunks(4).all(|part| part == key)
}

/// A file of 3000 rows, some larger than a page, written in several commits.
fn whole() -> Vec<u8> {
    let file = tempfile::NamedTempFile::new().unwrap();
    let database = redb::Database::create(file.path()).unwrap();
    for part in 0..3 {
        let tx = database.begin_write().unwrap();
        {
            let mut rows = tx.open_table(ROWS).unwrap();
            let mut more = tx.open_table(MORE).unwrap();
            for n in (part * 1000)..((part + 1) * 1000u32) {
                rows.insert(&n.to_be_bytes()[..], &value(n)[..]).unwrap();
                more.insert(&n.to_be_bytes()[..], &n.to_be_bytes()[..]).unwrap();
            }
        }
        tx.commit().unwrap();
    }
    let tx = database.begin_read().unwrap();
    assert_eq!(tx.open_table(ROWS).unwrap().iter().unwrap().count(), 3000);
    drop(tx);
    drop(database);
    std::fs::read(file.path()).unwrap()
}

fn reader(bytes: &[u8]) -> PageReader<InMemoryBackend> {
    let medium = InMemoryBackend::new();
    medium.set_len(bytes.len() as u64).unwrap();
    medium.write(0, bytes).unwrap();
    PageReader::new(medium).unwrap()
}

/// The good rows of a table, and how many gaps there are.
fn read(bytes: &[u8], name: &str) -> (Vec<u32>, usize) {
    let reader = reader(bytes);
    let tables = reader.tables();
    let Some(table) = tables.iter().find(|table| table.name == name) else {
        return (Vec::new(), 1);
    };
    let (mut found, mut gaps) = (Vec::new(), 0);
    reader.rows(table, &is_row, &mut |piece| match piece {
        Piece::Row { key, value, in_place: true } if is_row(key, value) => {
            found.push(u32::from_be_bytes(key.try_into().unwrap()));
        }
        Piece::Row { .. } => {}
        Piece::Gap { .. } => gaps += 1,
    });
    (found, gaps)
}

#[test]
fn a_whole_file_is_read_in_order() {
    let bytes = whole();
    let tables = reader(&bytes).tables();
    assert_eq!(
        tables.iter().map(|t| (t.name.as_str(), t.rows)).collect::<Vec<_>>(),
        [("more", 3000), ("rows", 3000)]
    );
    for name in ["rows", "more"] {
        assert_eq!(read(&bytes, name), ((0..3000).collect(), 0), "{name}");
    }
}

#[test]
fn the_header_is_not_needed() {
    let mut bytes = whole();
    // All but the slots: magic, flags, geometry.
    bytes[..64].fill(0xA5);
    let (found, _) = read(&bytes, "rows");
    // The flags also said which commit is the newer: the older one has a thousand rows fewer.
    assert!(found.len() >= 2000, "{}", found.len());
}

#[test]
fn a_page_that_is_gone_costs_its_own_rows_only() {
    let bytes = whole();
    let mut worst = 0;
    let mut hit = 0;
    for page in (1..bytes.len() / 4096).step_by(7) {
        let mut damaged = bytes.clone();
        damaged[page * 4096..(page + 1) * 4096].fill(0);
        let (found, gaps) = read(&damaged, "rows");
        assert!(found.is_sorted());
        if found.len() < 3000 {
            hit += 1;
            assert!(gaps > 0 || found.len() + 1 >= 3000, "page {page}: {} rows", found.len());
        }
        // Roots and lists of tables take all with them; they are few.
        if !found.is_empty() {
            worst = worst.max(3000 - found.len());
        }
    }
    assert!(hit > 5, "the file has more pages with rows: {hit}");
    assert!(worst < 3000);
}

#[test]
fn a_flipped_byte_costs_little() {
    use rand_like::Numbers;
    let bytes = whole();
    let mut numbers = Numbers(1);
    let used: Vec<usize> = (4096..bytes.len()).filter(|at| bytes[*at] != 0).collect();
    let mut lost_most = 0;
    for _ in 0..200 {
        let mut damaged = bytes.clone();
        let at = used[numbers.below(used.len())];
        damaged[at] ^= 1 << numbers.below(8);
        let (found, _) = read(&damaged, "rows");
        if found.is_empty() {
            continue;
        }
        lost_most = lost_most.max(3000 - found.len());
    }
    assert!(lost_most <= 200, "{lost_most} rows for one byte");
}

mod rand_like {
    /// A generator of the same numbers every time.
    pub(super) struct Numbers(pub(super) u64);

    impl Numbers {
        pub(super) fn below(&mut self, end: usize) -> usize {
            self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (self.0 >> 33) as usize % end
        }
    }
}
