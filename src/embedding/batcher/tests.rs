use std::sync::mpsc;

use super::*;
use crate::embedding::between::Between;
use crate::embedding::{Precision, cosine};

fn embedder(options: EmbedderOptions) -> Embedder {
    let encoder = Encoder::built_in(Precision::F32).unwrap();
    Embedder::start(encoder, options).unwrap()
}

fn tenant(name: &str) -> TenantId {
    TenantId::new(name).unwrap()
}

fn one_thread() -> EmbedderOptions {
    EmbedderOptions { threads: 1, ..EmbedderOptions::default() }
}

/// A model whose word pieces are the bytes of a text, and whose vector is their number. It says
/// which slices it computes, and stops until the gate lets it through: once in a slice with what
/// begins with `wait`, before and after it looks in one with `hold`, and where it splits `split`,
/// which it says too.
struct Toy {
    info: ModelInfo,
    gate: Mutex<mpsc::Receiver<()>>,
    slices: mpsc::Sender<Vec<String>>,
}

/// Lets the model through once.
type Gate = mpsc::Sender<()>;

fn toy(options: EmbedderOptions) -> (Embedder, Gate, mpsc::Receiver<Vec<String>>) {
    let (gate, waits) = mpsc::channel();
    let (slices, computed) = mpsc::channel();
    let info = ModelInfo { name: "toy".into(), dim: 1, max_tokens: 256 };
    let model = Toy { info, gate: Mutex::new(waits), slices };
    (Embedder::start_model(Box::new(model), options).unwrap(), gate, computed)
}

impl Toy {
    /// Waits at the gate.
    fn pass(&self) {
        // Without its gate the test is over.
        let _open = lock(&self.gate).recv();
    }
}

impl Model for Toy {
    fn info(&self) -> &ModelInfo {
        &self.info
    }

    fn tokenize(&self, text: &str) -> Result<Vec<u32>, EmbedError> {
        match text {
            "no pieces" => Err(EmbedError::Failed("no pieces".to_owned())),
            _ => {
                if text.starts_with("split") {
                    drop(self.slices.send(vec![text.to_owned()]));
                    self.pass();
                }
                Ok(text.bytes().map(u32::from).collect())
            }
        }
    }

    fn forward(
        &self,
        texts: &[&[u32]],
        between: Option<&Between<'_>>,
    ) -> Result<Vec<Vec<f32>>, EmbedError> {
        let text = |pieces: &&[u32]| pieces.iter().map(|&piece| piece as u8 as char).collect();
        let slice: Vec<String> = texts.iter().map(text).collect();
        drop(self.slices.send(slice.clone()));
        let is_query = slice.iter().any(|text| text.starts_with("query"));
        assert!(!is_query || between.is_none(), "nothing comes between queries");
        if slice.iter().any(|text| text.starts_with("wait")) {
            self.pass();
        }
        if slice.iter().any(|text| text.starts_with("hold")) {
            self.pass();
            between.expect("of a job").look();
            self.pass();
        }
        assert!(!slice.contains(&"panic".to_owned()), "on purpose");
        if slice.contains(&"fail".to_owned()) {
            return Err(EmbedError::Failed("failed".to_owned()));
        }
        let few = slice.contains(&"few".to_owned());
        Ok(texts.iter().skip(usize::from(few)).map(|text| vec![text.len() as f32]).collect())
    }
}

