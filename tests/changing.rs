//! `activekg models change` and what follows: another embedding model under a running server.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use activekg_storage::tables::auth::AUDIT;
use activekg_storage::{Readable as _, Scan, Store, StoreOptions};
use serde_json::{Value, json};

use crate::common::models::{DIM, Models};
use crate::common::token::{JWT_ENV, token};
use crate::common::{Options, Request, Server};

/// Words that the stub of a service tells apart.
const TOPICS: [&str; 5] = ["pump", "valve", "compressor", "furnace", "winch"];

fn corpus(server: &Server) {
    let nodes: Vec<Value> = (0..60)
        .map(|n| {
            let topic = TOPICS[n % TOPICS.len()];
            // The topic outweighs a number that the stub takes for another topic.
            let text = format!("The {topic}, the {topic} and the {topic}: number {n}.");
            json!({ "classes": ["Doc"], "props": { "text": text } })
        })
        .collect();
    server.post("/nodes/batch", &json!({ "nodes": nodes })).expect(200);
    let counts = Request::get("/admin/embedding/status");
    server.until(&counts, |answer| answer.json()["status_counts"]["ready"] == 60);
}

/// Runs `activekg models <line>` on the server's data, and returns whether it did well and what it
/// said.
fn run(server: &Server, line: &str) -> (bool, String) {
    let words: Vec<&str> = ["models"].into_iter().chain(line.split(' ')).collect();
    let output = Options::new(&[]).command(server.dir(), &words).output().unwrap();
    let said = if output.status.success() { output.stdout } else { output.stderr };
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[track_caller]
fn done(server: &Server, line: &str) -> Value {
    let (well, said) = run(server, &format!("{line} --json"));
    assert!(well, "{line}: {said}");
    serde_json::from_str(&said).unwrap()
}

#[track_caller]
fn refused(server: &Server, line: &str) -> String {
    let (well, said) = run(server, line);
    assert!(!well, "{line}: {said}");
    said
}

/// Waits until the change is in a phase.
fn until(server: &Server, phase: &str) -> Value {
    let status = Request::get("/admin/model");
    server.until(&status, |answer| answer.json()["change"]["phase"] == phase).json()
}

fn ended(server: &Server) {
    server.until(&Request::get("/admin/model"), |answer| answer.json()["change"].is_null());
}

/// The best hit by meaning.
#[track_caller]
fn best(server: &Server, query: &str) -> String {
    let body = json!({ "query": query, "use_hybrid": false, "top_k": 3 });
    let found = server.post("/search", &body).expect(200);
    found["results"][0]["props"]["text"].as_str().expect("a hit").to_owned()
}

/// The acts in the audit trail, oldest first. The server must be stopped.
fn acts(server: &Server) -> Vec<String> {
    let store = Store::open(server.dir(), StoreOptions::default()).unwrap();
    let acts = {
        let tx = store.read().unwrap();
        tx.scan(&AUDIT, Scan::all()).unwrap().map(|row| row.unwrap().1.action).collect()
    };
    store.close();
    acts
}

#[test]
fn a_model_is_changed_under_searches_and_kills_and_back() {
    let models = Models::start();
    let mut server = Server::start(&[]);
    corpus(&server);
    let service = format!(
        "change words --backend openai --base-url {} --dimensions {DIM}",
        models.url("/v1")
    );
    let begun = done(&server, &service);
    assert_eq!(begun["serving"]["name"], "all-MiniLM-L6-v2");
    assert_eq!(begun["change"]["to"]["name"], "words");
    server.kill();
    server.start_again(&[]);
    assert!(best(&server, "pump").contains("pump"), "the old model serves at once");
    let status = until(&server, "ready");
    assert_eq!(status["change"]["checked"], 60);
    assert_eq!(status["change"]["embedded"], 60);
    let (_, text) = run(&server, "status");
    assert!(text.contains("models switch"), "{text}");
    assert!(refused(&server, "change words --backend openai").contains("is under way"));

    let compared = done(&server, "compare --sample 20");
    assert_eq!(compared["queries"], 20);
    assert_eq!(compared["serving"]["name"], "all-MiniLM-L6-v2");
    for side in ["serving", "other"] {
        let mrr = compared[side]["own_node_mrr"].as_f64().expect("of nodes");
        assert!(mrr > 0.8, "a node is found by its own words: {compared}");
    }

    // Searches and writes go on all the while.
    let stop = Arc::new(AtomicBool::new(false));
    let searching = {
        let (stop, server) = (stop.clone(), server.addr());
        thread::spawn(move || {
            let mut n = 0;
            while !stop.load(Ordering::Relaxed) {
                let topic = TOPICS[n % TOPICS.len()];
                let body = json!({ "query": topic, "use_hybrid": false });
                let found = Request::post("/search", &body).send_to(server).unwrap().expect(200);
                let text = found["results"][0]["props"]["text"].as_str().expect("a hit");
                assert!(text.contains(topic), "{topic}: {text}");
                n += 1;
            }
            n
        })
    };
    for (way, name) in [("switch", "words"), ("roll-back", "all-MiniLM-L6-v2"), ("switch", "words")]
    {
        server.create(&json!({
            "classes": ["Doc"], "props": { "text": format!("A gasket before the {way} to {name}.") },
        }));
        let status = done(&server, way);
        assert_eq!(status["serving"]["name"], name);
        let wanted = format!("A gasket before the {way} to {name}.");
        assert_eq!(best(&server, &wanted), wanted);
    }
    stop.store(true, Ordering::Relaxed);
    assert!(searching.join().expect("every search found its topic") > 0);
    let info = server.get("/debug/embed_info").expect(200);
    assert_eq!(
        (&info["embedding_model"], &info["vector_dimension"]["db_dim"]),
        (&json!("words"), &json!(DIM))
    );

    // The settings still name the old model, which the data directory was changed from.
    server.kill();
    server.start_again(&[("OPENAI_API_KEY", "unused")]);
    server.logged("set EMBEDDING_MODEL to it");
    assert!(best(&server, "compressor").contains("compressor"));
    until(&server, "switched");
    assert!(refused(&server, "drop").contains("remove all vectors of all-MiniLM-L6-v2"));
    done(&server, "drop --yes");
    ended(&server);
    assert!(best(&server, "compressor").contains("compressor"));
    let sets = ["vectors", "vectors-b"].map(|set| server.dir().join("index").join(set).exists());
    assert_eq!(sets, [false, true]);

    // Settings that name the new model, a rebuilt index, and a change into the first slot again.
    server.terminate();
    std::fs::remove_dir_all(server.dir().join("index")).unwrap();
    let base = models.url("/v1");
    server.start_again(&[
        ("EMBEDDING_BACKEND", "openai"),
        ("EMBEDDING_BASE_URL", &base),
        ("EMBEDDING_MODEL", "words"),
        ("EMBEDDING_DIMENSIONS", &DIM.to_string()),
    ]);
    assert!(best(&server, "furnace").contains("furnace"));
    done(&server, "change all-MiniLM-L6-v2 --wait");
    done(&server, "switch");
    done(&server, "drop --yes");
    ended(&server);
    assert!(best(&server, "furnace").contains("furnace"));
    server.terminate();
    let expected = [
        "model.change",
        "model.switch",
        "model.roll_back",
        "model.switch",
        "model.drop",
        "model.change",
        "model.switch",
        "model.drop",
    ];
    assert_eq!(acts(&server), expected);

    // A model that was never here is refused, with what to do.
    let third = Options::new(&[("EMBEDDING_BACKEND", "ollama")]);
    let output = third.command(server.dir(), &["serve"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success());
    assert!(said.contains("models change nomic-embed-text"), "{said}");
}

#[test]
fn a_change_that_makes_no_sense_is_refused_and_changes_nothing() {
    let mut server = Server::start(&[]);
    corpus(&server);
    for (line, part) in [
        ("change nowhere", "no model named nowhere"),
        ("change /nowhere", "/nowhere"),
        ("change all-MiniLM-L6-v2", "serves already"),
        ("change m --backend cohere", "EMBEDDING_BACKEND"),
        ("change m --backend ollama", "EMBEDDING_DIMENSIONS"),
        ("change m --backend ollama --dimensions 2 --base-url http://u:p@127.0.0.1/", "password"),
        ("switch", "no change of the embedding model"),
        ("roll-back", "no change of the embedding model"),
        ("compare", "no change of the embedding model"),
        ("drop --yes", "no change of the embedding model"),
    ] {
        let said = refused(&server, line);
        assert!(said.contains(part), "{line}: {said}");
    }
    let status = server.get("/admin/model").expect(200);
    assert!(status["change"].is_null(), "{status}");
    for (body, code) in [
        (json!({}), 422),
        (json!({ "model": 1 }), 422),
        (json!({ "model": "m", "dimensions": 0 }), 422),
        // Over the network nobody makes the server read folders or ask services.
        (json!({ "model": "/etc" }), 403),
        (json!({ "model": "m", "backend": "ollama", "base_url": "http://127.0.0.1:1" }), 403),
        (json!({ "model": "nowhere" }), 400),
        (json!({ "model": "all-MiniLM-L6-v2" }), 409),
    ] {
        assert_eq!(server.post("/admin/model/change", &body).status, code, "{body}");
    }
    for (target, code) in [("switch", 404), ("roll-back", 404), ("compare", 404)] {
        assert_eq!(server.post(&format!("/admin/model/{target}"), &json!({})).status, code);
    }
    assert_eq!(server.delete("/admin/model/change").status, 404);
    server.terminate();
    assert!(acts(&server).is_empty());
}

#[test]
fn a_service_that_is_away_is_waited_for_and_harms_nobody() {
    let server = Server::start(&[("EMBEDDING_TIMEOUT_MS", "300")]);
    corpus(&server);
    done(&server, "change m --backend ollama --base-url http://127.0.0.1:9 --dimensions 8");
    let status = Request::get("/admin/model");
    let status =
        server.until(&status, |answer| answer.json()["change"]["problem"].is_string()).json();
    assert_eq!(status["change"]["phase"], "filling", "{status}");
    assert_eq!(status["change"]["embedded"], 0, "{status}");
    assert!(best(&server, "valve").contains("valve"));
    assert!(refused(&server, "switch").contains("not all nodes have a vector of m"));
    done(&server, "drop --yes");
    ended(&server);
    assert!(best(&server, "valve").contains("valve"));
}

#[test]
fn only_who_answers_for_all_tenants_changes_the_model() {
    let server = Server::start(&JWT_ENV);
    let admin = token("acme", &["admin:refresh"]);
    let operator = token("acme", &["super_admin"]);
    for (request, allowed) in [
        (Request::get("/admin/model"), 200),
        (Request::post("/admin/model/switch", &json!({})), 404),
        (Request::delete("/admin/model/change"), 404),
    ] {
        assert_eq!(server.send(&request).status, 401);
        assert_eq!(server.send(&request.clone().bearer(&admin)).status, 403);
        assert_eq!(server.send(&request.bearer(&operator)).status, allowed);
    }
}
