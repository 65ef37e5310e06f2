//! Creating, reading, listing and changing nodes.

use serde_json::{Value, json};

use super::{NOBODY, doc, found, text_of};
use crate::common::{Request, Server};

#[test]
fn a_put_replaces_members_whole_and_leaves_the_rest() {
    let server = Server::start(&[]);
    let id = server.create(&json!({
        "classes": ["Doc"], "props": { "text": "old words", "k": 1 }, "metadata": { "site": "A" },
    }));
    let path = format!("/nodes/{id}");
    let before = server.get(&path).expect(200);

    let after =
        server.put(&path, &json!({ "classes": ["Doc", "Manual"], "props": null })).expect(200);
    assert_eq!(after["classes"], json!(["Doc", "Manual"]));
    for kept in
        ["props", "metadata", "payload_ref", "refresh_policy", "triggers", "embedding_status"]
    {
        assert_eq!(after[kept], before[kept], "{kept}");
    }
    assert_eq!((&before["version"], &after["version"]), (&json!(1), &json!(2)));
    assert_eq!(server.get(&path).expect(200), after);

    let changes = json!({
        "metadata": { "site": "B" }, "refresh_policy": { "interval": "5m" },
        "triggers": ["p1"], "payload_ref": null,
    });
    let after = server.put(&path, &changes).expect(200);
    assert_eq!(after["metadata"], json!({ "site": "B" }));
    assert_eq!(after["refresh_policy"], json!({ "interval": "5m" }));
    assert_eq!(after["triggers"], json!([{ "name": "p1", "threshold": 0.85 }]));
    assert_eq!(after["version"], 3);
}

#[test]
fn a_put_with_new_text_embeds_and_indexes_it() {
    let server = Server::start(&[]);
    let id = server.create(&doc("the quokka is a small marsupial"));
    let path = format!("/nodes/{id}");
    let first = server.get(&path).expect(200);
    assert_eq!(found(&server, "quokka"), [id.as_str()]);

    let changed =
        server.put(&path, &json!({ "props": { "text": "a gearbox needs oil" } })).expect(200);
    assert_eq!(changed["embedding_status"], "ready");
    assert_ne!(changed["props"]["content_hash"], first["props"]["content_hash"]);
    let by_words = |query: &str| {
        server.post("/search", &json!({ "query": query, "mode": "bm25" })).expect(200)
    };
    assert_eq!(by_words("gearbox")["results"][0]["id"], id.as_str());
    assert_eq!(by_words("quokka")["count"], 0);

    // The vector moved far, so the change is an event and a step of the history.
    let events = server.get(&format!("/events?node_id={id}")).expect(200);
    assert_eq!(events["events"][0]["type"], "refreshed");
    let drift = events["events"][0]["payload"]["drift_score"].as_f64().expect("a number");
    assert!(drift > 0.5, "{drift}");
    let versions = server.get(&format!("/nodes/{id}/versions")).expect(200);
    assert_eq!(versions["count"], 2);
    assert_eq!(versions["versions"][0]["drift_score"], drift);
    assert_eq!(versions["versions"][1]["drift_score"], 0.0);
}

#[test]
fn a_bad_put_changes_nothing() {
    let server = Server::start(&[]);
    let id = server.create(&doc("steady"));
    let path = format!("/nodes/{id}");
    let before = server.get(&path).expect(200);
    for bad in [
        json!({ "classes": [] }),
        json!({ "props": [] }),
        json!({ "props": { "text": "new" }, "metadata": 5 }),
        json!({ "refresh_policy": { "interval": "soon" } }),
        json!({ "triggers": [1] }),
        json!({ "payload_ref": "x".repeat(501) }),
        json!([]),
    ] {
        assert_eq!(server.put(&path, &bad).status, 422, "{bad}");
    }
    assert_eq!(
        server.put(&format!("/nodes/{NOBODY}"), &json!({})).expect_detail(404),
        "Node not found"
    );
    assert_eq!(server.put("/nodes/xyz", &json!({})).expect_detail(404), "Node not found");
    assert_eq!(server.get(&path).expect(200), before);
}

