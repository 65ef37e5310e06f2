//! Word documents: body, then footnotes and endnotes. Deleted text, field codes, headers and
//! footers are left out.

use super::package::{Node, Package, walk};
use super::write::Writer;
use crate::documents::{Limits, NoText};

/// Parts with text, in the order of reading.
const NOTES: [&str; 2] = ["word/footnotes.xml", "word/endnotes.xml"];

/// The paragraphs of a document, a line each; rows of tables with tabs between cells.
pub(super) fn text(bytes: &[u8], limits: &Limits) -> Result<String, NoText> {
    let mut package = Package::open(bytes, limits)?;
    let mut out = Writer::new(limits.text_bytes);
    paragraphs(&package.main_part("word/document.xml")?, &mut out)?;
    for name in NOTES {
        if let Some(part) = package.part(name)? {
            out.paragraph();
            paragraphs(&part, &mut out)?;
        }
    }
    Ok(out.finish())
}

fn paragraphs(part: &[u8], out: &mut Writer) -> Result<(), NoText> {
    let (mut text, mut cells, mut repeated) = (0_usize, 0_usize, 0_usize);
    walk(part, |node| {
        match node {
            // What older readers are to show instead is the same text once more.
            Node::Open { name: b"Fallback", .. } => repeated += 1,
            Node::Close { name: b"Fallback" } => repeated = repeated.saturating_sub(1),
            _ if repeated > 0 => {}
            Node::Open { name, .. } => match name {
                b"t" => text += 1,
                b"tc" => cells += 1,
                b"tab" | b"ptab" => out.cell(),
                b"br" | b"cr" => out.line(),
                _ => {}
            },
            Node::Close { name } => match name {
                b"t" => text = text.saturating_sub(1),
                b"tc" => {
                    cells = cells.saturating_sub(1);
                    out.cell();
                }
                b"p" if cells > 0 => out.space(),
                b"p" | b"tr" => out.line(),
                _ => {}
            },
            Node::Text(words) if text > 0 => out.words(words)?,
            Node::Text(_) => {}
        }
        Ok(())
    })
}
