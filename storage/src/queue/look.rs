//! Looking at a queue: how much is in it, since when, and what.

use super::books::{is_ready, tenant_record};
use super::record::{
    DUE, HELD, ITEMS, ItemRecord, LATER, LEASED, LIVE, Owner, QueueName, QueueRecord, STATE, Shelf,
    TENANTS, Waits,
};
use super::{Depths, QueueDef, State};
use crate::error::StorageError;
use crate::ids::{JobId, TenantId};
use crate::read::Readable;
use crate::table::Scan;
use crate::time::UnixMicros;

/// Most items one call of [`peek`] returns.
pub const PEEK_MAX: usize = 1000;

/// A queue, or one tenant's part of it, as it is at an instant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct QueueStats {
    /// How many items are in which state; those that have come due are ready.
    pub depths: Depths,
    /// When the live item that came first was enqueued.
    pub oldest: Option<UnixMicros>,
    /// Nothing is leased until the queue is resumed.
    pub paused: bool,
    /// Dead items removed since the queue was made because there were too many or they were too
    /// old; of all tenants.
    pub evicted: u64,
}

/// A live item, looked at and not touched.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peeked {
    /// The item's name.
    pub id: JobId,
    /// What it is about.
    pub key: Option<String>,
    /// What there is to do.
    pub payload: Vec<u8>,
    /// Where it stands. Never [`State::Dead`].
    pub state: State,
    /// Attempts that are over.
    pub attempts: u32,
    /// When it was enqueued.
    pub enqueued_at: UnixMicros,
    /// Not before this instant.
    pub run_at: Option<UnixMicros>,
    /// Why it is held.
    pub held: Option<String>,
    /// Why the latest attempt failed.
    pub error: Option<String>,
}

/// Which end of a line to look at first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// What came first.
    Oldest,
    /// What came last.
    Newest,
}

/// Whether a live item has `key`.
///
/// # Errors
///
/// As for every read.
pub fn is_live(
    tx: &impl Readable,
    def: &QueueDef,
    tenant: &TenantId,
    key: &str,
) -> Result<bool, StorageError> {
    tx.contains(&LIVE, &(tenant.clone(), QueueName::of(def), key.to_owned()))
}

/// Where the items of a tenant lie.
pub(super) const SHELVES: [&Shelf; 3] = [&ITEMS, &LATER, &HELD];

fn state(tx: &impl Readable, def: &QueueDef) -> Result<QueueRecord, StorageError> {
    Ok(tx.get(&STATE, &(QueueName::of(def),))?.unwrap_or_default())
}

/// How many items are in which state, as of the latest change: what has come due since is counted
/// where it was. [`stats`] counts it as ready.
///
/// # Errors
///
/// As for every read.
pub fn depths(tx: &impl Readable, def: &QueueDef) -> Result<Depths, StorageError> {
    state(tx, def).map(|state| state.depths)
}

/// How many live items the queue holds.
///
/// # Errors
///
/// As for every read.
pub fn pending(tx: &impl Readable, def: &QueueDef) -> Result<u64, StorageError> {
    depths(tx, def).map(|depths| depths.live())
}

/// How many live items of `tenant` the queue holds.
///
/// # Errors
///
/// As for every read.
pub fn tenant_pending(
    tx: &impl Readable,
    def: &QueueDef,
    tenant: &TenantId,
) -> Result<u64, StorageError> {
    let record = tenant_record(tx, def, tenant)?.unwrap_or_default();
    Ok(record.depths.live())
}

/// The whole queue at `now`. Reads a few rows a tenant, and every item that has come due.
///
/// # Errors
///
/// As for every read.
pub fn stats(
    tx: &impl Readable,
    def: &QueueDef,
    now: UnixMicros,
) -> Result<QueueStats, StorageError> {
    let QueueRecord { depths, paused, evicted, .. } = state(tx, def)?;
    let mut all = QueueStats { depths, oldest: None, paused, evicted };
    for row in tx.scan(&TENANTS, Scan::prefix(&(QueueName::of(def),)))? {
        let ((_, tenant), record) = row?;
        if record.depths.live() > 0 {
            all.oldest = earlier(all.oldest, oldest(tx, def, &tenant)?);
        }
    }
    for row in due(tx, def, now)? {
        row?;
        come_due(&mut all.depths);
    }
    Ok(all)
}

/// Every tenant that has items in the queue, dead or alive, at `now`.
///
/// # Errors
///
/// As for every read.
pub fn stats_by_tenant(
    tx: &impl Readable,
    def: &QueueDef,
    now: UnixMicros,
) -> Result<Vec<(TenantId, QueueStats)>, StorageError> {
    let QueueRecord { paused, evicted, .. } = state(tx, def)?;
    let mut all = Vec::new();
    for row in tx.scan(&TENANTS, Scan::prefix(&(QueueName::of(def),)))? {
        let ((_, tenant), record) = row?;
        let oldest = oldest(tx, def, &tenant)?;
        all.push((tenant, QueueStats { depths: record.depths, oldest, paused, evicted }));
    }
    for row in due(tx, def, now)? {
        let (_, Owner { tenant }) = row?;
        // Keys sort as what they are made of, so the tenants came in order.
        if let Ok(place) = all.binary_search_by(|(known, _)| known.cmp(&tenant)) {
            come_due(&mut all[place].1.depths);
        }
    }
    Ok(all)
}

