//! Bringing a store of an older format to the present one, step by step.
//!
//! A step is one transaction: power lost in the middle of it leaves the store as it was before. It
//! is recorded with a checksum of what it says it does, so that a store that another program
//! brought to the same number in another way is not taken for ours.

mod copy;
mod step_0002;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::codec::Record;
use crate::error::{StorageError, WHOLE};
use crate::ids::Seq;
use crate::open;
use crate::read::{Bytes, ReadTx, Readable, guarded};
use crate::table::{Scan, Table, TableInfo};
use crate::time::UnixMicros;
use crate::write::WriteTx;

pub(crate) use copy::keep_copy;

/// (format) -> the step that led to it. All of them, in order.
const DONE: Table<(u64,), StepRecord> = Table::new("meta.steps").two_phase();

pub(crate) const TABLES: &[TableInfo] = &[TableInfo::of(&DONE)];

/// The steps there are, one for each format after the first.
const STEPS: &[Step] = &[step_0002::STEP];

/// The oldest format that can be brought to the present one.
const OLDEST: u64 = 1;

/// Leads from the format before to this one.
struct Step {
    format: u64,
    name: &'static str,
    /// The tables it reads, writes and removes, with the formats of their records. Never changes
    /// once a version with the step is out.
    declaration: &'static str,
    run: fn(&Old<'_>, &mut WriteTx<'_>) -> Result<(), StorageError>,
}

impl Step {
    fn checksum(&self) -> [u8; 32] {
        let mut sum = Sha256::new();
        sum.update(self.format.to_be_bytes());
        sum.update(self.name.as_bytes());
        sum.update([0]);
        sum.update(self.declaration.as_bytes());
        sum.finalize().into()
    }
}

/// A step that was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct StepRecord {
    name: String,
    checksum: [u8; 32],
    at: UnixMicros,
}

impl Record for StepRecord {
    const FORMAT: u8 = 1;
}

/// Tables of former formats, which no other code knows.
struct Old<'t>(&'t redb::WriteTransaction);

impl Old<'_> {
    /// Shows every row of a table to `look`.
    fn each(
        &self,
        name: &'static str,
        mut look: impl FnMut(&[u8], &[u8]) -> Result<(), StorageError>,
    ) -> Result<(), StorageError> {
        let definition = redb::TableDefinition::<Bytes, Bytes>::new(name);
        let table = guarded(name, || self.0.open_table(definition))?;
        let mut rows = guarded(name, || redb::ReadableTable::iter(&table))?;
        while let Some((key, value)) = guarded(name, || rows.next().transpose())? {
            look(key.value(), value.value())?;
        }
        Ok(())
    }

    fn remove(&self, name: &'static str) -> Result<(), StorageError> {
        let definition = redb::TableDefinition::<Bytes, Bytes>::new(name);
        guarded(name, || self.0.delete_table(definition)).map(drop)
    }
}

/// Whether a store of this format can be brought to the present one.
pub(crate) fn is_old(format: u64) -> bool {
    (OLDEST..open::FORMAT).contains(&format)
}

/// Brings the store from `format` to the present one.
pub(crate) fn run(
    database: &redb::Database,
    format: u64,
    now: UnixMicros,
) -> Result<(), StorageError> {
    for step in STEPS.iter().filter(|step| step.format > format) {
        take(database, step, now)?;
        tracing::info!("brought the store to format {}: {}", step.format, step.name);
    }
    Ok(())
}

fn take(database: &redb::Database, step: &Step, now: UnixMicros) -> Result<(), StorageError> {
    let mut transaction = guarded(WHOLE, || database.begin_write())?;
    transaction.set_two_phase_commit(true);
    {
        let mut tx = WriteTx::new(&transaction, Seq(0));
        (step.run)(&Old(&transaction), &mut tx)?;
        let name = step.name.to_owned();
        let record = StepRecord { name, checksum: step.checksum(), at: now };
        tx.put(&DONE, &(step.format,), &record)?;
        open::note_format(&mut tx, step.format)?;
        tx.keep();
        tx.finish()?;
    }
    guarded(WHOLE, || transaction.commit())
}

/// The format to which another program brought the store in a way of its own, if one did.
pub(crate) fn foreign(snapshot: &ReadTx) -> Result<Option<(u64, String)>, StorageError> {
    for row in snapshot.scan(&DONE, Scan::all())? {
        let ((format,), done) = row?;
        let ours = STEPS.iter().find(|step| step.format == format);
        if ours.is_none_or(|step| step.checksum() != done.checksum) {
            return Ok(Some((format, done.name)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests;
