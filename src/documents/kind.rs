//! What a file is, by what it says it is, its name and its first bytes.

/// A format that text is read from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Plain text, and whatever has no format of its own here.
    Text,
    /// Text with Markdown.
    Markdown,
    /// A table as text.
    Csv,
    /// A page.
    Html,
    /// Portable Document Format.
    Pdf,
    /// Word since 2007.
    Docx,
    /// Excel since 2007.
    Xlsx,
    /// PowerPoint since 2007.
    Pptx,
    /// A message with its headers.
    Email,
    /// Word, Excel and PowerPoint before 2007.
    Legacy,
}

/// Content types that say nothing.
const UNTOLD: [&str; 4] =
    ["", "application/octet-stream", "binary/octet-stream", "application/x-download"];

/// The content type of files of which nothing is known.
const OPAQUE: &str = "application/octet-stream";

/// First bytes of compound files, the container of Office before 2007.
pub(super) const COMPOUND: &[u8] = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1";
/// First bytes of a zip archive.
const ZIP: &[u8] = b"PK\x03\x04";

/// Bytes at the end of a package that are searched for the names of its parts.
const DIRECTORY: usize = 128 * 1024;

impl Kind {
    /// All of them, by name.
    const NAMES: [(&str, Self); 10] = [
        ("text", Self::Text),
        ("markdown", Self::Markdown),
        ("csv", Self::Csv),
        ("html", Self::Html),
        ("pdf", Self::Pdf),
        ("docx", Self::Docx),
        ("xlsx", Self::Xlsx),
        ("pptx", Self::Pptx),
        ("email", Self::Email),
        ("legacy", Self::Legacy),
    ];

    /// The kind of a file. A content type counts before the content, the content before the name,
    /// except for types that several formats share.
    #[must_use]
    pub fn of(content_type: Option<&str>, name: &str, bytes: &[u8]) -> Self {
        let kind = essence(content_type.unwrap_or_default());
        if is_untold(&kind) {
            return by_content(bytes).or_else(|| by_extension(name)).unwrap_or(Self::Text);
        }
        let has = |word: &str| kind.contains(word);
        if has("pdf") {
            Self::Pdf
        } else if has("html") {
            Self::Html
        } else if has("wordprocessingml") {
            Self::Docx
        } else if has("spreadsheetml") {
            Self::Xlsx
        } else if has("presentationml") {
            Self::Pptx
        } else if has("word") || has("ms-excel") || has("ms-powerpoint") {
            // Browsers send these for new and old formats alike, and the one of Excel for CSV too.
            match by_content(bytes).or_else(|| by_extension(name)) {
                Some(Self::Text) | None => Self::Legacy,
                Some(kind) => kind,
            }
        } else if has("csv") || has("tab-separated") {
            Self::Csv
        } else if has("markdown") {
            Self::Markdown
        } else if has("rfc822") {
            Self::Email
        } else {
            Self::Text
        }
    }

    /// Its name between processes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        let named = Self::NAMES.iter().find(|(_, kind)| *kind == self);
        named.map_or("text", |(name, _)| name)
    }

    /// The kind of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, kind)| *kind)
    }

    /// The content type that files of this name have, for those that come without.
    #[must_use]
    pub fn content_type_of(name: &str) -> &'static str {
        by_extension(name).map_or(OPAQUE, Self::content_type)
    }

    /// The content type that a file seems to have by its bytes alone, whatever it says it is.
    #[must_use]
    pub fn content_type_by(bytes: &[u8]) -> &'static str {
        if let Some(kind) = by_content(bytes) {
            return kind.content_type();
        }
        let Ok(text) = std::str::from_utf8(bytes) else { return OPAQUE };
        if text.contains('\0') {
            return OPAQUE;
        }
        let begin: String = text.trim_start().chars().take(14).collect();
        let begin = begin.to_ascii_lowercase();
        let is_page = ["<!doctype html", "<html"].iter().any(|tag| begin.starts_with(tag));
        if is_page { Self::Html.content_type() } else { Self::Text.content_type() }
    }

    /// The content type that files of this kind have.
    #[must_use]
    pub fn content_type(self) -> &'static str {
        match self {
            Self::Text => "text/plain",
            Self::Markdown => "text/markdown",
            Self::Csv => "text/csv",
            Self::Html => "text/html",
            Self::Pdf => "application/pdf",
            Self::Docx => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
            Self::Xlsx => "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
            Self::Pptx => {
                "application/vnd.openxmlformats-officedocument.presentationml.presentation"
            }
            Self::Email => "message/rfc822",
            Self::Legacy => "application/msword",
        }
    }

    /// Whether its parser is complex enough to need a process of its own.
    #[must_use]
    pub fn is_guarded(self) -> bool {
        match self {
            Self::Pdf | Self::Docx | Self::Xlsx | Self::Pptx | Self::Email => true,
            Self::Text | Self::Markdown | Self::Csv | Self::Html | Self::Legacy => false,
        }
    }
}

