//! Edges between nodes of a tenant.

use activekg_storage::ids::NodeId;
use activekg_storage::tables::graph::{EDGES, EDGES_IN, EdgeRecord};
use activekg_storage::{Readable, Scan, StorageError, WriteTx};

use super::node::{Object, json};
use super::{Error, Graph, Node, View, read};

/// An edge to be written.
#[derive(Debug, Clone)]
pub struct NewEdge {
    /// Where it starts.
    pub src: NodeId,
    /// What it means, such as `DERIVED_FROM`.
    pub rel: String,
    /// Where it ends.
    pub dst: NodeId,
    /// The caller's properties.
    pub props: Object,
}

impl Graph {
    /// Writes an edge of the caller's tenant between two nodes it can see.
    ///
    /// # Errors
    ///
    /// [`Error::NodeNotFound`] for an end that is not there or not visible, [`Error::EdgeExists`],
    /// [`Error::NoSpace`], the store's own.
    pub async fn connect(&self, view: &View, edge: NewEdge) -> Result<(), Error> {
        let now = self.clock.now();
        self.space.check(now)?;
        let (owners, tenant) = (view.owners(), view.tenant().clone());
        self.store
            .write(move |tx| -> Result<(), Error> {
                let NewEdge { src, rel, dst, props } = &edge;
                for end in [src, dst] {
                    read::find(tx, &owners, *end)?.ok_or(Error::NodeNotFound)?;
                }
                let key = (tenant.clone(), *src, rel.clone(), *dst);
                if tx.contains(&EDGES, &key)? {
                    return Err(Error::EdgeExists);
                }
                tx.put(&EDGES, &key, &EdgeRecord { props: json(props), created_at: now })?;
                tx.put(&EDGES_IN, &(tenant.clone(), *dst, rel.clone(), *src), &())?;
                Ok(())
            })
            .await?;
        Ok(())
    }
}

/// Removes the edges of its own tenant that touch `node`; how many there were.
pub(super) fn disconnect(tx: &mut WriteTx<'_>, node: &Node) -> Result<u64, StorageError> {
    let touching = Scan::prefix(&(node.tenant.clone(), node.id));
    let out = tx.scan(&EDGES, touching.clone())?.map(|row| row.map(|(key, _)| key));
    let out = out.collect::<Result<Vec<_>, _>>()?;
    let back = tx.scan(&EDGES_IN, touching)?.map(|row| row.map(|(key, ())| key));
    let back = back.collect::<Result<Vec<_>, _>>()?;
    let mut n = out.len() as u64;
    for (tenant, src, rel, dst) in out {
        tx.remove(&EDGES_IN, &(tenant.clone(), dst, rel.clone(), src))?;
        tx.remove(&EDGES, &(tenant, src, rel, dst))?;
    }
    for (tenant, dst, rel, src) in back {
        // One from the node to itself has gone above.
        n += u64::from(tx.remove(&EDGES, &(tenant.clone(), src, rel.clone(), dst))?);
        tx.remove(&EDGES_IN, &(tenant, dst, rel, src))?;
    }
    Ok(n)
}
