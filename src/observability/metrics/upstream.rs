//! Calls of services that run models.

use std::time::Duration;

use prometheus::{GaugeVec, HistogramVec, IntCounterVec};

use super::register::Register;
use crate::upstream::{BreakerState, Failure};

/// Calls of services that run models; a service is a label, and the settings name them all.
/// Clones count together.
#[derive(Clone)]
pub struct UpstreamMetrics {
    calls: IntCounterVec,
    retries: IntCounterVec,
    breaker: GaugeVec,
    latency: HistogramVec,
    tokens: IntCounterVec,
    over_budget: IntCounterVec,
}

impl UpstreamMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            calls: register.counters(
                "activekg_upstream_calls_total",
                "Calls of a model service, by how they ended after all attempts",
                &["service", "result"],
            )?,
            retries: register.counters(
                "activekg_upstream_retries_total",
                "Attempts of calls after the first",
                &["service"],
            )?,
            breaker: register.gauges(
                "activekg_upstream_breaker_state",
                "Whether a model service is asked: 0 it is, 1 one call is finding out, 2 it is not",
                &["service"],
            )?,
            latency: register.histograms(
                "activekg_upstream_latency_seconds",
                "Time to the whole answer of a model service, or to its first byte if it streams",
                &["service"],
                &[0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0],
            )?,
            tokens: register.counters(
                "activekg_embedding_remote_tokens_total",
                "Tokens that a remote embedder took, as it reports them or else by a guess",
                &["service"],
            )?,
            over_budget: register.counters(
                "activekg_embedding_budget_refusals_total",
                "Requests to a remote embedder that the token budget of the day did not allow",
                &["service"],
            )?,
        })
    }

    /// A service that may be called: its series are there from now on.
    pub(crate) fn announce(&self, service: &str) {
        for result in ["ok"].into_iter().chain(Failure::LABELS) {
            self.calls.with_label_values(&[service, result]);
        }
        self.retries.with_label_values(&[service]);
        self.latency.with_label_values(&[service]);
        self.breaker(service, BreakerState::Closed);
    }

    /// A service answered, after so long.
    pub(crate) fn answered(&self, service: &str, latency: Duration) {
        self.latency.with_label_values(&[service]).observe(latency.as_secs_f64());
    }

    /// A call ended.
    pub(crate) fn ended(&self, service: &str, result: &str) {
        self.calls.with_label_values(&[service, result]).inc();
    }

    /// An attempt is made again.
    pub(crate) fn again(&self, service: &str) {
        self.retries.with_label_values(&[service]).inc();
    }

    /// Where the breaker of a service stands.
    pub(crate) fn breaker(&self, service: &str, state: BreakerState) {
        self.breaker.with_label_values(&[service]).set(f64::from(state.number()));
    }

    /// A remote embedder that may be asked: its series are there from now on.
    pub(crate) fn announce_budget(&self, service: &str) {
        self.tokens.with_label_values(&[service]);
        self.over_budget.with_label_values(&[service]);
    }

    /// A remote embedder took so many tokens.
    pub(crate) fn embedded(&self, service: &str, tokens: u64) {
        self.tokens.with_label_values(&[service]).inc_by(tokens);
    }

    /// The budget did not allow a request.
    pub(crate) fn budget_reached(&self, service: &str) {
        self.over_budget.with_label_values(&[service]).inc();
    }
}
