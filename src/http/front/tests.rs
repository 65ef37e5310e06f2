//! Requests through a front with a few handlers behind it.

use axum::body::to_bytes;
use axum::extract::Path;
use axum::http::HeaderMap;
use axum::http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use axum::routing::{get, post};
use serde_json::{Value, json};

use super::*;
use crate::auth::Access;
use crate::config;
use crate::http::extract::{Input, JsonBody, Reply};
use crate::http::rate_limit::tests::rates;
use crate::http::routes::{Answer, Verb};
use crate::http::validate::{At, Checked};

const fn route(
    method: Verb,
    path: &'static str,
    access: Option<Access>,
    group: Option<Group>,
) -> Route {
    Route {
        method,
        path,
        summary: "",
        tag: "",
        access,
        group,
        query: &[],
        body: None,
        answer: Answer::Text(""),
        also: &[],
    }
}

static ROUTES: [Route; 9] = [
    route(Verb::Get, "/health", None, None),
    route(Verb::Get, "/nodes", Some(Access::Read), Some(Group::Default)),
    route(Verb::Post, "/nodes", Some(Access::Write), Some(Group::Default)),
    route(Verb::Get, "/nodes/{id}", Some(Access::Read), Some(Group::Default)),
    route(Verb::Post, "/search", Some(Access::Read), Some(Group::Search)),
    route(Verb::Post, "/ask/stream", Some(Access::Ask), Some(Group::AskStream)),
    route(Verb::Get, "/panic", None, None),
    route(Verb::Get, "/broken", None, None),
    route(Verb::Get, "/unwired", None, None),
];

/// Lets `Bearer <tenant>` in while tokens are on, and everybody while they are off.
struct Door {
    tokens: bool,
}

impl Gate for Door {
    type Caller = Option<String>;

    fn caller(&self, parts: &Parts) -> Result<Self::Caller, ApiError> {
        let token = parts
            .headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        match token {
            _ if !self.tokens => Ok(None),
            Some(tenant) => Ok(Some(tenant.to_owned())),
            None => Err(ApiError::unauthorized("no token")),
        }
    }

    fn tenant<'a>(&self, caller: &'a Self::Caller) -> Option<&'a str> {
        caller.as_deref()
    }
}

struct Word(String);

impl Input for Word {
    fn parse(body: &Value) -> Checked<Self> {
        let mut fields = At::body(body).fields()?;
        let word = fields.required("word", |at| at.string());
        fields.finish().map(|()| Self(word))
    }
}

fn server(tokens: bool, limited: bool, cors: bool) -> Router {
    let handlers = Router::new()
        .route("/health", get(|| async { Reply(json!({"status": "ok"})) }))
        .route(
            "/nodes",
            get(|| async { Reply(json!([])) })
                .post(|JsonBody(Word(word)): JsonBody<Word>| async move { Reply(word) }),
        )
        .route("/nodes/{id}", get(|Path(id): Path<String>| async move { Reply(id) }))
        .route("/search", post(|JsonBody(Word(word)): JsonBody<Word>| async move { Reply(word) }))
        .route("/ask/stream", post(|| async { Reply(1) }))
        .route(
            "/panic",
            get(|| async {
                if true {
                    panic!("secret")
                }
            }),
        )
        .route(
            "/broken",
            get(|| async { ApiError::internal("Search failed", "secret").into_response() }),
        );
    let cors =
        config::Cors { enabled: cors, origins: vec!["http://page".to_owned()], credentials: true };
    let settings = FrontSettings {
        max_request_bytes: 100,
        real_ip_header: Some("X-Forwarded-For".to_owned()),
        rates: limited.then(|| RateLimiter::new(rates())),
        cors: Cors::new(&cors),
        dialect: |_| Dialect::Detail,
    };
    surface(Door { tokens }, settings, &ROUTES, handlers)
}

fn request(method: &str, path: &str, body: &str) -> Request {
    Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, "kg.example:8000")
        .header(CONTENT_LENGTH, body.len())
        .body(Body::from(body.to_owned()))
        .expect("a request")
}

fn with(mut request: Request, name: &'static str, value: &str) -> Request {
    request.headers_mut().insert(name, value.parse().expect("a header"));
    request
}

