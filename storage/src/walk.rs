//! Going over the rows of a table, a part at a time, with or without looking at them closely.

use serde::Serialize;

use crate::read::ReadTx;
use crate::table::TableInfo;

/// Damaged rows that are described one by one; the rest is counted.
pub(crate) const EXAMPLES_MAX: usize = 100;

/// Longest key shown, in bytes.
const KEY_SHOWN_MAX: usize = 120;

/// A row that is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DamagedRow {
    /// Its key, with everything but letters, digits and signs escaped, cut off if it is long.
    pub key: String,
    /// What does not fit.
    pub reason: String,
}

/// What a table holds, as far as it was gone over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TableReport {
    /// The table's name.
    pub table: &'static str,
    /// Rows, damaged ones included.
    pub rows: u64,
    /// Bytes of all keys.
    pub key_bytes: u64,
    /// Bytes of all values.
    pub value_bytes: u64,
    /// Bytes of the largest row, key and value.
    pub largest_bytes: u64,
    /// Its key, as in [`DamagedRow`].
    pub largest_key: String,
    /// Rows that are damaged.
    pub n_damaged: u64,
    /// The first hundred of them.
    pub damaged: Vec<DamagedRow>,
    /// A page could not be read, so that the rows after the ones counted were not seen.
    pub broken: Option<String>,
}

/// How much to go over at once. At least one row is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
}

impl Limit {
    pub(crate) const NONE: Limit = Limit { rows: u64::MAX, bytes: u64::MAX };
}

impl TableReport {
    pub(crate) fn new(table: &'static str) -> TableReport {
        TableReport {
            table,
            rows: 0,
            key_bytes: 0,
            value_bytes: 0,
            largest_bytes: 0,
            largest_key: String::new(),
            n_damaged: 0,
            damaged: Vec::new(),
            broken: None,
        }
    }

    /// Whether nothing is wrong with it.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.n_damaged == 0 && self.broken.is_none()
    }

    fn count(&mut self, key: &[u8], value: &[u8]) {
        self.rows += 1;
        self.key_bytes += key.len() as u64;
        self.value_bytes += value.len() as u64;
        let bytes = (key.len() + value.len()) as u64;
        if bytes > self.largest_bytes {
            self.largest_bytes = bytes;
            self.largest_key = shown(key);
        }
    }
}

/// Goes over the rows after `after`, adds what it finds to `report`, and returns the last key if
/// the limit was reached before the end.
pub(crate) fn part(
    tx: &ReadTx,
    table: &TableInfo,
    after: Option<&[u8]>,
    limit: Limit,
    closely: bool,
    report: &mut TableReport,
) -> Option<Vec<u8>> {
    let rows = match tx.rows_after(table, after) {
        Ok(rows) => rows,
        Err(error) => {
            report.broken = Some(error.to_string());
            return None;
        }
    };
    let (mut n_rows, mut n_bytes) = (0, 0);
    for row in rows {
        let (key, value) = match row {
            Ok(row) => row,
            Err(error) => {
                report.broken = Some(error.to_string());
                return None;
            }
        };
        report.count(&key, &value);
        if closely && let Err(error) = table.check(&key, &value) {
            report.n_damaged += 1;
            if report.damaged.len() < EXAMPLES_MAX {
                report.damaged.push(DamagedRow { key: shown(&key), reason: error.to_string() });
            }
        }
        n_rows += 1;
        n_bytes += (key.len() + value.len()) as u64;
        if n_rows >= limit.rows || n_bytes >= limit.bytes {
            return Some(key);
        }
    }
    None
}

/// A key for people: the tenant and the texts in it can be read.
pub(crate) fn shown(key: &[u8]) -> String {
    let (head, more) = match key.get(..KEY_SHOWN_MAX) {
        Some(head) => (head, ".."),
        None => (key, ""),
    };
    format!("{}{more}", head.escape_ascii())
}
