//! What is stored of a queue, and the moves that keep its tables and counters in step.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Depths, QueueDef};
use crate::codec::{Record, bytes};
use crate::error::StorageError;
use crate::ids::{JobId, TenantId};
use crate::keys::{InvalidKey, Key};
use crate::read::Readable;
use crate::table::Table;
use crate::time::UnixMicros;
use crate::write::WriteTx;

/// A queue's name as a component of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct QueueName(Cow<'static, str>);

impl QueueName {
    pub(super) fn of(def: &QueueDef) -> QueueName {
        QueueName(Cow::Borrowed(def.name))
    }
}

impl Key for QueueName {
    fn encode(&self, out: &mut Vec<u8>) {
        crate::keys::encode_text(&self.0, out);
    }

    fn decode(bytes: &mut &[u8]) -> Result<QueueName, InvalidKey> {
        String::decode(bytes).map(|name| QueueName(Cow::Owned(name)))
    }
}

/// (tenant, queue, job) -> job. One item, dead or alive; all of a tenant's.
pub(super) const JOBS: Table<(TenantId, QueueName, JobId), JobRecord> = Table::new("queue.jobs");

/// (tenant, queue, key) -> job. The live item that has a key.
pub(super) const KEYS: Table<(TenantId, QueueName, String), JobId> = Table::new("queue.keys");

/// (tenant, queue) -> number of live items.
pub(super) const PENDING: Table<(TenantId, QueueName), u64> = Table::new("queue.pending");

// The tables below are how a queue finds its next item among all tenants, so the queue is first.

/// (queue) -> counters. One queue.
pub(super) const QUEUES: Table<(QueueName,), QueueRecord> = Table::new("queue.queues");

/// (queue, tenant, order) -> job. The next item of a tenant; the next tenant that has one.
pub(super) const READY: Table<(QueueName, TenantId, u64), JobId> = Table::new("queue.ready");

/// (queue, run at, order) -> job. What has come due, earliest first.
pub(super) const DELAYED: Table<(QueueName, UnixMicros, u64), JobRef> = Table::new("queue.delayed");

/// (queue, end of the lease, order) -> job. What has lapsed, earliest first.
pub(super) const LEASES: Table<(QueueName, UnixMicros, u64), JobRef> = Table::new("queue.leases");

/// (queue, time of death, order) -> job. The dead, oldest first.
pub(super) const DEAD: Table<(QueueName, UnixMicros, u64), JobRef> = Table::new("queue.dead");

impl Record for JobId {
    const FORMAT: u8 = 1;
}

/// Leads from an index to an item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JobRef {
    pub(super) tenant: TenantId,
    pub(super) id: JobId,
}

impl Record for JobRef {
    const FORMAT: u8 = 1;
}

/// An item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct JobRecord {
    pub(super) key: Option<String>,
    #[serde(with = "bytes")]
    pub(super) payload: Vec<u8>,
    /// A payload that came while a worker had the item.
    pub(super) successor: Option<Payload>,
    /// Place among those of its tenant, or among those due at the same instant. Unique in a queue.
    pub(super) order: u64,
    /// Attempts that count, the one under way included.
    pub(super) attempts: u32,
    /// Ends of the process while the item was leased.
    pub(super) crashes: u32,
    pub(super) enqueued_at: UnixMicros,
    /// Why the latest attempt failed.
    pub(super) error: Option<String>,
    pub(super) place: Place,
}

impl Record for JobRecord {
    const FORMAT: u8 = 1;
}

/// Bytes, written as such.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Payload(#[serde(with = "bytes")] pub(super) Vec<u8>);

/// Which index an item is in. Variants are stored by position: new ones go last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Place {
    Ready,
    Delayed { run_at: UnixMicros },
    Leased { until: UnixMicros, token: u64 },
    Dead { at: UnixMicros },
}

/// The state of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct QueueRecord {
    /// The latest number given out, as an order or as a token.
    number: u64,
    /// The tenant served last.
    pub(super) turn: Option<TenantId>,
    pub(super) depths: Depths,
}

impl Record for QueueRecord {
    const FORMAT: u8 = 1;
}