/// One tenant's part of the queue at `now`.
///
/// # Errors
///
/// As for every read.
pub fn tenant_stats(
    tx: &impl Readable,
    def: &QueueDef,
    tenant: &TenantId,
    now: UnixMicros,
) -> Result<QueueStats, StorageError> {
    let QueueRecord { paused, evicted, .. } = state(tx, def)?;
    let mut depths = tenant_record(tx, def, tenant)?.unwrap_or_default().depths;
    if depths.delayed > 0 {
        for row in due(tx, def, now)? {
            if row?.1.tenant == *tenant {
                come_due(&mut depths);
            }
        }
    }
    Ok(QueueStats { depths, oldest: oldest(tx, def, tenant)?, paused, evicted })
}

/// The delayed items that have come due and were not made ready yet.
fn due<'a>(
    tx: &'a impl Readable,
    def: &QueueDef,
    now: UnixMicros,
) -> Result<crate::read::Rows<'a, (QueueName, UnixMicros, u64), Owner>, StorageError> {
    let queue = QueueName::of(def);
    tx.scan(&DUE, Scan::prefix(&(queue.clone(),)).through(&(queue, now)))
}

fn come_due(depths: &mut Depths) {
    depths.delayed = depths.delayed.saturating_sub(1);
    depths.ready += 1;
}

/// When the tenant's live item with the lowest order was enqueued.
fn oldest(
    tx: &impl Readable,
    def: &QueueDef,
    tenant: &TenantId,
) -> Result<Option<UnixMicros>, StorageError> {
    let mine = (tenant.clone(), QueueName::of(def));
    let mut oldest = None;
    for shelf in SHELVES {
        let first = tx.first(shelf, Scan::prefix(&mine))?;
        oldest = earlier(oldest, first.map(|(_, item)| item.enqueued_at));
    }
    Ok(oldest)
}

fn earlier(a: Option<UnixMicros>, b: Option<UnixMicros>) -> Option<UnixMicros> {
    a.into_iter().chain(b).min()
}

/// Up to `limit`, at most [`PEEK_MAX`], live items of a tenant in the order they came, or the other
/// way round.
///
/// # Errors
///
/// As for every read.
pub fn peek(
    tx: &impl Readable,
    def: &QueueDef,
    tenant: &TenantId,
    from: End,
    limit: usize,
) -> Result<Vec<Peeked>, StorageError> {
    let limit = limit.min(PEEK_MAX);
    let mut found = Vec::new();
    for shelf in SHELVES {
        let rows = tx.scan(shelf, line(def, tenant, from))?.take(limit);
        for row in rows {
            let ((_, _, order), item) = row?;
            found.push((order, item));
        }
    }
    found.sort_by_key(|(order, _)| *order);
    if from == End::Newest {
        found.reverse();
    }
    found.truncate(limit);
    let head = tenant_record(tx, def, tenant)?.unwrap_or_default().head;
    let peeked = found.into_iter().map(|(order, item)| {
        let ItemRecord { id, key, payload, attempts, enqueued_at, error, waits, .. } = item;
        let (state, run_at, held) = match waits {
            Waits::Until(run_at) => (State::Delayed, Some(run_at), None),
            Waits::Held(reason) => (State::Held, None, Some(reason)),
            Waits::Nothing if is_ready(tx, def, head, tenant, order)? => (State::Ready, None, None),
            Waits::Nothing => (State::Leased, None, None),
        };
        Ok(Peeked { id, key, payload, state, attempts, enqueued_at, run_at, held, error })
    });
    peeked.collect()
}

fn line(def: &QueueDef, tenant: &TenantId, from: End) -> Scan<super::record::ItemKey> {
    let scan = Scan::prefix(&(tenant.clone(), QueueName::of(def)));
    match from {
        End::Oldest => scan,
        End::Newest => scan.reversed(),
    }
}

/// When the next delayed item or lease comes due; that may be in the past.
///
/// # Errors
///
/// As for every read.
pub fn next_due(tx: &impl Readable, def: &QueueDef) -> Result<Option<UnixMicros>, StorageError> {
    let queue = (QueueName::of(def),);
    let delayed = tx.first(&DUE, Scan::prefix(&queue))?.map(|((_, at, _), _)| at);
    for row in tx.scan(&LEASED, Scan::prefix(&queue))? {
        let ((_, until, _), lease) = row?;
        for item in lease.items {
            // One that was removed from under its worker makes nothing ready.
            let at = (item.tenant, queue.0.clone(), item.order);
            if tx.contains(&ITEMS, &at)? {
                return Ok(earlier(delayed, Some(until)));
            }
        }
    }
    Ok(delayed)
}