#[tokio::test]
async fn a_batch_larger_than_the_queue_comes_back_in_order() {
    let options = EmbedderOptions { queue_len: 2, threads: 2, ..EmbedderOptions::default() };
    let embedder = embedder(options);
    let texts: Vec<String> =
        (0..9).map(|i| format!("{} pump number {i}", "very ".repeat((9 - i) % 4))).collect();
    let vectors = embedder.batch(&tenant("a"), texts.clone()).await.unwrap();
    for (text, vector) in texts.iter().zip(&vectors) {
        let alone = embedder.query(text).await.unwrap();
        assert!(cosine(vector, &alone) > 0.999, "{text}");
    }
    let stats = embedder.stats();
    assert_eq!((stats.texts.done, stats.queries.done, stats.texts.waiting), (9, 9, 0));
    assert!(stats.texts.slice_texts.count() >= 5, "{stats:?}");
    assert_eq!((stats.texts.wait_seconds.count(), stats.queries.wait_seconds.count()), (9, 9));
    assert!(embedder.batch(&tenant("a"), Vec::new()).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_query_is_computed_once() {
    let embedder = embedder(one_thread());
    let first = embedder.query("where is the pump").await.unwrap();
    let second = embedder.query("where is the pump").await.unwrap();
    assert!(Arc::ptr_eq(&first, &second));
    let stats = embedder.stats();
    assert_eq!((stats.cache.hits, stats.cache.misses, stats.cache.entries), (1, 1, 1));
    assert_eq!((stats.queries.done, stats.queries.tokens), (1, 6));
}

/// What the model says next.
async fn said(slices: mpsc::Receiver<Vec<String>>) -> (Vec<String>, mpsc::Receiver<Vec<String>>) {
    tokio::task::spawn_blocking(move || (slices.recv().unwrap(), slices)).await.unwrap()
}

#[tokio::test]
async fn queries_come_in_the_middle_of_a_slice_of_a_job() {
    let (embedder, gate, slices) = toy(one_thread());
    let a = tenant("a");
    let mut job = Box::pin(embedder.batch(&a, vec!["hold".to_owned(); 3]));
    assert!(futures_util::poll!(job.as_mut()).is_pending());
    let (slice, slices) = said(slices).await;
    assert_eq!(slice, ["hold", "hold", "hold"]);
    // The only thread is inside the slice, and stays there after it has looked.
    let query = |text: &'static str| Box::pin(embedder.query(text));
    let (mut first, mut second, mut bad) = (query("query"), query("query 2"), query("panic"));
    for query in [&mut first, &mut second, &mut bad] {
        assert!(futures_util::poll!(query.as_mut()).is_pending());
    }
    gate.send(()).unwrap();
    assert_eq!((first.await.unwrap()[0], second.await.unwrap()[0]), (5.0, 7.0));
    assert!(matches!(bad.await, Err(EmbedError::Failed(_))));
    assert!(futures_util::poll!(job.as_mut()).is_pending(), "the slice is not done");
    assert_eq!(slices.try_iter().next().unwrap(), ["query", "query 2", "panic"]);
    gate.send(()).unwrap();
    assert_eq!(job.await.unwrap(), [[4.0], [4.0], [4.0]]);
}

#[tokio::test]
async fn queries_come_between_the_splitting_of_two_texts() {
    let (embedder, gate, slices) = toy(one_thread());
    let a = tenant("a");
    let texts = ["split 1", "split 2"].map(str::to_owned).to_vec();
    let mut job = Box::pin(embedder.batch(&a, texts));
    assert!(futures_util::poll!(job.as_mut()).is_pending());
    let (slice, slices) = said(slices).await;
    assert_eq!(slice, ["split 1"]);
    let mut query = Box::pin(embedder.query("query"));
    assert!(futures_util::poll!(query.as_mut()).is_pending());
    gate.send(()).unwrap();
    assert_eq!(query.await.unwrap()[0], 5.0);
    gate.send(()).unwrap();
    assert_eq!(job.await.unwrap(), [[7.0], [7.0]]);
    let order: Vec<Vec<String>> = slices.try_iter().collect();
    assert_eq!(order, [vec!["query"], vec!["split 2"], vec!["split 1", "split 2"]]);
}

#[tokio::test]
async fn texts_of_another_tenant_come_in_between() {
    let (embedder, gate, slices) = toy(one_thread());
    let long = "x".repeat(900);
    let flood: Vec<String> = (0..10).map(|i| format!("wait {i} {long}")).collect();
    let (tenant_a, tenant_b) = (tenant("flood"), tenant("other"));
    let mut flood = Box::pin(embedder.batch(&tenant_a, flood));
    assert!(futures_util::poll!(flood.as_mut()).is_pending());
    let other = vec![format!("wait other {long}")];
    let mut other = Box::pin(embedder.batch(&tenant_b, other));
    assert!(futures_util::poll!(other.as_mut()).is_pending());
    for _ in 0..6 {
        gate.send(()).unwrap();
    }
    assert_eq!(other.await.unwrap().len(), 1);
    assert_eq!(flood.await.unwrap().len(), 10);
    let order: Vec<String> = slices.try_iter().flatten().collect();
    let at = order.iter().position(|text| text.starts_with("wait other")).unwrap();
    // Two texts fill a slice: one may have been taken before, and one text went in the same turn.
    assert!(at <= 3, "{at} of {}", order.len());
}

#[tokio::test]
async fn a_bad_text_fails_alone() {
    let (embedder, _gate, _slices) = toy(one_thread());
    for bad in ["fail", "panic", "few", "no pieces"] {
        let texts = ["one", bad, "three", "five"].map(str::to_owned).to_vec();
        let vectors = embedder.each(&tenant("a"), texts.clone()).await;
        for (text, vector) in texts.iter().zip(vectors) {
            match vector {
                Ok(vector) => assert_eq!(vector, [text.len() as f32]),
                Err(error) => assert!(matches!(error, EmbedError::Failed(_)) && text == bad),
            }
        }
        assert!(matches!(embedder.batch(&tenant("a"), texts).await, Err(EmbedError::Failed(_))));
        assert!(matches!(embedder.query(bad).await, Err(EmbedError::Failed(_))));
    }
    let stats = embedder.stats();
    assert_eq!((stats.texts.done, stats.texts.failed), (4 * 2 * 3, 4 * 2));
    assert_eq!((stats.queries.done, stats.queries.failed, stats.cache.entries), (0, 4, 0));
}

#[tokio::test]
async fn what_is_given_up_leaves_the_room_to_others() {
    let options = EmbedderOptions { queue_len: 2, ..one_thread() };
    let (embedder, gate, slices) = toy(options);
    let a = tenant("a");
    let mut first = Box::pin(embedder.batch(&a, vec!["wait".to_owned(); 2]));
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    let slices = tokio::task::spawn_blocking(move || (slices.recv().unwrap(), slices).1);
    let slices = slices.await.unwrap();
    // The queue is empty again: the second fills it, the third and fourth wait for room.
    let batch = |text: &str| Box::pin(embedder.batch(&a, vec![text.to_owned(); 2]));
    let (mut second, mut third, mut fourth) = (batch("2nd"), batch("3rd"), batch("4th"));
    for waiting in [&mut second, &mut third, &mut fourth] {
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    }
    assert_eq!(embedder.stats().texts.waiting, 2);
    drop(second);
    drop(third);
    gate.send(()).unwrap();
    assert_eq!(first.await.unwrap().len(), 2);
    assert_eq!(fourth.await.unwrap(), [[3.0], [3.0]]);
    assert_eq!(slices.try_iter().collect::<Vec<_>>(), [["4th", "4th"]]);
    // All of the room is there: a batch that needs it all goes through.
    assert_eq!(batch("last").await.unwrap().len(), 2);
}

/// The room is granted while nobody polls, and the future goes away: it must not be lost.
#[tokio::test]
async fn room_that_was_granted_and_not_used_goes_back() {
    let (embedder, gate, slices) = toy(EmbedderOptions { queue_len: 1, ..one_thread() });
    let a = tenant("a");
    let batch = |text: &str| Box::pin(embedder.batch(&a, vec![text.to_owned()]));
    let (mut first, mut second, mut third) = (batch("wait"), batch("2nd"), batch("3rd"));
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    let slices = tokio::task::spawn_blocking(move || (slices.recv().unwrap(), slices).1);
    let slices = slices.await.unwrap();
    for waiting in [&mut second, &mut third] {
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    }
    gate.send(()).unwrap();
    first.await.unwrap();
    // The second's text is taken, which grants the third its room.
    let slices = tokio::task::spawn_blocking(move || (slices.recv().unwrap(), slices).1);
    slices.await.unwrap();
    drop(third);
    assert_eq!(batch("last").await.unwrap(), [[4.0]]);
}

#[tokio::test]
async fn a_stopped_service_refuses() {
    let embedder = embedder(one_thread());
    let other = embedder.clone();
    drop(embedder);
    other.query("still here").await.unwrap();
    other.stop();
    assert!(matches!(other.query("new").await, Err(EmbedError::Stopped)));
    let texts = vec!["new".to_owned(); 100];
    assert!(matches!(other.batch(&tenant("a"), texts).await, Err(EmbedError::Stopped)));
    assert!(other.query("still here").await.is_ok(), "what is in memory needs no thread");
}

#[tokio::test]
async fn queries_too_many_are_refused() {
    let (embedder, gate, slices) = toy(EmbedderOptions { queue_len: 1, ..one_thread() });
    let query = |text: &'static str| Box::pin(embedder.query(text));
    // The thread is at work, and one query more waits.
    let (mut first, mut second) = (query("wait 1"), query("second"));
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    let slices = tokio::task::spawn_blocking(move || (slices.recv().unwrap(), slices).1);
    let slices = slices.await.unwrap();
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    assert!(matches!(embedder.query("third").await, Err(EmbedError::Busy)));
    assert_eq!(embedder.stats().refused, 1);
    gate.send(()).unwrap();
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.unwrap()[0], second.unwrap()[0]), (6.0, 6.0));
    assert_eq!(slices.try_iter().collect::<Vec<_>>(), [["second"]]);
}

/// A pass over all that came meanwhile costs little more than one over the first of them.
#[tokio::test]
async fn queries_that_come_during_a_pass_share_the_next() {
    let (embedder, gate, slices) = toy(one_thread());
    let query = |text: &'static str| Box::pin(embedder.query(text));
    let (mut first, mut second, mut third) = (query("wait 1"), query("second"), query("third"));
    assert!(futures_util::poll!(first.as_mut()).is_pending());
    let slices = tokio::task::spawn_blocking(move || (slices.recv().unwrap(), slices).1);
    let slices = slices.await.unwrap();
    for waiting in [&mut second, &mut third] {
        assert!(futures_util::poll!(waiting.as_mut()).is_pending());
    }
    gate.send(()).unwrap();
    let (first, second, third) = tokio::join!(first, second, third);
    assert!(first.is_ok() && second.is_ok() && third.is_ok());
    assert_eq!(slices.try_iter().collect::<Vec<_>>(), [["second", "third"]]);
}
