//! Splits a text into the word pieces that the model reads.

use std::borrow::Cow;

use tokenizers::{Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use super::EmbedError;

/// Bytes of a text that are split, after [`condensed`] has shortened it. The window is full long
/// before, except for text made of things that are no pieces, such as characters that the tokenizer
/// drops; the limit bounds the time spent on those.
const TEXT_MAX: usize = 32 * 1024;

/// Characters that are left of a run: more than the longest word that is not simply unknown, which
/// is one of 100 letters.
const RUN_MIN: usize = 256;

/// The model's tokenizer, with its window.
pub(super) struct WordPieces {
    tokenizer: Tokenizer,
    max_tokens: usize,
}

impl WordPieces {
    /// `json` is a `tokenizer.json`; its own truncation and padding are replaced.
    pub(super) fn new(json: &[u8], max_tokens: usize) -> Result<Self, EmbedError> {
        let unusable =
            |error: tokenizers::Error| EmbedError::Model(format!("tokenizer.json: {error}"));
        let mut tokenizer = Tokenizer::from_bytes(json).map_err(unusable)?;
        let window = TruncationParams {
            direction: TruncationDirection::Right,
            max_length: max_tokens,
            strategy: TruncationStrategy::LongestFirst,
            stride: 0,
        };
        tokenizer.with_truncation(Some(window)).map_err(unusable)?;
        tokenizer.with_padding(None);
        Ok(Self { tokenizer, max_tokens })
    }

    /// The pieces of the start of `text`, between the marks of beginning and end: 2 to
    /// `max_tokens` of them.
    pub(super) fn split(&self, text: &str) -> Result<Vec<u32>, EmbedError> {
        let encoding = self
            .tokenizer
            .encode_fast(window(text, self.max_tokens).as_ref(), true)
            .map_err(|error| EmbedError::Failed(format!("cannot split a text: {error}")))?;
        Ok(encoding.get_ids().to_vec())
    }
}

/// The part of `text` that can matter: all of it, or up to the blank after enough words to fill
/// the window whatever they are. Splitting a long text whole would take longer than embedding it.
fn window(text: &str, max_tokens: usize) -> Cow<'_, str> {
    let head = &text[..text.floor_char_boundary(TEXT_MAX)];
    match filled(head, max_tokens) {
        Some(end) => Cow::Borrowed(&head[..end]),
        None if head.len() == text.len() => Cow::Borrowed(text),
        None => Cow::Owned(condensed(text, max_tokens.max(RUN_MIN))),
    }
}

/// Where in `text` there have been `max_tokens` words.
fn filled(text: &str, max_tokens: usize) -> Option<usize> {
    let (mut words, mut inside) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            // A word with an ASCII letter or digit is at least one piece. Others are not counted:
            // they may consist of characters that the tokenizer drops.
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => inside = true,
            b' ' | b'\n' | b'\t' | b'\r' if inside => {
                inside = false;
                words += 1;
                if words == max_tokens {
                    return Some(at);
                }
            }
            _ => {}
        }
    }
    None
}

