//! What the indexes and counters of all queues must be, as it follows from the items.

use std::collections::{BTreeMap, BTreeSet};

use super::record::{
    DUE, DiedAt, FRONT, HELD, ITEMS, ItemRecord, KeyRecord, LATER, LEASED, LETTERS, LETTERS_OF,
    LIVE, Owner, QueueName, QueueRecord, STATE, SUSPECTS, TENANTS, TURNS, TenantRecord, Waits,
};
use super::{Depths, State};
use crate::consistency::Finding;
use crate::error::StorageError;
use crate::ids::TenantId;
use crate::read::Readable;
use crate::table::Scan;

/// A tenant's part of a queue.
type Part = (QueueName, TenantId);

/// The live items of a part: the key of each, if it has one, and its state.
type Items = BTreeMap<u64, (Option<String>, State)>;

/// Tells of every row of an index, and every counter, that is not what follows from the items.
///
/// # Errors
///
/// As for every read.
pub(crate) fn derived(
    tx: &impl Readable,
    found: &mut dyn FnMut(Finding),
) -> Result<(), StorageError> {
    let leased = leased(tx)?;
    let mut parts = Parts::default();
    for row in tx.scan(&TENANTS, Scan::all())? {
        let (part, record) = row?;
        parts.of(part).head = Some(record.head);
    }
    heads(tx, &leased, &mut parts)?;
    live(tx, &leased, &mut parts)?;
    ready(tx, &parts, found)?;
    due(tx, found)?;
    keys(tx, &parts, found)?;
    letters(tx, &mut parts, found)?;
    counters(tx, &leased, &parts, found)
}

/// What is known of all parts.
#[derive(Default)]
struct Parts(BTreeMap<Part, Known>);

#[derive(Default)]
struct Known {
    /// As it is stored; if that is lost, past everything that must be behind it.
    head: Option<u64>,
    items: Items,
    dead: u64,
}

impl Parts {
    fn of(&mut self, part: Part) -> &mut Known {
        self.0.entry(part).or_default()
    }

    fn item(&self, part: &Part, order: u64) -> Option<&(Option<String>, State)> {
        self.0.get(part)?.items.get(&order)
    }
}

/// Items on the leases that are out, and the highest token of each queue.
#[derive(Default)]
struct Leases {
    items: BTreeSet<(QueueName, TenantId, u64)>,
    tokens: BTreeMap<QueueName, u64>,
}

fn leased(tx: &impl Readable) -> Result<Leases, StorageError> {
    let mut leases = Leases::default();
    for row in tx.scan(&LEASED, Scan::all())? {
        let ((queue, _, token), lease) = row?;
        for item in lease.items {
            leases.items.insert((queue.clone(), item.tenant, item.order));
        }
        let highest = leases.tokens.entry(queue).or_default();
        *highest = token.max(*highest);
    }
    Ok(leases)
}

/// Where the head of a part is lost, it is past what was leased or is listed.
fn heads(tx: &impl Readable, leases: &Leases, parts: &mut Parts) -> Result<(), StorageError> {
    let mut behind: BTreeMap<Part, u64> = BTreeMap::new();
    let mut note = |part: Part, order: u64| {
        let head = behind.entry(part).or_default();
        *head = order.saturating_add(1).max(*head);
    };
    for (queue, tenant, order) in &leases.items {
        note((queue.clone(), tenant.clone()), *order);
    }
    for row in tx.scan(&FRONT, Scan::all())? {
        let ((tenant, queue, order), ()) = row?;
        note((queue, tenant), order);
    }
    for row in tx.scan(&SUSPECTS, Scan::all())? {
        let ((queue, order), Owner { tenant }) = row?;
        note((queue, tenant), order);
    }
    for (part, head) in behind {
        parts.of(part).head.get_or_insert(head);
    }
    Ok(())
}

