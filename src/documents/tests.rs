//! Files of every format, whole and broken, read in this process.

use std::io::{Cursor, Write as _};
use std::time::Duration;

use proptest::prelude::*;
use zip::ZipWriter;
use zip::write::SimpleFileOptions;

use super::extract::{self, Source};
use super::{Kind, Limits, NoText};

const LIMITS: Limits = Limits {
    timeout: Duration::from_secs(30),
    memory_bytes: 1 << 29,
    expanded_bytes: 1 << 22,
    text_bytes: 1 << 16,
};

/// The files of `tests/data/documents`, but for the PDF files: their parser is for guarded
/// processes only, where it may overrun its stack.
const FILES: [(Kind, &[u8]); 4] = [
    (Kind::Docx, include_bytes!("../../tests/data/documents/word.docx")),
    (Kind::Xlsx, include_bytes!("../../tests/data/documents/excel.xlsx")),
    (Kind::Pptx, include_bytes!("../../tests/data/documents/slides.pptx")),
    (Kind::Email, include_bytes!("../../tests/data/documents/mail.eml")),
];

const KINDS: [Kind; 9] = [
    Kind::Text,
    Kind::Markdown,
    Kind::Csv,
    Kind::Html,
    Kind::Docx,
    Kind::Xlsx,
    Kind::Pptx,
    Kind::Email,
    Kind::Legacy,
];

fn read(kind: Kind, bytes: &[u8]) -> Result<String, NoText> {
    extract::text(Source { kind, charset: None, bytes }, &LIMITS)
}

fn file(kind: Kind) -> Result<String, NoText> {
    let (_, bytes) = FILES.iter().find(|(known, _)| *known == kind).expect("a file of this kind");
    read(kind, bytes)
}

/// A package of these parts.
fn package(parts: &[(&str, &str)]) -> Vec<u8> {
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, content) in parts {
        zip.start_file(*name, SimpleFileOptions::default()).expect("a part");
        zip.write_all(content.as_bytes()).expect("written");
    }
    zip.finish().expect("a package").into_inner()
}

#[test]
fn word_documents_are_read() {
    assert_eq!(
        file(Kind::Docx).as_deref(),
        Ok("Valve inspection\nSeal kit SK-7 was ordered & paid.\nPart\tCount\nPacking\t3")
    );
}

#[test]
fn workbooks_are_read() {
    let text = "Pumps\nPump\tPressure\tChecked\tRuns\nP-101\t4.5\t2026-02-03\tTRUE\n\
        P-102\t12\t2026-02-04 06:30:00\tFALSE\n\nValves & seals\nCafé <1>";
    assert_eq!(file(Kind::Xlsx).as_deref(), Ok(text));
}

#[test]
fn slides_are_read() {
    let text = "Compressor training\nSpring 2026\n\nBefore the start\nOpen the drain\n\
        Check the oil\nAsk who has done this before";
    assert_eq!(file(Kind::Pptx).as_deref(), Ok(text));
}

#[test]
fn mails_are_read() {
    let text = "Subject: Prüfung der Pumpe P-101\nFrom: Ana Kovač <ana@plant.example>\n\
        To: service@plant.example, Bo <bo@plant.example>\nDate: 2026-02-03T10:00:00+01:00\n\n\
        The seal drips.\n\nPlease order SK-7.\n\nAttachments: drip.png";
    assert_eq!(file(Kind::Email).as_deref(), Ok(text));
    let page = "Subject: s\r\nContent-Type: text/html; charset=iso-8859-1\r\n\r\n<p>caf\u{e9}<p>x";
    let latin1: Vec<u8> = page.chars().map(|c| c as u8).collect();
    assert_eq!(read(Kind::Email, &latin1).as_deref(), Ok("Subject: s\n\ncafé\n\nx"));
    assert_eq!(read(Kind::Email, b"\r\n\r\n"), Err(NoText::Damaged));
}

