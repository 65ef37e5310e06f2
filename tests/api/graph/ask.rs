//! Questions, answered from the sentences of what was found.

use serde_json::{Value, json};

use super::{doc, text_of};
use crate::common::{Answer, Server};

const REFUSALS: [&str; 2] = [
    "I couldn't find relevant information in the knowledge graph to answer your question.",
    "I don't have enough information to answer this question confidently.",
];

/// Ids of a manual and of what it was derived from, among other documents.
fn corpus(server: &Server) -> (String, String) {
    let source = server.create(&doc("Vendor sheet of the centrifugal pump, revision 7."));
    let manual = server.create(&doc(
        "The seal of pump B is checked every week. Its bearings are greased once a year. Spare parts are in room 12.",
    ));
    for other in [
        "The cat sleeps on the roof.",
        "Invoices are paid within thirty days.",
        "The library opens at nine.",
    ] {
        server.create(&doc(other));
    }
    server
        .post("/edges", &json!({ "src": manual, "dst": source, "rel": "DERIVED_FROM" }))
        .expect(200);
    (manual, source)
}

fn ask(server: &Server, question: &str) -> Value {
    server.post("/ask", &json!({ "question": question })).expect(200)
}

#[test]
fn an_answer_cites_the_node_it_comes_from() {
    let server = Server::start(&[]);
    let (manual, source) = corpus(&server);
    let body = ask(&server, "How often is the seal of pump B checked?");
    let answer = text_of(&body["answer"]);
    assert!(answer.contains("every week"), "{answer}");
    assert!(answer.contains("[0]"), "{answer}");
    assert!(!answer.contains("Invoices"), "{answer}");
    let citation = &body["citations"][0];
    assert_eq!(citation["node_id"], manual.as_str());
    assert_eq!(citation["classes"], json!(["Doc"]));
    assert_eq!(citation["lineage"], json!([{ "ancestor": source, "depth": 1 }]));
    assert_eq!(citation["drift_score"], 0.0);
    assert!(
        citation["age_days"].as_f64().is_some_and(|age| (0.0..0.1).contains(&age)),
        "{citation}"
    );
    let confidence = body["confidence"].as_f64().expect("a number");
    assert!((0.3..=0.95).contains(&confidence), "{confidence}");

    let figures = &body["metadata"];
    let cited = body["citations"].as_array().expect("citations").len();
    assert_eq!(
        (&figures["cited_nodes"], &figures["first_citation_idx"]),
        (&json!(cited), &json!(0))
    );
    assert_eq!(figures["gating_score_type"], "rrf_fused");
    assert!(figures["top_vector_similarity"].as_f64() > Some(0.3), "{figures}");
    for name in [
        "searched_nodes",
        "filtered_nodes",
        "top_similarity",
        "max_vector_similarity",
        "gating_score",
        "citation_at_1_precision",
        "llm_path",
        "routing_reason",
        "intent_detected",
        "intent_type",
        "classes_filter",
        "must_have_terms",
        "structured_results_count",
    ] {
        assert!(figures.get(name).is_some(), "{name}");
    }
    let health = server.get("/health").expect(200);
    assert_eq!(
        (&health["llm_backend"], &health["llm_model"]),
        (&json!("extractive"), &Value::Null)
    );
}

#[test]
fn what_is_not_known_is_not_answered() {
    let server = Server::start(&[]);
    let empty = ask(&server, "How often is the seal checked?");
    assert_eq!(empty["answer"], REFUSALS[0]);
    assert_eq!((&empty["confidence"], &empty["citations"]), (&json!(0.0), &json!([])));
    let nothing = json!({ "searched_nodes": 0, "cited_nodes": 0, "filtered_nodes": 0, "gating_score": 0.0, "gating_score_type": "rrf_fused" });
    assert_eq!(empty["metadata"], nothing);

    corpus(&server);
    let unknown = ask(&server, "zxqv blorptang wubbalub?");
    assert_eq!((&unknown["answer"], &unknown["citations"]), (&json!(REFUSALS[1]), &json!([])));
    assert!(unknown["confidence"].as_f64() <= Some(0.3), "{unknown}");
    assert_eq!(unknown["metadata"]["cited_nodes"], 0);
}

#[test]
fn what_is_too_far_from_the_question_is_not_read() {
    // A floor that nothing but the same text reaches.
    let server = Server::start(&[("RAW_LOW_SIM_THRESHOLD", "0.95")]);
    corpus(&server);
    let body = ask(&server, "How often is the seal of pump B checked?");
    assert_eq!(body["answer"], REFUSALS[1]);
    assert_eq!((&body["confidence"], &body["citations"]), (&json!(0.2), &json!([])));
    let figures = &body["metadata"];
    assert_eq!(figures["reason"], "extremely_low_similarity");
    assert_eq!((&figures["cited_nodes"], &figures["filtered_nodes"]), (&json!(0), &json!(0)));
    assert!(figures["top_vector_similarity"].as_f64() < Some(0.95), "{figures}");
}

