//! Where extractors put what they find: text that is tidied up as it comes, up to a limit.

use crate::documents::NoText;

/// Text in the making. Blanks are collapsed, lines never begin or end with one, and there is at
/// most one empty line in a row. Control characters are left out.
#[derive(Debug)]
pub(super) struct Writer {
    text: String,
    max: usize,
    gap: Gap,
}

/// What stands between the last word and the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Gap {
    None,
    Space,
    Tab,
    Line,
    Paragraph,
}

impl Writer {
    /// For at most so many bytes.
    pub(super) fn new(max: u64) -> Self {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Self { text: String::new(), max, gap: Gap::None }
    }

    /// Adds words; any blanks among them are one space each.
    ///
    /// # Errors
    ///
    /// [`NoText::TooLong`] beyond the limit.
    pub(super) fn words(&mut self, words: &str) -> Result<(), NoText> {
        for character in words.chars() {
            if character.is_whitespace() {
                self.gap(Gap::Space);
            } else if !character.is_control() {
                self.push(character)?;
            }
        }
        Ok(())
    }

    /// Adds text whose line ends count, such as that of a mail or of preformatted lines.
    ///
    /// # Errors
    ///
    /// As [`words`](Self::words).
    pub(super) fn lines(&mut self, lines: &str) -> Result<(), NoText> {
        let (first, mut rest) = lines.split_once('\n').unwrap_or((lines, ""));
        self.words(first)?;
        if first.len() < lines.len() {
            self.line();
        }
        while let Some((line, more)) = rest.split_once('\n') {
            if line.trim().is_empty() {
                self.paragraph();
            }
            self.words(line)?;
            self.line();
            rest = more;
        }
        // What follows may go on with this line.
        self.words(rest)
    }

    /// What follows is a word of its own.
    pub(super) fn space(&mut self) {
        self.gap(Gap::Space);
    }

    /// What follows is the next cell of a row.
    pub(super) fn cell(&mut self) {
        self.gap(Gap::Tab);
    }

    /// What follows is on a line of its own.
    pub(super) fn line(&mut self) {
        self.gap(Gap::Line);
    }

    /// What follows has an empty line before it.
    pub(super) fn paragraph(&mut self) {
        self.gap(Gap::Paragraph);
    }

    /// Whether there are no words yet.
    pub(super) fn is_empty(&self) -> bool {
        self.text.is_empty()
    }

    /// The text.
    pub(super) fn finish(self) -> String {
        self.text
    }

    /// The widest gap counts; nothing stands before the first word.
    fn gap(&mut self, gap: Gap) {
        if !self.text.is_empty() {
            self.gap = self.gap.max(gap);
        }
    }

    fn push(&mut self, character: char) -> Result<(), NoText> {
        self.text.push_str(match self.gap {
            Gap::None => "",
            Gap::Space => " ",
            Gap::Tab => "\t",
            Gap::Line => "\n",
            Gap::Paragraph => "\n\n",
        });
        self.gap = Gap::None;
        self.text.push(character);
        if self.text.len() > self.max { Err(NoText::TooLong) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_collapsed_and_the_widest_gap_counts() {
        let mut out = Writer::new(100);
        out.paragraph();
        out.words("  a\u{a0} \n b ").unwrap();
        out.cell();
        out.words("c").unwrap();
        out.line();
        out.paragraph();
        out.line();
        out.words("\0d\u{7}").unwrap();
        out.lines("\ne f \r\n\r\n\r\ng").unwrap();
        out.lines(" h\n  ").unwrap();
        out.lines("i").unwrap();
        assert_eq!(out.finish(), "a b\tc\n\nd\ne f\n\ng h\ni");
    }

    #[test]
    fn the_limit_is_in_bytes() {
        assert_eq!(Writer::new(6).words("日日"), Ok(()));
        assert_eq!(Writer::new(5).words("日日"), Err(NoText::TooLong));
    }
}
