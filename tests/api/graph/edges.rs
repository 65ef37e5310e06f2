//! Edges, lineage, events and versions.

use serde_json::json;

use super::{NOBODY, doc, text_of};
use crate::common::{Request, Server};

fn derive(server: &Server, src: &str, dst: &str) {
    server.post("/edges", &json!({ "src": src, "dst": dst, "rel": "DERIVED_FROM" })).expect(200);
}

/// Ids and depths of the ancestors.
fn ancestors(server: &Server, target: &str) -> Vec<(String, i64)> {
    let body = server.get(&format!("/lineage/{target}")).expect(200);
    let rows = body["ancestors"].as_array().expect("a list of ancestors");
    assert_eq!(body["depth"], rows.len());
    rows.iter().map(|row| (text_of(&row["id"]), row["depth"].as_i64().expect("a depth"))).collect()
}

#[test]
fn lineage_ends_in_cycles_and_joins_diamonds() {
    let server = Server::start(&[]);
    let node: Vec<String> = (0..5).map(|n| server.create(&doc(&format!("node {n}")))).collect();
    // 0 -> {1, 2} -> 3 -> 0, a way that is longer, and a loop.
    for (src, dst) in [(0, 1), (0, 2), (1, 3), (2, 3), (3, 0), (1, 2), (3, 3)] {
        derive(&server, &node[src], &node[dst]);
    }
    server
        .post("/edges", &json!({ "src": node[0], "dst": node[4], "rel": "MENTIONS" }))
        .expect(200);

    let mut nearest = [node[1].clone(), node[2].clone()];
    nearest.sort();
    let [first, second] = nearest;
    let expected = [(first, 1), (second, 1), (node[3].clone(), 2)];
    assert_eq!(ancestors(&server, &node[0]), expected);
    assert_eq!(ancestors(&server, &format!("{}?max_depth=50", node[0])), expected);
    assert_eq!(ancestors(&server, &format!("{}?max_depth=1", node[0])), expected[..2]);
    assert_eq!(ancestors(&server, &format!("{}?max_depth=0", node[0])), expected[..2], "as 1");
    assert_eq!(ancestors(&server, &format!("{}?max_depth=9999", node[0])), expected, "as 50");
    assert_eq!(ancestors(&server, &node[4]), []);
    assert_eq!(ancestors(&server, NOBODY), []);
}

#[test]
fn lineage_is_as_deep_as_asked() {
    let server = Server::start(&[("EMBEDDING_ASYNC", "true")]);
    let chain: Vec<String> = (0..60).map(|n| server.create(&doc(&format!("link {n}")))).collect();
    for pair in chain.windows(2) {
        derive(&server, &pair[0], &pair[1]);
    }
    assert_eq!(ancestors(&server, &chain[0]).len(), 5, "the default");
    let deep = ancestors(&server, &format!("{}?max_depth=1000", chain[0]));
    assert_eq!(deep.last(), Some(&(chain[50].clone(), 50)));
}

#[test]
fn an_edge_is_written_once() {
    let server = Server::start(&[]);
    let (a, b) = (server.create(&doc("a")), server.create(&doc("b")));
    let edge = json!({ "src": a, "dst": b, "rel": "R", "props": { "w": 1 } });
    server.post("/edges", &edge).expect(200);
    assert_eq!(server.post("/edges", &edge).expect_detail(409), "Edge already exists");
    server.post("/edges", &json!({ "src": b, "dst": a, "rel": "R" })).expect(200);
    server.post("/edges", &json!({ "src": a, "dst": b, "rel": "r" })).expect(200);
    for (src, dst) in [(&a, NOBODY), (&NOBODY.to_owned(), b.as_str())] {
        let dangling = server.post("/edges", &json!({ "src": src, "dst": dst, "rel": "R" }));
        assert_eq!(dangling.expect_detail(404), "Node not found");
    }
    for bad in [json!({ "rel": 1 }), json!({ "rel": "R", "props": [] }), json!({ "rel": " " })] {
        let mut edge = json!({ "src": a, "dst": b });
        edge.as_object_mut().unwrap().extend(bad.as_object().unwrap().clone());
        assert_eq!(server.post("/edges", &edge).status, 422, "{edge}");
    }
}

#[test]
fn events_come_newest_first_and_filtered() {
    let server = Server::start(&[]);
    let eager = json!({ "classes": ["Doc"], "props": { "text": "eager" }, "refresh_policy": { "drift_threshold": -1 } });
    let (a, b) = (server.create(&eager), server.create(&eager));
    let refreshed: Vec<String> = [&a, &b, &a]
        .iter()
        .map(|id| {
            text_of(
                &server.post(&format!("/nodes/{id}/refresh"), &json!({})).expect(200)["event_id"],
            )
        })
        .collect();

    let events = |query: &str| {
        let body = server.get(&format!("/events?{query}")).expect(200);
        let events = body["events"].as_array().expect("a list of events").clone();
        assert_eq!(body["count"], events.len());
        events
    };
    let all = events("");
    let newest: Vec<String> = all.iter().take(3).map(|event| text_of(&event["id"])).collect();
    assert_eq!(newest, refreshed.iter().rev().cloned().collect::<Vec<_>>());
    assert_eq!(all.len(), 5, "the two creations are events as well");
    assert!(
        all.windows(2)
            .all(|pair| text_of(&pair[0]["created_at"]) >= text_of(&pair[1]["created_at"]))
    );
    assert_eq!((&all[0]["actor_id"], &all[0]["actor_type"]), (&json!("dev_user"), &json!("user")));
    assert_eq!(all[0]["payload"]["manual_trigger"], true);
    assert_eq!(all[4]["payload"]["auto_embed"], true);

    assert_eq!(events("limit=2").len(), 2);
    assert_eq!(events(&format!("node_id={a}")).len(), 3);
    assert_eq!(
        events(&format!("node_id={b}&event_type=refreshed&limit=1"))[0]["id"],
        refreshed[1].as_str()
    );
    assert_eq!(events("event_type=trigger_fired").len(), 0);
    assert_eq!(events("node_id=xyz").len(), 0);
    assert_eq!(events("tenant_id=acme").len(), 0);
    assert_eq!(events("limit=100000").len(), 5, "read as the cap");
}

#[test]
fn versions_come_newest_first() {
    let server = Server::start(&[]);
    let id = server.create(&doc("version one"));
    for _ in 0..3 {
        server.send(&Request::new("POST", format!("/nodes/{id}/refresh"))).expect(200);
    }
    let versions = |query: &str| {
        let body = server.get(&format!("/nodes/{id}/versions{query}")).expect(200);
        let rows = body["versions"].as_array().expect("a list of versions").clone();
        assert_eq!((&body["node_id"], &body["count"]), (&json!(id), &json!(rows.len())));
        rows
    };
    let all = versions("");
    assert_eq!(all.len(), 4);
    assert!(
        all.windows(2)
            .all(|pair| text_of(&pair[0]["created_at"]) > text_of(&pair[1]["created_at"]))
    );
    assert!((0..).zip(&all).all(|(index, row)| row["version_index"] == index));
    assert_eq!(versions("?limit=2"), all[..2]);
    for bad in ["0", "101", "-1"] {
        let refused = server.get(&format!("/nodes/{id}/versions?limit={bad}"));
        assert_eq!(refused.expect_detail(400), "Limit must be between 1 and 100");
    }
    assert_eq!(server.get(&format!("/nodes/{id}/versions?limit=x")).status, 422);
}
