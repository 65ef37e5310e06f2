//! The two places for vectors: which one serves, and what the other one lacks.

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{BEHIND, BehindRecord, Slot, VectorRecord, WindowsRecord};
use activekg_storage::tables::models::{EMBEDDING, MODELS, ModelsRecord, Phase};
use activekg_storage::{Readable, StorageError, WriteTx};

use super::settle::MadeBy;
use crate::embedding::FurtherWindows;

/// A node's key.
pub(super) type Key = (TenantId, NodeId);

/// The slots as a transaction finds them.
pub(super) struct Slots {
    models: Option<ModelsRecord>,
}

impl Slots {
    pub(super) fn read(tx: &impl Readable) -> Result<Self, StorageError> {
        Ok(Self { models: tx.get(&MODELS, &(EMBEDDING.to_owned(),))? })
    }

    /// The slot that searches work with.
    pub(super) fn serving(&self) -> Slot {
        self.models.as_ref().map_or(Slot::default(), |models| models.slot)
    }

    /// The slot that is kept up to date beside it, while there is one.
    pub(super) fn other(&self) -> Option<Slot> {
        let models = self.models.as_ref()?;
        let change = models.change.as_ref()?;
        (change.phase != Phase::Dropping).then(|| models.slot.other())
    }

    /// Whether vectors of this maker are those that searches want. Where no change was ever begun
    /// the settings name the model, and the start lets in no other.
    pub(super) fn is_served_by(&self, made_by: &MadeBy) -> bool {
        let MadeBy { model, dim, slot } = made_by;
        self.models.as_ref().is_none_or(|models| {
            let serving = &models.serving;
            models.slot == *slot && serving.name == *model && serving.dim as usize == *dim
        })
    }

    /// Notes that the other slot, if there is one, is behind on a node whose text has this digest,
    /// unless it has the vector of just that text and other windows are not wanted of it.
    pub(super) fn note_behind(
        &self,
        tx: &mut WriteTx<'_>,
        key: &Key,
        text_sha256: &[u8; 32],
        other_windows: bool,
    ) -> Result<(), StorageError> {
        let Some(other) = self.other() else { return Ok(()) };
        let there = tx.get(other.vectors(), key)?;
        if other_windows || there.is_none_or(|vector| vector.text_sha256 != *text_sha256) {
            tx.put(&BEHIND, key, &BehindRecord::default())?;
        }
        Ok(())
    }
}

/// Writes a vector into a slot, and beside it what there is of further windows; whether the windows
/// are treated otherwise than those that were there.
pub(super) fn put(
    tx: &mut WriteTx<'_>,
    slot: Slot,
    key: &Key,
    record: &VectorRecord,
    windows: &Option<FurtherWindows>,
) -> Result<bool, StorageError> {
    tx.put(slot.vectors(), key, record)?;
    let before = tx.get(slot.windows(), key)?.map(|windows| windows.mode);
    match windows {
        Some(FurtherWindows { mode, vectors }) => {
            let record = WindowsRecord { mode: *mode, values: vectors.concat() };
            tx.put(slot.windows(), key, &record)?;
        }
        None => {
            tx.remove(slot.windows(), key)?;
        }
    }
    Ok(before != windows.as_ref().map(|windows| windows.mode))
}

/// Removes a node's vectors from both slots; whether the serving one had one.
pub(super) fn clear(tx: &mut WriteTx<'_>, key: &Key) -> Result<bool, StorageError> {
    let serving = Slots::read(tx)?.serving();
    for slot in Slot::ALL {
        tx.remove(slot.windows(), key)?;
    }
    tx.remove(serving.other().vectors(), key)?;
    tx.remove(&BEHIND, key)?;
    tx.remove(serving.vectors(), key)
}
