//! The edges at one node, in order.

use std::iter::Peekable;

use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{EDGES, EDGES_IN};
use activekg_storage::{ReadTx, Readable, Scan, StorageError};

use super::{Along, Direction, Error, Hop, Way};

/// The edges of one owner that lie one way, in order.
type Rows<'a> = Box<dyn Iterator<Item = Result<Hop, StorageError>> + 'a>;

/// The edges at a node, read as the iterator is driven: by relation, far end and way. An edge
/// that several owners have comes once, as the first owner's.
pub(super) struct Hops<'a> {
    /// One for each owner and way, the caller's own first.
    streams: Vec<Peekable<Rows<'a>>>,
    last: Option<Hop>,
    /// Edges from the node to itself are met twice when both ways are looked at.
    itself_once: Option<NodeId>,
}

impl<'a> Hops<'a> {
    pub(super) fn new(
        tx: &'a ReadTx,
        owners: &[TenantId],
        along: &Along,
        node: NodeId,
    ) -> Result<Self, Error> {
        let mut streams = Vec::new();
        for owner in owners {
            for way in along.direction.ways() {
                streams.push(rows(tx, owner, *way, along, node)?.peekable());
            }
        }
        let itself_once = (along.direction == Direction::Both).then_some(node);
        Ok(Self { streams, last: None, itself_once })
    }

    /// The smallest edge that any stream has next; an error comes out at once.
    fn smallest(&mut self) -> Option<Result<Hop, StorageError>> {
        let heads = self.streams.iter_mut().enumerate().filter_map(|(at, stream)| {
            let head = stream.peek()?.as_ref().ok();
            Some((head.map(Hop::order), at))
        });
        let (_, at) = heads.min()?;
        self.streams[at].next()
    }
}

impl Iterator for Hops<'_> {
    type Item = Result<Hop, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let hop = match self.smallest()? {
                Ok(hop) => hop,
                Err(error) => return Some(Err(error.into())),
            };
            let again = self.last.as_ref().is_some_and(|last| last.order() == hop.order());
            let back = hop.way == Way::In && self.itself_once == Some(hop.to);
            if !again && !back {
                self.last = Some(hop.clone());
                return Some(Ok(hop));
            }
        }
    }
}

/// The edges of `owner` at `node` that lie this way.
fn rows<'a>(
    tx: &'a ReadTx,
    owner: &TenantId,
    way: Way,
    along: &Along,
    node: NodeId,
) -> Result<Rows<'a>, Error> {
    let here = (owner.clone(), node);
    let scans = match along.rels.as_slice() {
        [] => vec![Scan::prefix(&here)],
        rels => rels.iter().map(|rel| Scan::prefix(&(owner.clone(), node, rel.clone()))).collect(),
    };
    let mut found: Rows<'a> = Box::new(std::iter::empty());
    for scan in scans {
        // Both tables have the far end last: a row of either is an edge seen from `node`.
        found = match way {
            Way::Out => Box::new(found.chain(tx.scan(&EDGES, scan)?.map(move |row| {
                let ((owner, _, rel, to), _) = row?;
                Ok(Hop { owner, rel, to, way })
            }))),
            Way::In => Box::new(found.chain(tx.scan(&EDGES_IN, scan)?.map(move |row| {
                let ((owner, _, rel, to), ()) = row?;
                Ok(Hop { owner, rel, to, way })
            }))),
        };
    }
    Ok(found)
}
