//! Plain text, and text with a little more to it.

use encoding_rs::{Encoding, UTF_8};

use crate::documents::NoText;

/// The text in these bytes: in the character set that a byte order mark tells, else in the one
/// named, else in UTF-8. What does not decode becomes U+FFFD.
///
/// # Errors
///
/// [`NoText::Unsupported`] for what is no text at all.
pub(super) fn plain(bytes: &[u8], charset: Option<&str>) -> Result<String, NoText> {
    let named = charset.and_then(|label| Encoding::for_label(label.as_bytes()));
    let (text, _, _) = named.unwrap_or(UTF_8).decode(bytes);
    if is_binary(&text) { Err(NoText::Unsupported) } else { Ok(text.into_owned()) }
}

/// Whether a decoded text is none: it holds a NUL, or more than a tenth of it are control
/// characters and bytes that did not decode.
fn is_binary(text: &str) -> bool {
    let (mut odd, mut all) = (0_usize, 0_usize);
    for character in text.chars() {
        match character {
            '\0' => return true,
            '\t' | '\n' | '\r' | '\x0c' => {}
            '\u{fffd}' => odd += 1,
            character if character.is_control() => odd += 1,
            _ => {}
        }
        all += 1;
    }
    odd * 10 > all
}

/// Markdown without the marks of headings and the fences of code; the words stay as they are.
pub(super) fn markdown(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    for line in text.lines() {
        let start = line.trim_start();
        let is_rule = |mark: char| start.len() >= 3 && start.trim_end().chars().all(|c| c == mark);
        if start.starts_with("```") || start.starts_with("~~~") || is_rule('=') || is_rule('-') {
            continue;
        }
        let marks = start.len() - start.trim_start_matches('#').len();
        let heading = (1..=6).contains(&marks) && start[marks..].starts_with([' ', '\t']);
        plain.push_str(if heading { start[marks..].trim().trim_end_matches(" #") } else { line });
        plain.push('\n');
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn character_sets_are_told_or_named() {
        assert_eq!(plain("é日".as_bytes(), None).as_deref(), Ok("é日"));
        assert_eq!(plain(b"\xef\xbb\xbfa", None).as_deref(), Ok("a"));
        assert_eq!(plain(b"\xff\xfea\0b\0", None).as_deref(), Ok("ab"), "UTF-16");
        assert_eq!(plain(b"caf\xe9", Some("latin1")).as_deref(), Ok("café"));
        assert_eq!(
            plain(b"caf\xe9 au lait", Some("no such set")).as_deref(),
            Ok("caf\u{fffd} au lait")
        );
    }

    #[test]
    fn what_is_no_text_is_refused() {
        assert_eq!(plain(b"\x89PNG\r\n\x1a\n\0\x01\x02", None), Err(NoText::Unsupported));
        let bytes: Vec<u8> = (0x80..=0xff).collect();
        assert_eq!(plain(&bytes, None), Err(NoText::Unsupported));
    }

    #[test]
    fn headings_of_markdown_are_words() {
        let text = "# Pump #\nuse `#` and #tag\n\n```sh\nrun\n```\n### Seal\nSetext\n======\n";
        assert_eq!(markdown(text), "Pump\nuse `#` and #tag\n\nrun\nSeal\nSetext\n");
    }
}
