//! The end of an attempt: done, failed, or hopeless.

use super::lease::held;
use super::record::{Item, Place, QueueRecord, shortened};
use super::retry::backoff;
use super::{Leased, Outcome, QueueDef};
use crate::error::StorageError;
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// Says that the work is done; the item vanishes, or begins afresh if a newer payload came
/// meanwhile. False if the lease was lost: the work may then be done again by another.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn ack(tx: &mut WriteTx<'_>, def: &QueueDef, leased: &Leased) -> Result<bool, StorageError> {
    let Some(item) = held(tx, def, leased)? else {
        return Ok(false);
    };
    let mut state = QueueRecord::load(tx, def)?;
    if item.job.successor.is_some() {
        item.give_back(tx, def, &mut state)?;
        tx.wake(def.name);
    } else {
        item.remove(tx, def, &mut state)?;
    }
    state.save(tx, def)?;
    Ok(true)
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
    let Some(item) = held(tx, def, leased)? else {
        return Ok(Outcome::LeaseLost);
    };
    if item.job.attempts >= def.max_attempts {
        return end(tx, def, item, error, now);
    }
    let mut item = match superseded(tx, def, item)? {
        Ok(()) => return Ok(Outcome::Retry { run_at: now }),
        Err(item) => item,
    };
    let run_at = now.plus(backoff(def, item.job.attempts, jitter));
    let mut state = QueueRecord::load(tx, def)?;
    item.take_out(tx, def, &mut state)?;
    item.job.error = Some(shortened(error));
    item.job.order = state.number();
    item.put_in(tx, def, &mut state, Place::Delayed { run_at })?;
    state.save(tx, def)?;
    // Whoever sleeps until the next item comes due must learn of this one.
    tx.wake(def.name);
    Ok(Outcome::Retry { run_at })
}

/// Says that the attempt failed and no other can succeed: the item is dead at once. A newer
/// payload that came meanwhile is run all the same.
///
/// # Errors
///
/// As for every read, or a fault of the disk.
pub fn bury(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    leased: &Leased,
    error: &str,
    now: UnixMicros,
) -> Result<Outcome, StorageError> {
    match held(tx, def, leased)? {
        Some(item) => end(tx, def, item, error, now),
        None => Ok(Outcome::LeaseLost),
    }
}

fn end(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    item: Item,
    error: &str,
    now: UnixMicros,
) -> Result<Outcome, StorageError> {
    let item = match superseded(tx, def, item)? {
        Ok(()) => return Ok(Outcome::Retry { run_at: now }),
        Err(item) => item,
    };
    let mut state = QueueRecord::load(tx, def)?;
    item.die(tx, def, &mut state, error, now)?;
    state.save(tx, def)?;
    Ok(Outcome::Dead)
}

/// Begins afresh with a newer payload if one came; else returns the item.
fn superseded(
    tx: &mut WriteTx<'_>,
    def: &QueueDef,
    item: Item,
) -> Result<Result<(), Item>, StorageError> {
    if item.job.successor.is_none() {
        return Ok(Err(item));
    }
    let mut state = QueueRecord::load(tx, def)?;
    item.give_back(tx, def, &mut state)?;
    state.save(tx, def)?;
    tx.wake(def.name);
    Ok(Ok(()))
}
