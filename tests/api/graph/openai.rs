//! The routes of OpenAI's clients.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::{doc, text_of};
use crate::common::token::{JWT_ENV, token};
use crate::common::{Answer, Options, Request, Server};

/// The fault of an answer in OpenAI's shape.
#[track_caller]
fn fault(answer: &Answer, status: u16) -> Value {
    let body = answer.expect(status);
    assert_eq!(body.as_object().map(serde_json::Map::len), Some(1), "{body}");
    let fault = body["error"].clone();
    let names: Vec<&String> = fault.as_object().expect("an object").keys().collect();
    assert_eq!(names, ["message", "type", "param", "code"]);
    assert!(fault["message"].as_str().is_some_and(|text| !text.is_empty()), "{fault}");
    fault
}

fn embed(server: &Server, body: Value) -> Value {
    server.post("/v1/embeddings", &body).expect(200)
}

fn floats(vector: &Value) -> Vec<f32> {
    let numbers = vector.as_array().expect("a list").iter();
    numbers.map(|number| number.as_f64().expect("a number") as f32).collect()
}

#[test]
fn texts_are_embedded_alone_and_together() {
    let server = Server::start(&[]);
    let texts = ["how do I maintain a pump", "invoices are paid in June"];
    let alone = embed(&server, json!({ "input": texts[0], "model": "text-embedding-3-small" }));
    assert_eq!((&alone["object"], &alone["model"]), (&json!("list"), &json!("all-MiniLM-L6-v2")));
    assert_eq!(
        (&alone["data"][0]["object"], &alone["data"][0]["index"]),
        (&json!("embedding"), &json!(0))
    );
    // Six words and two marks.
    assert_eq!(alone["usage"], json!({ "prompt_tokens": 8, "total_tokens": 8 }));
    let first = floats(&alone["data"][0]["embedding"]);
    assert_eq!(first.len(), 384);
    let length: f32 = first.iter().map(|x| x * x).sum();
    assert!((length - 1.0).abs() < 1e-3, "{length}");

    let together = embed(&server, json!({ "input": texts, "dimensions": 384 }));
    let rows = together["data"].as_array().expect("a list");
    assert_eq!((rows.len(), &rows[1]["index"]), (2, &json!(1)));
    let again = floats(&rows[0]["embedding"]);
    let cosine: f32 = first.iter().zip(&again).map(|(a, b)| a * b).sum();
    assert!(cosine > 0.999, "{cosine}");

    let packed = embed(&server, json!({ "input": texts[0], "encoding_format": "base64" }));
    let bytes = STANDARD.decode(text_of(&packed["data"][0]["embedding"])).expect("base64");
    let unpacked: Vec<f32> =
        bytes.chunks(4).map(|four| f32::from_le_bytes(four.try_into().expect("four"))).collect();
    assert_eq!(unpacked, first);
}

#[test]
fn bad_inputs_are_told_as_open_ai_tells_them() {
    let server = Server::start(&[]);
    let refused = |body: Value| fault(&server.post("/v1/embeddings", &body), 400);
    let tokens = refused(json!({ "input": [1, 2, 3] }));
    assert_eq!(
        (&tokens["type"], &tokens["param"]),
        (&json!("invalid_request_error"), &json!("input"))
    );
    assert!(text_of(&tokens["message"]).contains("Token ids"), "{tokens}");
    assert!(text_of(&refused(json!({ "input": "x", "dimensions": 3 }))["message"]).contains("384"));
    for bad in [
        json!({}),
        json!({ "input": "" }),
        json!({ "input": [] }),
        json!({ "input": vec!["x"; 2049] }),
        json!({ "input": "x", "encoding_format": "hex" }),
        json!([]),
    ] {
        refused(bad);
    }
    let broken = server.send(&Request::new("POST", "/v1/embeddings").raw("{"));
    assert_eq!(fault(&broken, 400)["type"], "invalid_request_error");
    fault(&server.get("/v1/nowhere"), 404);
    fault(&server.get("/v1/embeddings"), 405);
}

