//! Cuts a text into sentences, list items and headings.

/// Words whose full stop does not end a sentence, in lower case.
const ABBREVIATIONS: [&str; 49] = [
    "al", "approx", "apr", "art", "aug", "ave", "ca", "capt", "cf", "ch", "co", "col", "corp",
    "dec", "dept", "dr", "ed", "eds", "eq", "eqs", "est", "feb", "fig", "figs", "gen", "gov",
    "inc", "jan", "jr", "lt", "ltd", "mr", "mrs", "ms", "mt", "no", "nos", "nov", "oct", "pp",
    "prof", "ref", "rev", "sec", "sept", "sr", "st", "vol", "vs",
];

/// A line at least this long, in bytes, may be wrapped: its sentence may go on in the next line.
const WRAPPED_MIN: usize = 50;

/// The sentences of `text`, in order, without the blanks around them. Blank lines, list items and
/// lines that are too short to be wrapped end a sentence too, since many have no full stop.
pub(super) fn split(text: &str) -> Vec<&str> {
    let mut sentences = Vec::new();
    for block in blocks(text) {
        let mut start = 0;
        for end in ends(block) {
            push(&mut sentences, &block[start..end]);
            start = end;
        }
        push(&mut sentences, &block[start..]);
    }
    sentences
}

fn push<'a>(sentences: &mut Vec<&'a str>, sentence: &'a str) {
    let sentence = sentence.trim();
    if sentence.chars().any(char::is_alphanumeric) {
        sentences.push(sentence);
    }
}

/// The runs of lines that belong together.
fn blocks(text: &str) -> Vec<&str> {
    let mut blocks = Vec::new();
    let (mut start, mut at) = (0, 0);
    let mut open = false;
    for line in text.split_inclusive('\n') {
        let trimmed = line.trim();
        if !open || trimmed.is_empty() || is_item(trimmed) {
            blocks.push(&text[start..at]);
            start = at;
        }
        at += line.len();
        open = trimmed.len() >= WRAPPED_MIN && !trimmed.ends_with(['.', '!', '?', ':', ';']);
    }
    blocks.push(&text[start..]);
    blocks
}

/// Whether a line starts a list item, a heading, a quotation or a table row.
fn is_item(line: &str) -> bool {
    if line.starts_with(['-', '*', '•', '–', '·', '#', '>', '|', '+']) {
        return true;
    }
    numbered(line).is_some()
}

/// The byte after the number of an item such as `12.` or `3)`, if the line starts with one.
fn numbered(line: &str) -> Option<usize> {
    let digits = line.bytes().take_while(u8::is_ascii_digit).count();
    let marked = (1..=3).contains(&digits) && line[digits..].starts_with(['.', ')']);
    let spaced = line[digits..].chars().nth(1).is_none_or(char::is_whitespace);
    (marked && spaced).then_some(digits + 1)
}

/// Where the sentences of a block end, but for the last one.
fn ends(block: &str) -> Vec<usize> {
    let mut ends = Vec::new();
    let indent = block.len() - block.trim_start().len();
    let marker = numbered(&block[indent..]).map_or(0, |end| indent + end);
    let mut chars = block.char_indices().peekable();
    while let Some((at, char)) = chars.next() {
        if !matches!(char, '.' | '!' | '?' | '…' | '。' | '！' | '？') || at < marker {
            continue;
        }
        let mut end = at + char.len_utf8();
        while let Some(&(at, char)) = chars.peek()
            && matches!(char, '.' | '!' | '?' | '"' | '\'' | ')' | ']' | '”' | '’' | '»' | '」')
        {
            end = at + char.len_utf8();
            chars.next();
        }
        let full_width = matches!(char, '。' | '！' | '？');
        if full_width || is_end(&block[..at], char, &block[end..]) {
            ends.push(end);
        }
    }
    ends
}

