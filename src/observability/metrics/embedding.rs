//! How much of each tenant is embedded, and how old that is; and what the embedder does.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use prometheus::proto::MetricFamily;
use prometheus::{Gauge, GaugeVec};
use serde_json::{Map, Value};

use super::family::{counters, gauges, histograms};
use super::register::Register;
use crate::embedding::{CacheStats, EmbedderStats};

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

/// The embedder's own counts, read at each scrape.
pub(super) fn embedder(stats: &EmbedderStats) -> Vec<MetricFamily> {
    let EmbedderStats { queries, texts, refused, cache } = stats;
    let CacheStats { hits, misses, evicted_room, evicted_age, entries } = *cache;
    let (query, text): (&[_], &[_]) = (&[("kind", "query")], &[("kind", "text")]);
    let both = |a: u64, b: u64| [(query, a as f64), (text, b as f64)];
    vec![
        counters(
            "activekg_embedding_texts_total",
            "Texts embedded: queries that were not in memory, and texts of jobs",
            &both(queries.done, texts.done),
        ),
        counters(
            "activekg_embedding_tokens_total",
            "Word pieces of the texts embedded",
            &both(queries.tokens, texts.tokens),
        ),
        counters(
            "activekg_embedding_failed_total",
            "Texts that the model failed at",
            &both(queries.failed, texts.failed),
        ),
        counters(
            "activekg_embedding_refused_total",
            "Queries refused because too many waited",
            &[(&[], *refused as f64)],
        ),
        gauges(
            "activekg_embedding_waiting",
            "Texts that wait for the model",
            &both(queries.waiting, texts.waiting),
        ),
        histograms(
            "activekg_embedding_queue_seconds",
            "Time from the call until a thread took the text",
            &[(query, &queries.wait_seconds), (text, &texts.wait_seconds)],
        ),
        histograms(
            "activekg_embedding_batch_size",
            "Texts computed in one go",
            &[(query, &queries.slice_texts), (text, &texts.slice_texts)],
        ),
        counters(
            "activekg_embedding_cache_requests_total",
            "Queries, by whether their vector was in memory",
            &[(&[("result", "hit")], hits as f64), (&[("result", "miss")], misses as f64)],
        ),
        counters(
            "activekg_embedding_cache_evictions_total",
            "Vectors of queries dropped to make room or because of their age",
            &[
                (&[("reason", "room")], evicted_room as f64),
                (&[("reason", "age")], evicted_age as f64),
            ],
        ),
        gauges(
            "activekg_embedding_cache_entries",
            "Vectors of queries in memory",
            &[(&[], entries as f64)],
        ),
    ]
}
