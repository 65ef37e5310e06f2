//! Webhooks: what sources themselves tell of their objects.
//!
//! S3 sends its events by way of SNS, Google Cloud Storage by way of Pub/Sub. A message is believed
//! when its signature, token or secret says who sent it, and when the tenant it is for has allowed
//! its topic. What it says is enqueued in the same transaction that remembers the message, before
//! anybody is told that it arrived.

mod binding;
mod certificate;
mod certificates;
mod pubsub;
mod push;
mod s3;
mod sns;
mod take;

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use activekg_storage::ids::TenantId;
use activekg_storage::time::{Clock, UnixMicros};
use activekg_storage::{StorageError, Store};
use reqwest::Url;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq as _;
use tracing::{info, warn};

use super::Provider;
use crate::auth::PushVerifier;
use crate::config::{self, Secret};
use crate::observability::metrics::{Metrics, SnsVerified};
use binding::Binding;
use certificate::confirmation;
use certificates::Certificates;
use sns::{Kind, Message};
use take::Part;

pub use push::PushRequest;
pub use sns::SignatureHeaders;

/// Tenants that are warned of once; past that nobody is.
const WARNED_MAX: usize = 10_000;

/// The webhooks. A clone is cheap.
#[derive(Clone)]
pub struct Webhooks(Arc<Inner>);

struct Inner {
    store: Arc<Store>,
    metrics: Arc<Metrics>,
    clock: Arc<dyn Clock>,
    settings: config::Webhooks,
    /// Whether other routes need a token: then nothing is believed that nobody vouches for.
    tokens_required: bool,
    certificates: Certificates,
    push: Option<Arc<PushVerifier>>,
    warned: Mutex<BTreeSet<(Provider, TenantId)>>,
}

/// What webhooks need.
pub struct Parts {
    /// The store that what they say is enqueued in.
    pub store: Arc<Store>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Checks identity tokens of Pub/Sub, if they are.
    pub push: Option<Arc<PushVerifier>>,
}

/// What became of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// What it tells of is enqueued.
    Queued {
        /// For whom; the first of them is the one to be named.
        tenants: Vec<TenantId>,
        /// How many changes were not older news.
        n_queued: usize,
        /// How many are about objects that the tenant's connector is not about.
        n_ignored: usize,
    },
    /// It came before.
    Duplicate,
    /// It tells of nothing that documents come from: why.
    Ignored(&'static str),
    /// A subscription waits until somebody opens this address.
    Pending(String),
    /// A subscription was confirmed.
    Confirmed,
    /// The topic sends no more.
    Unsubscribed,
}

/// Why a message is refused. The texts are a contract with those who send them.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The body is not a JSON object.
    #[error("Invalid JSON")]
    NotJson,
    /// It is not one of the types of SNS.
    #[error("Unknown message type")]
    UnknownType,
    /// A confirmation that cannot be given.
    #[error("Missing SubscribeURL")]
    NoSubscribeUrl,
    /// It has no id.
    #[error("Missing MessageId")]
    NoMessageId,
    /// Its signature is of a kind that is not known.
    #[error("Unsupported signature version: {0}")]
    SignatureVersion(String),
    /// Its signature is wrong, or not one of SNS.
    #[error("Invalid signature")]
    Signature,
    /// What it takes to verify it cannot be had now.
    #[error("Signature verification unavailable")]
    Unverifiable,
    /// Its topic may not speak for the tenant.
    #[error("TopicArn not allowed for tenant")]
    Arn,
    /// It holds no event of S3.
    #[error("Invalid S3 event format")]
    NotAnEvent,
    /// SNS does not let a subscription be confirmed now.
    #[error("Subscription cannot be confirmed now")]
    NotConfirmed,
    /// The token of an S3-compatible server is missing or wrong.
    #[error("Invalid webhook token")]
    S3Token,
    /// Neither token nor secret of Pub/Sub counts.
    #[error("Invalid Pub/Sub token")]
    PushToken,
    /// Its topic may not speak for the tenant.
    #[error("Topic not allowed for tenant")]
    Topic,
    /// It names no object.
    #[error("Invalid Pub/Sub message")]
    NotAPush,
    /// The store failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// Background work was cut off by the shutdown.
    #[error("interrupted")]
    Interrupted,
}

/// A message to the webhook of S3.
#[derive(Clone, Copy)]
pub struct S3Request<'a> {
    /// The value of its `Authorization` header.
    pub authorization: Option<&'a str>,
    /// Where its signature may be.
    pub headers: SignatureHeaders<'a>,
    /// It.
    pub body: &'a [u8],
}

