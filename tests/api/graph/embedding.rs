//! The life of an embedding, and looking after its queue.

use serde_json::{Value, json};

use super::{NOBODY, doc, text_of};
use crate::common::{Request, Server};

const QUEUED: [(&str, &str); 2] = [("EMBEDDING_ASYNC", "true"), ("RUN_EMBEDDING_WORKER", "false")];

fn status(server: &Server) -> Value {
    server.get("/admin/embedding/status").expect(200)
}

#[test]
fn what_waits_is_embedded_when_a_worker_runs() {
    let mut server = Server::start(&QUEUED);
    let ids: Vec<String> =
        (0..20).map(|n| server.create(&doc(&format!("waiting text {n}")))).collect();
    let empty = server.create(&json!({ "classes": ["Blob"], "props": {} }));
    assert_eq!(status(&server)["status_counts"], json!({ "queued": 21 }));
    assert_eq!(status(&server)["queue"]["queue"], 21);
    let node = server.get(&format!("/nodes/{}", ids[0])).expect(200);
    assert_eq!(
        (&node["embedding_status"], &node["embedding_attempts"]),
        (&json!("queued"), &json!(0))
    );

    server.terminate();
    server.start_again(&[("RUN_EMBEDDING_WORKER", "true")]);
    server.until(&Request::get("/admin/embedding/status"), |answer| {
        answer.json()["status_counts"] == json!({ "ready": 20, "skipped": 1 })
    });
    assert_eq!(status(&server)["queue"]["queue"], 0);
    let node = server.get(&format!("/nodes/{}", ids[7])).expect(200);
    assert_eq!(
        (&node["embedding_status"], &node["embedding_attempts"]),
        (&json!("ready"), &json!(1))
    );
    let node = server.get(&format!("/nodes/{empty}")).expect(200);
    assert_eq!(
        (&node["embedding_status"], &node["embedding_error"]),
        (&json!("skipped"), &json!("empty_text"))
    );
    server.until(
        &Request::post("/search", &json!({ "query": "waiting text 7", "top_k": 1 })),
        |answer| answer.json()["results"][0]["id"] == ids[7].as_str(),
    );
}

#[test]
fn full_queues_refuse_and_store_nothing() {
    let mut env = QUEUED.to_vec();
    env.extend([("EMBEDDING_QUEUE_MAX_DEPTH", "4"), ("EMBEDDING_TENANT_MAX_PENDING", "3")]);
    let server = Server::start(&env);
    const TENANT: &str = "Tenant embedding queue limit exceeded, please retry later";
    const ALL: &str = "Embedding queue overloaded, please retry later";
    let batch = |n: usize| server.post("/nodes/batch", &json!({ "nodes": vec![doc("x"); n] }));
    let refused = batch(4);
    assert_eq!(refused.expect_detail(429), TENANT);
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(batch(3).expect(200)["created"], 3);
    assert_eq!(server.post("/nodes", &doc("x")).expect_detail(429), TENANT);
    let elsewhere = |tenant: &str| {
        let mut node = doc("x");
        node["tenant_id"] = tenant.into();
        server.post("/nodes", &node)
    };
    elsewhere("acme").expect(200);
    assert_eq!(elsewhere("beta").expect_detail(429), ALL);
    assert_eq!(server.get("/nodes").expect(200)["total"], 3);
    assert_eq!(server.get("/nodes?tenant_id=beta").expect(200)["total"], 0);

    // A deleted node waits no more.
    let first = text_of(&server.get("/nodes?limit=1").expect(200)["nodes"][0]["id"]);
    server.delete(&format!("/nodes/{first}?hard=true")).expect(200);
    server.post("/nodes", &doc("x")).expect(200);
}

