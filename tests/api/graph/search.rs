//! Searching: by meaning, by words, under filters.

use serde_json::{Value, json};

use super::{doc, found, ids, text_of};
use crate::common::Server;

/// A corpus of few words, so that what must be found is plain.
fn corpus(server: &Server) -> Vec<String> {
    [
        json!({ "classes": ["Manual"], "props": { "title": "Pump", "text": "The pump seal is checked every week." },
                "metadata": { "site": "A", "year": 2024, "ok": true, "tags": ["seal", "pump"], "spec": { "kind": "m", "rev": 3 }, "a.b": 1 } }),
        json!({ "classes": ["Manual", "Old"], "props": { "title": "Valve", "text": "Order a repair kit for the gate valve." },
                "metadata": { "site": "B", "year": 2023.0, "ok": false, "tags": ["valve"], "spec": { "kind": "m", "rev": 1 } } }),
        json!({ "classes": ["Note"], "props": { "text": "A cat sleeps on the warm roof." }, "metadata": { "year": "2024", "none": null } }),
    ]
    .iter()
    .map(|node| server.create(node))
    .collect()
}

fn filtered(server: &Server, filter: &str, value: Value) -> Vec<String> {
    let mut search = json!({ "query": "pump seal valve cat", "top_k": 10 });
    search[filter] = value;
    let mut hits = ids(&server.post("/search", &search));
    search["use_hybrid"] = true.into();
    let mut hybrid = ids(&server.post("/search", &search));
    hits.sort();
    hybrid.sort();
    assert_eq!(hits, hybrid, "{search}");
    hits
}

#[test]
fn metadata_filters_compare_values_by_type() {
    let server = Server::start(&[]);
    let node = corpus(&server);
    let mut sorted = node.clone();
    sorted.sort();
    for (filter, expected) in [
        (json!({}), sorted.as_slice()),
        (json!({ "site": "A" }), &node[0..1]),
        (json!({ "site": "A", "year": 2024 }), &node[0..1]),
        (json!({ "site": "B", "year": 2024 }), &[]),
        (json!({ "ok": true }), &node[0..1]),
        (json!({ "ok": false }), &node[1..2]),
        (json!({ "year": 2023 }), &node[1..2]),
        (json!({ "spec": { "rev": 1, "kind": "m" } }), &node[1..2]),
        (json!({ "spec": { "rev": 1 } }), &[]),
        (json!({ "a.b": 1 }), &node[0..1]),
        (json!({ "spec.rev": 1 }), &[]),
        (json!({ "absent": "x" }), &[]),
    ] {
        assert_eq!(filtered(&server, "metadata_filters", filter.clone()), expected, "{filter}");
    }
}

#[test]
fn compound_filters_are_containment() {
    let server = Server::start(&[]);
    let node = corpus(&server);
    let mut sorted = node.clone();
    sorted.sort();
    for (filter, expected) in [
        (json!({}), sorted.as_slice()),
        (json!({ "spec": { "kind": "m" }, "site": "B" }), &node[1..2]),
        (json!({ "spec": { "rev": 3.0 } }), &node[0..1]),
        (json!({ "tags": ["pump"] }), &node[0..1]),
        (json!({ "tags": ["pump", "seal"] }), &node[0..1]),
        (json!({ "tags": ["pump", "valve"] }), &[]),
        (json!({ "tags": [] }), &sorted_of(&node[0..2])),
        (json!({ "tags": "pump" }), &[]),
        (json!({ "year": "2024" }), &node[2..3]),
        (json!({ "year": 2024 }), &node[0..1]),
        (json!({ "none": null }), &node[2..3]),
        (json!({ "ok": true }), &node[0..1]),
    ] {
        assert_eq!(filtered(&server, "compound_filter", filter.clone()), expected, "{filter}");
    }
}

#[test]
fn classes_are_a_filter_too() {
    let server = Server::start(&[]);
    let node = corpus(&server);
    assert_eq!(filtered(&server, "classes", json!(["Note"])), node[2..3]);
    assert_eq!(filtered(&server, "classes_filter", json!(["Old", "Note"])), sorted_of(&node[1..3]));
    assert_eq!(filtered(&server, "classes", json!(["manual"])), [""; 0]);
    let both = json!({ "query": "x", "classes": ["Manual"], "metadata_filters": { "site": "B" } });
    assert_eq!(ids(&server.post("/search", &both)), node[1..2]);
}

