//! Filling a new store's file with rows as they are stored, as fast as the disk takes them.

use std::fs::{File, OpenOptions};
use std::path::Path;

use redb::{Database, Durability, TableDefinition};

use crate::error::{StorageError, WHOLE};
use crate::open;
use crate::read::{Bytes, guarded};
use crate::store::StoreOptions;

/// Rows of about this many bytes are written in one transaction.
const BATCH_BYTES: usize = 32 << 20;

/// Memory for pages that wait to be written.
const CACHE_BYTES: usize = 128 << 20;

/// Writes a store's file from rows that another store held: for a restore, a repair, a compaction.
///
/// Rows are neither checked nor encoded, and nothing is synced before [`finish`](Self::finish), so
/// the file is made under a temporary name and means nothing until then. Rows arrive fastest in
/// the order of their keys, table by table. At most 32 MiB of them are held in memory besides
/// 128 MiB of pages.
pub(crate) struct BulkLoader {
    database: Database,
    /// To sync it when everything is in.
    file: File,
    tables: Vec<String>,
    /// Keys and values, one after the other.
    bytes: Vec<u8>,
    rows: Vec<Row>,
    n_rows: u64,
}

/// Where a row that waits is in [`BulkLoader::bytes`]: after the row before it.
struct Row {
    /// Index into [`BulkLoader::tables`].
    table: usize,
    key: usize,
    value: usize,
}

impl BulkLoader {
    /// Makes the file `path`, which must not exist.
    ///
    /// # Errors
    ///
    /// [`StorageError::Unavailable`] if it cannot be made.
    pub(crate) fn create(path: &Path) -> Result<BulkLoader, StorageError> {
        let failed =
            |error| StorageError::unavailable(format!("cannot make {}: {error}", path.display()));
        let file =
            open::private(OpenOptions::new().read(true).write(true).create_new(true)).open(path);
        let file = file.map_err(failed)?;
        let synced = file.try_clone().map_err(failed)?;
        let options = StoreOptions { cache_bytes: CACHE_BYTES, ..StoreOptions::default() };
        let database = guarded(WHOLE, || open::builder(&options).create_file(file))?;
        Ok(BulkLoader {
            database,
            file: synced,
            tables: Vec::new(),
            bytes: Vec::with_capacity(BATCH_BYTES),
            rows: Vec::new(),
            n_rows: 0,
        })
    }

    /// Adds a row, in place of one with the same key.
    ///
    /// # Errors
    ///
    /// A fault of the disk. The file is of no use after one.
    pub(crate) fn insert(
        &mut self,
        table: &str,
        key: &[u8],
        value: &[u8],
    ) -> Result<(), StorageError> {
        let n_bytes = self.bytes.len() + key.len() + value.len();
        if !self.rows.is_empty() && n_bytes > BATCH_BYTES {
            self.write(Durability::None)?;
        }
        let table = self.number(table);
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.rows.push(Row { table, key: key.len(), value: value.len() });
        Ok(())
    }

    /// Writes and syncs what is left, closes the file, and returns how many rows went in.
    ///
    /// # Errors
    ///
    /// A fault of the disk. The file is of no use after one.
    pub(crate) fn finish(mut self) -> Result<u64, StorageError> {
        self.write(Durability::Immediate)?;
        let BulkLoader { database, file, n_rows, .. } = self;
        guarded(WHOLE, || {
            drop(database);
            Ok::<_, redb::StorageError>(())
        })?;
        file.sync_all().map_err(StorageError::unavailable)?;
        Ok(n_rows)
    }

    fn number(&mut self, table: &str) -> usize {
        // The table of the row before, nearly always.
        let known = self.tables.iter().rposition(|known| known == table);
        known.unwrap_or_else(|| {
            self.tables.push(table.to_owned());
            self.tables.len() - 1
        })
    }

    fn write(&mut self, durability: Durability) -> Result<(), StorageError> {
        guarded(WHOLE, || -> Result<(), redb::Error> {
            let mut transaction = self.database.begin_write()?;
            transaction.set_durability(durability)?;
            let mut rest = self.bytes.as_slice();
            for rows in self.rows.chunk_by(|one, other| one.table == other.table) {
                let name = &self.tables[rows[0].table];
                let definition = TableDefinition::<Bytes, Bytes>::new(name);
                let mut table = transaction.open_table(definition)?;
                for row in rows {
                    let (key, after) = rest.split_at(row.key);
                    let (value, after) = after.split_at(row.value);
                    rest = after;
                    table.insert(key, value)?;
                }
            }
            transaction.commit()?;
            Ok(())
        })?;
        self.n_rows += self.rows.len() as u64;
        self.bytes.clear();
        self.rows.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Seq, TenantId};
    use crate::read::Readable;
    use crate::store::testing;
    use crate::tables;
    use crate::tables::graph::{self, COUNTS, TENANTS, TenantRecord};
    use crate::time::UnixMicros;

    #[test]
    fn a_loaded_file_is_the_store_its_rows_came_from() {
        let from = tempfile::tempdir().unwrap();
        let store = testing::open(from.path());
        let acme = TenantId::new("acme").unwrap();
        let tenant = acme.clone();
        testing::write(&store, move |tx| {
            tx.put(&TENANTS, &(tenant.clone(),), &TenantRecord { created_at: UnixMicros(7) })?;
            graph::add_count(tx, &tenant, "nodes", 3)
        });
        let into = tempfile::tempdir().unwrap();
        let mut loader = BulkLoader::create(&into.path().join(open::STORE_FILE)).unwrap();
        let snapshot = store.read().unwrap();
        let mut n_rows = 0;
        for table in tables::all() {
            for row in snapshot.rows(table).unwrap() {
                let (key, value) = row.unwrap();
                loader.insert(table.name, &key, &value).unwrap();
                n_rows += 1;
            }
        }
        assert_eq!(loader.finish().unwrap(), n_rows);

        let copy = testing::open(into.path());
        assert_eq!(copy.last_seq(), Seq(0));
        let copy = copy.read().unwrap();
        assert_eq!(graph::count(&copy, &acme, "nodes").unwrap(), 3);
        assert!(copy.contains(&TENANTS, &(acme.clone(),)).unwrap());
        assert_eq!(copy.get(&COUNTS, &(acme, "edges".to_owned())).unwrap(), None);
    }

    #[test]
    fn batches_that_share_tables_are_one_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("new.redb");
        let mut loader = BulkLoader::create(&path).unwrap();
        // Three batches, with both tables in each.
        let value = vec![7; BATCH_BYTES / 10];
        for number in 0..24u32 {
            let table = if number % 2 == 0 { "even" } else { "odd" };
            loader.insert(table, &number.to_be_bytes(), &value).unwrap();
        }
        assert_eq!(loader.finish().unwrap(), 24);
        let database = Database::open(&path).unwrap();
        let tx = redb::ReadableDatabase::begin_read(&database).unwrap();
        for name in ["even", "odd"] {
            let table = tx.open_table(TableDefinition::<Bytes, Bytes>::new(name)).unwrap();
            assert_eq!(redb::ReadableTableMetadata::len(&table).unwrap(), 12);
        }
    }

    #[test]
    fn a_file_that_is_there_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("there");
        std::fs::write(&path, "mine").unwrap();
        let error = BulkLoader::create(&path).err().unwrap();
        assert!(matches!(&error, StorageError::Unavailable { reason } if reason.contains("there")));
        assert_eq!(std::fs::read(&path).unwrap(), b"mine");
    }
}