/// A content type without its parameters, in lower case.
pub(super) fn essence(content_type: &str) -> String {
    content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

/// Whether a content type, without parameters and in lower case, says nothing.
pub(super) fn is_untold(content_type: &str) -> bool {
    UNTOLD.contains(&content_type)
}

/// The character set that a content type names.
pub(super) fn charset(content_type: &str) -> Option<&str> {
    let mut parameters = content_type.split(';').skip(1);
    parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        let value = value.trim().trim_matches('"');
        name.trim().eq_ignore_ascii_case("charset").then_some(value)
    })
}

fn by_content(bytes: &[u8]) -> Option<Kind> {
    // The names of a package's parts stand at its end, unpacked.
    let end = &bytes[bytes.len().saturating_sub(DIRECTORY)..];
    let holds = |part: &[u8]| end.windows(part.len()).any(|window| window == part);
    if bytes.starts_with(b"%PDF-") {
        Some(Kind::Pdf)
    } else if bytes.starts_with(COMPOUND) {
        Some(Kind::Legacy)
    } else if !bytes.starts_with(ZIP) {
        None
    } else if holds(b"word/document.xml") {
        Some(Kind::Docx)
    } else if holds(b"xl/workbook.xml") {
        Some(Kind::Xlsx)
    } else if holds(b"ppt/presentation.xml") {
        Some(Kind::Pptx)
    } else {
        None
    }
}

fn by_extension(name: &str) -> Option<Kind> {
    let (_, extension) = name.rsplit_once('.')?;
    Some(match extension.to_ascii_lowercase().as_str() {
        "txt" | "text" | "log" | "rst" | "json" | "jsonl" | "xml" | "yaml" | "yml" => Kind::Text,
        "md" | "markdown" => Kind::Markdown,
        "csv" | "tsv" => Kind::Csv,
        "html" | "htm" | "xhtml" => Kind::Html,
        "pdf" => Kind::Pdf,
        "docx" | "docm" => Kind::Docx,
        "xlsx" | "xlsm" => Kind::Xlsx,
        "pptx" | "pptm" => Kind::Pptx,
        "eml" => Kind::Email,
        "doc" | "xls" | "ppt" => Kind::Legacy,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_telling_content_type_counts_before_the_name() {
        for (content_type, name, kind) in [
            ("application/pdf", "a.txt", Kind::Pdf),
            ("Text/HTML; charset=utf-8", "a.txt", Kind::Html),
            ("text/plain", "a.html", Kind::Text),
            ("text/csv", "a", Kind::Csv),
            ("text/x-markdown", "a", Kind::Markdown),
            ("message/rfc822", "a", Kind::Email),
            ("image/png", "a.pdf", Kind::Text),
            ("application/json", "a", Kind::Text),
        ] {
            assert_eq!(Kind::of(Some(content_type), name, b""), kind, "{content_type} {name}");
        }
    }

    #[test]
    fn the_content_then_the_name_count_without_one() {
        for untold in
            [None, Some(""), Some("application/octet-stream"), Some("Binary/Octet-Stream")]
        {
            assert_eq!(Kind::of(untold, "a.txt", b"%PDF-1.4"), Kind::Pdf);
            assert_eq!(Kind::of(untold, "A.DOCX", b"text"), Kind::Docx);
            assert_eq!(Kind::of(untold, "a", b"PK\x03\x04..xl/workbook.xml"), Kind::Xlsx);
            assert_eq!(Kind::of(untold, "a.doc", COMPOUND), Kind::Legacy);
            assert_eq!(Kind::of(untold, "a.unknown", b"text"), Kind::Text);
            assert_eq!(Kind::of(untold, "", b""), Kind::Text);
        }
    }

    #[test]
    fn types_that_formats_share_are_told_apart_by_the_content() {
        let word = Some("application/msword");
        assert_eq!(Kind::of(word, "a.doc", COMPOUND), Kind::Legacy);
        assert_eq!(Kind::of(word, "a.doc", b"PK\x03\x04..word/document.xml"), Kind::Docx);
        let excel = Some("application/vnd.ms-excel");
        assert_eq!(Kind::of(excel, "a.csv", b"a;b"), Kind::Csv);
        assert_eq!(Kind::of(excel, "a.xls", COMPOUND), Kind::Legacy);
        assert_eq!(Kind::of(excel, "a", b"?"), Kind::Legacy);
    }

    #[test]
    fn the_bytes_alone_tell_a_type() {
        for (bytes, content_type) in [
            (b"%PDF-1.7 ...".as_slice(), "application/pdf"),
            (b"plain words", "text/plain"),
            (b"  <!DOCTYPE HTML><p>", "text/html"),
            (b"", "text/plain"),
            (b"\xff\xfe\x00", OPAQUE),
            (b"a\0b", OPAQUE),
        ] {
            assert_eq!(Kind::content_type_by(bytes), content_type, "{bytes:?}");
        }
    }

    #[test]
    fn every_kind_has_a_name() {
        for (name, kind) in Kind::NAMES {
            assert_eq!((kind.as_str(), Kind::named(name)), (name, Some(kind)));
        }
        assert_eq!(Kind::named("x"), None);
    }

    #[test]
    fn parameters_name_the_character_set() {
        assert_eq!(charset("text/html; Charset=\"ISO-8859-1\"; x=y"), Some("ISO-8859-1"));
        assert_eq!(charset("text/html; x"), None);
    }
}