fn sorted_of(ids: &[String]) -> Vec<String> {
    let mut ids = ids.to_vec();
    ids.sort();
    ids
}

#[test]
fn a_filter_never_costs_recall() {
    let server = Server::start(&[]);
    // Many near the query, one under the filter far from it.
    let near: Vec<Value> = (0..150).map(|n| json!({ "classes": ["Doc"], "props": { "text": format!("pump seal maintenance, part {n}") } })).collect();
    server.post("/nodes/batch", &json!({ "nodes": near })).expect(200);
    let rare = server.create(&json!({ "classes": ["Rare"], "props": { "text": "an opera by Verdi" }, "metadata": { "k": 1 } }));
    let search =
        json!({ "query": "pump seal maintenance", "top_k": 1, "metadata_filters": { "k": 1 } });
    assert_eq!(ids(&server.post("/search", &search)), [rare.as_str()]);
    let search = json!({ "query": "pump seal maintenance", "top_k": 1, "classes": ["Rare"], "use_hybrid": true });
    assert_eq!(ids(&server.post("/search", &search)), [rare]);
}

#[test]
fn modes_differ_as_they_say() {
    let server = Server::start(&[]);
    let node = corpus(&server);
    let search = |mode: &str, query: &str| {
        server.post("/search", &json!({ "query": query, "mode": mode })).expect(200)
    };
    for (mode, name, score_type) in [
        ("vector", "vector", "cosine"),
        ("similarity", "vector", "cosine"),
        ("hybrid", "hybrid", "rrf_fused"),
        ("bm25", "text", "bm25"),
    ] {
        let body = search(mode, "pump seal");
        assert_eq!((&body["mode"], &body["search_mode"]), (&json!(name), &json!(name)));
        assert_eq!(body["score_type"], score_type);
        assert_eq!(body["results"][0]["id"], node[0].as_str());
    }
    // Meaning finds what shares no word; words do not.
    assert_eq!(search("vector", "feline animal napping")["results"][0]["id"], node[2].as_str());
    assert_eq!(search("bm25", "feline animal napping")["count"], 0);
    assert_eq!(search("bm25", "repairing kits")["results"][0]["id"], node[1].as_str(), "stems");
    assert_eq!(search("vector", "pump")["count"], 3);
    assert_eq!(server.post("/search", &json!({ "query": "x", "mode": "magic" })).status, 422);
}

#[test]
fn weighted_hybrid_is_a_setting() {
    let server = Server::start(&[("HYBRID_RRF_ENABLED", "false")]);
    let node = corpus(&server);
    let body =
        server.post("/search", &json!({ "query": "gate valve", "use_hybrid": true })).expect(200);
    assert_eq!(body["score_type"], "weighted_fusion");
    assert_eq!(body["results"][0]["id"], node[1].as_str());
    let scores: Vec<f64> = hits(&body, "similarity");
    assert!(scores.windows(2).all(|pair| pair[0] >= pair[1]), "{scores:?}");
    assert!(scores.iter().all(|score| (0.0..=1.0).contains(score)), "{scores:?}");
}

fn hits(body: &Value, member: &str) -> Vec<f64> {
    let results = body["results"].as_array().expect("a list of results");
    results.iter().map(|hit| hit[member].as_f64().expect("a number")).collect()
}

#[test]
fn limit_and_least_similarity_are_honoured() {
    let server = Server::start(&[]);
    corpus(&server);
    let search = |search: Value| server.post("/search", &search).expect(200);
    assert_eq!(search(json!({ "query": "pump", "limit": 2 }))["count"], 2);
    assert_eq!(search(json!({ "query": "pump", "limit": 2, "top_k": 1 }))["count"], 1);
    let all = hits(&search(json!({ "query": "pump" })), "similarity");
    let between = (all[0] + all[1]) / 2.0;
    assert_eq!(search(json!({ "query": "pump", "min_similarity": between }))["count"], 1);
    assert_eq!(
        search(json!({ "query": "pump", "min_similarity": between, "use_hybrid": true }))["count"],
        1
    );
}

