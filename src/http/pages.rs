//! Pages for browsers: whole in themselves, so that they work without a network.

use axum::body::Body;
use axum::extract::State;
use axum::http::header::{CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::dialect::with_type;
use super::error::ApiError;
use super::extract::Reply;
use super::graph::table::{ROUTES, dialect};
use super::openapi;
use crate::app::App;

/// Schemas of what the graph surface reads and writes.
pub const GRAPH_SCHEMAS: &str = include_str!("../../assets/openapi/graph.json");

const STYLE: &str = include_str!("../../assets/ui/page.css");

/// A page with its style and its script inside. The browser is told to run this script and no
/// other, and to talk to this server only.
#[derive(Debug, Clone)]
pub struct Page {
    html: Bytes,
    policy: HeaderValue,
}

impl Page {
    /// The description of the API with forms to try it.
    pub fn docs() -> Self {
        Self::new(
            include_str!("../../assets/ui/docs.html"),
            include_str!("../../assets/ui/docs.js"),
        )
    }

    /// The console.
    pub fn demo() -> Self {
        Self::new(
            include_str!("../../assets/ui/demo.html"),
            include_str!("../../assets/ui/demo.js"),
        )
    }

    fn new(html: &str, script: &str) -> Self {
        let html = html.replace("{{style}}", STYLE).replace("{{script}}", script);
        let hash = |text: &str| STANDARD.encode(Sha256::digest(text.as_bytes()));
        let policy = format!(
            "default-src 'none'; script-src 'sha256-{}'; style-src 'sha256-{}'; connect-src 'self'; \
             img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
            hash(script),
            hash(STYLE),
        );
        let policy = HeaderValue::from_str(&policy).expect("a policy is ASCII");
        Self { html: html.into(), policy }
    }
}

impl IntoResponse for Page {
    fn into_response(self) -> Response {
        let kind = HeaderValue::from_static("text/html; charset=utf-8");
        let mut response = with_type(StatusCode::OK, kind, Body::from(self.html));
        let headers = response.headers_mut();
        headers.insert(CONTENT_SECURITY_POLICY, self.policy);
        headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
        response
    }
}

/// GET /docs and GET /redoc.
pub async fn docs() -> Page {
    Page::docs()
}

/// GET /demo.
pub async fn demo() -> Page {
    Page::demo()
}

/// GET /openapi.json.
///
/// # Errors
///
/// When the schemas that are compiled in are damaged.
pub async fn openapi(State(app): State<App>) -> Result<Reply<Value>, ApiError> {
    openapi::document("activekg", &app.config.server.version, &ROUTES, dialect, GRAPH_SCHEMAS)
        .map(Reply)
        .map_err(ApiError::unhandled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_are_whole_and_reach_for_nothing_outside() {
        for page in [Page::docs(), Page::demo()] {
            let html = std::str::from_utf8(&page.html).expect("UTF-8");
            assert!(html.starts_with("<!doctype html>"));
            for outside in ["{{", "http://", "https://", "src=", "@import", "url("] {
                assert!(!html.contains(outside), "{outside}");
            }
            // What the policy allows is what stands between the tags, byte for byte.
            for (open, close, directive) in
                [("<script>", "</script>", "script-src"), ("<style>", "</style>", "style-src")]
            {
                let (_, rest) = html.split_once(open).expect("the tag");
                let (inside, rest) = rest.split_once(close).expect("its end");
                assert!(!rest.contains(open), "one {open} only");
                let allowed =
                    format!("{directive} 'sha256-{}'", STANDARD.encode(Sha256::digest(inside)));
                assert!(page.policy.to_str().expect("ASCII").contains(&allowed));
            }
        }
    }
}
