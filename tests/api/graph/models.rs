//! Models at a service: answers and vectors over HTTP.

use serde_json::{Value, json};

use super::{doc, ids, text_of};
use crate::common::{DIM, Models, Options, Server};

const QUESTION: &str = "Which seal kit does gate valve A need?";
const FAILED: &str = "Error processing question";

fn corpus(server: &Server) -> String {
    let valve = server.create(&doc("Gate valve A needs the seal kit SK-7 for its gate."));
    server.create(&doc("The cat sleeps on the roof."));
    valve
}

fn asking(models: &Models) -> Options {
    Options::new(&[
        ("LLM_BACKEND", "openai"),
        ("LLM_MODEL", "stub"),
        ("OPENAI_API_KEY", "sk-Secret-1"),
    ])
    .set("LLM_BASE_URL", &models.url("/v1"))
}

fn ask(server: &Server, question: &str) -> Value {
    server.post("/ask", &json!({ "question": question })).expect(200)
}

#[test]
fn a_model_answers_from_the_sources_and_is_named() {
    let models = Models::start();
    let server = asking(&models).start();
    let valve = corpus(&server);
    let body = ask(&server, QUESTION);
    assert_eq!(body["answer"], "Kit SK-7 [0].");
    assert_eq!(body["citations"][0]["node_id"], valve.as_str());
    let figures = &body["metadata"];
    assert_eq!(
        (&figures["llm_path"], &figures["routing_reason"]),
        (&json!("fallback"), &json!("hybrid_disabled"))
    );
    let health = server.get("/health").expect(200);
    assert_eq!((&health["llm_backend"], &health["llm_model"]), (&json!("openai"), &json!("stub")));

    let chats = models.seen("/v1/chat/completions");
    assert_eq!(chats.len(), 1);
    assert_eq!(chats[0].authorization.as_deref(), Some("Bearer sk-Secret-1"));
    let told = text_of(&chats[0].body["messages"][1]["content"]);
    assert!(told.contains("[0] Gate valve A needs the seal kit SK-7"), "{told}");
    assert_eq!(
        (&chats[0].body["max_tokens"], &chats[0].body["stream"]),
        (&json!(256), &json!(true))
    );

    let frames =
        server.post("/ask/stream", &json!({ "question": "Which kit for gate valve A?" })).frames();
    let names: Vec<&str> = frames.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["context", "token", "token", "token", "final"]);
    let counters = server.get("/metrics").expect(200)["counters"].clone();
    assert_eq!(counters["llm_requests_total[backend=openai,model=stub,status=success]"], 2);
    assert!(!server.log().contains("sk-Secret"));
}

#[test]
fn a_model_that_fails_is_a_failure_without_particulars() {
    let models = Models::start();
    let server = asking(&models).start();
    corpus(&server);
    let question = json!({ "question": "FAILNOW: does gate valve A need a seal kit?" });
    let failed = server.post("/ask", &question);
    assert_eq!(failed.status, 500);
    assert!(failed.text().contains(FAILED) && !failed.text().contains("sk-"), "{}", failed.text());
    let frames = server.post("/ask/stream", &question).frames();
    let (name, data) = frames.last().expect("frames");
    assert_eq!((name.as_str(), data), ("error", &json!({ "type": "error", "message": FAILED })));

    let question = json!({ "question": "BREAKOFF: does gate valve A need a seal kit?" });
    let frames = server.post("/ask/stream", &question).frames();
    let names: Vec<&str> = frames.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!((names[0], names[names.len() - 1]), ("context", "error"), "{names:?}");
    assert!(!server.log().contains("sk-Secret") && !server.log().contains("gate valve"));
}

#[test]
fn sentences_can_be_quoted_when_the_model_fails() {
    let models = Models::start();
    let server = asking(&models).set("LLM_ON_FAILURE", "extractive").start();
    let valve = corpus(&server);
    let body = ask(&server, "FAILNOW: which seal kit does gate valve A need?");
    assert!(text_of(&body["answer"]).contains("SK-7"), "{body}");
    assert_eq!(body["citations"][0]["node_id"], valve.as_str());
    assert_eq!(body["metadata"]["llm_path"], "extractive");
    assert_eq!(body["metadata"]["routing_reason"], "writer_failed");
    let metrics = server.get("/prometheus");
    assert!(metrics.text().contains("activekg_ask_stand_ins_total 1"), "{}", metrics.text());
}

#[test]
fn no_backend_gets_the_key_of_another() {
    let models = Models::start();
    let server = Options::new(&[("LLM_BACKEND", "groq"), ("OPENAI_API_KEY", "sk-Secret-1")])
        .set("LLM_BASE_URL", &models.url("/v1"))
        .start();
    corpus(&server);
    assert_eq!(ask(&server, QUESTION)["answer"], "Kit SK-7 [0].");
    assert_eq!(models.seen("/v1/chat/completions")[0].authorization, None);
}

#[test]
fn vectors_come_from_a_service_and_searches_use_them() {
    let models = Models::start();
    let (model, dim) = ("words", DIM.to_string());
    let remote = [("EMBEDDING_MODEL", model), ("EMBEDDING_DIMENSIONS", dim.as_str())];
    for (backend, base, path) in
        [("openai", models.url("/v1"), "/v1/embeddings"), ("ollama", models.url(""), "/api/embed")]
    {
        let server = Options::new(&remote)
            .set("EMBEDDING_BACKEND", backend)
            .set("EMBEDDING_BASE_URL", &base)
            .start();
        let valve = corpus(&server);
        let found = server.post("/search", &json!({ "query": "gate valve seal kit" }));
        assert_eq!(ids(&found)[0], valve, "{backend}");
        let info = server.get("/debug/embed_info").expect(200);
        assert_eq!(info["embedding_backend"], backend);
        assert_eq!(info["embedding_model"], model);
        assert_eq!(info["vector_dimension"]["sampled_dims"], json!([DIM]));
        assert_eq!(info["vector_dimension"]["db_dim"], DIM);
        assert!(models.seen(path).len() >= 3, "{backend}");
    }
}

#[test]
fn vectors_of_two_models_are_not_mixed() {
    let mut server = Server::start(&[]);
    corpus(&server);
    server.terminate();
    let models = Models::start();
    let other =
        Options::new(&[("EMBEDDING_BACKEND", "ollama")]).set("EMBEDDING_BASE_URL", &models.url(""));
    let output = other.command(server.dir(), &["serve"]).output().expect("run the program");
    assert!(!output.status.success());
    let said = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    for part in
        ["all-MiniLM-L6-v2 (384", "models change nomic-embed-text", "Set EMBEDDING_MODEL back"]
    {
        assert!(said.contains(part), "{part}: {said}");
    }
    server.start_again(&[]);
    assert_eq!(ids(&server.post("/search", &json!({ "query": "seal kit" }))).len(), 2);
}
