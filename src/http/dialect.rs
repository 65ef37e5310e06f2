//! How a surface words its errors.

use std::error::Error;

use axum::body::Body;
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::Response;
use serde_json::{Map, Value};

use super::error::{ApiError, Detail, ErrorKind};
use super::json;
use super::request_id::RequestId;
use super::validate::Item;

/// Type of JSON answers.
pub const JSON: HeaderValue = HeaderValue::from_static("application/json");
/// Type of plain answers.
pub const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The shape of a surface's error bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `{"detail": ..}`, and plain text for an oversize body and for what nobody expected.
    Detail,
}

/// Marks an answer that carries no request id: the process could not say what happened.
#[derive(Debug, Clone, Copy)]
pub struct Anonymous;

impl Dialect {
    /// The whole answer for `error`.
    pub fn render(self, error: &ApiError, request: &RequestId) -> Response {
        let Self::Detail = self;
        let ApiError { kind, detail, more, headers, source: _ } = error;
        let mut response = match (kind, detail) {
            (ErrorKind::Unhandled, _) => {
                let mut response = plain(kind.status(), "Internal Server Error");
                response.extensions_mut().insert(Anonymous);
                response
            }
            (ErrorKind::TooLarge, Detail::Text(text)) => plain(kind.status(), text.to_string()),
            (ErrorKind::Internal, Detail::Text(prefix)) => {
                let text = format!("{prefix}: internal error, request {request}");
                body(kind.status(), text.into(), more)
            }
            (_, Detail::Text(text)) => body(kind.status(), text.as_ref().into(), more),
            (_, Detail::Items(items)) => {
                body(kind.status(), items.iter().map(Item::to_value).collect(), more)
            }
        };
        response.headers_mut().extend(headers.as_ref().clone());
        response
    }
}

/// Logs what the client is not told. Faults of the client are its own business.
pub fn log(error: &ApiError, request: &RequestId, route: &str) {
    let status = error.kind.status();
    if !status.is_server_error() {
        return;
    }
    let mut cause = String::new();
    let mut next: Option<&(dyn Error + 'static)> =
        error.source.as_deref().map(|source| source as &(dyn Error + 'static));
    while let Some(source) = next {
        if !cause.is_empty() {
            cause.push_str(": ");
        }
        cause.push_str(&source.to_string());
        next = source.source();
    }
    let text = match &error.detail {
        Detail::Text(text) => text.as_ref(),
        Detail::Items(_) => "",
    };
    let status = status.as_u16();
    if matches!(error.kind, ErrorKind::Internal | ErrorKind::Unhandled) {
        tracing::error!(request.id = %request, http.route = route, http.status = status, "request failed: {text} {cause}");
    } else {
        tracing::warn!(request.id = %request, http.route = route, http.status = status, "request refused: {text} {cause}");
    }
}

fn body(status: StatusCode, detail: Value, more: &[(&str, Value)]) -> Response {
    let mut body = Map::new();
    body.insert("detail".to_owned(), detail);
    body.extend(more.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    with_type(status, JSON, Body::from(json::to_vec(&body)))
}

fn plain(status: StatusCode, text: impl Into<Body>) -> Response {
    with_type(status, PLAIN, text.into())
}

/// An answer of a status, a type and a body.
pub(super) fn with_type(status: StatusCode, kind: HeaderValue, body: Body) -> Response {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
