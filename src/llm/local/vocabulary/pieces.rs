//! A text that knows which parts of it a template wrote.

/// Pieces of a text, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pieces {
    pieces: Vec<(String, bool)>,
}

impl Pieces {
    /// Appends what a template wrote: names of special tokens mean these tokens.
    pub fn template(&mut self, text: impl Into<String>) {
        self.push(text.into(), true);
    }

    /// Appends what somebody said: it is nothing but text.
    pub fn said(&mut self, text: impl Into<String>) {
        self.push(text.into(), false);
    }

    fn push(&mut self, text: String, of_template: bool) {
        if !text.is_empty() {
            self.pieces.push((text, of_template));
        }
    }

    /// The pieces, and whether a template wrote them.
    pub fn iter(&self) -> impl Iterator<Item = (&str, bool)> {
        self.pieces.iter().map(|(text, of_template)| (text.as_str(), *of_template))
    }
}