#[test]
fn an_answer_follows_the_data() {
    let server = Server::start(&[]);
    let (manual, _) = corpus(&server);
    let question = "How often is the seal of pump B checked?";
    assert!(text_of(&ask(&server, question)["answer"]).contains("every week"));
    let text = json!({ "props": { "text": "The seal of pump B is checked every fortnight." } });
    server.put(&format!("/nodes/{manual}"), &text).expect(200);
    let answer = text_of(&ask(&server, question)["answer"]);
    assert!(answer.contains("fortnight") && !answer.contains("every week"), "{answer}");
    server.delete(&format!("/nodes/{manual}")).expect(200);
    let answer = text_of(&ask(&server, question)["answer"]);
    assert!(!answer.contains("fortnight"), "{answer}");
}

#[test]
fn a_stream_says_the_same_in_pieces() {
    let server = Server::start(&[]);
    let (manual, _) = corpus(&server);
    let question = json!({ "question": "How often is the seal of pump B checked?" });
    let whole = server.post("/ask", &question).expect(200);
    let stream = server.post("/ask/stream", &question);
    assert_eq!(stream.status, 200);
    assert_eq!(stream.header("content-type"), Some("text/event-stream; charset=utf-8"));
    assert_eq!(stream.header("x-accel-buffering"), Some("no"));
    assert!(stream.header("x-request-id").is_some());

    let frames = stream.frames();
    assert!(frames.iter().all(|(event, data)| data["type"] == event.as_str()), "{frames:?}");
    let (first, context) = &frames[0];
    assert_eq!(first, "context");
    assert_eq!(context["node_ids"][0], manual.as_str());
    assert_eq!(context["count"], context["node_ids"].as_array().expect("ids").len());
    let (last, end) = frames.last().expect("frames");
    assert_eq!(last, "final");
    let tokens = &frames[1..frames.len() - 1];
    assert!(!tokens.is_empty() && tokens.iter().all(|(event, _)| event == "token"), "{frames:?}");
    let text: String = tokens.iter().map(|(_, data)| text_of(&data["text"])).collect();
    assert_eq!(text.trim(), text_of(&whole["answer"]));
    for same in ["answer", "citations", "confidence"] {
        assert_eq!(end[same], whole[same], "{same}");
    }
    let names: Vec<&String> = end["metadata"].as_object().expect("figures").keys().collect();
    assert_eq!(names, ["searched_nodes", "filtered_nodes", "cited_nodes", "top_similarity"]);
    assert!(stream.text().contains("\"type\": \"token\""), "the spaced form");
}

#[test]
fn a_stream_refuses_in_one_frame() {
    let server = Server::start(&[("RAW_LOW_SIM_THRESHOLD", "0.95")]);
    let one = |answer: &Answer| {
        let [(event, data)] = answer.frames().try_into().expect("one frame");
        assert_eq!(event, "final");
        data
    };
    let question = json!({ "question": "zxqv blorptang wubbalub?" });
    let empty = server.post("/ask/stream", &question);
    assert_eq!(
        one(&empty),
        json!({ "type": "final", "answer": "I couldn't find relevant information.", "citations": [], "confidence": 0.0 })
    );
    assert!(empty.text().contains(r#""type":"final""#), "the compact form");
    corpus(&server);
    let refused = one(&server.post("/ask/stream", &question));
    assert_eq!((&refused["answer"], &refused["confidence"]), (&json!(REFUSALS[1]), &json!(0.2)));
}

#[test]
fn asking_can_be_off() {
    const OFF: &str =
        "LLM provider not enabled. Set LLM_ENABLED=true and configure LLM_BACKEND/LLM_MODEL.";
    for env in [
        [("LLM_ENABLED", "false"), ("LLM_BACKEND", "")],
        [("LLM_ENABLED", "true"), ("LLM_BACKEND", "groq")],
    ] {
        let server = Server::start(&env);
        for path in ["/ask", "/ask/stream"] {
            assert_eq!(server.post(path, &json!({ "question": "why?" })).expect_detail(503), OFF);
        }
        assert_eq!(server.get("/health").expect(200)["llm_backend"], Value::Null);
    }
}

#[test]
fn intents_are_seen_and_reported() {
    let server = Server::start(&[]);
    server.create(&json!({ "classes": ["Job"], "props": { "title": "SRE", "text": "Site reliability engineer with Prometheus monitoring experience.", "status": "open" } }));
    let body = ask(&server, "What SRE positions are open?");
    assert!(!body["metadata"]["intent_type"].is_null(), "{body}");
    let plain = ask(&server, "Who knows Prometheus monitoring of sites?");
    assert!(plain["metadata"].get("intent_type").is_some(), "{plain}");
    for (question, intent) in [
        ("What ML engineer positions are open?", json!("open_positions")),
        ("Senior Software Engineer with 5 years experience", json!("entity_resume")),
        ("What are the main performance issues reported?", json!("performance_issues")),
        ("How warm is it?", Value::Null),
    ] {
        let path = format!("/debug/intent?q={}", question.replace(' ', "%20"));
        assert_eq!(server.get(&path).expect(200)["intent_type"], intent, "{question}");
    }
}
