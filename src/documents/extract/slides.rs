//! PowerPoint presentations: the slides in their order, each with its notes.

use super::package::{Node, Package, attribute, value, walk};
use super::write::Writer;
use crate::documents::{Limits, NoText};

const PRESENTATION: &str = "ppt/presentation.xml";

/// The paragraphs of the slides, a line each, and an empty line between slides.
pub(super) fn text(bytes: &[u8], limits: &Limits) -> Result<String, NoText> {
    let mut package = Package::open(bytes, limits)?;
    let mut ids = Vec::new();
    walk(&package.main_part(PRESENTATION)?, |node| {
        if let Node::Open { name: b"sldId", tag } = node {
            // Of its two ids the one with a prefix names the relation.
            let mut attributes = tag.attributes();
            let attributes = attributes.with_checks(false).flatten();
            let related = attributes.filter(|attribute| attribute.key.prefix().is_some());
            ids.extend(related.filter_map(|id| value(&id)));
        }
        Ok(())
    })?;
    let relations = package.relations(PRESENTATION)?;
    let mut out = Writer::new(limits.text_bytes);
    for id in ids {
        let Some(slide) = relations.iter().find(|relation| relation.id == id) else { continue };
        let Some(part) = package.part(&slide.part)? else { continue };
        out.paragraph();
        paragraphs(&part, &mut out)?;
        let of_slide = package.relations(&slide.part)?;
        for notes in of_slide.iter().filter(|relation| relation.kind.ends_with("/notesSlide")) {
            if let Some(part) = package.part(&notes.part)? {
                out.line();
                paragraphs(&part, &mut out)?;
            }
        }
    }
    Ok(out.finish())
}

fn paragraphs(part: &[u8], out: &mut Writer) -> Result<(), NoText> {
    let (mut text, mut cells, mut field) = (0_usize, 0_usize, false);
    walk(part, |node| {
        match node {
            Node::Open { name, tag } => match name {
                b"t" => text += 1,
                b"tc" => cells += 1,
                b"br" => out.line(),
                // The number of a slide is no text of it.
                b"fld" => field = attribute(tag, b"type").as_deref() == Some("slidenum"),
                _ => {}
            },
            Node::Close { name } => match name {
                b"t" => text = text.saturating_sub(1),
                b"tc" => {
                    cells = cells.saturating_sub(1);
                    out.cell();
                }
                b"fld" => field = false,
                b"p" if cells > 0 => out.space(),
                b"p" | b"tr" => out.line(),
                _ => {}
            },
            Node::Text(words) if text > 0 && !field => out.words(words)?,
            Node::Text(_) => {}
        }
        Ok(())
    })
}
