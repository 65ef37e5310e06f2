//! Durable queues: named, leased, retried, in the same transactions as everything else.
//!
//! - An item is **ready**, **delayed** until an instant, **leased** to a worker until an instant,
//!   **held** until its tenant's items are released, or **dead**. It vanishes when it is
//!   acknowledged, and not before.
//! - Items get a number as they come, their order. Ready items of a tenant are leased in it, those
//!   that were delayed, held or given back among them; tenants take turns.
//! - A queue holds one live (not dead) item per tenant and key. Enqueueing another replaces its
//!   payload, which begins afresh in the old place; if a worker has the item just then, the new
//!   payload waits and is run after that. One whose [`Rank`] is lower than that of the payload it
//!   would replace is older news and is ignored.
//! - An attempt counts when it fails or its lease lapses. Giving an item back, holding it, or
//!   losing it to the end of the process does not count.
//! - Items that were leased when the process ended are run first and one at a time: any of them
//!   may be what ended it.
//! - Depths are counters kept by the transactions that move items, hence exact.
//!
//! Work may be run twice: a worker that lost its lease finds out when it acknowledges. Every
//! operation that takes many items at once costs less than as many operations.

mod audit;
mod books;
mod dead;
mod enqueue;
mod hold;
mod lease;
mod look;
mod purge;
pub(crate) mod record;
mod recover;
mod retry;
mod settle;

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::ids::{JobId, TenantId};
use crate::time::UnixMicros;

pub(crate) use audit::derived;
pub(crate) use record::TABLES;

pub use dead::{
    DeadFilter, DeadJob, DeadReason, Replayed, clear_dead, clear_dead_of, dead, replay_dead,
};
pub use enqueue::{
    JOB_KEY_MAX, PAYLOAD_MAX, admit, enqueue, enqueue_all, remove_by_key, remove_waiting,
};
pub use hold::{hold_ready, pause, release_held, resume};
pub use lease::{PROMOTE_MAX, Share, lease, lease_shared};
pub use look::{
    End, PEEK_MAX, Peeked, QueueStats, depths, is_live, next_due, peek, pending, stats,
    stats_by_tenant, tenant_pending, tenant_stats,
};
pub use purge::{Purge, Purged, purge};
pub use recover::{CRASH_LOOP, CRASHES_MAX, Recovered, recover};
pub use settle::{ack, ack_all, bury, fail, hold, put_off, release, renew};

/// A queue, as a constant of whoever uses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueDef {
    /// Its name, unique in the store.
    pub name: &'static str,
    /// How long a worker has an item before another may take it.
    pub lease: Duration,
    /// Attempts before an item is dead; at least 1.
    pub max_attempts: u32,
    /// Longest wait after the first failed attempt; doubles with each further one.
    pub backoff_base: Duration,
    /// Longest wait after any.
    pub backoff_cap: Duration,
    /// Most dead items kept, of all tenants together; the oldest go first.
    pub dead_max: u64,
    /// How long a dead item is kept.
    pub dead_age: Duration,
}

impl QueueDef {
    /// The queue `name` with leases of 300 s, 5 attempts, waits of 10 s to 300 s between them, and
    /// 10,000 dead items kept for 30 days.
    #[must_use]
    pub const fn named(name: &'static str) -> QueueDef {
        QueueDef {
            name,
            lease: Duration::from_secs(300),
            max_attempts: 5,
            backoff_base: Duration::from_secs(10),
            backoff_cap: Duration::from_secs(300),
            dead_max: 10_000,
            dead_age: Duration::from_secs(30 * 24 * 3600),
        }
    }
}

/// How new a payload is among those for one key, by whoever made it: bytes that compare as the
/// versions do, at most [`Rank::MAX`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Rank(#[serde(with = "crate::codec::bytes")] Vec<u8>);

impl Rank {
    /// Longest rank, in bytes.
    pub const MAX: usize = 64;

    /// The rank with these bytes, as far as [`Rank::MAX`].
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Rank {
        Rank(bytes[..bytes.len().min(Rank::MAX)].to_vec())
    }

