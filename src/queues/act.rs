//! Acts of an administrator, each with its entry in the audit trail.

use activekg_storage::ids::{EventId, TenantId};
use activekg_storage::queue::{self, DeadFilter, Purge};
use activekg_storage::tables::Json;
use activekg_storage::tables::auth::{AuditRecord, audit_as};
use activekg_storage::time::UnixMicros;
use activekg_storage::{StorageError, WriteTx};
use serde_json::{Map, Value, json};

use super::{Error, Letters, Managed, Queues, Waiting, before};

/// Items that one transaction removes or moves at most, so that other writers need not wait long.
const BATCH: usize = 250;

/// What a purge or a clearance did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Purged {
    /// Items removed.
    pub purged: u64,
    /// Items of the tenant, or of all if none was named, that are still there: waiting ones after
    /// a purge, dead ones after a clearance.
    pub remaining: u64,
}

/// What a replay did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Replayed {
    /// Dead letters that are ready again.
    pub replayed: u64,
    /// Dead letters that stay, because a live item, which is newer, has their key.
    pub superseded: u64,
}

/// The entry of one act in the audit trail.
#[derive(Clone)]
struct Entry {
    begun: UnixMicros,
    id: EventId,
    record: AuditRecord,
    /// What was asked for.
    asked: Map<String, Value>,
}

impl Entry {
    /// Writes the entry, or brings it up to date, with what was done so far.
    fn write(&self, tx: &mut WriteTx<'_>, done: &Value) -> Result<(), StorageError> {
        let mut details = self.asked.clone();
        if let Value::Object(done) = done {
            details.extend(done.clone());
        }
        let details = Json(Value::Object(details).to_string());
        let record = AuditRecord { details, ..self.record.clone() };
        audit_as(tx, self.begun, self.id, &record)
    }
}

