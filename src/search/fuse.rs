//! Making one list of what was found by meaning and what was found by words.

use activekg_index::{Hit, Scale, fusion};

/// Weight of meaning against words in the weighted sum.
pub const VECTOR_WEIGHT: f32 = 0.7;

/// How two lists become one.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Fusion {
    /// By ranks: a hit scores the sum of `1 / (k + rank)` over the lists that hold it.
    ReciprocalRank {
        /// Damps the first ranks.
        k: f32,
    },
    /// By scores: the weighted sum of the similarity and of the relevance by words, the latter as
    /// a share of the best.
    Weighted {
        /// Weight of the vector list, 0 to 1; the text list has the rest.
        vector: f32,
    },
}

impl Fusion {
    /// The hits of both lists, best first.
    pub fn fuse(self, vector: &[Hit], text: &[Hit]) -> Vec<Hit> {
        match self {
            Self::ReciprocalRank { k } => {
                let ids = |hits: &[Hit]| hits.iter().map(|hit| hit.id).collect::<Vec<_>>();
                let lists = [ids(vector), ids(text)];
                let lists = [(1.0, lists[0].as_slice()), (1.0, lists[1].as_slice())];
                let fused = fusion::reciprocal_rank(&lists, k);
                fused.into_iter().map(|(id, score)| Hit { id, score }).collect()
            }
            Self::Weighted { vector: weight } => {
                let near = (weight, Scale::AsGiven, vector);
                fusion::weighted_sum(&[near, (1.0 - weight, Scale::ByBest, text)])
            }
        }
    }
}

/// How deep each list goes that is fused for `top_k` hits: `max(base, 3 * top_k)` where a
/// reranker may reorder them, else `2 * top_k`.
pub fn depth(top_k: usize, use_reranker: bool, base: usize) -> usize {
    if use_reranker { base.max(3 * top_k) } else { 2 * top_k }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_are_summed_over_the_lists_that_hold_a_hit() {
        let hit = |id, score| Hit { id, score };
        let fusion = Fusion::ReciprocalRank { k: 60.0 };
        let fused = fusion.fuse(&[hit(1, 0.9), hit(2, 0.1)], &[hit(2, 7.0)]);
        assert_eq!(fused.iter().map(|hit| hit.id).collect::<Vec<_>>(), [2, 1]);
        assert!((fused[0].score - (1.0 / 62.0 + 1.0 / 61.0)).abs() < 1e-6);
    }

    #[test]
    fn lists_are_deeper_where_they_may_be_reordered() {
        assert_eq!(depth(3, true, 20), 20);
        assert_eq!(depth(10, true, 20), 30);
        assert_eq!(depth(10, false, 20), 20);
    }
}
