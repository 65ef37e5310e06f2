//! Patterns, and nodes that listen for them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use super::{NOBODY, text_of};
use crate::common::token::{JWT_ENV, token};
use crate::common::{Options, Request, Server};

fn pattern(server: &Server, name: &str, example: &str) {
    server.post("/triggers", &json!({ "name": name, "example_text": example })).expect(200);
}

/// A node that listens for `pump`.
fn listening(text: &str) -> Value {
    json!({ "classes": ["Doc"], "props": { "text": text },
        "triggers": [{ "name": "pump", "threshold": 0.8 }] })
}

/// Waits until a node has fired so often; its events, newest first.
fn fired(server: &Server, node: &str, times: usize) -> Vec<Value> {
    let events = Request::get(format!("/events?node_id={node}&event_type=trigger_fired"));
    let answer = server.until(&events, |answer| answer.expect(200)["count"] == times);
    answer.expect(200)["events"].as_array().expect("events").clone()
}

/// What Prometheus says of a series, 0 if it is not there.
fn metric(server: &Server, series: &str) -> f64 {
    let text = server.get("/prometheus").text().to_owned();
    let line = text.lines().find_map(|line| line.strip_prefix(series));
    line.map_or(0.0, |value| value.trim().parse().expect("a number"))
}

#[test]
fn a_trigger_fires_when_its_node_or_its_pattern_comes() {
    let server = Server::start(&[]);
    pattern(&server, "pump", "the pump is leaking oil");
    let node = server.create(&listening("the pump is leaking oil"));
    let events = fired(&server, &node, 1);
    assert_eq!(events[0]["type"], "trigger_fired");
    assert_eq!(events[0]["payload"]["trigger"], "pump");
    assert!(events[0]["payload"]["similarity"].as_f64().unwrap() > 0.99);
    assert_eq!(events[0]["actor_id"], "trigger_engine");
    assert_eq!(events[0]["actor_type"], "trigger");
    let targeted = "activekg_triggers_fired_total{mode=\"targeted\",pattern=\"pump\"}";
    assert_eq!(metric(&server, targeted), 1.0);

    // The same text again is no news; another one is.
    server.send(&Request::new("POST", format!("/nodes/{node}/refresh"))).expect(200);
    server
        .put(&format!("/nodes/{node}"), &json!({ "props": { "text": "the oil pump is leaking" } }))
        .expect(200);
    assert_eq!(fired(&server, &node, 2).len(), 2);

    // So is another example, for all nodes that listen.
    let other = server.create(&listening("blue sky over green hills"));
    pattern(&server, "pump", "green hills under a blue sky");
    assert_eq!(fired(&server, &other, 1)[0]["payload"]["trigger"], "pump");
    let full = "activekg_triggers_fired_total{mode=\"full\",pattern=\"pump\"}";
    assert_eq!(metric(&server, full), 1.0);
    let summary = server.get("/_admin/metrics_summary").expect(200);
    assert_eq!(summary["triggers"]["patterns_registered"], 1);
    assert!(summary["triggers"]["last_run"].is_string());
}

#[test]
fn what_fired_stays_fired_over_a_crash() {
    let mut server = Server::start(&[]);
    pattern(&server, "pump", "the pump is leaking oil");
    let node = server.create(&listening("the pump is leaking oil"));
    fired(&server, &node, 1);
    server.kill();
    server.start_again(&[]);
    server.send(&Request::new("POST", format!("/nodes/{node}/refresh"))).expect(200);
    pattern(&server, "later", "x");
    let queues = Request::get("/admin/queues");
    server.until(&queues, |answer| {
        let body = answer.expect(200);
        let mut queues = body["queues"].as_array().unwrap().iter();
        let checks =
            queues.find(|queue| queue["queue"] == "triggers").expect("the queue of checks");
        checks["depths"]["ready"] == 0 && checks["depths"]["leased"] == 0
    });
    assert_eq!(fired(&server, &node, 1).len(), 1);
}

