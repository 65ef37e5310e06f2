//! Answers of a real server that speaks OpenAI's protocol well and badly.

use std::time::Duration;

use activekg_storage::time::{ManualClock, UnixMicros};
use futures_util::StreamExt;
use serde_json::{Value, json};

use super::*;
use crate::config::{FastRoute, LlmService, RemoteLlm, Secret};
use crate::upstream::testing::{End, Reply, Stub, metrics};

fn delta(text: &str) -> String {
    format!("data: {}\n\n", json!({"choices": [{"delta": {"content": text}}]}))
}

fn finish() -> String {
    let end = json!({"choices": [{"delta": {}, "finish_reason": "stop"}]});
    let usage = json!({"choices": [], "usage": {"prompt_tokens": 80, "completion_tokens": 5}});
    format!("data: {end}\n\ndata: {usage}\n\ndata: [DONE]\n\n")
}

fn route(backend: &'static str, url: String, key: &str, model: &str) -> config::Route {
    let key = Some(Secret::from(key.to_owned()));
    let service = LlmService { backend, base_url: Secret::from(url), key };
    config::Route { service, model: model.to_owned(), max_tokens: 256 }
}

fn remote(route: config::Route) -> RemoteLlm {
    let (timeout, first_token) = (Duration::from_secs(30), Duration::from_secs(30));
    RemoteLlm { route, fast: None, timeout, first_token, quote_on_failure: false }
}

fn writer(config: &RemoteLlm) -> RemoteWriter {
    crate::tls::init();
    let clock = Arc::new(ManualClock::at(UnixMicros(0)));
    RemoteWriter::new(config, 300, Arc::new(metrics()), clock).unwrap()
}

fn writer_at(stub: &Stub) -> RemoteWriter {
    writer(&remote(route("openai", stub.url(), "sk-Own-1", "gpt-4o-mini")))
}

fn sources() -> Vec<Snippet> {
    let text = "Gate valve A needs seal kit SK-7.".to_owned();
    vec![Snippet { index: 0, text, ..Snippet::default() }]
}

async fn pieces(writer: &RemoteWriter) -> Vec<Result<String, LlmError>> {
    writer.write("Which kit?", sources()).collect().await
}

async fn text(writer: &RemoteWriter) -> Result<String, LlmError> {
    pieces(writer).await.into_iter().collect()
}

#[tokio::test]
async fn an_answer_comes_in_the_pieces_it_is_sent_in() {
    let stub = Stub::start(|_, _| {
        let events = [delta("Kit "), delta("SK-7 "), delta("[0]."), finish()].concat();
        // Cut where it hurts: inside events and names.
        let cuts: Vec<String> = events
            .as_bytes()
            .chunks(7)
            .map(|cut| String::from_utf8_lossy(cut).into_owned())
            .collect();
        Reply::events(cuts, End::Whole)
    })
    .await;
    let writer = writer_at(&stub);
    let said: Vec<String> = pieces(&writer).await.into_iter().map(Result::unwrap).collect();
    assert_eq!(said, ["Kit ", "SK-7 ", "[0]."]);
    let [seen] = stub.seen().try_into().unwrap();
    assert_eq!(seen.path, "/v1/chat/completions");
    assert_eq!(seen.authorization.as_deref(), Some("Bearer sk-Own-1"));
    assert_eq!((&seen.body["model"], &seen.body["stream"]), (&json!("gpt-4o-mini"), &json!(true)));
    let user = seen.body["messages"][1]["content"].as_str().unwrap();
    assert!(user.contains("[0] Gate valve A needs") && user.contains("Question: Which kit?"));
    let json = writer.metrics.json(UnixMicros(0));
    let count = |name: &str| json["counters"][format!("{name}]")].clone();
    assert_eq!(count("llm_requests_total[backend=openai,model=gpt-4o-mini,status=success"), 1);
    assert_eq!(count("llm_tokens_total[backend=openai,model=gpt-4o-mini,type=input"), 80);
    assert_eq!(count("llm_tokens_total[backend=openai,model=gpt-4o-mini,type=output"), 5);
}

#[tokio::test]
async fn dialects_of_streams_are_understood() {
    let whole = json!({"choices": [{"message": {"content": "ab"}, "finish_reason": "stop"}]});
    let end = json!({"choices": [{"delta": {"content": "b"}, "finish_reason": "stop"}]});
    let bodies: [(&str, String); 4] = [
        (
            "text/event-stream",
            [": ping\r\n\r\n", &delta("a").replace('\n', "\r\n"), &delta("b"), "data:[DONE]"]
                .concat(),
        ),
        ("text/event-stream; charset=utf-8", format!("{}data: {end}\n\n", delta("a"))),
        ("application/octet-stream", format!("event: x\n{}data: {end}", delta("a"))),
        ("application/json; charset=utf-8", whole.to_string()),
    ];
    let stub = Stub::start(move |n, _| {
        let (media_type, body) = &bodies[n];
        Reply::pieces(200, media_type, [body.clone()], End::Whole)
    })
    .await;
    let writer = writer_at(&stub);
    for n in 0..4 {
        assert_eq!(text(&writer).await.unwrap(), "ab", "{n}");
    }
}