#[test]
fn an_external_id_is_taken_once_in_a_tenant() {
    let server = Server::start(&[]);
    let node = json!({ "classes": ["Doc"], "props": { "external_id": "e 1/ü", "text": "first" } });
    let first = server.create(&node);
    let other = server.create(&doc("other"));

    let taken = json!({ "detail": "external_id already exists", "id": first });
    assert_eq!(server.post("/nodes", &node).expect(409), taken);
    assert_eq!(
        server
            .put(&format!("/nodes/{other}"), &json!({ "props": { "external_id": "e 1/ü" } }))
            .expect(409),
        taken
    );
    let batch = server.post("/nodes/batch", &json!({ "nodes": [doc("x"), node] })).expect(200);
    assert_eq!((&batch["created"], &batch["failed"]), (&json!(1), &json!(1)));
    assert_eq!(
        batch["results"][1],
        json!({ "error": "external_id already exists", "tenant_id": "default" })
    );
    let twins = json!({ "classes": ["Doc"], "props": { "external_id": "twin" } });
    let batch = server.post("/nodes/batch", &json!({ "nodes": [twins, twins] })).expect(200);
    assert_eq!((&batch["created"], &batch["failed"]), (&json!(1), &json!(1)));

    let mut elsewhere = node.clone();
    elsewhere["tenant_id"] = "acme".into();
    assert_ne!(server.create(&elsewhere), first);

    let path = "/nodes/by-external-id?external_id=e%201%2F%C3%BC";
    let by_name = server.get(path).expect(200);
    assert_eq!((&by_name["id"], &by_name["tenant_id"]), (&json!(first), &json!("default")));
    assert_ne!(server.get(&format!("{path}&tenant_id=acme")).expect(200)["id"], first);
    assert_eq!(
        server.get("/nodes/by-external-id?external_id=nobody").expect_detail(404),
        "Node not found"
    );
    let (kind, loc, _) = server.get("/nodes/by-external-id").expect_fault();
    assert_eq!((kind.as_str(), loc), ("missing", json!(["query", "external_id"])));

    // Given up by a PUT, it is free again.
    server.put(&format!("/nodes/{first}"), &json!({ "props": { "text": "first" } })).expect(200);
    let second = server.create(&node);
    assert_eq!(server.get(path).expect(200)["id"], second);
}

#[test]
fn lists_are_paged_by_id_and_filtered() {
    let server = Server::start(&[]);
    let mut all: Vec<String> = (0..7)
        .map(|n| server.create(&json!({ "classes": [if n % 2 == 0 { "Even" } else { "Odd" }], "props": { "text": format!("number {n}") } })))
        .collect();
    let bare = server.create(&json!({ "classes": ["Bare", "Odd"], "props": { "n": 7 } }));
    all.push(bare.clone());
    all.sort();

    let list = |query: &str| {
        let body = server.get(&format!("/nodes?{query}")).expect(200);
        let nodes = body["nodes"].as_array().expect("a list of nodes");
        (nodes.iter().map(|node| text_of(&node["id"])).collect::<Vec<_>>(), body["total"].clone())
    };
    assert_eq!(list(""), (all.clone(), json!(8)));
    assert_eq!(list("limit=3&offset=2"), (all[2..5].to_vec(), json!(8)));
    assert_eq!(list("limit=3&page=3"), (all[6..].to_vec(), json!(8)));
    assert_eq!(list("has_embedding=false"), (vec![bare.clone()], json!(1)));
    assert_eq!(list("has_embedding=true").1, 7);
    assert_eq!(list("classes=Odd").1, 4);
    assert_eq!(list("classes=Bare,Even&limit=1").1, 5);
    assert_eq!(list("classes=Nothing"), (vec![], json!(0)));

    assert_eq!(server.get("/nodes?limit=100000").expect(200)["limit"], 1000, "read as the cap");
    for bad in ["limit=-1", "offset=-1", "limit=x", "has_embedding=perhaps", "page=0"] {
        assert_eq!(server.get(&format!("/nodes?{bad}")).status, 422, "{bad}");
    }
    let with_props = server.get("/nodes?include=props&has_embedding=false").expect(200);
    assert_eq!(with_props["nodes"][0]["props"], json!({ "n": 7 }));
    assert_eq!(server.get("/nodes?limit=1").expect(200)["nodes"][0].get("props"), None);
}

