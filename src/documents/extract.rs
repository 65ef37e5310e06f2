//! Text out of bytes, one file a format.
//!
//! The functions here trust nothing: they neither recurse nor allocate by what a file claims, and
//! stop at the limits they are given. What their parsers do beyond that is held in by the process
//! they run in, see [`super::guard`].

mod csv;
mod docx;
mod email;
mod html;
mod package;
mod pdf;
mod sheet;
mod slides;
mod text;
mod write;

use super::{Kind, Limits, NoText};

/// A file to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source<'a> {
    /// What it is.
    pub(super) kind: Kind,
    /// The character set it is said to be in; UTF-8 without one.
    pub(super) charset: Option<&'a str>,
    /// All of it.
    pub(super) bytes: &'a [u8],
}

/// The text of a file, which is not blank.
///
/// # Errors
///
/// Why there is none.
pub(super) fn text(source: Source<'_>, limits: &Limits) -> Result<String, NoText> {
    let Source { kind, charset, bytes } = source;
    if bytes.is_empty() {
        return Err(NoText::Empty);
    }
    let text = match kind {
        Kind::Text => text::plain(bytes, charset)?,
        Kind::Markdown => text::markdown(&text::plain(bytes, charset)?),
        Kind::Csv => csv::text(&text::plain(bytes, charset)?, limits)?,
        Kind::Html => html::text(&html::decoded(bytes, charset)?, limits)?,
        Kind::Pdf => pdf::text(bytes, limits)?,
        Kind::Docx => docx::text(bytes, limits)?,
        Kind::Xlsx => sheet::text(bytes, limits)?,
        Kind::Pptx => slides::text(bytes, limits)?,
        Kind::Email => email::text(bytes, limits)?,
        Kind::Legacy => return Err(package::compound(bytes)),
    };
    if text.len() as u64 > limits.text_bytes {
        Err(NoText::TooLong)
    } else if text.trim().is_empty() {
        Err(NoText::Blank)
    } else {
        Ok(text)
    }
}