    /// The rank that compares with others made this way as the numbers do.
    #[must_use]
    pub fn of_number(number: u64) -> Rank {
        Rank(number.to_be_bytes().to_vec())
    }
}

/// When a payload was made, as far as it says so itself. An item keeps the time at which it came
/// first when a newer payload takes over its place.
pub type CameAt = fn(&[u8]) -> Option<UnixMicros>;

/// What goes into a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewJob {
    /// The item's name. Nothing depends on its being unique but those who look for it.
    pub id: JobId,
    /// Whose work it is.
    pub tenant: TenantId,
    /// What it is about, if only one item at a time may be.
    pub key: Option<String>,
    /// What the worker is told.
    pub payload: Vec<u8>,
    /// How new the payload is, among those with the same key. Without one, or beside one without,
    /// what comes later is newer.
    pub rank: Option<Rank>,
    /// Not before this instant. Does not delay what follows a leased item.
    pub run_at: Option<UnixMicros>,
    /// The present.
    pub now: UnixMicros,
}

/// What became of an enqueued item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Enqueued {
    /// It is in the queue.
    New(JobId),
    /// This item with the same key was already there. It took over the payload, and a delayed one
    /// the earlier time; see the module's text.
    Existing(JobId),
    /// This item with the same key was already there with a payload of higher rank, and is as it
    /// was.
    Superseded(JobId),
}

impl Enqueued {
    /// The item that is in the queue now.
    #[must_use]
    pub fn id(self) -> JobId {
        match self {
            Enqueued::New(id) | Enqueued::Existing(id) | Enqueued::Superseded(id) => id,
        }
    }
}

/// How many live items there may be; see [`admit`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Caps {
    /// In the queue.
    pub queue: Option<u64>,
    /// Of one tenant.
    pub tenant: Option<u64>,
}

/// What there is no room for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Any more items.
    #[error("the queue is full")]
    Queue,
    /// More items of this tenant.
    #[error("the queue is full for tenant {0}")]
    Tenant(TenantId),
}

/// An item in the hands of a worker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leased {
    /// The item's name.
    pub id: JobId,
    /// Whose work it is.
    pub tenant: TenantId,
    /// What it is about.
    pub key: Option<String>,
    /// What there is to do.
    pub payload: Vec<u8>,
    /// Which attempt this is, from 1.
    pub attempt: u32,
    /// How often the process ended while this item was leased.
    pub crashes: u32,
    /// When the item was enqueued.
    pub enqueued_at: UnixMicros,
    /// The lease's number, shared by items taken at the same time.
    token: u64,
    /// The item's number.
    order: u64,
    /// When another may take the item.
    until: UnixMicros,
}

impl Leased {
    /// When the lease ends, unless it is renewed.
    #[must_use]
    pub fn until(&self) -> UnixMicros {
        self.until
    }
}

/// What became of a failed item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// It runs again, not before this instant.
    Retry {
        /// The instant.
        run_at: UnixMicros,
    },
    /// It is among the dead.
    Dead,
    /// The lease had been lost; the item is somebody else's, or gone.
    LeaseLost,
}

/// Where an item stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// Can be leased.
    Ready,
    /// Waits for an instant.
    Delayed,
    /// Is with a worker.
    Leased,
    /// Is put aside until its tenant's items are released.
    Held,
    /// Was given up.
    Dead,
}

impl State {
    /// Every state.
    pub const ALL: [State; 5] =
        [State::Ready, State::Delayed, State::Leased, State::Held, State::Dead];

    /// The state as a word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            State::Ready => "ready",
            State::Delayed => "delayed",
            State::Leased => "leased",
            State::Held => "held",
            State::Dead => "dead",
        }
    }
}

/// How many items are in which state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Depths {
    /// Can be leased.
    pub ready: u64,
    /// Wait for an instant.
    pub delayed: u64,
    /// Are with workers.
    pub leased: u64,
    /// Are put aside.
    pub held: u64,
    /// Were given up.
    pub dead: u64,
}

impl Depths {
    /// All but the dead.
    #[must_use]
    pub fn live(&self) -> u64 {
        self.ready + self.delayed + self.leased + self.held
    }
}

#[cfg(test)]
mod tests;
