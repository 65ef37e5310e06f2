//! What keeps items from being worked on: holding a tenant's, pausing the queue.

use super::books;
use super::record::{FRONT, HELD, ITEMS, SUSPECTS, Waits, shortened};
use super::{QueueDef, State};
use crate::error::StorageError;
use crate::ids::TenantId;
use crate::read::Readable;
use crate::table::Scan;
use crate::write::WriteTx;

/// Puts up to `limit` ready items of a tenant aside, oldest first, with the reason why they cannot
/// be worked on. Returns how many.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn hold_ready(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    tenant: &TenantId,
    reason: &str,
    limit: usize,
) -> Result<usize, StorageError> {
    books::with(tx, def, |books| {
        let mine = (tenant.clone(), books.queue());
        let listed = books.tx.scan(&FRONT, Scan::prefix(&mine))?;
        let listed = listed.map(|row| Ok(row?.0.2)).take(limit);
        let mut orders = listed.collect::<Result<Vec<u64>, StorageError>>()?;
        let suspects = books.tx.scan(&SUSPECTS, Scan::prefix(&(books.queue(),)))?;
        for row in suspects {
            let ((_, order), owner) = row?;
            if owner.tenant == *tenant {
                orders.push(order);
            }
        }
        orders.sort_unstable();
        let head = books.tenant_head(tenant)?;
        let from = Scan::prefix(&mine).from(&books.row(tenant, head));
        let rest = limit.saturating_sub(orders.len());
        for row in books.tx.scan(&ITEMS, from)?.take(rest) {
            orders.push(row?.0.2);
        }
        orders.truncate(limit);
        for &order in &orders {
            let Some(mut item) = books.tx.get(&ITEMS, &books.row(tenant, order))? else {
                return Err(StorageError::corrupt(ITEMS.name(), "a ready item is not there"));
            };
            books.take_out(tenant, order, &item)?;
            item.waits = Waits::Held(shortened(reason));
            books.put_in(tenant, order, &item)?;
        }
        books.count(tenant, Some(State::Ready), Some(State::Held), orders.len() as u64)?;
        Ok(orders.len())
    })
}

/// Makes up to `limit` held items of a tenant ready again, oldest first and in their old places.
/// Returns how many.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn release_held(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    tenant: &TenantId,
    limit: usize,
) -> Result<usize, StorageError> {
    books::with(tx, def, |books| {
        let mine = (tenant.clone(), books.queue());
        let rows = books.tx.scan(&HELD, Scan::prefix(&mine))?.take(limit);
        let rows = rows.collect::<Result<Vec<_>, StorageError>>()?;
        let n = rows.len();
        for (row, mut item) in rows {
            books.tx.remove(&HELD, &row)?;
            item.waits = Waits::Nothing;
            if item.crashes == 0 {
                books.put_in(tenant, row.2, &item)?;
            } else {
                books.tx.put(&ITEMS, &row, &item)?;
                books.suspect(tenant, row.2)?;
            }
        }
        if n > 0 {
            books.count(tenant, Some(State::Held), Some(State::Ready), n as u64)?;
            books.wake();
        }
        Ok(n)
    })
}

/// From here on nothing is leased, until [`resume`]. What is leased already may be settled, and
/// everything may be enqueued. Outlives the process. False if the queue was paused already.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn pause(tx: &mut WriteTx<'_>, def: &QueueDef) -> Result<bool, StorageError> {
    books::with(tx, def, |books| Ok(!std::mem::replace(&mut books.state.paused, true)))
}

/// Ends a [`pause`]; false if there was none.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn resume(tx: &mut WriteTx<'_>, def: &QueueDef) -> Result<bool, StorageError> {
    books::with(tx, def, |books| {
        let paused = std::mem::replace(&mut books.state.paused, false);
        if paused {
            books.wake();
        }
        Ok(paused)
    })
}
