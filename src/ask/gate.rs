//! Whether what was found is good enough to answer from.
//!
//! Fused scores say how hits rank against each other, not how well they fit: the best of a list
//! of nonsense has the same reciprocal-rank score as the best of a list of treasures. So the
//! decision is made on the cosine similarity of question and node. A threshold that the operator
//! sets on fused scores holds besides.
//!
//! There is no refusal for ambiguity. A small gap between the first and the third hit is what
//! neighbouring passages of one document, or several documents that agree, look like; on the
//! cosine scale a gap of 0.02 is common among the best-answered questions.

use super::answer::GatingScore;
use super::candidate::Candidate;

/// Below which scores a question is refused, or answered from one node alone.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Thresholds {
    /// Cosine below which a question is refused.
    pub refuse_cosine: f64,
    /// Reciprocal-rank score below which a question is refused too, if the operator wants that.
    pub refuse_fused: Option<f64>,
    /// Cosine below which only the first hit is used.
    pub narrow_cosine: f64,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self { refuse_cosine: 0.15, refuse_fused: None, narrow_cosine: 0.30 }
    }
}

/// What to do with the hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Gate {
    /// Answer nothing.
    Refuse,
    /// Answer from the first hit, with lowered confidence.
    Narrow,
    /// Answer from the best hits.
    Open,
}

impl Thresholds {
    /// The decision about `candidates`, best first, whose scores are of `score_type`. A first
    /// hit that a structured query found was selected by its properties and needs no likeness
    /// to the question. One that is not embedded yet is judged by the most similar of the rest;
    /// when none is embedded, words alone speak for it, which is enough for a narrow answer.
    pub fn decide(&self, candidates: &[Candidate], score_type: GatingScore) -> Gate {
        let Some(top) = candidates.first() else {
            return Gate::Refuse;
        };
        if top.structured {
            return Gate::Open;
        }
        let fused = score_type == GatingScore::RrfFused;
        if fused && self.refuse_fused.is_some_and(|least| top.score < least) {
            return Gate::Refuse;
        }
        match top.cosine.or_else(|| greatest_cosine(candidates)) {
            Some(cosine) if cosine < self.refuse_cosine => Gate::Refuse,
            Some(cosine) if cosine >= self.narrow_cosine => Gate::Open,
            Some(_) | None => Gate::Narrow,
        }
    }
}

/// The similarity of the most similar candidate that is embedded.
pub fn greatest_cosine(candidates: &[Candidate]) -> Option<f64> {
    candidates.iter().filter_map(|candidate| candidate.cosine).max_by(f64::total_cmp)
}

#[cfg(test)]
mod tests {
    use super::super::candidate::tests::{found, structured};
    use super::*;

    fn decide(thresholds: Thresholds, hits: &[(f64, Option<f64>)]) -> Gate {
        let hits: Vec<_> = hits.iter().map(|(score, cosine)| found(*score, *cosine)).collect();
        thresholds.decide(&hits, GatingScore::RrfFused)
    }

    #[test]
    fn the_cosine_of_the_first_hit_decides() {
        let gate =
            |cosine| decide(Thresholds::default(), &[(0.033, Some(cosine)), (0.016, Some(0.9))]);
        assert_eq!(gate(0.149), Gate::Refuse);
        assert_eq!(gate(0.15), Gate::Narrow);
        assert_eq!(gate(0.299), Gate::Narrow);
        assert_eq!(gate(0.30), Gate::Open);
    }

    #[test]
    fn a_fused_score_never_passes_for_a_cosine() {
        assert_eq!(decide(Thresholds::default(), &[(0.99, Some(0.1))]), Gate::Refuse);
        assert_eq!(decide(Thresholds::default(), &[(0.0001, Some(0.5))]), Gate::Open);
    }

    #[test]
    fn thresholds_of_the_operator_hold() {
        let fused = Thresholds { refuse_fused: Some(0.02), ..Thresholds::default() };
        assert_eq!(decide(fused, &[(0.016, Some(0.9))]), Gate::Refuse);
        assert_eq!(decide(fused, &[(0.032, Some(0.9))]), Gate::Open);
        let hits = [found(0.016, Some(0.9))];
        assert_eq!(fused.decide(&hits, GatingScore::Cosine), Gate::Open);
        let strict = Thresholds { refuse_cosine: 0.5, narrow_cosine: 0.7, refuse_fused: None };
        assert_eq!(decide(strict, &[(0.033, Some(0.45))]), Gate::Refuse);
        assert_eq!(decide(strict, &[(0.033, Some(0.6))]), Gate::Narrow);
        let never = Thresholds { refuse_cosine: -1.0, narrow_cosine: -1.0, refuse_fused: None };
        assert_eq!(decide(never, &[(0.033, Some(-0.3))]), Gate::Open);
    }

    #[test]
    fn hits_without_a_vector() {
        assert_eq!(
            decide(Thresholds::default(), &[(0.016, None), (0.016, Some(0.1))]),
            Gate::Refuse
        );
        assert_eq!(decide(Thresholds::default(), &[(0.016, None), (0.016, Some(0.4))]), Gate::Open);
        assert_eq!(decide(Thresholds::default(), &[(0.016, None)]), Gate::Narrow);
        assert_eq!(decide(Thresholds::default(), &[]), Gate::Refuse);
    }

    #[test]
    fn what_was_selected_by_its_properties_needs_no_likeness() {
        let hits = [structured(1.0), found(0.01, Some(0.0))];
        assert_eq!(Thresholds::default().decide(&hits, GatingScore::RrfFused), Gate::Open);
    }
}
