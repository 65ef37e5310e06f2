//! Cutting a text into pieces that overlap, at the ends of sentences where there are any.

use std::ops::Range;

/// Characters at the end of a piece that are searched for the end of a sentence.
const SEARCHED: usize = 500;

/// How texts are cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunking {
    /// Characters in a piece at most; at least 1.
    pub max_chars: usize,
    /// Characters that a piece has in common with the one before.
    pub overlap_chars: usize,
}

/// A piece of a text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Its words, without blanks around them.
    pub text: String,
    /// Which characters of the text it is. Characters are Unicode scalar values.
    pub chars: Range<usize>,
}

/// A place in a text, counted both ways.
#[derive(Debug, Clone, Copy)]
struct Place {
    byte: usize,
    char: usize,
}

/// The pieces of `text`, in order. One that fits is its only piece as it is; a longer one is cut
/// after the last sentence that ends within the last 500 characters of a piece, or else where the
/// piece is full, and its pieces are trimmed. A blank text has none.
#[must_use]
pub fn chunks(text: &str, chunking: Chunking) -> Vec<Chunk> {
    let Chunking { max_chars, overlap_chars } = chunking;
    let max = max_chars.max(1);
    let overlap = overlap_chars.min(max - 1);
    // A cut that close to the start of its piece that the next would not start after it is none.
    let searched = SEARCHED.min((max - overlap) / 2);
    if text.trim().is_empty() {
        return Vec::new();
    }
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut push = |chunk: Option<Chunk>| {
        // Where there are many blanks, a piece may hold nothing but what the one before ends with.
        let end = chunks.last().map_or(0, |before| before.chars.end);
        chunks.extend(chunk.filter(|chunk| chunk.chars.end > end));
    };
    let mut start = Place { byte: 0, char: 0 };
    loop {
        let rest = &text[start.byte..];
        let Some((length, _)) = rest.char_indices().nth(max) else {
            if start.char == 0 {
                let chars = 0..text.chars().count();
                return vec![Chunk { text: text.to_owned(), chars }];
            }
            push(trimmed(rest, start.char));
            return chunks;
        };
        let full = Place { byte: start.byte + length, char: start.char + max };
        let end = sentence_end(text, full, searched).unwrap_or(full);
        push(trimmed(&text[start.byte..end.byte], start.char));
        start = back(text, end, overlap);
    }
}

/// The place after the last sentence that ends within `searched` characters before `end`, and
/// after the blank that follows it.
fn sentence_end(text: &str, end: Place, searched: usize) -> Option<Place> {
    let mut blank = None;
    let mut place = end;
    for character in text[..end.byte].chars().rev().take(searched) {
        if let Some(after) = blank
            && matches!(character, '.' | '!' | '?')
        {
            return Some(after);
        }
        blank = character.is_whitespace().then_some(place);
        place = Place { byte: place.byte - character.len_utf8(), char: place.char - 1 };
    }
    None
}

/// The place `n` characters before `place`.
fn back(text: &str, place: Place, n: usize) -> Place {
    let skipped: usize = text[..place.byte].chars().rev().take(n).map(char::len_utf8).sum();
    Place { byte: place.byte - skipped, char: place.char - n }
}

/// The piece without blanks around it, nothing if there is nothing else.
fn trimmed(piece: &str, start: usize) -> Option<Chunk> {
    let text = piece.trim_start();
    let start = start + piece[..piece.len() - text.len()].chars().count();
    let text = text.trim_end();
    let chars = start..start + text.chars().count();
    (!text.is_empty()).then(|| Chunk { text: text.to_owned(), chars })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DEFAULT: Chunking = Chunking { max_chars: 8000, overlap_chars: 500 };

    fn lengths(text: &str) -> Vec<usize> {
        chunks(text, DEFAULT).iter().map(|chunk| chunk.text.chars().count()).collect()
    }

    #[test]
    fn texts_are_cut_where_clients_know_them_to_be() {
        let a = |n| "a".repeat(n);
        assert_eq!(lengths(&a(8000)), [8000]);
        assert_eq!(lengths(&a(8001)), [8000, 501]);
        assert_eq!(lengths(&a(15_500)), [8000, 8000]);
        assert_eq!(lengths(&a(15_501)), [8000, 8000, 501]);
        assert_eq!(lengths(&a(20_000)), [8000, 8000, 5000]);
        let sentences = format!("{}. ", "x".repeat(98)).repeat(300);
        assert_eq!(lengths(&sentences), [7999, 7999, 7999, 7499]);
        let within = format!("{}. {}", "x".repeat(7600), "y".repeat(1000));
        assert_eq!(lengths(&within), [7601, 1500]);
        let outside = format!("{}. {}", "x".repeat(7300), "y".repeat(2000));
        assert_eq!(lengths(&outside), [8000, 1802]);
    }

    #[test]
    fn characters_count_and_not_bytes() {
        assert_eq!(lengths(&"日".repeat(8000)), [8000]);
        assert_eq!(lengths(&"日".repeat(8001)), [8000, 501]);
    }

    #[test]
    fn a_text_that_fits_is_left_as_it_is_and_a_blank_one_has_no_pieces() {
        let only = Chunk { text: " a ".to_owned(), chars: 0..3 };
        assert_eq!(chunks(" a ", DEFAULT), [only]);
        assert_eq!(chunks("", DEFAULT), []);
        assert_eq!(chunks(&" \n".repeat(20_000), DEFAULT), []);
    }

    proptest! {
        #[test]
        fn pieces_cover_the_text_and_say_where_they_are(
            text in "([a-zé日]{0,9}[.!?]?[ \n]{0,3}){0,60}",
            max_chars in 0_usize..60,
            overlap_chars in 0_usize..80,
        ) {
            let characters: Vec<char> = text.chars().collect();
            let chunks = chunks(&text, Chunking { max_chars, overlap_chars });
            let max = max_chars.max(1);
            let mut covered = 0;
            let mut before: Option<Range<usize>> = None;
            for Chunk { text: piece, chars } in &chunks {
                prop_assert_eq!(piece, &characters[chars.clone()].iter().collect::<String>());
                prop_assert!(piece.chars().count() <= max);
                prop_assert!(!piece.trim().is_empty());
                let between = covered.min(chars.start)..chars.start;
                prop_assert!(characters[between].iter().all(|c| c.is_whitespace()), "a gap");
                if let Some(before) = before {
                    prop_assert!(chars.end > before.end, "no piece is within another");
                    prop_assert!(before.end.saturating_sub(chars.start) <= overlap_chars);
                }
                covered = chars.end;
                before = Some(chars.clone());
            }
            prop_assert!(characters[covered..].iter().all(|c| c.is_whitespace()), "the end is missing");
        }

        #[test]
        fn pieces_without_blanks_overlap_by_what_was_asked(
            n in 0_usize..400, max_chars in 2_usize..50, overlap_chars in 0_usize..25,
        ) {
            let overlap = overlap_chars.min(max_chars - 1);
            let chunks = chunks(&"a".repeat(n), Chunking { max_chars, overlap_chars });
            for pair in chunks.windows(2) {
                prop_assert_eq!(pair[0].chars.len(), max_chars);
                prop_assert_eq!(pair[0].chars.end - pair[1].chars.start, overlap);
            }
        }
    }
}
