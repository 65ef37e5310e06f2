//! Texts to vectors: the model that is compiled in, and the service that shares it.
//!
//! [`Encoder`] is the model as a function, for tools that own their threads. [`Embedder`] is the
//! model as a service: its own threads, a cache for queries, and queries ahead of batch work.
//!
//! ```text
//! text -> tokenize (256 word pieces) -> bert (6 layers) -> mean of the tokens -> length 1
//! ```

mod attention;
mod batcher;
mod bert;
mod between;
mod cache;
mod encoder;
mod fair;
mod folder;
#[cfg(test)]
mod hostile;
mod kernels;
mod linear;
mod model;
mod parts;
mod queue;
mod remote;
mod service;
mod stats;
mod tokenize;
mod weights;
mod windows;
mod worker;

pub use batcher::EmbedderOptions;
pub use encoder::Encoder;
pub use kernels::{Isa, UnknownIsa};
pub use model::{EncoderOptions, ModelInfo, Precision, UnknownPrecision};
pub use remote::{Dialect, Provider, ProviderOptions};
pub use service::{Embedder, FixedEmbedder};
pub use stats::{CacheStats, EmbedderStats, KindStats};
pub use windows::{
    FurtherWindows, TextVector, UnknownWindows, WINDOWS_MAX, Windows, mean, mode_of,
};

use crate::upstream::UpstreamError;

/// Why a text got no vector.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// The model's files do not fit each other or the program. Retrying does not help.
    #[error("embedding model unusable: {0}")]
    Model(String),
    /// This processor, or its system, lacks the instructions asked for.
    #[error("this processor lacks {0}; leave ACTIVEKG_CPU unset for the best it has")]
    Processor(Isa),
    /// The computation failed or panicked; other texts are not affected.
    #[error("embedding failed: {0}")]
    Failed(String),
    /// As many queries wait as may wait. Trying again a little later helps.
    #[error("embedding queue is full")]
    Busy,
    /// The service's threads could not be started, or are gone.
    #[error("embedding service stopped")]
    Stopped,
    /// The remote service failed, or refused.
    #[error("{0}")]
    Remote(#[source] UpstreamError),
    /// The tokens of the day are spent.
    #[error(
        "the {limit} tokens of the day are spent (EMBEDDING_TOKEN_BUDGET); raise the budget or wait until midnight UTC"
    )]
    Budget {
        /// Tokens a day.
        limit: u64,
    },
}

/// Cosine similarity of two vectors of one model, -1 to 1; 0 if one of them is all zero.
pub fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let (mut ab, mut aa, mut bb) = (0.0f64, 0.0f64, 0.0f64);
    for (&x, &y) in a.iter().zip(b) {
        let (x, y) = (f64::from(x), f64::from(y));
        ab += x * y;
        aa += x * x;
        bb += y * y;
    }
    if aa == 0.0 || bb == 0.0 { 0.0 } else { (ab / (aa * bb).sqrt()) as f32 }
}