impl Queues {
    /// From here on nothing of the queue is leased. False if it was paused already.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn pause(&self, queue: &'static Managed, actor: &str) -> Result<bool, Error> {
        let entry = self.entry(actor, "queue.pause", queue, None, Value::Null);
        let paused = self.store.write(move |tx| {
            let changed = queue::pause(tx, &queue.def)?;
            entry.write(tx, &json!({ "changed": changed }))?;
            Ok::<_, Error>(changed)
        });
        Ok(paused.await?.value)
    }

    /// Ends a pause; false if there was none.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn resume(&self, queue: &'static Managed, actor: &str) -> Result<bool, Error> {
        let entry = self.entry(actor, "queue.resume", queue, None, Value::Null);
        let resumed = self.store.write(move |tx| {
            let changed = queue::resume(tx, &queue.def)?;
            entry.write(tx, &json!({ "changed": changed }))?;
            Ok::<_, Error>(changed)
        });
        Ok(resumed.await?.value)
    }

    /// Removes waiting items, oldest first, and never leased ones. Of each tenant at most as many
    /// as wait when its turn comes, so it ends however fast others enqueue. It makes room, so a
    /// full disk takes it.
    ///
    /// # Errors
    ///
    /// The store's own; what was removed before stays removed, and the audit trail says how much.
    pub async fn purge(
        &self,
        queue: &'static Managed,
        waiting: Waiting,
        actor: &str,
    ) -> Result<Purged, Error> {
        let Waiting { tenant, older_than, keep } = waiting;
        let asked = json!({
            "older_than_seconds": older_than.map(|age| age.as_secs()),
            "keep": (keep > 0).then_some(keep),
        });
        let entry = self.entry(actor, "queue.purge", queue, tenant.as_ref(), asked);
        let enqueued_before = older_than.map(|age| before(entry.begun, age));
        let purge = Purge { enqueued_before, keep_newest: keep };
        let tenants = match tenant {
            Some(tenant) => vec![tenant],
            None => self.tenants(queue).await?.into_iter().map(|(tenant, _)| tenant).collect(),
        };
        if tenants.is_empty() {
            let entry = entry.clone();
            let nothing = json!({ "purged": 0 });
            self.store.make_room(move |tx| Ok::<_, Error>(entry.write(tx, &nothing)?)).await?;
        }
        let mut done = Purged::default();
        for tenant in tenants {
            let mut left = None;
            let remaining = loop {
                let limit = left.map_or(BATCH, |left: usize| left.min(BATCH));
                let (entry, tenant, so_far) = (entry.clone(), tenant.clone(), done.purged);
                let batch = self.store.make_room(move |tx| {
                    let batch =
                        queue::purge(tx, &queue.def, &tenant, (purge, queue.came_at), limit)?;
                    (queue.purged)(tx, &tenant, &batch.keys, entry.begun)?;
                    entry.write(tx, &json!({ "purged": so_far + batch.purged }))?;
                    Ok::<_, Error>(batch)
                });
                let queue::Purged { purged, remaining, keys: _ } = batch.await?.value;
                done.purged += purged;
                let rest = match left {
                    None => usize::try_from(remaining).unwrap_or(usize::MAX),
                    Some(left) => left - limit,
                };
                if purged < limit as u64 || rest == 0 {
                    break remaining;
                }
                left = Some(rest);
            };
            done.remaining += remaining;
        }
        Ok(done)
    }

    /// Makes dead letters ready again, oldest first, with all their attempts before them.
    ///
    /// # Errors
    ///
    /// The store's own; what was replayed before stays so, and the audit trail says how much.
    pub async fn replay(
        &self,
        queue: &'static Managed,
        letters: Letters,
        actor: &str,
    ) -> Result<Replayed, Error> {
        let (entry, filter) = self.letters_entry("queue.dead.replay", queue, letters, None, actor);
        let mut done = Replayed::default();
        loop {
            let (entry, filter, so_far) = (entry.clone(), filter.clone(), done.replayed);
            let batch = self.store.write(move |tx| {
                let now = entry.begun;
                let batch = queue::replay_dead(tx, &queue.def, &filter, BATCH, now)?;
                for of_one in batch.keys.chunk_by(|(a, _), (b, _)| a == b) {
                    let keys: Vec<String> = of_one.iter().map(|(_, key)| key.clone()).collect();
                    (queue.replayed)(tx, &of_one[0].0, &keys, now)?;
                }
                let replayed = so_far + batch.replayed as u64;
                entry
                    .write(tx, &json!({ "replayed": replayed, "superseded": batch.superseded }))?;
                Ok::<_, Error>(batch)
            });
            let queue::Replayed { replayed, superseded, keys: _ } = batch.await?.value;
            done.replayed += replayed as u64;
            // Each batch passes those by that the ones before it did.
            done.superseded = superseded as u64;
            if replayed < BATCH {
                return Ok(done);
            }
        }
    }

    /// Removes dead letters for good, oldest first, but not the newest `keep` of those that are
    /// meant. It makes room, so a full disk takes it.
    ///
    /// # Errors
    ///
    /// The store's own; what was removed before stays removed, and the audit trail says how much.
    pub async fn clear(
        &self,
        queue: &'static Managed,
        letters: Letters,
        keep: usize,
        actor: &str,
    ) -> Result<Purged, Error> {
        let tenant = letters.tenant.clone();
        let (entry, filter) =
            self.letters_entry("queue.dead.clear", queue, letters, Some(keep), actor);
        let mut purged = 0;
        loop {
            let (entry, filter, so_far) = (entry.clone(), filter.clone(), purged);
            let batch = self.store.make_room(move |tx| {
                let n = queue::clear_dead(tx, &queue.def, &filter, keep, BATCH)? as u64;
                entry.write(tx, &json!({ "purged": so_far + n }))?;
                Ok::<_, Error>(n)
            });
            let removed = batch.await?.value;
            purged += removed;
            if removed < BATCH as u64 {
                break;
            }
        }
        let remaining = self.stats(queue, tenant).await?.depths.dead;
        Ok(Purged { purged, remaining })
    }

    /// The entry of an act that begins now. What was asked for leaves out what is null.
    fn entry(
        &self,
        actor: &str,
        action: &str,
        queue: &Managed,
        tenant: Option<&TenantId>,
        asked: Value,
    ) -> Entry {
        let begun = self.clock.now();
        let asked = match asked {
            Value::Object(asked) => asked.into_iter().filter(|(_, what)| !what.is_null()).collect(),
            _ => Map::new(),
        };
        let record = AuditRecord {
            tenant: tenant.cloned(),
            actor: actor.to_owned(),
            action: action.to_owned(),
            object: queue.def.name.to_owned(),
            details: Json::default(),
        };
        Entry { begun, id: EventId::at(begun), record, asked }
    }

    /// The entry and the filter of an act on the letters that are dead by now. Those that die
    /// while it goes on are not meant, so it ends however fast that happens.
    fn letters_entry(
        &self,
        action: &str,
        queue: &Managed,
        letters: Letters,
        keep: Option<usize>,
        actor: &str,
    ) -> (Entry, DeadFilter) {
        let asked = json!({
            "id": letters.id.map(|id| id.to_string()),
            "reason": letters.reason.map(|reason| reason.as_str()),
            "older_than_seconds": letters.older_than.map(|age| age.as_secs()),
            "keep": keep.filter(|keep| *keep > 0),
        });
        let entry = self.entry(actor, action, queue, letters.tenant.as_ref(), asked);
        let mut filter = letters.filter(entry.begun);
        filter.died_before.get_or_insert(UnixMicros(entry.begun.get().saturating_add(1)));
        (entry, filter)
    }
}
