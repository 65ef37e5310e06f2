//! Finding nodes by meaning and by words.
//!
//! The indexes propose ids; every one is read again from the store and checked against tenant,
//! deletion and filter before it is returned. When too few pass, the search goes deeper.

mod again;
pub mod eval;
mod facts;
mod filter;
pub mod fuse;
mod indexer;
mod indexes;
mod windows;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use activekg_index::{Hit, IdSet, IndexError, Metric, TextQuery, VectorQuery, VectorSet};
use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::NODES;
use activekg_storage::time::{Clock, UnixMicros};
use activekg_storage::{ReadTx, Readable, StorageError, Store};

use crate::embedding::{EmbedError, Embedder, Windows};
use crate::graph::{self, Node, View};

pub use again::find_again;
pub use filter::Filter;
pub use fuse::Fusion;
pub use indexer::{Freshness, Indexer, Progress, State};
pub use indexes::{Indexes, Opened};
pub(crate) use windows::node_of;

/// Age in days of a node that was never refreshed, for the weighted score.
const AGE_NEVER_REFRESHED: f64 = 365.0;
/// Slack by which the first look into an index exceeds what is wanted.
const SLACK: usize = 16;

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

    /// Whether searches by meaning go through a graph.
    pub fn graph_is_ready(&self) -> bool {
        self.indexes.graph_is_ready(self.embedder.fixed().slot())
    }

    /// How far the building of that graph is, while one is being built.
    pub fn graph_progress(&self) -> Option<(usize, usize)> {
        self.indexes.graph_progress(self.embedder.fixed().slot())
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

/// A query among vectors.
struct Place {
    vector: Arc<[f32]>,
    vectors: Arc<VectorSet>,
}

/// One search under way, on one snapshot of the store.
struct Looking<'a> {
    search: &'a Search,
    tx: &'a ReadTx,
    request: &'a Request,
    place: Option<Place>,
    owners: Vec<TenantId>,
    /// The ids that may pass the filter, if it narrows anything, with those of their windows.
    among: Option<IdSet>,
    facts: activekg_index::FactFilter,
}

impl<'a> Looking<'a> {
    fn new(
        search: &'a Search,
        tx: &'a ReadTx,
        view: &View,
        request: &'a Request,
        place: Option<Place>,
    ) -> Result<Self, Error> {
        let owners = view.owners();
        let facts = facts::required(&request.filter);
        let tenants: Vec<&str> = owners.iter().map(TenantId::as_str).collect();
        let among = search.indexes.text.candidates(&tenants, &facts)?;
        let mut among: Option<IdSet> = among.map(|ids| ids.into_iter().collect());
        if search.settings.windows == Windows::Best
            && let (Some(ids), Some(Place { vectors, .. })) = (&mut among, &place)
        {
            *ids = windows::with_windows(ids, vectors);
        }
        Ok(Self { search, tx, request, place, owners, among, facts })
    }

    fn run(&self) -> Result<Found, Error> {
        let found = match self.request.mode {
            Mode::Vector => self.by_vector()?,
            Mode::Hybrid => {
                let fused = self.fused()?;
                if fused.hits.is_empty() { self.by_vector()? } else { fused }
            }
            Mode::Text => self.by_words()?,
        };
        Ok(self.above_minimum(found))
    }

    /// Drops what is less similar than asked for.
    fn above_minimum(&self, mut found: Found) -> Found {
        if let Some(least) = self.request.min_similarity {
            found.hits.retain(|hit| hit.vector_similarity.is_some_and(|s| s >= least));
        }
        found
    }

    fn by_vector(&self) -> Result<Found, Error> {
        let top_k = self.request.top_k;
        let wanted = match self.request.weighting {
            Some(_) => (top_k as f64 * self.search.settings.weighted_factor) as usize,
            None => top_k,
        };
        let near = self.nearest(wanted.max(top_k))?;
        let now = self.search.clock.now();
        let mut hits: Vec<FoundNode> = near
            .into_iter()
            .map(|(hit, node)| {
                let similarity = f64::from(hit.score);
                let score = match &self.request.weighting {
                    Some(weighting) => weighting.apply(similarity, &node, now),
                    None => similarity,
                };
                FoundNode { node, score, vector_similarity: Some(similarity) }
            })
            .collect();
        hits.sort_by(|a, b| b.score.total_cmp(&a.score).then(a.node.id.cmp(&b.node.id)));
        hits.truncate(top_k);
        let score_type = ScoreType::Cosine;
        Ok(Found { hits, mode: Mode::Vector, score_type, reranked: false })
    }