/// The live items and their states.
fn live(tx: &impl Readable, leases: &Leases, parts: &mut Parts) -> Result<(), StorageError> {
    for shelf in [&ITEMS, &LATER, &HELD] {
        for row in tx.scan(shelf, Scan::all())? {
            let ((tenant, queue, order), item) = row?;
            let ItemRecord { key, waits, .. } = item;
            let state = match waits {
                Waits::Until(_) => State::Delayed,
                Waits::Held(_) => State::Held,
                Waits::Nothing => {
                    let row = (queue.clone(), tenant.clone(), order);
                    if leases.items.contains(&row) { State::Leased } else { State::Ready }
                }
            };
            parts.of((queue, tenant)).items.insert(order, (key, state));
        }
    }
    Ok(())
}

/// Items behind their tenant's head are ready if they are listed, and only then.
fn ready(
    tx: &impl Readable,
    parts: &Parts,
    found: &mut dyn FnMut(Finding),
) -> Result<(), StorageError> {
    let is_ready = |part: &Part, order| matches!(parts.item(part, order), Some((_, State::Ready)));
    let mut listed = BTreeSet::new();
    for row in tx.scan(&SUSPECTS, Scan::all())? {
        let (key, Owner { tenant }) = row?;
        let part = (key.0.clone(), tenant);
        if is_ready(&part, key.1) {
            listed.insert((part, key.1));
        } else {
            found(Finding::surplus(&SUSPECTS, &key, "leads to an item that is not ready"));
        }
    }
    for row in tx.scan(&FRONT, Scan::all())? {
        let (key, ()) = row?;
        let (tenant, queue, order) = key.clone();
        let part = (queue, tenant);
        let behind = parts.0.get(&part).is_some_and(|known| order < known.head.unwrap_or(0));
        if !(behind && is_ready(&part, order) && listed.insert((part, order))) {
            found(Finding::surplus(&FRONT, &key, "leads to no item that is ready and passed by"));
        }
    }
    for (part, known) in &parts.0 {
        let head = known.head.unwrap_or(0);
        for (order, (_, state)) in known.items.range(..head) {
            if *state == State::Ready && !listed.contains(&(part.clone(), *order)) {
                let key = (part.1.clone(), part.0.clone(), *order);
                found(Finding::missing(&FRONT, &key, &(), "a ready item is passed by")?);
            }
        }
    }
    Ok(())
}

/// What is delayed comes due.
fn due(tx: &impl Readable, found: &mut dyn FnMut(Finding)) -> Result<(), StorageError> {
    for row in tx.scan(&LATER, Scan::all())? {
        let ((tenant, queue, order), item) = row?;
        let Waits::Until(run_at) = item.waits else { continue };
        let key = (queue, run_at, order);
        if tx.get(&DUE, &key)?.is_none_or(|owner| owner.tenant != tenant) {
            found(Finding::missing(
                &DUE,
                &key,
                &Owner { tenant },
                "a delayed item never comes due",
            )?);
        }
    }
    for row in tx.scan(&DUE, Scan::all())? {
        let (key, Owner { tenant }) = row?;
        let item = tx.get(&LATER, &(tenant, key.0.clone(), key.2))?;
        if item.is_none_or(|item| item.waits != Waits::Until(key.1)) {
            found(Finding::surplus(&DUE, &key, "leads to an item that is not delayed until then"));
        }
    }
    Ok(())
}

/// A key leads to its live item.
fn keys(
    tx: &impl Readable,
    parts: &Parts,
    found: &mut dyn FnMut(Finding),
) -> Result<(), StorageError> {
    let mut kept = BTreeSet::new();
    for row in tx.scan(&LIVE, Scan::all())? {
        let (row, KeyRecord { order, .. }) = row?;
        let (tenant, queue, key) = row.clone();
        let part = (queue, tenant);
        match parts.item(&part, order) {
            Some((Some(of), _)) if *of == key => {
                kept.insert((part, key));
            }
            _ => found(Finding::surplus(&LIVE, &row, "leads to an item that is not there")),
        }
    }
    for (part, known) in &parts.0 {
        for (order, (key, _)) in &known.items {
            let Some(key) = key else { continue };
            if kept.insert((part.clone(), key.clone())) {
                let row = (part.1.clone(), part.0.clone(), key.clone());
                let record = KeyRecord { order: *order, successor: None };
                found(Finding::missing(&LIVE, &row, &record, "an item is not found by its key")?);
            }
        }
    }
    Ok(())
}

