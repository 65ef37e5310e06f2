//! Finding nodes by meaning and by words.
//!
//! The indexes propose ids; every one is read again from the store and checked against tenant,
//! deletion and filter before it is returned. When too few pass, the search goes deeper.

mod again;
pub mod engines;
pub mod eval;
mod facts;
mod filter;
pub mod fuse;
mod indexer;
mod indexes;
mod looking;
mod windows;

use std::sync::Arc;

use activekg_index::{IndexError, Metric, TextQuery};
use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::time::{Clock, UnixMicros};
use activekg_storage::{StorageError, Store};

use crate::embedding::{EmbedError, Embedder, Windows};
use crate::graph::{self, Node, View};

pub use again::find_again;
pub use engines::VectorIndexes;
pub use filter::Filter;
pub use fuse::Fusion;
pub use indexer::{Freshness, Indexer, Progress, State};
pub use indexes::{Indexes, Opened};
use looking::{Looking, Place};
pub(crate) use windows::node_of;

/// Age in days of a node that was never refreshed, for the weighted score.
const AGE_NEVER_REFRESHED: f64 = 365.0;
/// How to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// By meaning.
    Vector,
    /// By meaning and by words, fused.
    Hybrid,
    /// By words.
    Text,
}

impl Mode {
    /// Its name in answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Vector => "vector",
            Self::Hybrid => "hybrid",
            Self::Text => "text",
        }
    }
}

/// What a score is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScoreType {
    /// Similarity of vectors.
    Cosine,
    /// Weighted sum of similarity and relevance.
    WeightedFusion,
    /// Reciprocal ranks of both lists.
    RrfFused,
    /// Relevance of words.
    Bm25,
}

impl ScoreType {
    /// Its name in answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cosine => "cosine",
            Self::WeightedFusion => "weighted_fusion",
            Self::RrfFused => "rrf_fused",
            Self::Bm25 => "bm25",
        }
    }
}

/// How age and drift lower a score.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Weighting {
    /// Exponential decay a day.
    pub decay_lambda: f64,
    /// Share of the drift that is taken off.
    pub drift_beta: f64,
}

impl Weighting {
    /// `similarity` of `node`, lowered by its age and drift.
    fn apply(&self, similarity: f64, node: &Node, now: UnixMicros) -> f64 {
        const DAY: f64 = 86_400.0;
        let age =
            node.last_refreshed.map_or(AGE_NEVER_REFRESHED, |at| now.since(at).as_secs_f64() / DAY);
        let fresh = (-self.decay_lambda * age).exp();
        let steady = (1.0 - self.drift_beta * node.drift_score.unwrap_or(0.0)).max(0.0);
        similarity * fresh * steady
    }
}

/// A search.
#[derive(Debug, Clone)]
pub struct Request {
    /// What is looked for.
    pub query: String,
    /// Most hits to return.
    pub top_k: usize,
    /// How to look.
    pub mode: Mode,
    /// Whether the hits may be reordered by a reranker. None is built in, so it only widens the
    /// lists that are fused, as a reranker would need them.
    pub use_reranker: bool,
    /// Whether age and drift count (vector mode).
    pub weighting: Option<Weighting>,
    /// Which nodes may be returned.
    pub filter: Filter,
    /// Least cosine similarity of a hit.
    pub min_similarity: Option<f64>,
}

/// A node that was found.
#[derive(Debug, Clone)]
pub struct FoundNode {
    /// The node as it is now.
    pub node: Node,
    /// Its score; what that is, says [`Found::score_type`].
    pub score: f64,
    /// Its similarity to the query by vector, if it has one and it was compared.
    pub vector_similarity: Option<f64>,
}

/// What a search found, best first.
#[derive(Debug, Clone)]
pub struct Found {
    /// The nodes.
    pub hits: Vec<FoundNode>,
    /// How they were found; hybrid falls back to vector when it finds nothing.
    pub mode: Mode,
    /// What their scores are.
    pub score_type: ScoreType,
    /// Whether a reranker ordered them.
    pub reranked: bool,
}

