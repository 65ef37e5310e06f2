//! Documents: from the bytes of a file to a parent node with its chunks.
//!
//! Three steps, each usable alone, so that uploads and connectors share them:
//!
//! 1. [`Extractor`] makes text of a file. Its formats are plain text, Markdown, CSV, HTML, PDF, the
//!    XML formats of Word, Excel and PowerPoint, and e-mail. Parsers of complex formats run in a
//!    process of their own with limits of time and memory, see [`guard`].
//! 2. [`chunk::chunks`] cuts the text into overlapping pieces.
//! 3. [`Intake`] names parent and chunks, and hands them to the graph, which writes each document
//!    in whole or not at all.
//!
//! Crates that do the reading, and why: `html5gum` tokenizes any tag soup without recursion and
//! without dependencies; `pdf-extract` follows fonts, encodings and positions, which plain operator
//! scanning does not; `zip` (already there for model files) and `quick-xml` (already there for
//! object stores) stream the office formats, so that no library builds a whole sheet in memory;
//! `mail-parser` knows the encodings of mail; `csv` the quoting of tables; `encoding_rs` the
//! character sets that pages and mails declare.

pub mod chunk;
mod extract;
pub mod guard;
pub mod identity;
mod intake;
mod kind;

use std::time::Duration;

pub use guard::Extractor;
pub use intake::{File, Intake, Outcome};
pub use kind::Kind;

/// Bounds of one extraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest time, of the clock and of the processor.
    pub timeout: Duration,
    /// Memory that a parser may ask for beyond what its process starts with, in bytes.
    pub memory_bytes: u64,
    /// What the parts of a packed file may unpack to, all together, in bytes.
    pub expanded_bytes: u64,
    /// Longest text of a file, in bytes of UTF-8.
    pub text_bytes: u64,
}

/// Why there is no text of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NoText {
    /// It has no bytes.
    #[error("the file is empty")]
    Empty,
    /// It was read, and there is nothing but blanks.
    #[error("no text was found in it; scanned pages need character recognition first")]
    Blank,
    /// It is neither text nor of a known format.
    #[error("files of this type hold no text that can be read")]
    Unsupported,
    /// A format of Microsoft Office before 2007.
    #[error(
        "Office formats before 2007 (.doc, .xls, .ppt) are not read; save it as .docx, .xlsx or .pptx"
    )]
    Legacy,
    /// It needs a password.
    #[error("it is encrypted; save it without a password")]
    Encrypted,
    /// Its bytes do not follow its format.
    #[error("it is damaged or not of the type it says it is")]
    Damaged,
    /// Its text is longer than allowed.
    #[error("its text is longer than EXTRACT_MAX_TEXT_BYTES allows")]
    TooLong,
    /// It unpacks to more than allowed.
    #[error("it unpacks to more than EXTRACT_MAX_EXPANDED_BYTES allows")]
    Expands,
    /// Its elements are nested deeper than any real document's.
    #[error("its elements are nested too deeply")]
    TooDeep,
    /// It took too long.
    #[error("reading it took longer than EXTRACT_TIMEOUT_SECONDS")]
    Timeout,
    /// The parser's process died.
    #[error("its parser failed or needed more memory than EXTRACT_MAX_MEMORY_BYTES")]
    Crashed,
    /// The parser's process could not be started or talked to.
    #[error("its parser could not be started; try again")]
    NotStarted,
    /// Other files were read for too long.
    #[error("too many files are being read; try again")]
    Busy,
}

impl NoText {
    /// Every reason, at the number that stands for it between processes.
    const ALL: [Self; 13] = [
        Self::Empty,
        Self::Blank,
        Self::Unsupported,
        Self::Legacy,
        Self::Encrypted,
        Self::Damaged,
        Self::TooLong,
        Self::Expands,
        Self::TooDeep,
        Self::Timeout,
        Self::Crashed,
        Self::NotStarted,
        Self::Busy,
    ];

    /// Whether a limit or a fault of this program kept a text back. Otherwise the file has none.
    #[must_use]
    pub fn is_failure(self) -> bool {
        match self {
            Self::Empty
            | Self::Blank
            | Self::Unsupported
            | Self::Legacy
            | Self::Encrypted
            | Self::Damaged => false,
            Self::TooLong
            | Self::Expands
            | Self::TooDeep
            | Self::Timeout
            | Self::Crashed
            | Self::NotStarted
            | Self::Busy => true,
        }
    }
}

impl Extractor {
    /// The text of a file that is called `name` and is said to be a `content_type`; not blank.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub async fn read(
        &self,
        name: &str,
        content_type: Option<&str>,
        bytes: bytes::Bytes,
    ) -> Result<String, NoText> {
        let kind = Kind::of(content_type, name, &bytes);
        let charset = content_type.and_then(kind::charset).map(str::to_owned);
        self.text(kind, charset, bytes).await
    }
}

/// What a reader of a web page sees, its title first. Blocks for as long as the page is long, and no
/// parser runs that could do anything else; so it needs no process of its own.
///
/// # Errors
///
/// Why there is no text: above all [`NoText::Blank`].
pub fn page_text(bytes: &[u8], content_type: &str) -> Result<String, NoText> {
    let charset = kind::charset(content_type);
    let limits = Limits {
        timeout: Duration::MAX,
        memory_bytes: u64::MAX,
        expanded_bytes: u64::MAX,
        // Taking tags off makes nothing longer but for a character set that UTF-8 is wider than.
        text_bytes: u64::MAX,
    };
    extract::text(extract::Source { kind: Kind::Html, charset, bytes }, &limits)
}

#[cfg(test)]
mod tests;
