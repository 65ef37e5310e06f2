//! Looks at the sources of connectors.

use std::time::Duration;

use activekg_storage::ids::TenantId;
use prometheus::{HistogramVec, IntCounterVec};

use super::bounded::{Bounded, OTHER};
use super::register::Register;
use crate::connectors::Provider;

/// Why a run ends early.
const ERRORS: [&str; 3] = ["connector_init", "list_changes", "cursor_save"];

/// Looks at the sources of connectors. Tenants beyond the first thousand count together.
pub struct PollingMetrics {
    runs: IntCounterVec,
    errors: IntCounterVec,
    latency: HistogramVec,
    tenants: Bounded,
}

impl PollingMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            runs: register.counters(
                "connector_poller_runs_total",
                "Runs over the source of a connector",
                &["provider", "tenant"],
            )?,
            errors: register.counters(
                "connector_poller_errors_total",
                "Runs over the source of a connector that failed",
                &["provider", "tenant", "error_type"],
            )?,
            latency: register.histograms(
                "connector_poller_latency_seconds",
                "Time of a run over the source of a connector",
                &["provider", "tenant"],
                &[0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0],
            )?,
            tenants: Bounded::default(),
        })
    }

    /// There is such a connector: its series are there from now on.
    pub fn known(&self, provider: Provider, tenant: &TenantId) {
        let labels = [provider.as_str(), self.label(tenant)];
        self.runs.with_label_values(&labels);
        for error in ERRORS {
            self.errors.with_label_values(&[labels[0], labels[1], error]);
        }
        self.latency.with_label_values(&labels);
    }

    /// A run ended.
    pub fn ran(&self, provider: Provider, tenant: &TenantId, took: Duration) {
        let labels = [provider.as_str(), self.label(tenant)];
        self.runs.with_label_values(&labels).inc();
        self.latency.with_label_values(&labels).observe(took.as_secs_f64());
    }

    /// A run failed, for one of three reasons.
    pub fn failed(&self, provider: Provider, tenant: &TenantId, error_type: &'static str) {
        let labels = [provider.as_str(), self.label(tenant), error_type];
        self.errors.with_label_values(&labels).inc();
    }

    fn label<'t>(&self, tenant: &'t TenantId) -> &'t str {
        if self.tenants.shows(tenant.as_str()) { tenant.as_str() } else { OTHER }
    }
}
