//! PDF files, page by page.
//!
//! The parser below panics on much of what it does not expect, and bounds neither memory nor time:
//! panics are caught here, the rest is bounded by the process it runs in.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use pdf_extract::{
    ConvertToFmt, Document, OutputError, PlainTextOutput, output_doc, output_doc_page,
};

use super::write::Writer;
use crate::documents::{Limits, NoText};

/// The text of the pages, an empty line between them. Pages that cannot be read are left out as
/// long as one can.
pub(super) fn text(bytes: &[u8], limits: &Limits) -> Result<String, NoText> {
    let document = guarded(|| Document::load_mem(bytes)).and_then(Result::ok);
    let mut document = document.ok_or(NoText::Damaged)?;
    if document.is_encrypted() {
        // Files that only restrict what may be done with them open with an empty password.
        let opened = guarded(|| document.decrypt("")).is_some_and(|opened| opened.is_ok());
        if !opened {
            return Err(NoText::Encrypted);
        }
    }
    let whole = page_text(limits, |out| output_doc(&document, out));
    match whole {
        Page::Text(text) => return tidy(&[text], limits),
        Page::TooLong => return Err(NoText::TooLong),
        Page::Unreadable => {}
    }
    let pages = guarded(|| document.get_pages()).ok_or(NoText::Damaged)?;
    let mut texts = Vec::new();
    for number in pages.into_keys() {
        match page_text(limits, |out| output_doc_page(&document, out, number)) {
            Page::Text(text) => texts.push(text),
            Page::TooLong => return Err(NoText::TooLong),
            Page::Unreadable => {}
        }
    }
    if texts.is_empty() { Err(NoText::Damaged) } else { tidy(&texts, limits) }
}

/// What came of reading pages.
enum Page {
    Text(String),
    TooLong,
    Unreadable,
}

fn page_text(
    limits: &Limits,
    read: impl FnOnce(&mut PlainTextOutput<&mut Bounded>) -> Result<(), OutputError>,
) -> Page {
    let max = usize::try_from(limits.text_bytes).unwrap_or(usize::MAX);
    let mut text = Bounded { text: String::new(), max, is_full: false };
    let done = guarded(|| read(&mut PlainTextOutput::new(&mut text)));
    match done {
        _ if text.is_full => Page::TooLong,
        Some(Ok(())) => Page::Text(text.text),
        Some(Err(_)) | None => Page::Unreadable,
    }
}

/// The result, or nothing if there was a panic instead.
fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    catch_unwind(AssertUnwindSafe(work)).ok()
}

/// Line ends as they are, everything else tidied up.
fn tidy(pages: &[String], limits: &Limits) -> Result<String, NoText> {
    let mut out = Writer::new(limits.text_bytes);
    for page in pages {
        out.paragraph();
        out.lines(page)?;
    }
    Ok(out.finish())
}

/// A text that takes no more than its limit. What is tidied away counts as well, hence a limit of
/// its own.
struct Bounded {
    text: String,
    max: usize,
    is_full: bool,
}

impl fmt::Write for Bounded {
    fn write_str(&mut self, more: &str) -> fmt::Result {
        if self.text.len() + more.len() > self.max {
            self.is_full = true;
            return Err(fmt::Error);
        }
        self.text.push_str(more);
        Ok(())
    }
}

impl<'a> ConvertToFmt for &'a mut Bounded {
    type Writer = &'a mut Bounded;

    fn convert(self) -> Self::Writer {
        self
    }
}