#[test]
fn age_and_drift_lower_weighted_scores() {
    let server = Server::start(&[]);
    let id = server.create(&doc("a text that will move far"));
    server
        .put(&format!("/nodes/{id}"), &json!({ "props": { "text": "penguins on ice" } }))
        .expect(200);
    let score = |weighted: bool, beta: f64| {
        let search = json!({ "query": "penguins on ice", "use_weighted_score": weighted, "drift_beta": beta });
        hits(&server.post("/search", &search).expect(200), "similarity")[0]
    };
    assert!((score(false, 1.0) - 1.0).abs() < 0.01);
    assert!((score(true, 0.0) - 1.0).abs() < 0.01, "a fresh node has hardly aged");
    assert!(score(true, 1.0) < 0.5, "its vector has moved by more than half");
}

#[test]
fn a_created_node_is_found_by_words_in_the_next_search() {
    let server = Server::start(&[("EMBEDDING_ASYNC", "true"), ("RUN_EMBEDDING_WORKER", "false")]);
    for n in 0..25 {
        let id = server.create(&doc(&format!("unique token number{n}x")));
        assert_eq!(found(&server, &format!("number{n}x")), [id], "create {n}");
    }
    let nodes: Vec<Value> = (0..25).map(|n| doc(&format!("batched token batch{n}y"))).collect();
    server.post("/nodes/batch", &json!({ "nodes": nodes })).expect(200);
    for n in 0..25 {
        assert_eq!(found(&server, &format!("batch{n}y")).len(), 1, "batch {n}");
    }
    let body =
        server.post("/search", &json!({ "query": "number7x", "use_hybrid": true })).expect(200);
    assert_eq!(body["results"][0].get("vector_similarity"), None, "it has no vector yet");
    assert_eq!(server.post("/search", &json!({ "query": "number7x" })).expect(200)["count"], 0);
}

#[test]
fn the_default_mode_waits_until_a_node_is_found_by_meaning() {
    let server = Server::start(&[]);
    for n in 0..10 {
        let text = format!("the secret of room {n} is a hidden door");
        let id = server.create(&doc(&text));
        let body = server.post("/search", &json!({ "query": text, "top_k": 1 })).expect(200);
        assert_eq!(text_of(&body["results"][0]["id"]), id);
    }
}

#[test]
fn an_explanation_shows_scores_and_settings() {
    let server = Server::start(&[]);
    let node = corpus(&server);
    let body = server
        .post(
            "/debug/search_explain",
            &json!({ "query": "pump seal", "use_hybrid": true, "top_k": 500 }),
        )
        .expect(200);
    assert_eq!((&body["mode"], &body["score_type"]), (&json!("hybrid"), &json!("rrf_fused")));
    assert_eq!(body["score_range"], "0.01-0.04 (low)");
    assert_eq!(body["results"][0]["node_id"], node[0].as_str());
    assert_eq!(body["results"][0]["has_text_search"], true);
    let info = &body["threshold_info"];
    assert!(info["recommended_min"].as_f64() <= info["recommended_max"].as_f64(), "{info}");
    assert_eq!(
        (&body["ann_config"]["metric"], &body["ann_config"]["operator"]),
        (&json!("cosine"), &json!("<=>"))
    );
    assert_eq!(
        server.get("/debug/search_explain?query=pump&top_k=1").expect(200)["result_count"],
        1
    );
    let (kind, loc, _) = server.get("/debug/search_explain").expect_fault();
    assert_eq!((kind.as_str(), loc), ("missing", json!(["query", "query"])));
}

#[test]
fn every_metric_puts_the_same_text_first() {
    for metric in ["cosine", "l2", "ip"] {
        let server = Server::start(&[("SEARCH_DISTANCE", metric)]);
        let node = corpus(&server);
        let search = json!({ "query": "A cat sleeps on the warm roof." });
        let body = server.post("/search", &search).expect(200);
        assert_eq!(body["results"][0]["id"], node[2].as_str(), "{metric}");
        let scores = hits(&body, "similarity");
        assert!((scores[0] - 1.0).abs() < 0.01, "{metric}: {scores:?}");
        assert!(scores[1] < 0.5, "{metric}: {scores:?}");
    }
}
