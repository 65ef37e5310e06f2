//! Reading: point look-ups and scans, the same on a snapshot and inside a write.

use std::marker::PhantomData;
use std::ops::Bound;
use std::panic::{AssertUnwindSafe, catch_unwind};

use redb::{AccessGuard, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle};

use crate::codec::{self, Glance, InvalidValue, Record};
use crate::error::{StorageError, WHOLE, panic_message};
use crate::keys::{self, Key};
use crate::opened::Opened;
use crate::readers::Reader;
use crate::table::{Scan, Table, TableInfo};
use crate::tables;

/// The type of every table as the layer below sees it; order is byte order.
pub(crate) type Bytes = &'static [u8];

pub(crate) fn definition(name: &'static str) -> TableDefinition<'static, Bytes, Bytes> {
    debug_assert!(tables::find(name).is_some(), "{name} is not among tables::all()");
    TableDefinition::new(name)
}

/// Runs `operation` of the layer below. Damage can make it panic; that is an error here.
pub(crate) fn guarded<T, E: Into<redb::Error>>(
    table: &'static str,
    operation: impl FnOnce() -> Result<T, E>,
) -> Result<T, StorageError> {
    caught(table, operation)?.map_err(|error| StorageError::from_redb(table, error))
}

/// [`guarded`] for what does not fail in any other way: looking at the bytes of a row does not,
/// but in a damaged page they can be said to lie outside it.
fn caught<T>(table: &'static str, operation: impl FnOnce() -> T) -> Result<T, StorageError> {
    catch_unwind(AssertUnwindSafe(operation))
        .map_err(|payload| StorageError::corrupt(table, panic_message(&*payload)))
}

pub(crate) mod source {
    use super::{AccessGuard, Bound, Bytes, StorageError};

    /// What a transaction must be able to do to be readable.
    pub trait Source {
        /// The value under `key`.
        fn value(
            &self,
            table: &'static str,
            key: &[u8],
        ) -> Result<Option<AccessGuard<'_, Bytes>>, StorageError>;

        /// The rows in a range of keys; `None` if there is no such table yet.
        fn range(
            &self,
            table: &'static str,
            range: (Bound<&[u8]>, Bound<&[u8]>),
        ) -> Result<Option<redb::Range<'_, Bytes, Bytes>>, StorageError>;
    }
}

/// What can be read on a [`ReadTx`] and on a [`WriteTx`](crate::WriteTx), which sees what it wrote.
///
/// Every method fails with [`StorageError::Corrupt`] if a row does not decode and with
/// [`StorageError::Unavailable`] if the file cannot be read.
pub trait Readable: source::Source {
    /// The value under `key`.
    fn get<K: Key, V: Record>(
        &self,
        table: &Table<K, V>,
        key: &K,
    ) -> Result<Option<V>, StorageError> {
        let key = keys::to_bytes(key);
        let Some(value) = self.value(table.name(), &key)? else {
            return Ok(None);
        };
        caught(table.name(), || codec::decode(&key, value.value()))?
            .map(Some)
            .map_err(|error| StorageError::corrupt(table.name(), error))
    }

    /// Whether there is a row under `key`. Does not look at its value.
    fn contains<K: Key, V: Record>(
        &self,
        table: &Table<K, V>,
        key: &K,
    ) -> Result<bool, StorageError> {
        Ok(self.value(table.name(), &keys::to_bytes(key))?.is_some())
    }

    /// The rows of a scan, read as the iterator is driven. It goes on after a row whose value is
    /// corrupt, so that the caller decides; it ends after any other error.
    fn scan<K: Key, V: Record>(
        &self,
        table: &Table<K, V>,
        scan: Scan<K>,
    ) -> Result<Rows<'_, K, V>, StorageError> {
        rows(self, table.name(), &scan, codec::decode)
    }

    /// [`Readable::scan`], with a glance at each value.
    fn scan_glances<K: Key, G: Glance>(
        &self,
        table: &Table<K, G::Of>,
        scan: Scan<K>,
    ) -> Result<Rows<'_, K, G>, StorageError> {
        rows(self, table.name(), &scan, codec::glance)
    }

    /// The row with the least key that `scan` visits, whichever its direction.
    fn first<K: Key, V: Record>(
        &self,
        table: &Table<K, V>,
        scan: Scan<K>,
    ) -> Result<Option<(K, V)>, StorageError> {
        let mut rows = self.scan(table, scan)?;
        rows.reversed = false;
        rows.next().transpose()
    }

    /// The row with the greatest key that `scan` visits, whichever its direction.
    fn last<K: Key, V: Record>(
        &self,
        table: &Table<K, V>,
        scan: Scan<K>,
    ) -> Result<Option<(K, V)>, StorageError> {
        let mut rows = self.scan(table, scan)?;
        rows.reversed = true;
        rows.next().transpose()
    }
}

