//! The container of the office formats: XML parts in a zip archive.

use std::io::{Cursor, Read as _};

use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::attributes::Attribute;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use zip::ZipArchive;
use zip::result::ZipError;

use crate::documents::kind::COMPOUND;
use crate::documents::{Limits, NoText};

/// Parts of a package at most; the largest real ones have thousands.
const PARTS_MAX: usize = 20_000;
/// Unpacked bytes for each packed one at most, once a part is [large](SMALL).
const RATIO_MAX: u64 = 250;
/// Parts up to so many bytes may be packed as tightly as they like.
const SMALL: u64 = 1 << 20;
/// Elements within each other at most; the deepest real documents have about a hundred.
const DEPTH_MAX: usize = 1000;

/// An opened package.
pub(super) struct Package<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    /// Bytes that its parts may still unpack to.
    budget: u64,
}

impl<'a> Package<'a> {
    /// Opens a package.
    ///
    /// # Errors
    ///
    /// [`NoText::Damaged`] for what is none, [`NoText::Expands`] for one of too many parts.
    pub(super) fn open(bytes: &'a [u8], limits: &Limits) -> Result<Self, NoText> {
        if bytes.starts_with(COMPOUND) {
            return Err(compound(bytes));
        }
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|_| NoText::Damaged)?;
        if zip.len() > PARTS_MAX {
            return Err(NoText::Expands);
        }
        Ok(Self { zip, budget: limits.expanded_bytes })
    }

    /// A part; nothing if there is none of this name.
    ///
    /// # Errors
    ///
    /// [`NoText::Expands`] when it is larger than its packed size explains or than what is left of
    /// the limit; [`NoText::Damaged`], [`NoText::Encrypted`].
    pub(super) fn part(&mut self, name: &str) -> Result<Option<Vec<u8>>, NoText> {
        let mut part = match self.zip.by_name(name) {
            Ok(part) => part,
            Err(ZipError::FileNotFound) => return Ok(None),
            Err(ZipError::UnsupportedArchive(ZipError::PASSWORD_REQUIRED)) => {
                return Err(NoText::Encrypted);
            }
            Err(_) => return Err(NoText::Damaged),
        };
        // The sizes in the archive are claims: what counts is what comes out of it.
        let most = part.compressed_size().saturating_mul(RATIO_MAX).max(SMALL).min(self.budget);
        let mut bytes = Vec::new();
        let read = part.by_ref().take(most + 1).read_to_end(&mut bytes);
        if bytes.len() as u64 > most {
            return Err(NoText::Expands);
        }
        read.map_err(|_| NoText::Damaged)?;
        self.budget -= bytes.len() as u64;
        Ok(Some(bytes))
    }

    /// A part that must be there.
    ///
    /// # Errors
    ///
    /// As [`part`](Self::part); [`NoText::Damaged`] when it is not there.
    pub(super) fn main_part(&mut self, name: &str) -> Result<Vec<u8>, NoText> {
        self.part(name)?.ok_or(NoText::Damaged)
    }

    /// What the relations of a part lead to, by their ids: type and name of the target part.
    ///
    /// # Errors
    ///
    /// As [`part`](Self::part).
    pub(super) fn relations(&mut self, of: &str) -> Result<Vec<Relation>, NoText> {
        let (folder, file) = of.rsplit_once('/').unwrap_or(("", of));
        let Some(part) = self.part(&format!("{folder}/_rels/{file}.rels"))? else {
            return Ok(Vec::new());
        };
        let mut relations = Vec::new();
        walk(&part, |node| {
            if let Node::Open { name: b"Relationship", tag } = node {
                let target = attribute(tag, b"Target").unwrap_or_default();
                relations.push(Relation {
                    id: attribute(tag, b"Id").unwrap_or_default(),
                    kind: attribute(tag, b"Type").unwrap_or_default(),
                    part: resolved(folder, &target),
                });
            }
            Ok(())
        })?;
        Ok(relations)
    }
}

/// Why a compound file has no text: it is of an old format, or holds a new one encrypted.
pub(super) fn compound(bytes: &[u8]) -> NoText {
    let stream: Vec<u8> = "EncryptedPackage".bytes().flat_map(|byte| [byte, 0]).collect();
    let is_encrypted = bytes.windows(stream.len()).any(|window| window == stream);
    if is_encrypted { NoText::Encrypted } else { NoText::Legacy }
}

/// A link from one part to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Relation {
    /// What the part calls it.
    pub(super) id: String,
    /// What it means: a URL that ends with a word.
    pub(super) kind: String,
    /// Name of the target.
    pub(super) part: String,
}

