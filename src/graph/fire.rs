//! Triggers that fire: a node listens for a pattern, and its text comes close enough to it.
//!
//! Checks are jobs of a durable queue, written in the transaction that gives cause for them: a new
//! embedding of a node, a trigger added to it, a pattern registered. A check, the events it leads
//! to and the note of what fired are one transaction, so a trigger fires once for each text of the
//! node and each example of the pattern, whatever ends the process in between. A check is never
//! leased beyond its transaction, so there is none to take up after a crash.

use std::time::Duration;

use activekg_storage::ids::{JobId, NodeId, TenantId};
use activekg_storage::queue::{self, DeadReason, Leased, NewJob, QueueDef};
use activekg_storage::tables::graph::{
    FIRED, FiredRecord, LISTENERS, NODES, PATTERNS, PatternRecord, Slot, TriggerRecord,
    VectorRecord,
};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan, StorageError, WriteTx};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::cosine::cosine;
use super::slots::{Key, Slots};
use super::{Error, Graph, delivery, event};

/// The queue of checks.
pub const QUEUE: QueueDef =
    QueueDef { lease: Duration::from_secs(60), ..QueueDef::named("triggers") };

/// Nodes checked for a pattern in one step.
const STEP: usize = 500;

/// What is to be checked.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Check {
    /// Everything that a node listens for.
    Node(NodeId),
    /// One pattern, at all nodes that listen for it, from after one on.
    Pattern { name: String, after: Option<NodeId> },
}

/// Which check a trigger fired in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Of one node.
    Node,
    /// Of all nodes that listen for a pattern.
    Pattern,
}

/// What checks came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Checked {
    /// Checks that were made, by what they are of.
    pub made: Vec<Scope>,
    /// Names of the patterns that fired, once for each node.
    pub fired: Vec<(String, Scope)>,
    /// Some checks wait for a pattern's vector by the model that serves.
    pub waiting: bool,
}

/// The key of the check of what a node listens for.
pub(super) fn key_of(node: NodeId) -> String {
    format!("node:{node}")
}

/// Queues the check of what a node listens for.
pub(super) fn check_node(tx: &mut WriteTx<'_>, key: &Key, now: UnixMicros) -> Result<(), Error> {
    enqueue(tx, &key.0, key_of(key.1), &Check::Node(key.1), now)
}

/// Queues the check of the nodes that listen for a pattern.
pub(super) fn check_listeners(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    name: &str,
    now: UnixMicros,
) -> Result<(), Error> {
    let check = Check::Pattern { name: name.to_owned(), after: None };
    enqueue(tx, tenant, format!("pattern:{name}"), &check, now)
}

fn enqueue(
    tx: &mut WriteTx<'_>,
    tenant: &TenantId,
    key: String,
    check: &Check,
    now: UnixMicros,
) -> Result<(), Error> {
    let job = NewJob {
        id: JobId::at(now),
        tenant: tenant.clone(),
        key: Some(key),
        payload: serde_json::to_vec(check).expect("a check always has a JSON form"),
        rank: None,
        run_at: None,
        now,
    };
    queue::enqueue(tx, &QUEUE, job)?;
    Ok(())
}

/// A check as people read it; null if it cannot be read.
#[must_use]
pub fn check_item(payload: &[u8]) -> Value {
    match serde_json::from_slice(payload) {
        Ok(Check::Node(node)) => json!({ "node_id": node.to_string() }),
        Ok(Check::Pattern { name, after: _ }) => json!({ "pattern": name }),
        Err(_) => Value::Null,
    }
}

impl Graph {
    /// Makes up to `n` of the checks that wait.
    ///
    /// # Errors
    ///
    /// The store's own; then nothing has fired.
    pub async fn check_triggers(&self, n: usize) -> Result<Checked, Error> {
        let (now, delivers) = (self.clock.now(), self.settings.delivers);
        let committed = self
            .store
            .write(move |tx| -> Result<Checked, Error> {
                let slot = Slots::read(tx)?.serving();
                let checked = Checked::default();
                let mut checking = Checking { slot, delivers, now, checked };
                for leased in queue::lease(tx, &QUEUE, now, n)? {
                    checking.job(tx, &leased)?;
                }
                Ok(checking.checked)
            })
            .await?;
        Ok(committed.value)
    }

    /// How long until a check comes due; `None` if none waits.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn next_check_in(&self) -> Result<Option<Duration>, Error> {
        let due = self.reading(|tx| Ok(queue::next_due(tx, &QUEUE)?)).await?;
        let now = self.clock.now();
        Ok(due.map(|due| due.since(now)))
    }
}

/// Checks under way in one transaction.
struct Checking {
    slot: Slot,
    delivers: bool,
    now: UnixMicros,
    checked: Checked,
}

/// What came of looking at one node.
enum Look {
    Done,
    /// A pattern has no vector that the node's could be compared with.
    Waits,
}

