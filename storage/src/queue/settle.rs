//! The end of a lease: done, failed, hopeless, given back, put off; and its extension.

use super::books::{self, Books, Claim};
use super::dead::bury_item;
use super::record::{
    ITEMS, ItemRecord, KeyRecord, LEASED, LIVE, LeaseRecord, LeasedItem, Waits, shortened,
};
use super::retry::backoff;
use super::{DeadReason, Leased, Outcome, QueueDef, State};
use crate::error::StorageError;
use crate::read::Readable;
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// Says that the work is done; the item vanishes, or begins afresh if a newer payload came
/// meanwhile. False if the lease was lost: the work may then be done again by another.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn ack(tx: &mut WriteTx<'_>, def: &QueueDef, leased: &Leased) -> Result<bool, StorageError> {
    books::with(tx, def, |books| done(books, leased))
}

/// [`ack`] for each of `leased`, in one go.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn ack_all(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    leased: &[Leased],
) -> Result<Vec<bool>, StorageError> {
    books::with(tx, def, |books| leased.iter().map(|leased| done(books, leased)).collect())
}

fn done(books: &mut Books<'_, '_>, leased: &Leased) -> Result<bool, StorageError> {
    let Leased { id, tenant, key, order, .. } = leased;
    // A row that is gone was removed from under the worker, and its key may be another's by now.
    if books.claim(leased)?.is_none() || !books.tx.remove(&ITEMS, &books.row(tenant, *order))? {
        return Ok(false);
    }
    let live = match key {
        Some(key) => books.tx.take(&LIVE, &books.key_row(tenant, key))?,
        None => None,
    };
    if let Some(KeyRecord { successor: Some(successor), .. }) = live {
        let item = ItemRecord::new(*id, key.clone(), successor.enqueued_at);
        books.succeed(tenant, item, successor)?;
    } else {
        books.count(tenant, Some(State::Leased), None, 1)?;
    }
    Ok(true)
}

/// A leased item off its lease and off its shelf.
fn taken(
    books: &mut Books<'_, '_>,
    leased: &Leased,
) -> Result<Option<(ItemRecord, Claim)>, StorageError> {
    let Some(claim) = books.claim(leased)? else {
        return Ok(None);
    };
    let item = books.tx.take(&ITEMS, &books.row(&leased.tenant, leased.order))?;
    Ok(item.map(|item| (item, claim)))
}

/// Says that the attempt failed, and may succeed another time: the item waits and is run again, or
/// is dead if its attempts are used up. `jitter`, 0 to 1 and random, is the share of the longest
/// wait that it waits. If a newer payload came meanwhile, that is run at once, from attempt 1.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn fail(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    leased: &Leased,
    error: &str,
    now: UnixMicros,
    jitter: f64,
) -> Result<Outcome, StorageError> {
    books::with(tx, def, |books| {
        let Some((mut item, _)) = taken(books, leased)? else {
            return Ok(Outcome::LeaseLost);
        };
        let (tenant, order) = (&leased.tenant, leased.order);
        if let Some(successor) = books.successor(tenant, item.key.as_deref())? {
            books.succeed(tenant, item, successor)?;
            return Ok(Outcome::Retry { run_at: now });
        }
        item.attempt_failed(error, now);
        if item.attempts >= def.max_attempts {
            let reason = DeadReason::Exhausted;
            bury_item(books, tenant.clone(), order, item, State::Leased, reason, now)?;
            return Ok(Outcome::Dead);
        }
        let run_at = now.plus(backoff(def, item.attempts, jitter));
        item.waits = Waits::Until(run_at);
        books.put_in(tenant, order, &item)?;
        books.count(tenant, Some(State::Leased), Some(State::Delayed), 1)?;
        // Whoever sleeps until the next item comes due must learn of this one.
        books.wake();
        Ok(Outcome::Retry { run_at })
    })
}

