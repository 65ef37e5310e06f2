//! Deleting nodes: softly, and for good.

use serde_json::{Value, json};

use super::{NOBODY, doc, found, text_of};
use crate::common::Server;

#[test]
fn a_soft_deleted_node_is_read_by_id_and_nowhere_else() {
    let server = Server::start(&[]);
    let id = server.create(&doc("the zeppelin lands at noon"));
    let other = server.create(&doc("the ferry leaves at noon"));
    server.post("/edges", &json!({ "src": other, "dst": id, "rel": "DERIVED_FROM" })).expect(200);
    let before = server.get(&format!("/nodes/{id}")).expect(200);
    assert_eq!(found(&server, "zeppelin noon").len(), 2);

    let path = format!("/nodes/{id}");
    let deleted = json!({ "id": id, "status": "deleted", "hard": false });
    assert_eq!(server.delete(&path).expect(200), deleted);
    assert_eq!(server.delete(&path).expect(200), deleted, "twice is once");

    let after = server.get(&path).expect(200);
    assert_eq!(after["classes"], json!(["Doc", "Deleted"]));
    assert_eq!(after["props"]["text"], before["props"]["text"]);
    let (at, until) = (&after["props"]["deleted_at"], &after["props"]["deletion_grace_until"]);
    assert!(text_of(at) < text_of(until), "{at} {until}");

    for mode in ["vector", "hybrid", "bm25"] {
        let search = json!({ "query": "zeppelin lands noon", "mode": mode });
        let hits = super::ids(&server.post("/search", &search));
        assert!(!hits.contains(&id), "{mode}: {hits:?}");
    }
    let list = server.get("/nodes").expect(200);
    assert_eq!((&list["total"], &list["nodes"][0]["id"]), (&json!(1), &json!(other)));
    assert_eq!(
        server.post(&format!("{path}/refresh"), &json!({})).expect_detail(404),
        "Node not found"
    );
    assert_eq!(server.get(&format!("/lineage/{other}")).expect(200)["ancestors"], json!([]));
    let answer =
        server.post("/ask", &json!({ "question": "When does the zeppelin land?" })).expect(200);
    let cited = answer["citations"].as_array().expect("citations");
    assert!(cited.iter().all(|citation| citation["node_id"] != id), "{answer}");
    assert!(!text_of(&answer["answer"]).contains("zeppelin lands"), "{answer}");
}

#[test]
fn a_node_written_as_deleted_is_deleted() {
    let server = Server::start(&[]);
    let born =
        server.create(&json!({ "classes": ["Doc", "Deleted"], "props": { "text": "stillborn" } }));
    let put = server.create(&doc("short life"));
    server.put(&format!("/nodes/{put}"), &json!({ "classes": ["Doc", "Deleted"] })).expect(200);
    for id in [&born, &put] {
        let node = server.get(&format!("/nodes/{id}")).expect(200);
        assert!(node["props"]["deletion_grace_until"].is_string(), "{node}");
    }
    assert_eq!(server.get("/nodes").expect(200)["total"], 0);
    assert_eq!(found(&server, "short life stillborn"), [""; 0]);

    // Without the class it is back.
    let path = format!("/nodes/{put}");
    let until = |node: &Value| node["props"]["deletion_grace_until"].as_str().map(str::to_owned);
    let first = until(&server.get(&path).expect(200)).expect("marks");
    server.put(&path, &json!({ "classes": ["Doc"] })).expect(200);
    assert_eq!(server.get("/nodes").expect(200)["total"], 1);
    assert_eq!(found(&server, "short life"), [put]);
    assert_eq!(until(&server.get(&path).expect(200)), None, "it is there");

    // Deleted again, it has its whole time again.
    server.delete(&path).expect(200);
    let second = until(&server.get(&path).expect(200)).expect("marks");
    assert!(second > first, "{second} {first}");
}

#[test]
fn a_hard_delete_leaves_nothing() {
    let server = Server::start(&[]);
    let node = json!({ "classes": ["Doc"], "props": { "text": "gone with the wind", "external_id": "g" }, "refresh_policy": { "drift_threshold": -1 } });
    let id = server.create(&node);
    let (child, parent) = (server.create(&doc("child")), server.create(&doc("parent")));
    for (src, dst) in [(&child, &id), (&id, &parent)] {
        server
            .post("/edges", &json!({ "src": src, "dst": dst, "rel": "DERIVED_FROM" }))
            .expect(200);
    }
    server
        .put(&format!("/nodes/{id}"), &json!({ "props": { "text": "gone", "external_id": "g" } }))
        .expect(200);
    let count = |path: String| server.get(&path).expect(200)["count"].clone();
    assert_ne!(count(format!("/events?node_id={id}")), 0);
    assert_ne!(count(format!("/nodes/{id}/versions")), 0);

    let path = format!("/nodes/{id}?hard=true");
    assert_eq!(
        server.delete(&path).expect(200),
        json!({ "id": id, "status": "deleted", "hard": true })
    );
    for again in [&path, &format!("/nodes/{id}")] {
        assert_eq!(server.delete(again).expect_detail(404), "Node not found");
    }
    assert_eq!(server.get(&format!("/nodes/{id}")).expect_detail(404), "Node not found");
    assert_eq!(count(format!("/events?node_id={id}")), 0);
    assert_eq!(count(format!("/nodes/{id}/versions")), 0);
    assert_eq!(server.get(&format!("/lineage/{child}")).expect(200)["ancestors"], json!([]));
    assert_eq!(server.get("/nodes").expect(200)["total"], 2);
    assert!(!found(&server, "gone with the wind").contains(&id));
    server.get("/nodes/by-external-id?external_id=g").expect(404);
    assert_ne!(server.create(&node), id);
}

#[test]
fn what_is_not_there_cannot_be_deleted() {
    let server = Server::start(&[]);
    for path in
        [format!("/nodes/{NOBODY}"), format!("/nodes/{NOBODY}?hard=true"), "/nodes/xyz".to_owned()]
    {
        assert_eq!(server.delete(&path).expect_detail(404), "Node not found", "{path}");
    }
    let id = server.create(&doc("stays"));
    let (kind, loc, _) = server.delete(&format!("/nodes/{id}?hard=perhaps")).expect_fault();
    assert_eq!((kind.as_str(), loc), ("bool_parsing", json!(["query", "hard"])));
    assert_eq!(server.get("/nodes").expect(200)["total"], 1);
}

#[test]
fn deleted_nodes_stay_deleted_over_a_restart() {
    let mut server = Server::start(&[]);
    let (soft, hard) = (server.create(&doc("soft ice")), server.create(&doc("hard rock")));
    server.delete(&format!("/nodes/{soft}")).expect(200);
    server.delete(&format!("/nodes/{hard}?hard=true")).expect(200);
    server.kill();
    server.start_again(&[]);
    assert_eq!(found(&server, "soft ice hard rock"), [""; 0]);
    assert_eq!(server.get("/nodes").expect(200)["nodes"], Value::Array(vec![]));
    server.get(&format!("/nodes/{soft}")).expect(200);
    server.get(&format!("/nodes/{hard}")).expect(404);
}
