//! Sources that are asked over HTTP, against servers on this machine.

mod azure;
pub(in crate::connectors) mod drive;
mod gcs;
mod s3;
mod web;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Mutex;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{HeaderMap, Method, Response, Uri};
use serde_json::{Value, json};

use super::parts::Parts;
use super::*;

/// A request that a server of a test got.
struct Asked {
    method: Method,
    path: String,
    query: HashMap<String, String>,
    headers: HeaderMap,
    body: String,
}

impl Asked {
    fn query(&self, name: &str) -> &str {
        self.query.get(name).map_or("", String::as_str)
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }
}

/// A server that answers every request by `answer`.
async fn serve(answer: impl Fn(&Asked) -> Response<Body> + Send + Sync + 'static) -> SocketAddr {
    let answer = Arc::new(answer);
    let handler = move |method: Method, uri: Uri, headers: HeaderMap, body: String| {
        let answer = answer.clone();
        async move {
            let query = uri.query().unwrap_or_default().split('&');
            let query = query.filter_map(|pair| pair.split_once('=')).map(|(name, value)| {
                (name.to_owned(), rest::decoded(value, true).expect("a query"))
            });
            let (path, query) = (uri.path().to_owned(), query.collect());
            answer(&Asked { method, path, query, headers, body })
        }
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let router = Router::new().fallback(handler);
    tokio::spawn(async move { axum::serve(listener, router).await });
    addr
}

fn reply(status: u16, headers: &[(&str, &str)], body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::builder().status(status);
    for (name, value) in headers {
        response = response.header(*name, *value);
    }
    response.body(body.into()).unwrap()
}

fn open(provider: Provider, settings: Value, parts: Parts) -> Source {
    let Value::Object(settings) = settings else { panic!("an object") };
    let parts = SourceParts(Arc::new(parts));
    Source::open(provider, &Connector::unsaved(settings), &parts).expect("a source")
}

/// Every object that pages of `limit` hold, and what cannot be taken.
async fn all(source: &Source, limit: usize) -> (Vec<Found>, Vec<Unusable>) {
    let (mut found, mut unusable, mut cursor) = (Vec::new(), Vec::new(), None::<String>);
    loop {
        let page = source.list(None, cursor.as_deref(), limit).await.unwrap();
        found.extend(page.found);
        unusable.extend(page.unusable);
        cursor = page.next;
        if cursor.is_none() {
            return (found, unusable);
        }
    }
}

/// A key of a service account, made for this test, whose tokens come from `addr`.
fn service_account(addr: SocketAddr, id: &str) -> String {
    json!({
        "type": "service_account", "client_email": "kg@example.iam.gserviceaccount.com",
        "private_key_id": id, "private_key": include_str!("../../auth/tests/rsa_private.pem"),
        "token_uri": format!("http://{addr}/token"),
    })
    .to_string()
}