#[tokio::test]
async fn what_goes_wrong_is_told_by_kind() {
    let error = |code: &str| json!({"error": {"message": "Which kit?", "type": code}});
    let midway = format!("{}data: {}\n\n", delta("Half"), error("server_error"));
    let filtered = json!({"choices": [{"delta": {}, "finish_reason": "content_filter"}]});
    let replies: Vec<(&str, Value, Vec<String>)> = vec![
        ("refused", json!(401), vec![error("invalid_api_key").to_string()]),
        ("refused", json!(404), vec![error("not_found").to_string()]),
        ("refused", json!(200), vec!["data: <garbage>\n\n".to_owned()]),
        ("refused", json!(200), vec!["\u{0}\u{1}".repeat(1 << 20)]),
        ("refused", json!(200), vec![format!("data: {filtered}\n\n")]),
        ("unavailable", json!(200), vec![error("overloaded").to_string()]),
        ("unavailable", json!(200), vec![midway]),
        ("unavailable", json!(200), vec![delta("Half")]),
        ("unavailable", json!(200), Vec::new()),
    ];
    let script: Vec<(u16, Vec<String>)> = replies
        .iter()
        .map(|(_, status, pieces)| (status.as_u64().unwrap() as u16, pieces.clone()))
        .collect();
    let stub = Stub::start(move |n, _| {
        let (status, pieces) = script[n].clone();
        Reply::pieces(status, "text/event-stream", pieces, End::Whole)
    })
    .await;
    let writer = writer_at(&stub);
    for (kind, _, _) in &replies {
        let error = text(&writer).await.unwrap_err();
        let found = match &error {
            LlmError::Refused(_) => "refused",
            LlmError::Unavailable(_) => "unavailable",
            other => panic!("{other}"),
        };
        assert_eq!(found, *kind, "{error}");
        let said = format!("{error}{error:?}");
        assert!(!said.contains("Which kit") && !said.contains("sk-Own"), "{said}");
    }
    let json = writer.metrics.json(UnixMicros(0));
    let failed =
        &json["counters"]["llm_requests_total[backend=openai,model=gpt-4o-mini,status=error]"];
    assert_eq!(*failed, replies.len());
}

#[tokio::test]
async fn an_answer_that_breaks_keeps_what_was_said_before() {
    let stub = Stub::start(|_, _| Reply::events([delta("Half")], End::Broken)).await;
    let mut pieces = pieces(&writer_at(&stub)).await;
    assert!(matches!(pieces.pop(), Some(Err(LlmError::Unavailable(_)))));
    let said: String = pieces.into_iter().map(Result::unwrap).collect();
    assert_eq!((said.as_str(), stub.seen().len()), ("Half", 1));
}

#[tokio::test]
async fn slow_answers_end() {
    let stub = Stub::start(|n, _| match n {
        0 => Reply::events([""; 0], End::Never),
        _ => Reply::events([delta("Half")], End::Never),
    })
    .await;
    let route = route("openai", stub.url(), "sk-Own-1", "m");
    let quick = RemoteLlm { first_token: Duration::from_millis(50), ..remote(route) };
    let writer = writer(&quick);
    assert!(matches!(text(&writer).await, Err(LlmError::TimedOut(_))));
    let pieces = pieces(&writer).await;
    assert_eq!(pieces.len(), 2);
    assert!(matches!(&pieces[1], Err(LlmError::TimedOut(_))), "{pieces:?}");
}

#[tokio::test]
async fn each_backend_gets_its_own_key_and_no_other() {
    let answer = |_: usize, _: &crate::upstream::testing::Seen| {
        Reply::events([delta("x"), finish()], End::Whole)
    };
    let (groq, openai) = (Stub::start(answer).await, Stub::start(answer).await);
    let route_of_groq = route("groq", groq.url(), "gsk-Groq", "llama");
    let mut config = remote(route("openai", openai.url(), "sk-OpenAi", "gpt"));
    config.fast = Some(FastRoute { route: route_of_groq, top_similarity: 0.7 });
    let writer = writer(&config);
    assert_eq!((writer.name(), AnswerWriter::model(&writer)), ("openai", Some("gpt")));
    for (question, top_similarity, path) in [("Which kit?", 0.8, "fast"), ("Why?", 0.8, "fallback")]
    {
        let route = writer.route(&Occasion { question, top_similarity, hits: 1 });
        assert_eq!(route.path, path);
        let said: Vec<_> = writer.write_by(&route, question, sources()).collect().await;
        assert!(said.into_iter().all(|piece| piece.is_ok()));
    }
    let seen = |stub: &Stub| {
        let [seen] = stub.seen().try_into().unwrap();
        (seen.authorization.unwrap(), seen.body["model"].as_str().unwrap().to_owned())
    };
    assert_eq!(seen(&groq), ("Bearer gsk-Groq".to_owned(), "llama".to_owned()));
    assert_eq!(seen(&openai), ("Bearer sk-OpenAi".to_owned(), "gpt".to_owned()));

    // A backend without a key sends none, whatever others there are.
    let mut keyless = remote(route("groq", groq.url(), "", "llama"));
    keyless.route.service.key = None;
    text(&self::writer(&keyless)).await.unwrap();
    assert_eq!(groq.seen()[1].authorization, None);
}
