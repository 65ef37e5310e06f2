//! Looking after the durable queues: what is in them, and what an administrator does about it.
//!
//! [`ALL`] names every queue there is. An act and its entry in the audit trail are one
//! transaction; a long act is cut into several, which bring one entry up to date. What depends on
//! an item, such as the state of its node, moves with it.

mod act;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use activekg_storage::ids::{JobId, TenantId};
use activekg_storage::queue::{
    self, CameAt, DeadFilter, DeadJob, DeadReason, End, PEEK_MAX, Peeked, QueueDef, QueueStats,
};
use activekg_storage::time::{Clock, UnixMicros};
use activekg_storage::{ReadTx, StorageError, Store, WriteTx};
use serde_json::Value;

use crate::connectors::{change, queue as changes};
use crate::graph;

pub use act::{Purged, Replayed};

/// Most items or dead letters that one call lists.
pub const LIST_MAX: usize = PEEK_MAX;

/// What follows for the owner of items from their having been moved: the items' tenant, their
/// keys, and the time.
type Moved = fn(&mut WriteTx<'_>, &TenantId, &[String], UnixMicros) -> Result<(), StorageError>;

/// Nothing follows: what an item is of stays as it is.
fn nothing(
    _: &mut WriteTx<'_>,
    _: &TenantId,
    _: &[String],
    _: UnixMicros,
) -> Result<(), StorageError> {
    Ok(())
}

/// A queue, with what its owner knows of its items.
#[derive(Debug)]
pub struct Managed {
    /// The queue.
    pub def: QueueDef,
    /// A payload as people read it; null if it cannot be read.
    pub item: fn(&[u8]) -> Value,
    /// When a payload was made; nothing if it does not say.
    came_at: CameAt,
    purged: Moved,
    replayed: Moved,
}

/// Every queue of the program.
#[rustfmt::skip] // one line each
pub static ALL: &[Managed] = &[
    Managed::new(graph::QUEUE, graph::job_item, graph::jobs_purged, graph::jobs_replayed).dated(graph::job_came_at),
    Managed::new(graph::TRIGGER_QUEUE, graph::check_item, nothing, nothing),
    Managed::new(graph::DELIVERY_QUEUE, graph::delivery_item, nothing, nothing),
    Managed::changes(changes::S3),
    Managed::changes(changes::GCS),
    Managed::changes(changes::DRIVE),
    Managed::changes(changes::AZURE),
    Managed::changes(changes::LOCAL),
    Managed::changes(changes::HTTP),
];

impl Managed {
    const fn new(def: QueueDef, item: fn(&[u8]) -> Value, purged: Moved, replayed: Moved) -> Self {
        Self { def, item, came_at: |_| None, purged, replayed }
    }

    const fn dated(self, came_at: CameAt) -> Self {
        Self { came_at, ..self }
    }

    /// A queue of changes.
    const fn changes(def: QueueDef) -> Self {
        Self::new(def, change::shown, nothing, nothing).dated(change::came_at)
    }
}

/// The queue of this name; those of connectors go by the name of their provider as well.
///
/// # Errors
///
/// [`Error::NotFound`].
pub fn find(name: &str) -> Result<&'static Managed, Error> {
    let provider = |queue: &Managed| changes::provider_of(queue.def.name);
    let named = |queue: &&Managed| {
        queue.def.name == name || provider(queue).is_some_and(|found| found.as_str() == name)
    };
    ALL.iter().find(named).ok_or(Error::NotFound)
}

/// How each of them is defined.
#[must_use]
pub fn defs() -> Vec<QueueDef> {
    ALL.iter().map(|queue| queue.def).collect()
}

/// Why a queue could not be looked at or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no queue of that name.
    #[error("Queue not found")]
    NotFound,
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A background read was cut off by the shutdown.
    #[error("interrupted")]
    Interrupted,
}

/// Which waiting items are meant: those that fit everything that is given. The default is all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Waiting {
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// Enqueued longer ago than this.
    pub older_than: Option<Duration>,
    /// But not the newest so many of each tenant.
    pub keep: u64,
}

/// Which dead letters are meant: those that fit everything that is given. The default is all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Letters {
    /// Of this tenant.
    pub tenant: Option<TenantId>,
    /// Of this name.
    pub id: Option<JobId>,
    /// For this reason.
    pub reason: Option<DeadReason>,
    /// Dead for longer than this.
    pub older_than: Option<Duration>,
}

impl Letters {
    fn filter(self, now: UnixMicros) -> DeadFilter {
        let Self { tenant, id, reason, older_than } = self;
        let died_before = older_than.map(|age| before(now, age));
        DeadFilter { tenant, id, key: None, reason, died_before }
    }
}

