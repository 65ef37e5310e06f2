//! Nodes that refresh themselves, and those that are told to.

use std::fs;

use serde_json::{Value, json};

use super::{NOBODY, doc, found, text_of};
use crate::common::page::Page;
use crate::common::token::{JWT_ENV, token};
use crate::common::{Options, Request, Server};

/// Due every second, and glad to tell of every refresh.
fn eager(props: Value) -> Value {
    json!({ "classes": ["Doc"], "props": props,
        "refresh_policy": { "cron": "* * * * * *", "drift_threshold": -1 } })
}

/// Waits for an event of a node that the scheduler caused.
fn scheduled(server: &Server, node: &str) -> Value {
    let events = Request::get(format!("/events?node_id={node}&event_type=refreshed"));
    let by_scheduler = |body: &Value| {
        body["events"].as_array()?.iter().find(|e| e["actor_id"] == "scheduler").cloned()
    };
    let answer = server.until(&events, |answer| by_scheduler(&answer.expect(200)).is_some());
    by_scheduler(&answer.expect(200)).expect("an event")
}

#[test]
fn a_node_with_a_policy_is_refreshed_by_itself() {
    let server = Server::start(&[]);
    let node = server.create(&eager(json!({ "text": "the pump leaks" })));
    let event = scheduled(&server, &node);
    assert_eq!(event["actor_type"], "scheduler");
    assert_eq!(event["payload"]["threshold_exceeded"], true);
    assert_eq!(event["payload"]["drift_score"], 0.0);
    let text = server.get("/prometheus").text().to_owned();
    for name in [
        "activekg_nodes_refreshed_total{result=\"ok\"}",
        "activekg_schedule_runs_total{job_id=\"refresh_cycle\",kind=\"interval\"}",
        "activekg_refresh_cycle_nodes_count",
        "activekg_node_refresh_latency_seconds_count{result=\"ok\"}",
        "activekg_last_refresh_timestamp{class_name=\"Doc\",tenant_id=\"default\"}",
    ] {
        let line = text.lines().find_map(|line| line.strip_prefix(name));
        let value: f64 = line.expect(name).trim().parse().expect("a number");
        assert!(value > 0.0, "{name} {value}");
    }
    let summary = server.get("/_admin/metrics_summary").expect(200);
    assert_eq!(summary["scheduler_enabled"], true);
    let jobs = &summary["scheduler"]["jobs"];
    assert!(jobs["refresh_cycle"].is_string());
    // What has not been due yet is named all the same.
    assert_eq!(jobs.get("purge_deleted_cycle"), Some(&Value::Null));
    let never = "activekg_schedule_runs_total{job_id=\"purge_deleted_cycle\",kind=\"cron\"} 0";
    assert!(text.contains(never), "{text}");
}

#[test]
fn without_the_scheduler_nothing_is() {
    let server = Server::start(&[("RUN_SCHEDULER", "false")]);
    let node = server.create(&eager(json!({ "text": "the pump leaks" })));
    let summary = server.get("/_admin/metrics_summary").expect(200);
    assert_eq!(summary["scheduler_enabled"], false);
    assert_eq!(summary["scheduler"]["jobs"].get("refresh_cycle"), None);
    // Told to, it is, and that is the only way.
    server.send(&Request::new("POST", "/admin/refresh")).expect(200);
    let versions = server.get(&format!("/nodes/{node}/versions")).expect(200);
    assert!(versions["count"].as_u64().unwrap() <= 2, "{versions}");
}

#[test]
fn what_a_page_says_is_found_and_found_again_when_it_changes() {
    let page = Page::new("the crankshaft needs grease");
    let server = Server::start(&[("ACTIVEKG_DANGER_ALLOW_PRIVATE_ADDRESSES", "true")]);
    let mut node = eager(json!({ "title": "Page" }));
    node["payload_ref"] = page.url().into();
    let id = server.create(&node);
    assert_eq!(found(&server, "crankshaft"), std::slice::from_ref(&id));
    page.change_to("volcanoes of the southern islands");
    let search = Request::post("/search", &json!({ "query": "volcanoes", "mode": "bm25" }));
    server.until(&search, |answer| answer.expect(200)["count"] == 1);
    let events = Request::get(format!("/events?node_id={id}"));
    let drifted = |answer: &crate::common::Answer| {
        let body = answer.expect(200);
        let events = body["events"].as_array().expect("events").clone();
        events.iter().any(|e| e["payload"]["drift_score"].as_f64().is_some_and(|drift| drift > 0.3))
    };
    server.until(&events, drifted);
    let versions = server.get(&format!("/nodes/{id}/versions?limit=1")).expect(200);
    assert_eq!(versions["versions"][0]["embedding_ref"], page.url());
}

