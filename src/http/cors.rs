//! Browsers of other origins.

use axum::body::Body;
use axum::http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode};
use axum::response::Response;

use super::dialect::{PLAIN, with_type};
use super::rate_limit;
use crate::config;

const METHODS: HeaderValue =
    HeaderValue::from_static("DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT");
/// Seconds a browser may remember a preflight.
const MAX_AGE: HeaderValue = HeaderValue::from_static("600");
const TRUE: HeaderValue = HeaderValue::from_static("true");

/// Which origins may call, and how.
#[derive(Debug, Clone)]
pub struct Cors {
    enabled: bool,
    any: bool,
    origins: Vec<HeaderValue>,
    credentials: bool,
}

impl Cors {
    /// The rules of the settings. An origin that is no header value matches nothing.
    pub fn new(settings: &config::Cors) -> Self {
        let config::Cors { enabled, origins, credentials } = settings;
        Self {
            enabled: *enabled,
            any: origins.iter().any(|origin| origin == "*"),
            origins: origins
                .iter()
                .filter_map(|origin| HeaderValue::from_str(origin).ok())
                .collect(),
            credentials: *credentials,
        }
    }

    /// The answer to a preflight; nothing if the request is none or browsers of other origins
    /// are not served.
    pub fn preflight(&self, method: &Method, headers: &HeaderMap) -> Option<Response> {
        let asks = method == Method::OPTIONS && headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let origin = headers.get(ORIGIN).filter(|_| self.enabled && asks)?;
        if !self.allows(origin) {
            let body = Body::from("Disallowed CORS origin");
            return Some(with_type(StatusCode::BAD_REQUEST, PLAIN, body));
        }
        let mut response = with_type(StatusCode::OK, PLAIN, Body::from("OK"));
        let answer = response.headers_mut();
        answer.insert(ACCESS_CONTROL_ALLOW_METHODS, METHODS);
        answer.insert(ACCESS_CONTROL_MAX_AGE, MAX_AGE);
        if let Some(wanted) = headers.get(ACCESS_CONTROL_REQUEST_HEADERS) {
            answer.insert(ACCESS_CONTROL_ALLOW_HEADERS, wanted.clone());
        }
        Some(response)
    }

    /// Adds what a browser wants to see on every answer to a page of `origin`.
    pub fn put_headers(&self, origin: Option<&HeaderValue>, headers: &mut HeaderMap) {
        if !self.enabled {
            return;
        }
        headers.append(VARY, HeaderValue::from_static("Origin"));
        let Some(origin) = origin.filter(|origin| self.allows(origin)) else {
            return;
        };
        headers
            .insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(rate_limit::HEADERS));
        if self.any {
            // Browsers refuse credentials together with `*`.
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
            return;
        }
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        if self.credentials {
            headers.insert(ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE);
        }
    }

    fn allows(&self, origin: &HeaderValue) -> bool {
        self.any || self.origins.contains(origin)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: HeaderValue = HeaderValue::from_static("http://localhost:5173");
    const OTHER: HeaderValue = HeaderValue::from_static("http://evil.example");

    fn cors(enabled: bool, origin: &str) -> Cors {
        Cors::new(&config::Cors { enabled, origins: vec![origin.to_owned()], credentials: true })
    }

    fn preflight(cors: &Cors, origin: HeaderValue) -> Option<Response> {
        let mut headers = HeaderMap::new();
        headers.insert(ORIGIN, origin);
        headers.insert(ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("POST"));
        headers.insert(ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("authorization"));
        cors.preflight(&Method::OPTIONS, &headers)
    }

    #[test]
    fn preflights_are_answered_for_known_origins() {
        let cors = cors(true, "http://localhost:5173");
        let known = preflight(&cors, PAGE).expect("an answer");
        assert_eq!(known.status(), StatusCode::OK);
        assert_eq!(known.headers()[ACCESS_CONTROL_ALLOW_HEADERS], "authorization");
        let unknown = preflight(&cors, OTHER).expect("an answer");
        assert_eq!(unknown.status(), StatusCode::BAD_REQUEST);
        assert!(cors.preflight(&Method::OPTIONS, &HeaderMap::new()).is_none());
    }

    #[test]
    fn nothing_is_answered_or_added_while_off() {
        let cors = cors(false, "*");
        assert!(preflight(&cors, PAGE).is_none());
        let mut headers = HeaderMap::new();
        cors.put_headers(Some(&PAGE), &mut headers);
        assert!(headers.is_empty());
    }

    #[test]
    fn answers_name_the_origin_they_are_for() {
        let headers_for = |cors: &Cors, origin| {
            let mut headers = HeaderMap::new();
            cors.put_headers(Some(&origin), &mut headers);
            headers
        };
        let one = cors(true, "http://localhost:5173");
        let known = headers_for(&one, PAGE);
        assert_eq!(known[ACCESS_CONTROL_ALLOW_ORIGIN], PAGE);
        assert_eq!(known[ACCESS_CONTROL_ALLOW_CREDENTIALS], "true");
        assert!(!headers_for(&one, OTHER).contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
        let any = headers_for(&cors(true, "*"), OTHER);
        assert_eq!(any[ACCESS_CONTROL_ALLOW_ORIGIN], "*");
        assert!(!any.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
    }
}
