//! The derived indexes of activekg: nearest vectors, BM25 over words, and the fusion of both.
//!
//! Nothing here is a source of truth. Each index follows a log of changes that its caller keeps,
//! stores the number of the last change it has applied inside its own commit, and can be deleted
//! at any time: the caller opens an empty one and applies everything again.
//!
//! - Ids are `u128`, tenants are names, sequence numbers are `u64`; what they stand for is the
//!   caller's business. An index never decides what a tenant may see: callers re-check every hit.
//! - Bytes on disk are never trusted. A file that is missing, torn or changed is
//!   [`IndexError::Damaged`], which means "wipe and rebuild", never a panic or a wrong answer.
//! - Hits are ordered by falling score and then by id, so that a longer list starts with the
//!   shorter one.
//! - Calls block. Searches take no lock that a writer holds for long, so they may run beside
//!   writes; callers keep both off their async threads.

#[cfg(target_endian = "big")]
compile_error!("index files are little-endian and are used in place");

mod error;
mod files;
mod filter;
pub mod fusion;
mod kernels;
mod rank;
pub mod text;
pub mod vector;

pub use error::IndexError;
pub use filter::{FactFilter, IdSet};
pub use fusion::{Scale, reciprocal_rank, weighted_sum};
pub use kernels::Kernels;
pub use rank::Hit;
pub use text::{TextDoc, TextIndex, TextOp, TextOptions, TextQuery, TextWeights, terms};
pub use vector::{
    Build, Engine, EngineState, Engines, HnswParams, IvfParams, Metric, VectorOp, VectorOptions,
    VectorQuery, VectorSet,
};
