//! The shortest way from one node to another.

use activekg_storage::ids::NodeId;
use activekg_storage::time::UnixMicros;

use super::{Along, Step, Trail, Verdict, Walker};
use crate::graph::node::{Object, object};
use crate::graph::{Error, Graph, View};

/// A shortest way: the places it leads through and the edges between them.
#[derive(Debug, Clone, PartialEq)]
pub struct Path {
    /// From the first to the last, one more than there are legs; none if no way was found.
    pub places: Vec<Place>,
    /// The edges, in order.
    pub legs: Vec<Leg>,
    /// The search gave up at a bound, so that there may be a way all the same.
    pub truncated: bool,
}

/// A node on a way.
#[derive(Debug, Clone, PartialEq)]
pub struct Place {
    /// Its id.
    pub id: NodeId,
    /// Its labels.
    pub classes: Vec<String>,
    /// Its properties.
    pub props: Object,
    /// When it was created.
    pub created_at: UnixMicros,
}

/// An edge on a way, as it was written: a way may go against it.
#[derive(Debug, Clone, PartialEq)]
pub struct Leg {
    /// Where it starts.
    pub src: NodeId,
    /// What it means.
    pub rel: String,
    /// Where it ends.
    pub dst: NodeId,
    /// Its properties.
    pub props: Object,
}

impl Graph {
    /// A shortest way from `from` to `to` of at most `max_depth` edges. Of several, the one whose
    /// edges come first, compared one after the other by relation, then by the node they lead to,
    /// then edges that are followed forwards before others.
    ///
    /// # Errors
    ///
    /// [`Error::NodeNotFound`] for an end that is not there or not visible; the store's own.
    pub async fn path(
        &self,
        view: &View,
        from: NodeId,
        to: NodeId,
        along: Along,
        max_depth: u32,
    ) -> Result<Path, Error> {
        let owners = view.owners();
        self.reading(move |tx| {
            let mut walker = Walker::new(tx, &owners, &along);
            walker.node(from)?;
            walker.node(to)?;
            let depth = if from == to { 0 } else { max_depth };
            let judge =
                |step: &Step, _| Ok(if step.id == to { Verdict::Arrive } else { Verdict::Enter });
            let Trail { mut steps, cut } = walker.walk(from, depth, judge)?;
            if steps.last().is_none_or(|last| last.id != to) {
                return Ok(Path { places: Vec::new(), legs: Vec::new(), truncated: cut });
            }
            let mut path = Path { places: Vec::new(), legs: Vec::new(), truncated: false };
            // Each step names an earlier one: back from the last, and turned round at the end.
            let mut next = steps.pop();
            while let Some(Step { id, by, .. }) = next {
                let record = walker.node(id)?;
                path.places.push(Place {
                    id,
                    props: object(&record.props)?,
                    classes: record.classes,
                    created_at: record.created_at,
                });
                next = None;
                if let Some((before, hop)) = by {
                    steps.truncate(before + 1);
                    next = steps.pop();
                    if let Some(before) = &next {
                        let (src, dst) = hop.ends(before.id);
                        let props = hop.props(tx, before.id)?;
                        path.legs.push(Leg { src, rel: hop.rel, dst, props });
                    }
                }
            }
            path.places.reverse();
            path.legs.reverse();
            Ok(path)
        })
        .await
    }
}
