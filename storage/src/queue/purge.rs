//! Throwing away what waits.

use super::books::{self, Books};
use super::look::SHELVES;
use super::record::{ItemRecord, Shelf, Waits};
use super::{CameAt, QueueDef, State};
use crate::error::StorageError;
use crate::ids::TenantId;
use crate::read::Readable;
use crate::table::Scan;
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// Which waiting items go. The default is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purge {
    /// Only those enqueued before this instant, and not renewed since.
    pub enqueued_before: Option<UnixMicros>,
    /// But not the newest so many.
    pub keep_newest: u64,
}

/// What a purge did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Purged {
    /// Items removed.
    pub purged: u64,
    /// What the removed ones were about, in their order; those without a key are left out.
    pub keys: Vec<String>,
    /// Items of the tenant that still wait.
    pub remaining: u64,
}

/// An item that waits.
struct Waiting {
    order: u64,
    state: State,
    /// Nothing if it is to stay.
    item: Option<ItemRecord>,
}

/// Removes waiting items of a tenant - ready, delayed and held ones, never leased ones - oldest
/// first and at most `limit`, so that a large purge can be cut into several changes. It is done
/// when a call removes fewer than `limit`. What the payload says by `came_at` counts for the age of
/// an item as well.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn purge(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    tenant: &TenantId,
    (purge, came_at): (Purge, CameAt),
    limit: usize,
) -> Result<Purged, StorageError> {
    books::with(tx, def, |books| {
        let Purge { enqueued_before, keep_newest } = purge;
        let depths = books.tenant(tenant)?.depths;
        let waiting = depths.ready + depths.delayed + depths.held;
        let most = usize::try_from(waiting.saturating_sub(keep_newest)).unwrap_or(usize::MAX);
        let goes = |item: &ItemRecord| {
            enqueued_before.is_none_or(|before| item.renewed_at(came_at) < before)
        };
        let mut found = Vec::new();
        for shelf in SHELVES {
            found.extend(waiting_on(books, tenant, shelf, goes, (most, limit))?);
        }
        found.sort_by_key(|waiting| waiting.order);
        found.truncate(most);
        found.retain(|waiting| waiting.item.is_some());
        found.truncate(limit);
        let (mut purged, mut keys) = (0, Vec::new());
        for Waiting { order, state, item } in found {
            let Some(item) = item else { continue };
            books.take_out(tenant, order, &item)?;
            books.free_key(tenant, item.key.as_deref())?;
            books.count(tenant, Some(state), None, 1)?;
            purged += 1;
            keys.extend(item.key);
        }
        Ok(Purged { purged, keys, remaining: waiting - purged })
    })
}

/// The first `most` waiting items of a shelf, no further than the first `limit` of them that go.
fn waiting_on(
    books: &mut Books<'_, '_>,
    tenant: &TenantId,
    shelf: &'static Shelf,
    goes: impl Fn(&ItemRecord) -> bool,
    (most, limit): (usize, usize),
) -> Result<Vec<Waiting>, StorageError> {
    let head = books.tenant_head(tenant)?;
    let (mut found, mut going) = (Vec::new(), 0);
    for row in books.tx.scan(shelf, Scan::prefix(&(tenant.clone(), books.queue())))? {
        if found.len() == most || going == limit {
            break;
        }
        let ((_, _, order), item) = row?;
        let state = match item.waits {
            Waits::Until(_) => State::Delayed,
            Waits::Held(_) => State::Held,
            Waits::Nothing => {
                if !books::is_ready(books.tx, books.def, head, tenant, order)? {
                    continue;
                }
                State::Ready
            }
        };
        let item = Some(item).filter(|item| goes(item));
        going += usize::from(item.is_some());
        found.push(Waiting { order, state, item });
    }
    Ok(found)
}