/// The part that `target` names from within `folder`.
fn resolved(folder: &str, target: &str) -> String {
    if let Some(whole) = target.strip_prefix('/') {
        return whole.to_owned();
    }
    let mut steps: Vec<&str> = folder.split('/').filter(|step| !step.is_empty()).collect();
    for step in target.split('/') {
        match step {
            "" | "." => {}
            ".." => {
                steps.pop();
            }
            step => steps.push(step),
        }
    }
    steps.join("/")
}

/// What a walk over XML comes by. Names are without their prefixes.
pub(super) enum Node<'a> {
    /// An element begins.
    Open { name: &'a [u8], tag: &'a BytesStart<'a> },
    /// It ends.
    Close { name: &'a [u8] },
    /// Characters, with entities resolved. One text may come in several.
    Text(&'a str),
}

/// Walks over a part from its first to its last node. Only the five entities of XML itself and
/// numbers are resolved; document types are not looked at.
///
/// # Errors
///
/// [`NoText::Damaged`] where it is no XML, [`NoText::TooDeep`], and what `visit` says.
pub(super) fn walk(
    part: &[u8],
    mut visit: impl FnMut(Node<'_>) -> Result<(), NoText>,
) -> Result<(), NoText> {
    let mut reader = Reader::from_reader(part);
    let mut depth = 0;
    loop {
        match reader.read_event().map_err(|_| NoText::Damaged)? {
            Event::Start(tag) => {
                depth += 1;
                if depth > DEPTH_MAX {
                    return Err(NoText::TooDeep);
                }
                visit(Node::Open { name: tag.local_name().as_ref(), tag: &tag })?;
            }
            Event::Empty(tag) => {
                visit(Node::Open { name: tag.local_name().as_ref(), tag: &tag })?;
                visit(Node::Close { name: tag.local_name().as_ref() })?;
            }
            Event::End(tag) => {
                depth -= 1;
                visit(Node::Close { name: tag.local_name().as_ref() })?;
            }
            Event::Text(text) => visit(Node::Text(&String::from_utf8_lossy(&text)))?,
            Event::CData(text) => visit(Node::Text(&String::from_utf8_lossy(&text)))?,
            Event::GeneralRef(entity) => {
                if let Ok(Some(character)) = entity.resolve_char_ref() {
                    visit(Node::Text(character.encode_utf8(&mut [0; 4])))?;
                } else if let Some(text) =
                    std::str::from_utf8(&entity).ok().and_then(resolve_predefined_entity)
                {
                    visit(Node::Text(text))?;
                }
            }
            Event::Eof => return Ok(()),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
        }
    }
}

/// The value of an attribute, by its name without prefix.
pub(super) fn attribute(tag: &BytesStart<'_>, name: &[u8]) -> Option<String> {
    let mut attributes = tag.attributes();
    // Looking for equal names costs the square of their number.
    let mut attributes = attributes.with_checks(false).flatten();
    let found = attributes.find(|attribute| attribute.key.local_name().as_ref() == name)?;
    value(&found)
}

/// The value of an attribute, with entities resolved.
pub(super) fn value(attribute: &Attribute<'_>) -> Option<String> {
    attribute.normalized_value(XmlVersion::Implicit1_0).ok().map(|value| value.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_found_from_their_folder() {
        for (folder, target, part) in [
            ("xl", "worksheets/sheet1.xml", "xl/worksheets/sheet1.xml"),
            ("xl", "/xl/worksheets/sheet1.xml", "xl/worksheets/sheet1.xml"),
            ("ppt/slides", "../notesSlides/n1.xml", "ppt/notesSlides/n1.xml"),
            ("", "../../etc/passwd", "etc/passwd"),
        ] {
            assert_eq!(resolved(folder, target), part);
        }
    }

    #[test]
    fn only_the_entities_of_xml_itself_are_resolved() {
        let xml = b"<!DOCTYPE a [<!ENTITY b \"bomb\">]><a>x&amp;&#x65E5;&b;<![CDATA[<y>]]></a>";
        let mut text = String::new();
        walk(xml, |node| {
            if let Node::Text(more) = node {
                text.push_str(more);
            }
            Ok(())
        })
        .unwrap();
        assert_eq!(text, "x&日<y>");
    }

    #[test]
    fn elements_are_not_nested_without_end() {
        let nested = |n: usize| format!("{}{}", "<a>".repeat(n), "</a>".repeat(n));
        assert_eq!(walk(nested(DEPTH_MAX).as_bytes(), |_| Ok(())), Ok(()));
        assert_eq!(walk(nested(10_000).as_bytes(), |_| Ok(())), Err(NoText::TooDeep));
    }
}
