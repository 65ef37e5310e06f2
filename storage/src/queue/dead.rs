//! Items that were given up: the dead letters of a queue.

use serde::{Deserialize, Serialize};

use super::books::{self, Books};
use super::record::{
    DeadRecord, DiedAt, ItemRecord, KeyRecord, LETTERS, LETTERS_OF, LIVE, QueueName, Waits,
};
use super::{End, QueueDef, State};
use crate::error::StorageError;
use crate::ids::{JobId, TenantId};
use crate::read::Readable;
use crate::table::Scan;
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// Most dead items removed for their age by one call of [`lease`](super::lease).
const EXPIRE_MAX: usize = 100;

/// Why an item was given up. Variants are stored by position: new ones go last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DeadReason {
    /// The work can never succeed.
    Permanent,
    /// Every attempt failed.
    Exhausted,
    /// The payload cannot be read.
    Parse,
    /// Nothing here does this kind of work.
    Unsupported,
    /// The process ended too often while the item was leased.
    CrashLoop,
    /// It cannot be told.
    Unknown,
}

impl DeadReason {
    /// Every reason.
    pub const ALL: [DeadReason; 6] = [
        DeadReason::Permanent,
        DeadReason::Exhausted,
        DeadReason::Parse,
        DeadReason::Unsupported,
        DeadReason::CrashLoop,
        DeadReason::Unknown,
    ];

    /// The reason as a word, in the form of `crash_loop`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            DeadReason::Permanent => "permanent",
            DeadReason::Exhausted => "exhausted",
            DeadReason::Parse => "parse",
            DeadReason::Unsupported => "unsupported",
            DeadReason::CrashLoop => "crash_loop",
            DeadReason::Unknown => "unknown",
        }
    }
}

/// An item that was given up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadJob {
    /// The item's name.
    pub id: JobId,
    /// Whose work it was.
    pub tenant: TenantId,
    /// What it was about.
    pub key: Option<String>,
    /// What there was to do.
    pub payload: Vec<u8>,
    /// Attempts made.
    pub attempts: u32,
    /// Why it was given up.
    pub reason: DeadReason,
    /// What the latest attempt said, or what ended it.
    pub error: String,
    /// When it was enqueued.
    pub enqueued_at: UnixMicros,
    /// When its first attempt failed, if one did.
    pub first_failed_at: Option<UnixMicros>,
    /// When it was given up.
    pub died_at: UnixMicros,
}

/// Which of the dead are meant: those that fit everything that is given. The default is all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DeadFilter {
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// Of this name.
    pub id: Option<JobId>,
    /// About this.
    pub key: Option<String>,
    /// For this reason.
    pub reason: Option<DeadReason>,
    /// Given up before this instant.
    pub died_before: Option<UnixMicros>,
}

/// What a replay did.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Items that are ready again.
    pub replayed: usize,
    /// Whose they are and what they are about, in their order; those without a key are left out.
    pub keys: Vec<(TenantId, String)>,
    /// Items that stay dead because a live one, which is newer, has their key.
    pub superseded: usize,
}

/// Where a dead item lies.
type Place = (UnixMicros, u64);

/// Up to `limit` dead items, in the order they died, or the other way round.
///
/// # Errors
///
/// As for every read.
pub fn dead(
    tx: &impl Readable,
    def: &QueueDef,
    filter: &DeadFilter,
    from: End,
    limit: usize,
) -> Result<Vec<DeadJob>, StorageError> {
    let found = meant(tx, def, filter, from, limit)?.into_iter();
    let found = found.map(|((died_at, _), DeadRecord { tenant, reason, item })| DeadJob {
        id: item.id,
        tenant,
        key: item.key,
        payload: item.payload,
        attempts: item.attempts,
        reason,
        error: item.error.unwrap_or_default(),
        enqueued_at: item.enqueued_at,
        first_failed_at: item.first_failed_at,
        died_at,
    });
    Ok(found.collect())
}

