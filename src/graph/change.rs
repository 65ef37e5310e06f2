//! Changing the model that embeds: the vectors of both models side by side, and which one serves.
//!
//! A change fills the slot that does not serve, node by node, and keeps it up to date from then on;
//! searches work with the other one all the while. The switch exchanges the two in one
//! transaction, either way and as often as wanted, until one of them is dropped. How far it is
//! stands in the store, so a restart goes on where it was.

use activekg_storage::ids::EventId;
use activekg_storage::tables::Json;
use activekg_storage::tables::auth::{AuditRecord, audit_as};
use activekg_storage::tables::graph::{BEHIND, BehindRecord, NODES, Slot};
use activekg_storage::tables::models::{
    ChangeRecord, EMBEDDING, MODELS, ModelRecord, ModelsRecord, Phase,
};
use activekg_storage::time::UnixMicros;
use activekg_storage::{Readable, Scan, StorageError, WriteTx};
use serde_json::{Value, json};

use super::requeue::queue_again;
use super::slots::Key;
use super::{Error, Graph, counts};

/// Rows removed in one step.
const STEP: usize = 250;
/// Attempts to embed a text after which a switch may leave its node out.
const ATTEMPTS_MAX: u32 = 5;
/// Most nodes that a switch may leave out: they are queued in its transaction.
const LEFT_OUT_MAX: usize = 1000;

/// Why a change cannot go on as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChangeError {
    /// There is none.
    #[error("no change of the embedding model is under way; `activekg models change` begins one")]
    None,
    /// There is one.
    #[error(
        "a change to {0} is under way; drop it first, or drop the model before if the switch is made"
    )]
    UnderWay(String),
    /// The model serves already.
    #[error("{0} serves already")]
    Same(String),
    /// Not in this phase.
    #[error("{0}")]
    Phase(&'static str),
    /// Not all vectors are there.
    #[error(
        "not all nodes have a vector of {model} yet: {behind} wait, of which {failed} failed again and again{}; \
         wait, or leave up to {LEFT_OUT_MAX} failed ones out with accept_missing",
        if *filled { "" } else { ", and more have not been looked at" }
    )]
    Behind {
        /// The model that is to serve.
        model: String,
        /// Nodes that lack one.
        behind: u64,
        /// Those of them that failed as often as is tried.
        failed: u64,
        /// Whether all nodes have been looked at.
        filled: bool,
    },
    /// The graph failed.
    #[error(transparent)]
    Graph(#[from] Error),
}

impl From<StorageError> for ChangeError {
    fn from(error: StorageError) -> Self {
        Self::Graph(error.into())
    }
}

