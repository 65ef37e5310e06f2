//! The worker that tells another program of triggers that fired.
//!
//! Deliveries are signed as the Standard Webhooks describe it (standardwebhooks.com): the header
//! `webhook-signature` is `v1,` and the base64 of HMAC-SHA256 over `webhook-id`, `webhook-timestamp`
//! and the body, with dots in between. A delivery counts once the answer is 2xx. It may come twice,
//! with the same id.

use std::sync::Arc;
use std::time::Duration;

use activekg_storage::queue::{self, DeadReason, Leased};
use activekg_storage::time::Clock;
use activekg_storage::{StorageError, Store};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::future::join_all;
use hmac::{Hmac, Mac};
use reqwest::header::CONTENT_TYPE;
use reqwest::{Client, StatusCode, Url, redirect};
use serde_json::json;
use sha2::Sha256;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::off_thread;
use super::worker::{Next, QueueWorker, work};
use crate::config::Webhook;
use crate::graph::{DELIVERY_QUEUE, Delivery};
use crate::timestamp::iso;
use crate::tls;

/// Deliveries under way at a time.
const TAKE: usize = 8;
/// Longest time for one.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Longest sleep without having been woken.
const SLEEP_MAX: Duration = Duration::from_secs(30);

/// Delivers what is queued.
#[derive(Clone)]
pub struct WebhookWorker {
    store: Arc<Store>,
    clock: Arc<dyn Clock>,
    http: Client,
    webhook: Webhook,
}

/// What became of a delivery.
enum Outcome {
    Delivered,
    /// Not this time, and why.
    Failed(String),
    /// The address does not want any more, or the item cannot be read.
    Refused(DeadReason, String),
}

impl WebhookWorker {
    /// A worker that delivers to `webhook`.
    ///
    /// # Errors
    ///
    /// When no HTTP client can be made.
    pub fn new(
        store: Arc<Store>,
        clock: Arc<dyn Clock>,
        webhook: Webhook,
    ) -> Result<Self, reqwest::Error> {
        let http = tls::web(|builder| {
            builder
                .user_agent(concat!("activekg/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .referer(false)
                .timeout(TIMEOUT)
        })?;
        Ok(Self { store, clock, http, webhook })
    }

    /// Delivers until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        work(self, DELIVERY_QUEUE.name, stop).await;
    }

    async fn deliver(&self, leased: &Leased) -> Outcome {
        let Ok(delivery) = serde_json::from_slice::<Delivery>(&leased.payload) else {
            return Outcome::Refused(DeadReason::Parse, "not a delivery".to_owned());
        };
        let id = delivery.event_id.clone();
        let body = body(&delivery);
        let seconds = self.clock.now().get().div_euclid(1_000_000);
        let signature = signature(&self.webhook.key, &id, seconds, &body);
        let Ok(url) = Url::parse(self.webhook.url.reveal().trim()) else {
            return Outcome::Failed("the address cannot be used".to_owned());
        };
        let request = self
            .http
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", &id)
            .header("webhook-timestamp", seconds.to_string())
            .header("webhook-signature", signature)
            .body(body);
        let outcome = match request.send().await.map(|answer| answer.status()) {
            Ok(status) if status.is_success() => return Outcome::Delivered,
            Ok(StatusCode::GONE) => {
                let why = "the receiver answers 410: it wants no more".to_owned();
                Outcome::Refused(DeadReason::Permanent, why)
            }
            Ok(status) => Outcome::Failed(format!("the receiver answers {}", status.as_u16())),
            Err(error) if error.is_timeout() => {
                Outcome::Failed("the receiver does not answer in time".to_owned())
            }
            Err(_) => Outcome::Failed("no connection to the receiver".to_owned()),
        };
        if let Outcome::Failed(why) | Outcome::Refused(_, why) = &outcome {
            warn!(tenant = delivery.tenant_id, event = id, "a trigger was not delivered: {why}");
        }
        outcome
    }
}

impl QueueWorker for WebhookWorker {
    type Error = StorageError;

    fn store(&self) -> &Store {
        &self.store
    }

    /// Delivers the next few.
    async fn step(&self) -> Result<Next, StorageError> {
        let now = self.clock.now();
        let lease =
            self.store.write(move |tx| queue::lease(tx, &DELIVERY_QUEUE, now, TAKE)).await?;
        let leased = lease.value;
        if leased.is_empty() {
            let store = self.store.clone();
            let due = off_thread(move || queue::next_due(&store.read()?, &DELIVERY_QUEUE)).await?;
            let idle = due.map_or(SLEEP_MAX, |due| due.since(now).min(SLEEP_MAX));
            return Ok(Next::Idle(idle.max(Duration::from_millis(10))));
        }
        let outcomes = join_all(leased.iter().map(|leased| self.deliver(leased))).await;
        let now = self.clock.now();
        self.store
            .write(move |tx| -> Result<(), StorageError> {
                for (leased, outcome) in leased.iter().zip(&outcomes) {
                    match outcome {
                        Outcome::Delivered => drop(queue::ack(tx, &DELIVERY_QUEUE, leased)?),
                        Outcome::Failed(why) => {
                            let jitter = rand::random();
                            queue::fail(tx, &DELIVERY_QUEUE, leased, why, now, jitter)?;
                        }
                        Outcome::Refused(reason, why) => {
                            queue::bury(tx, &DELIVERY_QUEUE, leased, *reason, why, now)?;
                        }
                    }
                }
                Ok(())
            })
            .await?;
        Ok(Next::Now)
    }
}

/// What is posted.
fn body(delivery: &Delivery) -> String {
    let Delivery { event_id, tenant_id, node_id, trigger, similarity, fired_at } = delivery;
    json!({
        "type": "trigger_fired",
        "timestamp": iso(*fired_at),
        "data": {
            "event_id": event_id,
            "tenant_id": tenant_id,
            "node_id": node_id,
            "trigger": trigger,
            "similarity": similarity,
        },
    })
    .to_string()
}

/// The value of `webhook-signature`.
fn signature(key: &[u8], id: &str, seconds: i64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
    mac.update(format!("{id}.{seconds}.{body}").as_bytes());
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_the_one_of_the_specification() {
        // The example of its reference libraries.
        let key = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let id = "msg_p5jXN8AQM9LWM0D4loKWxJek";
        let signed = signature(&key, id, 1_614_265_330, "{\"test\": 2432232314}");
        assert_eq!(signed, "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }
}
