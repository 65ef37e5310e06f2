//! Why a change was refused.

use activekg_index::IndexError;

use crate::config::ConfigError;
use crate::embedding::EmbedError;
use crate::graph;

/// Why the model could not be changed as asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The settings of the new model are wrong.
    #[error(transparent)]
    Choice(#[from] ConfigError),
    /// The new model cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// The change does not allow it.
    #[error(transparent)]
    Change(#[from] graph::ChangeError),
    /// The index of the new vectors could not be made.
    #[error("index unavailable: {0}")]
    Index(#[from] IndexError),
    /// This process embeds nothing.
    #[error("no embedding worker runs in this process (RUN_EMBEDDING_WORKER)")]
    NoWorker,
    /// The other model is not loaded.
    #[error("the other model is not loaded: {0}")]
    NotLoaded(String),
    /// What was asked for is not to be had.
    #[error("{0}")]
    Asked(String),
    /// A query could not be embedded.
    #[error("could not embed a query: {0}")]
    Embedding(#[from] EmbedError),
    /// A background task was cut off by the shutdown.
    #[error("interrupted")]
    Interrupted,
}

impl From<graph::Error> for Error {
    fn from(error: graph::Error) -> Self {
        Self::Change(error.into())
    }
}
