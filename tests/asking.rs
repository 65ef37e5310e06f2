//! `activekg ask`, and answers by a model in a file.

use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};

use crate::common::token::{JWT_ENV, token};
use crate::common::{Options, Server};

const QUESTION: &str = "How often is the seal of pump B checked?";

fn run(dir: &Path, arguments: &[&str]) -> Output {
    let words: Vec<&str> = ["ask"].iter().chain(arguments).copied().collect();
    Options::new(&[]).command(dir, &words).output().unwrap()
}

/// What a command printed that must succeed.
#[track_caller]
fn printed(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(0), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

/// The one line of a command that must fail.
#[track_caller]
fn refused(dir: &Path, arguments: &[&str]) -> String {
    let output = run(dir, arguments);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    errors
}

/// The id of the node that answers [`QUESTION`], among others.
fn corpus(server: &Server, tenant: &str) -> String {
    let doc = |title: &str, text: &str| json!({ "classes": ["Doc"], "props": { "title": title, "text": text }, "tenant_id": tenant });
    let manual = server.create(&doc(
        "Manual of pump B",
        "The seal of pump B is checked every week. Its bearings are greased once a year.",
    ));
    server.create(&doc("The cat", "The cat sleeps on the roof."));
    server.create(&doc("Invoices", "Invoices are paid within thirty days."));
    manual
}

#[test]
fn the_answer_is_printed_with_what_it_cites() {
    let server = Server::start(&[]);
    let manual = corpus(&server, "default");
    let text = printed(server.dir(), &[QUESTION]);
    let (answer, below) = text.split_once("\n\n").expect("an empty line before the citations");
    assert!(answer.contains("every week") && answer.contains("[0]"), "{text}");
    assert!(below.contains(&format!("[0] Manual of pump B  {manual}\n")), "{text}");
    assert!(below.contains("\nconfidence 0."), "{text}");

    let url = format!("http://{}", server.addr());
    let elsewhere = tempfile::tempdir().unwrap();
    assert_eq!(printed(elsewhere.path(), &["--url", &url, QUESTION]), text, "over the network");
    let json: Value =
        serde_json::from_str(&printed(server.dir(), &["--json", QUESTION])).expect("JSON");
    assert_eq!(json["citations"][0]["node_id"], manual.as_str());
    assert!(json["answer"].as_str().unwrap().contains("every week"));
    assert_eq!(
        printed(server.dir(), &["--json", "--max-results", "1", QUESTION])
            .matches("node_id")
            .count(),
        1
    );
}

#[test]
fn what_is_not_known_is_said() {
    let server = Server::start(&[]);
    let text = printed(server.dir(), &[QUESTION]);
    assert_eq!(text, "I couldn't find relevant information.\n\nconfidence 0.0\n");
    corpus(&server, "acme");
    assert_eq!(printed(server.dir(), &[QUESTION]), text, "it is another tenant's");
    let theirs = printed(server.dir(), &["--tenant", "acme", QUESTION]);
    assert!(theirs.contains("every week") && theirs.contains("[0] Manual of pump B"), "{theirs}");
}

#[test]
fn failures_say_what_to_do() {
    let nowhere = tempfile::tempdir().unwrap();
    assert!(refused(nowhere.path(), &[QUESTION]).contains("start one with `activekg serve`"));
    assert!(
        refused(nowhere.path(), &["--url", "http://127.0.0.1:1", QUESTION]).contains("/ask/stream")
    );
    assert!(refused(nowhere.path(), &["  "]).contains("1 to 1000 characters"));
    assert!(refused(nowhere.path(), &[&"long ".repeat(400)]).contains("1 to 1000 characters"));
    assert_eq!(run(nowhere.path(), &["--max-results", "21", QUESTION]).status.code(), Some(2));

    let off = Server::start(&[("LLM_ENABLED", "false")]);
    let refusal = refused(off.dir(), &[QUESTION]);
    assert!(refusal.contains("503") && refusal.contains("LLM_ENABLED=true"), "{refusal}");

    let closed = Server::start(&JWT_ENV);
    let url = format!("http://{}", closed.addr());
    assert!(refused(nowhere.path(), &["--url", &url, QUESTION]).contains("401"));
    let token = token("acme", &["ask:read"]);
    printed(nowhere.path(), &["--url", &url, "--token", &token, QUESTION]);
    printed(closed.dir(), &[QUESTION]);
}

#[test]
fn a_file_that_is_no_model_turns_answers_off_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("model.gguf");
    std::fs::write(&file, "GGUF\u{3}\0\0\0 and nothing else").unwrap();
    let server = Server::start(&[("LLM_BACKEND", "local"), ("LLM_MODEL", file.to_str().unwrap())]);
    assert_eq!(server.post("/ask", &json!({ "question": QUESTION })).status, 503);
    assert_eq!(server.get("/health").expect(200)["llm_backend"], Value::Null);
    server.logged("model file");
}

/// Wants `ACTIVEKG_TEST_GGUF`, the path of a model that follows instructions.
#[test]
fn a_local_model_answers_from_the_sources() {
    let Some(model) = std::env::var_os("ACTIVEKG_TEST_GGUF").filter(|path| !path.is_empty()) else {
        println!("skipped: ACTIVEKG_TEST_GGUF names no model; `tests/models smollm2` installs one");
        return;
    };
    let model = model.into_string().unwrap();
    let server = Server::start(&[("LLM_BACKEND", "local"), ("LLM_MODEL", &model)]);
    corpus(&server, "default");
    let health = server.get("/health").expect(200);
    let name = Path::new(&model).file_name().unwrap().to_str().unwrap();
    assert_eq!((&health["llm_backend"], &health["llm_model"]), (&json!("local"), &json!(name)));

    let body = server.post("/ask", &json!({ "question": QUESTION })).expect(200);
    let answer = body["answer"].as_str().unwrap().to_lowercase();
    println!("{answer}");
    assert!(answer.contains("week"), "{answer}");
    let text = printed(server.dir(), &["How often are the bearings of pump B greased?"]);
    println!("{text}");
    assert!(text.to_lowercase().contains("year"), "{text}");
    let metrics = server.get("/prometheus");
    let metrics = metrics.text();
    assert!(metrics.contains("activekg_llm_local_first_token_seconds_count 2"), "{metrics}");
    server.logged("the local model answered");
}
