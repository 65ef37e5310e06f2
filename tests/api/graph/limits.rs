//! What there is too much of: requests, bytes, too little disk.

use serde_json::json;

use super::{doc, text_of};
use crate::common::token::{JWT_ENV, token};
use crate::common::{Options, Request, Server};

#[test]
fn a_bucket_is_as_deep_as_its_burst() {
    // A rate that adds nothing while the test runs.
    let server = Server::start(&[
        ("RATE_LIMIT_ENABLED", "true"),
        ("RATE_LIMIT_SEARCH_BURST", "3"),
        ("RATE_LIMIT_SEARCH_RATE", "0.001"),
        ("RATE_LIMIT_DEFAULT_BURST", "2"),
        ("RATE_LIMIT_DEFAULT_RATE", "0.001"),
    ]);
    let search = Request::post("/search", &json!({ "query": "x" }));
    for left in ["2", "1", "0"] {
        let answer = server.send(&search);
        answer.expect(200);
        assert_eq!(
            (answer.header("x-ratelimit-limit"), answer.header("x-ratelimit-remaining")),
            (Some("3"), Some(left))
        );
        assert!(answer.header("x-ratelimit-reset").is_some());
    }
    let refused = server.send(&search);
    assert!(refused.expect_detail(429).starts_with("Rate limit exceeded"));
    for name in ["x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "retry-after"] {
        assert!(refused.header(name).is_some(), "{name}");
    }
    // Another bucket, which bad bodies use up too, and which has only one header when it is empty.
    assert_eq!(server.post("/nodes", &json!({})).status, 422);
    assert_eq!(server.get("/nodes").status, 200);
    let refused = server.get("/nodes");
    assert_eq!(refused.expect_detail(429), "Rate limit exceeded");
    assert!(refused.header("retry-after").is_some());
    assert_eq!(refused.header("x-ratelimit-limit"), None);
    for _ in 0..10 {
        assert_eq!(server.get("/health").status, 200, "not limited");
    }
    let limited = server.get("/prometheus");
    let counted = limited.text().lines().any(|line| {
        line.starts_with("api_rate_limited_total{")
            && line.contains("rate_limit")
            && line.contains("/search")
            && line.ends_with(" 1")
    });
    assert!(counted, "{}", limited.text());
}

#[test]
fn tenants_have_buckets_of_their_own() {
    let server = Options::new(&JWT_ENV)
        .set("RATE_LIMIT_ENABLED", "true")
        .set("RATE_LIMIT_DEFAULT_BURST", "2")
        .set("RATE_LIMIT_DEFAULT_RATE", "0.001")
        .start();
    let list =
        |tenant: &str| server.send(&Request::get("/nodes").bearer(&token(tenant, &[]))).status;
    assert_eq!(
        [list("t1"), list("t1"), list("t1"), list("t2"), list("t2"), list("t2")],
        [200, 200, 429, 200, 200, 429]
    );
}

#[test]
fn a_body_may_have_ten_mebibytes() {
    const LIMIT: usize = 10 << 20;
    let server = Server::start(&[]);
    let frame = json!({ "classes": ["Big"], "props": { "k": "" } }).to_string();
    let body =
        |length: usize| frame.replace("\"\"", &format!("\"{}\"", "x".repeat(length - frame.len())));
    for chunked in [false, true] {
        let request = |length: usize| {
            let request = Request::new("POST", "/nodes").raw(body(length));
            if chunked { request.chunked() } else { request }
        };
        server.send(&request(LIMIT)).expect(200);
        let refused = server.send(&request(LIMIT + 1));
        assert_eq!(
            (refused.status, refused.text()),
            (413, "Request too large"),
            "chunked: {chunked}"
        );
        assert_eq!(refused.header("content-type"), Some("text/plain; charset=utf-8"));
        let far = server.send(&request(3 * LIMIT));
        assert_eq!(far.status, 413, "chunked: {chunked}");
    }
    assert_eq!(server.get("/nodes").expect(200)["total"], 2);
}

#[test]
fn a_full_disk_refuses_writes_and_lets_deletes_through() {
    let mut server = Server::start(&[]);
    let ids: Vec<String> =
        (0..3).map(|n| server.create(&doc(&format!("stored in time, number {n}")))).collect();
    server.terminate();
    server.start_again(&[("ACTIVEKG_MIN_FREE_BYTES", "1000000000000000000")]);

    for request in [
        Request::post("/nodes", &doc("too late")),
        Request::post("/nodes/batch", &json!({ "nodes": [doc("too late")] })),
        Request::put(format!("/nodes/{}", ids[0]), &json!({ "props": { "text": "too late" } })),
        Request::post("/edges", &json!({ "src": ids[0], "dst": ids[1], "rel": "R" })),
    ] {
        let at = format!("{} {}", request.method, request.target);
        let detail = server.send(&request).expect_detail(507);
        assert!(detail.starts_with("Insufficient storage at "), "{at}: {detail}");
        assert!(detail.ends_with(" bytes free, 1000000000000000000 needed"), "{at}: {detail}");
        assert!(detail.contains(&*server.dir().to_string_lossy()), "{at}: {detail}");
    }
    assert_eq!(server.get("/nodes").expect(200)["total"], 3);
    let node = server.get(&format!("/nodes/{}", ids[0])).expect(200);
    assert_eq!(text_of(&node["props"]["text"]), "stored in time, number 0");
    assert_eq!(super::found(&server, "stored in time").len(), 3);
    assert_eq!(server.get("/health").expect(200)["status"], "ok");

    server.delete(&format!("/nodes/{}", ids[0])).expect(200);
    server.delete(&format!("/nodes/{}?hard=true", ids[1])).expect(200);
    assert_eq!(super::found(&server, "stored in time"), ids[2..]);
}
