//! What a handler answers when it cannot do what was asked.

use std::borrow::Cow;
use std::error::Error;
use std::sync::Arc;

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::validate::Item;

/// What went wrong, by what the client can do about it. Decides the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// The request makes no sense as a whole.
    BadRequest,
    /// No valid token.
    Unauthorized,
    /// A valid token that may not do this.
    Forbidden,
    /// Not there, or not for this caller.
    NotFound,
    /// The path is there, the method is not.
    MethodNotAllowed,
    /// The client took too long to send its request.
    Timeout,
    /// It is there already.
    Conflict,
    /// The body is larger than allowed.
    TooLarge,
    /// The body is of a type that is not taken here.
    UnsupportedMediaType,
    /// Fields of the request are wrong.
    Invalid,
    /// Too many requests.
    TooMany,
    /// A setting that is needed is missing; the client may read which.
    NotConfigured,
    /// The server failed at a known place.
    Internal,
    /// The server failed where nobody expected it.
    Unhandled,
    /// A part that is needed is off or down.
    Unavailable,
    /// A server that was asked for this fails.
    BadGateway,
    /// The disk is nearly full.
    InsufficientStorage,
}

impl ErrorKind {
    /// The HTTP status.
    pub fn status(self) -> StatusCode {
        match self {
            Self::BadRequest => StatusCode::BAD_REQUEST,
            Self::Unauthorized => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed => StatusCode::METHOD_NOT_ALLOWED,
            Self::Timeout => StatusCode::REQUEST_TIMEOUT,
            Self::Conflict => StatusCode::CONFLICT,
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::UnsupportedMediaType => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Self::Invalid => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooMany => StatusCode::TOO_MANY_REQUESTS,
            Self::NotConfigured | Self::Internal | Self::Unhandled => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::BadGateway => StatusCode::BAD_GATEWAY,
            Self::InsufficientStorage => StatusCode::INSUFFICIENT_STORAGE,
        }
    }
}

/// What the client is told.
#[derive(Debug, Clone, PartialEq)]
pub enum Detail {
    /// A sentence.
    Text(Cow<'static, str>),
    /// The faults of the request, one by one.
    Items(Vec<Item>),
}

/// An answer that reports an error. The surface's outermost layer writes the body in the
/// surface's own way and logs the source, which the client never sees.
#[derive(Debug, Clone)]
pub struct ApiError {
    /// Decides the status.
    pub kind: ErrorKind,
    /// For the client.
    pub detail: Detail,
    /// Members beside `detail` in the body.
    pub more: Vec<(&'static str, Value)>,
    /// Headers of the answer.
    pub headers: Box<HeaderMap>,
    /// For the log.
    pub source: Option<Arc<dyn Error + Send + Sync>>,
}

impl ApiError {
    /// An error of `kind` with a sentence for the client.
    pub fn new(kind: ErrorKind, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: Detail::Text(detail.into()),
            more: Vec::new(),
            headers: Box::default(),
            source: None,
        }
    }

    /// 400.
    pub fn bad_request(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::BadRequest, detail)
    }

    /// 400 for a body that cannot be read at all.
    pub fn unreadable_body() -> Self {
        Self::bad_request("There was an error parsing the body")
    }

    /// 401.
    pub fn unauthorized(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unauthorized, detail)
    }

    /// 403.
    pub fn forbidden(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Forbidden, detail)
    }

    /// 404.
    pub fn not_found(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::NotFound, detail)
    }

    /// 409.
    pub fn conflict(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Conflict, detail)
    }

    /// 422.
    pub fn invalid(items: Vec<Item>) -> Self {
        Self { detail: Detail::Items(items), ..Self::new(ErrorKind::Invalid, "") }
    }

    /// 429, to be tried again after a while.
    pub fn too_many(detail: impl Into<Cow<'static, str>>, retry_after_seconds: u32) -> Self {
        Self::new(ErrorKind::TooMany, detail).with_header(RETRY_AFTER, retry_after_seconds.into())
    }

    /// 503.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Unavailable, detail)
    }

    /// 507.
    pub fn insufficient_storage(detail: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InsufficientStorage, detail)
    }

    /// 500 of a known operation: `prefix`, such as `Search failed`, and the request's id are
    /// all the client sees.
    pub fn internal(prefix: &'static str, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Internal, prefix).with_source(source)
    }

    /// 500 without a word about what failed.
    pub fn unhandled(source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self::new(ErrorKind::Unhandled, "").with_source(source)
    }

    /// With one more member beside `detail`.
    #[must_use]
    pub fn with_member(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.more.push((name, value.into()));
        self
    }

    /// With one more header.
    #[must_use]
    pub fn with_header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.insert(name, value);
        self
    }

    /// With the cause, for the log.
    #[must_use]
    pub fn with_source(self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { source: Some(source.into().into()), ..self }
    }
}

impl From<Vec<Item>> for ApiError {
    fn from(items: Vec<Item>) -> Self {
        Self::invalid(items)
    }
}

impl IntoResponse for ApiError {
    /// A response with the status alone; the error travels in its extensions to the layer that
    /// writes it.
    fn into_response(self) -> Response {
        let mut response = self.kind.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
