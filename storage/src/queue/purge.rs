//! Throwing away what waits.

use super::books;
use super::look::SHELVES;
use super::record::{ItemRecord, Waits};
use super::{QueueDef, State};
use crate::error::StorageError;
use crate::ids::TenantId;
use crate::read::Readable;
use crate::table::Scan;
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// Which waiting items go. The default is all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purge {
    /// Only those enqueued before this instant.
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

/// Removes waiting items of a tenant - ready, delayed and held ones, never leased ones - oldest
/// first and at most `limit`, so that a large purge can be cut into several changes. It is done
/// when a call removes fewer than `limit`.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn purge(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    tenant: &TenantId,
    purge: Purge,
    limit: usize,
) -> Result<Purged, StorageError> {
    books::with(tx, def, |books| {
        let Purge { enqueued_before, keep_newest } = purge;
        let depths = books.tenant(tenant)?.depths;
        let waiting = depths.ready + depths.delayed + depths.held;
        let most = waiting.saturating_sub(keep_newest).min(limit as u64);
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let mut found: Vec<(u64, ItemRecord, State)> = Vec::new();
        let mine = (tenant.clone(), books.queue());
        let head = books.tenant_head(tenant)?;
        for shelf in SHELVES {
            let mut n = 0;
            for row in books.tx.scan(shelf, Scan::prefix(&mine))? {
                if n == most {
                    break;
                }
                let ((_, _, order), item) = row?;
                let state = match item.waits {
                    Waits::Until(_) => State::Delayed,
                    Waits::Held(_) => State::Held,
                    Waits::Nothing => {
                        if !books::is_ready(books.tx, def, head, tenant, order)? {
                            continue;
                        }
                        State::Ready
                    }
                };
                found.push((order, item, state));
                n += 1;
            }
        }
        found.sort_by_key(|(order, ..)| *order);
        found.truncate(most);
        found.retain(|(_, item, _)| enqueued_before.is_none_or(|at| item.enqueued_at < at));
        for (order, item, state) in &found {
            books.take_out(tenant, *order, item)?;
            books.free_key(tenant, item.key.as_deref())?;
            books.count(tenant, Some(*state), None, 1)?;
        }
        let purged = found.len() as u64;
        let keys = found.into_iter().filter_map(|(_, item, _)| item.key).collect();
        Ok(Purged { purged, keys, remaining: waiting - purged })
    })
}
