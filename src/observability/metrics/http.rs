//! Requests that fail or are turned away.

use prometheus::IntCounterVec;

use super::register::Register;
use crate::auth::Violation;

/// Requests that fail or are turned away.
pub struct HttpMetrics {
    errors: IntCounterVec,
    violations: IntCounterVec,
    rate_limited: IntCounterVec,
}

/// Which limit a request met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimited {
    /// Requests a second.
    Rate,
    /// Requests at once.
    Concurrency,
}

impl HttpMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Result<Self, prometheus::Error> {
        let errors = register.counters(
            "activekg_api_errors_total",
            "Answers with status 400 and above, by route template",
            &["endpoint", "status", "error_type"],
        )?;
        let violations = register.counters(
            "activekg_access_violations_total",
            "Requests beyond what their caller may do",
            &["type"],
        )?;
        let rate_limited = register.counters(
            "api_rate_limited_total",
            "Requests turned away by a limit",
            &["endpoint", "reason"],
        )?;
        for violation in Violation::ALL {
            violations.with_label_values(&[violation.as_str()]);
        }
        for endpoint in ["webhook_s3", "webhook_gcs"] {
            rate_limited.with_label_values(&[endpoint, "rate_limit"]);
        }
        Ok(Self { errors, violations, rate_limited })
    }

    /// An answer of status 400 or above. `endpoint` is the route template, `None` for a path that
    /// is none of ours: raw paths would let anybody fill the memory with series.
    pub fn error(&self, endpoint: Option<&str>, status: u16) {
        let endpoint = endpoint.unwrap_or("unmatched");
        self.errors.with_label_values(&[endpoint, &status.to_string(), error_type(status)]).inc();
    }

    /// An unhandled error, answered with status 500.
    pub fn internal_error(&self, endpoint: Option<&str>) {
        self.errors
            .with_label_values(&[endpoint.unwrap_or("unmatched"), "500", "internal_error"])
            .inc();
    }

    /// A request beyond what its caller may do.
    pub fn violation(&self, violation: Violation) {
        self.violations.with_label_values(&[violation.as_str()]).inc();
    }

    /// A request met a limit; `endpoint` is the route template, or the name of a webhook.
    pub fn rate_limited(&self, endpoint: &str, limit: RateLimited) {
        let reason = match limit {
            RateLimited::Rate => "rate_limit",
            RateLimited::Concurrency => "concurrency",
        };
        self.rate_limited.with_label_values(&[endpoint, reason]).inc();
    }
}

fn error_type(status: u16) -> &'static str {
    match status {
        400 => "bad_request",
        401 => "unauthorized",
        403 => "forbidden",
        404 => "not_found",
        413 => "request_too_large",
        422 => "validation_error",
        429 => "rate_limit_exceeded",
        _ if (400..500).contains(&status) => "client_error",
        _ => "server_error",
    }
}
