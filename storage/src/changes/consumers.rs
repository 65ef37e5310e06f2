//! Who follows the log, and how far each came.

use serde::{Deserialize, Serialize};

use crate::codec::Record;
use crate::error::StorageError;
use crate::ids::Seq;
use crate::read::Readable;
use crate::table::{Scan, Table};
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// (consumer) -> how far it came. All of them, in order of their names.
///
/// Not tenant-owned: a consumer follows the whole log.
pub(super) const CONSUMERS: Table<(String,), ConsumerRecord> = Table::new("changes.consumers");

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct ConsumerRecord {
    seq: Seq,
    at: UnixMicros,
}

impl Record for ConsumerRecord {
    const FORMAT: u8 = 1;
}

/// A follower of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Consumer {
    /// Its name.
    pub name: String,
    /// The last entry it has done with for good.
    pub seq: Seq,
    /// When it said so.
    pub at: UnixMicros,
}

/// Says that `consumer` has done with the log up to and including `seq`, and makes it known if it
/// was not. From then on the log keeps what comes after, within the bounds of
/// [`Retention`](super::Retention). A consumer does not go back.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn checkpoint(
    tx: &mut WriteTx<'_>,
    consumer: &str,
    seq: Seq,
    now: UnixMicros,
) -> Result<(), StorageError> {
    let key = (consumer.to_owned(),);
    let before = tx.get(&CONSUMERS, &key)?;
    if before.is_some_and(|before| before.seq >= seq) {
        return Ok(());
    }
    tx.put(&CONSUMERS, &key, &ConsumerRecord { seq, at: now })
}

/// Forgets a consumer, so that nothing is kept for it; false if there was none.
///
/// # Errors
///
/// A fault of the disk.
pub fn retire(tx: &mut WriteTx<'_>, consumer: &str) -> Result<bool, StorageError> {
    tx.remove(&CONSUMERS, &(consumer.to_owned(),))
}

/// Every consumer, by name.
///
/// # Errors
///
/// As for every read.
pub fn consumers(tx: &(impl Readable + ?Sized)) -> Result<Vec<Consumer>, StorageError> {
    let rows = tx.scan(&CONSUMERS, Scan::all())?;
    rows.map(|row| row.map(|((name,), ConsumerRecord { seq, at })| Consumer { name, seq, at }))
        .collect()
}
