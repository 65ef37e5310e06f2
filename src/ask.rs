//! Answers to questions, from the nodes of the graph and with references to them.
//!
//! ```text
//! question → intent → retrieve (structured, hybrid, vector) → gate → sources → writer
//!                                                               ↓                 ↓
//!                                                            refusal   citations, confidence
//! ```
//!
//! [`Ask::answer`] and [`Ask::stream`] are one pipeline: what is streamed is what would have been
//! answered. Every step reads through the caller's view, so nothing of another tenant's gets
//! into an answer, a citation or its lineage.

pub mod answer;
pub mod cache;
pub mod candidate;
pub mod citation;
pub mod confidence;
pub mod context;
pub mod gate;
pub mod intent;
mod pipeline;
mod retrieve;
mod stream;
mod structured;
mod writing;

use std::sync::Arc;
use std::time::Duration;

use activekg_storage::time::Clock;

use crate::graph::{self, Graph};
use crate::llm::{LlmError, Writers};
use crate::search::{self, Search};

pub use answer::{Answer, Outcome};
pub use citation::Citation;
pub use stream::Event;

/// How questions are answered.
#[derive(Debug, Clone)]
pub struct Settings {
    /// From which likeness on.
    pub thresholds: gate::Thresholds,
    /// Most sources of an answer.
    pub sources_max: usize,
    /// Whether sources may be reordered by a reranker.
    pub use_reranker: bool,
    /// Whether questions are read for intents.
    pub intents: bool,
    /// Most answers that are kept; 0 = none.
    pub cache_max: usize,
    /// How long an answer is kept.
    pub cache_ttl: Duration,
}

impl Settings {
    /// The settings that the operator made, completed.
    pub fn new(config: &crate::config::Ask) -> Self {
        let default = gate::Thresholds::default();
        Self {
            thresholds: gate::Thresholds {
                refuse_cosine: config.raw_low_sim_threshold.unwrap_or(default.refuse_cosine),
                refuse_fused: config.rrf_low_sim_threshold,
                narrow_cosine: config.sim_threshold.unwrap_or(default.narrow_cosine),
            },
            sources_max: config.max_snippets,
            use_reranker: config.use_reranker,
            intents: true,
            cache_max: config.cache_max,
            cache_ttl: config.cache_ttl,
        }
    }
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its words, with single spaces, at most 1000 characters.
    pub text: String,
    /// Most nodes to answer from, 1 to 20.
    pub max_results: usize,
    /// Whether age and drift count when nothing but vectors finds anything.
    pub weighted: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operator turned answers off, or named a writer that cannot start.
    #[error("LLM provider not enabled. Set LLM_ENABLED=true and configure LLM_BACKEND/LLM_MODEL.")]
    Off,
    /// The search failed.
    #[error(transparent)]
    Search(#[from] search::Error),
    /// The graph could not be read.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// The writer failed.
    #[error(transparent)]
    Writer(#[from] LlmError),
}

/// What writes answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WriterName {
    /// Its kind.
    pub backend: &'static str,
    /// Its model, if it works by one.
    pub model: Option<String>,
}

/// Answers questions. A clone is cheap.
#[derive(Clone)]
pub struct Ask {
    parts: Arc<Parts>,
}

/// What answering takes.
struct Parts {
    graph: Graph,
    search: Search,
    writers: Writers,
    settings: Settings,
    cache: cache::Cache,
    clock: Arc<dyn Clock>,
}

impl Ask {
    /// Answers from what `search` finds in `graph`, in the words of `writers`.
    pub fn new(
        graph: Graph,
        search: Search,
        writers: Writers,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let cache = cache::Cache::new(settings.cache_max, settings.cache_ttl);
        Self { parts: Arc::new(Parts { graph, search, writers, settings, cache, clock }) }
    }

    /// What writes answers; none when they are off.
    pub fn writer_name(&self) -> Option<WriterName> {
        let writer = self.parts.writers.main.as_ref()?;
        Some(WriterName { backend: writer.name(), model: writer.model().map(str::to_owned) })
    }
}

#[cfg(test)]
mod tests;
