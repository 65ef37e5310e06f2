//! Nodes by id, by name and in pages.

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{EXTERNAL_IDS, NODES, NodeRecord};
use activekg_storage::{ReadTx, Readable, Scan};

use super::{Error, Graph, Node, View, counts};

/// Which nodes a listing holds; soft-deleted ones never.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NodeFilter {
    /// Only nodes with, or without, a vector.
    pub has_embedding: Option<bool>,
    /// Only nodes of one of these classes; empty = all.
    pub classes: Vec<String>,
}

impl NodeFilter {
    fn admits(&self, node: &NodeRecord) -> bool {
        let Self { has_embedding, classes } = self;
        !node.deleted
            && has_embedding.is_none_or(|wanted| wanted == node.last_refreshed.is_some())
            && (classes.is_empty() || node.classes.iter().any(|class| classes.contains(class)))
    }
}

/// A part of a listing, with how many nodes the whole listing holds.
#[derive(Debug, Clone)]
pub struct Page {
    /// The nodes of this part, by id.
    pub nodes: Vec<Node>,
    /// All nodes that the filter admits.
    pub total: u64,
}

/// The row of a node and whose it is, among `owners`.
pub(super) fn find(
    tx: &impl Readable,
    owners: &[TenantId],
    id: NodeId,
) -> Result<Option<(TenantId, NodeRecord)>, Error> {
    for owner in owners {
        if let Some(record) = tx.get(&NODES, &(owner.clone(), id))? {
            return Ok(Some((owner.clone(), record)));
        }
    }
    Ok(None)
}

impl Graph {
    /// A node the caller may see, soft-deleted ones included.
    ///
    /// # Errors
    ///
    /// [`Error::NodeNotFound`], the store's own.
    pub async fn node(&self, view: &View, id: NodeId) -> Result<Node, Error> {
        let owners = view.owners();
        self.reading(move |tx| {
            let (owner, record) = find(tx, &owners, id)?.ok_or(Error::NodeNotFound)?;
            Node::from_record(owner, id, record)
        })
        .await
    }

    /// The node the caller's tenant, else the shared owner, calls `external_id`.
    ///
    /// # Errors
    ///
    /// [`Error::NodeNotFound`], the store's own.
    pub async fn by_external_id(&self, view: &View, external_id: String) -> Result<Node, Error> {
        let owners = view.owners();
        self.reading(move |tx| {
            for owner in owners {
                let key = (owner.clone(), external_id.clone());
                let Some(id) = tx.get(&EXTERNAL_IDS, &key)? else { continue };
                let record = tx.get(&NODES, &(owner.clone(), id))?.ok_or(Error::NodeNotFound)?;
                return Node::from_record(owner, id, record);
            }
            Err(Error::NodeNotFound)
        })
        .await
    }

    /// `limit` nodes from the `offset`-th on, by id.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn list(
        &self,
        view: &View,
        filter: NodeFilter,
        offset: u64,
        limit: usize,
    ) -> Result<Page, Error> {
        let owners = view.owners();
        self.reading(move |tx| page(tx, &owners, &filter, offset, limit)).await
    }

    /// The newest nodes that have one of `classes`, at most `limit`.
    ///
    /// # Errors
    ///
    /// The store's own.
    pub async fn nodes_of_classes(
        &self,
        view: &View,
        classes: &[&str],
        limit: usize,
    ) -> Result<Vec<Node>, Error> {
        let owners = view.owners();
        let filter = NodeFilter {
            has_embedding: None,
            classes: classes.iter().map(|class| (*class).to_owned()).collect(),
        };
        self.reading(move |tx| {
            let mut found = Vec::new();
            for row in rows(tx, &owners)? {
                let (owner, id, record) = row?;
                if filter.admits(&record) {
                    found.push((owner, id, record));
                }
            }
            found.sort_by_key(|(_, id, record)| (std::cmp::Reverse(record.created_at), *id));
            found.truncate(limit);
            found
                .into_iter()
                .map(|(owner, id, record)| Node::from_record(owner, id, record))
                .collect()
        })
        .await
    }
}

/// Every row of the owners, owner by owner, by id.
pub(super) fn rows<'a, R: Readable>(
    tx: &'a R,
    owners: &[TenantId],
) -> Result<impl Iterator<Item = Result<(TenantId, NodeId, NodeRecord), Error>> + use<'a, R>, Error>
{
    let scans = owners
        .iter()
        .map(|owner| tx.scan(&NODES, Scan::prefix(&(owner.clone(),))))
        .collect::<Result<Vec<_>, _>>()?;
    Ok(scans.into_iter().flatten().map(|row| {
        let ((owner, id), record) = row?;
        Ok((owner, id, record))
    }))
}

/// One page. Owners are merged by id, so a page is the same whoever owns its nodes.
fn page(
    tx: &ReadTx,
    owners: &[TenantId],
    filter: &NodeFilter,
    offset: u64,
    limit: usize,
) -> Result<Page, Error> {
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
        let (owner, id, record) = row?;
        if !filter.admits(&record) {
            continue;
        }
        if seen >= offset && nodes.len() < limit {
            nodes.push(Node::from_record(owner, id, record)?);
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
        let listed = activekg_storage::tables::graph::count(tx, owner, counts::LISTED)?;
        let embedded = activekg_storage::tables::graph::count(tx, owner, counts::EMBEDDED)?;
        total += match filter.has_embedding {
            None => listed,
            Some(true) => embedded,
            Some(false) => listed.saturating_sub(embedded),
        };
    }
    Ok(Some(total))
}
