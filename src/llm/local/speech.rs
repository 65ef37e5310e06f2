//! From the bytes of tokens to text that can be shown: whole characters, up to a stop word.

/// A text that comes in bytes.
pub struct Speech<'a> {
    stops: &'a [&'a str],
    /// Bytes that do not make a character yet.
    bytes: Vec<u8>,
    /// Text that may turn out to begin a stop word.
    held: String,
    /// Something other than white space has come.
    begun: bool,
    stopped: bool,
}

impl<'a> Speech<'a> {
    /// A text that ends before the first of `stops`, none of which is empty.
    pub fn new(stops: &'a [&'a str]) -> Self {
        Self { stops, bytes: Vec::new(), held: String::new(), begun: false, stopped: false }
    }

    /// Whether a stop word has come. What comes after it is ignored.
    pub fn stopped(&self) -> bool {
        self.stopped
    }

    /// Takes the bytes of a token and gives the text that is certain now. White space at the
    /// beginning is left out.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped {
            return String::new();
        }
        self.bytes.extend_from_slice(bytes);
        self.take_characters(false);
        self.certain(false)
    }

    /// The rest of the text.
    pub fn finish(&mut self) -> String {
        if self.stopped {
            return String::new();
        }
        self.take_characters(true);
        self.certain(true)
    }

    /// Moves whole characters from `bytes` to `held`; what can never be one becomes U+FFFD, and
    /// at the end half a character does.
    fn take_characters(&mut self, end: bool) {
        let mut begin = 0;
        let mut text = String::new();
        for chunk in self.bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            begin += chunk.valid().len();
            let invalid = chunk.invalid();
            let unfinished = begin + invalid.len() == self.bytes.len() && is_unfinished(invalid);
            if !invalid.is_empty() && (end || !unfinished) {
                text.push(char::REPLACEMENT_CHARACTER);
                begin += invalid.len();
            }
        }
        self.bytes.drain(..begin);
        if !self.begun {
            text = text.trim_start().to_owned();
            self.begun = !text.is_empty();
        }
        self.held.push_str(&text);
    }

    fn certain(&mut self, end: bool) -> String {
        let sure = self.held.len() - if end { 0 } else { self.unsure() };
        let found = self.stops.iter().filter_map(|stop| self.held.find(stop)).min();
        // One that begins later has to wait: an earlier one may yet come to its end.
        if let Some(at) = found.filter(|at| *at <= sure) {
            self.stopped = true;
            self.held.truncate(at);
            return std::mem::take(&mut self.held);
        }
        let rest = self.held.split_off(sure);
        std::mem::replace(&mut self.held, rest)
    }

    /// Bytes at the end of `held` that a stop word may begin with.
    fn unsure(&self) -> usize {
        let begins = |stop: &&str| {
            let most = self.held.len().min(stop.len() - 1);
            (1..=most)
                .rev()
                .find(|len| stop.is_char_boundary(*len) && self.held.ends_with(&stop[..*len]))
        };
        self.stops.iter().filter_map(begins).max().unwrap_or(0)
    }
}

/// Whether more bytes may make a character of `bytes`, which are none yet.
fn is_unfinished(bytes: &[u8]) -> bool {
    std::str::from_utf8(bytes).is_err_and(|error| error.error_len().is_none())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn spoken(stops: &[&str], parts: &[&[u8]]) -> (Vec<String>, bool) {
        let mut speech = Speech::new(stops);
        let mut said: Vec<String> = parts.iter().map(|part| speech.push(part)).collect();
        said.push(speech.finish());
        (said, speech.stopped())
    }

    #[test]
    fn characters_are_not_cut() {
        let euro = "€".as_bytes();
        let (said, _) = spoken(&[], &[&euro[..1], &euro[1..2], &euro[2..], b"!"]);
        assert_eq!(said, ["", "", "€", "!", ""]);
        let (said, _) = spoken(&[], &[b"a\xff", b"b", &euro[..2]]);
        assert_eq!(said, ["a\u{fffd}", "b", "", "\u{fffd}"]);
    }

    #[test]
    fn a_stop_word_ends_the_text_wherever_it_is_cut() {
        let (said, stopped) =
            spoken(&["\nNote:"], &[b"It is so. ", b"\nNo", b"te: I am", b" sure"]);
        assert_eq!((said.concat().as_str(), stopped), ("It is so. ", true));
        let (said, stopped) = spoken(&["\nNote:"], &[b"It is so.", b"\nNo", b" more"]);
        assert_eq!(said, ["It is so.", "", "\nNo more", ""]);
        assert!(!stopped);
        let (said, _) = spoken(&["---", "\n--"], &[b"a\n-", b"-", b"-b"]);
        assert_eq!(said.concat(), "a");
        // The one that begins first counts, also where another one ends before it.
        let early = ["x-y", "-"];
        assert_eq!(spoken(&early, &[b"x-", b"y"]).0.concat(), "");
        assert_eq!(spoken(&early, &[b"x-", b"z"]).0.concat(), "x");
        assert_eq!(spoken(&early, &[b"x-"]).0.concat(), "x");
    }

    #[test]
    fn white_space_at_the_beginning_is_left_out() {
        assert_eq!(spoken(&["\n\n\n"], &[b"\n\n\n", b" \n", b" Yes"]).0.concat(), "Yes");
    }

    proptest! {
        #[test]
        fn cuts_make_no_difference(text in "[ab€\n-]{0,30}", cuts in prop::collection::vec(0_usize..40, 0..6)) {
            let stops = ["\n-", "ab", "€€"];
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let parts: Vec<&[u8]> = cuts.windows(2).map(|cut| &bytes[cut[0]..cut[1]]).collect();
            let text = text.trim_start();
            let end = stops.iter().filter_map(|stop| text.find(stop)).min();
            let (said, stopped) = spoken(&stops, &parts);
            prop_assert_eq!(said.concat(), &text[..end.unwrap_or(text.len())]);
            prop_assert_eq!(stopped, end.is_some());
        }
    }
}