impl Webhooks {
    /// The webhooks of a store; `tokens_required` is whether other routes need a token.
    ///
    /// # Errors
    ///
    /// When no HTTP client can be made.
    pub fn new(
        parts: Parts,
        settings: config::Webhooks,
        tokens_required: bool,
    ) -> Result<Self, reqwest::Error> {
        let Parts { store, metrics, clock, push } = parts;
        let certificates = Certificates::new(&settings, clock.clone())?;
        let warned = Mutex::default();
        for tenant in settings.topics.keys().filter_map(|name| TenantId::new(name).ok()) {
            metrics.webhooks.listens(Provider::S3, &tenant);
        }
        Ok(Self(Arc::new(Inner {
            store,
            metrics,
            clock,
            settings,
            tokens_required,
            certificates,
            push,
            warned,
        })))
    }

    /// Takes a message to the webhook of S3.
    ///
    /// # Errors
    ///
    /// [`Refused`]; nothing is enqueued then.
    pub async fn s3(&self, request: S3Request<'_>) -> Result<Outcome, Refused> {
        let S3Request { authorization, headers, body } = request;
        let Ok(Value::Object(members)) = serde_json::from_slice::<Value>(body) else {
            return Err(Refused::NotJson);
        };
        if members.contains_key("Records") && !members.contains_key("Type") {
            return self.compatible(authorization, members).await;
        }
        let message = Message::new(members)?;
        self.verify(&message, headers).await?;
        let tenant = self.speaks_for(&message).await?;
        match message.kind {
            Kind::Notification => self.notified(tenant, &message).await,
            Kind::Subscription => self.subscribed(&message).await,
            Kind::Unsubscription => {
                info!(topic = message.topic(), "an SNS topic sends no more events");
                Ok(Outcome::Unsubscribed)
            }
        }
    }

    /// Whether SNS signed a message.
    async fn verify(
        &self,
        message: &Message,
        headers: SignatureHeaders<'_>,
    ) -> Result<(), Refused> {
        let metrics = &self.0.metrics.webhooks;
        let digest = message.digest(headers).inspect_err(|refused| {
            if let Refused::SignatureVersion(version) = refused {
                metrics.signature_version(version);
                self.failed(Provider::S3, "unsupported signature version");
            }
        })?;
        if !self.0.settings.verify_sns {
            warn!(provider = "s3", "an SNS message is not verified: WEBHOOK_VERIFY_SNS is off");
            metrics.sns_verified(SnsVerified::Skipped);
            return Ok(());
        }
        let refused = |why: &str| {
            metrics.sns_verified(SnsVerified::Failed);
            self.failed(Provider::S3, why);
            Refused::Signature
        };
        let signature = message.signature(digest, headers).map_err(refused)?;
        let certificate = self.0.certificates.get(&signature.certificate).await;
        let certificate = certificate.map_err(|unavailable| {
            metrics.sns_verified(SnsVerified::Timeout);
            self.failed(Provider::S3, &unavailable.to_string());
            Refused::Unverifiable
        })?;
        if !certificate.valid_at(self.now().get().div_euclid(1_000_000)) {
            return Err(refused("the certificate is not valid at this time"));
        }
        let text = message.signed_text();
        if !certificate.signed(text.as_bytes(), &signature.bytes, signature.digest) {
            return Err(refused("the signature does not fit the message"));
        }
        metrics.sns_verified(SnsVerified::Success);
        Ok(())
    }

    /// The tenant that the topic of a message is for, if it may speak for it.
    async fn speaks_for(&self, message: &Message) -> Result<TenantId, Refused> {
        let topic = message.topic();
        let name = message.tenant();
        let tenant = TenantId::new(name).map_err(|_| Refused::Arn)?;
        let binding = self.binding(&tenant, Provider::S3).await?;
        let own = binding.map(|binding| binding.topics).unwrap_or_default();
        let listed = &self.0.settings.topics;
        let set = || listed.get(name).or_else(|| listed.get("default")).map(Vec::as_slice);
        let list = if own.is_empty() { set().unwrap_or_default() } else { &own };
        if list.is_empty() && !self.0.tokens_required {
            let why = "no topic_allowlist: any SNS topic of this name is believed";
            self.warn_once(Provider::S3, &tenant, why);
            return Ok(tenant);
        }
        if binding::listed(list, topic) {
            return Ok(tenant);
        }
        self.topic_rejected(Provider::S3, &tenant, topic);
        Err(Refused::Arn)
    }

