//! Which model makes the vectors, and how far a change to another one is.

use serde::{Deserialize, Serialize};

use super::graph::Slot;
use crate::codec::Record;
use crate::ids::{NodeId, TenantId};
use crate::table::{Table, TableInfo};
use crate::time::UnixMicros;

/// (what for) -> the models of that. One row at most, [`EMBEDDING`], from the first change on; until
/// then the settings name the model.
pub const MODELS: Table<(String,), ModelsRecord> = Table::new("models");

/// The key of the models that embed.
pub const EMBEDDING: &str = "embedding";

pub(crate) const TABLES: &[TableInfo] = &[TableInfo::of(&MODELS)];

/// A model, as the settings name it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModelRecord {
    /// The embedder.
    pub backend: String,
    /// Its model, as the operator typed it.
    pub setting: String,
    /// The address of its service, if one was given.
    pub base_url: Option<String>,
    /// Numbers in a vector, if the operator said.
    pub dimensions: Option<u32>,
    /// The name its vectors carry.
    pub name: String,
    /// Numbers in its vectors.
    pub dim: u32,
}

/// The models of a purpose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ModelsRecord {
    /// The model that searches work with.
    pub serving: ModelRecord,
    /// Where its vectors are.
    pub slot: Slot,
    /// The change that is under way.
    pub change: Option<ChangeRecord>,
    /// The models that the store was changed away from. Settings that still name one of them are
    /// out of date, and harmless.
    pub left: Vec<ModelRecord>,
}

impl Record for ModelsRecord {
    const FORMAT: u8 = 1;
}

/// A change of the model. The vectors of the model that does not serve are in the other slot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeRecord {
    /// The model that does not serve: the one to come, or after the switch the one before.
    pub other: ModelRecord,
    /// How far it is.
    pub phase: Phase,
    /// The last node looked at, in order of keys; nothing before the first.
    pub at: Option<(TenantId, NodeId)>,
    /// Nodes looked at.
    pub checked: u64,
    /// Vectors made.
    pub embedded: u64,
    /// When it was begun.
    pub started_at: UnixMicros,
    /// When all nodes had been looked at.
    pub filled_at: Option<UnixMicros>,
    /// When searches went over to the new model, the latest time.
    pub switched_at: Option<UnixMicros>,
}

/// How far a change is. Variants are stored by position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// The old model serves, and the new one's vectors are made and kept up to date.
    Filling,
    /// The new model serves, and the old one's vectors are kept up to date.
    Switched,
    /// The vectors of the model that does not serve are being removed.
    Dropping,
}
