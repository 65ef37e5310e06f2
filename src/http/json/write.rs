//! Writing JSON: compact for bodies, spaced and in ASCII for event streams.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::ser::{CharEscape, CompactFormatter, Formatter, Serializer};

use super::is_integer;

/// The compact UTF-8 text of `value`, as bodies have it.
///
/// # Panics
///
/// If `value` has a map with keys that JSON has no text for, or its `Serialize` fails by itself.
pub fn to_vec<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    written(value, Style { spaced: false, string: StringState::Plain })
}

/// The text of `value` with a space after each `,` and `:` and everything beyond ASCII escaped,
/// as event streams have it.
///
/// # Panics
///
/// As [`to_vec`].
pub fn to_spaced<T: Serialize + ?Sized>(value: &T) -> String {
    let bytes = written(value, Style { spaced: true, string: StringState::Plain });
    String::from_utf8(bytes).expect("JSON text is UTF-8")
}

fn written<T: Serialize + ?Sized>(value: &T, style: Style) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    value
        .serialize(&mut Serializer::with_formatter(&mut out, style))
        .expect("wire values have keys with a text and writing to memory cannot fail");
    out
}

struct Style {
    spaced: bool,
    string: StringState,
}

/// How far the string being written has come. A string of the long-integer mark and digits
/// alone is written bare, which shows only at its end: until then it is held back.
enum StringState {
    /// The opening quote is out, or no string is open.
    Plain,
    /// Opened; nothing is out yet.
    Opened,
    /// Began with the mark; the digits so far.
    Marked(String),
}

impl Style {
    /// Writes out what was held back, as the string it turned out to be.
    fn settle<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        match std::mem::replace(&mut self.string, StringState::Plain) {
            StringState::Plain => Ok(()),
            StringState::Opened => out.write_all(b"\""),
            StringState::Marked(digits) => write!(out, "\"\\u0000{digits}"),
        }
    }

    fn separate<W: ?Sized + Write>(&self, out: &mut W, first: bool) -> io::Result<()> {
        match (first, self.spaced) {
            (true, _) => Ok(()),
            (false, true) => out.write_all(b", "),
            (false, false) => out.write_all(b","),
        }
    }
}

/// Numbers, which may be keys: then they stand in a string.
macro_rules! numbers {
    ($($write:ident: $number:ty),* $(,)?) => {
        $(
            fn $write<W: ?Sized + Write>(&mut self, out: &mut W, number: $number) -> io::Result<()> {
                self.settle(out)?;
                CompactFormatter.$write(out, number)
            }
        )*
    };
}

impl Formatter for Style {
    numbers! {
        write_i8: i8, write_i16: i16, write_i32: i32, write_i64: i64, write_i128: i128,
        write_u8: u8, write_u16: u16, write_u32: u32, write_u64: u64, write_u128: u128,
        write_f32: f32, write_f64: f64,
    }

    fn write_bool<W: ?Sized + Write>(&mut self, out: &mut W, value: bool) -> io::Result<()> {
        self.settle(out)?;
        CompactFormatter.write_bool(out, value)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.separate(out, first)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, out: &mut W, first: bool) -> io::Result<()> {
        self.separate(out, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        out.write_all(if self.spaced { b": " } else { b":" })
    }

    fn begin_string<W: ?Sized + Write>(&mut self, _: &mut W) -> io::Result<()> {
        self.string = StringState::Opened;
        Ok(())
    }

    fn write_char_escape<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        if let (StringState::Opened, CharEscape::AsciiControl(0)) = (&self.string, &escape) {
            self.string = StringState::Marked(String::new());
            return Ok(());
        }
        self.settle(out)?;
        match escape {
            CharEscape::Quote => out.write_all(b"\\\""),
            CharEscape::ReverseSolidus => out.write_all(b"\\\\"),
            CharEscape::Solidus => out.write_all(b"\\/"),
            CharEscape::Backspace => out.write_all(b"\\b"),
            CharEscape::FormFeed => out.write_all(b"\\f"),
            CharEscape::LineFeed => out.write_all(b"\\n"),
            CharEscape::CarriageReturn => out.write_all(b"\\r"),
            CharEscape::Tab => out.write_all(b"\\t"),
            CharEscape::AsciiControl(byte) => write!(out, "\\u{byte:04x}"),
        }
    }

    fn write_string_fragment<W: ?Sized + Write>(
        &mut self,
        out: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        if fragment.is_empty() {
            return Ok(());
        }
        if let StringState::Marked(digits) = &mut self.string
            && digits.is_empty()
            && is_integer(fragment)
        {
            digits.push_str(fragment);
            return Ok(());
        }
        self.settle(out)?;
        if !self.spaced {
            return out.write_all(fragment.as_bytes());
        }
        for character in fragment.chars() {
            // DEL is ASCII and stays, as in the encoders that clients know.
            if character.is_ascii() {
                out.write_all(&[character as u8])?;
            } else {
                for unit in character.encode_utf16(&mut [0; 2]) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn end_string<W: ?Sized + Write>(&mut self, out: &mut W) -> io::Result<()> {
        if let StringState::Marked(digits) = &self.string
            && !digits.is_empty()
        {
            out.write_all(digits.as_bytes())?;
            self.string = StringState::Plain;
            return Ok(());
        }
        self.settle(out)?;
        out.write_all(b"\"")
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    #[test]
    fn stream_text_is_spaced_and_ascii() {
        let value =
            json!({"type": "token", "text": "é🚀\n\u{7f}", "n": [1, 2.0], "e": {}, "l": []});
        assert_eq!(
            to_spaced(&value),
            "{\"type\": \"token\", \"text\": \"\\u00e9\\ud83d\\ude80\\n\u{7f}\", \"n\": [1, 2.0], \"e\": {}, \"l\": []}"
        );
    }

    #[test]
    fn body_text_is_compact_and_keeps_its_letters() {
        assert_eq!(
            to_vec(&json!({"ü": ["", "a\"\u{1}", null]})),
            "{\"ü\":[\"\",\"a\\\"\\u0001\",null]}".as_bytes()
        );
    }

    #[test]
    fn keys_that_are_numbers_stand_in_strings() {
        let numbers = BTreeMap::from([(-1_i64, 2_u64), (7, 8)]);
        assert_eq!(to_vec(&numbers), b"{\"-1\":2,\"7\":8}");
        assert_eq!(to_vec(&BTreeMap::from([(true, 0.5)])), b"{\"true\":0.5}");
    }

    #[test]
    fn only_the_mark_and_digits_alone_are_written_bare() {
        assert_eq!(to_vec(&json!(["\0-12"])), b"[-12]");
        for text in ["\0", "\0x", "\0\"1", "\x001\"", "\x001\n2", "a\x001", "\x00\x001"] {
            let written = to_vec(text);
            assert_eq!(written, serde_json::to_vec(text).expect("a string has a text"), "{text:?}");
        }
    }
}
