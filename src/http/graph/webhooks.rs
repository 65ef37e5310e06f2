//! Webhooks: messages of sources about their objects.
//!
//! The query string may hold a secret, so nothing logs it.

use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Uri};
use serde_json::{Value, json};

use super::failure::of_graph;
use crate::app::App;
use crate::connectors::webhook::{Outcome, PushRequest, Refused, S3Request, SignatureHeaders};
use crate::graph;
use crate::http::error::{ApiError, ErrorKind};
use crate::http::extract::{Reply, query_object};

/// What the caller reads when the store fails.
const NOT_TAKEN: &str = "Failed to enqueue";

/// POST /_webhooks/s3.
pub(super) async fn s3(
    State(app): State<App>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Reply<Value>, ApiError> {
    let signature = SignatureHeaders {
        signature: text(&headers, "x-amz-sns-message-signature"),
        certificate: text(&headers, "x-amz-sns-signing-cert-url"),
        version: text(&headers, "x-amz-sns-message-signature-version"),
    };
    let authorization = text(&headers, "authorization");
    let request = S3Request { authorization, headers: signature, body: &body };
    let outcome = app.webhooks.s3(request).await.map_err(refused)?;
    Ok(Reply(answer(outcome)))
}

/// POST /_webhooks/gcs.
pub(super) async fn gcs(
    State(app): State<App>,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Reply<Value>, ApiError> {
    let query = query_object(&uri);
    let of_query = |name: &str| query.get(name).and_then(Value::as_str);
    let request = PushRequest {
        authorization: text(&headers, "authorization"),
        secret: text(&headers, "x-pubsub-token").or_else(|| of_query("token")),
        topic: text(&headers, "x-goog-topic").or_else(|| of_query("topic")),
        body: &body,
    };
    let outcome = app.webhooks.gcs(request).await.map_err(refused)?;
    Ok(Reply(answer(outcome)))
}

/// GET /_webhooks/s3/health and /_webhooks/gcs/health.
pub(super) async fn health(State(app): State<App>) -> Reply<Value> {
    let fault = app.webhooks.fault();
    let status = if fault.is_some() { "degraded" } else { "ok" };
    let queue = fault.unwrap_or_else(|| "connected".to_owned());
    // The queue is embedded; monitors know it by the name of the one they had before.
    Reply(json!({ "status": status, "redis": queue, "queue": "embedded" }))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

fn answer(outcome: Outcome) -> Value {
    match outcome {
        Outcome::Queued { tenants, n_queued, n_ignored } => {
            let first = tenants.first().map(|tenant| tenant.as_str());
            let mut answer = json!({ "status": "queued", "count": n_queued, "tenant_id": first });
            if n_ignored > 0 {
                answer["ignored"] = n_ignored.into();
            }
            if tenants.len() > 1 {
                answer["tenants"] = tenants.iter().map(|tenant| tenant.as_str()).collect();
            }
            answer
        }
        Outcome::Duplicate => json!({ "status": "duplicate" }),
        Outcome::Ignored(reason) => json!({ "status": "ignored", "reason": reason }),
        Outcome::Pending(url) => json!({ "status": "subscription_pending", "url": url }),
        Outcome::Confirmed => json!({ "status": "subscription_confirmed" }),
        Outcome::Unsubscribed => json!({ "status": "unsubscribed" }),
    }
}

fn refused(error: Refused) -> ApiError {
    let text = error.to_string();
    match error {
        Refused::NotJson
        | Refused::UnknownType
        | Refused::NoSubscribeUrl
        | Refused::NoMessageId
        | Refused::SignatureVersion(_)
        | Refused::NotAnEvent
        | Refused::NotAPush => ApiError::bad_request(text),
        Refused::Signature
        | Refused::Arn
        | Refused::S3Token
        | Refused::PushToken
        | Refused::Topic => ApiError::forbidden(text),
        // The sender tries again later.
        Refused::Unverifiable | Refused::NotConfirmed => {
            ApiError::new(ErrorKind::Unavailable, text)
        }
        Refused::Storage(inside) => of_graph(graph::Error::from(inside), Some(NOT_TAKEN)),
        Refused::Interrupted => of_graph(graph::Error::Interrupted, Some(NOT_TAKEN)),
    }
}
