//! Walks along edges, nearest nodes first, within bounds.
//!
//! A walk sees what its caller sees: edges and nodes of its own tenant and the shared ones. A
//! soft-deleted node is not entered, so nothing behind it is reached through it; a walk may begin
//! at one, as a caller who has its id can read it. Edges are taken in the order of relation, then
//! node at the far end, then direction, whoever owns them: the same graph is always walked in the
//! same order.

mod around;
mod hops;
mod path;

use std::collections::HashSet;

use activekg_storage::ReadTx;
use activekg_storage::Readable;
use activekg_storage::ids::{NodeId, TenantId};
use activekg_storage::tables::graph::{EDGES, NodeRecord};

use super::node::{Object, object};
use super::{Error, read};

pub use around::{
    Around, EdgeBetween, Expanded, Expansion, Neighbor, Neighbors, Reached, Subgraph,
};
use hops::Hops;
pub use path::{Leg, Path, Place};

/// Edges that one call looks at.
const EDGES_LOOKED_AT_MAX: usize = 100_000;
/// Nodes that one walk meets, whether or not they are entered.
const NODES_MET_MAX: usize = 20_000;
/// Bytes of properties in one answer.
const ANSWER_BYTES_MAX: usize = 8 << 20;

/// How an edge lies to the node it is seen from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Way {
    /// It starts at the node.
    Out,
    /// It ends at the node.
    In,
}

/// Which way edges are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From source to target.
    Out,
    /// From target to source.
    In,
    /// Either way. An edge from a node to itself counts once, as one that starts there.
    Both,
}

impl Direction {
    fn ways(self) -> &'static [Way] {
        match self {
            Self::Out => &[Way::Out],
            Self::In => &[Way::In],
            Self::Both => &[Way::Out, Way::In],
        }
    }
}

/// Which edges are followed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Along {
    direction: Direction,
    /// Rising, each once; empty = any.
    rels: Vec<String>,
}

impl Along {
    /// Edges of these relations (none = any), followed in this direction.
    pub fn new(direction: Direction, mut rels: Vec<String>) -> Self {
        rels.sort_unstable();
        rels.dedup();
        Self { direction, rels }
    }
}

/// An edge as seen from one of its ends.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Hop {
    owner: TenantId,
    rel: String,
    /// The other end.
    to: NodeId,
    way: Way,
}

impl Hop {
    fn order(&self) -> (&str, NodeId, Way) {
        (&self.rel, self.to, self.way)
    }

    /// Source and target, seen from `from`.
    fn ends(&self, from: NodeId) -> (NodeId, NodeId) {
        match self.way {
            Way::Out => (from, self.to),
            Way::In => (self.to, from),
        }
    }

    /// The properties of the edge, seen from `from`.
    fn props(&self, tx: &ReadTx, from: NodeId) -> Result<Object, Error> {
        let (src, dst) = self.ends(from);
        let edge = tx.get(&EDGES, &(self.owner.clone(), src, self.rel.clone(), dst))?;
        edge.map_or_else(|| Ok(Object::new()), |edge| object(&edge.props))
    }
}

/// A node that a walk has entered.
#[derive(Debug)]
struct Step {
    id: NodeId,
    /// Edges from the start.
    depth: u32,
    /// The step before it and the edge between; none at the start.
    by: Option<(usize, Hop)>,
}

/// What becomes of a node that a walk has met.
enum Verdict {
    /// The walk goes on from it too.
    Enter,
    /// The walk does not go through it.
    Pass,
    /// It is entered, and the walk is over.
    Arrive,
    /// There is no room for it: the walk is over.
    Full,
}

/// The nodes entered, in the order they were met.
struct Trail {
    steps: Vec<Step>,
    /// A bound ended the walk before its depth did.
    cut: bool,
}

/// Walks on one snapshot, and counts what they look at together.
struct Walker<'a> {
    tx: &'a ReadTx,
    owners: &'a [TenantId],
    along: &'a Along,
    looked_at: usize,
}

impl<'a> Walker<'a> {
    fn new(tx: &'a ReadTx, owners: &'a [TenantId], along: &'a Along) -> Self {
        Self { tx, owners, along, looked_at: 0 }
    }

    /// Walks from `start` at most `max_depth` edges far. `judge` decides on each node met.
    fn walk(
        &mut self,
        start: NodeId,
        max_depth: u32,
        mut judge: impl FnMut(&Step, NodeRecord) -> Result<Verdict, Error>,
    ) -> Result<Trail, Error> {
        let mut met = HashSet::from([start]);
        let mut steps = vec![Step { id: start, depth: 0, by: None }];
        let mut at = 0;
        // Steps have rising depths, so the first one that is too deep is the last to be looked at.
        while let Some(&Step { id: from, depth, .. }) = steps.get(at)
            && depth < max_depth
        {
            for hop in self.hops(from)? {
                let hop = hop?;
                self.looked_at += 1;
                if self.looked_at > EDGES_LOOKED_AT_MAX || met.len() > NODES_MET_MAX {
                    return Ok(Trail { steps, cut: true });
                }
                if !met.insert(hop.to) {
                    continue;
                }
                let Some(record) = self.alive(hop.to)? else { continue };
                let step = Step { id: hop.to, depth: depth + 1, by: Some((at, hop)) };
                match judge(&step, record)? {
                    Verdict::Enter => steps.push(step),
                    Verdict::Pass => {}
                    Verdict::Arrive => {
                        steps.push(step);
                        return Ok(Trail { steps, cut: false });
                    }
                    Verdict::Full => return Ok(Trail { steps, cut: true }),
                }
            }
            at += 1;
        }
        Ok(Trail { steps, cut: false })
    }

    /// The edges at `node` that are followed, in order.
    fn hops(&self, node: NodeId) -> Result<Hops<'a>, Error> {
        Hops::new(self.tx, self.owners, self.along, node)
    }

    /// A node that may be seen and is not soft-deleted.
    fn alive(&self, id: NodeId) -> Result<Option<NodeRecord>, Error> {
        let found = read::find(self.tx, self.owners, id)?;
        Ok(found.map(|(_, record)| record).filter(|record| !record.deleted))
    }

    /// A node that may be seen, soft-deleted or not.
    fn node(&self, id: NodeId) -> Result<NodeRecord, Error> {
        let (_, record) = read::find(self.tx, self.owners, id)?.ok_or(Error::NodeNotFound)?;
        Ok(record)
    }
}

/// Room for the properties of an answer.
struct Room {
    bytes: usize,
}

impl Room {
    fn new() -> Self {
        Self { bytes: ANSWER_BYTES_MAX }
    }

    /// Takes `bytes`, if there are as many left. What is larger than an answer gets all of an
    /// empty one, so that every node can be shown at least by itself.
    fn take(&mut self, bytes: usize) -> bool {
        let bytes = bytes.min(ANSWER_BYTES_MAX);
        let fits = bytes <= self.bytes;
        if fits {
            self.bytes -= bytes;
        }
        fits
    }
}

#[cfg(test)]
mod tests;
