//! Event streams: frames of a name and spaced ASCII JSON, with comments that keep the line open.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use super::json;

/// Silence after which a comment is sent, so that proxies do not take the stream for dead.
pub const KEEP_ALIVE: Duration = Duration::from_secs(15);

const X_ACCEL_BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// One event of a stream, as it goes over the line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame(Bytes);

impl Frame {
    /// The event `name` with `data`. The JSON of `data` has no line breaks, so one line holds it.
    pub fn event<T: Serialize + ?Sized>(name: &str, data: &T) -> Self {
        Self::raw(name, &json::to_spaced(data))
    }

    /// The event `name` with data in compact JSON: the constant refusals are sent so.
    pub fn compact<T: Serialize + ?Sized>(name: &str, data: &T) -> Self {
        Self::raw(name, &String::from_utf8_lossy(&json::to_vec(data)))
    }

    fn raw(name: &str, data: &str) -> Self {
        Self(format!("event: {name}\ndata: {data}\n\n").into())
    }

    /// Data without a name, in compact JSON.
    pub fn data<T: Serialize + ?Sized>(data: &T) -> Self {
        Self(format!("data: {}\n\n", String::from_utf8_lossy(&json::to_vec(data))).into())
    }

    /// The mark that ends a stream of such data.
    pub fn done() -> Self {
        Self(Bytes::from_static(b"data: [DONE]\n\n"))
    }

    fn keep_alive() -> Self {
        Self(Bytes::from_static(b": keep-alive\n\n"))
    }
}

/// The answer that sends `frames` as they come, and a comment after each [`KEEP_ALIVE`] without
/// one.
pub fn response<S>(frames: S) -> Response
where
    S: Stream<Item = Frame> + Send + 'static,
{
    filling(frames, KEEP_ALIVE)
}

fn filling<S>(frames: S, silence: Duration) -> Response
where
    S: Stream<Item = Frame> + Send + 'static,
{
    let lines = stream::unfold(Box::pin(frames), move |mut frames| async move {
        let frame = match timeout_at(Instant::now() + silence, frames.next()).await {
            Ok(frame) => frame?,
            Err(_) => Frame::keep_alive(),
        };
        Some((Ok::<_, Infallible>(frame.0), frames))
    });
    let mut response = Body::from_stream(lines).into_response();
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream; charset=utf-8"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    headers.insert(X_ACCEL_BUFFERING, HeaderValue::from_static("no"));
    response
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;
    use http_body_util::BodyExt;
    use serde_json::json;

    use super::*;

    #[tokio::test]
    async fn frames_have_a_name_and_spaced_ascii_data() {
        let frames = [
            Frame::event("token", &json!({"type": "token", "text": " sé\nal"})),
            Frame::compact("final", &json!({"type": "final", "citations": []})),
        ];
        let response = response(stream::iter(frames));
        assert_eq!(response.headers()[CONTENT_TYPE], "text/event-stream; charset=utf-8");
        assert_eq!(response.headers()["x-accel-buffering"], "no");
        let text = to_bytes(response.into_body(), usize::MAX).await.expect("a whole body");
        let expected = "event: token\ndata: {\"type\": \"token\", \"text\": \" s\\u00e9\\nal\"}\n\n\
                        event: final\ndata: {\"type\":\"final\",\"citations\":[]}\n\n";
        assert_eq!(text, expected);
    }

    #[tokio::test]
    async fn silence_is_filled_with_comments() {
        let mut body = filling(stream::pending(), Duration::ZERO).into_body();
        for _ in 0..3 {
            let frame = body.frame().await.expect("a frame").expect("no error");
            assert_eq!(frame.into_data().expect("data"), ": keep-alive\n\n");
        }
    }
}