/// What searching needs to know of the settings.
#[derive(Debug, Clone)]
pub struct Settings {
    /// How distance is measured.
    pub metric: Metric,
    /// How both lists become one.
    pub fusion: Fusion,
    /// Least length of each fused list.
    pub rerank_base: usize,
    /// How many times `top_k` are weighed in a weighted search.
    pub weighted_factor: f64,
    /// What becomes of texts that are longer than the model reads.
    pub windows: Windows,
}

/// Why a search failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The query could not be embedded.
    #[error("could not embed the query: {0}")]
    Embedding(#[from] EmbedError),
    /// An index failed.
    #[error("index unavailable: {0}")]
    Index(#[from] IndexError),
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// A stored node does not parse.
    #[error(transparent)]
    Graph(#[from] graph::Error),
    /// The search was cut off by the shutdown.
    #[error("interrupted")]
    Interrupted,
}

/// Searches the graph.
#[derive(Clone)]
pub struct Search {
    store: Arc<Store>,
    indexes: Arc<Indexes>,
    freshness: Freshness,
    embedder: Embedder,
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
}

impl Search {
    /// Searches `store` by `indexes`.
    pub fn new(
        store: Arc<Store>,
        indexes: Arc<Indexes>,
        freshness: Freshness,
        embedder: Embedder,
        settings: Settings,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { store, indexes, freshness, embedder, settings: Arc::new(settings), clock }
    }

    /// The settings searches follow.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How far the indexes are.
    pub fn freshness(&self) -> &Freshness {
        &self.freshness
    }

    /// The best nodes that `view` may see. What was answered as written before the call is
    /// found by it: by words always, by meaning as soon as it is embedded.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn find(&self, view: &View, request: Request) -> Result<Found, Error> {
        let now_at = self.store.last_seq();
        let by_words = request.mode != Mode::Vector || !request.filter.is_empty();
        let place = if request.mode == Mode::Text && request.min_similarity.is_none() {
            None
        } else {
            self.freshness.vectors(now_at).await;
            Some(self.place(&request.query).await?)
        };
        if by_words {
            self.freshness.text(now_at).await;
        }
        let (search, view) = (self.clone(), view.clone());
        tokio::task::spawn_blocking(move || {
            let tx = search.store.read()?;
            Looking::new(&search, &tx, &view, &request, place)?.run()
        })
        .await
        .map_err(|_| Error::Interrupted)?
    }

    /// Where a query is among the vectors of the model that serves now.
    async fn place(&self, query: &str) -> Result<Place, Error> {
        loop {
            // The model and its vectors must be of one slot, whatever is changed meanwhile.
            let embedder = self.embedder.fixed();
            let vector = embedder.query(query).await?;
            if let Some(vectors) = self.indexes.vectors(embedder.slot()) {
                return Ok(Place { vector, vectors });
            }
            // That model has been dropped since.
            if Arc::ptr_eq(&embedder, &self.embedder.fixed()) {
                return Err(Error::Interrupted);
            }
        }
    }

    /// The scores by words of `among`, best first; those without a word of the query are left
    /// out.
    ///
    /// # Errors
    ///
    /// See [`Error`].
    pub async fn text_rank(
        &self,
        view: &View,
        query: &str,
        among: &[NodeId],
    ) -> Result<Vec<(NodeId, f64)>, Error> {
        self.freshness.text(self.store.last_seq()).await;
        let wanted: std::collections::HashSet<NodeId> = among.iter().copied().collect();
        let (search, view, query) = (self.clone(), view.clone(), query.to_owned());
        tokio::task::spawn_blocking(move || {
            let owners = view.owners();
            let tenants: Vec<&str> = owners.iter().map(TenantId::as_str).collect();
            let limit = search.indexes.text.len().max(1);
            let none = activekg_index::FactFilter::default();
            let query = TextQuery { text: &query, tenants: &tenants, limit, facts: &none };
            let hits = search.indexes.text.search(&query)?;
            let scored =
                hits.into_iter().map(|hit| (NodeId::from_u128(hit.id), f64::from(hit.score)));
            Ok(scored.filter(|(id, _)| wanted.contains(id)).collect())
        })
        .await
        .map_err(|_| Error::Interrupted)?
    }
}
