//! No vectors of two models in one data directory.

use activekg_storage::tables::graph::VECTORS;
use activekg_storage::{Readable, Scan, StorageError, Store};
use anyhow::Context;

use crate::embedding::ModelInfo;

/// Vectors of another model are there already.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the vectors in the data directory are of {found} ({found_dim} numbers each), and the settings name {named} \
     ({named_dim} numbers each); vectors of two models do not compare. Set EMBEDDING_MODEL back to {found}, or start \
     with another data directory and write the nodes there, which embeds them anew"
)]
pub(crate) struct OtherModel {
    found: String,
    found_dim: usize,
    named: String,
    named_dim: usize,
}

/// Refuses a store whose vectors another model made. Each holds its model's name; as no start
/// lets two models into one store, the first one speaks for all.
pub(super) fn refuse_others(store: &Store, model: &ModelInfo) -> anyhow::Result<()> {
    let first = first_vector(store).context("read the model of the vectors")?;
    let Some((found, found_dim)) = first else {
        return Ok(());
    };
    if found == model.name && found_dim == model.dim {
        return Ok(());
    }
    let (named, named_dim) = (model.name.clone(), model.dim);
    Err(OtherModel { found, found_dim, named, named_dim }.into())
}

fn first_vector(store: &Store) -> Result<Option<(String, usize)>, StorageError> {
    let tx = store.read()?;
    let Some(row) = tx.scan(&VECTORS, Scan::all())?.next() else {
        return Ok(None);
    };
    let (_, vector) = row?;
    Ok(Some((vector.model, vector.values.len())))
}