/// `text` with one blank for several, and at most `run_max` of the same character or of ASCII
/// letters and digits in a row: the pieces stay the same, since a word that long is unknown, marks
/// are a piece each and fill the window, and of dropped characters nothing is left. Ends after
/// [`TEXT_MAX`] bytes.
fn condensed(text: &str, run_max: usize) -> String {
    let is_blank = |c| matches!(c, ' ' | '\n' | '\t' | '\r');
    let mut out = String::new();
    let (mut last, mut same, mut letters) = (None, 0, 0);
    for c in text.chars() {
        if out.len() >= TEXT_MAX {
            break;
        }
        same = if last == Some(c) { same + 1 } else { 1 };
        letters = if c.is_ascii_alphanumeric() { letters + 1 } else { 0 };
        let again = is_blank(c) && last.is_some_and(is_blank);
        last = Some(c);
        if same <= run_max && letters <= run_max && !again {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::ModelInfo;
    use crate::embedding::folder::TOKENIZER;
    use proptest::prelude::*;

    fn pieces() -> WordPieces {
        WordPieces::new(TOKENIZER, ModelInfo::built_in().max_tokens).unwrap()
    }

    const CLS: u32 = 101;
    const SEP: u32 = 102;
    const UNK: u32 = 100;

    #[test]
    fn text_is_lower_cased_stripped_of_accents_and_marked() {
        let pieces = pieces();
        let plain = pieces.split("cafe creme").unwrap();
        assert_eq!(pieces.split("Café   CRÈME\u{0}").unwrap(), plain);
        assert_eq!((plain[0], plain[plain.len() - 1]), (CLS, SEP));
        assert_eq!(pieces.split("hello world").unwrap(), [CLS, 7592, 2088, SEP]);
        assert_eq!(pieces.split("").unwrap(), [CLS, SEP]);
    }

    #[test]
    fn the_window_holds_256_with_both_marks() {
        let pieces = pieces();
        for n in [253, 254, 255, 256, 257, 300, 5000] {
            let ids = pieces.split(&"word ".repeat(n)).unwrap();
            assert_eq!(ids.len(), (n + 2).min(256), "{n} words");
            assert_eq!((ids[0], ids[ids.len() - 1]), (CLS, SEP));
        }
    }

    #[test]
    fn endless_words_are_one_unknown_piece() {
        let pieces = pieces();
        assert_eq!(pieces.split(&"x".repeat(1 << 20)).unwrap(), [CLS, UNK, SEP]);
        assert_eq!(pieces.split(&"\u{7}\u{301} \t".repeat(1 << 18)).unwrap(), [CLS, SEP]);
        assert_eq!(pieces.split(&"語".repeat(1 << 19)).unwrap().len(), 256);
    }

    /// A line of `tests/data/golden/tokens.jsonl`: the text is each part as many times.
    #[derive(serde::Deserialize)]
    struct Golden {
        parts: Vec<(String, usize)>,
        ids: Vec<u32>,
    }

    #[test]
    fn pieces_are_those_of_the_reference() {
        let pieces = pieces();
        let lines = include_str!("../../tests/data/golden/tokens.jsonl").lines();
        let golden: Vec<Golden> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(golden.len() > 400);
        for Golden { parts, ids } in golden {
            let text: String = parts.iter().map(|(part, times)| part.repeat(*times)).collect();
            assert_eq!(pieces.split(&text).unwrap(), ids, "{parts:?}");
        }
    }

    /// Of what is shortened, the pieces are the same as of the whole; so is what follows it.
    #[test]
    fn shortened_text_has_the_same_pieces() {
        let pieces = pieces();
        let n = TEXT_MAX / 2;
        for run in ["x", "ab1", " ", "\t \n", "\u{301}", "\u{200b}", "-", "é", "語", "한", "["] {
            for after in [" and the rest", "", "]CLS] x"] {
                let text = format!("start {}{after}", run.repeat(n));
                let whole = pieces.tokenizer.encode_fast(text.as_str(), true).unwrap();
                assert_eq!(pieces.split(&text).unwrap(), whole.get_ids(), "{run:?} {after:?}");
            }
        }
    }

    proptest! {
        /// Cutting ahead of the tokenizer changes nothing.
        #[test]
        fn the_cut_text_has_the_same_pieces(
            words in prop::collection::vec("[a-zA-Z0-9äß語.,'\u{7}\u{301}-]{0,4}", 0..600),
            blank in "[ \n\t]{1,2}",
        ) {
            let pieces = pieces_once();
            let text = words.join(&blank);
            let whole = pieces.tokenizer.encode_fast(text.as_str(), true).unwrap();
            prop_assert_eq!(pieces.split(&text).unwrap(), whole.get_ids());
        }

        #[test]
        fn any_text_has_2_to_256_pieces(text in any::<String>()) {
            let ids = pieces_once().split(&text).unwrap();
            prop_assert!((2..=256).contains(&ids.len()));
        }
    }

    fn pieces_once() -> &'static WordPieces {
        static PIECES: std::sync::OnceLock<WordPieces> = std::sync::OnceLock::new();
        PIECES.get_or_init(pieces)
    }
}