#[test]
fn models_are_those_that_serve() {
    let server = Server::start(&[]);
    let body = server.get("/v1/models").expect(200);
    let ids: Vec<String> = body["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|model| text_of(&model["id"]))
        .collect();
    assert_eq!(ids, ["all-MiniLM-L6-v2", "extractive"]);
    assert!(body["data"][0]["created"].as_i64() > Some(1_700_000_000), "{body}");
    let mute = Server::start(&[("LLM_ENABLED", "false")]);
    let body = mute.get("/v1/models").expect(200);
    assert_eq!(body["data"].as_array().map(Vec::len), Some(1));
    let chat = json!({ "messages": [{ "role": "user", "content": "Who?" }] });
    for stream in [false, true] {
        let mut chat = chat.clone();
        chat["stream"] = stream.into();
        let off = fault(&mute.post("/v1/chat/completions", &chat), 503);
        assert_eq!(off["type"], "server_error");
    }
}

/// A corpus in which one node answers the question below.
fn corpus(server: &Server) -> String {
    for other in ["The cat sleeps on the roof.", "Invoices are paid within thirty days."] {
        server.create(&doc(other));
    }
    server.create(&doc(
        "The seal of pump B is checked every week. Its bearings are greased once a year.",
    ))
}

fn user(text: &str) -> Value {
    json!({ "role": "user", "content": text })
}

const QUESTION: &str = "How often is the seal of pump B checked?";

fn chat(server: &Server, messages: Value, more: Value) -> Answer {
    let mut body = json!({ "model": "any", "messages": messages });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    server.post("/v1/chat/completions", &body)
}

#[test]
fn a_message_is_answered_with_citations() {
    let server = Server::start(&[]);
    let manual = corpus(&server);
    let system = json!({ "role": "system", "content": "You are a pirate." });
    let body = chat(&server, json!([system, user(QUESTION)]), json!({})).expect(200);
    assert_eq!(
        (&body["object"], &body["model"]),
        (&json!("chat.completion"), &json!("extractive"))
    );
    assert!(text_of(&body["id"]).starts_with("chatcmpl-"), "{body}");
    let choice = &body["choices"][0];
    assert_eq!((&choice["index"], &choice["finish_reason"]), (&json!(0), &json!("stop")));
    let message = &choice["message"];
    let content = text_of(&message["content"]);
    assert!(content.contains("every week") && content.contains("[0]"), "{content}");
    assert_eq!(message["role"], "assistant");
    let citation = &message["citations"][0];
    assert_eq!((&citation["index"], &citation["node_id"]), (&json!(0), &json!(manual)));
    let usage = &body["usage"];
    let sum = usage["prompt_tokens"].as_i64().zip(usage["completion_tokens"].as_i64());
    assert_eq!(sum.map(|(a, b)| a + b), usage["total_tokens"].as_i64());
    // The same pipeline as POST /ask.
    let asked = server.post("/ask", &json!({ "question": QUESTION })).expect(200);
    assert_eq!(asked["answer"], content.as_str());
    assert_eq!(asked["confidence"], message["confidence"]);
}

#[test]
fn a_follow_up_is_asked_behind_the_question_before_it() {
    let server = Server::start(&[]);
    corpus(&server);
    let follow_up = "And why?";
    let alone = chat(&server, json!([user(follow_up)]), json!({})).expect(200);
    assert_eq!(alone["choices"][0]["message"]["citations"], json!([]), "{alone}");
    let said = json!({ "role": "assistant", "content": "Every week [0]." });
    let both = json!([user(QUESTION), said, user(follow_up)]);
    let whole = chat(&server, both.clone(), json!({}));
    assert!(whole.text().contains("every week"), "{}", whole.text());
    let pieces = content(&chunks(&chat(&server, both, json!({ "stream": true }))));
    assert!(pieces.contains("every week"), "{pieces}");
}

/// The data of a stream without names, which must end in `[DONE]`.
fn chunks(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let kind = answer.header("content-type");
    assert_eq!(kind, Some("text/event-stream; charset=utf-8"));
    let data =
        answer.text().split("\n\n").filter(|frame| !frame.is_empty() && !frame.starts_with(':'));
    let mut data: Vec<&str> =
        data.map(|frame| frame.strip_prefix("data: ").expect("data alone")).collect();
    assert_eq!(data.pop(), Some("[DONE]"));
    data.into_iter().map(|data| serde_json::from_str(data).expect("JSON")).collect()
}

fn content(chunks: &[Value]) -> String {
    let pieces = chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str());
    pieces.collect()
}

#[test]
fn an_answer_may_come_in_pieces() {
    let server = Server::start(&[]);
    let manual = corpus(&server);
    let streamed = json!({ "stream": true, "stream_options": { "include_usage": true } });
    let chunks = chunks(&chat(&server, json!([user(QUESTION)]), streamed));
    let whole = chat(&server, json!([user(QUESTION)]), json!({})).expect(200);
    let message = &whole["choices"][0]["message"];
    assert_eq!(content(&chunks).trim(), message["content"].as_str().expect("text"));
    assert_eq!(chunks[0]["choices"][0]["delta"]["role"], "assistant");
    let (last, rest) = chunks.split_last().expect("chunks");
    assert_eq!((&last["choices"], last["usage"].is_object()), (&json!([]), true));
    for chunk in rest {
        assert_eq!(
            (&chunk["object"], &chunk["usage"]),
            (&json!("chat.completion.chunk"), &Value::Null)
        );
        assert_eq!(chunk["id"], chunks[0]["id"]);
    }
    let end = &rest.last().expect("an end")["choices"][0];
    assert_eq!(end["finish_reason"], "stop");
    assert_eq!(end["delta"]["citations"][0]["node_id"], manual.as_str());
}

