//! A service on this machine that answers by a script, over real HTTP.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use activekg_storage::time::{ManualClock, UnixMicros};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use futures_util::stream;
use prometheus::Registry;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::{BreakerSettings, Limits, Retries, Service, Upstream};
use crate::config::Secret;
use crate::observability::metrics::Metrics;

/// A request as it came.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) path: String,
    pub(crate) authorization: Option<String>,
    pub(crate) body: Value,
}

/// How an answer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// As it should.
    Whole,
    /// The connection breaks.
    Broken,
    /// Not at all.
    Never,
}

/// An answer.
pub(crate) struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    pieces: Vec<Bytes>,
    end: End,
}

impl Reply {
    pub(crate) fn json(status: u16, body: &Value) -> Self {
        Self::pieces(status, "application/json", [body.to_string()], End::Whole)
    }

    pub(crate) fn pieces<P: Into<Bytes>>(
        status: u16,
        media_type: &str,
        pieces: impl IntoIterator<Item = P>,
        end: End,
    ) -> Self {
        let pieces = pieces.into_iter().map(Into::into).collect();
        Self { status, headers: vec![("content-type", media_type.to_owned())], pieces, end }
    }

    pub(crate) fn events<P: Into<Bytes>>(pieces: impl IntoIterator<Item = P>, end: End) -> Self {
        Self::pieces(200, "text/event-stream", pieces, end)
    }

    pub(crate) fn header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }

    async fn response(self) -> Response {
        let Self { status, headers, pieces, end } = self;
        if pieces.is_empty() && end == End::Never {
            return std::future::pending().await;
        }
        let pieces = stream::iter(pieces).map(Ok::<_, std::io::Error>);
        let body = match end {
            End::Whole => Body::from_stream(pieces),
            End::Broken => {
                // The pieces get a chance to be sent before the connection goes.
                let pause = stream::once(tokio::time::sleep(Duration::from_millis(20)));
                let broken = pause.map(|()| Err(std::io::Error::other("on purpose")));
                Body::from_stream(pieces.chain(broken))
            }
            End::Never => Body::from_stream(pieces.chain(stream::pending())),
        };
        let mut response = body.into_response();
        *response.status_mut() = StatusCode::from_u16(status).expect("a status");
        for (name, value) in headers {
            let value = HeaderValue::from_str(&value).expect("a header");
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
        response
    }
}

/// The service. It goes when dropped.
pub(crate) struct Stub {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Stub {
    /// Answers each request as `script` says, which is told how many came before it.
    pub(crate) async fn start(
        script: impl Fn(usize, &Seen) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let (script, all) = (Arc::new(script), seen.clone());
        let handler = move |request: Request| {
            let (script, all) = (script.clone(), all.clone());
            async move {
                let (head, body) = request.into_parts();
                let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body");
                let authorization = head.headers.get("authorization");
                let request = Seen {
                    path: head.uri.path().to_owned(),
                    authorization: authorization.map(|value| value.to_str().unwrap().to_owned()),
                    body: serde_json::from_slice(&body).unwrap_or(Value::Null),
                };
                let reply = {
                    let mut all = all.lock().unwrap();
                    let reply = script(all.len(), &request);
                    all.push(request);
                    reply
                };
                Ok::<_, Infallible>(reply.response().await)
            }
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let addr = listener.local_addr().expect("an address");
        let router = Router::new().fallback(handler);
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { addr, seen, task }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/v1", self.addr)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A service at `url` with a key, generous limits and hardly any waits.
pub(crate) fn service(url: &str) -> Service {
    Service {
        name: "openai",
        base_url: Secret::from(url.to_owned()),
        key: Some(Secret::from("sk-Test-0123456789".to_owned())),
        limits: Limits::default(),
        retries: Retries { max: 3, base: Duration::from_millis(1), cap: Duration::from_millis(2) },
        breaker: BreakerSettings::default(),
    }
}

/// All metrics, apart from other tests'.
pub(crate) fn metrics() -> Metrics {
    Metrics::new(Registry::new(), UnixMicros(0)).expect("fresh names")
}

pub(crate) fn client(service: Service, clock: &ManualClock) -> Upstream {
    crate::tls::init();
    Upstream::new(service, metrics().upstream, Arc::new(clock.clone())).expect("a client")
}
