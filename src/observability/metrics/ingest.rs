//! What connectors bring in: changes worked on, documents taken in, changes given up.

use std::time::Duration;

use activekg_storage::ids::TenantId;
use activekg_storage::queue::DeadReason;
use prometheus::{HistogramVec, IntCounterVec};

use super::bounded::{Bounded, OTHER};
use super::register::Register;
use crate::connectors::{Effect, Failure, Provider};

/// Seconds, as the dashboards have them.
const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// What is wrong with a change, or with the work on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WorkerError {
    /// It is not JSON.
    Parse,
    /// There is no connector that runs, or it does not open.
    NoConfig,
    /// The settings of the connector make no source.
    BuildConnector,
    /// It lacks something, or has a value of the wrong kind.
    ChangeItem,
    /// It came to nothing.
    Processing,
    /// The work on it broke off.
    BatchFailure,
    /// There are no sources of its kind.
    UnsupportedProvider,
}

impl WorkerError {
    const ALL: [Self; 7] = [
        Self::Parse,
        Self::NoConfig,
        Self::BuildConnector,
        Self::ChangeItem,
        Self::Processing,
        Self::BatchFailure,
        Self::UnsupportedProvider,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Parse => "parse",
            Self::NoConfig => "no_config",
            Self::BuildConnector => "build_connector",
            Self::ChangeItem => "change_item",
            Self::Processing => "processing",
            Self::BatchFailure => "batch_failure",
            Self::UnsupportedProvider => "unsupported_provider",
        }
    }
}

/// What connectors bring in.
pub struct IngestMetrics {
    /// Tenants with series of their own.
    tenants: Bounded,
    processed: IntCounterVec,
    errors: IntCounterVec,
    batch_latency: HistogramVec,
    process_duration: HistogramVec,
    ingested: IntCounterVec,
    ingest_errors: IntCounterVec,
    ingest_latency: HistogramVec,
    dead: IntCounterVec,
}

impl IngestMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Result<Self, prometheus::Error> {
        Ok(Self {
            tenants: Bounded::default(),
            processed: register.counters(
                "connector_worker_processed_total",
                "Changes that were worked on, by what they came to",
                &["tenant", "provider", "result"],
            )?,
            errors: register.counters(
                "connector_worker_errors_total",
                "Changes that could not be worked on, by why",
                &["tenant", "provider", "error_type"],
            )?,
            batch_latency: register.histograms(
                "connector_worker_batch_latency_seconds",
                "Time of a batch of changes",
                &["tenant", "provider"],
                &SECONDS,
            )?,
            process_duration: register.histograms(
                "connector_worker_process_duration",
                "Time of one change, in seconds",
                &["tenant", "provider"],
                &SECONDS,
            )?,
            ingested: register.counters(
                "connector_ingest_total",
                "Documents that were created or updated",
                &["provider", "tenant"],
            )?,
            ingest_errors: register.counters(
                "connector_ingest_errors_total",
                "Changes that failed, by the class of the failure",
                &["provider", "tenant", "reason", "error_type"],
            )?,
            ingest_latency: register.histograms(
                "connector_ingest_latency_seconds",
                "Time from the look at an object to the document",
                &["provider", "tenant"],
                &SECONDS,
            )?,
            dead: register.counters(
                "connector_dlq_total",
                "Changes that were given up, by why",
                &["provider", "tenant", "reason"],
            )?,
        })
    }

    /// A tenant has a connector of the provider: its series begin at zero.
    pub fn begin(&self, tenant: &TenantId, provider: Provider) {
        let (tenant, provider) = (self.shown(tenant), provider.as_str());
        for effect in Effect::ALL {
            self.processed.with_label_values(&[tenant, provider, effect.as_str()]);
        }
        for error in WorkerError::ALL {
            self.errors.with_label_values(&[tenant, provider, error.as_str()]);
        }
        self.batch_latency.with_label_values(&[tenant, provider]);
        self.process_duration.with_label_values(&[tenant, provider]);
        self.ingested.with_label_values(&[provider, tenant]);
        self.ingest_latency.with_label_values(&[provider, tenant]);
        for class in Failure::CLASSES {
            self.ingest_errors.with_label_values(&[provider, tenant, class, class]);
        }
        for reason in DeadReason::ALL {
            self.dead.with_label_values(&[provider, tenant, reason.as_str()]);
        }
    }

    /// A change was worked on.
    pub fn processed(&self, tenant: &TenantId, provider: Provider, effect: Effect, took: Duration) {
        let (tenant, provider) = (self.shown(tenant), provider.as_str());
        self.processed.with_label_values(&[tenant, provider, effect.as_str()]).inc();
        self.process_duration.with_label_values(&[tenant, provider]).observe(took.as_secs_f64());
        if matches!(effect, Effect::Created | Effect::Updated) {
            self.ingested.with_label_values(&[provider, tenant]).inc();
        }
        if effect != Effect::Deleted {
            self.ingest_latency.with_label_values(&[provider, tenant]).observe(took.as_secs_f64());
        }
    }

    /// The work on a change failed.
    pub fn failed(
        &self,
        tenant: &TenantId,
        provider: Provider,
        class: &'static str,
        took: Duration,
    ) {
        let (tenant, provider) = (self.shown(tenant), provider.as_str());
        self.ingest_errors.with_label_values(&[provider, tenant, class, class]).inc();
        self.process_duration.with_label_values(&[tenant, provider]).observe(took.as_secs_f64());
    }

    /// A change could not be worked on.
    pub fn worker_error(&self, tenant: &TenantId, provider: Provider, error: WorkerError) {
        let labels = [self.shown(tenant), provider.as_str(), error.as_str()];
        self.errors.with_label_values(&labels).inc();
    }

    /// A change was given up.
    pub fn dead(&self, tenant: &TenantId, provider: Provider, reason: DeadReason) {
        let labels = [provider.as_str(), self.shown(tenant), reason.as_str()];
        self.dead.with_label_values(&labels).inc();
    }

    /// A batch of a tenant's changes was worked on.
    pub fn batch(&self, tenant: &TenantId, provider: Provider, took: Duration) {
        let labels = [self.shown(tenant), provider.as_str()];
        self.batch_latency.with_label_values(&labels).observe(took.as_secs_f64());
    }

    fn shown<'a>(&self, tenant: &'a TenantId) -> &'a str {
        if self.tenants.shows(tenant.as_str()) { tenant.as_str() } else { OTHER }
    }
}
