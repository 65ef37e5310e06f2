//! How far a change is, for people.

use activekg_storage::tables::models::{self as tables, ChangeRecord, ModelRecord};
use activekg_storage::time::UnixMicros;

use super::{Error, ModelChanges, lock, record_of};

/// A model, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Served {
    /// The embedder.
    pub backend: String,
    /// Its model, as typed.
    pub model: String,
    /// The name its vectors carry.
    pub name: String,
    /// Numbers in a vector.
    pub dim: usize,
}

/// How far a change is, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The new model's vectors are being made.
    Filling,
    /// They are all there, and the old model serves.
    Ready,
    /// The new model serves, and the old one's vectors are kept up to date.
    Switched,
    /// The vectors of the model that does not serve are being removed.
    Dropping,
}

impl Phase {
    /// Its name in answers.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filling => "filling",
            Self::Ready => "ready",
            Self::Switched => "switched",
            Self::Dropping => "dropping",
        }
    }
}

/// A change that is under way.
#[derive(Debug, Clone, PartialEq)]
pub struct ChangeStatus {
    /// The model that does not serve: the one to come, or after the switch the one before.
    pub other: Served,
    /// How far it is.
    pub phase: Phase,
    /// Nodes looked at.
    pub checked: u64,
    /// Nodes there are, soft-deleted ones left out.
    pub nodes: u64,
    /// Vectors made.
    pub embedded: u64,
    /// Nodes whose text has changed since and that wait for their vector.
    pub behind: u64,
    /// Those of them that failed so often that a switch may leave them out.
    pub failed: u64,
    /// When it was begun.
    pub started_at: UnixMicros,
    /// When all nodes had been looked at.
    pub filled_at: Option<UnixMicros>,
    /// When the models were exchanged, the latest time.
    pub switched_at: Option<UnixMicros>,
    /// What keeps it from going on.
    pub problem: Option<String>,
}

/// Which model serves, and the change if there is one.
#[derive(Debug, Clone, PartialEq)]
pub struct Status {
    /// The model that searches work with.
    pub serving: Served,
    /// The change.
    pub change: Option<ChangeStatus>,
}

impl ModelChanges {
    /// Which model serves, and how far a change is.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn status(&self) -> Result<Status, Error> {
        let models = self.parts.graph.models().await?;
        let change = match models.and_then(|models| models.change) {
            Some(change) => Some(self.change_status(change).await?),
            None => None,
        };
        Ok(Status { serving: self.serving(), change })
    }

    /// The model that searches work with.
    pub fn serving(&self) -> Served {
        served(&record_of(&lock(&self.shared.serving), self.parts.embedder.fixed().model()))
    }

    async fn change_status(&self, change: ChangeRecord) -> Result<ChangeStatus, Error> {
        let (behind, failed) = self.parts.graph.behind().await?;
        let phase = match change.phase {
            tables::Phase::Filling if change.filled_at.is_some() && behind == 0 => Phase::Ready,
            tables::Phase::Filling => Phase::Filling,
            tables::Phase::Switched => Phase::Switched,
            tables::Phase::Dropping => Phase::Dropping,
        };
        Ok(ChangeStatus {
            other: served(&change.other),
            phase,
            checked: change.checked,
            nodes: self.parts.graph.listed().await?,
            embedded: change.embedded,
            behind,
            failed,
            started_at: change.started_at,
            filled_at: change.filled_at,
            switched_at: change.switched_at,
            problem: lock(&self.shared.problem).clone(),
        })
    }
}

fn served(model: &ModelRecord) -> Served {
    let ModelRecord { backend, setting, name, dim, .. } = model.clone();
    Served { backend, model: setting, name, dim: dim as usize }
}
