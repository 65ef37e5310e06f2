//! The vector indexes, and the store as a database.

use serde_json::{Value, json};

use super::{doc, found};
use crate::common::{Request, Server};

const HNSW: &str = "idx_nodes_embedding_hnsw_cos";
const LISTS: &str = "idx_nodes_embedding_ivfflat_cos";

fn act(server: &Server, action: &str, types: &[&str]) -> Value {
    let body = json!({ "action": action, "types": types, "metric": "cosine" });
    server.post("/admin/indexes", &body).expect(200)
}

fn answer(action: &str, requested: &[&str], existing: &[&str], rest: [&[&str]; 2]) -> Value {
    let [created, dropped] = rest;
    json!({
        "action": action,
        "metric": "cosine",
        "requested": requested,
        "existing": existing,
        "created": created,
        "dropped": dropped,
    })
}

#[test]
fn indexes_come_and_go_and_searches_find_the_same() {
    let server = Server::start(&[("PGVECTOR_INDEXES", "ivfflat,hnsw")]);
    let pump = server.create(&doc("the pump leaks at the seal"));
    server.create(&doc("tulips need water"));
    let finds = || assert_eq!(found(&server, "pump seal")[0], pump);
    let types = ["ivfflat", "hnsw"];
    let both = [HNSW, LISTS];

    finds();
    let listed = answer("list", &types, &both, [&[], &[]]);
    assert_eq!(server.get("/admin/indexes").expect(200), listed);
    assert_eq!(server.post("/admin/indexes", &json!({ "action": "list" })).expect(200), listed);
    assert_eq!(act(&server, "ensure", &types), answer("ensure", &types, &both, [&[], &[]]));

    assert_eq!(
        act(&server, "drop", &["hnsw"]),
        answer("drop", &["hnsw"], &[LISTS], [&[], &[HNSW]])
    );
    finds();
    assert_eq!(
        act(&server, "drop", &["hnsw", "ivfflat", "hnsw"]),
        answer("drop", &["hnsw", "ivfflat"], &[], [&[], &[LISTS]])
    );
    finds();
    assert_eq!(act(&server, "drop", &["hnsw"]), answer("drop", &["hnsw"], &[], [&[], &[]]));

    assert_eq!(
        act(&server, "ensure", &["hnsw"]),
        answer("ensure", &["hnsw"], &[HNSW], [&[HNSW], &[]])
    );
    assert_eq!(act(&server, "ensure", &["hnsw"]), answer("ensure", &["hnsw"], &[HNSW], [&[], &[]]));
    assert_eq!(
        act(&server, "rebuild", &["ivfflat"]),
        answer("rebuild", &["ivfflat"], &both, [&[LISTS], &[]])
    );
    finds();
    let text = server.get("/prometheus").text().to_owned();
    let duplicates = r#"activekg_vector_index_build_seconds_count{metric="cosine",result="duplicate",type="hnsw"} 2"#;
    assert!(text.contains(duplicates), "{text}");
}

#[test]
fn a_restart_keeps_what_was_ensured_and_dropped() {
    let mut server = Server::start(&[]);
    let existing = |server: &Server| server.get("/admin/indexes").expect(200)["existing"].clone();
    assert_eq!(existing(&server), json!([HNSW]), "as the settings say");
    act(&server, "drop", &["hnsw"]);
    server.terminate();
    server.start_again(&[("PGVECTOR_INDEXES", "hnsw")]);
    assert_eq!(existing(&server), json!([]));
    assert_eq!(server.get("/admin/indexes").expect(200)["requested"], json!(["hnsw"]));

    // Nobody spoke of the other type, so the settings decide.
    server.kill();
    server.start_again(&[("PGVECTOR_INDEXES", "hnsw,ivfflat")]);
    assert_eq!(existing(&server), json!([LISTS]));
    server.kill();
    server.start_again(&[("AUTO_INDEX_ON_STARTUP", "false")]);
    assert_eq!(existing(&server), json!([]));
    act(&server, "ensure", &["hnsw"]);
    server.kill();
    server.start_again(&[]);
    assert_eq!(existing(&server), json!([HNSW]));
}