#[test]
fn pages_are_read_as_their_readers_see_them() {
    for (page, text) in [
        (
            "<html><head><title>T</title><style>.x{}</style><script>var a='<p>';</script></head>\
             <body><nav><a>Home</a></nav><h1>Pump</h1><p>Check the <b>seal</b>.</p></body></html>",
            "T\n\nPump\n\nCheck the seal.",
        ),
        ("a&amp;b &eacute;&#x65e5;&nbsp;c", "a&b é日 c"),
        ("<ul><li>one<li>two</ul>x<br>y", "one\ntwo\nx\ny"),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</table>", "a\tb\nc"),
        ("<pre>a\n  <b>b</b> c\n\n\nd</pre>e", "a\nb c\n\nd\n\ne"),
        ("<nav>left open<main>the text", "the text"),
        ("<nav>only links</nav>", "only links"),
        ("<script>never ends <p>x", ""),
        ("<svg/>after<svg><text>x</text></svg>", "after"),
        ("<p>not <closed <b>x", "not x"),
        ("<textarea><b>kept</b></textarea>", "<b>kept</b>"),
    ] {
        let read = read(Kind::Html, page.as_bytes());
        assert_eq!(read.as_deref().unwrap_or(""), text, "{page}");
    }
}

#[test]
fn pages_declare_their_character_set() {
    for head in [
        "<meta charset=windows-1252>",
        "<META http-equiv=content-type content='text/html; charset=ISO-8859-1'>",
    ] {
        let page = [head.as_bytes(), b"caf\xe9"].concat();
        assert_eq!(read(Kind::Html, &page).as_deref(), Ok("café"));
    }
    let utf16 = "<meta charset=utf-16>café".as_bytes();
    assert_eq!(read(Kind::Html, utf16).as_deref(), Ok("café"), "it is read, so it is not");
}

#[test]
fn tables_are_read() {
    for (table, text) in [
        ("name;unit;x,y\n\"a;b\nc\";kg; 2 \n\n", "name\tunit\tx,y\na;b c\tkg\t2"),
        ("a,b\n1,\"say \"\"hi\"\"\"\n,\n3", "a\tb\n1\tsay \"hi\"\n3"),
        ("a\tb\n1\t2", "a\tb\n1\t2"),
        ("\"never closed, at all", "never closed, at all"),
    ] {
        assert_eq!(read(Kind::Csv, table.as_bytes()).as_deref(), Ok(text), "{table}");
    }
}

#[test]
fn packages_are_held_to_their_limits() {
    let document = |body: &str| package(&[("word/document.xml", body)]);
    let zeros = " ".repeat(3 << 20);
    assert_eq!(read(Kind::Docx, &document(&zeros)), Err(NoText::Expands), "packed too tightly");
    let deep = format!("<a>{}", "<w:p>".repeat(10_000));
    assert_eq!(read(Kind::Docx, &document(&deep)), Err(NoText::TooDeep));
    let long = format!("<d><p><t>{}</t></p></d>", "words ".repeat(20_000));
    assert_eq!(read(Kind::Docx, &document(&long)), Err(NoText::TooLong));
    // Entities that would grow are not resolved.
    let lol = "<!DOCTYPE d [<!ENTITY a \"aaaaaaaa\"><!ENTITY b \"&a;&a;&a;&a;\">]><d><p><t>x&b;</t></p></d>";
    assert_eq!(read(Kind::Docx, &document(lol)).as_deref(), Ok("x"));
    assert_eq!(read(Kind::Docx, &document("<d><p><t></t></p></d>")), Err(NoText::Blank));
    assert_eq!(read(Kind::Docx, &package(&[("other.xml", "<a/>")])), Err(NoText::Damaged));
    assert_eq!(read(Kind::Docx, b"not a package"), Err(NoText::Damaged));
}

