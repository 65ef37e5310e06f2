//! Webhooks: who is believed, and what is refused.

use activekg_storage::ids::TenantId;
use prometheus::{Counter, IntCounterVec};

use super::bounded::{Bounded, OTHER};
use super::register::Register;
use crate::connectors::Provider;

/// What came of verifying a message of SNS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SnsVerified {
    /// SNS signed it.
    Success,
    /// Somebody else did, or nobody.
    Failed,
    /// The certificate cannot be had now.
    Timeout,
    /// Nobody looked.
    Skipped,
}

impl SnsVerified {
    const ALL: [Self; 4] = [Self::Success, Self::Failed, Self::Timeout, Self::Skipped];

    fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Timeout => "timeout",
            Self::Skipped => "skipped",
        }
    }
}

/// What came of verifying a message of Pub/Sub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PushVerified {
    /// It shows an identity token that counts.
    Oidc,
    /// It shows the secret.
    Secret,
    /// Nobody looked.
    Skipped,
    /// It shows something that does not count.
    Invalid,
    /// It shows nothing.
    Missing,
    /// It shows a token made for somebody else.
    Audience,
    /// The keys to check its token with are not there.
    NoKeys,
}

impl PushVerified {
    const ALL: [Self; 7] = [
        Self::Oidc,
        Self::Secret,
        Self::Skipped,
        Self::Invalid,
        Self::Missing,
        Self::Audience,
        Self::NoKeys,
    ];

    fn as_str(self) -> &'static str {
        match self {
            Self::Oidc => "oidc_ok",
            Self::Secret => "secret_ok",
            Self::Skipped => "skipped",
            Self::Invalid => "signature_invalid",
            Self::Missing => "missing_token",
            Self::Audience => "audience_mismatch",
            Self::NoKeys => "jwks_unavailable",
        }
    }
}

/// Webhooks: who is believed, and what is refused.
pub struct WebhookMetrics {
    sns: IntCounterVec,
    push: IntCounterVec,
    replays: Counter,
    topics: IntCounterVec,
    versions: IntCounterVec,
    /// Providers and tenants that have a series of their own.
    listening: Bounded,
}

impl WebhookMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Result<Self, prometheus::Error> {
        let sns = register.counters(
            "webhook_sns_verify_total",
            "Messages of SNS, by what came of verifying them",
            &["result"],
        )?;
        for result in SnsVerified::ALL {
            sns.with_label_values(&[result.as_str()]);
        }
        let push = register.counters(
            "webhook_pubsub_verify_total",
            "Messages of Pub/Sub, by what came of verifying them",
            &["provider", "result"],
        )?;
        for result in PushVerified::ALL {
            push.with_label_values(&["gcs", result.as_str()]);
        }
        let topics = register.counters(
            "webhook_topic_rejected_total",
            "Messages whose topic may not speak for the tenant",
            &["provider", "tenant"],
        )?;
        for provider in ["s3", "gcs"] {
            topics.with_label_values(&[provider, OTHER]);
        }
        let versions = register.counters(
            "webhook_sig_version_invalid_total",
            "Messages of SNS with a signature of an unknown version",
            &["version"],
        )?;
        versions.with_label_values(&["other"]);
        Ok(Self {
            sns,
            push,
            replays: register
                .counter("webhook_replay_total", "Messages that had been taken before")?,
            topics,
            versions,
            listening: Bounded::default(),
        })
    }

    /// A message of SNS was verified, or not.
    pub fn sns_verified(&self, result: SnsVerified) {
        self.sns.with_label_values(&[result.as_str()]).inc();
    }

    /// A message of Pub/Sub was verified, or not.
    pub fn push_verified(&self, result: PushVerified) {
        self.push.with_label_values(&["gcs", result.as_str()]).inc();
    }

    /// A message had been taken before.
    pub fn replayed(&self) {
        self.replays.inc();
    }

    /// There is somebody whom topics may be rejected for: the series is there from now on, so that the
    /// first rejection is an increase.
    pub fn listens(&self, provider: Provider, tenant: &TenantId) {
        let hears = matches!(provider, Provider::S3 | Provider::Gcs);
        if hears && self.listening.shows(&name(provider, tenant)) {
            self.topics.with_label_values(&[provider.as_str(), tenant.as_str()]);
        }
    }

    /// The topic of a message may not speak for the tenant. Any other is a name
    /// that the sender chose.
    pub fn topic_rejected(&self, provider: Provider, tenant: &TenantId) {
        let listens = self.listening.has(&name(provider, tenant));
        let tenant = if listens { tenant.as_str() } else { OTHER };
        self.topics.with_label_values(&[provider.as_str(), tenant]).inc();
    }

    /// A signature is of this version, which is none. Anybody may write anything there.
    pub fn signature_version(&self, version: &str) {
        let digit = version.len() == 1 && version.bytes().all(|byte| byte.is_ascii_digit());
        self.versions.with_label_values(&[if digit { version } else { "other" }]).inc();
    }
}

fn name(provider: Provider, tenant: &TenantId) -> String {
    format!("{} {tenant}", provider.as_str())
}
