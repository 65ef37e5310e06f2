//! Cuts a text that comes in pieces.

use super::super::wire::openai::chat::Bounds;

/// Passes a text on, up to the first of some strings or to a length.
pub(super) struct Cutter {
    stops: Vec<String>,
    /// Characters that may still be passed on; none = any number.
    chars_left: Option<usize>,
    /// What may be the beginning of one of the strings.
    held: String,
    end: Option<End>,
}

/// Why a text ended early.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// One of the strings came.
    Stop,
    /// The length was reached.
    Length,
}

impl Cutter {
    pub(super) fn new(bounds: Bounds) -> Self {
        let Bounds { stops, max_chars } = bounds;
        Self { stops, chars_left: max_chars, held: String::new(), end: None }
    }

    /// What may be passed on after `piece` came.
    pub(super) fn push(&mut self, piece: &str) -> String {
        if self.end.is_none() {
            self.held.push_str(piece);
        }
        self.pass_on(self.safe())
    }

    /// What is left when no piece is to come.
    pub(super) fn rest(&mut self) -> String {
        self.pass_on(self.held.len())
    }

    /// The first `safe` bytes of what is held, or those before a string that begins there. One that
    /// begins later has to wait: an earlier one may yet come to its end.
    fn pass_on(&mut self, safe: usize) -> String {
        if self.end.is_some() {
            return String::new();
        }
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop)).min();
        let found = found.filter(|found| *found <= safe);
        let mut text: String = self.held.drain(..found.unwrap_or(safe)).collect();
        if found.is_some() {
            self.end = Some(End::Stop);
        }
        self.shorten(&mut text);
        text
    }

    /// The name of the end in answers.
    pub(super) fn finish_reason(&self) -> &'static str {
        match self.end {
            None | Some(End::Stop) => "stop",
            Some(End::Length) => "length",
        }
    }

    /// Bytes of what is held that no string can begin in.
    fn safe(&self) -> usize {
        let begins = |at: &usize| self.stops.iter().any(|stop| stop.starts_with(&self.held[*at..]));
        let mut places = self.held.char_indices().map(|(at, _)| at);
        places.find(begins).unwrap_or(self.held.len())
    }

    fn shorten(&mut self, text: &mut String) {
        let Some(left) = &mut self.chars_left else { return };
        let length = text.chars().count();
        if let Some((at, _)) = text.char_indices().nth(*left) {
            text.truncate(at);
            self.end = Some(End::Length);
        }
        *left = left.saturating_sub(length);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cut(pieces: &[&str], stops: &[&str], max_chars: Option<usize>) -> (String, &'static str) {
        let stops = stops.iter().map(|stop| (*stop).to_owned()).collect();
        let mut cutter = Cutter::new(Bounds { stops, max_chars });
        let mut text: String = pieces.iter().map(|piece| cutter.push(piece)).collect();
        text.push_str(&cutter.rest());
        (text, cutter.finish_reason())
    }

    #[test]
    fn a_text_ends_before_a_stop_or_at_its_length() {
        assert_eq!(cut(&["one ", "two"], &[], None), ("one two".to_owned(), "stop"));
        assert_eq!(cut(&["one #", "# two"], &["##"], None), ("one ".to_owned(), "stop"));
        assert_eq!(cut(&["one #", " two"], &["##"], None), ("one # two".to_owned(), "stop"));
        assert_eq!(cut(&["one #"], &["##"], None), ("one #".to_owned(), "stop"));
        // The one that begins first counts, also where another one ends before it.
        assert_eq!(cut(&["a#", "b"], &["a#b", "#"], None), (String::new(), "stop"));
        assert_eq!(cut(&["a#", "c"], &["a#b", "#"], None), ("a".to_owned(), "stop"));
        assert_eq!(cut(&["a#"], &["a#b", "#"], None), ("a".to_owned(), "stop"));
        assert_eq!(cut(&["é", "é", "é"], &[], Some(2)), ("éé".to_owned(), "length"));
        assert_eq!(cut(&["éé"], &[], Some(2)), ("éé".to_owned(), "stop"));
        assert_eq!(cut(&["abc##d"], &["##"], Some(2)), ("ab".to_owned(), "length"));
    }

    proptest! {
        /// However a text is cut into pieces, what is passed on is the same.
        #[test]
        fn pieces_do_not_matter(
            pieces in prop::collection::vec("[ab#é]{0,4}", 0..12),
            stops in prop::collection::vec("[ab#é]{1,3}", 0..3),
            max_chars in prop::option::of(0..20_usize),
        ) {
            let whole = pieces.concat();
            let end = stops.iter().filter_map(|stop| whole.find(stop)).min();
            let stopped = &whole[..end.unwrap_or(whole.len())];
            let expected: String = stopped.chars().take(max_chars.unwrap_or(usize::MAX)).collect();
            let pieces: Vec<&str> = pieces.iter().map(String::as_str).collect();
            let stops: Vec<&str> = stops.iter().map(String::as_str).collect();
            let (text, reason) = cut(&pieces, &stops, max_chars);
            prop_assert_eq!(&text, &expected);
            prop_assert_eq!(reason == "length", expected.len() < stopped.len());
        }
    }
}
