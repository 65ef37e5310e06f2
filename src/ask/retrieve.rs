//! Finding what may answer a question.

use activekg_index::Metric;
use tracing::warn;

use super::answer::{GatingScore, TermGating};
use super::candidate::{Candidate, keep_mentioning, merge};
use super::intent::{Intent, detect};
use super::{Error, Parts, Question, structured};
use crate::graph::View;
use crate::search::{Filter, Found, FoundNode, Fusion, Mode, Request, Weighting};

/// Most candidates for one answer.
const CANDIDATES_MAX: usize = 20;
/// How age and drift count where they do.
const WEIGHTING: Weighting = Weighting { decay_lambda: 0.01, drift_beta: 0.1 };

/// What was found for a question, and how.
#[derive(Debug)]
pub(super) struct Retrieved {
    /// Best first, at most [`CANDIDATES_MAX`].
    pub(super) candidates: Vec<Candidate>,
    /// What the scores are.
    pub(super) score_type: GatingScore,
    /// Whether a reranker ordered them.
    pub(super) reranked: bool,
    /// The intent of the question.
    pub(super) intent: Option<Intent>,
    /// Classes that the search kept to, because of the intent.
    pub(super) classes: Option<&'static [&'static str]>,
    /// How many were found by class and properties, because of the intent.
    pub(super) structured: usize,
    /// What the terms of the intent did.
    pub(super) term_gating: Option<TermGating>,
}

impl Retrieved {
    /// Whether the intent found anything; one that did not has no part in the answer.
    pub(super) fn intent_applies(&self) -> bool {
        self.structured > 0 || self.classes.is_some()
    }
}

/// Finds what may answer `question`, as far as `view` reaches.
pub(super) async fn retrieve(
    parts: &Parts,
    view: &View,
    question: &Question,
) -> Result<Retrieved, Error> {
    let intent = if parts.settings.intents { detect(&question.text) } else { None };
    let structured = match &intent {
        Some(intent) => {
            let now = parts.clock.now();
            structured::hits(&parts.graph, &parts.search, view, intent, now).await?
        }
        None => Vec::new(),
    };
    let n_structured = structured.len();
    let rerank = parts.settings.use_reranker && intent.is_none();
    let (mut classes, mut among) = (None, None);
    if let Some(Intent::Entity { kind, .. }) = &intent {
        among = hybrid(parts, view, question, kind.classes(), rerank)
            .await
            .filter(|found| has_fitting(parts, found));
        classes = among.is_some().then_some(kind.classes());
    }
    let found = match among {
        Some(found) => found,
        None => match hybrid(parts, view, question, &[], rerank).await {
            Some(found) => found,
            None => by_vector(parts, view, question).await?,
        },
    };
    let Found { hits, mode, score_type, reranked } = found;
    let score_type = match (hits.is_empty(), mode, parts.search.settings().fusion) {
        (true, _, Fusion::ReciprocalRank { .. }) => GatingScore::RrfFused,
        (true, _, Fusion::Weighted { .. }) | (false, Mode::Vector, _) => GatingScore::Cosine,
        (false, Mode::Hybrid | Mode::Text, _) => score_type.into(),
    };
    let found = hits.into_iter().map(|hit| candidate(parts, hit)).collect();
    let mut candidates = merge(structured, found, CANDIDATES_MAX);
    let mut term_gating = None;
    if let (Some(Intent::Entity { must_have_terms, .. }), Some(_)) = (&intent, classes) {
        let before = candidates.len();
        let relaxed = keep_mentioning(&mut candidates, must_have_terms);
        term_gating = Some(TermGating { before, after: candidates.len(), relaxed });
    }
    let structured = n_structured;
    Ok(Retrieved { candidates, score_type, reranked, intent, classes, structured, term_gating })
}

/// The best nodes by meaning and words of `classes` (empty = any); none when there are none, or
/// when this way of searching fails, which leaves the vectors.
async fn hybrid(
    parts: &Parts,
    view: &View,
    question: &Question,
    classes: &[&str],
    use_reranker: bool,
) -> Option<Found> {
    let classes = classes.iter().map(|class| (*class).to_owned()).collect();
    let request = Request {
        query: question.text.clone(),
        top_k: CANDIDATES_MAX,
        mode: Mode::Hybrid,
        use_reranker,
        weighting: None,
        filter: Filter { classes, ..Filter::default() },
        min_similarity: None,
    };
    match parts.search.find(view, request).await {
        Ok(found) => Some(found).filter(|found| !found.hits.is_empty()),
        Err(error) => {
            warn!(
                tenant = view.tenant().as_str(),
                "hybrid search failed, vectors serve alone: {error}"
            );
            None
        }
    }
}

/// The best nodes by meaning alone.
async fn by_vector(parts: &Parts, view: &View, question: &Question) -> Result<Found, Error> {
    let request = Request {
        query: question.text.clone(),
        top_k: question.max_results,
        mode: Mode::Vector,
        use_reranker: false,
        weighting: question.weighted.then_some(WEIGHTING),
        filter: Filter::default(),
        min_similarity: None,
    };
    Ok(parts.search.find(view, request).await?)
}

/// Whether anything was found that a question may be answered from. The tables of intents know
/// nothing of the corpus: "what role does oil play" asks for no job.
fn has_fitting(parts: &Parts, found: &Found) -> bool {
    let least = parts.settings.thresholds.refuse_cosine;
    let metric = parts.search.settings().metric;
    let cosines = found.hits.iter().map(|hit| cosine(metric, hit.vector_similarity));
    cosines.into_iter().any(|cosine| cosine.is_none_or(|cosine| cosine >= least))
}

fn candidate(parts: &Parts, hit: FoundNode) -> Candidate {
    let FoundNode { node, score, vector_similarity } = hit;
    let cosine = cosine(parts.search.settings().metric, vector_similarity);
    Candidate { node, score, cosine, structured: false }
}

/// The cosine behind a similarity by `metric`. Vectors have length 1, so the inner product is
/// the cosine, and the distance follows from it (`d² = 2 - 2 cos`). Similarity by distance is 0
/// from distance 1 on, which is cosine 0.5 and less: then it is not known.
fn cosine(metric: Metric, similarity: Option<f64>) -> Option<f64> {
    let similarity = similarity?;
    match metric {
        Metric::Cosine | Metric::InnerProduct => Some(similarity),
        Metric::L2 if similarity > 0.0 => Some(1.0 - (1.0 - similarity).powi(2) / 2.0),
        Metric::L2 => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_mean_the_same_under_every_metric() {
        // cos 0.82: distance sqrt(2 - 1.64) = 0.6, similarity 0.4
        let from_distance = cosine(Metric::L2, Some(0.4)).expect("known");
        assert!((from_distance - 0.82).abs() < 1e-12);
        assert_eq!(cosine(Metric::L2, Some(0.0)), None);
        assert_eq!(cosine(Metric::Cosine, Some(-0.1)), Some(-0.1));
        assert_eq!(cosine(Metric::InnerProduct, Some(0.82)), Some(0.82));
        assert_eq!(cosine(Metric::Cosine, None), None);
    }
}
