//! Pages without their tags.

use encoding_rs::Encoding;
use html5gum::emitters::default::DefaultEmitter;
use html5gum::{Token, Tokenizer};

use super::text::plain;
use super::write::Writer;
use crate::documents::kind::charset;
use crate::documents::{Limits, NoText};

/// Elements whose content is not for readers.
const HIDDEN: [&[u8]; 8] =
    [b"script", b"style", b"template", b"noscript", b"iframe", b"object", b"svg", b"canvas"];
/// Elements whose content is for finding one's way about the site.
const NAVIGATION: &[u8] = b"nav";
/// Elements that cannot be within a navigation; they end one that was left open.
const MAIN: [&[u8]; 3] = [b"main", b"article", b"body"];
/// Elements that begin and end a line.
const LINES: [&[u8]; 22] = [
    b"address",
    b"article",
    b"aside",
    b"body",
    b"dd",
    b"details",
    b"div",
    b"dl",
    b"dt",
    b"figcaption",
    b"figure",
    b"footer",
    b"form",
    b"header",
    b"hr",
    b"li",
    b"main",
    b"ol",
    b"section",
    b"summary",
    b"tr",
    b"ul",
];
/// Elements that stand apart.
const PARAGRAPHS: [&[u8]; 11] =
    [b"blockquote", b"h1", b"h2", b"h3", b"h4", b"h5", b"h6", b"p", b"pre", b"table", b"title"];
/// Bytes at the start in which a page declares its character set.
const DECLARED_WITHIN: usize = 1024;

/// The page in its character set: told by a byte order mark, named by its transport, or declared
/// in its head; else UTF-8.
pub(super) fn decoded(bytes: &[u8], named: Option<&str>) -> Result<String, NoText> {
    let declared = declared(&bytes[..bytes.len().min(DECLARED_WITHIN)]);
    plain(bytes, named.or(declared.as_deref()))
}

/// The character set of `<meta charset=..>` or `<meta http-equiv content="..; charset=..">`.
fn declared(head: &[u8]) -> Option<String> {
    for Ok(token) in Tokenizer::new(head) {
        let Token::StartTag(tag) = token else { continue };
        if tag.name.as_slice() != b"meta" {
            continue;
        }
        let attribute = |name: &[u8]| {
            let value = tag.attributes.get(name)?;
            Some(String::from_utf8_lossy(&value.value).into_owned())
        };
        let label = attribute(b"charset")
            .or_else(|| charset(&attribute(b"content")?).map(str::to_owned))
            .filter(|label| Encoding::for_label(label.as_bytes()).is_some());
        // A page that declares UTF-16 in ASCII is not in UTF-16.
        if let Some(label) = label {
            return (!label.to_ascii_lowercase().starts_with("utf-16")).then_some(label);
        }
    }
    None
}

/// What a reader of the page sees, its title first. A page that is nothing but navigation keeps it.
pub(super) fn text(page: &str, limits: &Limits) -> Result<String, NoText> {
    let found = render(page, limits, true)?;
    if found.is_empty() { render(page, limits, false) } else { Ok(found) }
}

fn render(page: &str, limits: &Limits, skip_navigation: bool) -> Result<String, NoText> {
    let mut out = Writer::new(limits.text_bytes);
    // Open elements of the kind whose content is left out, and which kind that is.
    let mut hidden: Option<(Vec<u8>, usize)> = None;
    let mut preformatted = 0_usize;
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    for Ok(token) in Tokenizer::new_with_emitter(page, emitter) {
        match token {
            Token::StartTag(tag) => {
                let name = tag.name.as_slice();
                // The slash at the end of a tag counts in drawings only.
                let is_empty = tag.self_closing && name == b"svg";
                match &mut hidden {
                    Some((open, _)) if open == NAVIGATION && MAIN.contains(&name) => hidden = None,
                    Some((open, depth)) => {
                        *depth += usize::from(open == name && !is_empty);
                        continue;
                    }
                    None => {}
                }
                let navigation = skip_navigation && name == NAVIGATION;
                if (HIDDEN.contains(&name) || navigation) && !is_empty {
                    hidden = Some((name.to_vec(), 1));
                    out.line();
                    continue;
                }
                preformatted += usize::from(name == b"pre");
                separate(&mut out, name);
            }
            Token::EndTag(tag) => {
                let name = tag.name.as_slice();
                if let Some((open, depth)) = &mut hidden {
                    if open == name {
                        *depth -= 1;
                        if *depth == 0 {
                            hidden = None;
                        }
                    }
                    continue;
                }
                if name == b"pre" {
                    preformatted = preformatted.saturating_sub(1);
                }
                separate(&mut out, name);
            }
            Token::String(words) if hidden.is_none() => {
                let words = String::from_utf8_lossy(&words.value);
                if preformatted > 0 { out.lines(&words)? } else { out.words(&words)? }
            }
            Token::String(_) | Token::Comment(_) | Token::Doctype(_) | Token::Error(_) => {}
        }
    }
    Ok(out.finish())
}

/// What a tag of this name puts between words.
fn separate(out: &mut Writer, name: &[u8]) {
    if name == b"br" || LINES.contains(&name) {
        out.line();
    } else if PARAGRAPHS.contains(&name) {
        out.paragraph();
    } else if name == b"td" || name == b"th" {
        out.cell();
    } else if name == b"option" || name == b"img" {
        out.space();
    }
}