impl QueueRecord {
    pub(super) fn load(tx: &impl Readable, def: &QueueDef) -> Result<QueueRecord, StorageError> {
        let state = tx.get(&QUEUES, &(QueueName::of(def),))?;
        Ok(state.unwrap_or_default())
    }

    pub(super) fn save(&self, tx: &mut WriteTx<'_>, def: &QueueDef) -> Result<(), StorageError> {
        tx.put(&QUEUES, &(QueueName::of(def),), self)
    }

    /// A number higher than any before.
    pub(super) fn number(&mut self) -> u64 {
        self.number += 1;
        self.number
    }

    fn depth(&mut self, place: Place) -> &mut u64 {
        match place {
            Place::Ready => &mut self.depths.ready,
            Place::Delayed { .. } => &mut self.depths.delayed,
            Place::Leased { .. } => &mut self.depths.leased,
            Place::Dead { .. } => &mut self.depths.dead,
        }
    }
}

impl JobRecord {
    pub(super) fn new(
        key: Option<String>,
        payload: Vec<u8>,
        order: u64,
        now: UnixMicros,
        place: Place,
    ) -> JobRecord {
        JobRecord {
            key,
            payload,
            successor: None,
            order,
            attempts: 0,
            crashes: 0,
            enqueued_at: now,
            error: None,
            place,
        }
    }
}

/// An item and what leads to it.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) id: JobId,
    pub(super) tenant: TenantId,
    pub(super) job: JobRecord,
}

impl Item {
    /// The item an index leads to. Its absence is damage.
    pub(super) fn load(
        tx: &impl Readable,
        def: &QueueDef,
        tenant: &TenantId,
        id: JobId,
    ) -> Result<Item, StorageError> {
        let item = Item::find(tx, def, tenant, id)?;
        item.ok_or_else(|| StorageError::corrupt(JOBS.name(), format!("no job {id}")))
    }

    pub(super) fn find(
        tx: &impl Readable,
        def: &QueueDef,
        tenant: &TenantId,
        id: JobId,
    ) -> Result<Option<Item>, StorageError> {
        let tenant = tenant.clone();
        let job = tx.get(&JOBS, &(tenant.clone(), QueueName::of(def), id))?;
        Ok(job.map(|job| Item { id, tenant, job }))
    }

    pub(super) fn save(&self, tx: &mut WriteTx<'_>, def: &QueueDef) -> Result<(), StorageError> {
        tx.put(&JOBS, &self.row(def), &self.job)
    }

    /// Takes the item out of the index of its place. It must go into another, or go altogether.
    pub(super) fn take_out(
        &self,
        tx: &mut WriteTx<'_>,
        def: &QueueDef,
        state: &mut QueueRecord,
    ) -> Result<(), StorageError> {
        let queue = QueueName::of(def);
        let order = self.job.order;
        let found = match self.job.place {
            Place::Ready => tx.remove(&READY, &(queue, self.tenant.clone(), order)),
            Place::Delayed { run_at } => tx.remove(&DELAYED, &(queue, run_at, order)),
            Place::Leased { until, .. } => tx.remove(&LEASES, &(queue, until, order)),
            Place::Dead { at } => tx.remove(&DEAD, &(queue, at, order)),
        }?;
        let depth = state.depth(self.job.place);
        if !found || *depth == 0 {
            return Err(self.corrupt("is not where it says"));
        }
        *depth -= 1;
        Ok(())
    }

    /// Puts the item into the index of `place` and saves it.
    pub(super) fn put_in(
        &mut self,
        tx: &mut WriteTx<'_>,
        def: &QueueDef,
        state: &mut QueueRecord,
        place: Place,
    ) -> Result<(), StorageError> {
        self.job.place = place;
        *state.depth(place) += 1;
        let (id, tenant) = (self.id, self.tenant.clone());
        let queue = QueueName::of(def);
        let order = self.job.order;
        match place {
            Place::Ready => tx.put(&READY, &(queue, tenant, order), &id),
            Place::Delayed { run_at } => {
                tx.put(&DELAYED, &(queue, run_at, order), &JobRef { tenant, id })
            }
            Place::Leased { until, .. } => {
                tx.put(&LEASES, &(queue, until, order), &JobRef { tenant, id })
            }
            Place::Dead { at } => tx.put(&DEAD, &(queue, at, order), &JobRef { tenant, id }),
        }?;
        self.save(tx, def)
    }

