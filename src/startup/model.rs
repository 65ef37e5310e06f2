//! Which embedding model a start serves with: the one that the settings name, unless the data
//! directory has been changed to another one since they were written.

use activekg_index::VectorOptions;
use activekg_storage::tables::graph::{Slot, VECTORS};
use activekg_storage::tables::models::{EMBEDDING, MODELS, ModelRecord, ModelsRecord, Phase};
use activekg_storage::{Readable, Scan, StorageError, Store};
use anyhow::Context;
use tracing::warn;

use crate::config;
use crate::embedding::ModelInfo;
use crate::models::{choice_of, named_by};

/// The model to serve with.
pub(super) struct Serving {
    /// The settings that name it.
    pub(super) settings: config::Embedding,
    /// They are those that were given.
    pub(super) is_configured: bool,
    /// Where its vectors are.
    pub(super) slot: Slot,
    /// The slot beside it, while the model is being changed, and the dimension of its vectors.
    other: Option<(Slot, usize)>,
    /// What is known of its vectors: their model and dimension.
    found: Option<(String, usize)>,
}

/// The model in the data directory is none that the settings may name.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the vectors in the data directory are of {found} ({found_dim} numbers each), and the settings name {named}; \
     vectors of two models do not compare. Set EMBEDDING_MODEL back to {found}; to go over to {named}, start with \
     {found} and run `activekg models change {named}`"
)]
pub(crate) struct OtherModel {
    found: String,
    found_dim: usize,
    named: String,
}

/// The model to serve `store` with under `settings`.
///
/// # Errors
///
/// [`OtherModel`], the store's own.
pub(super) fn choose(store: &Store, settings: &config::Embedding) -> anyhow::Result<Serving> {
    let models = read(store).context("read the model of the vectors")?;
    let Some(models) = models else {
        let found = first_vector(store).context("read the model of the vectors")?;
        let settings = settings.clone();
        let slot = Slot::default();
        return Ok(Serving { settings, is_configured: true, slot, other: None, found });
    };
    let ModelsRecord { serving, slot, change, left } = models;
    let change = change.filter(|change| change.phase != Phase::Dropping);
    let coming = change.iter().map(|change| &change.other);
    let is_configured = named_by(&serving, settings);
    let chosen = if is_configured {
        settings.clone()
    } else if left.iter().chain(coming).any(|model| named_by(model, settings)) {
        warn!(
            model = serving.setting,
            "the data directory was changed to this model, which is served; set EMBEDDING_MODEL to it in place of {}",
            settings.model
        );
        settings.with_model(&choice_of(&serving)).context("the model of the data directory")?
    } else {
        return Err(refused(&serving.setting, serving.dim as usize, &settings.model).into());
    };
    let ModelRecord { name, dim, .. } = serving;
    Ok(Serving {
        settings: chosen,
        is_configured,
        slot,
        other: change.map(|change| (slot.other(), change.other.dim as usize)),
        found: Some((name, dim as usize)),
    })
}

impl Serving {
    /// The slots in use, with the options of their indexes: those of the model that serves are
    /// `vectors`.
    pub(super) fn slots(&self, vectors: VectorOptions) -> Vec<(Slot, VectorOptions)> {
        let other = self.other.map(|(slot, dim)| (slot, VectorOptions { dim, ..vectors }));
        std::iter::once((self.slot, vectors)).chain(other).collect()
    }

    /// Refuses a model that is not the one that made the vectors. Where no change was ever begun
    /// each vector holds its model's name, and as no start lets two models into one store, the
    /// first one speaks for all.
    pub(super) fn check(&self, model: &ModelInfo) -> Result<(), OtherModel> {
        match &self.found {
            Some((name, dim)) if *name != model.name || *dim != model.dim => {
                Err(refused(name, *dim, &model.name))
            }
            _ => Ok(()),
        }
    }
}

fn refused(found: &str, found_dim: usize, named: &str) -> OtherModel {
    OtherModel { found: found.to_owned(), found_dim, named: named.to_owned() }
}

fn read(store: &Store) -> Result<Option<ModelsRecord>, StorageError> {
    store.read()?.get(&MODELS, &(EMBEDDING.to_owned(),))
}

fn first_vector(store: &Store) -> Result<Option<(String, usize)>, StorageError> {
    let tx = store.read()?;
    let Some(row) = tx.scan(&VECTORS, Scan::all())?.next() else {
        return Ok(None);
    };
    let (_, vector) = row?;
    Ok(Some((vector.model, vector.values.len())))
}
