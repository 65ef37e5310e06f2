//! What is measured over a tenant's nodes, and figures that others publish.

use serde_json::{Value, json};

use super::doc;
use crate::common::Request;
use crate::common::Server;
use crate::common::token::{JWT_ENV, token};

fn of(class: &[&str], text: &str) -> Value {
    json!({ "classes": class, "props": { "text": text } })
}

#[test]
fn coverage_counts_each_class_of_a_tenant() {
    let server = Server::start(&[]);
    for node in [
        of(&["Doc"], "one"),
        of(&["Doc", "Manual"], "two"),
        of(&["Doc"], ""),
        of(&["Alpha"], "three"),
    ] {
        server.create(&node);
    }
    let gone = server.create(&of(&["Gone"], "four"));
    server.delete(&format!("/nodes/{gone}")).expect(200);
    let mut other = of(&["Secret"], "five");
    other["tenant_id"] = json!("acme");
    server.create(&other);

    let body = server.get("/_admin/embed_class_coverage").expect(200);
    assert_eq!(
        body,
        json!({
            "classes": [
                { "class": "Doc", "total": 3, "with_embedding": 2, "coverage_pct": 66.67 },
                { "class": "Alpha", "total": 1, "with_embedding": 1, "coverage_pct": 100.0 },
                { "class": "Manual", "total": 1, "with_embedding": 1, "coverage_pct": 100.0 },
            ],
            "count": 3,
        })
    );
    let named = server.get("/_admin/embed_class_coverage?tenant_id=acme").expect(200);
    assert_eq!((&named["count"], &named["classes"][0]["class"]), (&json!(1), &json!("Secret")));
}

#[test]
fn coverage_lists_fifty_classes() {
    let server = Server::start(&[("EMBEDDING_ASYNC", "true")]);
    let node = |n: usize| of(&[&format!("C{n:02}")], "x");
    let nodes: Vec<Value> = (0..60).map(node).collect();
    server.post("/nodes/batch", &json!({ "nodes": nodes })).expect(200);
    let body = server.get("/_admin/embed_class_coverage").expect(200);
    assert_eq!(body["count"], 50);
    assert_eq!(body["classes"][49]["class"], "C49");
}

#[test]
fn drift_is_counted_in_equal_parts() {
    let server = Server::start(&[]);
    let id = server.create(&doc("the pump is blue"));
    server.create(&doc("never refreshed"));
    let buckets = |query: &str| {
        server.get(&format!("/_admin/drift_histogram{query}")).expect(200)["buckets"].clone()
    };
    let counts = |buckets: &Value| -> Vec<u64> {
        let buckets = buckets.as_array().expect("buckets");
        buckets.iter().map(|bucket| bucket["count"].as_u64().expect("a count")).collect()
    };
    server.post(&format!("/nodes/{id}/refresh"), &json!({})).expect(200);
    let usual = buckets("");
    let n = counts(&usual);
    assert_eq!(n.len(), 10);
    assert!(n[0] >= 1 && n[1..].iter().all(|&n| n == 0), "nothing changed: {usual}");
    assert_eq!((&usual[3]["lower"], &usual[3]["upper"]), (&json!(0.3), &json!(0.4)));
    assert_eq!(counts(&buckets("?buckets=1")), [n[0]]);
    assert_eq!(counts(&buckets("?buckets=99999")).len(), 1000, "read as the most");
    assert_eq!(counts(&buckets("?tenant_id=acme")), [0; 10]);
    for bad in ["0", "-1", "x", "1.5"] {
        let refused = server.get(&format!("/_admin/drift_histogram?buckets={bad}"));
        assert_eq!(refused.status, 422, "{bad}");
    }
}

#[test]
fn an_evaluation_publishes_what_it_measured() {
    let server = Server::start(&[]);
    let path = "/_admin/metrics/retrieval_uplift";
    let values = json!({ "hybrid": 12.5, "weighted": -3.25 });
    assert_eq!(
        server.post(path, &json!({ "values": values })).expect(200),
        json!({ "status": "ok", "values": values })
    );
    server.post(path, &json!({ "values": { "hybrid": 13 } })).expect(200);
    let text = server.get("/prometheus").text().to_owned();
    for sample in [
        r#"activekg_retrieval_uplift_mrr_percent{mode="hybrid"} 13"#,
        r#"activekg_retrieval_uplift_mrr_percent{mode="weighted"} -3.25"#,
    ] {
        assert!(text.contains(sample), "{sample} is missing");
    }
    for bad in [
        json!({}),
        json!({ "values": 1 }),
        json!({ "values": { "hybrid": "much" } }),
        json!({ "values": { "hybrid": 1e9 } }),
        json!({ "values": { "vector": 1.0 } }),
    ] {
        assert_eq!(server.post(path, &bad).status, 422, "{bad}");
    }
}

#[test]
fn a_tenant_sees_its_own_classes_only() {
    let server = Server::start(&JWT_ENV);
    let as_tenant = |tenant: &str| token(tenant, &["admin:refresh"]);
    let create = Request::post("/nodes", &of(&["Mine"], "x")).bearer(&as_tenant("t1"));
    server.send(&create).expect(200);
    for (tenant, count) in [("t1", 1), ("t2", 0)] {
        let request = Request::get("/_admin/embed_class_coverage?tenant_id=t1");
        let body = server.send(&request.bearer(&as_tenant(tenant))).expect(200);
        assert_eq!(body["count"], count, "{tenant}");
    }
}
