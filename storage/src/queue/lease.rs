//! Handing items to workers.

use std::collections::VecDeque;

use super::books::{self, Books};
use super::dead::{bury_item, expire};
use super::record::{
    DUE, FRONT, ITEMS, ItemRecord, LATER, LEASED, LeaseRecord, LeasedItem, Owner, SUSPECTS, TURNS,
    Waits,
};
use super::{DeadReason, Leased, QueueDef, State};
use crate::error::StorageError;
use crate::ids::TenantId;
use crate::read::Readable;
use crate::table::Scan;
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// Most lapsed leases, and most delayed items, that one call of [`lease`] makes ready. The rest
/// waits for the next call, in the order of its time.
pub const PROMOTE_MAX: usize = 1000;

/// Most items in one row of [`LEASED`]: what is rewritten when one of them is settled alone.
const ROW_MAX: usize = 64;

/// An item about to be handed out.
struct Picked {
    tenant: TenantId,
    order: u64,
    item: ItemRecord,
}

/// Leases up to `n` items to the caller, until `now` plus the queue's lease. Items that have come
/// due are made ready first.
///
/// An item that was leased when the process last ended goes before all others and alone: until it
/// is settled, nothing else of the queue is leased. A paused queue leases nothing.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn lease(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    now: UnixMicros,
    n: usize,
) -> Result<Vec<Leased>, StorageError> {
    lease_shared(tx, def, now, n, Share { queues: &[], tenant_max: u64::MAX })
}

/// How much of several queues together a tenant may have leased, so that whoever is slow leaves
/// room for the others.
#[derive(Debug, Clone, Copy)]
pub struct Share<'a> {
    /// The queues that are counted.
    pub queues: &'a [&'a QueueDef],
    /// Most items of a tenant that are leased at the same time.
    pub tenant_max: u64,
}

/// [`lease`], but of no tenant more than its share.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn lease_shared(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    now: UnixMicros,
    n: usize,
    share: Share<'_>,
) -> Result<Vec<Leased>, StorageError> {
    books::with(tx, def, |books| {
        take_back_lapsed(books, now)?;
        promote_due(books, now)?;
        expire(books, now)?;
        if n == 0 || books.state.paused || books.state.alone.is_some() {
            return Ok(Vec::new());
        }
        let first = books.tx.first(&SUSPECTS, Scan::prefix(&(books.queue(),)))?;
        let picked = match first {
            Some(_) if books.state.depths.leased > 0 => return Ok(Vec::new()),
            Some(((_, order), Owner { tenant })) => vec![pick_alone(books, tenant, order)?],
            None => pick(books, n, share)?,
        };
        grant(books, picked, now)
    })
}

fn pick_alone(
    books: &mut Books<'_, '_>,
    tenant: TenantId,
    order: u64,
) -> Result<Picked, StorageError> {
    books.tx.remove(&SUSPECTS, &(books.queue(), order))?;
    books.state.alone = Some(order);
    let item = books.tx.get(&ITEMS, &books.row(&tenant, order))?;
    let item = item.ok_or_else(|| lost(order))?;
    Ok(Picked { tenant, order, item })
}

