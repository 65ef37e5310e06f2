//! From text to terms: words, lower case, no stop words, English stems.

use tantivy::tokenizer::{
    Language, Stemmer, TextAnalyzer, Token, TokenFilter, TokenStream, Tokenizer,
};

/// Words are cut to this many bytes (at a character), in the index and in queries alike: nothing
/// in a language is longer, and encoded blobs must not fill the dictionary.
const WORD_BYTES_MAX: usize = 64;

/// The stop words of Snowball's English list, which is PostgreSQL's `english` too. Sorted.
#[rustfmt::skip] // one line a word otherwise
const STOP_WORDS: [&str; 127] = [
    "a", "about", "above", "after", "again", "against", "all", "am", "an", "and", "any", "are",
    "as", "at", "be", "because", "been", "before", "being", "below", "between", "both", "but",
    "by", "can", "did", "do", "does", "doing", "don", "down", "during", "each", "few", "for",
    "from", "further", "had", "has", "have", "having", "he", "her", "here", "hers", "herself",
    "him", "himself", "his", "how", "i", "if", "in", "into", "is", "it", "its", "itself", "just",
    "me", "more", "most", "my", "myself", "no", "nor", "not", "now", "of", "off", "on", "once",
    "only", "or", "other", "our", "ours", "ourselves", "out", "over", "own", "s", "same", "she",
    "should", "so", "some", "such", "t", "than", "that", "the", "their", "theirs", "them",
    "themselves", "then", "there", "these", "they", "this", "those", "through", "to", "too",
    "under", "until", "up", "very", "was", "we", "were", "what", "when", "where", "which",
    "while", "who", "whom", "why", "will", "with", "you", "your", "yours", "yourself",
    "yourselves",
];

/// The terms of a text, as the index sees them: stems without stop words, in order, with repeats.
#[must_use]
pub fn terms(text: &str) -> Vec<String> {
    let mut terms = Vec::new();
    analyzer().token_stream(text).process(&mut |token| terms.push(token.text.clone()));
    terms
}

/// Terms with their counts in order of first appearance, at most `distinct_max` different ones
/// out of the first `total_max`.
pub(super) fn counted_terms(
    text: &str,
    distinct_max: usize,
    total_max: usize,
) -> Vec<(String, u32)> {
    let mut counted: Vec<(String, u32)> = Vec::new();
    let mut analyzer = analyzer();
    let mut stream = analyzer.token_stream(text);
    for _ in 0..total_max {
        if !stream.advance() {
            break;
        }
        let term = &stream.token().text;
        if let Some(known) = counted.iter_mut().find(|(t, _)| t == term) {
            known.1 += 1;
        } else if counted.len() < distinct_max {
            counted.push((term.clone(), 1));
        }
    }
    counted
}

/// The analysis of every text field and every query. A change to it must come with a new
/// [`super::schema::FORMAT`].
pub(super) fn analyzer() -> TextAnalyzer {
    let stems = Stemmer::new(Language::English).transform(Words::default());
    TextAnalyzer::from(stems)
}

/// Splits at everything that is neither letter nor digit in Unicode, lower-cases, and leaves stop
/// words out. Characters of scripts that do not put spaces between words (Han, kana, Thai, Lao,
/// Khmer, Burmese) are words of their own.
#[derive(Clone, Default)]
struct Words {
    token: Token,
}

struct WordStream<'a> {
    text: &'a str,
    /// Byte offset of what has not been looked at.
    at: usize,
    token: &'a mut Token,
}

impl Tokenizer for Words {
    type TokenStream<'a> = WordStream<'a>;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> WordStream<'a> {
        self.token.reset();
        WordStream { text, at: 0, token: &mut self.token }
    }
}

