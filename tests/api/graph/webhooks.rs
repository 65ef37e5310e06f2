//! Webhooks: what S3 sends by way of SNS, and Google Cloud Storage by way of Pub/Sub.

mod gcs;
mod s3;

use serde_json::{Value, json};

use crate::common::{Request, Server};

/// The value of a series on /prometheus; 0 if it is not there.
fn metric(server: &Server, series: &str) -> f64 {
    let answer = server.get("/prometheus");
    let line = answer.text().lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0.0, |value| value.trim().parse().expect("a number"))
}

/// What is queued for a tenant: URI and operation of each item, oldest first.
fn queued(server: &Server, provider: &str, tenant: &str) -> Vec<(String, String)> {
    let target = format!("/admin/queues/connector:{provider}/items?tenant_id={tenant}");
    let body = server.get(&target).expect(200);
    let items = body["items"].as_array().expect("items").iter();
    let word = |item: &Value, name: &str| item["item"][name].as_str().unwrap().to_owned();
    items.map(|item| (word(item, "uri"), word(item, "operation"))).collect()
}

fn register(server: &Server, provider: &str, tenant: &str, config: &Value) {
    let target = format!("/_admin/connectors/{provider}/register");
    server.post(&target, &json!({ "tenant_id": tenant, "config": config })).expect(200);
}

#[test]
fn health_says_whether_messages_are_taken() {
    let server = Server::start(&[]);
    let healthy = json!({ "status": "ok", "redis": "connected", "queue": "embedded" });
    for source in ["s3", "gcs"] {
        assert_eq!(server.get(&format!("/_webhooks/{source}/health")).expect(200), healthy);
    }
    assert_eq!(server.get("/_webhooks/drive/health").expect_detail(404), "Not Found");
    assert_eq!(server.post("/_webhooks/drive", &json!({})).expect_detail(404), "Not Found");
}

#[test]
fn a_message_has_a_mebibyte_at_most() {
    let server = Server::start(&[]);
    for path in ["/_webhooks/s3", "/_webhooks/gcs"] {
        for chunked in [false, true] {
            let request = Request::new("POST", path).raw(vec![b' '; (1 << 20) + 1]);
            let request = if chunked { request.chunked() } else { request };
            let detail = server.send(&request).expect_detail(413);
            assert_eq!(detail, "Payload too large (max 1MB)", "{path} chunked: {chunked}");
            let request = Request::new("POST", path).raw(vec![b' '; 1 << 20]);
            assert_eq!(server.send(&request).status, 400, "{path}");
        }
    }
}

#[test]
fn each_webhook_has_a_rate_of_its_own() {
    let server = Server::start(&[
        ("RATE_LIMIT_ENABLED", "true"),
        ("RATE_LIMIT_WEBHOOK_S3_BURST", "2"),
        ("RATE_LIMIT_WEBHOOK_S3_RATE", "0.001"),
    ]);
    assert_eq!(metric(&server, LIMITED), 0.0, "the series is there from the start");
    assert!(server.get("/prometheus").text().contains(LIMITED));
    let message = json!({ "Type": "Nope" });
    for _ in 0..2 {
        let answer = server.post("/_webhooks/s3", &message);
        assert_eq!(answer.expect_detail(400), "Unknown message type");
    }
    let refused = server.post("/_webhooks/s3", &message);
    assert_eq!(refused.expect_detail(429), "Rate limit exceeded");
    assert_eq!(refused.header("x-ratelimit-limit"), Some("2"));
    assert_eq!(refused.header("x-ratelimit-remaining"), Some("0"));
    assert!(refused.header("x-ratelimit-reset").is_some());
    assert!(refused.header("retry-after").is_some());
    assert_eq!(metric(&server, LIMITED), 1.0);
    assert_eq!(server.post("/_webhooks/gcs", &json!({})).status, 400);
}

const LIMITED: &str = r#"api_rate_limited_total{endpoint="webhook_s3",reason="rate_limit"}"#;
