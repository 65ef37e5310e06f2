//! Which candidates an answer is written from.

use super::candidate::Candidate;

/// Fewer sources than this are filled up with the best of what is there.
const SOURCES_MIN: usize = 2;

/// The sources of an answer, best first, at most `limit`: the candidates whose cosine reaches
/// `threshold` and those that a structured query selected. When fewer than two do, the first two
/// candidates, so that an answer can weigh at least two voices.
pub fn select(candidates: Vec<Candidate>, threshold: f64, limit: usize) -> Vec<Candidate> {
    let fits = |candidate: &Candidate| {
        candidate.structured || candidate.cosine.is_some_and(|cosine| cosine >= threshold)
    };
    let fitting = candidates.iter().filter(|candidate| fits(candidate)).count();
    if fitting < SOURCES_MIN {
        return candidates.into_iter().take(limit.min(SOURCES_MIN)).collect();
    }
    candidates.into_iter().filter(fits).take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::super::candidate::tests::{found, structured};
    use super::*;

    fn cosines(candidates: Vec<Candidate>, limit: usize) -> Vec<Option<f64>> {
        select(candidates, 0.3, limit).iter().map(|candidate| candidate.cosine).collect()
    }

    #[test]
    fn what_fits_is_used_in_order_up_to_the_limit() {
        let hits = || [0.5, 0.2, 0.9, 0.3, 0.7].map(|cosine| found(0.03, Some(cosine))).to_vec();
        assert_eq!(cosines(hits(), 3), [Some(0.5), Some(0.9), Some(0.3)]);
        assert_eq!(cosines(hits(), 1), [Some(0.5)]);
    }

    #[test]
    fn one_that_fits_is_joined_by_another() {
        let hits = vec![found(0.03, Some(0.5)), found(0.03, None), found(0.01, Some(0.1))];
        assert_eq!(cosines(hits.clone(), 3), [Some(0.5), None]);
        assert_eq!(cosines(hits, 1), [Some(0.5)]);
        assert_eq!(cosines(vec![found(0.03, Some(0.5))], 3), [Some(0.5)]);
    }

    #[test]
    fn structured_hits_fit() {
        let hits = vec![structured(1.0), structured(1.0), found(0.03, Some(0.2))];
        assert_eq!(cosines(hits, 3), [None, None]);
    }
}
