//! One search under way: what the indexes propose, checked against the store.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use activekg_index::{FactFilter, Hit, IdSet, IndexError, TextQuery, VectorQuery, VectorSet};
use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::NODES;
use activekg_storage::{ReadTx, Readable};

use super::{
    Error, Found, FoundNode, Fusion, Mode, Request, ScoreType, Search, Settings, facts, fuse,
    windows,
};
use crate::embedding::Windows;
use crate::graph::{Node, View};

/// Slack by which the first look into an index exceeds what is wanted.
const SLACK: usize = 16;

/// A query among vectors.
pub(super) struct Place {
    pub(super) vector: Arc<[f32]>,
    pub(super) vectors: Arc<VectorSet>,
}

/// One search under way, on one snapshot of the store.
pub(super) struct Looking<'a> {
    search: &'a Search,
    tx: &'a ReadTx,
    request: &'a Request,
    place: Option<Place>,
    owners: Vec<TenantId>,
    /// The ids that may pass the filter, if it narrows anything, with those of their windows.
    among: Option<IdSet>,
    facts: FactFilter,
}

impl<'a> Looking<'a> {
    pub(super) fn new(
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

    pub(super) fn run(&self) -> Result<Found, Error> {
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
            let node = Node::from_record(owner.clone(), id, record)?.with_text(self.tx)?;
            return Ok(self.request.filter.admits(&node).then_some(node));
        }
        Ok(None)
    }
}