    /// Takes the item out of its index and puts it behind all that are ready.
    pub(super) fn make_ready(
        mut self,
        tx: &mut WriteTx<'_>,
        def: &QueueDef,
        state: &mut QueueRecord,
    ) -> Result<(), StorageError> {
        self.take_out(tx, def, state)?;
        self.job.order = state.number();
        self.put_in(tx, def, state, Place::Ready)
    }

    /// Ends the lease: back to the place the item had among the ready ones, or, if a newer payload
    /// came meanwhile, to begin afresh with that.
    pub(super) fn give_back(
        mut self,
        tx: &mut WriteTx<'_>,
        def: &QueueDef,
        state: &mut QueueRecord,
    ) -> Result<(), StorageError> {
        if let Some(Payload(payload)) = self.job.successor.take() {
            self.begin_afresh(payload);
            return self.make_ready(tx, def, state);
        }
        self.take_out(tx, def, state)?;
        self.put_in(tx, def, state, Place::Ready)
    }

    /// Forgets the past of the item's present payload.
    pub(super) fn begin_afresh(&mut self, payload: Vec<u8>) {
        self.job.payload = payload;
        self.job.attempts = 0;
        self.job.crashes = 0;
        self.job.error = None;
    }

    /// Moves the item to the dead; its key is free for another.
    pub(super) fn die(
        mut self,
        tx: &mut WriteTx<'_>,
        def: &QueueDef,
        state: &mut QueueRecord,
        error: &str,
        at: UnixMicros,
    ) -> Result<(), StorageError> {
        self.take_out(tx, def, state)?;
        self.free_key(tx, def)?;
        self.count_pending(tx, def, -1)?;
        self.job.error = Some(shortened(error));
        self.put_in(tx, def, state, Place::Dead { at })
    }

    /// Removes the item altogether.
    pub(super) fn remove(
        self,
        tx: &mut WriteTx<'_>,
        def: &QueueDef,
        state: &mut QueueRecord,
    ) -> Result<(), StorageError> {
        self.take_out(tx, def, state)?;
        if !matches!(self.job.place, Place::Dead { .. }) {
            self.free_key(tx, def)?;
            self.count_pending(tx, def, -1)?;
        }
        tx.remove(&JOBS, &self.row(def)).map(drop)
    }

    fn free_key(&self, tx: &mut WriteTx<'_>, def: &QueueDef) -> Result<(), StorageError> {
        if let Some(row) = self.key_row(def) {
            tx.remove(&KEYS, &row)?;
        }
        Ok(())
    }

    /// Counts the item among its tenant's live ones, or no longer.
    pub(super) fn count_pending(
        &self,
        tx: &mut WriteTx<'_>,
        def: &QueueDef,
        delta: i64,
    ) -> Result<(), StorageError> {
        let row = (self.tenant.clone(), QueueName::of(def));
        let before = tx.get(&PENDING, &row)?.unwrap_or(0);
        match before.checked_add_signed(delta) {
            Some(0) => tx.remove(&PENDING, &row).map(drop),
            Some(after) => tx.put(&PENDING, &row, &after),
            None => Err(self.corrupt("was not counted")),
        }
    }

    /// The row that reserves the item's key, if it has one.
    pub(super) fn key_row(&self, def: &QueueDef) -> Option<(TenantId, QueueName, String)> {
        let key = self.job.key.clone()?;
        Some((self.tenant.clone(), QueueName::of(def), key))
    }

    pub(super) fn corrupt(&self, reason: &str) -> StorageError {
        StorageError::corrupt(JOBS.name(), format!("job {}: {reason}", self.id))
    }

    fn row(&self, def: &QueueDef) -> (TenantId, QueueName, JobId) {
        (self.tenant.clone(), QueueName::of(def), self.id)
    }
}

/// Longest error kept with an item, in bytes.
const ERROR_MAX: usize = 1000;

/// The beginning of a long error.
pub(super) fn shortened(error: &str) -> String {
    error[..error.floor_char_boundary(ERROR_MAX)].to_owned()
}
