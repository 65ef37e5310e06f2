//! How much of each tenant is embedded, and how old that is.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus::{Gauge, GaugeVec};
use serde_json::{Map, Value};

use super::register::Register;

/// Tenants with gauges of their own; a scrape stays readable and small.
const TENANTS_MAX: usize = 1000;

/// How much of each tenant is embedded, and how old that is.
pub struct EmbeddingMetrics {
    coverage: GaugeVec,
    staleness: GaugeVec,
    omitted: Gauge,
    shown: Mutex<BTreeSet<String>>,
    overall: AtomicU64,
}

impl EmbeddingMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            coverage: register.gauges(
                "activekg_embedding_coverage_ratio",
                "Nodes with an embedding, as a share of all nodes of the tenant",
                &["tenant_id"],
            )?,
            staleness: register.gauges(
                "activekg_embedding_max_staleness_seconds",
                "Age of the embedding of the tenant that was refreshed longest ago",
                &["tenant_id"],
            )?,
            omitted: register.gauge(
                "activekg_embedding_tenants_omitted",
                "Updates of tenants beyond the first thousand, which have no gauges of their own",
            )?,
            shown: Mutex::default(),
            overall: AtomicU64::new(f64::NAN.to_bits()),
        })
    }

    /// One tenant: the share of nodes with an embedding (0 to 1), and the age of the oldest
    /// embedding in seconds, if there is any.
    pub fn tenant(&self, tenant: &str, coverage: f64, max_staleness_seconds: Option<f64>) {
        {
            let mut shown = self.shown.lock().unwrap_or_else(PoisonError::into_inner);
            if !shown.contains(tenant) {
                if shown.len() >= TENANTS_MAX {
                    self.omitted.inc();
                    return;
                }
                shown.insert(tenant.to_owned());
            }
        }
        self.coverage.with_label_values(&[tenant]).set(coverage);
        if let Some(seconds) = max_staleness_seconds {
            self.staleness.with_label_values(&[tenant]).set(seconds);
        }
    }

    /// The share of nodes with an embedding over all tenants, 0 to 1.
    pub fn overall(&self, coverage: f64) {
        self.overall.store(coverage.to_bits(), Ordering::Relaxed);
    }

    pub(super) fn json(&self, gauges: &mut Map<String, Value>) {
        let overall = f64::from_bits(self.overall.load(Ordering::Relaxed));
        if overall.is_finite() {
            gauges.insert("embedding_coverage_ratio".to_owned(), overall.into());
        }
    }
}