impl WordStream<'_> {
    /// Fills the token with the next word, stop words included; false at the end.
    fn next_word(&mut self) -> bool {
        let rest = &self.text[self.at..];
        let Some((skipped, first)) = rest.char_indices().find(|&(_, c)| c.is_alphanumeric()) else {
            self.at = self.text.len();
            return false;
        };
        let from = self.at + skipped;
        let length = if stands_alone(first) {
            first.len_utf8()
        } else {
            let word = &self.text[from..];
            word.char_indices()
                .find(|&(_, c)| !(c.is_alphanumeric() || is_joined(c)) || stands_alone(c))
                .map_or(word.len(), |(end, _)| end)
        };
        self.at = from + length;
        self.token.offset_from = from;
        self.token.offset_to = self.at;
        self.token.text.clear();
        for c in self.text[from..self.at].chars().flat_map(char::to_lowercase) {
            if self.token.text.len() + c.len_utf8() > WORD_BYTES_MAX {
                break;
            }
            self.token.text.push(c);
        }
        true
    }
}

impl TokenStream for WordStream<'_> {
    fn advance(&mut self) -> bool {
        while self.next_word() {
            if STOP_WORDS.binary_search(&self.token.text.as_str()).is_err() {
                self.token.position = self.token.position.wrapping_add(1);
                return true;
            }
        }
        false
    }

    fn token(&self) -> &Token {
        self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        self.token
    }
}

/// Combining marks, so that decomposed letters and Indic vowel killers do not split a word.
fn is_joined(c: char) -> bool {
    matches!(
        c,
        '\u{300}'
            ..='\u{36f}'
                | '\u{93c}'
                | '\u{94d}'
                | '\u{9cd}'
                | '\u{a4d}'
                | '\u{acd}'
                | '\u{b4d}'
                | '\u{bcd}'
                | '\u{c4d}'
                | '\u{ccd}'
                | '\u{d4d}'
                | '\u{200d}'
    )
}

fn stands_alone(c: char) -> bool {
    matches!(c, '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}'
        | '\u{3005}'..='\u{3007}' | '\u{3040}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}'
        | '\u{4e00}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn stop_words_are_sorted_for_the_search() {
        assert!(STOP_WORDS.is_sorted_by(|a, b| a < b));
    }

    #[test]
    fn words_are_stemmed_and_stop_words_left_out() {
        assert_eq!(terms("What are the Wings of an AEROPLANE?"), ["wing", "aeroplan"]);
        assert_eq!(terms("the flows flowing, flowed"), ["flow", "flow", "flow"]);
        assert!(terms("to be or not to be").is_empty());
        assert!(terms(" -- \u{0} ... ").is_empty());
    }

    #[test]
    fn other_scripts_are_not_broken() {
        assert_eq!(terms("Ärger im Café"), ["ärger", "im", "café"]);
        assert_eq!(terms("東京 tower"), ["東", "京", "tower"]);
        assert_eq!(terms("cafe\u{301}s"), ["cafe\u{301}"]);
    }

    #[test]
    fn operators_are_words_or_nothing() {
        assert_eq!(
            terms("title:wing AND (drag OR -lift) \"x y\"~2 *"),
            ["titl", "wing", "drag", "lift", "x", "y", "2"]
        );
    }

    #[test]
    fn long_words_are_cut_at_a_character() {
        let term = &terms(&"ж".repeat(500))[0];
        assert_eq!(term.len(), WORD_BYTES_MAX);
        let term = &terms(&format!("x{}", "ж".repeat(500)))[0];
        assert_eq!(term.len(), WORD_BYTES_MAX - 1);
    }

    #[test]
    fn counting_stops_at_the_limits() {
        assert_eq!(
            counted_terms("wing drag wing lift drag", 2, 100),
            [("wing".to_owned(), 2), ("drag".to_owned(), 2)]
        );
        assert_eq!(counted_terms("wing drag wing", 9, 2).len(), 2);
    }

    proptest! {
        #[test]
        fn any_text_gives_bounded_terms(text in "\\PC{0,200}") {
            for term in terms(&text) {
                prop_assert!(!term.is_empty() && term.len() <= WORD_BYTES_MAX);
            }
        }
    }
}
