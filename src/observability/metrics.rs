//! What is counted and measured: for Prometheus, and as the JSON of `/metrics`.
//!
//! Names, labels and buckets are a contract with dashboards. Series with a closed set of label
//! values are there from the start, at zero, so that a rate over them works from the first event.

mod ask;
mod backup;
mod bounded;
mod care;
mod connectors;
mod embedding;
mod exposition;
mod family;
mod generation;
mod http;
mod index;
mod ingest;
mod llm;
mod process;
mod refresh;
mod register;
mod samples;
mod search;
mod store;
mod triggers;
mod upstream;

use std::sync::Arc;

use activekg_storage::time::UnixMicros;
use prometheus::Registry;
use serde_json::{Map, Value, json};

use super::logs::LogCounts;
use crate::embedding::Embedder;
use crate::timestamp;
use register::{Families, Register};

pub use ask::{AskMetrics, AskOutcome, Rejection};
pub use backup::BackupMetrics;
pub use care::CareMetrics;
pub use connectors::ConnectorMetrics;
pub use embedding::EmbeddingMetrics;
pub use generation::GenerationMetrics;
pub use http::{HttpMetrics, RateLimited};
pub use index::{BuildResult, IndexMetrics};
pub use ingest::{IngestMetrics, WorkerError};
pub use llm::LlmMetrics;
pub use refresh::{RefreshMetrics, RefreshResult, ScheduleKind};
pub use search::SearchMetrics;
pub use store::StoreMetrics;
pub use triggers::{TriggerMetrics, TriggerMode};
pub use upstream::UpstreamMetrics;

/// Everything that is counted and measured.
pub struct Metrics {
    /// POST /search.
    pub search: SearchMetrics,
    /// POST /ask and /ask/stream.
    pub ask: AskMetrics,
    /// Requests that fail or are turned away.
    pub http: HttpMetrics,
    /// How much of each tenant is embedded.
    pub embedding: EmbeddingMetrics,
    /// Node refreshes and their schedule.
    pub refresh: RefreshMetrics,
    /// Triggers.
    pub triggers: TriggerMetrics,
    /// Builds of the vector index.
    pub index: IndexMetrics,
    /// The scan for damage in the store.
    pub care: CareMetrics,
    /// Connectors.
    pub connectors: ConnectorMetrics,
    /// What connectors bring in.
    pub ingest: IngestMetrics,
    /// Backups.
    pub backup: BackupMetrics,
    /// Calls of a language model.
    pub llm: LlmMetrics,
    /// Answers of a local model.
    pub generation: GenerationMetrics,
    /// Calls of services that run models.
    pub upstream: UpstreamMetrics,
    process: Option<process::ProcessMetrics>,
    store: Option<StoreMetrics>,
    embedder: Option<Embedder>,
    registry: Registry,
    families: Families,
    logs: Arc<LogCounts>,
    started: UnixMicros,
}

impl Metrics {
    /// Registers everything in `registry`; counters count from `started` on. The log counts are
    /// those of the logger in force.
    ///
    /// # Errors
    ///
    /// When `registry` holds one of the names already.
    pub fn new(registry: Registry, started: UnixMicros) -> Result<Self, prometheus::Error> {
        let mut register = Register::new(&registry);
        let search = SearchMetrics::new(&mut register)?;
        let ask = AskMetrics::new(&mut register)?;
        let http = HttpMetrics::new(&mut register)?;
        let embedding = EmbeddingMetrics::new(&mut register)?;
        let refresh = RefreshMetrics::new(&mut register)?;
        let triggers = TriggerMetrics::new(&mut register)?;
        let index = IndexMetrics::new(&mut register)?;
        let care = CareMetrics::new(&mut register)?;
        let connectors = ConnectorMetrics::new(&mut register)?;
        let ingest = IngestMetrics::new(&mut register)?;
        let backup = BackupMetrics::new(&mut register)?;
        let generation = GenerationMetrics::new(&mut register)?;
        let upstream = UpstreamMetrics::new(&mut register)?;
        let process = process::ProcessMetrics::new(&mut register)?;
        let families = register.finish();
        Ok(Self {
            search,
            ask,
            http,
            embedding,
            refresh,
            triggers,
            index,
            care,
            connectors,
            ingest,
            backup,
            llm: LlmMetrics::default(),
            generation,
            upstream,
            process,
            store: None,
            embedder: None,
            registry,
            families,
            logs: LogCounts::in_force(),
            started,
        })
    }

    /// Also measures a store at each scrape.
    #[must_use]
    pub fn with_store(self, store: StoreMetrics) -> Self {
        Self { store: Some(store), ..self }
    }

    /// Also measures an embedder at each scrape.
    #[must_use]
    pub fn with_embedder(self, embedder: Embedder) -> Self {
        Self { embedder: Some(embedder), ..self }
    }

    /// The Prometheus text format, version 0.0.4. Reads from the disk, so not for async threads.
    #[must_use]
    pub fn prometheus_text(&self) -> String {
        if let Some(process) = &self.process {
            process.refresh();
        }
        let mut gathered = self.registry.gather();
        if let Some(store) = &self.store {
            gathered.extend(store.collect());
        }
        if let Some(embedder) = &self.embedder {
            gathered.extend(embedding::embedder(&embedder.stats()));
        }
        exposition::text(&self.families, gathered, self.started)
    }

    /// The JSON of `/metrics` at the instant `now`.
    #[must_use]
    pub fn json(&self, now: UnixMicros) -> Value {
        let mut counters = Map::new();
        for (level, lines) in self.logs.by_level() {
            counters.insert(format!("log_messages_total[level={level}]"), lines.into());
            match level {
                "warning" => {
                    counters.insert("log_warnings_total[level=warning]".to_owned(), lines.into())
                }
                "error" => {
                    counters.insert("log_errors_total[level=error]".to_owned(), lines.into())
                }
                _ => None,
            };
        }
        let mut gauges = Map::new();
        let mut histograms = Map::new();
        self.search.json(&mut counters, &mut histograms);
        self.ask.json(&mut counters);
        self.llm.json(&mut counters, &mut histograms);
        self.embedding.json(&mut gauges);
        json!({
            "counters": counters,
            "gauges": gauges,
            "histograms": histograms,
            "timestamp": timestamp::iso(now.get()),
        })
    }
}

#[cfg(test)]
mod tests;