/// The next `n` items, or all there are: one of each tenant in turn, beginning after the tenant
/// served last, and of each its first, as far as its share goes.
fn pick(
    books: &mut Books<'_, '_>,
    n: usize,
    share: Share<'_>,
) -> Result<Vec<Picked>, StorageError> {
    let n = n.min(usize::try_from(books.state.depths.ready).unwrap_or(usize::MAX));
    let mut shares = Vec::new();
    let mut left = 0_usize;
    for (tenant, room) in ring(books, n, share)? {
        let ready = books.tenant(&tenant)?.depths.ready.min(room);
        let ready = usize::try_from(ready).unwrap_or(usize::MAX);
        left = left.saturating_add(ready);
        shares.push((tenant, ready, 0));
    }
    // Without shares all that were counted are there.
    left = if share.queues.is_empty() { n } else { left.min(n) };
    while left > 0 {
        let before = left;
        for (_, ready, share) in &mut shares {
            if *share < *ready && left > 0 {
                *share += 1;
                left -= 1;
            }
        }
        if left == before {
            return Err(StorageError::corrupt(TURNS.name(), "fewer are ready than were counted"));
        }
    }
    let mut lines = Vec::with_capacity(shares.len());
    for (tenant, _, share) in shares {
        let line = take_first(books, &tenant, share)?;
        lines.push((tenant, line));
    }
    let mut picked = Vec::new();
    while lines.iter().any(|(_, line)| !line.is_empty()) {
        for (tenant, line) in &mut lines {
            if let Some((order, item)) = line.pop_front() {
                picked.push(Picked { tenant: tenant.clone(), order, item });
            }
        }
    }
    if let Some(last) = picked.last() {
        books.state.turn = Some(last.tenant.clone());
    }
    Ok(picked)
}

/// Up to `n` tenants with something ready and with room in their share, and that room, in the order
/// of their turns.
fn ring(
    books: &Books<'_, '_>,
    n: usize,
    share: Share<'_>,
) -> Result<Vec<(TenantId, u64)>, StorageError> {
    let queue = books.queue();
    let all = Scan::prefix(&(queue.clone(),));
    let with_room = |row: Result<(_, ()), StorageError>| {
        let tenant: TenantId = match row {
            Ok(((_, tenant), ())) => tenant,
            Err(error) => return Some(Err(error)),
        };
        match room(books, &tenant, share) {
            Ok(0) => None,
            Ok(room) => Some(Ok((tenant, room))),
            Err(error) => Some(Err(error)),
        }
    };
    let Some(served) = &books.state.turn else {
        return books.tx.scan(&TURNS, all)?.filter_map(with_room).take(n).collect();
    };
    let served = (queue, served.clone());
    let after = books.tx.scan(&TURNS, all.clone().after(&served))?;
    let around = books.tx.scan(&TURNS, all.through(&served))?;
    after.chain(around).filter_map(with_room).take(n).collect()
}

/// Items of a tenant that may be leased besides those that are.
fn room(books: &Books<'_, '_>, tenant: &TenantId, share: Share<'_>) -> Result<u64, StorageError> {
    let mut room = share.tenant_max;
    for def in share.queues {
        let record = books::tenant_record(books.tx, def, tenant)?;
        room = room.saturating_sub(record.map_or(0, |record| record.depths.leased));
    }
    Ok(room)
}

/// The first `n` ready items of a tenant, taken off the list or passed by its head.
fn take_first(
    books: &mut Books<'_, '_>,
    tenant: &TenantId,
    n: usize,
) -> Result<VecDeque<(u64, ItemRecord)>, StorageError> {
    let mut line = VecDeque::with_capacity(n);
    let mine = (tenant.clone(), books.queue());
    let listed = books.tx.scan(&FRONT, Scan::prefix(&mine))?.take(n);
    let listed = listed.map(|row| Ok(row?.0.2)).collect::<Result<Vec<u64>, StorageError>>()?;
    for order in listed {
        let row = books.row(tenant, order);
        books.tx.remove(&FRONT, &row)?;
        let item = books.tx.get(&ITEMS, &row)?;
        line.push_back((order, item.ok_or_else(|| lost(order))?));
    }
    if line.len() == n {
        return Ok(line);
    }
    let head = books.tenant_head(tenant)?;
    let from = Scan::prefix(&mine).from(&books.row(tenant, head));
    for row in books.tx.scan(&ITEMS, from)?.take(n - line.len()) {
        let ((_, _, order), item) = row?;
        line.push_back((order, item));
    }
    if line.len() < n {
        return Err(StorageError::corrupt(ITEMS.name(), "fewer are ready than were counted"));
    }
    if let Some((order, _)) = line.back() {
        books.tenant(tenant)?.head = order + 1;
    }
    Ok(line)
}

