use candle_core::quantized::GgmlDType;

use super::super::gguf::{Header, Value};
use super::super::sample::{Sample, tokens};
use super::*;

fn metadata(sample: &Sample) -> Metadata {
    let bytes = sample.bytes();
    Header::read(&bytes[..], bytes.len() as u64).unwrap().metadata
}

fn sample() -> Sample {
    Sample::model("llama", GgmlDType::Q8_0)
}

/// A vocabulary of bytes with a few merges, as GPT-2's are.
fn byte_level(pre: &str) -> Vocabulary {
    let mut sample = sample();
    let mut letters: Vec<char> = ByteLevel::alphabet().into_iter().collect();
    letters.sort_unstable();
    let mut tokens: Vec<String> = letters.into_iter().map(String::from).collect();
    tokens.extend(["th", "the", "Ġthe", "12", "<|im_start|>", "<|im_end|>"].map(str::to_owned));
    let mut kinds = vec![1; tokens.len()];
    kinds[tokens.len() - 2..].fill(3);
    let merges = ["t h", "th e", "Ġ the", "1 2"].map(str::to_owned).to_vec();
    sample.entry("tokenizer.ggml.model", Value::Text("gpt2".to_owned()));
    sample.entry("tokenizer.ggml.pre", Value::Text(pre.to_owned()));
    sample.entry("tokenizer.ggml.tokens", Value::Texts(tokens));
    sample.entry("tokenizer.ggml.token_type", Value::Integers(kinds));
    sample.entry("tokenizer.ggml.merges", Value::Texts(merges));
    sample.entries.retain(|(name, _)| name != "tokenizer.ggml.bos_token_id");
    Vocabulary::read(&metadata(&sample)).unwrap()
}

fn said(vocabulary: &Vocabulary, text: &str) -> Vec<u32> {
    let mut pieces = Pieces::default();
    pieces.said(text);
    vocabulary.encode(&pieces)
}

fn spoken(vocabulary: &Vocabulary, tokens: &[u32]) -> Vec<String> {
    let text = |token: &u32| String::from_utf8_lossy(vocabulary.spoken(*token)).into_owned();
    tokens.iter().map(text).collect()
}

#[test]
fn scores_decide_what_is_joined() {
    let vocabulary = Vocabulary::read(&metadata(&sample())).unwrap();
    let tokens = said(&vocabulary, "the ring");
    assert_eq!(tokens[0], 1, "the token that begins texts");
    assert_eq!(spoken(&vocabulary, &tokens[1..]), [" the", " ", "r", "ing"]);
    let odd = said(&vocabulary, "A€");
    assert_eq!(spoken(&vocabulary, &odd[1..])[0], " ");
    let bytes: Vec<u8> = odd[2..].iter().flat_map(|id| vocabulary.spoken(*id).to_vec()).collect();
    assert_eq!(bytes, "A€".as_bytes());
    assert!(vocabulary.ends(2) && !vocabulary.ends(1));
}

#[test]
fn bytes_are_joined_within_words() {
    let vocabulary = byte_level("default");
    assert_eq!(spoken(&vocabulary, &said(&vocabulary, "the the 12")), ["the", " the", " ", "12"]);
    let single = byte_level("smollm");
    assert_eq!(spoken(&single, &said(&single, "the 12")), ["the", " ", "1", "2"]);
    let llama3 = byte_level("llama-bpe");
    assert_eq!(spoken(&llama3, &said(&llama3, " the12")), [" the", "12"]);
    for text in ["", "ä\u{301}€😀\0\n", "x".repeat(100_000).as_str()] {
        for vocabulary in [&vocabulary, &single, &llama3] {
            assert!(spoken(vocabulary, &said(vocabulary, text)).concat().len() >= text.len());
        }
    }
}

#[test]
fn only_a_template_names_special_tokens() {
    let vocabulary = byte_level("smollm");
    let mut pieces = Pieces::default();
    pieces.template("<|im_start|>the\n");
    pieces.said("<|im_end|>");
    pieces.template("<|im_end|>");
    let tokens = vocabulary.encode(&pieces);
    let (start, end) = (vocabulary.special["<|im_start|>"], vocabulary.special["<|im_end|>"]);
    assert_eq!((tokens[0], tokens[tokens.len() - 1]), (start, end));
    assert_eq!(tokens.iter().filter(|token| **token == end).count(), 1);
    assert!(vocabulary.ends(end) && vocabulary.spoken(end).is_empty());
    assert!(vocabulary.has_special("<|im_end|>") && !vocabulary.has_special("the"));
}

#[test]
fn a_vocabulary_that_contradicts_itself_is_refused() {
    let refused = |change: &dyn Fn(&mut Sample)| {
        let mut sample = sample();
        change(&mut sample);
        Vocabulary::read(&metadata(&sample)).err().expect("it is refused").to_string()
    };
    let gpt2 = |sample: &mut Sample| {
        sample.entry("tokenizer.ggml.model", Value::Text("gpt2".to_owned()));
    };
    assert!(
        refused(&|s| s.entry("tokenizer.ggml.tokens", Value::Bool(true))).contains("no vocabulary")
    );
    assert!(
        refused(&|s| s.entry("tokenizer.ggml.tokens", Value::Texts(Vec::new())))
            .contains("no vocabulary")
    );
    assert!(
        refused(&|s| s.entry("tokenizer.ggml.model", Value::Text("t5".to_owned()))).contains("t5")
    );
    assert!(
        refused(&|s| s.entry("tokenizer.ggml.scores", Value::Floats(vec![0.0])))
            .contains("1 scores")
    );
    assert!(refused(&gpt2).contains("no merges"));
    for merge in ["nospace", " x", "the missing"] {
        let wrong = refused(&|sample| {
            gpt2(sample);
            sample.entry("tokenizer.ggml.merges", Value::Texts(vec![merge.to_owned()]));
        });
        assert!(wrong.contains("merge") || wrong.contains("vocabulary"), "{merge}: {wrong}");
    }
    // Ids beyond the vocabulary are as good as none.
    let mut sample = sample();
    sample.entry("tokenizer.ggml.bos_token_id", Value::Integer(99_999));
    let vocabulary = Vocabulary::read(&metadata(&sample)).unwrap();
    assert_eq!((vocabulary.marks()[0], vocabulary.n_tokens()), ("", tokens().len()));
}
