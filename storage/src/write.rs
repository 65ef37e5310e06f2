//! Writing: what a change sees of the store and does to it.

use std::ops::Bound;

use redb::{AccessGuard, ReadableTable};

use crate::changes::{self, Change};
use crate::codec::{self, Record};
use crate::error::StorageError;
use crate::ids::Seq;
use crate::keys::{self, Key};
use crate::opened::Opened;
use crate::read::{Bytes, Readable, definition, guarded, source};
use crate::table::Table;

/// A write in progress, handed to the change that [`Store::write`](crate::Store::write) runs.
///
/// A change is all or nothing: if it returns an error or panics, what it wrote is undone, and the
/// changes that share its commit are not affected. It sees what earlier changes of the same commit
/// wrote. What is undone is remembered in memory until the change returns, so a change over very
/// many rows is better cut into several.
pub struct WriteTx<'t> {
    /// Dropped, and thereby written back, before the transaction commits.
    opened: Opened<redb::Table<'t, Bytes, Bytes>>,
    transaction: &'t redb::WriteTransaction,
    /// The newest number in the change log.
    seq: Seq,
    /// Rows replaced since the present change began, oldest first.
    undo: Vec<Replaced>,
    /// Rows written by changes that were kept.
    kept: u64,
    /// Queues that have new work once this commits.
    wake: Vec<&'static str>,
    /// A table was touched whose commits are made in two phases.
    two_phase: bool,
    before: Mark,
    /// The layer below failed; nothing of this transaction may be committed.
    fault: Option<StorageError>,
}

/// A row as it was: without a value, it was not there.
struct Replaced {
    table: &'static str,
    key: Vec<u8>,
    value: Option<Vec<u8>>,
}

/// Where the present change began.
#[derive(Default)]
struct Mark {
    seq: Seq,
    wake: usize,
}

/// What the changes of one transaction amount to.
pub(crate) struct Written {
    /// Rows written or removed.
    pub(crate) rows: u64,
    pub(crate) seq: Seq,
    pub(crate) wake: Vec<&'static str>,
    pub(crate) two_phase: bool,
}

