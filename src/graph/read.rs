//! Nodes by id, by name and by class.

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{EXTERNAL_IDS, NODES, NodeRecord};
use activekg_storage::{Readable, Scan};

use super::list::NodeFilter;
use super::{Error, Graph, Node, View};

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

/// The node of a tenant that has this external id.
pub(super) fn named(
    tx: &impl Readable,
    tenant: &TenantId,
    external_id: &str,
) -> Result<Option<(NodeId, NodeRecord)>, Error> {
    let key = (tenant.clone(), external_id.to_owned());
    let Some(id) = tx.get(&EXTERNAL_IDS, &key)? else { return Ok(None) };
    Ok(tx.get(&NODES, &(tenant.clone(), id))?.map(|record| (id, record)))
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