#[test]
fn answers_know_what_a_payload_says() {
    let dir = tempfile::tempdir().expect("a folder");
    let file = dir.path().join("manual.txt");
    fs::write(&file, "The gearbox holds four litres of oil.").expect("written");
    let folder = dir.path().to_str().expect("text").to_owned();
    let server = Server::start(&[("ACTIVEKG_FILE_BASEDIRS", &folder)]);
    let mut node = doc("");
    node["props"] = json!({ "title": "Manual" });
    node["payload_ref"] = format!("file://{}", file.display()).into();
    let id = server.create(&node);
    let answer = server.post("/ask", &json!({ "question": "How much oil does the gearbox hold?" }));
    let answer = answer.expect(200);
    assert!(text_of(&answer["answer"]).contains("four litres"), "{answer}");
    assert_eq!(answer["citations"][0]["node_id"], id);
}

#[test]
fn a_payload_that_may_not_be_read_fails_the_node_and_says_why() {
    let page = Page::new("secret");
    let server = Server::start(&[]);
    for (reference, why) in [
        ("/etc/passwd".to_owned(), "payload_ref not allowed"),
        ("passwd".to_owned(), "payload_ref not allowed"),
        ("file:///etc/passwd".to_owned(), "ACTIVEKG_FILE_BASEDIRS"),
        ("s3://bucket/key".to_owned(), "ALLOWED_S3_BUCKETS"),
        (page.url(), "an address that is not public"),
        ("http://169.254.169.254/latest/meta-data/".to_owned(), "an address that is not public"),
        ("http://0x7f.1/".to_owned(), "an address that is not public"),
    ] {
        let mut node = doc("inline");
        node["payload_ref"] = reference.clone().into();
        let id = server.create(&node);
        let shown = server.get(&format!("/nodes/{id}")).expect(200);
        assert_eq!(shown["embedding_status"], "failed", "{reference}");
        let error = text_of(&shown["embedding_error"]);
        assert!(error.starts_with("payload_ref not allowed") && error.contains(why), "{error}");
    }
    let limits = server.get("/_admin/security/limits").expect(200);
    assert_eq!(limits["ssrf_protection"]["enabled"], true);
    assert_eq!(limits["ssrf_protection"]["url_allowlist"], json!(["*any domain*"]));
    assert_eq!(limits["ssrf_protection"]["max_fetch_bytes"], 10_485_760);
    assert_eq!(limits["file_access"]["enabled"], false);
    assert_eq!(limits["file_access"]["max_file_bytes"], 1_048_576);
}

#[test]
fn an_administrator_refreshes_some_or_all_that_is_due() {
    let server = Server::start(&[("RUN_SCHEDULER", "false")]);
    let a = server.create(&doc("one"));
    let b = server.create(&doc("two"));
    for (body, requested, refreshed) in [
        (json!([a, b]), 2, 2),
        (json!({ "node_ids": [a] }), 1, 1),
        (json!([a, NOBODY, "xyz"]), 3, 1),
    ] {
        let answer = server.post("/admin/refresh", &body).expect(200);
        let expected = json!({ "status": "completed", "mode": "specific_nodes",
            "requested": requested, "refreshed": refreshed });
        assert_eq!(answer, expected, "{body}");
    }
    for body in [json!([]), json!({}), json!(null)] {
        let answer = server.post("/admin/refresh", &body).expect(200);
        assert_eq!(answer["mode"], "all_due_nodes", "{body}");
    }
    for body in [json!("x"), json!([1]), json!({ "node_ids": 5 })] {
        assert_eq!(server.post("/admin/refresh", &body).status, 422, "{body}");
    }
    let versions =
        |id: &str| server.get(&format!("/nodes/{id}/versions")).expect(200)["count"].clone();
    assert_eq!((versions(&a), versions(&b)), (json!(4), json!(2)));
}