/// The rows of a scan, whose values are what `decode` makes of key and bytes.
fn rows<'a, S: source::Source + ?Sized, K: Key, V>(
    source: &'a S,
    table: &'static str,
    scan: &Scan<K>,
    decode: Decode<V>,
) -> Result<Rows<'a, K, V>, StorageError> {
    let (rows, left) = match scan.bounds() {
        None => (None, Left::default()),
        Some((lower, upper)) => {
            let end = upper.map_or(Bound::Unbounded, Bound::Excluded);
            let left =
                Left { lower: lower.to_vec(), upper: upper.map(<[u8]>::to_vec), open: false };
            (source.range(table, (Bound::Included(lower), end))?, left)
        }
    };
    Ok(Rows { table, rows, left, reversed: scan.is_reversed(), decode, keys: PhantomData })
}

type Decode<V> = fn(&[u8], &[u8]) -> Result<V, InvalidValue>;

/// The rows of a [`Readable::scan`].
pub struct Rows<'a, K, V> {
    table: &'static str,
    rows: Option<redb::Range<'a, Bytes, Bytes>>,
    left: Left,
    reversed: bool,
    decode: Decode<V>,
    keys: PhantomData<fn() -> K>,
}

/// The keys that may still come. A damaged page can lead anywhere, to another tenant's rows too,
/// whose checksums are in order, or back to where the scan has been.
#[derive(Default)]
struct Left {
    lower: Vec<u8>,
    upper: Option<Vec<u8>>,
    /// `lower` itself is not among them.
    open: bool,
}

impl Left {
    /// Narrows the keys to those after (or, reversed, before) `key`; false if it is none of them.
    fn pass(&mut self, key: &[u8], reversed: bool) -> bool {
        let lower = self.lower.as_slice();
        let high_enough = key > lower || (key == lower && !self.open);
        let low_enough = self.upper.as_deref().is_none_or(|upper| key < upper);
        if !(high_enough && low_enough) {
            return false;
        }
        let bound = if reversed {
            self.upper.get_or_insert_default()
        } else {
            self.open = true;
            &mut self.lower
        };
        bound.clear();
        bound.extend_from_slice(key);
        true
    }
}

impl<K: Key, V> Iterator for Rows<'_, K, V> {
    type Item = Result<(K, V), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (table, reversed, decode) = (self.table, self.reversed, self.decode);
        let rows = self.rows.as_mut()?;
        let left = &mut self.left;
        let step = guarded(table, || {
            let row = if reversed { rows.next_back() } else { rows.next() };
            row.transpose()
        });
        let (key, value) = match step {
            Ok(row) => row?,
            Err(error) => {
                self.rows = None;
                return Some(Err(error));
            }
        };
        let row = caught(table, || {
            let key = key.value();
            let row = left.pass(key, reversed).then(|| {
                let corrupt = |error| StorageError::corrupt(table, error);
                let value = decode(key, value.value()).map_err(corrupt)?;
                let key = keys::from_bytes(key);
                let key = key.map_err(|error| StorageError::corrupt(table, error))?;
                Ok((key, value))
            });
            row.ok_or_else(|| StorageError::corrupt(table, "rows are out of order"))
        });
        match row {
            Ok(Ok(row)) => Some(row),
            Ok(Err(error)) | Err(error) => {
                self.rows = None;
                Some(Err(error))
            }
        }
    }
}

/// The rows of a [`ReadTx::rows`]: key and value.
pub(crate) struct RawRows<'a> {
    table: &'static str,
    rows: Option<redb::Range<'a, Bytes, Bytes>>,
    left: Left,
}

impl Iterator for RawRows<'_> {
    type Item = Result<(Vec<u8>, Vec<u8>), StorageError>;

    fn next(&mut self) -> Option<Self::Item> {
        let table = self.table;
        let rows = self.rows.as_mut()?;
        let left = &mut self.left;
        let step = guarded(table, || rows.next().transpose()).and_then(|row| {
            let Some((key, value)) = row else { return Ok(None) };
            let row = caught(table, || (key.value().to_vec(), value.value().to_vec()))?;
            if left.pass(&row.0, false) {
                Ok(Some(row))
            } else {
                Err(StorageError::corrupt(table, "rows are out of order"))
            }
        });
        if !matches!(step, Ok(Some(_))) {
            self.rows = None;
        }
        step.transpose()
    }
}

