//! Nodes in pages.

use std::iter::Peekable;

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{EmbeddingStatus, NODES, NodeGlance, NodeRecord, count};
use activekg_storage::{ReadTx, Readable, Scan, StorageError};
use serde_json::{Map, Value};

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
        let Self { has_embedding: _, classes } = self;
        self.admits_state(node.deleted, node.last_refreshed.is_some())
            && (classes.is_empty() || node.classes.iter().any(|class| classes.contains(class)))
    }

    /// [`NodeFilter::admits`], whatever the classes.
    fn admits_state(&self, deleted: bool, has_embedding: bool) -> bool {
        !deleted && self.has_embedding.is_none_or(|wanted| wanted == has_embedding)
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
    let (mut seen, mut after) = (0, None);
    if let Some(total) = counted.filter(|_| offset > 0) {
        // What is before the part is passed over with a glance, which tells enough then.
        after = if offset < total { pass_over(tx, owners, filter, offset)? } else { None };
        if after.is_none() {
            return Ok(Page { nodes: Vec::new(), total });
        }
        seen = offset;
    }
    let mut rows = merged(owners, after.as_ref(), |scan| tx.scan(&NODES, scan))?;
    let mut nodes = Vec::new();
    while nodes.len() < limit || counted.is_none() {
        let Some(row) = rows.next() else { break };
        let ((_, id), record) = row?;
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

/// The last of the first `n` nodes that a filter without classes admits; `None` if there are fewer.
fn pass_over(
    tx: &ReadTx,
    owners: &[TenantId],
    filter: &NodeFilter,
    n: u64,
) -> Result<Option<Place>, Error> {
    let mut passed = 0;
    for row in merged(owners, None, |scan| tx.scan_glances::<_, NodeGlance>(&NODES, scan))? {
        let (place, NodeGlance { deleted, last_refreshed, .. }) = row?;
        passed += u64::from(filter.admits_state(deleted, last_refreshed.is_some()));
        if passed == n {
            return Ok(Some(place));
        }
    }
    Ok(None)
}

/// Where a node of an owner stands among those of all.
type Place = (TenantId, NodeId);

/// The rows of all owners by id, those of the same id in the order of the owners, from behind a
/// place on.
fn merged<R: Iterator<Item = Result<(Place, V), StorageError>>, V>(
    owners: &[TenantId],
    after: Option<&Place>,
    scan: impl Fn(Scan<Place>) -> Result<R, StorageError>,
) -> Result<Merged<R>, Error> {
    // Of rows with the id of the place, those of the owners up to its own are before it.
    let last = after.and_then(|(owner, _)| owners.iter().position(|other| other == owner));
    let streams = owners.iter().enumerate().map(|(i, owner)| {
        let all = Scan::prefix(&(owner.clone(),));
        let rows = match after {
            None => all,
            Some((_, id)) if last.is_some_and(|last| i <= last) => all.after(&(owner.clone(), *id)),
            Some((_, id)) => all.from(&(owner.clone(), *id)),
        };
        Ok(scan(rows)?.peekable())
    });
    Ok(Merged { streams: streams.collect::<Result<_, StorageError>>()? })
}

/// See [`merged`].
struct Merged<R: Iterator> {
    streams: Vec<Peekable<R>>,
}

impl<R: Iterator<Item = Result<(Place, V), StorageError>>, V> Iterator for Merged<R> {
    type Item = R::Item;

    fn next(&mut self) -> Option<R::Item> {
        if let [one] = self.streams.as_mut_slice() {
            return one.next();
        }
        // The stream whose next row has the smallest id; an error comes out at once.
        let next = self.streams.iter_mut().enumerate().filter_map(|(at, stream)| {
            let id = stream.peek()?.as_ref().map_or(NodeId::from_u128(0), |((_, id), _)| *id);
            Some((id, at))
        });
        let (_, at) = next.min()?;
        self.streams[at].next()
    }
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