/// Writes the leases of picked items.
fn grant(
    books: &mut Books<'_, '_>,
    picked: Vec<Picked>,
    now: UnixMicros,
) -> Result<Vec<Leased>, StorageError> {
    let until = now.plus(books.def.lease);
    let mut leased = Vec::with_capacity(picked.len());
    let mut row = LeaseRecord::default();
    let mut token = 0;
    for Picked { tenant, order, item } in picked {
        if row.items.is_empty() {
            token = books.number();
        }
        books.count(&tenant, Some(State::Ready), Some(State::Leased), 1)?;
        row.items.push(LeasedItem { order, tenant: tenant.clone() });
        if row.items.len() == ROW_MAX {
            books.tx.put(&LEASED, &(books.queue(), until, token), &row)?;
            row.items.clear();
        }
        let ItemRecord { id, key, payload, attempts, crashes, enqueued_at, .. } = item;
        let attempt = attempts.saturating_add(1);
        leased.push(Leased {
            id,
            tenant,
            key,
            payload,
            attempt,
            crashes,
            enqueued_at,
            token,
            order,
            until,
        });
    }
    if !row.items.is_empty() {
        books.tx.put(&LEASED, &(books.queue(), until, token), &row)?;
    }
    Ok(leased)
}

/// Ends leases whose time is up. Their attempts count: the worker had its time.
fn take_back_lapsed(books: &mut Books<'_, '_>, now: UnixMicros) -> Result<(), StorageError> {
    let queue = books.queue();
    let due = Scan::prefix(&(queue.clone(),)).through(&(queue, now));
    let mut lapsed = Vec::new();
    let mut n = 0;
    for row in books.tx.scan(&LEASED, due)? {
        let (row, lease) = row?;
        n += lease.items.len();
        lapsed.push((row, lease));
        if n >= PROMOTE_MAX {
            break;
        }
    }
    for (row, lease) in lapsed {
        books.tx.remove(&LEASED, &row)?;
        for LeasedItem { order, tenant } in lease.items {
            books.end_alone(order);
            let at = books.row(&tenant, order);
            let Some(mut item) = books.tx.take(&ITEMS, &at)? else {
                continue;
            };
            if let Some(successor) = books.successor(&tenant, item.key.as_deref())? {
                books.succeed(&tenant, item, successor)?;
                continue;
            }
            item.attempt_failed("the lease lapsed", now);
            if item.attempts >= books.def.max_attempts {
                let reason = DeadReason::Exhausted;
                bury_item(books, tenant, order, item, State::Leased, reason, now)?;
            } else {
                books.put_in(&tenant, order, &item)?;
                books.count(&tenant, Some(State::Leased), Some(State::Ready), 1)?;
            }
        }
    }
    Ok(())
}

/// Makes ready what waited for an instant that has come.
fn promote_due(books: &mut Books<'_, '_>, now: UnixMicros) -> Result<(), StorageError> {
    let queue = books.queue();
    let due = Scan::prefix(&(queue.clone(),)).through(&(queue, now));
    let rows = books.tx.scan(&DUE, due)?.take(PROMOTE_MAX);
    let rows = rows.collect::<Result<Vec<_>, StorageError>>()?;
    for (row, Owner { tenant }) in rows {
        let order = row.2;
        books.tx.remove(&DUE, &row)?;
        let item = books.tx.take(&LATER, &books.row(&tenant, order))?;
        let mut item = item.ok_or_else(|| lost(order))?;
        item.waits = Waits::Nothing;
        if item.crashes == 0 {
            books.put_in(&tenant, order, &item)?;
        } else {
            // It may have been put off before anybody saw whether it ends the process.
            let at = books.row(&tenant, order);
            books.tx.put(&ITEMS, &at, &item)?;
            books.suspect(&tenant, order)?;
        }
        books.count(&tenant, Some(State::Delayed), Some(State::Ready), 1)?;
    }
    Ok(())
}

fn lost(order: u64) -> StorageError {
    StorageError::corrupt(ITEMS.name(), format!("there is no item {order}"))
}
