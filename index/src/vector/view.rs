//! One state of a set, as a search sees it from beginning to end.

use std::collections::HashMap;
use std::sync::Arc;

use super::bits::Bits;
use super::fresh::Fresh;
use super::graph::Graph;
use super::ivf::Ivf;
use super::segment::{Row, Segment};
use super::{Engine, Engines, VectorOp};

/// A snapshot. Cloning copies pointers; what a change touches is copied then.
///
/// Of all rows with one id, in all segments and the fresh part, at most one is alive.
#[derive(Clone, Default)]
pub(super) struct View {
    pub(super) sealed: Vec<Sealed>,
    pub(super) fresh: Fresh,
    /// What sealed segments should have; they have no other.
    pub(super) engines: Engines,
}

/// A sealed segment with what has happened to it since.
#[derive(Clone)]
pub(super) struct Sealed {
    /// The number of its file.
    pub(super) file: u32,
    pub(super) segment: Arc<Segment>,
    pub(super) dead: Arc<Bits>,
    pub(super) graph: Slot<Graph>,
    pub(super) lists: Slot<Ivf>,
}

/// Whether a segment has an engine.
pub(super) enum Slot<T> {
    /// Not yet.
    Absent,
    Standing(Arc<T>),
    /// One was built and did not find what is in it.
    Rejected,
}

// Derived, it would ask the same of `T`.
impl<T> Clone for Slot<T> {
    fn clone(&self) -> Self {
        match self {
            Self::Absent => Self::Absent,
            Self::Standing(engine) => Self::Standing(Arc::clone(engine)),
            Self::Rejected => Self::Rejected,
        }
    }
}

/// How far a segment's engine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Has {
    Not,
    Standing,
    Rejected,
}

impl<T> Slot<T> {
    /// The engine that searches may go through.
    pub(super) fn standing(&self) -> Option<&T> {
        match self {
            Self::Standing(engine) => Some(engine),
            Self::Absent | Self::Rejected => None,
        }
    }

    fn has(&self) -> Has {
        match self {
            Self::Absent => Has::Not,
            Self::Standing(_) => Has::Standing,
            Self::Rejected => Has::Rejected,
        }
    }
}

/// The row of every live id in the fresh part.
pub(super) type FreshRows = HashMap<u128, u32>;

impl Sealed {
    pub(super) fn new(file: u32, segment: Segment) -> Self {
        let dead = Bits::none(segment.rows());
        Self {
            file,
            segment: Arc::new(segment),
            dead: Arc::new(dead),
            graph: Slot::Absent,
            lists: Slot::Absent,
        }
    }

    pub(super) fn has(&self, engine: Engine) -> Has {
        match engine {
            Engine::Hnsw => self.graph.has(),
            Engine::IvfFlat => self.lists.has(),
        }
    }

    /// Whether searches may go through an engine of it.
    pub(super) fn is_indexed(&self) -> bool {
        Engine::ALL.iter().any(|&engine| self.has(engine) == Has::Standing)
    }

    /// Whether none of the engines was built for it yet.
    pub(super) fn is_bare(&self, engines: Engines) -> bool {
        engines.iter().all(|engine| self.has(engine) == Has::Not)
    }

    /// Leaves out an engine.
    pub(super) fn drop_engine(&mut self, engine: Engine) {
        match engine {
            Engine::Hnsw => self.graph = Slot::Absent,
            Engine::IvfFlat => self.lists = Slot::Absent,
        }
    }

    pub(super) fn live(&self) -> usize {
        self.segment.rows() - self.dead.count()
    }

    pub(super) fn live_rows(&self) -> impl Iterator<Item = Row<'_>> {
        let alive = |(row, _): &(u32, Row<'_>)| !self.dead.contains(*row);
        self.segment.iter().filter(alive).map(|(_, row)| row)
    }

    /// The live row of an id.
    pub(super) fn find(&self, id: u128) -> Option<u32> {
        self.segment.find(id).filter(|&row| !self.dead.contains(row))
    }

    /// Whether so many rows are dead that writing it anew pays.
    pub(super) fn is_hollow(&self) -> bool {
        self.dead.count() * 10 > self.segment.rows() * 3
    }
}

impl View {
    /// Applies a change whose vector has been checked.
    pub(super) fn apply(&mut self, rows: &mut FreshRows, op: &VectorOp) {
        match op {
            VectorOp::Put { id, tenant, values } => {
                self.remove(rows, *id);
                let row = self.fresh.push(*id, tenant, values);
                rows.insert(*id, row);
            }
            VectorOp::Remove { id } => self.remove(rows, *id),
        }
    }

    fn remove(&mut self, rows: &mut FreshRows, id: u128) {
        if let Some(row) = rows.remove(&id) {
            self.fresh.remove(row);
            return;
        }
        for sealed in &mut self.sealed {
            if let Some(row) = sealed.find(id) {
                Arc::make_mut(&mut sealed.dead).insert(row);
                return;
            }
        }
    }

    pub(super) fn live(&self) -> usize {
        self.sealed.iter().map(Sealed::live).sum::<usize>() + self.fresh.live()
    }

    /// The stored vector of an id.
    pub(super) fn get(&self, id: u128) -> Option<&[f32]> {
        let sealed = self.sealed.iter().find_map(|sealed| {
            let row = sealed.find(id)?;
            Some(sealed.segment.vector(row))
        });
        sealed.or_else(|| self.fresh.find(id))
    }

    /// The state in which `merged` stands in for `inputs`, which are states of segments of this
    /// view: rows that died here since then are dead in it. `None` for inputs without live rows.
    pub(super) fn with_merged(&self, inputs: &[Sealed], merged: Option<&Sealed>) -> Self {
        let mut view = self.clone();
        view.sealed.retain(|s| inputs.iter().all(|input| input.file != s.file));
        if let Some(merged) = merged {
            let mut merged = merged.clone();
            // One that was dropped while it was built.
            for engine in Engine::ALL.into_iter().filter(|&e| !self.engines.contains(e)) {
                merged.drop_engine(engine);
            }
            let dead = Arc::make_mut(&mut merged.dead);
            for now in &self.sealed {
                let Some(then) = inputs.iter().find(|input| input.file == now.file) else {
                    continue;
                };
                for (row, Row { id, .. }) in now.segment.iter() {
                    if now.dead.contains(row)
                        && !then.dead.contains(row)
                        && let Some(row) = merged.segment.find(id)
                    {
                        dead.insert(row);
                    }
                }
            }
            view.sealed.push(merged);
        }
        view
    }
}
