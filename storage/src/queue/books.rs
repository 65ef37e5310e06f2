//! The counters of a queue while an operation runs, and the moves that keep rows and counters in
//! step.

use std::collections::BTreeMap;

use super::record::{
    DUE, FRONT, HELD, ITEMS, ItemKey, ItemRecord, KeyRecord, LATER, LEASED, LIVE, LeaseRecord,
    Owner, QueueName, QueueRecord, STATE, SUSPECTS, Successor, TENANTS, TURNS, TenantRecord, Waits,
};
use super::{Leased, QueueDef, State};
use crate::error::StorageError;
use crate::ids::TenantId;
use crate::read::Readable;
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// A queue being worked on. What is counted is kept here and written once, by [`with`].
pub(super) struct Books<'b, 't> {
    pub(super) tx: &'b mut WriteTx<'t>,
    pub(super) def: &'b QueueDef,
    pub(super) state: QueueRecord,
    saved: QueueRecord,
    tenants: BTreeMap<TenantId, Page>,
    /// Leases being settled, by end and token.
    leases: BTreeMap<(UnixMicros, u64), LeaseRecord>,
}

/// The counters of a tenant, as they are and as they are stored.
struct Page {
    now: TenantRecord,
    saved: Option<TenantRecord>,
}

/// Runs one operation on a queue. The counters are written even if it fails half way: whoever goes
/// on with the transaction all the same finds rows and counters in agreement.
pub(super) fn with<'b, 't, T>(
    tx: &'b mut WriteTx<'t>,
    def: &'b QueueDef,
    operation: impl FnOnce(&mut Books<'b, 't>) -> Result<T, StorageError>,
) -> Result<T, StorageError> {
    let state = tx.get(&STATE, &(QueueName::of(def),))?.unwrap_or_default();
    let mut books = Books {
        tx,
        def,
        saved: state.clone(),
        state,
        tenants: BTreeMap::new(),
        leases: BTreeMap::new(),
    };
    let result = operation(&mut books);
    let closed = books.close();
    let value = result?;
    closed.map(|()| value)
}

/// The stored counters of a tenant.
pub(super) fn tenant_record(
    tx: &impl Readable,
    def: &QueueDef,
    tenant: &TenantId,
) -> Result<Option<TenantRecord>, StorageError> {
    tx.get(&TENANTS, &(QueueName::of(def), tenant.clone()))
}

/// Whether an item on the shelf of ready and leased ones is ready.
pub(super) fn is_ready(
    tx: &impl Readable,
    def: &QueueDef,
    head: u64,
    tenant: &TenantId,
    order: u64,
) -> Result<bool, StorageError> {
    let queue = QueueName::of(def);
    Ok(order >= head
        || tx.contains(&FRONT, &(tenant.clone(), queue.clone(), order))?
        || tx.contains(&SUSPECTS, &(queue, order))?)
}

impl Books<'_, '_> {
    fn close(self) -> Result<(), StorageError> {
        let queue = QueueName::of(self.def);
        for ((until, token), lease) in self.leases {
            let row = (queue.clone(), until, token);
            if lease.items.is_empty() {
                self.tx.remove(&LEASED, &row)?;
            } else {
                self.tx.put(&LEASED, &row, &lease)?;
            }
        }
        for (tenant, Page { now, saved }) in self.tenants {
            let row = (queue.clone(), tenant);
            if now.depths == super::Depths::default() {
                if saved.is_some() {
                    self.tx.remove(&TENANTS, &row)?;
                }
            } else if saved.as_ref() != Some(&now) {
                self.tx.put(&TENANTS, &row, &now)?;
            }
        }
        if self.state != self.saved {
            self.tx.put(&STATE, &(queue,), &self.state)?;
        }
        Ok(())
    }

    /// A number higher than any before.
    pub(super) fn number(&mut self) -> u64 {
        self.state.number += 1;
        self.state.number
    }

    pub(super) fn queue(&self) -> QueueName {
        QueueName::of(self.def)
    }

    pub(super) fn row(&self, tenant: &TenantId, order: u64) -> ItemKey {
        (tenant.clone(), self.queue(), order)
    }

