//! How searches by the new model differ from those by the old one, on sampled queries.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use activekg_index::{VectorQuery, VectorSet};
use activekg_storage::ids::TenantId;

use super::change::{Error, ModelChanges};
use crate::embedding::{FixedEmbedder, WINDOWS_MAX};
use crate::graph::SampledQuery;
use crate::search;

/// Most queries of a comparison.
pub const SAMPLE_MAX: usize = 500;
/// Hits that are compared.
const DEPTH: usize = 10;

/// What to search for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Queries {
    /// Titles and first sentences of so many nodes, spread evenly over all; each is searched for
    /// among its own tenant's nodes.
    Sampled(usize),
    /// These, among the nodes of this tenant.
    Given(TenantId, Vec<String>),
}

/// One model in a comparison.
#[derive(Debug, Clone, PartialEq)]
pub struct Side {
    /// The name its vectors carry.
    pub model: String,
    /// Mean reciprocal rank, within the first ten hits, of the node that the query is from; none
    /// for given queries.
    pub own_node_mrr: Option<f64>,
    /// Median time to embed a query.
    pub query_p50: Duration,
}

/// What a comparison found.
#[derive(Debug, Clone, PartialEq)]
pub struct Comparison {
    /// Queries searched for.
    pub queries: usize,
    /// The model that serves.
    pub serving: Side,
    /// The other one.
    pub other: Side,
    /// Mean share of the first ten hits that both find, 0 to 1.
    pub overlap: f64,
    /// Share of the queries with the same first hit, 0 to 1.
    pub same_first: f64,
}

/// The hits and times of one model.
#[derive(Default)]
struct Run {
    hits: Vec<Vec<u128>>,
    times: Vec<Duration>,
}

impl ModelChanges {
    /// Searches for the same queries by both models. A comparison before all vectors are there
    /// compares what there is.
    ///
    /// # Errors
    ///
    /// [`Error::Asked`] for no queries or too many, [`Error::Change`] if no change is under way,
    /// and what the models and the indexes report.
    pub async fn compare(&self, queries: Queries) -> Result<Comparison, Error> {
        let (serving, other) = self.both()?;
        let n = match &queries {
            Queries::Sampled(n) => *n,
            Queries::Given(_, texts) => texts.len(),
        };
        if n == 0 || n > SAMPLE_MAX {
            return Err(Error::Asked(format!("a comparison takes 1 to {SAMPLE_MAX} queries")));
        }
        let queries = match queries {
            Queries::Sampled(n) => self.parts().graph.sample_queries(n).await?,
            Queries::Given(tenant, texts) => texts
                .into_iter()
                .map(|text| SampledQuery { tenant: tenant.clone(), text, node: None })
                .collect(),
        };
        if queries.is_empty() {
            return Err(Error::Asked("no node has a title or a sentence to search for".to_owned()));
        }
        let ours = self.search(&serving, &queries).await?;
        let theirs = self.search(&other, &queries).await?;
        let pairs = || ours.hits.iter().zip(&theirs.hits);
        let first = pairs().filter(|(a, b)| a.first() == b.first()).count();
        Ok(Comparison {
            queries: queries.len(),
            overlap: pairs().map(|(a, b)| shared(a, b)).sum::<f64>() / queries.len() as f64,
            same_first: first as f64 / queries.len() as f64,
            serving: side(&serving, &queries, ours),
            other: side(&other, &queries, theirs),
        })
    }

    async fn search(
        &self,
        embedder: &FixedEmbedder,
        queries: &[SampledQuery],
    ) -> Result<Run, Error> {
        let vectors = self.parts().indexes.vectors(embedder.slot()).ok_or(Error::Interrupted)?;
        let mut run = Run::default();
        for SampledQuery { tenant, text, node: _ } in queries {
            // Not through the cache of queries: the time would be that of a look-up, and what
            // searches have asked for would make room for the sample.
            let begun = Instant::now();
            let vector = embedder.batch(tenant, vec![text.clone()]).await?;
            run.times.push(begun.elapsed());
            let (vectors, tenant) = (vectors.clone(), tenant.clone());
            let hits = tokio::task::spawn_blocking(move || nearest(&vectors, &vector, &tenant));
            run.hits.push(hits.await.map_err(|_| Error::Interrupted)??);
        }
        Ok(run)
    }
}

fn nearest(
    vectors: &Arc<VectorSet>,
    vector: &[Vec<f32>],
    tenant: &TenantId,
) -> Result<Vec<u128>, Error> {
    let Some(vector) = vector.first() else { return Ok(Vec::new()) };
    let tenants = &[tenant.as_str()];
    // A node may come up with each of its windows.
    let k = DEPTH * WINDOWS_MAX;
    let query = VectorQuery { vector, k, tenants, among: None, ef: None };
    let mut nodes: Vec<u128> = Vec::with_capacity(DEPTH);
    for hit in vectors.search(&query)? {
        let node = search::node_of(hit.id);
        if nodes.len() < DEPTH && !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    Ok(nodes)
}

/// Share of the longer list that both hold; 1 if neither holds anything.
fn shared(a: &[u128], b: &[u128]) -> f64 {
    let most = a.len().max(b.len());
    if most == 0 {
        return 1.0;
    }
    let a: HashSet<&u128> = a.iter().collect();
    b.iter().filter(|id| a.contains(id)).count() as f64 / most as f64
}

fn side(embedder: &FixedEmbedder, queries: &[SampledQuery], run: Run) -> Side {
    let Run { hits, mut times } = run;
    let ranks = queries.iter().zip(&hits).filter_map(|(query, hits)| {
        let node = query.node?.as_u128();
        let place = hits.iter().position(|hit| *hit == node);
        Some(place.map_or(0.0, |place| 1.0 / (place + 1) as f64))
    });
    let ranks: Vec<f64> = ranks.collect();
    let own_node_mrr = (!ranks.is_empty()).then(|| ranks.iter().sum::<f64>() / ranks.len() as f64);
    times.sort();
    Side { model: embedder.model().name.clone(), own_node_mrr, query_p50: times[times.len() / 2] }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_is_of_the_longer_list() {
        assert_eq!(shared(&[], &[]), 1.0);
        assert_eq!(shared(&[1, 2], &[]), 0.0);
        assert_eq!(shared(&[1, 2, 3, 4], &[4, 9]), 0.25);
        assert_eq!(shared(&[1, 2], &[2, 1]), 1.0);
    }
}