/// Whether the `mark` between `before` and `after` ends a sentence.
fn is_end(before: &str, mark: char, after: &str) -> bool {
    if !after.starts_with(char::is_whitespace) {
        return false;
    }
    // A mark that stands alone is one that a tokenizer has set apart.
    if before.ends_with(char::is_whitespace) {
        return true;
    }
    let lower_case_follows = after.trim_start().starts_with(char::is_lowercase);
    if mark != '.' {
        return !lower_case_follows;
    }
    let word = before.rsplit(|c: char| c.is_whitespace() || "([\"“".contains(c)).next();
    let word = word.unwrap_or_default();
    let initial = word.chars().count() == 1 && word.chars().all(char::is_alphabetic);
    let dotted = word.contains('.') && word.chars().all(|c| c == '.' || c.is_alphabetic());
    let abbreviated = ABBREVIATIONS.contains(&word.to_lowercase().as_str());
    !(lower_case_follows || initial || dotted || abbreviated)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn prose_is_cut_at_full_stops() {
        let text = "The pump failed. Was it the seal? Yes! \"It leaked.\" Replace it";
        let want = ["The pump failed.", "Was it the seal?", "Yes!", "\"It leaked.\"", "Replace it"];
        assert_eq!(split(text), want);
    }

    #[test]
    fn abbreviations_initials_and_numbers_do_not_end_a_sentence() {
        for text in [
            "Dr. J. R. Smith of the U.S. Army measured 3.14 units, e.g. of length, vs. No. 5.",
            "See fig. 3 and eq. (4.2) in ref. 7.",
            "Version 2.0.1 of node.js runs on example.org.",
            "It rose by approx. 3 % (cf. Miller et al. 1999) in Sept. 2020.",
        ] {
            assert_eq!(split(text), [text]);
        }
    }

    #[test]
    fn items_and_short_lines_are_sentences() {
        let text = "# Pumps\nCapital: Paris\nPopulation: 68 million\n\n1. Close the valve. Wait.\n2. Drain\n- seal kit\n* grease";
        let want = [
            "# Pumps",
            "Capital: Paris",
            "Population: 68 million",
            "1. Close the valve.",
            "Wait.",
            "2. Drain",
            "- seal kit",
            "* grease",
        ];
        assert_eq!(split(text), want);
    }

    #[test]
    fn a_wrapped_line_goes_on() {
        let text = "The lift of the wing was measured over a range of speeds\nand angles. It fell.";
        let want =
            ["The lift of the wing was measured over a range of speeds\nand angles.", "It fell."];
        assert_eq!(split(text), want);
    }

    #[test]
    fn tokenized_and_cjk_text_is_cut() {
        let text = "the wing was swept . the lift fell .";
        assert_eq!(split(text), ["the wing was swept .", "the lift fell ."]);
        assert_eq!(
            split("東京は首都です。大阪は都市です。"),
            ["東京は首都です。", "大阪は都市です。"]
        );
    }

    #[test]
    fn nothing_is_not_a_sentence() {
        for text in ["", "\n\n", " ... ", "---", "\u{0}"] {
            assert!(split(text).is_empty(), "{text:?}");
        }
    }

    #[test]
    fn abbreviations_are_sorted() {
        assert!(ABBREVIATIONS.is_sorted());
    }

    proptest! {
        /// Nothing but blanks and marks is lost, and nothing is out of order.
        #[test]
        fn sentences_are_the_text(text in "[a-zA-Z0-9 .!?\n\\-\\[\\]é。]{0,200}") {
            let letters = |text: &str| text.chars().filter(|c| c.is_alphanumeric()).collect::<String>();
            let joined: String = split(&text).concat();
            prop_assert_eq!(letters(&joined), letters(&text));
        }

        #[test]
        fn any_text_is_cut(text in any::<String>()) {
            for sentence in split(&text) {
                prop_assert!(!sentence.is_empty() && sentence.trim() == sentence);
            }
        }
    }
}
