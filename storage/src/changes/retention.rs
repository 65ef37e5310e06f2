//! How long entries stay in the log.

use super::{CHANGES, consumers};
use crate::error::StorageError;
use crate::ids::Seq;
use crate::read::Readable;
use crate::table::Scan;
use crate::write::WriteTx;

/// Most entries removed by one call of [`trim`], so that it does not hold up other changes.
pub const TRIM_MAX: usize = 10_000;

/// What the log keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// The newest entries that stay even when every consumer has done with them, for followers that
    /// come and go and keep their position themselves. At least 1 stays: it is what the next number
    /// is counted from.
    pub keep_min: u64,
    /// Entries beyond which even those go that a consumer has not seen: it starts over from the
    /// rows, and one that never comes back does not fill the disk.
    pub keep_max: u64,
}

impl Default for Retention {
    /// 10,000 entries at least, 10,000,000 (about half a gigabyte) at most.
    fn default() -> Retention {
        Retention { keep_min: 10_000, keep_max: 10_000_000 }
    }
}

/// Removes the oldest entries that need not be kept, at most [`TRIM_MAX`] of them, and returns how
/// many there were.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn trim(tx: &mut WriteTx<'_>, retention: Retention) -> Result<usize, StorageError> {
    let newest = tx.seq().get();
    let behind = consumers(tx)?.into_iter().map(|consumer| consumer.seq.get()).min();
    let wanted = newest.saturating_sub(retention.keep_min.max(1));
    let forced = newest.saturating_sub(retention.keep_max.max(1));
    let up_to = behind.unwrap_or(newest).min(wanted).max(forced);
    let rows = tx.scan(&CHANGES, Scan::all().through(&Seq(up_to)))?;
    let gone: Vec<(Seq,)> =
        rows.take(TRIM_MAX).map(|row| row.map(|(key, _)| key)).collect::<Result<_, _>>()?;
    for key in &gone {
        tx.remove(&CHANGES, key)?;
    }
    Ok(gone.len())
}