    fn by_words(&self) -> Result<Found, Error> {
        let hits = self
            .worded(self.request.top_k)?
            .into_iter()
            .map(|(hit, node)| FoundNode {
                score: f64::from(hit.score),
                vector_similarity: self.similarity(node.id),
                node,
            })
            .collect();
        Ok(Found { hits, mode: Mode::Text, score_type: ScoreType::Bm25, reranked: false })
    }

    fn fused(&self) -> Result<Found, Error> {
        let Settings { fusion, rerank_base, .. } = &*self.search.settings;
        let depth = fuse::depth(self.request.top_k, self.request.use_reranker, *rerank_base);
        let (near, worded) = (self.nearest(depth)?, self.worded(depth)?);
        let hits = |list: &[(Hit, Node)]| list.iter().map(|(hit, _)| *hit).collect::<Vec<_>>();
        let fused = fusion.fuse(&hits(&near), &hits(&worded));
        let mut nodes: HashMap<u128, Node> =
            worded.into_iter().chain(near).map(|(hit, node)| (hit.id, node)).collect();
        let hits = fused
            .into_iter()
            .take(self.request.top_k)
            .filter_map(|hit| {
                let node = nodes.remove(&hit.id)?;
                let vector_similarity = self.similarity(node.id);
                Some(FoundNode { node, score: f64::from(hit.score), vector_similarity })
            })
            .collect();
        let score_type = match fusion {
            Fusion::ReciprocalRank { .. } => ScoreType::RrfFused,
            Fusion::Weighted { .. } => ScoreType::WeightedFusion,
        };
        Ok(Found { hits, mode: Mode::Hybrid, score_type, reranked: false })
    }

    /// The similarity of one node to the query, by its best window, if it has a vector.
    fn similarity(&self, id: NodeId) -> Option<f64> {
        let Place { vector, vectors } = self.place.as_ref()?;
        windows::score(vectors, vector, id.as_u128()).map(f64::from)
    }

    /// The `wanted` nearest nodes that pass, each by its nearest window.
    fn nearest(&self, wanted: usize) -> Result<Vec<(Hit, Node)>, Error> {
        let Some(Place { vector, vectors }) = &self.place else { return Ok(Vec::new()) };
        let tenants: Vec<&str> = self.owners.iter().map(TenantId::as_str).collect();
        self.deepening(wanted, |k| {
            let among = self.among.as_ref();
            let query = VectorQuery { vector, k, tenants: &tenants, among, ef: None };
            let mut hits = vectors.search(&query)?;
            hits.iter_mut().for_each(|hit| hit.id = windows::node_of(hit.id));
            Ok(hits)
        })
    }

    /// The `wanted` nodes of the most fitting words that pass.
    fn worded(&self, wanted: usize) -> Result<Vec<(Hit, Node)>, Error> {
        let tenants: Vec<&str> = self.owners.iter().map(TenantId::as_str).collect();
        self.deepening(wanted, |limit| {
            let text = &self.request.query;
            let query = TextQuery { text, tenants: &tenants, limit, facts: &self.facts };
            self.search.indexes.text.search(&query)
        })
    }

    /// The first `wanted` hits that the store admits, each node once, asking for more until there
    /// are enough or the index has no more.
    fn deepening(
        &self,
        wanted: usize,
        look: impl Fn(usize) -> Result<Vec<Hit>, IndexError>,
    ) -> Result<Vec<(Hit, Node)>, Error> {
        let mut k = wanted + SLACK;
        let (mut admitted, mut seen) = (Vec::with_capacity(wanted), 0);
        let mut met = HashSet::new();
        loop {
            let hits = look(k)?;
            let exhausted = hits.len() < k;
            // A deeper look repeats the hits of the one before it, in the same order.
            for hit in hits.into_iter().skip(seen) {
                seen += 1;
                if !met.insert(hit.id) {
                    continue;
                }
                if let Some(node) = self.admit(hit)? {
                    admitted.push((hit, node));
                }
                if admitted.len() == wanted {
                    return Ok(admitted);
                }
            }
            if exhausted {
                return Ok(admitted);
            }
            k *= 4;
        }
    }

    /// The node of a hit, if the caller may see it and it passes the filter.
    fn admit(&self, hit: Hit) -> Result<Option<Node>, Error> {
        let id = NodeId::from_u128(hit.id);
        for owner in &self.owners {
            let Some(record) = self.tx.get(&NODES, &(owner.clone(), id))? else { continue };
            if record.deleted {
                return Ok(None);
            }
            let node = Node::from_record(owner.clone(), id, record)?;
            return Ok(self.request.filter.admits(&node).then_some(node));
        }
        Ok(None)
    }
}
