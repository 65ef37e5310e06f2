//! `EMBEDDING_WINDOWS`: what becomes of texts that are longer than the model reads.

use activekg_storage::tables::graph::{WINDOWS, WindowsMode};
use activekg_storage::{Readable as _, Scan, Store, StoreOptions};
use serde_json::{Value, json};

use crate::common::{Request, Server};

const QUERY: &str = "leek and potato soup";

/// A text of some three windows, of which the first says nothing about soup.
fn long() -> String {
    let start = "The lift of a swept wing at low speed was measured in a wind tunnel. ".repeat(40);
    let end = "Wash two leeks and cut them into rings. Peel the potatoes. Melt butter in a large \
        pot and add the leeks. Pour the stock over the vegetables. Boil the soup until the potatoes \
        are soft. Serve the leek and potato soup with bread. ";
    let end = end.repeat(6);
    format!("{start}{end}")
}

fn node(text: &str) -> Value {
    json!({ "classes": ["Doc"], "props": { "text": text }, "metadata": { "kind": "text" } })
}

/// The nodes found by meaning, each with its similarity, best first.
#[track_caller]
fn found(server: &Server, more: &Value) -> Vec<(String, f64)> {
    let mut body = json!({ "query": QUERY, "use_hybrid": false, "top_k": 20 });
    let more = more.as_object().expect("members").clone();
    body.as_object_mut().expect("an object").extend(more);
    let answer = server.post("/search", &body).expect(200);
    let results = answer["results"].as_array().expect("results").iter();
    let of = |result: &Value| {
        let similarity = result["similarity"].as_f64().expect("a number");
        (result["id"].as_str().expect("an id").to_owned(), similarity)
    };
    results.map(of).collect()
}

/// How similar a node is to the query; it is found once at most.
#[track_caller]
fn similarity(server: &Server, id: &str) -> Option<f64> {
    let hits = found(server, &json!({}));
    let mut of_node = hits.iter().filter(|(hit, _)| hit == id);
    let similarity = of_node.next().map(|(_, similarity)| *similarity);
    assert!(of_node.next().is_none(), "{hits:?}");
    similarity
}

/// Waits until all nodes are embedded.
fn embedded(server: &Server) {
    let status = Request::get("/admin/embedding/status");
    server.until(&status, |answer| answer.json()["pending"] == 0);
}

/// What the store has of further windows: the mode, and how many vectors. The server must be
/// stopped.
fn windows_kept(server: &Server) -> Vec<(WindowsMode, usize)> {
    let store = Store::open(server.dir(), StoreOptions::default()).unwrap();
    let kept = {
        let tx = store.read().unwrap();
        let rows = tx.scan(&WINDOWS, Scan::all()).unwrap().map(|row| row.unwrap().1);
        rows.map(|record| (record.mode, record.values.len() / 384)).collect()
    };
    store.close();
    kept
}

#[test]
fn a_long_text_is_found_by_its_end_with_its_windows() {
    let mut server = Server::start(&[("EMBEDDING_WINDOWS", "first")]);
    let id = server.create(&node(&long()));
    for text in ["A plate of beans.", "Cleaning a kitchen.", "Painting a fence."] {
        server.create(&node(text));
    }
    embedded(&server);
    let first = similarity(&server, &id).expect("it has a vector");
    assert_ne!(found(&server, &json!({}))[0].0, id);

    // A change of the setting embeds again what is long, and nothing else.
    server.terminate();
    assert_eq!(windows_kept(&server), []);
    server.start_again(&[("EMBEDDING_WINDOWS", "best")]);
    let by_meaning = Request::post("/search", &json!({ "query": QUERY, "use_hybrid": false }));
    server.until(&by_meaning, |answer| answer.json()["results"][0]["id"] == id.as_str());
    let best = similarity(&server, &id).expect("it has vectors");
    assert!(best > first + 0.2, "{best} and {first}");
    // By a filter as well, and by words, with the similarity of its best window.
    let filtered = found(&server, &json!({ "metadata_filters": { "kind": "text" } }));
    assert_eq!(filtered.len(), 4, "{filtered:?}");
    assert_eq!(filtered[0], (id.clone(), best));
    let hybrid = json!({ "query": QUERY, "use_hybrid": true });
    let hybrid = server.post("/search", &hybrid).expect(200);
    assert_eq!(hybrid["results"][0]["id"], id.as_str());
    assert_eq!(hybrid["results"][0]["vector_similarity"], best);

    // It is all there after a crash, and with indexes built anew.
    server.kill();
    server.start_again(&[]);
    assert_eq!(similarity(&server, &id), Some(best));
    server.terminate();
    let kept = windows_kept(&server);
    assert!(matches!(kept[..], [(WindowsMode::Best, n)] if n > 1), "{kept:?}");
    std::fs::remove_dir_all(server.dir().join("index")).unwrap();
    server.start_again(&[]);
    assert_eq!(similarity(&server, &id), Some(best));

    // The mean is nearer than the first window, and less near than the best.
    server.terminate();
    server.start_again(&[("EMBEDDING_WINDOWS", "mean")]);
    server.until(&by_meaning, |answer| {
        let hits = answer.json()["results"].clone();
        let hits = hits.as_array().expect("results");
        let hit = hits.iter().find(|hit| hit["id"] == id.as_str());
        hit.is_some_and(|hit| hit["similarity"].as_f64().is_some_and(|of| of < best))
    });
    let mean = similarity(&server, &id).expect("it has a vector");
    assert!(first < mean && mean < best, "{first}, {mean}, {best}");
    server.terminate();
    assert_eq!(windows_kept(&server), [(WindowsMode::Mean, 0)]);
}

#[test]
fn windows_go_with_their_text_and_their_node() {
    let mut server = Server::start(&[("EMBEDDING_WINDOWS", "best")]);
    let ids: Vec<String> = (0..3).map(|_| server.create(&node(&long()))).collect();
    embedded(&server);
    let before = similarity(&server, &ids[0]).expect("it has vectors");
    // A shorter text leaves no old windows.
    let shorter = json!({ "props": { "text": "The lift of a swept wing." } });
    server.put(&format!("/nodes/{}", ids[0]), &shorter).expect(200);
    let by_meaning =
        Request::post("/search", &json!({ "query": QUERY, "use_hybrid": false, "top_k": 20 }));
    server.until(&by_meaning, |answer| {
        let hits = answer.json()["results"].clone();
        let hits = hits.as_array().expect("results");
        let hit = hits.iter().find(|hit| hit["id"] == ids[0].as_str());
        hit.is_some_and(|hit| hit["similarity"].as_f64().is_some_and(|of| of < before - 0.2))
    });
    // A deleted node is not found by any window; a removed one leaves nothing.
    server.delete(&format!("/nodes/{}", ids[1])).expect(200);
    server.delete(&format!("/nodes/{}?hard=true", ids[2])).expect(200);
    let hits = found(&server, &json!({}));
    assert_eq!(hits.len(), 1, "{hits:?}");
    assert_eq!(hits[0].0, ids[0]);
    server.terminate();
    assert_eq!(windows_kept(&server).len(), 1, "of the deleted node, which may come back");
}
