//! Inverted lists over a sealed segment: rows that lie close together share a list, and a search
//! scans the lists whose centres are nearest to the query.
//!
//! Nothing is approximate but the choice of lists: their rows are compared in full, in the
//! segment's own file. The filter decides during the scan, and a search goes on to further lists
//! until it has compared as many allowed rows as it would have without a filter, so a narrow filter
//! costs no recall and a search never gives fewer hits than there are.

mod clusters;
mod file;
#[cfg(test)]
mod tests;

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::sync::atomic::AtomicUsize;

use super::build::{Built, workers};
use super::engine::{Allowed, Query, VectorIndex};
use super::metric::nearness;
use super::segment::Segment;
use super::{IvfParams, Metric};
use crate::Kernels;
use crate::rank::Top;
use clusters::Space;

/// A list has this many rows at least, on average. The centre of fewer says little about where they
/// lie, and comparing the query with the centres would cost more than the lists save.
const ROWS_PER_LIST: usize = 32;
/// Rows to compare for each hit wanted, where that is more than the lists to scan hold.
const ROWS_PER_HIT: usize = 8;

/// The lists of a segment.
#[derive(Debug, PartialEq)]
pub(super) struct Ivf {
    dim: usize,
    /// Lists that were wanted; there may be fewer where many rows are equal.
    wanted: usize,
    /// The centre of each list, one after another.
    centers: Vec<f32>,
    /// Where each list starts in `members`, and the end of the last.
    starts: Vec<u32>,
    /// Every row once, list by list, rising within each.
    members: Vec<u32>,
}

/// The number of lists for so many rows.
pub(super) fn lists_for(rows: usize, params: IvfParams) -> usize {
    params.lists.min(rows / ROWS_PER_LIST).max(1)
}

/// Rows of a segment with so many rows and lists that a search for `k` hits compares at least, if
/// as many are allowed.
pub(super) fn enough(rows: usize, lists: usize, probes: usize, k: usize) -> usize {
    let probed = probes.saturating_mul(rows.div_ceil(lists.max(1)));
    probed.max(k.saturating_mul(ROWS_PER_HIT))
}

impl Ivf {
    /// Puts the rows of a segment on at most `wanted` lists, counting finished rows in `done`, on
    /// all processors but one. The same segment always gets the same lists.
    pub(super) fn build(
        segment: &Segment,
        metric: Metric,
        kernels: Kernels,
        wanted: usize,
        stop: &dyn Fn() -> bool,
        done: &AtomicUsize,
    ) -> Built<Self> {
        let space = Space::new(segment, metric, kernels);
        let built = workers().and_then(|pool| {
            let centers = space.centers(wanted, &pool, stop)?;
            let nearest = space.assign(&centers, &pool, stop, done)?;
            let (starts, members) = listed(&nearest, centers.len());
            let (dim, centers) = (segment.dim(), centers.into_values());
            Some(Self { dim, wanted, centers, starts, members })
        });
        built.map_or(Built::Stopped, Built::Standing)
    }

    /// The number of lists.
    pub(super) fn lists(&self) -> usize {
        self.starts.len() - 1
    }

    pub(super) fn bytes(&self) -> usize {
        (self.centers.len() + self.starts.len() + self.members.len()) * 4
    }

    fn list(&self, list: usize) -> &[u32] {
        &self.members[self.starts[list] as usize..self.starts[list + 1] as usize]
    }

    /// The lists, the one with the nearest centre on top.
    fn by_nearness(&self, query: &Query<'_>) -> BinaryHeap<Near> {
        let near = |(list, center): (usize, &[f32])| Near {
            nearness: nearness(query.metric, &query.kernels, query.values, center),
            list,
        };
        self.centers.chunks_exact(self.dim).enumerate().map(near).collect()
    }
}

/// Sorts rows by the list they are on: where each list starts, and the rows.
fn listed(nearest: &[u32], lists: usize) -> (Vec<u32>, Vec<u32>) {
    let mut starts = vec![0; lists + 1];
    for &list in nearest {
        starts[list as usize + 1] += 1;
    }
    for list in 0..lists {
        starts[list + 1] += starts[list];
    }
    let mut next = starts.clone();
    let mut members = vec![0; nearest.len()];
    for (row, &list) in nearest.iter().enumerate() {
        let place = &mut next[list as usize];
        members[*place as usize] = row as u32;
        *place += 1;
    }
    (starts, members)
}

impl VectorIndex for Ivf {
    fn nearest(
        &self,
        query: &Query<'_>,
        allowed: &Allowed<'_>,
        width: usize,
        top: &mut Top,
    ) -> bool {
        let (all, ids) = (allowed.at_most(), allowed.segment.ids());
        let enough = enough(self.members.len(), self.lists(), width, query.k);
        let mut order = self.by_nearness(query);
        let (mut scanned, mut compared) = (0, 0);
        while compared < all && (scanned < width || compared < enough) {
            let Some(Near { list, .. }) = order.pop() else { break };
            scanned += 1;
            for &row in self.list(list) {
                if allowed.contains(row) {
                    top.push(query.hit(ids[row as usize], allowed.segment.vector(row)));
                    compared += 1;
                }
            }
        }
        true
    }
}

/// A list and how near its centre is; the greatest is the nearest, of equal ones the first.
struct Near {
    nearness: f32,
    list: usize,
}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        self.nearness.total_cmp(&other.nearness).then(other.list.cmp(&self.list))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Near {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Near {}