impl<'t> WriteTx<'t> {
    /// `seq` is the newest number in the change log.
    pub(crate) fn new(transaction: &'t redb::WriteTransaction, seq: Seq) -> WriteTx<'t> {
        WriteTx {
            opened: Opened::default(),
            transaction,
            seq,
            undo: Vec::new(),
            kept: 0,
            wake: Vec::new(),
            two_phase: false,
            before: Mark { seq, wake: 0 },
            fault: None,
        }
    }

    /// Writes `value` under `key`, in place of what was there.
    ///
    /// # Errors
    ///
    /// [`StorageError::TooLarge`], with nothing written, or a fault of the disk.
    pub fn put<K: Key, V: Record>(
        &mut self,
        table: &Table<K, V>,
        key: &K,
        value: &V,
    ) -> Result<(), StorageError> {
        let key = keys::to_bytes(key);
        let value = table.encode(&key, value)?;
        self.two_phase |= table.is_two_phase();
        let old = self.insert(table.name(), &key, &value)?;
        self.undo.push(Replaced { table: table.name(), key, value: old });
        Ok(())
    }

    /// Removes the row under `key`; false if there was none.
    ///
    /// # Errors
    ///
    /// A fault of the disk.
    pub fn remove<K: Key, V: Record>(
        &mut self,
        table: &Table<K, V>,
        key: &K,
    ) -> Result<bool, StorageError> {
        let key = keys::to_bytes(key);
        self.two_phase |= table.is_two_phase();
        let Some(old) = self.delete(table.name(), &key)? else {
            return Ok(false);
        };
        self.undo.push(Replaced { table: table.name(), key, value: Some(old) });
        Ok(true)
    }

    /// Removes the row under `key` and returns what it held.
    ///
    /// # Errors
    ///
    /// [`StorageError::Corrupt`], with the row left where it is, or a fault of the disk.
    pub fn take<K: Key, V: Record>(
        &mut self,
        table: &Table<K, V>,
        key: &K,
    ) -> Result<Option<V>, StorageError> {
        let key = keys::to_bytes(key);
        self.two_phase |= table.is_two_phase();
        let Some(old) = self.delete(table.name(), &key)? else {
            return Ok(None);
        };
        match codec::decode(&key, &old) {
            Ok(value) => {
                self.undo.push(Replaced { table: table.name(), key, value: Some(old) });
                Ok(Some(value))
            }
            Err(error) => {
                self.insert(table.name(), &key, &old)?;
                Err(StorageError::corrupt(table.name(), error))
            }
        }
    }

    /// Writes or removes a row as it is stored.
    pub(crate) fn put_raw(
        &mut self,
        table: &'static str,
        key: &[u8],
        value: Option<&[u8]>,
    ) -> Result<(), StorageError> {
        let old = match value {
            Some(value) => self.insert(table, key, value)?,
            None => self.delete(table, key)?,
        };
        self.undo.push(Replaced { table, key: key.to_vec(), value: old });
        Ok(())
    }

    /// Appends to the change log and returns the entry's number.
    ///
    /// # Errors
    ///
    /// A fault of the disk.
    pub fn log(&mut self, change: Change) -> Result<Seq, StorageError> {
        let seq = self.seq.next();
        self.put(&changes::CHANGES, &(seq,), &change)?;
        self.seq = seq;
        Ok(seq)
    }

    /// The newest number in the change log, this change's own entries included.
    #[must_use]
    pub fn seq(&self) -> Seq {
        self.seq
    }

    /// Tells whoever waits on `queue`, once this is committed, that there is work.
    pub(crate) fn wake(&mut self, queue: &'static str) {
        if !self.wake.contains(&queue) {
            self.wake.push(queue);
        }
    }

    /// Keeps what the present change wrote.
    pub(crate) fn keep(&mut self) {
        self.kept += self.undo.len() as u64;
        self.undo.clear();
        self.before = Mark { seq: self.seq, wake: self.wake.len() };
    }

    /// Undoes what the present change wrote.
    pub(crate) fn undo(&mut self) -> Result<(), StorageError> {
        while let Some(Replaced { table, key, value }) = self.undo.pop() {
            match value {
                Some(value) => self.insert(table, &key, &value).map(drop)?,
                None => self.delete(table, &key).map(drop)?,
            }
        }
        self.seq = self.before.seq;
        self.wake.truncate(self.before.wake);
        Ok(())
    }

    /// The fault that forbids committing, if there was one.
    pub(crate) fn fault(&self) -> Option<&StorageError> {
        self.fault.as_ref()
    }

    /// Closes the tables, so that the transaction can be committed.
    pub(crate) fn finish(self) -> Result<Written, StorageError> {
        match self.fault {
            Some(fault) => Err(fault),
            None => Ok(Written {
                rows: self.kept,
                seq: self.seq,
                wake: self.wake,
                two_phase: self.two_phase,
            }),
        }
    }

    fn insert(
        &mut self,
        table: &'static str,
        key: &[u8],
        value: &[u8],
    ) -> Result<Option<Vec<u8>>, StorageError> {
        self.change(table, |opened| {
            let old = opened.insert(key, value)?;
            Ok(old.map(|old| old.value().to_vec()))
        })
    }

    fn delete(&mut self, table: &'static str, key: &[u8]) -> Result<Option<Vec<u8>>, StorageError> {
        self.change(table, |opened| {
            let old = opened.remove(key)?;
            Ok(old.map(|old| old.value().to_vec()))
        })
    }

    /// Runs one modification. A failure in the middle of one leaves pages nobody can vouch for.
    fn change<T>(
        &mut self,
        table: &'static str,
        modify: impl FnOnce(&mut redb::Table<'t, Bytes, Bytes>) -> Result<T, redb::StorageError>,
    ) -> Result<T, StorageError> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone());
        }
        let result = self.table(table).map(drop).and_then(|()| {
            let opened = self.opened.get_mut(table);
            let opened = opened.ok_or_else(|| StorageError::corrupt(table, "is not open"))?;
            guarded(table, || modify(opened))
        });
        if let Err(error) = &result {
            self.fault = Some(error.clone());
        }
        result
    }

    fn table(&self, name: &'static str) -> Result<&redb::Table<'t, Bytes, Bytes>, StorageError> {
        let transaction = self.transaction;
        let opened = self.opened.get_or_open(name, || {
            guarded(name, || transaction.open_table(definition(name))).map(Some)
        })?;
        opened.ok_or_else(|| StorageError::corrupt(name, "cannot be opened"))
    }
}

impl source::Source for WriteTx<'_> {
    fn value(
        &self,
        table: &'static str,
        key: &[u8],
    ) -> Result<Option<AccessGuard<'_, Bytes>>, StorageError> {
        let opened = self.table(table)?;
        guarded(table, || opened.get(key))
    }

    fn range(
        &self,
        table: &'static str,
        range: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> Result<Option<redb::Range<'_, Bytes, Bytes>>, StorageError> {
        let opened = self.table(table)?;
        guarded(table, || opened.range::<&[u8]>(range)).map(Some)
    }
}

impl Readable for WriteTx<'_> {}
