//! POST /search.

use std::time::Duration;

use prometheus::{GaugeVec, HistogramVec, IntCounterVec};
use serde_json::{Map, Value};

use super::register::Register;
use super::samples::Samples;

/// Mode and score type of the searches that occur.
const KINDS: [(&str, &str); 3] =
    [("vector", "cosine"), ("hybrid", "rrf_fused"), ("hybrid", "weighted_fusion")];

/// POST /search.
pub struct SearchMetrics {
    requests: IntCounterVec,
    latency: HistogramVec,
    uplift: GaugeVec,
    latency_ms: Samples,
}

impl SearchMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Result<Self, prometheus::Error> {
        let requests = register.counters(
            "activekg_search_requests_total",
            "Searches answered",
            &["mode", "score_type"],
        )?;
        let latency = register.histograms(
            "activekg_search_latency_seconds",
            "Time to answer a search",
            &["mode", "score_type", "reranked"],
            &[0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0],
        )?;
        let uplift = register.gauges(
            "activekg_retrieval_uplift_mrr_percent",
            "Gain in mean reciprocal rank over plain vector search, in percent, as published by an evaluation",
            &["mode"],
        )?;
        for (mode, score_type) in KINDS {
            requests.with_label_values(&[mode, score_type]);
            latency.with_label_values(&[mode, score_type, "false"]);
        }
        Ok(Self { requests, latency, uplift, latency_ms: Samples::default() })
    }

    /// A search was answered; `reranked` says what happened, not what was asked for.
    pub fn answered(&self, mode: &str, score_type: &str, reranked: bool, latency: Duration) {
        let seconds = latency.as_secs_f64();
        let reranked = if reranked { "true" } else { "false" };
        self.requests.with_label_values(&[mode, score_type]).inc();
        self.latency.with_label_values(&[mode, score_type, reranked]).observe(seconds);
        self.latency_ms.add(seconds * 1e3);
    }

    /// An evaluation measured this gain of `mode` (`hybrid` or `weighted`), in percent.
    pub fn uplift(&self, mode: &str, percent: f64) {
        self.uplift.with_label_values(&[mode]).set(percent);
    }

    pub(super) fn json(
        &self,
        counters: &mut Map<String, Value>,
        histograms: &mut Map<String, Value>,
    ) {
        counters.insert(
            "search_requests_total".to_owned(),
            super::register::sum(&self.requests).into(),
        );
        if let Some(summary) = self.latency_ms.summary() {
            histograms.insert("search_latency_ms".to_owned(), summary);
        }
    }
}