/// The dead, by tenant and key.
fn letters(
    tx: &impl Readable,
    parts: &mut Parts,
    found: &mut dyn FnMut(Finding),
) -> Result<(), StorageError> {
    for row in tx.scan(&LETTERS, Scan::all())? {
        let ((queue, at, order), dead) = row?;
        parts.of((queue.clone(), dead.tenant.clone())).dead += 1;
        let key = (dead.tenant, queue, dead.item.key.unwrap_or_default(), order);
        if tx.get(&LETTERS_OF, &key)? != Some(DiedAt(at)) {
            let reason = "a dead item is not found by its tenant";
            found(Finding::missing(&LETTERS_OF, &key, &DiedAt(at), reason)?);
        }
    }
    for row in tx.scan(&LETTERS_OF, Scan::all())? {
        let (key, DiedAt(at)) = row?;
        let dead = tx.get(&LETTERS, &(key.1.clone(), at, key.3))?;
        if dead.is_none_or(|dead| dead.tenant != key.0) {
            found(Finding::surplus(&LETTERS_OF, &key, "leads to a dead item that is not there"));
        }
    }
    Ok(())
}

/// How many items are in which state, and whose turn can come.
fn counters(
    tx: &impl Readable,
    leases: &Leases,
    parts: &Parts,
    found: &mut dyn FnMut(Finding),
) -> Result<(), StorageError> {
    let mut queues: BTreeMap<QueueName, (Depths, u64)> = BTreeMap::new();
    for ((queue, tenant), known) in &parts.0 {
        let mut depths = Depths { dead: known.dead, ..Depths::default() };
        let (all, highest) = queues.entry(queue.clone()).or_default();
        for (order, (_, state)) in &known.items {
            *depths.of(*state) += 1;
            *highest = (*order).max(*highest);
        }
        for state in [State::Ready, State::Delayed, State::Leased, State::Held, State::Dead] {
            *all.of(state) += *depths.of(state);
        }
        let part = (queue.clone(), tenant.clone());
        let stored = tx.get(&TENANTS, &part)?;
        let right = TenantRecord { depths, head: known.head.unwrap_or(0) };
        if depths == Depths::default() {
            if stored.is_some() {
                found(Finding::surplus(&TENANTS, &part, "a tenant without items is counted"));
            }
        } else if stored.as_ref() != Some(&right) {
            found(Finding::missing(&TENANTS, &part, &right, "a tenant's items are miscounted")?);
        }
        if (depths.ready > 0) != tx.contains(&TURNS, &part)? {
            found(if depths.ready > 0 {
                Finding::missing(&TURNS, &part, &(), "a tenant never has its turn")?
            } else {
                Finding::surplus(&TURNS, &part, "a tenant with nothing ready has a turn")
            });
        }
    }
    for row in tx.scan(&TURNS, Scan::all())? {
        let (part, ()) = row?;
        if !parts.0.contains_key(&part) {
            found(Finding::surplus(&TURNS, &part, "a tenant with nothing ready has a turn"));
        }
    }
    for row in tx.scan(&STATE, Scan::all())? {
        queues.entry(row?.0.0).or_default();
    }
    for (queue, (depths, highest)) in queues {
        let key = (queue.clone(),);
        let stored = tx.get(&STATE, &key)?;
        let saved = stored.clone().unwrap_or_default();
        let highest = leases.tokens.get(&queue).copied().unwrap_or(0).max(highest);
        let is_out = |order: &u64| {
            leases.items.iter().any(|(of, _, leased)| *of == queue && leased == order)
        };
        let right = QueueRecord {
            number: saved.number.max(highest),
            depths,
            alone: saved.alone.filter(is_out),
            ..saved
        };
        if stored.as_ref().is_some_and(|stored| *stored != right)
            || (stored.is_none() && depths != Depths::default())
        {
            found(Finding::missing(&STATE, &key, &right, "a queue's items are miscounted")?);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