#[test]
fn wrong_words_are_refused_and_change_nothing() {
    let server = Server::start(&[]);
    let detail = |body: Value| server.post("/admin/indexes", &body).expect_detail(400);
    assert_eq!(
        detail(json!({ "action": "explode" })),
        "Unknown action \"explode\": use list, ensure, rebuild or drop"
    );
    assert_eq!(
        detail(json!({ "action": "drop", "types": ["hnsw", "diskann"] })),
        "Unknown index type \"diskann\": use hnsw or ivfflat"
    );
    assert_eq!(
        detail(json!({ "action": "ensure", "metric": "hamming" })),
        "Unknown metric \"hamming\": use cosine, l2 or ip"
    );
    assert!(detail(json!({ "action": "drop", "metric": "l2" })).contains("SEARCH_DISTANCE=l2"));
    for bad in [
        json!({}),
        json!({ "action": 1 }),
        json!({ "action": "drop", "types": [] }),
        json!({ "action": "drop", "types": "hnsw" }),
        json!({ "action": "drop", "types": [7] }),
        json!({ "action": "drop", "types": vec!["hnsw"; 11] }),
        json!([]),
    ] {
        assert_eq!(server.post("/admin/indexes", &bad).status, 422, "{bad}");
    }
    assert_eq!(server.send(&Request::new("POST", "/admin/indexes")).status, 422);
    assert_eq!(server.get("/admin/indexes").expect(200)["existing"], json!([HNSW]));
}

#[test]
fn an_explanation_names_the_indexes() {
    let server = Server::start(&[
        ("PGVECTOR_INDEX", "ivfflat"),
        ("SEARCH_DISTANCE", "l2"),
        ("IVFFLAT_PROBES", "7"),
        ("HNSW_EF_SEARCH", "90"),
    ]);
    let config = |server: &Server| {
        server.get("/debug/search_explain?query=x").expect(200)["ann_config"].clone()
    };
    let mut expected = json!({
        "metric": "l2",
        "operator": "<->",
        "requested_indexes": ["ivfflat"],
        "existing_indexes": ["idx_nodes_embedding_ivfflat_l2"],
        "hnsw_ef_search": 90,
        "ivfflat_probes": 7,
    });
    assert_eq!(config(&server), expected);
    server.post("/admin/indexes", &json!({ "action": "drop" })).expect(200);
    expected["existing_indexes"] = json!([]);
    assert_eq!(config(&server), expected);
}

#[test]
fn the_store_answers_as_a_database() {
    let server = Server::start(&[]);
    let status = server.get("/admin/db_status").expect(200);
    assert_eq!((&status["status"], &status["fault"]), (&json!("ok"), &Value::Null));
    for table in ["nodes", "edges", "events", "embedding_history", "node_versions", "patterns"] {
        assert_eq!(status["tables"][table], true, "{table}");
        assert_eq!(status["rls_policies"][table]["enabled"], true, "{table}");
        assert!(status["columns"][table].as_array().is_some_and(|columns| !columns.is_empty()));
    }
    assert_eq!(status["indexes"]["vector_index"], true);
    assert_eq!(
        status["indexes"]["vector"],
        json!([
            { "name": HNSW, "type": "hnsw", "metric": "cosine", "state": "idle" },
            { "name": LISTS, "type": "ivfflat", "metric": "cosine", "state": "off" },
        ])
    );
    act(&server, "drop", &["hnsw"]);
    let status = server.get("/admin/db_status").expect(200);
    assert_eq!(status["indexes"]["vector_index"], false);

    for created in [json!([HNSW]), json!([])] {
        let migrated = server.send(&Request::new("POST", "/admin/migrate")).expect(200);
        assert_eq!(migrated["status"], "ok");
        assert_eq!(migrated["indexes"]["created"], created);
        assert_eq!(migrated["indexes"]["existing"], json!([HNSW]));
    }
}