/// Makes up to `limit` dead items ready again, oldest first, behind all that wait and with all
/// their attempts before them.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn replay_dead(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    filter: &DeadFilter,
    limit: usize,
    now: UnixMicros,
) -> Result<Replayed, StorageError> {
    books::with(tx, def, |books| {
        let mut done = Replayed::default();
        for (place, DeadRecord { tenant, reason: _, mut item }) in
            meant(books.tx, def, filter, End::Oldest, usize::MAX)?
        {
            if done.replayed == limit {
                break;
            }
            let row = item.key.as_deref().map(|key| books.key_row(&tenant, key));
            if let Some(row) = &row
                && books.tx.contains(&LIVE, row)?
            {
                done.superseded += 1;
                continue;
            }
            let order = books.number();
            if let Some(row) = &row {
                books.tx.put(&LIVE, row, &KeyRecord { order, successor: None })?;
            }
            forget(books, place, &tenant, item.key.as_deref())?;
            let (payload, rank) = (std::mem::take(&mut item.payload), item.rank.take());
            item.begin_afresh(payload, rank);
            item.enqueued_at = now;
            books.put_in(&tenant, order, &item)?;
            books.count(&tenant, Some(State::Dead), Some(State::Ready), 1)?;
            done.replayed += 1;
            done.keys.extend(item.key.map(|key| (tenant, key)));
        }
        if done.replayed > 0 {
            books.wake();
        }
        Ok(done)
    })
}

/// Removes up to `limit` of the dead for good, oldest first, but not the newest `keep` of those
/// that are meant. Returns how many it removed.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn clear_dead(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    filter: &DeadFilter,
    keep: usize,
    limit: usize,
) -> Result<usize, StorageError> {
    books::with(tx, def, |books| {
        let found = if keep == 0 { limit } else { usize::MAX };
        let found = meant(books.tx, def, filter, End::Oldest, found)?;
        let n = found.len().saturating_sub(keep).min(limit);
        for (place, DeadRecord { tenant, item, .. }) in found.into_iter().take(n) {
            remove(books, place, &tenant, item.key.as_deref())?;
        }
        Ok(n)
    })
}

/// Removes the dead items of `tenant` that have one of `keys`, and returns how many there were.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn clear_dead_of(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    tenant: &TenantId,
    keys: &std::collections::HashSet<String>,
) -> Result<usize, StorageError> {
    if books::tenant_record(tx, def, tenant)?.is_none_or(|record| record.depths.dead == 0) {
        return Ok(0);
    }
    books::with(tx, def, |books| {
        let mut n = 0;
        for key in keys {
            for (place, record) in places(books.tx, def, tenant, Some(key))? {
                // An item without a key is listed under the empty one.
                if record.item.key.as_ref() == Some(key) {
                    remove(books, place, tenant, Some(key))?;
                    n += 1;
                }
            }
        }
        Ok(n)
    })
}

/// The dead that are meant.
fn meant(
    tx: &impl Readable,
    def: &QueueDef,
    filter: &DeadFilter,
    from: End,
    limit: usize,
) -> Result<Vec<(Place, DeadRecord)>, StorageError> {
    let fits = |place: &Place, record: &DeadRecord| {
        let DeadFilter { tenant, id, key, reason, died_before } = filter;
        tenant.as_ref().is_none_or(|tenant| *tenant == record.tenant)
            && id.is_none_or(|id| id == record.item.id)
            && (key.is_none() || *key == record.item.key)
            && reason.is_none_or(|reason| reason == record.reason)
            && died_before.is_none_or(|before| place.0 < before)
    };
    if let Some(tenant) = &filter.tenant {
        let mut found = places(tx, def, tenant, filter.key.as_ref())?;
        found.retain(|(place, record)| fits(place, record));
        found.sort_by_key(|(place, _)| *place);
        if from == End::Newest {
            found.reverse();
        }
        found.truncate(limit);
        return Ok(found);
    }
    let line = Scan::prefix(&(QueueName::of(def),));
    let line = if from == End::Newest { line.reversed() } else { line };
    let rows = tx.scan(&LETTERS, line)?;
    let rows = rows.map(|row| row.map(|((_, at, order), record)| ((at, order), record)));
    rows.filter(|row| row.as_ref().map_or(true, |(place, record)| fits(place, record)))
        .take(limit)
        .collect()
}