/// A snapshot of the store: what was committed when it was taken, whatever is written since.
///
/// Taking one is cheap. Holding one keeps replaced pages from being reused, so it should not
/// outlive the request or batch it serves. Its methods block on the disk.
pub struct ReadTx {
    opened: Opened<redb::ReadOnlyTable<Bytes, Bytes>>,
    transaction: redb::ReadTransaction,
    /// Counts it among the open ones.
    _reader: Option<Reader>,
}

impl ReadTx {
    pub(crate) fn new(transaction: redb::ReadTransaction) -> ReadTx {
        ReadTx { opened: Opened::default(), transaction, _reader: None }
    }

    /// With what counts it among the open ones.
    pub(crate) fn counted(self, reader: Reader) -> ReadTx {
        ReadTx { _reader: Some(reader), ..self }
    }

    /// The rows of a table as they are stored, upwards; none if nothing was ever written to it.
    /// They are not checked: see [`TableInfo::check`]. Ends after an error: what follows a page that
    /// cannot be read is not reached this way.
    ///
    /// # Errors
    ///
    /// As for every read.
    pub(crate) fn rows(&self, table: &TableInfo) -> Result<RawRows<'_>, StorageError> {
        self.rows_after(table, None)
    }

    /// [`ReadTx::rows`] from the key after `after` on.
    ///
    /// # Errors
    ///
    /// As for every read.
    pub(crate) fn rows_after(
        &self,
        table: &TableInfo,
        after: Option<&[u8]>,
    ) -> Result<RawRows<'_>, StorageError> {
        let lower = after.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = source::Source::range(self, table.name, (lower, Bound::Unbounded))?;
        let left =
            Left { lower: after.unwrap_or_default().to_vec(), upper: None, open: after.is_some() };
        Ok(RawRows { table: table.name, rows, left })
    }

    /// The tables that were ever written to, declared or not, and how many rows each has.
    ///
    /// # Errors
    ///
    /// As for every read.
    pub(crate) fn tables(&self) -> Result<Vec<(String, u64)>, StorageError> {
        guarded(WHOLE, || {
            let mut found = Vec::new();
            for handle in self.transaction.list_tables()? {
                let name = handle.name().to_owned();
                let rows = self.transaction.open_untyped_table(handle)?.len()?;
                found.push((name, rows));
            }
            Ok::<_, redb::Error>(found)
        })
    }

    /// How many rows a table has, by the count that is kept with it.
    ///
    /// # Errors
    ///
    /// As for every read.
    pub(crate) fn len(&self, table: &TableInfo) -> Result<u64, StorageError> {
        match self.table(table.name)? {
            Some(opened) => guarded(table.name, || opened.len()),
            None => Ok(0),
        }
    }

    fn table(
        &self,
        name: &'static str,
    ) -> Result<Option<&redb::ReadOnlyTable<Bytes, Bytes>>, StorageError> {
        self.opened.get_or_open(name, || {
            guarded(name, || match self.transaction.open_table(definition(name)) {
                Ok(table) => Ok(Some(table)),
                Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
                Err(error) => Err(error),
            })
        })
    }
}

impl source::Source for ReadTx {
    fn value(
        &self,
        table: &'static str,
        key: &[u8],
    ) -> Result<Option<AccessGuard<'_, Bytes>>, StorageError> {
        match self.table(table)? {
            Some(opened) => guarded(table, || opened.get(key)),
            None => Ok(None),
        }
    }

    fn range(
        &self,
        table: &'static str,
        range: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Result<Option<redb::Range<'_, Bytes, Bytes>>, StorageError> {
        match self.table(table)? {
            Some(opened) => {
                guarded(table, || ReadableTable::range::<&[u8]>(opened, range)).map(Some)
            }
            None => Ok(None),
        }
    }
}

impl Readable for ReadTx {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_out_of_order_or_bounds_do_not_pass() {
        let left = || Left { lower: b"b".to_vec(), upper: Some(b"f".to_vec()), open: false };
        let mut up = left();
        assert!(!up.pass(b"a", false) && !up.pass(b"f", false));
        assert!(up.pass(b"b", false) && !up.pass(b"b", false));
        assert!(up.pass(b"d", false) && !up.pass(b"c", false) && up.pass(b"e", false));
        let mut down = left();
        assert!(down.pass(b"e", true) && !down.pass(b"e", true));
        assert!(down.pass(b"c", true) && !down.pass(b"d", true));
        assert!(down.pass(b"b", true) && !down.pass(b"b", true) && !down.pass(b"a", true));
    }

    #[test]
    fn panics_below_are_errors() {
        let result = guarded("t", || -> Result<(), redb::StorageError> { panic!("torn page") });
        let error = result.unwrap_err();
        assert!(
            matches!(&error, StorageError::Corrupt { table: "t", reason } if reason == "torn page")
        );
    }
}