    /// Tells waiting workers, once this is committed.
    pub(super) fn wake(&mut self) {
        self.tx.wake(self.def.name);
    }

    pub(super) fn tenant(&mut self, tenant: &TenantId) -> Result<&mut TenantRecord, StorageError> {
        if !self.tenants.contains_key(tenant) {
            let saved = tenant_record(self.tx, self.def, tenant)?;
            let page = Page { now: saved.clone().unwrap_or_default(), saved };
            self.tenants.insert(tenant.clone(), page);
        }
        match self.tenants.get_mut(tenant) {
            Some(page) => Ok(&mut page.now),
            None => Err(StorageError::corrupt(TENANTS.name(), "a page was lost")),
        }
    }

    /// Past every item of a tenant that was ever leased.
    pub(super) fn tenant_head(&mut self, tenant: &TenantId) -> Result<u64, StorageError> {
        self.tenant(tenant).map(|page| page.head)
    }

    /// Counts `n` items of a tenant that go from one state to another, or come, or go for good.
    pub(super) fn count(
        &mut self,
        tenant: &TenantId,
        from: Option<State>,
        to: Option<State>,
        n: u64,
    ) -> Result<(), StorageError> {
        let page = self.tenant(tenant)?;
        let ready = page.depths.ready;
        if let Some(from) = from {
            let depth = page.depths.of(from);
            *depth = depth.checked_sub(n).ok_or_else(miscounted)?;
        }
        if let Some(to) = to {
            *page.depths.of(to) += n;
        }
        let still = page.depths.ready;
        if let Some(from) = from {
            let depth = self.state.depths.of(from);
            *depth = depth.checked_sub(n).ok_or_else(miscounted)?;
        }
        if let Some(to) = to {
            *self.state.depths.of(to) += n;
        }
        if (ready > 0) != (still > 0) {
            let row = (self.queue(), tenant.clone());
            if still > 0 {
                self.tx.put(&TURNS, &row, &())?;
            } else {
                self.tx.remove(&TURNS, &row)?;
            }
        }
        Ok(())
    }

    /// The item with a number, wherever it lies, and its state.
    pub(super) fn find(
        &mut self,
        tenant: &TenantId,
        order: u64,
    ) -> Result<Option<(State, ItemRecord)>, StorageError> {
        let row = self.row(tenant, order);
        if let Some(item) = self.tx.get(&ITEMS, &row)? {
            let head = self.tenant_head(tenant)?;
            let ready = is_ready(self.tx, self.def, head, tenant, order)?;
            return Ok(Some((if ready { State::Ready } else { State::Leased }, item)));
        }
        if let Some(item) = self.tx.get(&LATER, &row)? {
            return Ok(Some((State::Delayed, item)));
        }
        Ok(self.tx.get(&HELD, &row)?.map(|item| (State::Held, item)))
    }

    /// Puts an item on the shelf of what it waits for, and into the index of that.
    pub(super) fn put_in(
        &mut self,
        tenant: &TenantId,
        order: u64,
        item: &ItemRecord,
    ) -> Result<(), StorageError> {
        let row = self.row(tenant, order);
        match item.waits {
            Waits::Nothing => self.list(tenant, order)?,
            Waits::Until(run_at) => {
                let owner = Owner { tenant: tenant.clone() };
                self.tx.put(&DUE, &(self.queue(), run_at, order), &owner)?;
            }
            Waits::Held(_) => {}
        }
        self.tx.put(item.shelf(), &row, item)
    }

    /// Lists an item as ready, if its tenant's head has passed it.
    pub(super) fn list(&mut self, tenant: &TenantId, order: u64) -> Result<(), StorageError> {
        if order < self.tenant_head(tenant)? {
            let row = self.row(tenant, order);
            self.tx.put(&FRONT, &row, &())?;
        }
        Ok(())
    }

    /// Lists an item that is ready to be leased before all others, and alone.
    pub(super) fn suspect(&mut self, tenant: &TenantId, order: u64) -> Result<(), StorageError> {
        let owner = Owner { tenant: tenant.clone() };
        self.tx.put(&SUSPECTS, &(self.queue(), order), &owner)
    }

