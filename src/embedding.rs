//! Texts to vectors: the model that is compiled in, and the service that shares it.
//!
//! [`Encoder`] is the model as a function, for tools that own their threads. [`Embedder`] is the
//! model as a service: its own threads, a cache for queries, and queries ahead of batch work.
//!
//! ```text
//! text -> tokenize (256 word pieces) -> bert (6 layers, f32) -> mean of the tokens -> length 1
//! ```

mod batcher;
mod bert;
mod cache;
mod encoder;
mod kernels;
mod model;
mod queue;
mod stats;
mod tokenize;
mod weights;

pub use batcher::{Embedder, EmbedderOptions};
pub use encoder::Encoder;
pub use model::{BUILT_IN, ModelInfo, Precision, UnknownPrecision};

/// Why a text got no vector.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum EmbedError {
    /// The model's files do not fit each other or the program. Retrying does not help.
    #[error("embedding model unusable: {0}")]
    Model(String),
    /// The computation failed or panicked; other texts are not affected.
    #[error("embedding failed: {0}")]
    Failed(String),
    /// As many queries wait as may wait. Trying again a little later helps.
    #[error("embedding queue is full")]
    Busy,
    /// The service's threads could not be started, or are gone.
    #[error("embedding service stopped")]
    Stopped,
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
