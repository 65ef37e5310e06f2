//! The service itself: health, metrics, pages, headers.

use serde_json::{Value, json};

use super::doc;
use crate::common::{Request, Server};

#[test]
fn request_ids_are_echoed_when_they_are_harmless() {
    let server = Server::start(&[]);
    let echoed = |id: &str| {
        let answer = server.send(&Request::get("/health").header("x-request-id", id));
        answer.header("x-request-id").expect("every answer has one").to_owned()
    };
    for good in ["abc-123", "4f7d0a52-7b6e-4b0e-9c39-9a9f0a9a6a11", "A_b.c:d"] {
        assert_eq!(echoed(good), good);
    }
    for bad in ["", "a b", "x\u{e9}", "<script>", &"x".repeat(5000)] {
        assert_eq!(echoed(bad).len(), 36, "{bad:?}");
    }
    let fresh = |path: &str| server.get(path).header("x-request-id").map(str::to_owned);
    assert_ne!(fresh("/health"), fresh("/health"));
    for (path, status) in
        [("/nowhere", 404), ("/search", 405), ("/nodes/xyz", 404), ("/health/", 307)]
    {
        assert_eq!(server.get(path).status, status, "{path}");
        assert_eq!(fresh(path).map(|id| id.len()), Some(36), "{path}");
    }
}

#[test]
fn health_is_about_now() {
    let server = Server::start(&[("ACTIVEKG_VERSION", "9.9.9")]);
    let first = server.get("/health").expect(200);
    let second = server.get("/health").expect(200);
    assert_eq!((&first["status"], &first["version"]), (&json!("ok"), &json!("9.9.9")));
    assert_eq!(first["components"]["db"]["status"], "ok");
    assert!(second["uptime_seconds"].as_f64() > first["uptime_seconds"].as_f64());
    assert_eq!(server.get("/readyz").expect(200), json!({ "status": "ready" }));
}

#[test]
fn what_happens_is_measured() {
    let server = Server::start(&[]);
    server.create(&doc("the pump is blue"));
    server.post("/search", &json!({ "query": "pump" })).expect(200);
    server.post("/search", &json!({ "query": "pump", "use_hybrid": true })).expect(200);
    server.post("/ask", &json!({ "question": "What colour is the pump?" })).expect(200);
    server.get("/nodes/xyz").expect(404);
    server.get("/no/such/route").expect(404);
    server.post("/nodes", &json!({})).expect(422);

    let text = server.get("/prometheus");
    for sample in [
        r#"activekg_search_requests_total{mode="vector",score_type="cosine"} 1"#,
        r#"activekg_search_requests_total{mode="hybrid",score_type="rrf_fused"} 1"#,
        r#"activekg_search_latency_seconds_count{mode="vector",reranked="false",score_type="cosine"} 1"#,
        r#"activekg_ask_requests_total{rejected="false",score_type="rrf_fused"} 1"#,
        r#"activekg_api_errors_total{endpoint="/nodes/{id}",error_type="not_found",status="404"} 1"#,
        r#"activekg_api_errors_total{endpoint="unmatched",error_type="not_found",status="404"} 1"#,
        r#"activekg_api_errors_total{endpoint="/nodes",error_type="validation_error",status="422"} 1"#,
    ] {
        assert!(text.text().lines().any(|line| line == sample), "{sample}\n{}", text.text());
    }
    let metrics = server.get("/metrics").expect(200);
    assert_eq!(metrics["counters"]["search_requests_total"], 2);
    assert_eq!(metrics["counters"]["ask_requests_total"], 1);
    for accept in ["text/plain", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5"] {
        let scraped = server.send(&Request::get("/metrics").header("accept", accept));
        assert_eq!(
            scraped.header("content-type"),
            Some("text/plain; version=0.0.4; charset=utf-8")
        );
    }
    let off = Server::start(&[("METRICS_ENABLED", "false")]).get("/prometheus");
    assert_eq!((off.status, off.text().trim_end()), (503, "# Metrics disabled"));
}

#[test]
fn pages_bring_everything_they_need() {
    let server = Server::start(&[]);
    for path in ["/docs", "/redoc", "/demo"] {
        let page = server.get(path);
        assert_eq!(
            (page.status, page.header("content-type")),
            (200, Some("text/html; charset=utf-8"))
        );
        let text = page.text();
        for source in [
            "src=\"http",
            "href=\"http",
            "src='http",
            "href='http",
            "url(http",
            "src=\"//",
            "@import",
        ] {
            assert!(!text.contains(source), "{path} loads something from elsewhere: {source}");
        }
    }
}

#[test]
fn the_description_is_whole() {
    let server = Server::start(&[]);
    let description = server.get("/openapi.json").expect(200);
    assert!(description["openapi"].as_str().is_some_and(|version| version.starts_with("3.")));
    let mut references = Vec::new();
    collect(&description, &mut references);
    assert!(!references.is_empty());
    for reference in references {
        let pointer = reference.strip_prefix('#').expect("a reference within the document");
        assert!(description.pointer(pointer).is_some(), "{reference} leads nowhere");
    }
    for path in [
        "/nodes",
        "/nodes/{id}",
        "/search",
        "/ask",
        "/ask/stream",
        "/edges",
        "/lineage/{id}",
        "/events",
        "/readyz",
    ] {
        assert!(description["paths"].get(path).is_some(), "{path}");
    }
}

fn collect(value: &Value, references: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            references.extend(members.get("$ref").and_then(Value::as_str).map(str::to_owned));
            members.values().for_each(|value| collect(value, references));
        }
        Value::Array(items) => items.iter().for_each(|value| collect(value, references)),
        _ => {}
    }
}

#[test]
fn limits_are_shown_as_they_are() {
    let server = Server::start(&[("MAX_REQUEST_SIZE_BYTES", "1048576")]);
    let limits = server.get("/_admin/security/limits").expect(200);
    assert_eq!(limits["request_limits"]["max_request_body_bytes"], 1_048_576);
    assert_eq!(limits["request_limits"]["max_request_body_mb"], 1.0);
    assert_eq!(
        limits["request_limits"]["enforced_for"],
        json!(["Content-Length header", "chunked transfers"])
    );
    let ranges = limits["ssrf_protection"]["blocked_ip_ranges"].as_array().expect("ranges");
    assert_eq!((ranges.len(), &ranges[0]), (6, &json!("127.0.0.0/8 (localhost)")));
    assert_eq!(limits["file_access"]["allowed_base_directories"], json!([]));
}

#[test]
fn other_origins_are_let_in_when_asked_for() {
    let origin = "https://app.example";
    let server = Server::start(&[
        ("CORS_ENABLED", "true"),
        ("CORS_ORIGINS", "https://app.example,https://b.example"),
    ]);
    let preflight = |origin: &str| {
        let request = Request::new("OPTIONS", "/search").header("origin", origin);
        server.send(&request.header("access-control-request-method", "POST"))
    };
    let allowed = preflight(origin);
    assert!(allowed.status < 300, "{}", allowed.status);
    assert_eq!(allowed.header("access-control-allow-origin"), Some(origin));
    assert_eq!(preflight("https://evil.example").header("access-control-allow-origin"), None);
    let simple = server.send(&Request::get("/health").header("origin", origin));
    assert_eq!(simple.header("access-control-allow-origin"), Some(origin));
    assert!(
        simple
            .header("access-control-expose-headers")
            .is_some_and(|names| names.to_lowercase().contains("x-ratelimit-limit"))
    );
}
