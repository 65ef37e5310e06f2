//! What a question came to.

use super::candidate::Candidate;
use super::citation::Citation;
use super::confidence::thousandths;
use super::gate::greatest_cosine;
use crate::llm::Route;
use crate::search::ScoreType;

/// What is said when nothing was found.
pub const NOTHING_FOUND: &str =
    "I couldn't find relevant information in the knowledge graph to answer your question.";

/// An answer, or what is said instead.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The text, with the indexes of sources in square brackets.
    pub text: String,
    /// The sources that the text refers to, by rising index.
    pub citations: Vec<Citation>,
    /// 0 to 0.95, three decimals.
    pub confidence: f64,
    /// How it came about.
    pub outcome: Outcome,
    /// Whether a reranker ordered what was found.
    pub reranked: bool,
}

/// How an answer came about.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Nothing was found.
    NothingFound {
        /// The kind of score there would have been.
        score_type: GatingScore,
    },
    /// Something was found and fits too badly to answer from.
    TooWeak {
        /// How many nodes were found.
        searched: usize,
        /// How well they fit.
        fit: Fit,
    },
    /// There is an answer.
    Answered(Box<Report>),
}

impl Outcome {
    /// The score of the best hit, 0 without one.
    pub fn gating_score(&self) -> f64 {
        match self {
            Self::NothingFound { .. } => 0.0,
            Self::TooWeak { fit, .. } => fit.top,
            Self::Answered(report) => report.fit.top,
        }
    }

    /// What kind of score that is.
    pub fn score_type(&self) -> GatingScore {
        match self {
            Self::NothingFound { score_type } => *score_type,
            Self::TooWeak { fit, .. } => fit.score_type,
            Self::Answered(report) => report.fit.score_type,
        }
    }
}

/// Kinds of scores that answers report. There are two, whatever search knows besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GatingScore {
    /// Sums of reciprocal ranks, 0.033 at most by default.
    RrfFused,
    /// Similarities, or a weighted sum on their scale.
    Cosine,
}

impl GatingScore {
    /// Its name in answers and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RrfFused => "rrf_fused",
            Self::Cosine => "cosine",
        }
    }
}

impl From<ScoreType> for GatingScore {
    fn from(score_type: ScoreType) -> Self {
        match score_type {
            ScoreType::RrfFused => Self::RrfFused,
            ScoreType::Cosine | ScoreType::WeightedFusion | ScoreType::Bm25 => Self::Cosine,
        }
    }
}

/// How well what was found fits, to three decimals.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Fit {
    /// Score of the first hit.
    pub top: f64,
    /// Cosine of the first hit; 0 for one that has no vector.
    pub top_vector: f64,
    /// Greatest cosine of all hits; 0 when none has a vector.
    pub max_vector: f64,
    /// What `top` is.
    pub score_type: GatingScore,
}

impl Fit {
    /// The fit of `candidates`, best first.
    pub fn of(candidates: &[Candidate], score_type: GatingScore) -> Self {
        let top = candidates.first();
        let top_vector = top.and_then(|top| top.cosine).unwrap_or(0.0);
        Self {
            top: thousandths(top.map_or(0.0, |top| top.score)),
            top_vector: thousandths(top_vector),
            max_vector: thousandths(greatest_cosine(candidates).unwrap_or(0.0)),
            score_type,
        }
    }
}

/// The figures of an answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Nodes that the sources were chosen from.
    pub searched: usize,
    /// Sources that the answer was written from.
    pub sources: usize,
    /// How well what was found fits.
    pub fit: Fit,
    /// The smallest index in the text, also one beyond the sources.
    pub first_cited: Option<usize>,
    /// The intent of the question.
    pub intent: Option<&'static str>,
    /// Classes that the search kept to, because of the intent.
    pub classes: Option<&'static [&'static str]>,
    /// Terms of which a node had to mention one, because of the intent; empty = no condition.
    pub must_have_terms: Vec<&'static str>,
    /// Nodes that the intent found by class and properties.
    pub structured: usize,
    /// The way that the answer took, and why.
    pub route: Route,
    /// The writer failed and another one wrote the answer.
    pub stood_in: bool,
    /// What the terms did; only for intents about documents.
    pub term_gating: Option<TermGating>,
}

/// What the condition on terms did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TermGating {
    /// Nodes before it.
    pub before: usize,
    /// Nodes after it.
    pub after: usize,
    /// It was dropped, because no node met it.
    pub relaxed: bool,
}

#[cfg(test)]
mod tests {
    use super::super::candidate::tests::found;
    use super::*;

    #[test]
    fn fit_tells_of_the_first_and_of_the_best() {
        let hits = [found(0.032_787, None), found(0.031, Some(0.580_4)), found(0.03, Some(0.2))];
        let fit = Fit::of(&hits, GatingScore::RrfFused);
        assert_eq!((fit.top, fit.top_vector, fit.max_vector), (0.033, 0.0, 0.58));
        let none = Fit::of(&[], GatingScore::Cosine);
        assert_eq!((none.top, none.top_vector, none.max_vector), (0.0, 0.0, 0.0));
    }

    #[test]
    fn a_weighted_sum_is_reported_on_the_scale_of_similarities() {
        assert_eq!(GatingScore::from(ScoreType::WeightedFusion).as_str(), "cosine");
        assert_eq!(GatingScore::from(ScoreType::RrfFused).as_str(), "rrf_fused");
    }
}
