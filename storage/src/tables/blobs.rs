//! Which blobs are in use, and how often.

use serde::{Deserialize, Serialize};

use crate::blob::{BlobId, Stored};
use crate::codec::Record;
use crate::error::StorageError;
use crate::read::Readable;
use crate::table::{Scan, Table, TableInfo};
use crate::write::WriteTx;

/// (blob) -> how often it is in use. One blob; all, to copy or check them. Without a row, the blob
/// is not in use and its file may go.
pub const BLOBS: Table<(BlobId,), BlobRecord> = Table::new("blobs");

pub(crate) const TABLES: &[TableInfo] = &[TableInfo::of(&BLOBS)];

/// A blob in use.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlobRecord {
    /// Rows that refer to it, at least 1.
    pub refs: u64,
    /// Its length, in bytes.
    pub size: u64,
}

impl Record for BlobRecord {
    const FORMAT: u8 = 1;
}

/// Counts one more row that refers to a blob, in the transaction that writes the row.
///
/// The change must own `stored` (a clone of it), which keeps the file until the reference is there.
///
/// # Errors
///
/// As for every write.
pub fn link(tx: &mut WriteTx<'_>, stored: &Stored) -> Result<(), StorageError> {
    let key = (stored.id(),);
    let refs = tx.get(&BLOBS, &key)?.map_or(0, |record| record.refs);
    tx.put(&BLOBS, &key, &BlobRecord { refs: refs + 1, size: stored.size() })
}

/// Counts one row less that refers to a blob, in the transaction that removes or changes the row,
/// and returns how many are left. The file of a blob nobody refers to goes with the next
/// [`gc`](crate::blob::Blobs::gc).
///
/// # Errors
///
/// [`StorageError::Corrupt`] if nobody was said to refer to it, or as for every write.
pub fn unlink(tx: &mut WriteTx<'_>, id: BlobId) -> Result<u64, StorageError> {
    let Some(BlobRecord { refs, size }) = tx.get(&BLOBS, &(id,))? else {
        let reason = format!("blob {id} is given up and was not in use");
        return Err(StorageError::corrupt(BLOBS.name(), reason));
    };
    let refs = refs.saturating_sub(1);
    if refs == 0 {
        tx.remove(&BLOBS, &(id,))?;
    } else {
        tx.put(&BLOBS, &(id,), &BlobRecord { refs, size })?;
    }
    Ok(refs)
}

/// The blobs in use, in order of their ids.
///
/// # Errors
///
/// As for every read.
pub fn in_use(
    tx: &impl Readable,
) -> Result<impl Iterator<Item = Result<(BlobId, BlobRecord), StorageError>>, StorageError> {
    let rows = tx.scan(&BLOBS, Scan::all())?;
    Ok(rows.map(|row| row.map(|((id,), record)| (id, record))))
}
