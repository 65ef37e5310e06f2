//! What is stored of a queue.
//!
//! An item has a number, its **order**, which it keeps for as long as it lives; tenants are served
//! in it. Its row lies on the shelf of its state: ready and leased items on one, delayed and held
//! ones on others. Leasing writes no item: a tenant's `head` moves past the items handed out, and
//! one row tells of all that went to the same worker. What becomes ready again behind the head is
//! listed in [`FRONT`].

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{CameAt, DeadReason, Depths, QueueDef, Rank, State};
use crate::codec::{Record, bytes};
use crate::ids::{JobId, TenantId};
use crate::keys::{InvalidKey, Key};
use crate::table::{Table, TableInfo};
use crate::time::UnixMicros;

/// A queue's name as a component of keys.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct QueueName(Cow<'static, str>);

impl QueueName {
    pub(crate) fn of(def: &QueueDef) -> QueueName {
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

/// The rows of items in one state.
pub(crate) type Shelf = Table<ItemKey, ItemRecord>;

/// Tenant, queue, order.
pub(crate) type ItemKey = (TenantId, QueueName, u64);

/// (tenant, queue, order) -> item. Ready and leased ones: a tenant's next.
pub(crate) const ITEMS: Shelf = Table::new("queue.items");

/// (tenant, queue, order) -> item. Delayed ones, found through [`DUE`] and [`LIVE`].
pub(crate) const LATER: Shelf = Table::new("queue.later");

/// (tenant, queue, order) -> item. Held ones: all of a tenant's.
pub(crate) const HELD: Shelf = Table::new("queue.held");

/// (tenant, queue, key) -> order. The live item that has a key, and what is to follow it.
pub(crate) const LIVE: Table<(TenantId, QueueName, String), KeyRecord> = Table::new("queue.live");

/// (tenant, queue, order). Items that are ready behind their tenant's head.
pub(crate) const FRONT: Table<ItemKey, ()> = Table::new("queue.front");

/// (tenant, queue, key or nothing, order) -> time of death. The dead of a tenant, or of a key.
pub(crate) const LETTERS_OF: Table<(TenantId, QueueName, String, u64), DiedAt> =
    Table::new("queue.letters_of");

// The tables below are how a queue finds its next item among all tenants, so the queue is first.

/// (queue) -> its counters.
pub(crate) const STATE: Table<(QueueName,), QueueRecord> = Table::new("queue.state");

/// (queue, tenant) -> counters of a tenant that has items, dead or alive.
pub(crate) const TENANTS: Table<(QueueName, TenantId), TenantRecord> = Table::new("queue.tenants");

/// (queue, tenant). Tenants with something ready, in the order of their turns.
pub(crate) const TURNS: Table<(QueueName, TenantId), ()> = Table::new("queue.turns");

/// (queue, order) -> owner. Ready items that go first and alone: the process ended while they were
/// leased.
pub(crate) const SUSPECTS: Table<(QueueName, u64), Owner> = Table::new("queue.suspects");

/// (queue, run at, order) -> owner. What has come due, earliest first.
pub(crate) const DUE: Table<(QueueName, UnixMicros, u64), Owner> = Table::new("queue.due");

/// (queue, end of the lease, token) -> items. What has lapsed, earliest first.
pub(crate) const LEASED: Table<(QueueName, UnixMicros, u64), LeaseRecord> =
    Table::new("queue.leased");

/// (queue, time of death, order) -> dead item. Oldest first.
pub(crate) const LETTERS: Table<(QueueName, UnixMicros, u64), DeadRecord> =
    Table::new("queue.letters");

pub(crate) const TABLES: &[TableInfo] = &[
    TableInfo::of(&ITEMS),
    TableInfo::of(&LATER),
    TableInfo::of(&HELD),
    TableInfo::of(&LIVE),
    TableInfo::of(&FRONT),
    TableInfo::of(&LETTERS_OF),
    TableInfo::of(&STATE),
    TableInfo::of(&TENANTS),
    TableInfo::of(&TURNS),
    TableInfo::of(&SUSPECTS),
    TableInfo::of(&DUE),
    TableInfo::of(&LEASED),
    TableInfo::of(&LETTERS),
];

/// An item.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ItemRecord {
    pub(crate) id: JobId,
    pub(crate) key: Option<String>,
    #[serde(with = "bytes")]
    pub(crate) payload: Vec<u8>,
    pub(crate) rank: Option<Rank>,
    /// Attempts that are over and count.
    pub(crate) attempts: u32,
    /// Ends of the process while the item was leased.
    pub(crate) crashes: u32,
    pub(crate) enqueued_at: UnixMicros,
    pub(crate) first_failed_at: Option<UnixMicros>,
    /// Why the latest attempt failed.
    pub(crate) error: Option<String>,
    pub(crate) waits: Waits,
}

impl Record for ItemRecord {
    const FORMAT: u8 = 1;
}

/// What an item waits for, apart from its turn. Variants are stored by position: new ones go last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Waits {
    Nothing,
    Until(UnixMicros),
    Held(String),
}

