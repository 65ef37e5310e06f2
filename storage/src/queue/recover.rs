//! The start of the process, when nobody can hold a lease.

use super::books;
use super::dead::bury_item;
use super::record::{ITEMS, LEASED, LeasedItem};
use super::{DeadReason, QueueDef, State};
use crate::error::StorageError;
use crate::ids::{JobId, TenantId};
use crate::read::Readable;
use crate::table::Scan;
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// Ends of the process, with the item leased, that make it dead: it may be what ends it.
pub const CRASHES_MAX: u32 = 20;

/// The error of items that were leased at [`CRASHES_MAX`] ends of the process.
pub const CRASH_LOOP: &str = "crash_loop";

/// An item that was leased when the process ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// The item's name.
    pub id: JobId,
    /// Whose work it is.
    pub tenant: TenantId,
    /// What it is about.
    pub key: Option<String>,
    /// It was given up, with [`CRASH_LOOP`] as its error. Otherwise it is ready again.
    pub dead: bool,
}

/// Voids every lease; to be called once, before the first [`lease`](super::lease). Items go back
/// to their places, their attempts uncounted, and are leased before all others, one at a time: any
/// of them may be what ended the process. One that was leased at [`CRASHES_MAX`] such ends is
/// dead. Returns what was leased.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn recover(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    now: UnixMicros,
) -> Result<Vec<Recovered>, StorageError> {
    books::with(tx, def, |books| {
        let rows = books.tx.scan(&LEASED, Scan::prefix(&(books.queue(),)))?;
        let rows = rows.collect::<Result<Vec<_>, StorageError>>()?;
        books.state.alone = None;
        let mut recovered = Vec::new();
        for (row, lease) in rows {
            books.tx.remove(&LEASED, &row)?;
            for LeasedItem { order, tenant } in lease.items {
                let at = books.row(&tenant, order);
                let Some(mut item) = books.tx.take(&ITEMS, &at)? else {
                    continue;
                };
                let successor = books.successor(&tenant, item.key.as_deref())?;
                item.crashes = item.crashes.saturating_add(1);
                let dead = successor.is_none() && item.crashes >= CRASHES_MAX;
                let (id, key) = (item.id, item.key.clone());
                recovered.push(Recovered { id, tenant: tenant.clone(), key, dead });
                if let Some(successor) = successor {
                    books.succeed(&tenant, item, successor)?;
                } else if dead {
                    item.error = Some(CRASH_LOOP.to_owned());
                    let reason = DeadReason::CrashLoop;
                    bury_item(books, tenant, order, item, State::Leased, reason, now)?;
                } else {
                    books.tx.put(&ITEMS, &at, &item)?;
                    books.suspect(&tenant, order)?;
                    books.count(&tenant, Some(State::Leased), Some(State::Ready), 1)?;
                }
            }
        }
        if !recovered.is_empty() {
            books.wake();
        }
        Ok(recovered)
    })
}