/// Says that the attempt failed and no other can succeed: the item is dead at once, for `reason`.
/// A newer payload that came meanwhile is run all the same.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn bury(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    leased: &Leased,
    reason: DeadReason,
    error: &str,
    now: UnixMicros,
) -> Result<Outcome, StorageError> {
    books::with(tx, def, |books| {
        let Some((mut item, _)) = taken(books, leased)? else {
            return Ok(Outcome::LeaseLost);
        };
        let (tenant, order) = (&leased.tenant, leased.order);
        if let Some(successor) = books.successor(tenant, item.key.as_deref())? {
            books.succeed(tenant, item, successor)?;
            return Ok(Outcome::Retry { run_at: now });
        }
        item.attempt_failed(error, now);
        bury_item(books, tenant.clone(), order, item, State::Leased, reason, now)?;
        Ok(Outcome::Dead)
    })
}

/// Gives an item back as if it had not been leased; false if the lease was lost. If a newer payload
/// came meanwhile, that takes its place.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn release(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    leased: &Leased,
) -> Result<bool, StorageError> {
    books::with(tx, def, |books| {
        let Some((item, Claim { alone })) = taken(books, leased)? else {
            return Ok(false);
        };
        let (tenant, order) = (&leased.tenant, leased.order);
        if let Some(successor) = books.successor(tenant, item.key.as_deref())? {
            books.succeed(tenant, item, successor)?;
            return Ok(true);
        }
        if alone {
            // Nobody has seen yet whether it ends the process.
            books.tx.put(&ITEMS, &books.row(tenant, order), &item)?;
            books.suspect(tenant, order)?;
        } else {
            books.put_in(tenant, order, &item)?;
        }
        books.count(tenant, Some(State::Leased), Some(State::Ready), 1)?;
        books.wake();
        Ok(true)
    })
}

/// Puts an item aside until [`release_held`](super::release_held), with the reason why it cannot
/// be worked on; false if the lease was lost. The attempt does not count. If a newer payload came
/// meanwhile, that is held in its place.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn hold(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    leased: &Leased,
    reason: &str,
) -> Result<bool, StorageError> {
    books::with(tx, def, |books| {
        let Some((mut item, _)) = taken(books, leased)? else {
            return Ok(false);
        };
        let (tenant, order) = (&leased.tenant, leased.order);
        item.waits = Waits::Held(shortened(reason));
        if let Some(successor) = books.successor(tenant, item.key.as_deref())? {
            books.succeed(tenant, item, successor)?;
        } else {
            books.put_in(tenant, order, &item)?;
            books.count(tenant, Some(State::Leased), Some(State::Held), 1)?;
        }
        Ok(true)
    })
}

/// Puts an item off until an instant: it was not its turn. The attempt does not count; false if the
/// lease was lost. A newer payload that came meanwhile is run at once.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn put_off(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    leased: &Leased,
    until: UnixMicros,
) -> Result<bool, StorageError> {
    books::with(tx, def, |books| {
        let Some((mut item, _)) = taken(books, leased)? else {
            return Ok(false);
        };
        let (tenant, order) = (&leased.tenant, leased.order);
        if let Some(successor) = books.successor(tenant, item.key.as_deref())? {
            books.succeed(tenant, item, successor)?;
            return Ok(true);
        }
        item.waits = Waits::Until(until);
        books.put_in(tenant, order, &item)?;
        books.count(tenant, Some(State::Leased), Some(State::Delayed), 1)?;
        books.wake();
        Ok(true)
    })
}

/// Extends a lease to `now` plus the queue's lease, and returns the one that holds from now on;
/// `None` if it was lost.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn renew(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    leased: &Leased,
    now: UnixMicros,
) -> Result<Option<Leased>, StorageError> {
    books::with(tx, def, |books| {
        let Some(Claim { alone }) = books.claim(leased)? else {
            return Ok(None);
        };
        let Leased { tenant, order, .. } = leased;
        if !books.tx.contains(&ITEMS, &books.row(tenant, *order))? {
            return Ok(None);
        }
        if alone {
            books.state.alone = Some(*order);
        }
        let (until, token) = (now.plus(def.lease), books.number());
        let items = vec![LeasedItem { order: *order, tenant: tenant.clone() }];
        books.tx.put(&LEASED, &(books.queue(), until, token), &LeaseRecord { items })?;
        Ok(Some(Leased { until, token, ..leased.clone() }))
    })
}
