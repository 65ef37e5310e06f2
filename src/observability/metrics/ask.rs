//! POST /ask and /ask/stream.

use std::time::Duration;

use prometheus::{Counter, Histogram, HistogramVec, IntCounterVec};
use serde_json::{Map, Value};

use super::register::{Register, sum};

const SCORE_TYPES: [&str; 2] = ["rrf_fused", "cosine"];

/// POST /ask and /ask/stream.
pub struct AskMetrics {
    requests: IntCounterVec,
    gating_score: HistogramVec,
    cited_nodes: HistogramVec,
    zero_citations: IntCounterVec,
    rejections: IntCounterVec,
    latency: HistogramVec,
    first_chunk: Histogram,
    stand_ins: Counter,
}

/// Why a question got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// Nothing was found.
    NoResults,
    /// What was found is about something else.
    ExtremelyLowSimilarity,
    /// What was found says many things equally well.
    Ambiguity,
}

impl Rejection {
    const ALL: [Self; 3] = [Self::NoResults, Self::ExtremelyLowSimilarity, Self::Ambiguity];

    /// The label.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoResults => "no_results",
            Self::ExtremelyLowSimilarity => "extremely_low_similarity",
            Self::Ambiguity => "ambiguity",
        }
    }
}

/// How a question ended.
#[derive(Debug, Clone, Copy)]
pub struct AskOutcome<'a> {
    /// `rrf_fused` or `cosine`.
    pub score_type: &'a str,
    /// The score the gates looked at.
    pub gating_score: f64,
    /// The nodes the answer cites, or why there is none.
    pub answer: Result<usize, Rejection>,
    /// What happened, not what was asked for.
    pub reranked: bool,
    /// From request to answer.
    pub latency: Duration,
}

impl AskMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Result<Self, prometheus::Error> {
        let requests = register.counters(
            "activekg_ask_requests_total",
            "Questions, by whether they were turned down",
            &["score_type", "rejected"],
        )?;
        let gating_score = register.histograms(
            "activekg_gating_score",
            "Score by which a question was let through or turned down",
            &["score_type"],
            &[0.005, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.1, 0.15, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0],
        )?;
        let cited_nodes = register.histograms(
            "activekg_cited_nodes",
            "Nodes an answer cites",
            &["score_type"],
            &[0.0, 1.0, 2.0, 3.0, 5.0, 10.0, 15.0, 20.0, 30.0, 50.0],
        )?;
        let zero_citations = register.counters(
            "activekg_zero_citations_total",
            "Questions that ended without a citation",
            &["score_type", "reason"],
        )?;
        let rejections = register.counters(
            "activekg_rejections_total",
            "Questions turned down, by reason",
            &["reason", "score_type"],
        )?;
        let latency = register.histograms(
            "activekg_ask_latency_seconds",
            "Time to answer a question",
            &["score_type", "reranked"],
            &[0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0],
        )?;
        let first_chunk = register.histogram(
            "activekg_ask_first_chunk_latency_seconds",
            "Time to the first token of a streamed answer",
            &[0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0],
        )?;
        let stand_ins = register.counter(
            "activekg_ask_stand_ins_total",
            "Answers quoted from the sources because the model that should have written them failed",
        )?;
        for score_type in SCORE_TYPES {
            for rejected in ["false", "true"] {
                requests.with_label_values(&[score_type, rejected]);
            }
            for rejection in Rejection::ALL {
                rejections.with_label_values(&[rejection.as_str(), score_type]);
            }
            zero_citations.with_label_values(&[score_type, Rejection::NoResults.as_str()]);
            gating_score.with_label_values(&[score_type]);
            cited_nodes.with_label_values(&[score_type]);
            latency.with_label_values(&[score_type, "false"]);
        }
        Ok(Self {
            requests,
            gating_score,
            cited_nodes,
            zero_citations,
            rejections,
            latency,
            first_chunk,
            stand_ins,
        })
    }

    /// A question was answered or turned down.
    pub fn ended(&self, outcome: &AskOutcome<'_>) {
        let AskOutcome { score_type, gating_score, answer, reranked, latency } = *outcome;
        let rejected = if answer.is_err() { "true" } else { "false" };
        let reranked = if reranked { "true" } else { "false" };
        self.requests.with_label_values(&[score_type, rejected]).inc();
        self.gating_score.with_label_values(&[score_type]).observe(gating_score);
        self.latency.with_label_values(&[score_type, reranked]).observe(latency.as_secs_f64());
        match answer {
            Ok(cited) => self.cited_nodes.with_label_values(&[score_type]).observe(cited as f64),
            Err(rejection) => {
                self.rejections.with_label_values(&[rejection.as_str(), score_type]).inc();
                if rejection == Rejection::NoResults {
                    self.zero_citations.with_label_values(&[score_type, rejection.as_str()]).inc();
                }
            }
        }
    }

    /// A streamed answer showed its first token.
    pub fn first_chunk(&self, latency: Duration) {
        self.first_chunk.observe(latency.as_secs_f64());
    }

    /// Another writer had to write an answer.
    pub fn stood_in(&self) {
        self.stand_ins.inc();
    }

    pub(super) fn json(&self, counters: &mut Map<String, Value>) {
        counters.insert("ask_requests_total".to_owned(), sum(&self.requests).into());
    }
}