    /// Takes an item that is not leased off its shelf and out of the index of its state.
    pub(super) fn take_out(
        &mut self,
        tenant: &TenantId,
        order: u64,
        item: &ItemRecord,
    ) -> Result<(), StorageError> {
        let row = self.row(tenant, order);
        match item.waits {
            Waits::Nothing => {
                let behind = order < self.tenant_head(tenant)?;
                if behind && !self.tx.remove(&FRONT, &row)? {
                    self.tx.remove(&SUSPECTS, &(self.queue(), order))?;
                }
            }
            Waits::Until(run_at) => {
                self.tx.remove(&DUE, &(self.queue(), run_at, order))?;
            }
            Waits::Held(_) => {}
        }
        if self.tx.remove(item.shelf(), &row)? { Ok(()) } else { Err(misplaced(item)) }
    }

    /// Strikes an item off the lease that a worker holds; `None` if it is not on it any more. The
    /// caller says what becomes of the item.
    pub(super) fn claim(&mut self, leased: &Leased) -> Result<Option<Claim>, StorageError> {
        let at = (leased.until, leased.token);
        if !self.leases.contains_key(&at) {
            let row = (self.queue(), leased.until, leased.token);
            let Some(lease) = self.tx.get(&LEASED, &row)? else {
                return Ok(None);
            };
            self.leases.insert(at, lease);
        }
        let Some(lease) = self.leases.get_mut(&at) else {
            return Ok(None);
        };
        let place = lease.items.iter().position(|item| item.order == leased.order);
        let Some(place) = place else {
            return Ok(None);
        };
        lease.items.remove(place);
        Ok(Some(Claim { alone: self.end_alone(leased.order) }))
    }

    /// Notes that the item that was leased alone is so no longer; false if it was another.
    pub(super) fn end_alone(&mut self, order: u64) -> bool {
        let alone = self.state.alone == Some(order);
        if alone {
            self.state.alone = None;
            self.wake();
        }
        alone
    }

    /// The row that reserves a key.
    pub(super) fn key_row(&self, tenant: &TenantId, key: &str) -> (TenantId, QueueName, String) {
        (tenant.clone(), self.queue(), key.to_owned())
    }

    /// What is to follow a leased item, if something newer came while it was leased.
    pub(super) fn successor(
        &self,
        tenant: &TenantId,
        key: Option<&str>,
    ) -> Result<Option<Successor>, StorageError> {
        let Some(key) = key else {
            return Ok(None);
        };
        let live = self.tx.get(&LIVE, &self.key_row(tenant, key))?;
        Ok(live.and_then(|live| live.successor))
    }

    /// Replaces a leased item, whose row is off its shelf, by what came while it was leased. It
    /// waits for its turn as of then.
    pub(super) fn succeed(
        &mut self,
        tenant: &TenantId,
        item: ItemRecord,
        successor: Successor,
    ) -> Result<(), StorageError> {
        let Successor { payload, rank, order, enqueued_at } = successor;
        let mut item = ItemRecord { enqueued_at, ..item };
        item.begin_afresh(payload, rank);
        if let Some(key) = &item.key {
            let live = KeyRecord { order, successor: None };
            self.tx.put(&LIVE, &self.key_row(tenant, key), &live)?;
        }
        self.put_in(tenant, order, &item)?;
        let to = if matches!(item.waits, Waits::Held(_)) { State::Held } else { State::Ready };
        self.count(tenant, Some(State::Leased), Some(to), 1)?;
        self.wake();
        Ok(())
    }

    /// Frees an item's key for another.
    pub(super) fn free_key(
        &mut self,
        tenant: &TenantId,
        key: Option<&str>,
    ) -> Result<(), StorageError> {
        if let Some(key) = key {
            self.tx.remove(&LIVE, &self.key_row(tenant, key))?;
        }
        Ok(())
    }
}

/// A lease that held.
pub(super) struct Claim {
    /// The item was leased alone.
    pub(super) alone: bool,
}

fn miscounted() -> StorageError {
    StorageError::corrupt(TENANTS.name(), "more items leave a state than were counted in it")
}

pub(super) fn misplaced(item: &ItemRecord) -> StorageError {
    StorageError::corrupt(ITEMS.name(), format!("job {}: is not where it says", item.id))
}