impl ItemRecord {
    /// An item without a payload yet.
    pub(super) fn new(id: JobId, key: Option<String>, enqueued_at: UnixMicros) -> ItemRecord {
        ItemRecord {
            id,
            key,
            payload: Vec::new(),
            rank: None,
            attempts: 0,
            crashes: 0,
            enqueued_at,
            first_failed_at: None,
            error: None,
            waits: Waits::Nothing,
        }
    }

    /// The shelf an item that waits for this lies on.
    pub(super) fn shelf(&self) -> &'static Shelf {
        match self.waits {
            Waits::Nothing => &ITEMS,
            Waits::Until(_) => &LATER,
            Waits::Held(_) => &HELD,
        }
    }

    /// Takes over a newer payload and forgets how the former one fared.
    pub(super) fn begin_afresh(&mut self, payload: Vec<u8>, rank: Option<Rank>) {
        self.payload = payload;
        self.rank = rank;
        self.attempts = 0;
        self.crashes = 0;
        self.first_failed_at = None;
        self.error = None;
    }

    /// When what is to be done now was enqueued: the item, or the payload that took over its place.
    pub(super) fn renewed_at(&self, came_at: CameAt) -> UnixMicros {
        let came = came_at(&self.payload);
        came.map_or(self.enqueued_at, |came| came.max(self.enqueued_at))
    }

    /// Counts an attempt that came to nothing.
    pub(super) fn attempt_failed(&mut self, error: &str, now: UnixMicros) {
        self.attempts = self.attempts.saturating_add(1);
        self.first_failed_at.get_or_insert(now);
        self.error = Some(shortened(error));
    }
}

/// What a key stands for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct KeyRecord {
    pub(crate) order: u64,
    /// What came while a worker had the item.
    pub(crate) successor: Option<Successor>,
}

impl Record for KeyRecord {
    const FORMAT: u8 = 1;
}

/// A newer payload, and the place it was given when it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Successor {
    #[serde(with = "bytes")]
    pub(crate) payload: Vec<u8>,
    pub(crate) rank: Option<Rank>,
    pub(crate) order: u64,
    pub(crate) enqueued_at: UnixMicros,
}

/// Whose item an index leads to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Owner {
    pub(crate) tenant: TenantId,
}

impl Record for Owner {
    const FORMAT: u8 = 1;
}

/// Items that one worker took at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct LeaseRecord {
    /// Those not settled yet. One whose row is gone was removed from under the worker.
    pub(crate) items: Vec<LeasedItem>,
}

impl Record for LeaseRecord {
    const FORMAT: u8 = 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LeasedItem {
    pub(crate) order: u64,
    pub(crate) tenant: TenantId,
}

/// An item that was given up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeadRecord {
    pub(crate) tenant: TenantId,
    pub(crate) reason: DeadReason,
    pub(crate) item: ItemRecord,
}

impl Record for DeadRecord {
    const FORMAT: u8 = 1;
}

/// Leads to a dead item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DiedAt(pub(crate) UnixMicros);

impl Record for DiedAt {
    const FORMAT: u8 = 1;
}

/// The state of a queue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct QueueRecord {
    /// The latest number given out, as an order or as a token.
    pub(crate) number: u64,
    /// The tenant served last.
    pub(crate) turn: Option<TenantId>,
    pub(crate) depths: Depths,
    pub(crate) paused: bool,
    /// The item that is leased alone, if one is.
    pub(crate) alone: Option<u64>,
    /// Dead items removed because there were too many or they were too old.
    pub(crate) evicted: u64,
}

impl Record for QueueRecord {
    const FORMAT: u8 = 1;
}

/// The state of a tenant in a queue.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct TenantRecord {
    pub(crate) depths: Depths,
    /// Past every item that was ever leased. From here on what is on the shelf of ready and leased
    /// items is ready.
    pub(crate) head: u64,
}

impl Record for TenantRecord {
    const FORMAT: u8 = 1;
}

impl Depths {
    pub(crate) fn of(&mut self, state: State) -> &mut u64 {
        match state {
            State::Ready => &mut self.ready,
            State::Delayed => &mut self.delayed,
            State::Leased => &mut self.leased,
            State::Held => &mut self.held,
            State::Dead => &mut self.dead,
        }
    }
}

/// Longest error or reason kept with an item, in bytes.
const ERROR_MAX: usize = 1000;

/// The beginning of a long text.
pub(super) fn shortened(text: &str) -> String {
    text[..text.floor_char_boundary(ERROR_MAX)].to_owned()
}