async fn send(server: &Router, request: Request) -> (u16, HeaderMap, String) {
    let response = server.clone().oneshot(request).await.expect("infallible");
    let (parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("a whole body");
    (parts.status.as_u16(), parts.headers, String::from_utf8(body.to_vec()).expect("UTF-8"))
}

#[tokio::test]
async fn errors_have_their_exact_bodies() {
    let server = server(true, false, false);
    let json = "application/json";
    for (method, path, body, status, expected, kind) in [
        ("GET", "/no/such", "", 404, r#"{"detail":"Not Found"}"#, json),
        ("GET", "/", "", 404, r#"{"detail":"Not Found"}"#, json),
        ("GET", "/unwired", "", 404, r#"{"detail":"Not Found"}"#, json),
        ("DELETE", "/health", "", 405, r#"{"detail":"Method Not Allowed"}"#, json),
        ("POST", "/nodes", "{", 401, r#"{"detail":"no token"}"#, json),
    ] {
        let (got, headers, text) = send(&server, request(method, path, body)).await;
        assert_eq!(
            (got, text.as_str(), &headers[CONTENT_TYPE]),
            (status, expected, &HeaderValue::from_static(kind)),
            "{path}"
        );
        assert!(headers.contains_key(X_REQUEST_ID));
    }
    let (status, headers, _) = send(&server, request("OPTIONS", "/nodes", "")).await;
    assert_eq!((status, &headers[ALLOW]), (405, &HeaderValue::from_static("GET, POST")));
}

#[tokio::test]
async fn get_routes_do_not_take_head() {
    let (status, headers, _) =
        send(&server(false, false, false), request("HEAD", "/health", "")).await;
    assert_eq!((status, &headers[ALLOW]), (405, &HeaderValue::from_static("GET")));
}

#[tokio::test]
async fn paths_are_decoded_and_slashes_redirected() {
    let server = server(false, false, false);
    assert_eq!(send(&server, request("GET", "/%68ealth", "")).await.0, 200);
    assert_eq!(send(&server, request("GET", "/nodes/a%20%25%C3%A9", "")).await.2, "\"a %é\"");
    let (status, headers, text) = send(&server, request("GET", "/nodes/x/?a=%20", "")).await;
    assert_eq!((status, text.as_str()), (307, ""));
    assert_eq!(headers[LOCATION], "http://kg.example:8000/nodes/x?a=%20");
    assert!(!headers.contains_key(CONTENT_TYPE));
    let forged =
        with(with(request("GET", "/health/", ""), "host", "evil/x?"), "x-forwarded-proto", "https");
    assert_eq!(send(&server, forged).await.1[LOCATION], "/health");
}

#[tokio::test]
async fn the_request_id_comes_back() {
    let (_, headers, _) = send(
        &server(false, false, false),
        with(request("GET", "/health", ""), "x-request-id", "mine-1"),
    )
    .await;
    assert_eq!(headers[X_REQUEST_ID], "mine-1");
}

#[tokio::test]
async fn failures_tell_nothing() {
    let server = server(false, false, false);
    let (status, headers, text) = send(&server, request("GET", "/panic", "")).await;
    assert_eq!((status, text.as_str()), (500, "Internal Server Error"));
    assert_eq!(headers[CONTENT_TYPE], "text/plain; charset=utf-8");
    assert!(!headers.contains_key(X_REQUEST_ID));
    let (status, _, text) =
        send(&server, with(request("GET", "/broken", ""), "x-request-id", "r1")).await;
    assert_eq!(
        (status, text.as_str()),
        (500, r#"{"detail":"Search failed: internal error, request r1"}"#)
    );
}

#[tokio::test]
async fn bodies_are_checked_after_the_token() {
    let server = server(true, false, false);
    let token = |body: &str| with(request("POST", "/nodes", body), "authorization", "Bearer a");
    assert_eq!(send(&server, token(r#"{"word":"x"}"#)).await.2, r#""x""#);
    assert_eq!(send(&server, token("{")).await.0, 422);
    assert_eq!(send(&server, token("[[[[")).await.0, 422);
    let (status, _, text) = send(&server, token("")).await;
    assert_eq!(
        (status, text.as_str()),
        (
            422,
            r#"{"detail":[{"type":"missing","loc":["body"],"msg":"Field required","input":null}]}"#
        )
    );
    assert_eq!(send(&server, token("\"ab\u{0}\"")).await.0, 422);
}

#[tokio::test]
async fn oversize_bodies_go_before_the_token() {
    let server = server(true, false, false);
    let big = "x".repeat(101);
    let mut chunked = request("POST", "/nodes", &big);
    chunked.headers_mut().remove(CONTENT_LENGTH);
    for request in [request("POST", "/nodes", &big), chunked] {
        let (status, headers, text) = send(&server, request).await;
        assert_eq!((status, text.as_str()), (413, "Request too large"));
        assert_eq!(headers[CONTENT_TYPE], "text/plain; charset=utf-8");
        assert!(headers.contains_key(X_REQUEST_ID));
    }
    let mut chunked = with(request("POST", "/nodes", &big), "authorization", "Bearer a");
    chunked.headers_mut().remove(CONTENT_LENGTH);
    assert_eq!(send(&server, chunked).await.0, 413);
    assert_eq!(send(&server, request("POST", "/nodes", &big[..100])).await.0, 401, "at the limit");
    assert_eq!(send(&server, request("POST", "/no/such", &big)).await.0, 404, "no route, no size");
}

#[tokio::test]
async fn open_servers_count_by_address() {
    let server = server(false, true, false);
    let from =
        |address| with(request("POST", "/search", r#"{"word":"x"}"#), "x-forwarded-for", address);
    let (status, headers, _) = send(&server, from("10.0.0.1, 10.9.9.9")).await;
    assert_eq!(
        (status, &headers["x-ratelimit-limit"], &headers["x-ratelimit-remaining"]),
        (200, &HeaderValue::from(3), &HeaderValue::from(2))
    );
    let mut statuses = Vec::new();
    for _ in 0..3 {
        statuses.push(send(&server, from("10.0.0.1")).await.0);
    }
    assert_eq!(statuses, [200, 200, 429]);
    let (_, headers, text) = send(&server, from("10.0.0.1")).await;
    assert_eq!(
        (text.as_str(), &headers[RETRY_AFTER]),
        (r#"{"detail":"Rate limit exceeded"}"#, &HeaderValue::from(1))
    );
    assert_eq!(send(&server, from("10.0.0.2")).await.0, 200);
}

#[tokio::test]
async fn invalid_bodies_use_up_requests_and_show_no_rate() {
    let server = server(false, true, false);
    let mut seen = Vec::new();
    for _ in 0..7 {
        let (status, headers, _) = send(&server, request("POST", "/nodes", "{}")).await;
        seen.push((status, headers.contains_key("x-ratelimit-limit")));
    }
    assert_eq!(seen, [[(422, false); 5].as_slice(), &[(429, false); 2]].concat());
}

#[tokio::test]
async fn floods_without_token_are_limited_apart_from_tenants() {
    let server = server(true, true, false);
    let mut statuses = Vec::new();
    for _ in 0..7 {
        statuses.push(send(&server, request("GET", "/nodes", "")).await.0);
    }
    assert_eq!(statuses, [401, 401, 401, 401, 401, 429, 429]);
    let token = |tenant: &str| {
        with(request("GET", "/nodes", ""), "authorization", &format!("Bearer {tenant}"))
    };
    let mut statuses = Vec::new();
    for _ in 0..6 {
        statuses.push(send(&server, token("a")).await.0);
    }
    assert_eq!(statuses, [200, 200, 200, 200, 200, 429]);
    assert_eq!(send(&server, token("b")).await.0, 200);
    assert_eq!(send(&server, request("GET", "/health", "")).await.0, 200, "not limited");
}

#[tokio::test]
async fn an_answer_counts_until_it_is_sent() {
    let server = server(false, true, false);
    let ask = || server.clone().oneshot(request("POST", "/ask/stream", ""));
    let unsent = ask().await.expect("infallible");
    assert_eq!(unsent.headers()[CONTENT_TYPE], "application/json");
    let refused = ask().await.expect("infallible");
    assert_eq!(
        (refused.status().as_u16(), &refused.headers()[RETRY_AFTER]),
        (429, &HeaderValue::from(5))
    );
    assert_eq!(refused.headers()["x-ratelimit-remaining"], "0");
    drop(unsent);
    assert_eq!(ask().await.expect("infallible").status(), 200);
}

#[tokio::test]
async fn preflights_pass_only_when_switched_on() {
    let preflight = || {
        let request = with(request("OPTIONS", "/search", ""), "origin", "http://page");
        with(request, "access-control-request-method", "POST")
    };
    assert_eq!(send(&server(true, false, false), preflight()).await.0, 405);
    let (status, headers, text) = send(&server(true, false, true), preflight()).await;
    assert_eq!(
        (status, text.as_str(), &headers["access-control-allow-origin"]),
        (200, "OK", &HeaderValue::from_static("http://page"))
    );
    let simple = with(request("GET", "/no/such", ""), "origin", "http://page");
    let (status, headers, _) = send(&server(true, false, true), simple).await;
    assert_eq!(
        (status, &headers["access-control-allow-credentials"]),
        (404, &HeaderValue::from_static("true"))
    );
}