/// The dead of a tenant, or of a tenant's key, in no order that means anything.
fn places(
    tx: &impl Readable,
    def: &QueueDef,
    tenant: &TenantId,
    key: Option<&String>,
) -> Result<Vec<(Place, DeadRecord)>, StorageError> {
    let mine = (tenant.clone(), QueueName::of(def));
    let listed = match key {
        Some(key) => Scan::prefix(&(mine.0, mine.1, key.clone())),
        None => Scan::prefix(&mine),
    };
    let mut found = Vec::new();
    for row in tx.scan(&LETTERS_OF, listed)? {
        let ((_, queue, _, order), DiedAt(at)) = row?;
        let record = tx.get(&LETTERS, &(queue, at, order))?;
        found.push(((at, order), record.ok_or_else(|| lost(order))?));
    }
    Ok(found)
}

/// Moves an item, off its lease and its shelf, to the dead; its key is free for another.
pub(super) fn bury_item(
    books: &mut Books<'_, '_>,
    tenant: TenantId,
    order: u64,
    mut item: ItemRecord,
    from: State,
    reason: DeadReason,
    at: UnixMicros,
) -> Result<(), StorageError> {
    books.free_key(&tenant, item.key.as_deref())?;
    item.waits = Waits::Nothing;
    let row = letter_row(books, &tenant, item.key.as_deref(), order);
    books.tx.put(&LETTERS_OF, &row, &DiedAt(at))?;
    books.count(&tenant, Some(from), Some(State::Dead), 1)?;
    let record = DeadRecord { tenant, reason, item };
    books.tx.put(&LETTERS, &(books.queue(), at, order), &record)?;
    while books.state.depths.dead > books.def.dead_max {
        evict_oldest(books, None)?;
    }
    Ok(())
}

/// Removes dead items that are too old.
pub(super) fn expire(books: &mut Books<'_, '_>, now: UnixMicros) -> Result<(), StorageError> {
    let age = i64::try_from(books.def.dead_age.as_micros()).unwrap_or(i64::MAX);
    let before = UnixMicros(now.0.saturating_sub(age));
    for _ in 0..EXPIRE_MAX {
        if books.state.depths.dead == 0 || !evict_oldest(books, Some(before))? {
            break;
        }
    }
    Ok(())
}

/// Removes the oldest of the dead, if it died before that instant; false if it did not.
fn evict_oldest(
    books: &mut Books<'_, '_>,
    before: Option<UnixMicros>,
) -> Result<bool, StorageError> {
    let oldest = books.tx.first(&LETTERS, Scan::prefix(&(books.queue(),)))?;
    let Some(((_, at, order), DeadRecord { tenant, item, .. })) = oldest else {
        return Err(StorageError::corrupt(LETTERS.name(), "fewer are dead than were counted"));
    };
    if before.is_some_and(|before| at >= before) {
        return Ok(false);
    }
    remove(books, (at, order), &tenant, item.key.as_deref())?;
    books.state.evicted += 1;
    Ok(true)
}

fn remove(
    books: &mut Books<'_, '_>,
    place: Place,
    tenant: &TenantId,
    key: Option<&str>,
) -> Result<(), StorageError> {
    forget(books, place, tenant, key)?;
    books.count(tenant, Some(State::Dead), None, 1)
}

fn forget(
    books: &mut Books<'_, '_>,
    (at, order): Place,
    tenant: &TenantId,
    key: Option<&str>,
) -> Result<(), StorageError> {
    let row = letter_row(books, tenant, key, order);
    let listed = books.tx.remove(&LETTERS_OF, &row)?;
    if books.tx.remove(&LETTERS, &(books.queue(), at, order))? && listed {
        Ok(())
    } else {
        Err(lost(order))
    }
}

fn letter_row(
    books: &Books<'_, '_>,
    tenant: &TenantId,
    key: Option<&str>,
    order: u64,
) -> (TenantId, QueueName, String, u64) {
    (tenant.clone(), books.queue(), key.unwrap_or_default().to_owned(), order)
}

fn lost(order: u64) -> StorageError {
    StorageError::corrupt(LETTERS.name(), format!("there is no dead item {order}"))
}