#[test]
fn a_refusal_comes_as_an_answer() {
    let server = Server::start(&[]);
    let messages = json!([user("Who painted the Mona Lisa?")]);
    let whole = chat(&server, messages.clone(), json!({})).expect(200);
    let message = &whole["choices"][0]["message"];
    assert!(text_of(&message["content"]).starts_with("I "), "{message}");
    assert_eq!(message["citations"], json!([]));
    let pieces = chunks(&chat(&server, messages, json!({ "stream": true })));
    assert_eq!(content(&pieces), text_of(&message["content"]));
    assert!(pieces.iter().all(|chunk| chunk.get("usage").is_none()));
}

#[test]
fn answers_are_cut_where_asked() {
    let server = Server::start(&[]);
    corpus(&server);
    let cut = |more: Value| {
        let body = chat(&server, json!([user(QUESTION)]), more.clone()).expect(200);
        let choice = &body["choices"][0];
        let mut streamed = more;
        streamed["stream"] = true.into();
        let pieces = chunks(&chat(&server, json!([user(QUESTION)]), streamed));
        assert_eq!(content(&pieces), text_of(&choice["message"]["content"]));
        let end = &pieces.last().expect("an end")["choices"][0];
        assert_eq!(end["finish_reason"], choice["finish_reason"]);
        assert_eq!(end["delta"]["citations"], choice["message"]["citations"]);
        choice.clone()
    };
    let short = cut(json!({ "max_tokens": 2 }));
    assert_eq!(text_of(&short["message"]["content"]).chars().count(), 8);
    assert_eq!(
        (&short["finish_reason"], &short["message"]["citations"]),
        (&json!("length"), &json!([]))
    );
    let stopped = cut(json!({ "stop": ["every"] }));
    assert!(!text_of(&stopped["message"]["content"]).contains("every"), "{stopped}");
    assert_eq!(stopped["finish_reason"], "stop");
}

#[test]
fn what_cannot_be_honoured_is_refused() {
    let server = Server::start(&[]);
    let refused = |messages: Value, more: Value| {
        text_of(&fault(&chat(&server, messages, more), 400)["param"])
    };
    let ask = json!([user(QUESTION)]);
    assert_eq!(refused(ask.clone(), json!({ "n": 2 })), "n");
    assert_eq!(refused(ask.clone(), json!({ "tool_choice": "required" })), "tool_choice");
    assert_eq!(
        refused(ask, json!({ "response_format": { "type": "json_object" } })),
        "response_format"
    );
    assert_eq!(refused(json!([]), json!({})), "messages");
    assert_eq!(refused(json!([user(&"x".repeat(1001))]), json!({})), "messages");
    let image = json!([{ "role": "user", "content": [{ "type": "image_url" }] }]);
    assert_eq!(refused(image, json!({})), "messages.0.content.0");
}

#[test]
fn tokens_scopes_tenants_and_rates_count() {
    let server = Options::new(&JWT_ENV).set("AUTHZ_MODE", "scopes").start();
    let bare = fault(&server.get("/v1/models"), 401);
    assert_eq!(bare["code"], "invalid_api_key");
    let send = |request: Request, scope: &str| server.send(&request.bearer(&token("t1", &[scope])));
    let chat = Request::post("/v1/chat/completions", &json!({ "messages": [user(QUESTION)] }));
    fault(&send(chat.clone(), "search:read"), 403);
    fault(&send(Request::get("/v1/models"), "ask:read"), 403);
    let node = doc("The seal of pump B is checked every week.");
    server.send(&Request::post("/nodes", &node).bearer(&token("t2", &["kg:write"]))).expect(200);
    let other = send(chat.clone(), "ask:read").expect(200);
    assert_eq!(other["choices"][0]["message"]["citations"], json!([]), "{other}");
    let own = server.send(&chat.bearer(&token("t2", &["ask:read"]))).expect(200);
    assert_eq!(own["choices"][0]["message"]["citations"][0]["index"], 0, "{own}");

    let limited = Server::start(&[
        ("RATE_LIMIT_ENABLED", "true"),
        ("RATE_LIMIT_ASK_BURST", "2"),
        ("RATE_LIMIT_ASK_RATE", "0.001"),
    ]);
    let chat = json!({ "messages": [user("Who?")] });
    let answers: Vec<Answer> =
        (0..3).map(|_| limited.post("/v1/chat/completions", &chat)).collect();
    let [first, second, refused] = answers.as_slice() else { panic!("three") };
    assert_eq!((first.status, second.status), (200, 200));
    assert_eq!(fault(refused, 429)["code"], "rate_limit_exceeded");
    assert!(refused.header("retry-after").is_some());
}
