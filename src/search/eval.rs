//! How good ranked lists are, by judgements that people made.

use std::collections::HashMap;
use std::hash::Hash;

/// How much documents are worth to one query; a document without a gain is worth nothing.
pub type Gains<D> = HashMap<D, u32>;

/// Ranks that nDCG looks at.
pub const NDCG_DEPTH: usize = 10;
/// Ranks that recall looks at, and all the lists need to have.
pub const RECALL_DEPTH: usize = 100;

/// Averages over queries, each 0 to 1.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Quality {
    /// nDCG@10: how near the first ten are to the best possible ten.
    pub ndcg: f64,
    /// recall@100: the share of the worthy documents that is among the first hundred.
    pub recall: f64,
    /// MRR: one by the rank of the first worthy document.
    pub mrr: f64,
}

impl Quality {
    /// The averages over `judged`, a ranked list and its query's gains each. Queries without a
    /// worthy document are left out: nothing could be found for them.
    pub fn mean<'a, D: Eq + Hash + 'a>(
        judged: impl IntoIterator<Item = (&'a [D], &'a Gains<D>)>,
    ) -> Self {
        let (mut sum, mut n) = (Self::default(), 0.0);
        for (ranked, gains) in judged {
            if gains.values().all(|&gain| gain == 0) {
                continue;
            }
            sum.ndcg += ndcg(ranked, gains, NDCG_DEPTH);
            sum.recall += recall(ranked, gains, RECALL_DEPTH);
            sum.mrr += reciprocal_rank(ranked, gains);
            n += 1.0;
        }
        if n == 0.0 {
            return sum;
        }
        Self { ndcg: sum.ndcg / n, recall: sum.recall / n, mrr: sum.mrr / n }
    }
}

/// Normalised discounted cumulative gain of the first `k`: the sum of `gain / log2(1 + rank)`,
/// ranks from 1, by that of the best possible order. 0 if nothing has a gain.
pub fn ndcg<D: Eq + Hash>(ranked: &[D], gains: &Gains<D>, k: usize) -> f64 {
    let mut best: Vec<u32> = gains.values().copied().collect();
    best.sort_unstable_by(|a, b| b.cmp(a));
    let ideal = discounted(best.into_iter().take(k));
    if ideal == 0.0 {
        return 0.0;
    }
    discounted(ranked.iter().take(k).map(|doc| gain(gains, doc))) / ideal
}

/// The share of documents with a gain that is among the first `k`. 0 if nothing has a gain.
pub fn recall<D: Eq + Hash>(ranked: &[D], gains: &Gains<D>, k: usize) -> f64 {
    let worthy = gains.values().filter(|&&gain| gain > 0).count();
    let found = ranked.iter().take(k).filter(|doc| gain(gains, doc) > 0).count();
    if worthy == 0 { 0.0 } else { found as f64 / worthy as f64 }
}

/// One by the rank, from 1, of the first document with a gain; 0 if there is none.
pub fn reciprocal_rank<D: Eq + Hash>(ranked: &[D], gains: &Gains<D>) -> f64 {
    let first = ranked.iter().position(|doc| gain(gains, doc) > 0);
    first.map_or(0.0, |at| 1.0 / (at + 1) as f64)
}

fn discounted(gains: impl Iterator<Item = u32>) -> f64 {
    gains.zip(2u32..).map(|(gain, place)| f64::from(gain) / f64::from(place).log2()).sum()
}

fn gain<D: Eq + Hash>(gains: &Gains<D>, doc: &D) -> u32 {
    gains.get(doc).copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(a: f64, b: f64) {
        assert!((a - b).abs() < 1e-12, "{a} is not {b}");
    }

    #[test]
    fn ndcg_is_the_discounted_gain_by_the_best_possible() {
        let gains = Gains::from([("a", 4), ("b", 2), ("c", 1)]);
        close(ndcg(&["a", "b", "c"], &gains, 10), 1.0);
        // 2 / log2(2) + 4 / log2(4) = 4 against 4 + 2 / log2(3) + 1 / 2.
        close(ndcg(&["b", "x", "a"], &gains, 10), 4.0 / (4.5 + 2.0 / 3f64.log2()));
        // Cut at 2, the best possible is 4 + 2 / log2(3).
        close(ndcg(&["b", "x", "a"], &gains, 2), 2.0 / (4.0 + 2.0 / 3f64.log2()));
        close(ndcg(&["x", "y"], &gains, 10), 0.0);
        close(ndcg(&[], &gains, 10), 0.0);
        close(ndcg(&["a"], &Gains::new(), 10), 0.0);
    }

    #[test]
    fn recall_counts_what_has_a_gain() {
        let gains = Gains::from([("a", 4), ("b", 1), ("c", 1), ("none", 0)]);
        close(recall(&["x", "a", "none", "c"], &gains, 100), 2.0 / 3.0);
        close(recall(&["x", "a", "none", "c"], &gains, 3), 1.0 / 3.0);
        close(recall(&["x"], &Gains::new(), 3), 0.0);
    }

    #[test]
    fn the_reciprocal_rank_is_that_of_the_first_worthy() {
        let gains = Gains::from([("a", 1), ("b", 4), ("none", 0)]);
        close(reciprocal_rank(&["x", "none", "a", "b"], &gains), 1.0 / 3.0);
        close(reciprocal_rank(&["x"], &gains), 0.0);
    }

    #[test]
    fn averages_leave_out_queries_nobody_can_answer() {
        let (judged, unjudged) = (Gains::from([("a", 1)]), Gains::from([("a", 0)]));
        let lists = [vec!["a"], vec!["b", "a"], vec!["a"]];
        let quality = Quality::mean([
            (lists[0].as_slice(), &judged),
            (lists[1].as_slice(), &judged),
            (lists[2].as_slice(), &unjudged),
        ]);
        close(quality.mrr, 0.75);
        close(quality.recall, 1.0);
        close(quality.ndcg, (1.0 + 1.0 / 3f64.log2()) / 2.0);
        assert_eq!(Quality::mean::<&str>([]), Quality::default());
    }

    proptest! {
        /// All are shares, and the best order has an nDCG of 1.
        #[test]
        fn figures_are_shares(gains in prop::collection::hash_map(0u8..30, 0u32..5, 0..20), seed: u64) {
            let mut ranked: Vec<u8> = (0..30).collect();
            ranked.sort_by_key(|&doc| (u64::from(doc) + 1).wrapping_mul(seed | 1) >> 7);
            for k in [1, 5, 10, 100] {
                prop_assert!((0.0..=1.0 + 1e-12).contains(&ndcg(&ranked, &gains, k)));
                prop_assert!((0.0..=1.0).contains(&recall(&ranked, &gains, k)));
            }
            ranked.sort_by_key(|doc| std::cmp::Reverse(gain(&gains, doc)));
            if gains.values().any(|&gain| gain > 0) {
                prop_assert!((ndcg(&ranked, &gains, 10) - 1.0).abs() < 1e-12);
            }
        }
    }
}
