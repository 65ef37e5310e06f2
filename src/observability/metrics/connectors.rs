//! Connectors: their secrets, the cache of opened ones, key rotation.

use std::time::Duration;

use prometheus::{Counter, Gauge, Histogram, IntCounterVec};

use super::register::Register;
use crate::connectors::{Kind, Operation, Provider};

/// Seconds, as the dashboards have them.
const SECONDS: [f64; 14] =
    [0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0];

/// Why word of a change is dropped. Inside the process it is typed, so that they occur only with
/// what others publish.
const INVALID: [&str; 6] = [
    "invalid_json",
    "missing_tenant_id",
    "missing_provider",
    "missing_operation",
    "invalid_operation",
    "unexpected_error",
];

/// What a secret is called in metrics. Queries of old know the secret key of S3 by its short name.
fn shown(field: &'static str) -> &'static str {
    match field {
        "secret_access_key" => "secret_key",
        other => other,
    }
}

/// Connectors: their secrets, the cache of opened ones, key rotation.
pub struct ConnectorMetrics {
    hits: IntCounterVec,
    misses: IntCounterVec,
    not_opened: IntCounterVec,
    not_opened_fields: IntCounterVec,
    invalidated: IntCounterVec,
    heard: IntCounterVec,
    invalid: IntCounterVec,
    reconnects: Counter,
    shutdowns: Counter,
    publish_failures: Counter,
    last_message_age: Gauge,
    subscriber_up: Gauge,
    rotation: IntCounterVec,
    rotation_latency: Histogram,
    purges: IntCounterVec,
    purge_latency: Histogram,
}

impl ConnectorMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Result<Self, prometheus::Error> {
        let hits = register.counters(
            "connector_config_cache_hits_total",
            "Connectors that were open already",
            &["provider"],
        )?;
        let misses = register.counters(
            "connector_config_cache_misses_total",
            "Connectors that had to be opened",
            &["provider"],
        )?;
        let not_opened = register.counters(
            "connector_config_decrypt_failures_total",
            "Secrets of connectors that no key opens",
            &["provider", "field"],
        )?;
        let not_opened_fields = register.counters(
            "connector_decrypt_failures_total",
            "Secrets of connectors that no key opens, by field",
            &["field"],
        )?;
        for provider in Provider::ALL {
            for counter in [&hits, &misses] {
                counter.with_label_values(&[provider.as_str()]);
            }
            let fields = provider.fields();
            for field in fields.filter(|field| matches!(field.kind, Kind::Secret { .. })) {
                not_opened.with_label_values(&[provider.as_str(), shown(field.name)]);
                not_opened_fields.with_label_values(&[shown(field.name)]);
            }
        }
        let invalidated = register.counters(
            "connector_config_invalidate_total",
            "Connectors that changed",
            &["operation"],
        )?;
        let heard = register.counters(
            "connector_pubsub_messages_total",
            "Changes of connectors that the cache has heard of",
            &["operation"],
        )?;
        for operation in Operation::ALL {
            for counter in [&invalidated, &heard] {
                counter.with_label_values(&[operation.as_str()]);
            }
        }
        let invalid = register.counters(
            "connector_pubsub_invalid_msg_total",
            "Messages on the bus of changes that were dropped",
            &["reason"],
        )?;
        for reason in INVALID {
            invalid.with_label_values(&[reason]);
        }
        let rotation = register.counters(
            "connector_rotation_total",
            "Connectors, by result of a key rotation",
            &["result"],
        )?;
        for result in ["rotated", "skipped", "error"] {
            rotation.with_label_values(&[result]);
        }
        let purges =
            register.counters("connector_purger_total", "Purge cycles, by result", &["result"])?;
        for result in ["success", "error"] {
            purges.with_label_values(&[result]);
        }
        Ok(Self {
            hits,
            misses,
            not_opened,
            not_opened_fields,
            invalidated,
            heard,
            invalid,
            reconnects: register.counter(
                "connector_pubsub_reconnect_total",
                "Times the cache subscriber was started again or fell behind",
            )?,
            shutdowns: register.counter(
                "connector_pubsub_shutdown_total",
                "Clean stops of the cache subscriber",
            )?,
            publish_failures: register.counter(
                "connector_pubsub_publish_failures_total",
                "Changes of connectors that no subscriber was there to hear of",
            )?,
            last_message_age: register.gauge(
                "connector_last_message_age_seconds",
                "Time since the cache subscriber last heard of a change, 0 before the first",
            )?,
            subscriber_up: register
                .gauge("connector_cache_subscriber_up", "Whether the cache subscriber runs")?,
            rotation,
            rotation_latency: register.histogram(
                "connector_rotation_batch_latency_seconds",
                "Time of a key rotation",
                &SECONDS,
            )?,
            purges,
            purge_latency: register.histogram(
                "connector_purger_latency_seconds",
                "Time of a purge cycle",
                &SECONDS,
            )?,
        })
    }

    /// A connector was open already.
    pub fn cache_hit(&self, provider: Provider) {
        self.hits.with_label_values(&[provider.as_str()]).inc();
    }

    /// A connector was not open, or there is none.
    pub fn cache_missed(&self, provider: Provider) {
        self.misses.with_label_values(&[provider.as_str()]).inc();
    }

    /// No key opens this field of a connector.
    pub fn not_opened(&self, provider: Provider, field: &'static str) {
        self.not_opened.with_label_values(&[provider.as_str(), shown(field)]).inc();
        self.not_opened_fields.with_label_values(&[shown(field)]).inc();
    }

    /// A connector changed.
    pub fn invalidated(&self, operation: Operation) {
        self.invalidated.with_label_values(&[operation.as_str()]).inc();
    }

    /// The subscriber heard of a change.
    pub fn heard(&self, operation: Operation) {
        self.heard.with_label_values(&[operation.as_str()]).inc();
    }

    /// Word of a change made no sense.
    pub fn dropped(&self, reason: &str) {
        self.invalid.with_label_values(&[reason]).inc();
    }

    /// The subscriber was started again, or fell behind.
    pub fn reconnected(&self) {
        self.reconnects.inc();
    }

    /// The subscriber was stopped.
    pub fn subscriber_stopped(&self) {
        self.shutdowns.inc();
    }

    /// A change was told to nobody although somebody should listen.
    pub fn not_published(&self) {
        self.publish_failures.inc();
    }

    /// The subscriber runs, or does not.
    pub fn subscriber_up(&self, up: bool) {
        self.subscriber_up.set(f64::from(u8::from(up)));
    }

    /// How long ago the subscriber heard of a change.
    pub fn last_message_age(&self, age: Duration) {
        self.last_message_age.set(age.as_secs_f64());
    }

    /// A batch of a rotation was committed.
    pub fn rotated(&self, n_rotated: u64, n_skipped: u64) {
        self.rotation.with_label_values(&["rotated"]).inc_by(n_rotated);
        self.rotation.with_label_values(&["skipped"]).inc_by(n_skipped);
    }

    /// A rotation left these as they were.
    pub fn not_rotated(&self, n_errors: u64) {
        self.rotation.with_label_values(&["error"]).inc_by(n_errors);
    }

    /// A rotation ended.
    pub fn rotation_took(&self, time: Duration) {
        self.rotation_latency.observe(time.as_secs_f64());
    }

    /// A purge cycle ended, well or not.
    pub fn purged(&self, well: bool, time: Duration) {
        self.purges.with_label_values(&[if well { "success" } else { "error" }]).inc();
        self.purge_latency.observe(time.as_secs_f64());
    }
}