#[test]
fn an_administrator_refreshes_nodes_of_the_own_tenant_only() {
    let server = Options::new(&JWT_ENV).set("RUN_SCHEDULER", "false").start();
    let admin = |tenant: &str, request: Request| {
        server.send(&request.bearer(&token(tenant, &["admin:refresh"])))
    };
    let node = text_of(&admin("t1", Request::post("/nodes", &doc("x"))).expect(200)["id"]);
    let refresh = Request::post("/admin/refresh", &json!([node]));
    assert_eq!(admin("t2", refresh.clone()).expect(200)["refreshed"], 0);
    assert_eq!(admin("t1", refresh.clone()).expect(200)["refreshed"], 1);
    let without = server.send(&refresh.bearer(&token("t1", &[])));
    assert_eq!(
        without.expect_detail(403),
        "Insufficient permissions. Required scope: admin:refresh"
    );
}

#[test]
fn anomalies_are_found() {
    let server = Server::start(&[("RUN_SCHEDULER", "false")]);
    let mut late = doc("late");
    late["refresh_policy"] = json!({ "interval": "1m" });
    server.create(&late);
    let mut never = doc("never");
    never["refresh_policy"] = json!({ "interval": "5m" });
    never["payload_ref"] = "nowhere".into();
    let never = server.create(&never);
    let moving = server.create(&doc("the pump leaks"));
    for text in ["blue sky", "income tax law", "violin sonata", "goal keeper", "boiled potatoes"] {
        let to = json!({ "props": { "text": text } });
        server.put(&format!("/nodes/{moving}"), &to).expect(200);
    }
    let found = server.get("/admin/anomalies?drift_spike_threshold=0.5").expect(200);
    let lag = &found["anomalies"]["scheduler_lag"];
    assert_eq!(lag.as_array().map(Vec::len), Some(1), "{found}");
    assert_eq!(lag[0]["node_id"], never);
    assert_eq!((&lag[0]["lag_ratio"], &lag[0]["last_refreshed"]), (&Value::Null, &Value::Null));
    assert_eq!(lag[0]["expected_interval_seconds"], 300.0);
    let spikes = &found["anomalies"]["drift_spike"];
    assert_eq!(spikes[0]["node_id"], moving, "{found}");
    assert_eq!(spikes[0]["spike_count"], 5);
    assert_eq!(found["anomalies"]["trigger_storm"], json!([]));
    assert_eq!(found["summary"]["total"], 2);
    assert_eq!(found["summary"]["by_type"]["scheduler_lag"], 1);
    let other = server.get("/admin/anomalies?tenant_id=other").expect(200);
    assert_eq!(other["summary"]["total"], 0);
    for bad in [
        "lookback_hours=0",
        "lookback_hours=x",
        "trigger_storm_threshold=-1",
        "drift_spike_threshold=nan",
    ] {
        assert_eq!(server.get(&format!("/admin/anomalies?{bad}")).status, 422, "{bad}");
    }
}

#[test]
fn a_storm_of_triggers_is_found() {
    let server = Server::start(&[]);
    server.post("/triggers", &json!({ "name": "p", "example_text": "pump" })).expect(200);
    let node = server.create(&json!({ "classes": ["Doc"], "props": { "text": "pump 0" },
        "triggers": [{ "name": "p", "threshold": -1 }] }));
    for n in 1..4 {
        let to = json!({ "props": { "text": format!("pump {n}") } });
        server.put(&format!("/nodes/{node}"), &to).expect(200);
    }
    let storms = Request::get("/admin/anomalies?types=trigger_storm&trigger_storm_threshold=3");
    let answer = server.until(&storms, |answer| answer.expect(200)["summary"]["total"] == 1);
    let storm = answer.expect(200)["anomalies"]["trigger_storm"][0].clone();
    assert_eq!(storm["event_count"], 4);
    assert_eq!(storm["recent_events"].as_array().map(Vec::len), Some(4));
    assert_eq!(storm["recent_events"][0]["payload"]["trigger"], "p");
    assert_eq!(storm["event_threshold"], 3);
}
