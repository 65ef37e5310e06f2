//! The one interface of all ways to search a sealed segment, and which rows they may answer with.

use std::ops::Range;

use super::Metric;
use super::bits::Bits;
use super::metric::nearness;
use super::segment::Segment;
use crate::rank::{Hit, Top};
use crate::{IdSet, Kernels};

/// A way to find the nearest rows of a segment.
pub(super) trait VectorIndex: Send + Sync {
    /// Offers the nearest of the allowed rows to `top`, with as much effort as `width` says where
    /// there is a choice: rows to look at for a graph, lists for lists. False if it cannot vouch
    /// for the best `k`; it has offered nothing then.
    fn nearest(
        &self,
        query: &Query<'_>,
        allowed: &Allowed<'_>,
        width: usize,
        top: &mut Top,
    ) -> bool;
}

/// A vector to compare with, in the form in which vectors are stored.
#[derive(Clone, Copy)]
pub(super) struct Query<'a> {
    pub(super) values: &'a [f32],
    pub(super) metric: Metric,
    pub(super) kernels: Kernels,
    /// Hits wanted.
    pub(super) k: usize,
}

impl Query<'_> {
    /// A vector as a hit whose score is the nearness.
    #[inline]
    pub(super) fn hit(&self, id: u128, values: &[f32]) -> Hit {
        let score = nearness(self.metric, &self.kernels, self.values, values);
        Hit { id, score }
    }
}

/// The rows of a segment that a search may find.
pub(super) struct Allowed<'a> {
    pub(super) segment: &'a Segment,
    dead: &'a Bits,
    /// The rows of the tenants, which do not overlap.
    runs: Vec<Range<u32>>,
    among: Option<&'a IdSet>,
    /// Live rows of the tenants.
    live: usize,
}

impl<'a> Allowed<'a> {
    pub(super) fn new(
        segment: &'a Segment,
        dead: &'a Bits,
        tenants: &[&str],
        among: Option<&'a IdSet>,
    ) -> Self {
        let mut runs: Vec<Range<u32>> = tenants.iter().map(|t| segment.tenant_rows(t)).collect();
        runs.retain(|run| !run.is_empty());
        runs.sort_unstable_by_key(|run| run.start);
        runs.dedup();
        let live = runs.iter().map(|run| run.len() - dead.count_within(run.clone())).sum();
        Self { segment, dead, runs, among, live }
    }

    /// The number of allowed rows, or more: ids of the filter may be in other segments.
    pub(super) fn at_most(&self) -> usize {
        self.among.map_or(self.live, |among| among.len().min(self.live))
    }

    /// The exact number, where it is known.
    pub(super) fn known(&self) -> Option<usize> {
        self.among.is_none().then_some(self.live)
    }

    pub(super) fn contains(&self, row: u32) -> bool {
        self.in_run(row)
            && !self.dead.contains(row)
            && self.among.is_none_or(|among| among.contains(self.segment.ids()[row as usize]))
    }

    fn in_run(&self, row: u32) -> bool {
        self.runs.iter().any(|run| run.contains(&row))
    }

    /// Every allowed row, once.
    pub(super) fn for_each(&self, mut each: impl FnMut(u32, u128)) {
        let ids = self.segment.ids();
        match self.among {
            // Few ids: look each up. A look-up costs about as much as eight tests for membership.
            Some(among) if among.len().saturating_mul(8) < self.live => {
                for id in among.iter() {
                    if let Some(row) = self.segment.find(id)
                        && self.in_run(row)
                        && !self.dead.contains(row)
                    {
                        each(row, id);
                    }
                }
            }
            among => {
                for row in self.runs.iter().cloned().flatten() {
                    let id = ids[row as usize];
                    if !self.dead.contains(row) && among.is_none_or(|among| among.contains(id)) {
                        each(row, id);
                    }
                }
            }
        }
    }
}

/// Compares every allowed row.
pub(super) struct Exact;

impl VectorIndex for Exact {
    fn nearest(&self, query: &Query<'_>, allowed: &Allowed<'_>, _: usize, top: &mut Top) -> bool {
        allowed.for_each(|row, id| top.push(query.hit(id, allowed.segment.vector(row))));
        true
    }
}