#[test]
fn patterns_are_listed_by_name_changed_and_deleted() {
    let server = Server::start(&[]);
    pattern(&server, "b", "x");
    pattern(&server, "a", "x");
    let first = server.get("/triggers").expect(200);
    pattern(&server, "a", "y");
    let second = server.get("/triggers").expect(200);
    let names: Vec<_> = second["patterns"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
    assert_eq!(names, ["a", "b"]);
    assert_eq!(first["patterns"][0]["created_at"], second["patterns"][0]["created_at"]);
    assert_ne!(first["patterns"][0]["updated_at"], second["patterns"][0]["updated_at"]);
    assert_eq!(second["patterns"][0].get("example_text"), None);
    let gone = server.delete("/triggers/a").expect(200);
    assert_eq!(gone, json!({ "status": "deleted", "name": "a" }));
    assert_eq!(server.delete("/triggers/a").expect_detail(404), "Pattern not found: a");
    assert_eq!(server.get("/triggers").expect(200)["count"], 1);
}

#[test]
fn names_may_hold_what_paths_cannot() {
    let server = Server::start(&[]);
    pattern(&server, "café/ü", "x");
    let gone = server.delete("/triggers/caf%C3%A9%2F%C3%BC").expect(200);
    assert_eq!(gone["name"], "café/ü");
}

#[test]
fn bad_patterns_are_refused_and_change_nothing() {
    let server = Server::start(&[]);
    for (body, status) in [
        (json!({}), 400),
        (json!({ "name": "a" }), 400),
        (json!({ "name": "", "example_text": "x" }), 400),
        (json!({ "name": " ", "example_text": "x" }), 400),
        (json!({ "name": "a", "example_text": "" }), 400),
        (json!({ "name": 5, "example_text": "x" }), 422),
        (json!({ "name": "a", "example_text": 5 }), 422),
        (json!({ "name": "a", "example_text": ["x"] }), 422),
        (json!({ "name": "a", "example_text": "x", "description": 1 }), 422),
        (json!({ "name": "a".repeat(201), "example_text": "x" }), 422),
        (json!({ "name": "a\0", "example_text": "x" }), 422),
        (json!([]), 422),
        (json!("x"), 422),
    ] {
        assert_eq!(server.post("/triggers", &body).status, status, "{body}");
    }
    assert_eq!(server.send(&Request::new("POST", "/triggers")).status, 422);
    assert_eq!(server.get("/triggers").expect(200)["count"], 0);
    assert_eq!(server.get("/triggers/a").status, 405);
}

#[test]
fn tenants_do_not_see_or_touch_each_others_patterns() {
    let server = Options::new(&JWT_ENV).start();
    let ours = |request: Request| server.send(&request.bearer(&token("t1", &[])));
    let theirs = |request: Request| server.send(&request.bearer(&token("t2", &[])));
    let body = json!({ "name": "pump", "example_text": "the pump is leaking oil" });
    ours(Request::post("/triggers", &body)).expect(200);
    assert_eq!(theirs(Request::get("/triggers")).expect(200)["count"], 0);
    assert_eq!(theirs(Request::delete("/triggers/pump")).status, 404);
    let node = theirs(Request::post("/nodes", &listening("the pump is leaking oil"))).expect(200);
    let other = json!({ "name": "pump", "example_text": "green hills" });
    theirs(Request::post("/triggers", &other)).expect(200);
    assert_eq!(ours(Request::get("/triggers")).expect(200)["count"], 1);
    theirs(Request::delete("/triggers/pump")).expect(200);
    assert_eq!(ours(Request::get("/triggers")).expect(200)["count"], 1);
    let events = format!("/events?node_id={}", text_of(&node["id"]));
    assert_eq!(theirs(Request::get(events)).expect(200)["count"], 0);
    assert_eq!(server.get("/triggers").status, 401);
    assert_eq!(theirs(Request::get(format!("/events?node_id={NOBODY}"))).expect(200)["count"], 0);
}

/// What a receiver got: the head of the request and its body.
type Received = (String, String);

/// A receiver of deliveries that answers with these statuses, the last one for ever.
fn receiver(statuses: &'static [u16]) -> (SocketAddr, Receiver<Received>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let (tell, told) = channel();
    thread::spawn(move || {
        for (n, connection) in listener.incoming().map_while(Result::ok).enumerate() {
            let mut reader = BufReader::new(connection);
            let (mut head, mut length) = (String::new(), 0);
            while reader.read_line(&mut head).is_ok_and(|n| n > 2) {
                let last = head.lines().last().unwrap_or_default().to_ascii_lowercase();
                if let Some(value) = last.strip_prefix("content-length: ") {
                    length = value.parse().expect("a length");
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).expect("a body");
            let status = statuses[n.min(statuses.len() - 1)];
            let answer =
                format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            reader.get_mut().write_all(answer.as_bytes()).expect("an answer");
            let _ = tell.send((head, String::from_utf8(body).expect("text")));
        }
    });
    (addr, told)
}

fn header(head: &str, name: &str) -> String {
    let line = head.lines().find_map(|line| line.strip_prefix(&format!("{name}: ")));
    line.unwrap_or_else(|| panic!("no {name} in {head}")).to_owned()
}

#[test]
fn another_program_is_told_with_a_signature() {
    const SECRET: &str = "a secret of enough characters";
    let (addr, told) = receiver(&[500, 200]);
    let url = format!("http://{addr}/hook");
    let server =
        Server::start(&[("TRIGGER_WEBHOOK_URL", &url), ("TRIGGER_WEBHOOK_SECRET", SECRET)]);
    pattern(&server, "pump", "the pump is leaking oil");
    let node = server.create(&listening("the pump is leaking oil"));
    let events = fired(&server, &node, 1);
    let (first, _) = told.recv().expect("a first try");
    // The first answer was no success, so it comes again with the same id.
    let (head, body) = told.recv().expect("a second try");
    assert_eq!(header(&head, "webhook-id"), header(&first, "webhook-id"));
    assert!(head.starts_with("POST /hook HTTP/1.1"), "{head}");
    let id = header(&head, "webhook-id");
    assert_eq!(events[0]["id"], id.as_str());
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).expect("a key");
    mac.update(format!("{id}.{}.{body}", header(&head, "webhook-timestamp")).as_bytes());
    let expected = format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()));
    assert_eq!(header(&head, "webhook-signature"), expected);
    let body: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(body["type"], "trigger_fired");
    assert_eq!(body["data"]["node_id"], node.as_str());
    assert_eq!(body["data"]["tenant_id"], "default");
    assert_eq!(body["data"]["trigger"], "pump");
}

#[test]
fn a_receiver_that_wants_no_more_is_left_alone() {
    let (addr, told) = receiver(&[410]);
    let url = format!("http://{addr}/");
    let secret = ("TRIGGER_WEBHOOK_SECRET", "a secret of enough characters");
    let server = Server::start(&[("TRIGGER_WEBHOOK_URL", &url), secret]);
    pattern(&server, "pump", "the pump is leaking oil");
    let node = server.create(&listening("the pump is leaking oil"));
    told.recv().expect("one try");
    let dead = Request::get("/admin/queues/trigger_webhooks/dead");
    let answer = server.until(&dead, |answer| answer.expect(200)["depth"] == 1);
    let letter = &answer.expect(200)["items"][0];
    assert_eq!(letter["reason"], "permanent", "{letter}");
    assert_eq!(letter["item"]["node_id"], node.as_str(), "{letter}");
}
