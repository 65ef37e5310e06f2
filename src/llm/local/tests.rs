use std::sync::Mutex;

use candle_core::quantized::GgmlDType;

use super::sample::Sample;
use super::*;
use crate::llm::Standing;

/// A writer by a small random model, and what it tells of its answers.
fn writer(max_tokens: usize, waiting: usize) -> (Local, Arc<Mutex<Vec<Option<Figures>>>>) {
    let sampling = Sampling { temperature: 0.7, top_p: 0.9, seed: 3 };
    let settings = Settings { context: 4096, max_tokens, sampling, snippet_chars: 300, threads: 1 };
    let told: Arc<Mutex<Vec<Option<Figures>>>> = Arc::default();
    let observer: Observer = Arc::new({
        let told = told.clone();
        move |figures| told.lock().unwrap().push(figures.copied())
    });
    // The file may go once the model is loaded.
    let file = Sample::model("qwen3", GgmlDType::Q8_0).file();
    (Local::start(file.path(), settings, waiting, Level::BEST, observer).unwrap(), told)
}

fn snippets() -> Vec<Snippet> {
    vec![Snippet { index: 0, text: "The thing.".to_owned(), standing: Standing::default() }]
}

#[tokio::test]
async fn an_answer_comes_in_pieces_and_is_told_of() {
    let (local, told) = writer(20, 1);
    assert_eq!(local.name(), "local");
    assert!(local.model().is_some_and(|model| model.ends_with(".gguf")));
    let mut answers = Vec::new();
    for _ in 0..2 {
        let pieces: Vec<_> = local.write("Which thing?", snippets()).collect().await;
        let pieces: Result<Vec<String>, _> = pieces.into_iter().collect();
        answers.push(pieces.unwrap().concat());
    }
    assert_eq!(answers[0], answers[1], "the same seed");
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 2);
    let figures = told[0].unwrap();
    assert!((1..=20).contains(&figures.answer_tokens) && figures.prompt_tokens > 100);
}

#[tokio::test]
async fn a_failure_is_told_and_the_next_question_is_answered() {
    let (local, told) = writer(20, 1);
    let long = "the ".repeat(4000);
    let failed: Vec<_> = local.write(&long, snippets()).collect().await;
    let [Err(LlmError::Local(reason))] = &failed[..] else { panic!("{failed:?}") };
    assert!(reason.contains("LLM_CONTEXT"), "{reason}");
    let answered: Vec<_> = local.write("Which?", snippets()).collect().await;
    assert!(answered.iter().all(Result::is_ok));
    assert_eq!(told.lock().unwrap().iter().map(Option::is_some).collect::<Vec<_>>(), [false, true]);
}

#[tokio::test]
async fn few_may_wait_and_who_leaves_makes_room() {
    let (local, _) = writer(1000, 1);
    // The first is in work for sure once it has said something; it stops at a full channel.
    let mut first = local.write("First?", snippets());
    assert!(first.next().await.unwrap().is_ok());
    let mut second = local.write("Second?", snippets());
    assert!(second.next().now_or_never().is_none(), "it waits for the first");
    let refused: Vec<_> = local.write("Third?", snippets()).collect().await;
    assert!(matches!(&refused[..], [Err(LlmError::Busy { waiting: 1 })]), "{refused:?}");
    drop(first);
    assert!(second.next().await.unwrap().is_ok(), "its turn has come");
}

#[tokio::test]
async fn nothing_is_done_before_the_first_piece_is_asked_for() {
    let (local, told) = writer(5, 1);
    for _ in 0..10 {
        drop(local.write("Never?", snippets()));
    }
    let answered: Vec<_> = local.write("Now?", snippets()).collect().await;
    assert!(answered.iter().all(Result::is_ok));
    assert_eq!(told.lock().unwrap().len(), 1);
}

/// A level below the processor's best is obeyed, and writes an answer too.
#[tokio::test]
async fn the_instructions_can_be_limited() {
    let sampling = Sampling { temperature: 0.0, top_p: 1.0, seed: 0 };
    let settings =
        Settings { context: 4096, max_tokens: 9, sampling, snippet_chars: 300, threads: 1 };
    let file = Sample::model("llama", GgmlDType::Q4_0).file();
    for limit in [Level::Portable, Level::Avx2, Level::Avx512] {
        let told = Arc::new(Mutex::new(0));
        let observer: Observer = Arc::new({
            let told = told.clone();
            move |figures| *told.lock().unwrap() += figures.map_or(0, |f| f.answer_tokens)
        });
        let local = Local::start(file.path(), settings, 1, limit, observer).unwrap();
        assert_eq!(local.level(), Kernels::best(limit).level());
        assert!(local.level() <= limit);
        if local.level() < limit {
            println!("skipped: this processor has no {limit}");
        }
        let pieces: Vec<_> = local.write("Which thing?", snippets()).collect().await;
        assert!(pieces.iter().all(Result::is_ok));
        assert!((1..=9).contains(&*told.lock().unwrap()), "{limit}");
    }
}
