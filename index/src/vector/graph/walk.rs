//! Walking a graph towards a vector.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::{Mutex, PoisonError};

use super::distances::Origin;
use super::links::Links;

/// A row and how far it is from what is looked for. The nearest is the least, of equally far ones
/// the first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Near {
    pub(super) distance: f32,
    pub(super) row: u32,
}

impl Eq for Near {}

impl Ord for Near {
    fn cmp(&self, other: &Self) -> Ordering {
        self.distance.total_cmp(&other.distance).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Near {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What a walk needs room for, kept from one to the next.
#[derive(Default)]
pub(super) struct Scratch {
    /// The number of the walk that saw a row last.
    seen: Vec<u16>,
    walk: u16,
    /// Rows to go on from.
    open: BinaryHeap<Reverse<Near>>,
    /// The nearest so far, the farthest of them on top.
    best: BinaryHeap<Near>,
    /// Links of one row that were not seen yet.
    next: Vec<u32>,
}

impl Scratch {
    fn begin(&mut self, rows: usize) {
        self.seen.resize(rows, 0);
        self.walk = self.walk.checked_add(1).unwrap_or_else(|| {
            self.seen.fill(0);
            1
        });
        self.open.clear();
        self.best.clear();
    }

    /// Whether this walk sees a row for the first time.
    fn sees(&mut self, row: u32) -> bool {
        std::mem::replace(&mut self.seen[row as usize], self.walk) != self.walk
    }

    fn offer(&mut self, near: Near, width: usize) {
        if self.best.len() < width {
            self.best.push(near);
        } else if self.best.peek().is_some_and(|worst| near < *worst) {
            self.best.pop();
            self.best.push(near);
        } else {
            return;
        }
        self.open.push(Reverse(near));
    }

    /// Whether nothing that is left to go on from can better the result.
    fn is_over(&self, next: Near, width: usize) -> bool {
        self.best.len() >= width && self.best.peek().is_some_and(|worst| next > *worst)
    }
}

/// Scratch space for as many walks as there are at a time.
#[derive(Default)]
pub(super) struct Pool(Mutex<Vec<Scratch>>);

impl Pool {
    /// Lends scratch space for some walks.
    pub(super) fn with<T>(&self, walks: impl FnOnce(&mut Scratch) -> T) -> T {
        let taken = self.0.lock().unwrap_or_else(PoisonError::into_inner).pop();
        let mut scratch = taken.unwrap_or_default();
        let result = walks(&mut scratch);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(scratch);
        result
    }
}

/// Where a walk on `layer` begins: the row that steps to ever nearer ones lead to, from `entry` over
/// the layers above, and `entry` itself, from which every row can be reached.
pub(super) fn descend(links: &Links, from: &Origin<'_>, entry: u32, layer: u8) -> [Near; 2] {
    let first = Near { distance: from.to(entry), row: entry };
    let mut at = first;
    for above in (layer + 1..=links.top(entry)).rev() {
        loop {
            let near = |row| Near { distance: from.to(row), row };
            match links.of(at.row, above).map(near).min() {
                Some(nearer) if nearer < at => at = nearer,
                _ => break,
            }
        }
    }
    [at, first]
}

/// The `width` nearest rows that a walk from some rows on one layer finds, nearest first: always to
/// the nearest that it has not been to, until that is farther than all `width` (algorithm 2 of the
/// paper).
pub(super) fn nearest(
    links: &Links,
    from: &Origin<'_>,
    starts: &[Near],
    layer: u8,
    width: usize,
    scratch: &mut Scratch,
) -> Vec<Near> {
    scratch.begin(links.rows());
    for &near in starts {
        if scratch.sees(near.row) {
            scratch.offer(near, width);
        }
    }
    while let Some(Reverse(at)) = scratch.open.pop() {
        if scratch.is_over(at, width) {
            break;
        }
        let mut next = std::mem::take(&mut scratch.next);
        next.extend(links.of(at.row, layer).filter(|&row| scratch.sees(row)));
        next.first().into_iter().for_each(|&row| from.prefetch(row));
        for (i, &row) in next.iter().enumerate() {
            next.get(i + 1).into_iter().for_each(|&row| from.prefetch(row));
            scratch.offer(Near { distance: from.to(row), row }, width);
        }
        next.clear();
        scratch.next = next;
    }
    let mut best: Vec<Near> = scratch.best.drain().collect();
    best.sort_unstable();
    best
}
