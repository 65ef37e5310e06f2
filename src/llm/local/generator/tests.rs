use candle_core::quantized::GgmlDType;

use super::super::kernels::Level;
use super::super::sample::Sample;
use super::*;
use crate::llm::Standing;

fn generator(context: usize, max_tokens: usize) -> Generator {
    let sampling = Sampling { temperature: 0.0, top_p: 1.0, seed: 0 };
    let settings = Settings { context, max_tokens, sampling, snippet_chars: 300, threads: 2 };
    let file = Sample::model("llama", GgmlDType::Q4_1).file();
    Generator::load(file.path(), settings, Kernels::best(Level::Avx512)).unwrap()
}

fn snippets(n: usize, chars: usize) -> Vec<Snippet> {
    let snippet = |index| Snippet { index, text: "a".repeat(chars), standing: Standing::default() };
    (0..n).map(snippet).collect()
}

/// The text of the tokens of a prompt.
fn text(generator: &Generator, prompt: &[u32]) -> String {
    let bytes: Vec<u8> =
        prompt.iter().flat_map(|token| generator.vocabulary.spoken(*token).to_vec()).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

#[test]
fn an_answer_is_as_long_as_it_may_be_and_the_same_every_time() {
    let mut generator = generator(2048, 12);
    let mut answer = |question: &str| {
        let mut pieces = Vec::new();
        let figures = generator.answer(question, snippets(1, 20), |piece| {
            pieces.push(piece);
            true
        });
        (figures.unwrap(), pieces.concat())
    };
    let (figures, first) = answer("What is it?");
    assert!((1..=12).contains(&figures.answer_tokens), "{figures:?}");
    assert!(figures.prompt_tokens > 500, "{figures:?}");
    answer("And what is the other thing, which is longer?");
    let (again, second) = answer("What is it?");
    assert_eq!(
        (again.prompt_tokens, second),
        (figures.prompt_tokens, first),
        "nothing is left over"
    );
}

#[test]
fn sources_are_dropped_from_the_end_and_the_question_stays() {
    let whole = generator(2048, 8);
    let question = "Which is the thing?";
    let all = whole.prompt(question, snippets(3, 100)).unwrap();
    assert!(text(&whole, &all).contains("[2]"));
    // Just too small for the third one.
    let two = generator(all.len() - 1 + 8, 8);
    let prompt = two.prompt(question, snippets(3, 100)).unwrap();
    let said = text(&two, &prompt);
    assert!(said.contains("[1]") && !said.contains("[2] aaa") && said.contains(question), "{said}");
    // Small enough that even the first one is cut.
    let none = whole.prompt(question, Vec::new()).unwrap().len();
    let one = generator(none + 90 + 8, 8);
    let prompt = one.prompt(question, snippets(3, 300)).unwrap();
    let said = text(&one, &prompt);
    assert!(said.contains("[0] aaa") && said.contains(question), "{said}");
    let tiny = generator(100, 8);
    assert!(matches!(tiny.prompt(question, snippets(1, 5)), Err(GenerateError::TooLong(92))));
}

#[test]
fn an_answer_nobody_waits_for_is_not_written() {
    let mut generator = generator(2048, 500);
    let mut asked = 0;
    let stopped = generator.answer("What?", snippets(1, 9), |_| {
        asked += 1;
        asked < 8
    });
    assert!(matches!(stopped, Err(GenerateError::Abandoned)), "{stopped:?}");
    assert_eq!(asked, 8);
}

#[test]
fn the_model_s_own_limit_counts() {
    let settings = *generator(1 << 20, 1 << 20).settings();
    assert_eq!((settings.context, settings.max_tokens), (8192, 4096));
    let mut small = generator(40, 8);
    assert!(matches!(small.go_on(&"the ".repeat(60), |_| true), Err(GenerateError::TooLong(32))));
    assert!(matches!(small.answer("What?", Vec::new(), |_| true), Err(GenerateError::TooLong(32))));
}
