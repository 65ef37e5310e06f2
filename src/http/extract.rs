//! How handlers get their input: checked bodies and query strings, and answers in the same JSON.
//!
//! Extractors run before the handler, so a request is found wrong (422) before the handler asks
//! whether the caller may do this at all (403).

use axum::body::{Body, to_bytes};
use axum::extract::{FromRequest, FromRequestParts, Query as UrlQuery, Request};
use axum::http::header::CONTENT_TYPE;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Map, Value};

use super::dialect::{JSON, with_type};
use super::error::ApiError;
use super::json::{self, Document, JsonError};
use super::request_id::RequestId;
use super::validate::{Checked, Item};

/// A body that checks itself.
pub trait Input: Sized {
    /// Reads a body. Null stands for a body that was not sent, a string for one that does not
    /// say it is JSON.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    fn parse(body: &Value) -> Checked<Self>;

    /// Reads a body in which NULs may stand, which are a fault unless the type says otherwise.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with it.
    fn parse_document(document: &Document) -> Checked<Self> {
        match document.nuls.first() {
            Some(nul) => Err(vec![nul.item()]),
            None => Self::parse(&document.value),
        }
    }
}

/// A query string that checks itself.
pub trait Query: Sized {
    /// Reads the parameters, an object of strings.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    fn parse(query: &Value) -> Checked<Self>;
}

/// The checked body of a request.
#[derive(Debug, Clone)]
pub struct JsonBody<T>(pub T);

impl<T: Input, S: Send + Sync> FromRequest<S> for JsonBody<T> {
    type Rejection = ApiError;

    async fn from_request(request: Request, _: &S) -> Result<Self, ApiError> {
        let (parts, body) = request.into_parts();
        // The front has read the body within its limit already; this only takes it over.
        let body = to_bytes(body, usize::MAX).await.map_err(|_| ApiError::unreadable_body())?;
        let document = read_document(&parts.headers, &body)?;
        Ok(Self(T::parse_document(&document)?))
    }
}

/// The checked query string of a request.
#[derive(Debug, Clone)]
pub struct Params<T>(pub T);

impl<T: Query, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        Ok(Self(T::parse(&query_object(&parts.uri))?))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for RequestId {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let given = parts.extensions.get::<Self>().cloned();
        Ok(given.unwrap_or_else(|| Self::of(&parts.headers)))
    }
}

/// The body as a document: null for none, and the text itself when the content type is there
/// but is not JSON.
///
/// # Errors
///
/// 422 for malformed JSON, 400 for what cannot be decoded or is nested too deeply.
pub fn read_document(headers: &HeaderMap, body: &[u8]) -> Result<Document, ApiError> {
    let whole = |value| Document { value, nuls: Vec::new() };
    if body.is_empty() {
        return Ok(whole(Value::Null));
    }
    let content_type = headers.get(CONTENT_TYPE).map(|value| value.to_str().unwrap_or("?"));
    if !content_type.is_none_or(is_json) {
        let text = String::from_utf8_lossy(body).replace('\0', "\u{fffd}");
        return Ok(whole(text.into()));
    }
    json::parse(body).map_err(|error| match error {
        JsonError::Syntax { message, offset } => {
            ApiError::invalid(vec![Item::json_invalid(message, offset)])
        }
        JsonError::Unreadable => ApiError::unreadable_body(),
    })
}

/// Whether a content type is `application/json` or one of its kin, such as
/// `application/ld+json`, with any parameters.
pub fn is_json(content_type: &str) -> bool {
    let essence = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    essence
        .strip_prefix("application/")
        .is_some_and(|subtype| subtype == "json" || subtype.ends_with("+json"))
}

/// The query parameters as an object of strings; of parameters of one name the last counts.
pub fn query_object(uri: &Uri) -> Value {
    let pairs = UrlQuery::<Vec<(String, String)>>::try_from_uri(uri).map(|UrlQuery(pairs)| pairs);
    let members = pairs.unwrap_or_default().into_iter().map(|(name, value)| (name, value.into()));
    Value::Object(members.collect::<Map<_, _>>())
}

/// An answer of 200 in JSON.
#[derive(Debug, Clone)]
pub struct Reply<T>(pub T);

impl<T: Serialize> IntoResponse for Reply<T> {
    fn into_response(self) -> Response {
        with_type(StatusCode::OK, JSON, Body::from(json::to_vec(&self.0)))
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;
    use serde_json::json;

    use super::*;
    use crate::http::error::{Detail, ErrorKind};

    fn read(content_type: Option<&'static str>, body: &[u8]) -> Result<Value, ApiError> {
        let mut headers = HeaderMap::new();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        }
        read_document(&headers, body).map(|document| document.value)
    }

    #[test]
    fn bodies_are_json_when_they_say_so_or_say_nothing() {
        for kind in [None, Some("application/json; charset=latin-1"), Some("Application/LD+JSON")] {
            assert_eq!(read(kind, b"{\"a\":1}").expect("JSON"), json!({"a": 1}));
        }
        for kind in
            ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", "json", ""]
        {
            assert_eq!(read(Some(kind), b"{\"a\":1}").expect("text"), json!("{\"a\":1}"), "{kind}");
        }
        assert_eq!(read(None, b"").expect("nothing"), Value::Null);
    }

    #[test]
    fn what_cannot_be_read_is_400_and_what_cannot_be_parsed_422() {
        assert_eq!(read(None, b"\xff\xff").expect_err("no text").kind, ErrorKind::BadRequest);
        let error = read(None, b"{").expect_err("cut off");
        assert_eq!(error.kind, ErrorKind::Invalid);
        let Detail::Items(items) = error.detail else { panic!("items expected") };
        assert_eq!(
            items[0].to_value(),
            json!({"type": "json_invalid", "loc": ["body", 1], "msg": "JSON decode error", "input": {},
                "ctx": {"error": "Expecting property name enclosed in double quotes"}})
        );
    }

    #[test]
    fn the_last_of_equal_parameters_counts_and_broken_escapes_stand() {
        let uri: Uri = "/x?a=1&a=2&b=%zz+c&d".parse().expect("a uri");
        assert_eq!(query_object(&uri), json!({"a": "2", "b": "%zz c", "d": ""}));
        assert_eq!(query_object(&"/x".parse().expect("a uri")), json!({}));
    }
}
