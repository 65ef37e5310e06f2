//! Hits and their order.

use std::cmp::Ordering;

/// One result of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hit {
    /// The id the caller stored.
    pub id: u128,
    /// Higher is better. The unit depends on the index; scores compare within one list only.
    pub score: f32,
}

/// Falling score, then rising id: the order of every list of hits. Total, so that a NaN could
/// disturb a list but never panic.
pub(crate) fn best_first(a: &Hit, b: &Hit) -> Ordering {
    b.score.total_cmp(&a.score).then(a.id.cmp(&b.id))
}

/// Keeps the `k` best of the hits it is offered.
///
/// Works in batches (fill twice `k`, cut to `k`) and not as a heap, so that asking for everything
/// costs one sort.
pub(crate) struct Top {
    k: usize,
    hits: Vec<Hit>,
    floor: f32,
}

impl Top {
    /// Room for the `k` best.
    pub(crate) fn new(k: usize) -> Self {
        Self { k, hits: Vec::new(), floor: f32::NEG_INFINITY }
    }

    /// A score below this cannot be among the best any more; an equal one may, by its id.
    pub(crate) fn floor(&self) -> f32 {
        self.floor
    }

    /// Offers a hit.
    pub(crate) fn push(&mut self, hit: Hit) {
        if self.k == 0 || hit.score < self.floor {
            return;
        }
        self.hits.push(hit);
        if self.hits.len() >= self.k.saturating_mul(2).max(64) {
            self.cut();
        }
    }

    fn cut(&mut self) {
        if self.hits.len() > self.k {
            self.hits.select_nth_unstable_by(self.k - 1, best_first);
            self.hits.truncate(self.k);
            self.floor = self.hits[self.k - 1].score;
        }
    }

    /// The `k` best, best first.
    pub(crate) fn into_sorted(mut self) -> Vec<Hit> {
        self.hits.sort_unstable_by(best_first);
        self.hits.truncate(self.k);
        self.hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn top_is_the_head_of_the_sorted_list(
            scores in prop::collection::vec(0_u8..8, 0..300),
            k in 0_usize..40,
        ) {
            let mut all: Vec<Hit> = scores
                .iter()
                .enumerate()
                .map(|(i, &score)| Hit { id: (i as u128 * 7919) % 307, score: f32::from(score) })
                .collect();
            let mut top = Top::new(k);
            for &hit in &all {
                top.push(hit);
            }
            all.sort_by(best_first);
            all.truncate(k);
            prop_assert_eq!(top.into_sorted(), all);
        }
    }
}
