//! Splits a text into the word pieces that the model reads.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::OnceLock;

use tokenizers::{Tokenizer, TruncationDirection, TruncationParams, TruncationStrategy};

use super::EmbedError;

/// Bytes of a text that are split for one window, after [`condensed`] has shortened it. The window is full long
/// before, except for text made of things that are no pieces, such as characters that the tokenizer
/// drops; the limit bounds the time spent on those.
const TEXT_MAX: usize = 32 * 1024;

/// The same for all windows of a text together.
const SPREAD_MAX: usize = 64 * 1024;

/// Characters that are left of a run: more than the longest word that is not simply unknown, which
/// is one of 100 letters.
const RUN_MIN: usize = 256;

/// The model's tokenizer, with its window.
pub(super) struct WordPieces {
    tokenizer: Tokenizer,
    max_tokens: usize,
    /// The same without a window, made when it is first needed: it takes some megabytes.
    endless: OnceLock<Tokenizer>,
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
        Ok(Self { tokenizer, max_tokens, endless: OnceLock::new() })
    }

    /// The pieces of the start of `text`, between the marks of beginning and end: 2 to
    /// `max_tokens` of them.
    pub(super) fn split(&self, text: &str) -> Result<Vec<u32>, EmbedError> {
        let encoding = self
            .tokenizer
            .encode_fast(head(text, self.max_tokens, TEXT_MAX).as_ref(), true)
            .map_err(unsplit)?;
        Ok(encoding.get_ids().to_vec())
    }

    /// Pieces of a window besides the marks of beginning and end: 1 at least.
    pub(super) fn window(&self) -> Result<usize, EmbedError> {
        let marks = self.tokenizer.encode_fast("", true).map_err(unsplit)?.len();
        Ok(self.max_tokens.saturating_sub(marks).max(1))
    }

    /// Where the first `most` pieces of `text` lie, or all if there are fewer, without the marks.
    pub(super) fn spread<'t>(&self, text: &'t str, most: usize) -> Result<Spread<'t>, EmbedError> {
        let text = head(text, most, SPREAD_MAX);
        let encoding = self.endless()?.encode(text.as_ref(), false).map_err(unsplit)?;
        let pieces = encoding.get_offsets().iter().zip(encoding.get_word_ids());
        let pieces = pieces.take(most).map(|(&(start, end), &word)| {
            let start = text.floor_char_boundary(start);
            Piece { bytes: start..text.ceil_char_boundary(end).max(start), word }
        });
        Ok(Spread { pieces: pieces.collect(), text })
    }

    fn endless(&self) -> Result<&Tokenizer, EmbedError> {
        if let Some(endless) = self.endless.get() {
            return Ok(endless);
        }
        let mut endless = self.tokenizer.clone();
        endless.with_truncation(None).map_err(unsplit)?;
        Ok(self.endless.get_or_init(|| endless))
    }
}

/// Where the pieces of a text lie.
pub(super) struct Spread<'t> {
    /// The text, or as much of it as matters.
    pub(super) text: Cow<'t, str>,
    /// Its pieces, in their order.
    pub(super) pieces: Vec<Piece>,
}

/// A piece of a text.
pub(super) struct Piece {
    /// The characters it was made of.
    pub(super) bytes: Range<usize>,
    /// The number of the word it is part of; none if it is a mark, and a word of its own.
    pub(super) word: Option<u32>,
}

fn unsplit(error: tokenizers::Error) -> EmbedError {
    EmbedError::Failed(format!("cannot split a text: {error}"))
}

/// The part of `text` that can matter to its first `most` pieces: all of it, or up to the blank
/// after so many words. Splitting a long text whole would take longer than embedding it.
fn head(text: &str, most: usize, bytes_max: usize) -> Cow<'_, str> {
    let head = &text[..text.floor_char_boundary(bytes_max)];
    match filled(head, most) {
        Some(end) => Cow::Borrowed(&head[..end]),
        None if head.len() == text.len() => Cow::Borrowed(text),
        None => Cow::Owned(condensed(text, most.max(RUN_MIN), bytes_max)),
    }
}

/// Where in `text` there have been `most` words.
fn filled(text: &str, most: usize) -> Option<usize> {
    let (mut words, mut inside) = (0, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            // A word with an ASCII letter or digit is at least one piece. Others are not counted:
            // they may consist of characters that the tokenizer drops.
            b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => inside = true,
            b' ' | b'\n' | b'\t' | b'\r' if inside => {
                inside = false;
                words += 1;
                if words == most {
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
/// are a piece each and fill the windows, and of dropped characters nothing is left. Ends after
/// `bytes_max` bytes.
fn condensed(text: &str, run_max: usize, bytes_max: usize) -> String {
    let is_blank = |c| matches!(c, ' ' | '\n' | '\t' | '\r');
    let mut out = String::new();
    let (mut last, mut same, mut letters) = (None, 0, 0);
    for c in text.chars() {
        if out.len() >= bytes_max {
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
impl WordPieces {
    /// All pieces of `text` but the marks, however many there are.
    pub(super) fn untruncated(&self, text: &str) -> Vec<u32> {
        self.endless().unwrap().encode_fast(text, false).unwrap().get_ids().to_vec()
    }
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
