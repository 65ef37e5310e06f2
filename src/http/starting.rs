//! What the port answers before the server is ready: how far the start is.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::json;
use tokio::sync::watch;
use tower::ServiceExt;

use super::dialect::{JSON, with_type};
use super::json;

/// How long a request waits for the server to be ready before it is told that it is not: a start
/// nearly always takes less, and then nobody notices it.
const PATIENCE: Duration = Duration::from_secs(2);

/// How far a start is. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Starting {
    ready: watch::Sender<Option<Router>>,
    /// Per cent of the store that recovery has gone over; `NO_RECOVERY` if there is none.
    recovered: Arc<AtomicU8>,
}

const NO_RECOVERY: u8 = u8::MAX;

impl Default for Starting {
    fn default() -> Self {
        Self { ready: watch::Sender::new(None), recovered: Arc::new(AtomicU8::new(NO_RECOVERY)) }
    }
}

impl Starting {
    /// Everything that comes in, now and later.
    pub fn router(&self) -> Router {
        let starting = self.clone();
        Router::new().fallback(move |request: Request| starting.clone().answer(request))
    }

    /// The store is being recovered, and this share of it, 0 to 1, is done.
    pub fn recovering(&self, done: f64) {
        self.recovered.store((done.clamp(0.0, 1.0) * 100.0) as u8, Ordering::Relaxed);
    }

    /// Hands all requests to `router` from here on.
    pub fn ready(&self, router: Router) {
        self.ready.send_replace(Some(router));
    }

    async fn answer(self, request: Request) -> Response {
        let mut ready = self.ready.subscribe();
        let router = ready.borrow_and_update().clone();
        let router = match router {
            Some(router) => Some(router),
            None => {
                let waited = tokio::time::timeout(PATIENCE, ready.wait_for(Option::is_some)).await;
                waited.ok().and_then(Result::ok).and_then(|router| router.clone())
            }
        };
        match router {
            Some(router) => router.oneshot(request).await.unwrap_or_else(|never| match never {}),
            None => self.not_yet(),
        }
    }

    fn not_yet(&self) -> Response {
        let detail = match self.recovered.load(Ordering::Relaxed) {
            NO_RECOVERY => "starting".to_owned(),
            percent => format!("starting: recovering the store, {percent} %"),
        };
        let body = json!({ "status": "starting", "detail": detail });
        let mut answer =
            with_type(StatusCode::SERVICE_UNAVAILABLE, JSON, json::to_vec(&body).into());
        answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        answer
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::routing::get;

    use super::*;

    async fn asked(router: &Router) -> (u16, String) {
        let request = Request::get("/health").body(Body::empty()).expect("a request");
        let answer = router.clone().oneshot(request).await.expect("an answer");
        let status = answer.status().as_u16();
        let body = to_bytes(answer.into_body(), 1000).await.expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test(start_paused = true)]
    async fn a_long_start_is_told_and_a_short_one_waited_for() {
        let starting = Starting::default();
        let router = starting.router();
        let (status, body) = asked(&router).await;
        assert_eq!((status, body.as_str()), (503, r#"{"status":"starting","detail":"starting"}"#));
        starting.recovering(0.3);
        assert!(asked(&router).await.1.contains("recovering the store, 30 %"));

        let early = tokio::spawn({
            let router = router.clone();
            async move { asked(&router).await }
        });
        tokio::task::yield_now().await;
        starting.ready(Router::new().route("/health", get(|| async { "well" })));
        assert_eq!(early.await.expect("no panic"), (200, "well".to_owned()));
        assert_eq!(asked(&router).await.0, 200);
    }
}
