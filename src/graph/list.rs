//! Nodes in pages.

use activekg_storage::ReadTx;
use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{EmbeddingStatus, NodeRecord, count};
use serde_json::{Map, Value};

use super::read::rows;
use super::{Error, Graph, View, counts, node};

/// Which nodes a listing holds; soft-deleted ones never.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFilter {
    /// Only nodes with, or without, a vector.
    pub has_embedding: Option<bool>,
    /// Only nodes of one of these classes; empty = all.
    pub classes: Vec<String>,
}

impl NodeFilter {
    pub(super) fn admits(&self, node: &NodeRecord) -> bool {
        let Self { has_embedding, classes } = self;
        !node.deleted
            && has_embedding.is_none_or(|wanted| wanted == node.last_refreshed.is_some())
            && (classes.is_empty() || node.classes.iter().any(|class| classes.contains(class)))
    }
}

/// What part of a listing is wanted.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listing {
    /// Which nodes it holds.
    pub filter: NodeFilter,
    /// Nodes before the part.
    pub offset: u64,
    /// Nodes of the part at most.
    pub limit: usize,
    /// Whether their properties are wanted.
    pub props: bool,
}

/// A part of a listing, with how many nodes the whole listing holds.
#[derive(Debug, Clone)]
pub struct Page {
    /// The nodes of this part, by id.
    pub nodes: Vec<ListedNode>,
    /// All nodes that the filter admits.
    pub total: u64,
}

/// A node in a listing.
#[derive(Debug, Clone, PartialEq)]
pub struct ListedNode {
    /// Its id.
    pub id: NodeId,
    /// Its labels.
    pub classes: Vec<String>,
    /// Its properties, if they are wanted.
    pub props: Option<Map<String, Value>>,
    /// Where its embedding stands.
    pub embedding_status: EmbeddingStatus,
    /// Why it failed or was skipped.
    pub embedding_error: Option<String>,
    /// Jobs started for it.
    pub embedding_attempts: u32,
    /// Whether it has a vector.
    pub has_embedding: bool,
}

impl ListedNode {
    fn of(id: NodeId, record: NodeRecord, props: bool) -> Result<Self, Error> {
        Ok(Self {
            id,
            props: props.then(|| node::object(&record.props)).transpose()?,
            has_embedding: record.last_refreshed.is_some(),
            classes: record.classes,
            embedding_status: record.embedding_status,
            embedding_error: record.embedding_error,
            embedding_attempts: record.embedding_attempts,
        })
    }
}

impl Graph {
    /// A part of the nodes that the caller may see, by id.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn list(&self, view: &View, listing: Listing) -> Result<Page, Error> {
        let owners = view.owners();
        self.reading(move |tx| page(tx, &owners, &listing)).await
    }
}

/// One page. Owners are merged by id, so a page is the same whoever owns its nodes.
fn page(tx: &ReadTx, owners: &[TenantId], listing: &Listing) -> Result<Page, Error> {
    let &Listing { ref filter, offset, limit, props } = listing;
    let counted = counted(tx, owners, filter)?;
    let mut streams: Vec<_> = owners
        .iter()
        .map(|owner| Ok(rows(tx, std::slice::from_ref(owner))?.peekable()))
        .collect::<Result<_, Error>>()?;
    let (mut nodes, mut seen) = (Vec::new(), 0_u64);
    loop {
        let done = nodes.len() >= limit || counted.is_some_and(|total| offset >= total);
        if done && counted.is_some() {
            break;
        }
        // The stream whose next row has the smallest id; an error comes out at once.
        let next = streams
            .iter_mut()
            .enumerate()
            .filter_map(|(at, stream)| {
                let id = stream.peek()?.as_ref().map_or(NodeId::from_u128(0), |(_, id, _)| *id);
                Some((id, at))
            })
            .min();
        let Some((_, at)) = next else { break };
        let Some(row) = streams[at].next() else { break };
        let (_, id, record) = row?;
        if !filter.admits(&record) {
            continue;
        }
        if seen >= offset && nodes.len() < limit {
            nodes.push(ListedNode::of(id, record, props)?);
        }
        seen += 1;
    }
    Ok(Page { nodes, total: counted.unwrap_or(seen) })
}

/// How many nodes the filter admits, where counters can tell.
fn counted(tx: &ReadTx, owners: &[TenantId], filter: &NodeFilter) -> Result<Option<u64>, Error> {
    if !filter.classes.is_empty() {
        return Ok(None);
    }
    let mut total = 0;
    for owner in owners {
        let listed = count(tx, owner, counts::LISTED)?;
        let embedded = count(tx, owner, counts::EMBEDDED)?;
        total += match filter.has_embedding {
            None => listed,
            Some(true) => embedded,
            Some(false) => listed.saturating_sub(embedded),
        };
    }
    Ok(Some(total))
}