/// The instant `age` before `now`.
fn before(now: UnixMicros, age: Duration) -> UnixMicros {
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    UnixMicros(now.get().saturating_sub(micros))
}

/// Live items, and how many there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peek {
    /// All that are live.
    pub depth: u64,
    /// Those asked for, with their owners.
    pub items: Vec<(TenantId, Peeked)>,
}

/// The queues of a store. A clone is cheap.
#[derive(Clone)]
pub struct Queues {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
}

impl Queues {
    /// The queues in `store`.
    pub fn new(store: Arc<Store>, clock: Arc<dyn Clock>) -> Self {
        Self { store, clock }
    }

    /// Every queue as it is now.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn list(&self) -> Result<Vec<(&'static Managed, QueueStats)>, Error> {
        let now = self.clock.now();
        self.reading(move |tx| {
            ALL.iter().map(|queue| Ok((queue, queue::stats(tx, &queue.def, now)?))).collect()
        })
        .await
    }

    /// A queue as it is now, or one tenant's part of it.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn stats(
        &self,
        queue: &'static Managed,
        tenant: Option<TenantId>,
    ) -> Result<QueueStats, Error> {
        let now = self.clock.now();
        self.reading(move |tx| stats(tx, queue, tenant.as_ref(), now)).await
    }

    /// Every tenant that has items in the queue, dead or alive.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn tenants(
        &self,
        queue: &'static Managed,
    ) -> Result<Vec<(TenantId, QueueStats)>, Error> {
        let now = self.clock.now();
        self.reading(move |tx| queue::stats_by_tenant(tx, &queue.def, now)).await
    }

    /// Up to `limit`, at most [`LIST_MAX`], live items of a tenant or of all, in the order they
    /// were enqueued or the other way round.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn peek(
        &self,
        queue: &'static Managed,
        tenant: Option<TenantId>,
        from: End,
        limit: usize,
    ) -> Result<Peek, Error> {
        let limit = limit.min(LIST_MAX);
        let now = self.clock.now();
        self.reading(move |tx| {
            let depth = stats(tx, queue, tenant.as_ref(), now)?.depths.live();
            let tenants = match tenant {
                Some(tenant) => vec![tenant],
                None => queue::stats_by_tenant(tx, &queue.def, now)?
                    .into_iter()
                    .map(|(tenant, _)| tenant)
                    .collect(),
            };
            let one = tenants.len() == 1;
            let mut items = Vec::new();
            for tenant in tenants {
                let found = queue::peek(tx, &queue.def, &tenant, from, limit)?;
                items.extend(found.into_iter().map(|item| (tenant.clone(), item)));
                if !one {
                    // A stable sort, so that a tenant's items stay in their order.
                    match from {
                        End::Oldest => items.sort_by_key(|(_, item)| item.enqueued_at),
                        End::Newest => {
                            items.sort_by_key(|(_, item)| std::cmp::Reverse(item.enqueued_at));
                        }
                    }
                    items.truncate(limit);
                }
            }
            Ok(Peek { depth, items })
        })
        .await
    }

    /// Up to `limit`, at most [`LIST_MAX`], dead letters in the order they died or the other way
    /// round, and how many the queue or the tenant has in all.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn dead(
        &self,
        queue: &'static Managed,
        letters: Letters,
        from: End,
        limit: usize,
    ) -> Result<(u64, Vec<DeadJob>), Error> {
        let limit = limit.min(LIST_MAX);
        let now = self.clock.now();
        self.reading(move |tx| {
            let depth = stats(tx, queue, letters.tenant.as_ref(), now)?.depths.dead;
            Ok((depth, queue::dead(tx, &queue.def, &letters.filter(now), from, limit)?))
        })
        .await
    }

    /// Runs `work`, which reads the store, off the threads that serve connections.
    async fn reading<T, F>(&self, work: F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: FnOnce(&ReadTx) -> Result<T, StorageError> + Send + 'static,
    {
        let store = self.store.clone();
        let read = tokio::task::spawn_blocking(move || work(&store.read()?)).await;
        Ok(read.map_err(|_| Error::Interrupted)??)
    }
}

fn stats(
    tx: &ReadTx,
    queue: &Managed,
    tenant: Option<&TenantId>,
    now: UnixMicros,
) -> Result<QueueStats, StorageError> {
    match tenant {
        Some(tenant) => queue::tenant_stats(tx, &queue.def, tenant, now),
        None => queue::stats(tx, &queue.def, now),
    }
}