#[test]
fn a_tenant_has_so_many_jobs_at_most_unless_somebody_says_otherwise() {
    let server = Server::start(&QUEUED);
    let batch = |tenant: &str, n: usize| {
        let body = json!({ "tenant_id": tenant, "nodes": vec![doc("x"); n] });
        server.post("/nodes/batch", &body)
    };
    let one = |tenant: &str| {
        let mut node = doc("x");
        node["tenant_id"] = tenant.into();
        server.post("/nodes", &node)
    };
    for _ in 0..10 {
        assert_eq!(batch("acme", 200).expect(200)["created"], 200);
    }
    let refused = one("acme");
    assert_eq!(
        refused.expect_detail(429),
        "Tenant embedding queue limit exceeded, please retry later"
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(batch("acme", 1).status, 429);
    one("harbor").expect(200);
    assert_eq!(batch("harbor", 200).expect(200)["created"], 200);
    for (tenant, n) in [("acme", 2000), ("harbor", 201)] {
        assert_eq!(server.get(&format!("/nodes?tenant_id={tenant}")).expect(200)["total"], n);
        let queue = format!("/admin/queues/embedding?tenant_id={tenant}");
        assert_eq!(server.get(&queue).expect(200)["tenants"][0]["depths"]["ready"], n);
    }
}

#[test]
fn limits_of_zero_are_no_limits() {
    let mut env = QUEUED.to_vec();
    env.extend([("EMBEDDING_QUEUE_MAX_DEPTH", "0"), ("EMBEDDING_TENANT_MAX_PENDING", "0")]);
    let server = Server::start(&env);
    for _ in 0..3 {
        server.post("/nodes/batch", &json!({ "nodes": vec![doc("x"); 200] })).expect(200);
    }
    assert_eq!(status(&server)["queue"]["queue"], 600);
}

#[test]
fn nodes_are_requeued_by_status_and_by_id() {
    let server = Server::start(&[]);
    let ids: Vec<String> = (0..3).map(|n| server.create(&doc(&format!("text {n}")))).collect();
    let broken =
        server.create(&json!({ "classes": ["Doc"], "props": {}, "payload_ref": "/etc/hostname" }));
    let requeue = |body: Value| server.post("/admin/embedding/requeue", &body).expect(200);
    let n = |body: &Value| (body["requested"].clone(), body["enqueued"].clone());
    assert_eq!(
        n(&requeue(json!({ "node_ids": [NOBODY, "xyz", ids[0], ids[0]] }))),
        (json!(1), json!(1))
    );
    assert_eq!(n(&requeue(json!({}))), (json!(1), json!(1)), "failed ones by default");
    assert_eq!(n(&requeue(json!({ "status": "all", "limit": 2 }))), (json!(2), json!(2)));
    assert_eq!(n(&requeue(json!({ "status": "skipped" }))), (json!(0), json!(0)));
    assert_eq!(server.post("/admin/embedding/requeue", &json!({ "status": "odd" })).status, 422);
    let settled = server.until(&Request::get("/admin/embedding/status"), |answer| {
        answer.json()["status_counts"] == json!({ "ready": 3, "failed": 1 })
    });
    assert_eq!(settled.json()["queue"]["retry"], 0);
    assert_eq!(
        server.get(&format!("/nodes/{broken}")).expect(200)["embedding_error"],
        "payload_ref not allowed"
    );
}

#[test]
fn a_refresh_measures_drift() {
    let server = Server::start(&[]);
    let id = server.create(&doc("unchanged"));
    let refreshed = server.post(&format!("/nodes/{id}/refresh"), &json!({})).expect(200);
    assert_eq!(refreshed["event_id"], Value::Null);
    assert!(
        refreshed["drift_score"].as_f64().is_some_and(|drift| drift.abs() < 1e-3),
        "{refreshed}"
    );
    let queued = Server::start(&[("EMBEDDING_ASYNC", "true")]);
    let id = queued.create(&doc("unchanged"));
    let refreshed = queued.post(&format!("/nodes/{id}/refresh"), &json!({})).expect(200);
    assert_eq!((&refreshed["id"], &refreshed["status"]), (&json!(id), &json!("queued")));
    assert!(refreshed["job_id"].is_string());
}

#[test]
fn embedding_can_be_left_to_the_operator() {
    let server = Server::start(&[("AUTO_EMBED_ON_CREATE", "false")]);
    let id = server.create(&doc("by hand"));
    let path = format!("/nodes/{id}");
    let node = server.get(&path).expect(200);
    assert_eq!(
        (&node["embedding_status"], &node["embedding_error"]),
        (&json!("skipped"), &json!("auto_embed_disabled"))
    );
    assert!(
        server.post(&format!("{path}/refresh"), &json!({})).expect(200)["drift_score"].is_number()
    );
    assert_eq!(server.get(&path).expect(200)["embedding_status"], "ready");
}

#[test]
fn info_tells_how_much_is_embedded() {
    let server = Server::start(&[]);
    for text in ["one", "two", ""] {
        server.create(&doc(text));
    }
    let info = server.get("/debug/embed_info").expect(200);
    assert_eq!(
        info["counts"],
        json!({ "total_nodes": 3, "with_embedding": 2, "without_embedding": 1 })
    );
    assert_eq!(
        info["vector_dimension"],
        json!({ "db_type": "vector(384)", "db_dim": 384, "sampled_dims": [384] })
    );
    assert!(
        info["sample"]["norm_min"].as_f64().is_some_and(|norm| (norm - 1.0).abs() < 1e-3),
        "{info}"
    );
    let alias = server.get("/_admin/embed_info").expect(200);
    assert_eq!(alias["counts"], info["counts"]);
    let sanity = server.get("/debug/search_sanity").expect(200);
    assert_eq!(sanity["embedding_coverage_pct"], 66.67);
    assert_eq!(sanity["sample_nodes_without_embedding"][0]["has_text"], false);
    let text = server.get("/prometheus");
    assert!(
        text.text().contains(r#"activekg_embedding_coverage_ratio{tenant_id="default"} 0.66"#),
        "{}",
        text.text()
    );
}

#[test]
fn a_wait_that_runs_out_is_no_failure() {
    let server = Server::start(&[("EMBEDDING_SYNC_WAIT_MS", "0")]);
    let id = server.create(&doc("nobody waited for this"));
    assert_eq!(super::found(&server, "nobody waited"), [id.as_str()]);
    let node = Request::get(format!("/nodes/{id}"));
    let node = server.until(&node, |answer| answer.json()["embedding_status"] == "ready").json();
    assert_eq!(node["embedding_attempts"], 0, "attempts are counted in the other mode only");
    // A refresh that is not waited for answers as one that is queued.
    let refreshed = server.post(&format!("/nodes/{id}/refresh"), &json!({})).expect(200);
    assert_eq!((&refreshed["id"], &refreshed["status"]), (&json!(id), &json!("queued")));
}
