//! Vectors from a real server that speaks the protocols well and badly.

use std::sync::Arc;
use std::time::Duration;

use activekg_storage::ids::TenantId;
use activekg_storage::tables::graph::Slot;
use activekg_storage::time::{ManualClock, UnixMicros};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::embedding::FixedEmbedder;
use crate::observability::metrics::Metrics;
use crate::upstream::testing::{Reply, Seen, Stub, metrics, service};
use crate::upstream::{Failure, Service};

/// A vector that tells its text by its direction: the number of bytes decides.
fn vector(text: &str) -> [f32; 2] {
    [text.len() as f32, 1.0]
}

fn texts_of(seen: &Seen) -> Vec<String> {
    let texts = seen.body["input"].as_array().expect("texts");
    texts.iter().map(|text| text.as_str().expect("a text").to_owned()).collect()
}

fn openai(seen: &Seen) -> Value {
    let texts = texts_of(seen);
    let data: Vec<Value> = texts
        .iter()
        .enumerate()
        .rev()
        .map(|(index, text)| json!({"index": index, "embedding": vector(text)}))
        .collect();
    json!({"data": data, "usage": {"total_tokens": 10 * texts.len()}})
}

struct Site {
    embedder: FixedEmbedder,
    metrics: Metrics,
    clock: ManualClock,
}

fn site(stub: &Stub, dialect: Dialect, tokens_a_day: Option<u64>) -> Site {
    crate::tls::init();
    let (metrics, clock) = (metrics(), ManualClock::at(UnixMicros(0)));
    let base = match dialect {
        Dialect::OpenAi => stub.url(),
        Dialect::Ollama => format!("http://{}", stub.addr()),
    };
    let options = ProviderOptions {
        dialect,
        service: Service { name: dialect.service(), ..service(&base) },
        model: ModelInfo { name: "small".to_owned(), dim: 2, max_tokens: 8192 },
        names_dimensions: true,
        tokens_a_day,
    };
    let provider = Provider::new(options, metrics.upstream.clone(), Arc::new(clock.clone()));
    let embedder = FixedEmbedder::remote(provider.unwrap(), EmbedderOptions::default(), Slot::A);
    Site { embedder, metrics, clock }
}

fn tenant() -> TenantId {
    TenantId::new("t").expect("a name")
}

fn length(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum::<f32>().sqrt()
}

