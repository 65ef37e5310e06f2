//! How much of a tenant's graph is embedded, and how it looks.

use std::time::Duration;

use activekg_storage::Readable;
use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::queue::{self, Depths};
use activekg_storage::tables::graph::{count, tenants};
use activekg_storage::time::UnixMicros;

use super::embedded::QUEUE;
use super::slots::Slots;
use super::{Error, Graph, Node, View, counts, read, text};

/// Vectors that are looked at to describe them all.
const SAMPLE_MAX: usize = 100;
/// Nodes named as examples.
const EXAMPLES_MAX: usize = 5;

/// The embedding queue and the states of a tenant's nodes.
#[derive(Debug, Clone)]
pub struct StatusCounts {
    /// State and number of nodes, states without nodes left out.
    pub statuses: Vec<(&'static str, u64)>,
    /// The queue, of all tenants.
    pub queue: Depths,
    /// Age of the oldest job that is not done, of all tenants.
    pub oldest: Option<Duration>,
    /// Jobs that are not done, of the tenant or of all.
    pub pending: u64,
}

/// The vectors of a tenant.
#[derive(Debug, Clone, Default)]
pub struct EmbeddingStats {
    /// Nodes that are not deleted.
    pub total: u64,
    /// Those of them with a vector.
    pub embedded: u64,
    /// Distinct lengths of the sampled vectors.
    pub sampled_dims: Vec<usize>,
    /// L2 norms of up to 100 vectors.
    pub norms: Vec<f64>,
    /// Up to 5 nodes, the one longest not refreshed first.
    pub example_ids: Vec<NodeId>,
    /// Ages of all vectors, in seconds.
    pub ages: Vec<f64>,
}

/// A tenant's nodes by what they can be found by.
#[derive(Debug, Clone)]
pub struct SanityStats {
    /// Nodes that are not deleted.
    pub total: u64,
    /// Those with a vector.
    pub embedded: u64,
    /// Those with words to index.
    pub with_words: u64,
    /// The newest nodes with a vector, up to 5.
    pub sample_with: Vec<Node>,
    /// The newest nodes without one, up to 5.
    pub sample_without: Vec<Node>,
}

impl Graph {
    /// Where the embeddings of a tenant stand, or of all.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn status_counts(&self, tenant: Option<TenantId>) -> Result<StatusCounts, Error> {
        let now = self.clock.now();
        self.reading(move |tx| {
            let counted = match &tenant {
                Some(tenant) => vec![tenant.clone()],
                None => tenants(tx)?,
            };
            let mut statuses = Vec::new();
            for (_, name, counter) in counts::STATUSES {
                let of = |tenant| count(tx, tenant, counter);
                let n = counted.iter().map(of).sum::<Result<u64, _>>()?;
                if n > 0 {
                    statuses.push((name, n));
                }
            }
            let queue = queue::stats(tx, &QUEUE, now)?;
            let pending = match &tenant {
                Some(tenant) => queue::tenant_pending(tx, &QUEUE, tenant)?,
                None => queue::pending(tx, &QUEUE)?,
            };
            let oldest = queue.oldest.map(|oldest| now.since(oldest));
            Ok(StatusCounts { statuses, queue: queue.depths, oldest, pending })
        })
        .await
    }

    /// Whether a node of any tenant waits for the embedder or is with it.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn has_job(&self, node: NodeId) -> Result<bool, Error> {
        self.reading(move |tx| {
            let key = node.to_string();
            for tenant in tenants(tx)? {
                if queue::is_live(tx, &QUEUE, &tenant, &key)? {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }

    /// What the tenant's vectors look like.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn embedding_stats(&self, view: &View) -> Result<EmbeddingStats, Error> {
        let owners = view.owners();
        let now = self.clock.now();
        self.reading(move |tx| {
            let vectors = Slots::read(tx)?.serving().vectors();
            let mut stats = EmbeddingStats::default();
            let mut refreshed: Vec<(UnixMicros, NodeId)> = Vec::new();
            for row in read::rows(tx, &owners)? {
                let (owner, id, record) = row?;
                if record.deleted {
                    continue;
                }
                stats.total += 1;
                let Some(at) = record.last_refreshed else { continue };
                stats.embedded += 1;
                stats.ages.push(now.since(at).as_secs_f64());
                refreshed.push((at, id));
                if stats.norms.len() < SAMPLE_MAX
                    && let Some(vector) = tx.get(vectors, &(owner, id))?
                {
                    let square: f64 = vector.values.iter().map(|v| f64::from(*v).powi(2)).sum();
                    stats.norms.push(square.sqrt());
                    if !stats.sampled_dims.contains(&vector.values.len()) {
                        stats.sampled_dims.push(vector.values.len());
                    }
                }
            }
            refreshed.sort();
            stats.example_ids =
                refreshed.into_iter().map(|(_, id)| id).take(EXAMPLES_MAX).collect();
            Ok(stats)
        })
        .await
    }

    /// Whether the tenant's nodes can be found.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn sanity_stats(&self, view: &View) -> Result<SanityStats, Error> {
        let owners = view.owners();
        self.reading(move |tx| {
            let (mut total, mut embedded, mut with_words) = (0, 0, 0);
            let (mut with, mut without) = (Vec::new(), Vec::new());
            for row in read::rows(tx, &owners)? {
                let (owner, id, record) = row?;
                if record.deleted {
                    continue;
                }
                let node = Node::from_record(owner, id, record)?;
                total += 1;
                let words = text::title(&node.props).is_some()
                    || !node.text().is_empty()
                    || !node.metadata.is_empty();
                with_words += u64::from(words);
                embedded += u64::from(node.has_embedding());
                let sample = if node.has_embedding() { &mut with } else { &mut without };
                newest(sample, node);
            }
            Ok(SanityStats {
                total,
                embedded,
                with_words,
                sample_with: with,
                sample_without: without,
            })
        })
        .await
    }
}

/// Keeps the newest few, newest first.
fn newest(sample: &mut Vec<Node>, node: Node) {
    let at = sample.partition_point(|kept| kept.created_at >= node.created_at);
    sample.insert(at, node);
    sample.truncate(EXAMPLES_MAX);
}