#[test]
fn batches_keep_their_order_and_their_limit() {
    let server = Server::start(&[("NODE_BATCH_MAX", "5")]);
    let nodes = |n: usize| -> Vec<Value> {
        (0..n).map(|n| doc(&format!("of a batch, number {n}"))).collect()
    };
    let batch = server.post("/nodes/batch", &json!({ "nodes": nodes(5) })).expect(200);
    assert_eq!((&batch["created"], &batch["failed"]), (&json!(5), &json!(0)));
    for (n, result) in batch["results"].as_array().expect("results").iter().enumerate() {
        let node = server.get(&format!("/nodes/{}", text_of(&result["id"]))).expect(200);
        assert_eq!(node["props"]["text"], format!("of a batch, number {n}"));
        assert_eq!(node["embedding_status"], "ready");
    }
    let refused = server.post("/nodes/batch", &json!({ "nodes": nodes(6) }));
    assert_eq!(refused.expect_detail(400), "Batch too large (max 5)");
    let mut bad = nodes(3);
    bad[1]["classes"] = json!([]);
    let (kind, loc, _) = server.post("/nodes/batch", &json!({ "nodes": bad })).expect_fault();
    assert_eq!((kind.as_str(), loc), ("too_short", json!(["body", "nodes", 1, "classes"])));
    assert_eq!(server.get("/nodes").expect(200)["total"], 5);
}

#[test]
fn refresh_policies_are_checked_when_they_are_written() {
    let server = Server::start(&[]);
    let with = |policy: Value| {
        let node = json!({ "classes": ["Doc"], "props": {}, "refresh_policy": policy });
        server.post("/nodes", &node).status
    };
    for good in [
        json!({ "interval": "5m" }),
        json!({ "interval": "12H" }),
        json!({ "interval": "minute" }),
        json!({ "cron": "*/10 * * * *" }),
        json!({ "cron": "@hourly" }),
        json!({ "cron": "no cron", "interval": "1d" }),
        json!({ "drift_threshold": 0.2 }),
        json!({ "anything": "else" }),
    ] {
        assert_eq!(with(good.clone()), 200, "{good}");
    }
    for bad in [
        json!({ "interval": 5 }),
        json!({ "interval": "5s" }),
        json!({ "interval": "5w" }),
        json!({ "interval": "" }),
        json!({ "cron": 1 }),
        json!({ "cron": "no cron" }),
        json!({ "drift_threshold": "high" }),
        json!([]),
    ] {
        assert_eq!(with(bad.clone()), 422, "{bad}");
    }
}

#[test]
fn text_comes_from_the_first_prop_that_has_some() {
    let server = Server::start(&[]);
    for (props, word) in [
        (json!({ "text": "", "content": "armadillo" }), "armadillo"),
        (json!({ "description": "platypus" }), "platypus"),
        (json!({ "title": "wombat", "body": "digs" }), "wombat"),
    ] {
        let id = server.create(&json!({ "classes": ["Doc"], "props": props }));
        assert_eq!(found(&server, word).first(), Some(&id), "{word}");
    }
    let id = server.create(&json!({ "classes": ["Doc"], "props": { "text": "inline" }, "payload_ref": "/etc/hostname" }));
    let node = server.get(&format!("/nodes/{id}")).expect(200);
    assert_eq!(node["embedding_status"], "failed");
    assert_eq!(node["embedding_error"], "payload_ref not allowed");
}

#[test]
fn answers_repeat_what_was_stored_to_the_digit() {
    let server = Server::start(&[]);
    let props = r#"{"big":123456789012345678901234567890,"neg":-9223372036854775808,"exp":1.5e300,"s":"\u007f é 🚀 \" \\ /","deep":{"a":[{},[],null,true]}}"#;
    let body = format!(r#"{{"classes":["Num"],"props":{props}}}"#);
    let created = server.send(&Request::new("POST", "/nodes").raw(body)).expect(200);
    let answer = server.get(&format!("/nodes/{}", text_of(&created["id"])));
    let stored = &answer.expect(200)["props"];
    assert_eq!(stored, &crate::common::json::parse(props).unwrap());
    assert!(answer.text().contains("123456789012345678901234567890"));
}