#[test]
fn one_text_that_cells_share_is_no_bomb() {
    let cells = "<c t=\"s\"><v>0</v></c>".repeat(10_000);
    let sheet = format!(
        "<worksheet><dimension ref=\"A1:XFD1048576\"/><row><c r=\"XFD1048576\"><v>7</v></c>{cells}</row></worksheet>"
    );
    let shared = format!("<sst><si><t>{}</t></si></sst>", "x".repeat(10_000));
    let relation = |id: &str, kind: &str, to: &str| {
        format!("<Relationship Id=\"{id}\" Type=\"http://x/{kind}\" Target=\"{to}\"/>")
    };
    let relations = format!(
        "<Relationships>{}{}</Relationships>",
        relation("r1", "worksheet", "sheet.xml"),
        relation("r2", "sharedStrings", "shared.xml")
    );
    let book = |sheet: &str| {
        package(&[
            ("xl/workbook.xml", "<workbook><sheet name=\"S\" r:id=\"r1\"/></workbook>"),
            ("xl/_rels/workbook.xml.rels", &relations),
            ("xl/shared.xml", &shared),
            ("xl/sheet.xml", sheet),
        ])
    };
    assert_eq!(read(Kind::Xlsx, &book(&sheet)), Err(NoText::TooLong));
    let far = "<worksheet><dimension ref=\"A1:XFD1048576\"/><row><c r=\"XFD1048576\"><v>7</v></c></row></worksheet>";
    assert_eq!(read(Kind::Xlsx, &book(far)).as_deref(), Ok("S\n7"));
}

#[test]
fn old_and_encrypted_office_files_are_told_apart() {
    let mut old = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1 WordDocument".to_vec();
    assert_eq!(read(Kind::Legacy, &old), Err(NoText::Legacy));
    assert_eq!(read(Kind::Docx, &old), Err(NoText::Legacy));
    old.extend("EncryptedPackage".bytes().flat_map(|byte| [byte, 0]));
    assert_eq!(read(Kind::Xlsx, &old), Err(NoText::Encrypted));
}

/// Whatever comes out is a text within the limits.
fn assert_sound(text: Result<String, NoText>) -> Result<(), TestCaseError> {
    if let Ok(text) = text {
        prop_assert!(text.len() as u64 <= LIMITS.text_bytes && !text.trim().is_empty());
        prop_assert!(!text.contains('\0'));
    }
    Ok(())
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(
        kind in prop::sample::select(KINDS.to_vec()),
        bytes in prop::collection::vec(any::<u8>(), 0..2000),
    ) {
        assert_sound(read(kind, &bytes))?;
    }

    #[test]
    fn any_markup_is_read_or_refused(
        kind in prop::sample::select(vec![Kind::Html, Kind::Markdown, Kind::Csv, Kind::Email]),
        words in prop::collection::vec(
            prop::sample::select(vec![
                "<p>", "</p>", "<nav>", "</nav", "<script>", "</script>", "<pre", ">", "&amp", "&#x110000;",
                "<!--", "-->", "<![CDATA[", "\"", ",", ";", "\n", "\r\n", "# ", "```", "=?utf-8?b?", "?=",
                "Subject: ", "Content-Type: multipart/mixed; boundary=b\r\n", "--b\r\n", "--b--", "é", "\u{feff}",
            ]),
            0..80,
        ),
    ) {
        assert_sound(read(kind, words.concat().as_bytes()))?;
    }

    #[test]
    fn damaged_files_are_read_or_refused(
        (kind, whole) in prop::sample::select(FILES.to_vec()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..12),
        cut in any::<prop::sample::Index>(),
        is_cut in any::<bool>(),
    ) {
        let mut bytes = whole.to_vec();
        for (at, byte) in changes {
            bytes[at.index(whole.len())] = byte;
        }
        if is_cut {
            bytes.truncate(cut.index(whole.len()));
        }
        assert_sound(read(kind, &bytes))?;
    }
}