impl Graph {
    /// The models of the vectors, and the change if there is one; `None` if none was ever begun.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn models(&self) -> Result<Option<ModelsRecord>, Error> {
        self.reading(|tx| Ok(read(tx)?)).await
    }

    /// Nodes whose vector in the slot that does not serve is missing or old, and how many of them
    /// failed for good.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn behind(&self) -> Result<(u64, u64), Error> {
        self.reading(|tx| Ok(behind(tx)?)).await
    }

    /// Nodes of all tenants, soft-deleted ones left out.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn listed(&self) -> Result<u64, Error> {
        self.reading(|tx| Ok(counts::listed(tx)?)).await
    }

    /// Begins a change from `serving`, by which the vectors that are there were made, to `other`.
    ///
    /// # Errors
    ///
    /// [`ChangeError::UnderWay`], [`ChangeError::Same`], the store's own.
    pub async fn begin_change(
        &self,
        serving: ModelRecord,
        other: ModelRecord,
        actor: &str,
    ) -> Result<(), ChangeError> {
        let now = self.clock.now();
        self.space.check(now)?;
        let actor = actor.to_owned();
        let begin = move |tx: &mut WriteTx<'_>| -> Result<(), ChangeError> {
            let models = read(tx)?;
            let mut models = models.unwrap_or_else(|| ModelsRecord {
                serving: serving.clone(),
                slot: Slot::default(),
                change: None,
                left: Vec::new(),
            });
            if let Some(change) = &models.change {
                return Err(ChangeError::UnderWay(change.other.name.clone()));
            }
            if same(&models.serving, &other) {
                return Err(ChangeError::Same(other.name.clone()));
            }
            let details = json!({ "from": models.serving.name, "to": other.name });
            models.serving = serving;
            models.change = Some(ChangeRecord {
                other,
                phase: Phase::Filling,
                at: None,
                checked: 0,
                embedded: 0,
                started_at: now,
                filled_at: None,
                switched_at: None,
            });
            write(tx, &models)?;
            Ok(note(tx, now, &actor, "model.change", &details)?)
        };
        self.store.write(begin).await?;
        Ok(())
    }

    /// Exchanges the models: forward, or back if `back`. What failed for good in the one that is to
    /// serve goes to the embedding queue if `accept_missing`.
    ///
    /// # Errors
    ///
    /// [`ChangeError::Behind`] while nodes lack its vector; the store's own.
    pub async fn switch_models(
        &self,
        back: bool,
        accept_missing: bool,
        actor: &str,
    ) -> Result<(), ChangeError> {
        let now = self.clock.now();
        let actor = actor.to_owned();
        let switch = move |tx: &mut WriteTx<'_>| -> Result<(), ChangeError> {
            let mut models = read(tx)?.ok_or(ChangeError::None)?;
            let mut change = models.change.take().ok_or(ChangeError::None)?;
            change.phase = match (change.phase, back) {
                (Phase::Filling, false) => Phase::Switched,
                (Phase::Switched, true) => Phase::Filling,
                (Phase::Filling, true) => {
                    return Err(ChangeError::Phase("the old model serves; there is no way back"));
                }
                (Phase::Switched, false) => {
                    return Err(ChangeError::Phase("the new model serves already"));
                }
                (Phase::Dropping, _) => {
                    return Err(ChangeError::Phase("the other model is being removed"));
                }
            };
            let (n_behind, n_failed) = behind(tx)?;
            let left_out =
                accept_missing && n_behind == n_failed && n_behind <= LEFT_OUT_MAX as u64;
            let filled = change.filled_at.is_some();
            if !filled || (n_behind > 0 && !left_out) {
                let (behind, failed) = (n_behind, n_failed);
                return Err(ChangeError::Behind {
                    model: change.other.name,
                    behind,
                    failed,
                    filled,
                });
            }
            leave_out(tx, now)?;
            std::mem::swap(&mut models.serving, &mut change.other);
            models.slot = models.slot.other();
            models.left.retain(|left| !named_alike(left, &models.serving));
            if !models.left.iter().any(|left| named_alike(left, &change.other)) {
                models.left.push(change.other.clone());
            }
            change.switched_at = Some(now);
            let details = json!({ "from": change.other.name, "to": models.serving.name });
            models.change = Some(change);
            write(tx, &models)?;
            let action = if back { "model.roll_back" } else { "model.switch" };
            Ok(note(tx, now, &actor, action, &details)?)
        };
        self.store.write(switch).await?;
        Ok(())
    }

    /// Begins to remove the vectors of the model that does not serve, which ends the change:
    /// before the switch it gives it up, after the switch it makes it final.
    ///
    /// # Errors
    ///
    /// [`ChangeError::None`], the store's own. A full disk does not stop it.
    pub async fn drop_other_model(&self, actor: &str) -> Result<(), ChangeError> {
        let now = self.clock.now();
        let actor = actor.to_owned();
        let begin = move |tx: &mut WriteTx<'_>| -> Result<(), ChangeError> {
            let mut models = read(tx)?.ok_or(ChangeError::None)?;
            let change = models.change.as_mut().ok_or(ChangeError::None)?;
            if change.phase == Phase::Dropping {
                return Ok(());
            }
            change.phase = Phase::Dropping;
            let details = json!({ "dropped": change.other.name });
            write(tx, &models)?;
            Ok(note(tx, now, &actor, "model.drop", &details)?)
        };
        self.store.make_room(begin).await?;
        Ok(())
    }

    /// Removes the next vectors of a model that is being dropped; whether that ended the change.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn drop_step(&self) -> Result<bool, Error> {
        let step = move |tx: &mut WriteTx<'_>| -> Result<bool, Error> {
            let Some(mut models) = read(tx)? else { return Ok(true) };
            if models.change.as_ref().is_none_or(|change| change.phase != Phase::Dropping) {
                return Ok(true);
            }
            let other = models.slot.other();
            let (vectors, windows) = (other.vectors(), other.windows());
            let keys = |key: Result<(Key, _), StorageError>| key.map(|(key, _)| key);
            let rows: Vec<Key> =
                tx.scan(vectors, Scan::all())?.take(STEP).map(keys).collect::<Result<_, _>>()?;
            let marks = tx.scan(&BEHIND, Scan::all())?.take(STEP);
            let marks: Vec<Key> =
                marks.map(|row| row.map(|(key, _)| key)).collect::<Result<_, _>>()?;
            for key in &rows {
                tx.remove(vectors, key)?;
                tx.remove(windows, key)?;
            }
            for key in &marks {
                tx.remove(&BEHIND, key)?;
            }
            let ended = rows.len() < STEP && marks.len() < STEP;
            if ended {
                models.change = None;
                write(tx, &models)?;
            }
            Ok(ended)
        };
        Ok(self.store.make_room(step).await?.value)
    }
}

