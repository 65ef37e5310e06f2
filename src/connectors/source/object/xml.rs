//! Listings in XML.

use quick_xml::Reader;
use quick_xml::events::Event;

use crate::connectors::source::{Fault, FaultClass};

/// Elements within one another that are gone into.
const DEPTH_MAX: usize = 16;

/// Reads a listing: tells `each` of every element without elements in it, by the names of those it
/// is in and its own, with its text and whether it has attributes; and, with no text, of the end of
/// every other element.
///
/// # Errors
///
/// A fault if it is not XML to its end.
pub(super) fn read(
    xml: &[u8],
    mut each: impl FnMut(&[String], Option<&str>, bool),
) -> Result<(), Fault> {
    let mut reader = Reader::from_reader(xml);
    let (mut above, mut text) = (Vec::<String>::new(), String::new());
    let (mut is_leaf, mut has_attributes) = (false, false);
    loop {
        match reader.read_event().map_err(|_| not_a_listing())? {
            Event::Start(start) => {
                if above.len() == DEPTH_MAX {
                    return Err(not_a_listing());
                }
                above.push(String::from_utf8_lossy(start.local_name().as_ref()).into_owned());
                has_attributes = start.attributes().next().is_some();
                text.clear();
                is_leaf = true;
            }
            Event::Empty(empty) => {
                above.push(String::from_utf8_lossy(empty.local_name().as_ref()).into_owned());
                each(&above, Some(""), empty.attributes().next().is_some());
                above.pop();
                is_leaf = false;
            }
            Event::Text(piece) => text.push_str(&piece.decode().map_err(|_| not_a_listing())?),
            Event::CData(piece) => text.push_str(&piece.decode().map_err(|_| not_a_listing())?),
            Event::GeneralRef(reference) => text.push(character(&reference)?),
            Event::End(_) => {
                each(&above, is_leaf.then_some(text.as_str()), is_leaf && has_attributes);
                above.pop();
                is_leaf = false;
            }
            Event::Eof if above.is_empty() => return Ok(()),
            Event::Eof => return Err(not_a_listing()),
            Event::Decl(_) | Event::PI(_) | Event::DocType(_) | Event::Comment(_) => {}
        }
    }
}

fn character(reference: &quick_xml::events::BytesRef<'_>) -> Result<char, Fault> {
    if let Some(character) = reference.resolve_char_ref().map_err(|_| not_a_listing())? {
        return Ok(character);
    }
    match reference.decode().map_err(|_| not_a_listing())?.as_ref() {
        "amp" => Ok('&'),
        "lt" => Ok('<'),
        "gt" => Ok('>'),
        "quot" => Ok('"'),
        "apos" => Ok('\''),
        _ => Err(not_a_listing()),
    }
}

pub(super) fn not_a_listing() -> Fault {
    Fault::new(FaultClass::Network, "the service answers with something that is no listing")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_are_told_in_order() {
        let xml =
            b"<?xml version='1.0'?><L xmlns='x'><N>a &amp; &#98;</N><C><K e='1'>k</K></C><E/></L>";
        let mut told = Vec::new();
        read(xml, |path, text, attributes| {
            told.push((path.join("/"), text.map(str::to_owned), attributes));
        })
        .unwrap();
        let expected = [
            ("L/N", Some("a & b"), false),
            ("L/C/K", Some("k"), true),
            ("L/C", None, false),
            ("L/E", Some(""), false),
            ("L", None, false),
        ];
        let told: Vec<_> = told.iter().map(|(p, t, a)| (p.as_str(), t.as_deref(), *a)).collect();
        assert_eq!(told, expected);
        for bad in ["<a>", "<a></b>", "<a>&x;</a>", "<", &"<a>".repeat(99)] {
            assert!(read(bad.as_bytes(), |_, _, _| {}).is_err(), "{bad}");
        }
    }
}