impl Checking {
    fn job(&mut self, tx: &mut WriteTx<'_>, leased: &Leased) -> Result<(), Error> {
        let tenant = &leased.tenant;
        let look = match serde_json::from_slice(&leased.payload) {
            Ok(Check::Node(node)) => {
                self.checked.made.push(Scope::Node);
                self.node(tx, &(tenant.clone(), node), None, Scope::Node)?
            }
            Ok(Check::Pattern { name, after }) => {
                self.checked.made.push(Scope::Pattern);
                self.listeners(tx, leased, &name, after)?
            }
            Err(_) => {
                queue::bury(tx, &QUEUE, leased, DeadReason::Parse, "not a check", self.now)?;
                return Ok(());
            }
        };
        match look {
            Look::Done => drop(queue::ack(tx, &QUEUE, leased)?),
            Look::Waits => {
                self.checked.waiting = true;
                queue::release(tx, &QUEUE, leased)?;
            }
        }
        Ok(())
    }

    /// Looks at the next nodes that listen for a pattern, and queues the look at those after them.
    fn listeners(
        &mut self,
        tx: &mut WriteTx<'_>,
        leased: &Leased,
        name: &str,
        after: Option<NodeId>,
    ) -> Result<Look, Error> {
        let tenant = &leased.tenant;
        let mut scan = Scan::prefix(&(tenant.clone(), name.to_owned()));
        if let Some(after) = after {
            scan = scan.after(&(tenant.clone(), name.to_owned(), after));
        }
        let nodes = tx.scan(&LISTENERS, scan)?.take(STEP).map(|row| row.map(|((.., id), ())| id));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        for node in &nodes {
            let look = self.node(tx, &(tenant.clone(), *node), Some(name), Scope::Pattern)?;
            if let Look::Waits = look {
                return Ok(Look::Waits);
            }
        }
        if nodes.len() == STEP {
            let check = Check::Pattern { name: name.to_owned(), after: nodes.last().copied() };
            // It becomes what follows the item that is leased.
            enqueue(tx, tenant, format!("pattern:{name}"), &check, self.now)?;
        }
        Ok(Look::Done)
    }

    /// Looks at what a node listens for, or at one pattern of it.
    fn node(
        &mut self,
        tx: &mut WriteTx<'_>,
        key: &Key,
        only: Option<&str>,
        scope: Scope,
    ) -> Result<Look, Error> {
        let Some(record) = tx.get(&NODES, key)?.filter(|node| !node.deleted) else {
            return Ok(Look::Done);
        };
        let Some(vector) = tx.get(self.slot.vectors(), key)? else { return Ok(Look::Done) };
        if vector.text_revision != record.text_revision {
            return Ok(Look::Done); // the text changed: its embedding is checked when it is there
        }
        for trigger in &record.triggers {
            if only.is_some_and(|only| only != trigger.name) {
                continue;
            }
            let Some(pattern) = pattern(tx, &key.0, &trigger.name)? else { continue };
            if pattern.model != vector.model {
                return Ok(Look::Waits);
            }
            self.trigger(tx, key, &vector, trigger, &pattern, scope)?;
        }
        Ok(Look::Done)
    }

    /// Lets a trigger fire, if it has cause to and has not fired for it yet.
    fn trigger(
        &mut self,
        tx: &mut WriteTx<'_>,
        key: &Key,
        vector: &VectorRecord,
        trigger: &TriggerRecord,
        pattern: &PatternRecord,
        scope: Scope,
    ) -> Result<(), Error> {
        let TriggerRecord { name, threshold } = trigger;
        let noted = (key.0.clone(), key.1, name.clone());
        let cause = FiredRecord { text_sha256: vector.text_sha256, revision: pattern.revision };
        if tx.get(&FIRED, &noted)?.is_some_and(|fired| fired == cause) {
            return Ok(());
        }
        let similarity = self.similarity(tx, key, vector, &pattern.values)?;
        if similarity < *threshold {
            return Ok(());
        }
        tx.put(&FIRED, &noted, &cause)?;
        let event = event::trigger_fired(tx, key, name, similarity, self.now)?;
        if self.delivers {
            delivery::enqueue(tx, key, event, (name, similarity), self.now)?;
        }
        self.checked.fired.push((name.clone(), scope));
        Ok(())
    }

    /// The cosine of a pattern and a node's text, -1 to 1: of a text with several windows, that of
    /// the best one, by which it would be found.
    fn similarity(
        &self,
        tx: &WriteTx<'_>,
        key: &Key,
        vector: &VectorRecord,
        pattern: &[f32],
    ) -> Result<f64, StorageError> {
        let further =
            tx.get(self.slot.windows(), key)?.map_or(Vec::new(), |windows| windows.values);
        let further = further.chunks_exact(vector.values.len().max(1));
        let all = std::iter::once(vector.values.as_slice()).chain(further);
        Ok(all.filter_map(|window| cosine(window, pattern)).fold(-1.0, f64::max))
    }
}

/// The pattern that a node of `tenant` means: its own, else a shared one.
fn pattern(
    tx: &impl Readable,
    tenant: &TenantId,
    name: &str,
) -> Result<Option<PatternRecord>, StorageError> {
    let own = tx.get(&PATTERNS, &(tenant.clone(), name.to_owned()))?;
    match own {
        Some(own) => Ok(Some(own)),
        None => tx.get(&PATTERNS, &(TenantId::shared(), name.to_owned())),
    }
}