#[tokio::test]
async fn batches_keep_their_order_and_their_bounds() {
    let stub = Stub::start(|_, seen| Reply::json(200, &openai(seen))).await;
    let Site { embedder, metrics, .. } = site(&stub, Dialect::OpenAi, None);
    let texts: Vec<String> = (0..150).map(|n| "x".repeat(n + 1)).collect();
    let vectors = embedder.batch(&tenant(), texts.clone()).await.unwrap();
    for (text, found) in texts.iter().zip(&vectors) {
        let [x, y] = vector(text);
        assert!((found[0] / found[1] - x / y).abs() < 1e-3, "{}", text.len());
        assert!((length(found) - 1.0).abs() < 1e-6);
    }
    let seen = stub.seen();
    let counts: Vec<usize> = seen.iter().map(|seen| texts_of(seen).len()).collect();
    assert_eq!(counts, [64, 64, 22]);
    assert_eq!(
        (seen[0].path.as_str(), &seen[0].body["model"]),
        ("/v1/embeddings", &json!("small"))
    );
    assert_eq!(seen[0].body["dimensions"], 2);
    let stats = embedder.stats();
    assert_eq!((stats.texts.done, stats.texts.tokens, stats.texts.waiting), (150, 1500, 0));
    let text = metrics.prometheus_text();
    let line = "activekg_embedding_remote_tokens_total{service=\"openai_embeddings\"} 1500";
    assert!(text.lines().any(|found| found == line), "{text}");
    assert!(embedder.batch(&tenant(), Vec::new()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_query_is_asked_for_once() {
    let stub = Stub::start(|_, seen| {
        assert_eq!(seen.path, "/api/embed");
        let vectors: Vec<_> = texts_of(seen).iter().map(|text| vector(text)).collect();
        Reply::json(200, &json!({"embeddings": vectors, "prompt_eval_count": 3}))
    })
    .await;
    let Site { embedder, .. } = site(&stub, Dialect::Ollama, None);
    let first = embedder.query("pump").await.unwrap();
    assert!(Arc::ptr_eq(&first, &embedder.query("pump").await.unwrap()));
    embedder.query("").await.unwrap();
    assert_eq!(texts_of(&stub.seen()[1]), [" "], "no service takes an empty text");
    let stats = embedder.stats();
    assert_eq!((stats.queries.done, stats.queries.tokens, stats.cache.hits), (2, 6, 1));
    assert_eq!((stub.seen().len(), embedder.model().dim), (2, 2));
}

#[tokio::test]
async fn answers_that_do_not_fit_give_no_vectors() {
    let bodies = [
        json!({"data": []}),
        json!({"data": [{"index": 0, "embedding": [1.0, 2.0, 3.0]}]}),
        json!({"data": [{"index": 0, "embedding": [1e39, 2.0]}]}),
        json!({"data": [{"index": 0, "embedding": [null, 2.0]}]}),
        json!("<html>"),
    ];
    let n = bodies.len();
    let stub = Stub::start(move |n, _| Reply::json(200, &bodies[n])).await;
    let Site { embedder, .. } = site(&stub, Dialect::OpenAi, None);
    for _ in 0..n {
        let error = embedder.query("pump").await.unwrap_err();
        assert!(
            matches!(&error, EmbedError::Remote(error) if matches!(error.failure, Failure::NoSense(_))),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_text_that_the_service_refuses_fails_alone() {
    let stub = Stub::start(|_, seen| {
        if texts_of(seen).iter().any(|text| text == "bad") {
            return Reply::json(400, &json!({"error": {"code": "bad_input"}}));
        }
        Reply::json(200, &openai(seen))
    })
    .await;
    let Site { embedder, .. } = site(&stub, Dialect::OpenAi, None);
    let texts = ["one", "bad", "three"].map(str::to_owned).to_vec();
    let found: Vec<bool> =
        embedder.each(&tenant(), texts).await.iter().map(Result::is_ok).collect();
    assert_eq!(found, [true, false, true]);
}

#[tokio::test]
async fn the_tokens_of_a_day_are_all_there_are() {
    let stub = Stub::start(|_, seen| Reply::json(200, &openai(seen))).await;
    let Site { embedder, metrics, clock } = site(&stub, Dialect::OpenAi, Some(25));
    for text in ["a", "b"] {
        embedder.query(text).await.unwrap();
    }
    let long = "x".repeat(100);
    let error = embedder.query(&long).await.unwrap_err();
    assert!(error.to_string().contains("EMBEDDING_TOKEN_BUDGET"), "{error}");
    assert_eq!(stub.seen().len(), 2, "nothing was sent");
    let text = metrics.prometheus_text();
    let line = "activekg_embedding_budget_refusals_total{service=\"openai_embeddings\"} 1";
    assert!(text.lines().any(|found| found == line), "{text}");
    clock.advance(Duration::from_secs(86_400));
    embedder.query("c").await.unwrap();
}

#[tokio::test]
async fn a_stopped_embedder_asks_nobody() {
    let stub = Stub::start(|_, seen| Reply::json(200, &openai(seen))).await;
    let Site { embedder, .. } = site(&stub, Dialect::OpenAi, None);
    embedder.stop();
    assert!(matches!(embedder.query("x").await, Err(EmbedError::Stopped)));
    assert!(stub.seen().is_empty());
}

proptest! {
    #[test]
    fn batches_hold_every_text_once_and_in_order(lengths in prop::collection::vec(0_usize..300_000, 0..20), small in 0_usize..200) {
        let mut texts: Vec<String> = lengths.iter().map(|n| "x".repeat(*n)).collect();
        texts.extend((0..small).map(|n| n.to_string()));
        let batches: Vec<&[String]> = batches(&texts).collect();
        prop_assert_eq!(&batches.concat(), &texts);
        for batch in batches {
            let bytes: usize = batch.iter().map(String::len).sum();
            prop_assert!(batch.len() == 1 || (batch.len() <= TEXTS_MAX && bytes <= BYTES_MAX));
        }
    }
}
