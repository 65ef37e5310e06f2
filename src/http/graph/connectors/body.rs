//! Bodies of the routes of connectors: JSON, whatever they say they are.
//!
//! `curl -d` says that it sends a form. Where tokens are off, a page of another origin could send
//! such a form too, so what comes from a page must say that it is JSON: then the browser asks first.

use axum::body::{Bytes, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Path, Request};
use axum::http::HeaderMap;
use axum::http::header::{CONTENT_TYPE, ORIGIN};
use axum::http::request::Parts;

use super::Registration;
use crate::auth::Caller;
use crate::connectors::Provider;
use crate::http::error::{ApiError, ErrorKind};
use crate::http::extract::{Input, is_json, read_document};
use crate::http::json::Document;

/// The checked body of a request.
pub(in crate::http::graph) struct AnyBody<T>(pub(in crate::http::graph) T);

impl<T: Input, S: Send + Sync> FromRequest<S> for AnyBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = taken(request).await?;
        Ok(Self(T::parse_document(&document(&parts, &body)?)?))
    }
}

/// A connector to be registered, checked as its provider wants it.
pub(in crate::http::graph) struct NewConnector(pub(in crate::http::graph) Registration);

impl<S: Send + Sync> FromRequest<S> for NewConnector {
    type Rejection = ApiError;

    async fn from_request(request: Request, state: &S) -> Result<Self, ApiError> {
        let (mut parts, body) = taken(request).await?;
        let name = Path::<String>::from_request_parts(&mut parts, state).await;
        let provider = name.ok().and_then(|Path(name)| Provider::named(&name));
        let provider = provider.ok_or_else(|| ApiError::not_found("Not Found"))?;
        Ok(Self(Registration::parse(provider, &document(&parts, &body)?)?))
    }
}

/// The request, whose body the front has read within its limit already.
pub(super) async fn taken(request: Request) -> Result<(Parts, Bytes), ApiError> {
    let (parts, body) = request.into_parts();
    let body = to_bytes(body, usize::MAX).await.map_err(|_| ApiError::unreadable_body())?;
    Ok((parts, body))
}

pub(super) fn document(parts: &Parts, body: &[u8]) -> Result<Document, ApiError> {
    let authenticated = parts.extensions.get::<Caller>().is_some_and(|caller| caller.authenticated);
    if !authenticated && parts.headers.contains_key(ORIGIN) && !says_json(&parts.headers) {
        let text = "A request of a web page must have the content type application/json";
        return Err(ApiError::new(ErrorKind::UnsupportedMediaType, text));
    }
    read_document(&HeaderMap::new(), body)
}

fn says_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
    kind.is_some_and(is_json)
}