    async fn notified(&self, tenant: TenantId, message: &Message) -> Result<Outcome, Refused> {
        let id = message.id()?.to_owned();
        let event = message.text("Message").and_then(|text| serde_json::from_str(text).ok());
        let event: Value = event.ok_or(Refused::NotAnEvent)?;
        let (events, mut n_ignored) = (s3::events(&event, self.now()), 0);
        let binding = self.binding(&tenant, Provider::S3).await?;
        let mut changes = Vec::with_capacity(events.len());
        for event in events {
            let covered = binding.as_ref().is_none_or(|b| b.covers(&event.bucket, &event.key));
            if covered { changes.push(event.change) } else { n_ignored += 1 }
        }
        let parts = vec![Part { tenant: tenant.clone(), changes }];
        let taken = self.take(Provider::S3, Some(("sns", id)), parts).await?;
        Ok(taken.map_or(Outcome::Duplicate, |n_queued| Outcome::Queued {
            tenants: vec![tenant],
            n_queued,
            n_ignored,
        }))
    }

    /// What an S3-compatible server sends without SNS.
    async fn compatible(
        &self,
        authorization: Option<&str>,
        members: Map<String, Value>,
    ) -> Result<Outcome, Refused> {
        let token = authorization.and_then(bearer);
        let known = self.0.settings.s3_token.as_ref();
        if !known.zip(token).is_some_and(|(known, token)| same(known, token)) {
            self.failed(Provider::S3, "the token is missing or is not WEBHOOK_S3_TOKEN");
            return Err(Refused::S3Token);
        }
        let events = s3::events(&Value::Object(members), self.now());
        let (parts, n_ignored) = self.routed(events).await?;
        let tenants: Vec<TenantId> = parts.iter().map(|part| part.tenant.clone()).collect();
        let taken = self.take(Provider::S3, None, parts).await?;
        Ok(Outcome::Queued { tenants, n_queued: taken.unwrap_or_default(), n_ignored })
    }

    async fn subscribed(&self, message: &Message) -> Result<Outcome, Refused> {
        let (topic, text) = (message.topic(), message.text("SubscribeURL").unwrap_or_default());
        let url: Option<Url> = confirmation(text, topic);
        if url.is_none() {
            warn!(
                topic,
                "the address to confirm a subscription to an SNS topic is none of SNS for that topic; do not open it: {text}"
            );
            return Ok(Outcome::Pending(text.to_owned()));
        }
        if let Some(url) = url.filter(|_| self.0.settings.auto_confirm) {
            self.0.certificates.confirm(url).await.map_err(|_| {
                warn!(topic, "a subscription could not be confirmed at SNS");
                Refused::NotConfirmed
            })?;
            info!(topic, "a subscription to an SNS topic was confirmed");
            return Ok(Outcome::Confirmed);
        }
        warn!(topic, "open this address to confirm a subscription to an SNS topic: {text}");
        Ok(Outcome::Pending(text.to_owned()))
    }

    /// What keeps messages from being taken; `None` if nothing does.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        self.0.store.fault().map(|fault| fault.to_string())
    }

    async fn binding(
        &self,
        tenant: &TenantId,
        provider: Provider,
    ) -> Result<Option<Binding>, Refused> {
        let (store, tenant) = (self.0.store.clone(), tenant.clone());
        blocking(move || Binding::of(&store.read()?, &tenant, provider)).await
    }

    /// Says why a message was not believed.
    fn failed(&self, provider: Provider, reason: &str) {
        let provider = provider.as_str();
        warn!(provider, reason, "webhook verification failed: {provider}: {reason}");
    }

    fn topic_rejected(&self, provider: Provider, tenant: &TenantId, topic: &str) {
        self.0.metrics.webhooks.topic_rejected(provider, tenant);
        let name = provider.as_str();
        let topic: String = topic.chars().take(300).collect();
        warn!(
            provider = name, tenant_id = %tenant, topic,
            "topic rejected: topic not in allowlist of {name} for tenant {tenant}: {topic}"
        );
    }

    fn warn_once(&self, provider: Provider, tenant: &TenantId, why: &str) {
        let mut warned = self.0.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.len() < WARNED_MAX && warned.insert((provider, tenant.clone())) {
            let provider = provider.as_str();
            warn!(provider, tenant_id = %tenant, "webhooks of {provider} for tenant {tenant}: {why}");
        }
    }

    fn now(&self) -> UnixMicros {
        self.0.clock.now()
    }
}

/// Runs a read off the threads that serve connections.
async fn blocking<T, F>(work: F) -> Result<T, Refused>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, StorageError> + Send + 'static,
{
    let done = tokio::task::spawn_blocking(work).await.map_err(|_| Refused::Interrupted)?;
    Ok(done?)
}

/// The token of an `Authorization` header.
fn bearer(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim()).filter(|token| !token.is_empty())
}

/// Whether `given` is the secret. How long this takes says nothing about how much of it is.
fn same(secret: &Secret, given: &str) -> bool {
    secret.reveal().as_bytes().ct_eq(given.as_bytes()).into()
}
