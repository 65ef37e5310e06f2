//! Excel workbooks: sheet by sheet, a row a line, tabs between the cells that hold something.
//!
//! Cells are written as they are read. Where they say they stand does not matter, so a sheet that
//! claims a million columns costs nothing.

use std::borrow::Cow;

use super::package::{Node, Package, attribute, walk};
use super::write::Writer;
use crate::documents::{Limits, NoText};

mod dates;

use dates::{Epoch, date, is_date_code};

const WORKBOOK: &str = "xl/workbook.xml";

/// The name and the cells of every sheet.
pub(super) fn text(bytes: &[u8], limits: &Limits) -> Result<String, NoText> {
    let mut package = Package::open(bytes, limits)?;
    let mut sheets = Vec::new();
    let mut epoch = Epoch::Y1900;
    walk(&package.main_part(WORKBOOK)?, |node| {
        let Node::Open { name, tag } = node else { return Ok(()) };
        match name {
            b"workbookPr" => {
                let word = attribute(tag, b"date1904").unwrap_or_default();
                if word == "1" || word == "true" {
                    epoch = Epoch::Y1904;
                }
            }
            b"sheet" => {
                let name = attribute(tag, b"name").unwrap_or_default();
                sheets.push((name, attribute(tag, b"id").unwrap_or_default()));
            }
            _ => {}
        }
        Ok(())
    })?;
    let relations = package.relations(WORKBOOK)?;
    let target = |kind: &str| {
        let found = relations.iter().find(|relation| relation.kind.ends_with(kind));
        found.map(|relation| relation.part.clone())
    };
    let strings = match target("/sharedStrings") {
        Some(part) => shared_strings(&package.part(&part)?.unwrap_or_default())?,
        None => Vec::new(),
    };
    let dates = match target("/styles") {
        Some(part) => date_styles(&package.part(&part)?.unwrap_or_default())?,
        None => Vec::new(),
    };
    let book = Book { strings, dates, epoch };
    let mut out = Writer::new(limits.text_bytes);
    for (name, id) in sheets {
        let Some(relation) = relations.iter().find(|relation| relation.id == id) else { continue };
        let Some(part) = package.part(&relation.part)? else { continue };
        rows(&part, &name, &book, &mut out)?;
    }
    Ok(out.finish())
}

/// What cells refer to.
struct Book {
    /// Texts, by number.
    strings: Vec<String>,
    /// Whether numbers in a style, by number, are dates.
    dates: Vec<bool>,
    epoch: Epoch,
}

/// The texts that cells share. Readings of Japanese words are left out.
fn shared_strings(part: &[u8]) -> Result<Vec<String>, NoText> {
    let mut strings: Vec<String> = Vec::new();
    let (mut text, mut reading) = (false, false);
    walk(part, |node| {
        match node {
            Node::Open { name: b"si", .. } => strings.push(String::new()),
            Node::Open { name: b"rPh", .. } => reading = true,
            Node::Close { name: b"rPh" } => reading = false,
            Node::Open { name: b"t", .. } => text = true,
            Node::Close { name: b"t" } => text = false,
            Node::Text(words) if text && !reading => {
                if let Some(last) = strings.last_mut() {
                    last.push_str(words);
                }
            }
            Node::Open { .. } | Node::Close { .. } | Node::Text(_) => {}
        }
        Ok(())
    })?;
    Ok(strings)
}

/// Which cell styles show numbers as dates.
fn date_styles(part: &[u8]) -> Result<Vec<bool>, NoText> {
    let mut formats: Vec<(u32, bool)> = Vec::new();
    let mut styles = Vec::new();
    let mut cells = false;
    walk(part, |node| {
        match node {
            Node::Open { name: b"numFmt", tag } => {
                let id = attribute(tag, b"numFmtId").and_then(|id| id.parse().ok());
                let code = attribute(tag, b"formatCode").unwrap_or_default();
                formats.extend(id.map(|id| (id, is_date_code(&code))));
            }
            Node::Open { name: b"cellXfs", .. } => cells = true,
            Node::Close { name: b"cellXfs" } => cells = false,
            Node::Open { name: b"xf", tag } if cells => {
                let id = attribute(tag, b"numFmtId").and_then(|id| id.parse::<u32>().ok());
                let id = id.unwrap_or(0);
                let own = formats.iter().find(|(known, _)| *known == id).map(|(_, date)| *date);
                // The dates and times among the built-in formats.
                styles.push(own.unwrap_or(matches!(id, 14..=22 | 45..=47)));
            }
            Node::Open { .. } | Node::Close { .. } | Node::Text(_) => {}
        }
        Ok(())
    })?;
    Ok(styles)
}

/// The cells of a sheet, below its name if there are any.
fn rows(part: &[u8], name: &str, book: &Book, out: &mut Writer) -> Result<(), NoText> {
    let mut heading = Some(name);
    let (mut kind, mut style) = (String::new(), 0_usize);
    let (mut value, mut within) = (String::new(), false);
    walk(part, |node| {
        match node {
            Node::Open { name: b"c", tag } => {
                kind = attribute(tag, b"t").unwrap_or_default();
                style = attribute(tag, b"s").and_then(|s| s.parse().ok()).unwrap_or(0);
                value.clear();
            }
            Node::Open { name: b"v" | b"t", .. } => within = true,
            Node::Close { name: b"v" | b"t" } => within = false,
            Node::Text(words) if within => value.push_str(words),
            Node::Close { name: b"c" } => {
                let shown = shown(&kind, style, &value, book);
                if shown.trim().is_empty() {
                    return Ok(());
                }
                if let Some(name) = heading.take() {
                    out.paragraph();
                    out.words(name)?;
                    out.line();
                }
                out.words(&shown)?;
                out.cell();
            }
            Node::Close { name: b"row" } => out.line(),
            Node::Open { .. } | Node::Close { .. } | Node::Text(_) => {}
        }
        Ok(())
    })
}

/// The content of a cell as a reader sees it.
fn shown<'a>(kind: &str, style: usize, value: &'a str, book: &'a Book) -> Cow<'a, str> {
    let Book { strings, dates, epoch } = book;
    match kind {
        "s" => {
            let shared = value.trim().parse::<usize>().ok().and_then(|n| strings.get(n));
            shared.map_or("", String::as_str).into()
        }
        "b" if value.trim() == "1" => "TRUE".into(),
        "b" => "FALSE".into(),
        "" | "n" if dates.get(style) == Some(&true) => {
            let date = value.trim().parse().ok().and_then(|days| date(days, *epoch));
            date.map_or(value.into(), Cow::Owned)
        }
        _ => value.into(),
    }
}