/// The models of the vectors; `None` if no change was ever begun.
pub(super) fn read(tx: &impl Readable) -> Result<Option<ModelsRecord>, StorageError> {
    tx.get(&MODELS, &(EMBEDDING.to_owned(),))
}

pub(super) fn write(tx: &mut WriteTx<'_>, models: &ModelsRecord) -> Result<(), StorageError> {
    tx.put(&MODELS, &(EMBEDDING.to_owned(),), models)
}

/// Whether both make the same vectors.
fn same(a: &ModelRecord, b: &ModelRecord) -> bool {
    a.name == b.name && a.dim == b.dim
}

/// Whether the settings name both alike.
fn named_alike(a: &ModelRecord, b: &ModelRecord) -> bool {
    a.backend == b.backend && a.setting == b.setting && a.dimensions == b.dimensions
}

/// Nodes with a mark, and those of them that failed as often as is tried.
fn behind(tx: &impl Readable) -> Result<(u64, u64), StorageError> {
    let (mut n, mut failed) = (0, 0);
    for row in tx.scan(&BEHIND, Scan::all())? {
        let (_, BehindRecord { attempts, .. }) = row?;
        n += 1;
        failed += u64::from(attempts >= ATTEMPTS_MAX);
    }
    Ok((n, failed))
}

/// Queues the nodes that have no vector in the slot that is about to serve.
fn leave_out(tx: &mut WriteTx<'_>, now: UnixMicros) -> Result<(), Error> {
    let rows = tx.scan(&BEHIND, Scan::all())?.map(|row| row.map(|(key, _)| key));
    for key in rows.collect::<Result<Vec<Key>, _>>()? {
        tx.remove(&BEHIND, &key)?;
        if let Some(record) = tx.get(&NODES, &key)?.filter(|node| !node.deleted) {
            queue_again(tx, &key, &record, now)?;
        }
    }
    Ok(())
}

/// Enters an act in the audit trail.
fn note(
    tx: &mut WriteTx<'_>,
    now: UnixMicros,
    actor: &str,
    action: &str,
    details: &Value,
) -> Result<(), StorageError> {
    let record = AuditRecord {
        tenant: None,
        actor: actor.to_owned(),
        action: action.to_owned(),
        object: EMBEDDING.to_owned(),
        details: Json(details.to_string()),
    };
    audit_as(tx, now, EventId::at(now), &record)
}
