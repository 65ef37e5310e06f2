//! JSON bodies: read with the leniency, the messages and the offsets that clients of the graph
//! API know, and written compactly.
//!
//! [`serde_json::Value`] holds integers of 64 bits only, but an integer must come back as the
//! integer it was. A longer one is therefore kept as a string of a NUL and its digits: no other
//! string can begin with NUL, because the parser refuses NUL in strings. The value survives
//! every store and comparison as the string it is, and [`to_vec`] writes it as bare digits.

mod parser;
mod write;

use serde_json::Value;

pub use write::{to_spaced, to_vec};

/// Containers that may be open at once. What is accepted must be readable by `serde_json`,
/// which stops at 128, also after an answer has wrapped it in a few more.
pub const MAX_DEPTH: usize = 120;

/// Digits in an integer beyond which a body is refused, so that nobody pays for huge numbers.
pub const MAX_INTEGER_DIGITS: usize = 4300;

/// First character of a string that stands for an integer of more than 64 bits.
const BIG_INTEGER_MARK: char = '\0';

/// A parsed body.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What the body says. A NUL in a string is replaced by U+FFFD here and listed in `nuls`.
    pub value: Value,
    /// Where NULs stood, one entry for each item at the second level at most.
    pub nuls: Vec<Nul>,
}

/// A NUL inside a string of a body: valid JSON that the graph does not store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nul {
    /// Offset in characters of the escape's backslash.
    pub offset: usize,
    /// The keys and indexes that lead to the string, the two outermost at most.
    pub path: Vec<Step>,
}

/// One step into a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A member of an object.
    Key(String),
    /// An item of a list, counted from 0.
    Index(usize),
}

/// Why a body is no document.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JsonError {
    /// The text is not JSON.
    #[error("{message}: char {offset}")]
    Syntax {
        /// What was expected or found, in the parser's fixed words.
        message: &'static str,
        /// Where, in characters from the start.
        offset: usize,
    },
    /// The text is not decodable, is nested too deeply, or holds an integer of too many digits.
    #[error("unreadable body")]
    Unreadable,
}

/// Parses a body: UTF-8, UTF-16 or UTF-32, with or without a byte order mark.
///
/// Of members of one name the last counts, in the place of the first. Not accepted: NaN and the
/// infinities (also as overflow), unpaired surrogates, more than [`MAX_DEPTH`] open containers.
///
/// # Errors
///
/// [`JsonError::Syntax`] with the first fault, [`JsonError::Unreadable`].
pub fn parse(body: &[u8]) -> Result<Document, JsonError> {
    let text = decode(body).ok_or(JsonError::Unreadable)?;
    parser::parse(&text)
}

/// The digits, with a sign if negative, of an integer too long for a JSON number here.
pub fn big_integer(value: &Value) -> Option<&str> {
    let digits = value.as_str()?.strip_prefix(BIG_INTEGER_MARK)?;
    is_integer(digits).then_some(digits)
}

/// The string, if the value is one; an integer in a string's clothes is not.
pub fn as_text(value: &Value) -> Option<&str> {
    value.as_str().filter(|_| big_integer(value).is_none())
}

fn is_integer(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// The text of a body, whose encoding shows in where its first bytes are zero: JSON begins with
/// an ASCII character.
fn decode(body: &[u8]) -> Option<std::borrow::Cow<'_, str>> {
    let utf16 = |bytes: &[u8], unit: fn([u8; 2]) -> u16| {
        let (units, rest) = bytes.as_chunks::<2>();
        rest.is_empty()
            .then(|| String::from_utf16(&units.iter().map(|u| unit(*u)).collect::<Vec<_>>()).ok())?
    };
    let utf32 = |bytes: &[u8], unit: fn([u8; 4]) -> u32| {
        let (units, rest) = bytes.as_chunks::<4>();
        rest.is_empty()
            .then(|| units.iter().map(|u| char::from_u32(unit(*u))).collect::<Option<String>>())?
    };
    let owned = match body {
        [0xff, 0xfe, 0, 0, rest @ ..] => utf32(rest, u32::from_le_bytes),
        [0, 0, 0xfe, 0xff, rest @ ..] => utf32(rest, u32::from_be_bytes),
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        [0xef, 0xbb, 0xbf, rest @ ..] => return std::str::from_utf8(rest).ok().map(Into::into),
        [0, 0, _, _, ..] => utf32(body, u32::from_be_bytes),
        [0, _, ..] => utf16(body, u16::from_be_bytes),
        [_, 0, 0, 0, ..] => utf32(body, u32::from_le_bytes),
        [_, 0, ..] => utf16(body, u16::from_le_bytes),
        _ => return std::str::from_utf8(body).ok().map(Into::into),
    };
    owned.map(Into::into)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn fault(text: &str) -> (&'static str, usize) {
        match parse(text.as_bytes()) {
            Err(JsonError::Syntax { message, offset }) => (message, offset),
            other => panic!("{text:?} gave {other:?}"),
        }
    }

    fn value(text: &str) -> Value {
        let document = parse(text.as_bytes()).expect("valid JSON");
        assert_eq!(document.nuls, []);
        document.value
    }

    fn nested(depth: usize) -> String {
        format!("{}{}", "[".repeat(depth), "]".repeat(depth))
    }

    #[test]
    fn faults_are_named_and_placed_in_characters() {
        for (text, message, offset) in [
            ("{", "Expecting property name enclosed in double quotes", 1),
            ("{'query':'x'}", "Expecting property name enclosed in double quotes", 1),
            ("{\"a\":1,}", "Expecting property name enclosed in double quotes", 7),
            ("{\"a\":1, 2}", "Expecting property name enclosed in double quotes", 8),
            ("{\"a\" 1}", "Expecting ':' delimiter", 5),
            ("{\"é\":1 \"b\":2}", "Expecting ',' delimiter", 7),
            ("{\"a\":}", "Expecting value", 5),
            ("{\"a\":", "Expecting value", 5),
            ("[", "Expecting value", 1),
            ("[1", "Expecting ',' delimiter", 2),
            ("[1 2]", "Expecting ',' delimiter", 3),
            ("[1,]", "Expecting value", 3),
            (" ", "Expecting value", 1),
            ("nul", "Expecting value", 0),
            ("-", "Expecting value", 0),
            ("NaN", "Expecting value", 0),
            ("[-Infinity]", "Expecting value", 1),
            ("{\"x\":NaN}", "Expecting value", 5),
            ("1 1", "Extra data", 2),
            ("01", "Extra data", 1),
            ("1.", "Extra data", 1),
            ("1e+", "Extra data", 1),
            ("{}\n}", "Extra data", 3),
            ("[1e999]", "Out of range float values are not JSON compliant", 1),
            ("{\"日\":\"x", "Unterminated string starting at", 5),
            ("\"x\\", "Unterminated string starting at", 0),
            ("\"\ta\"", "Invalid control character at", 1),
            ("\"é\\x\"", "Invalid \\escape", 2),
            ("\"\\u12g4\"", "Invalid \\uXXXX escape", 2),
            ("\"\\u1234", "Invalid \\uXXXX escape", 2),
            ("\"\\ud800\"", "Invalid \\uXXXX escape", 2),
            ("\"\\udc00\"", "Invalid \\uXXXX escape", 2),
            ("\"\\ud800\\u0041\"", "Invalid \\uXXXX escape", 2),
        ] {
            assert_eq!(fault(text), (message, offset), "{text}");
        }
    }

    #[test]
    fn values_are_read() {
        assert_eq!(
            value(" {\"a\" : [1, -2.5e1,true ,false,null,\"\\ud83d\\ude80\\n\\/\"] }\r\n"),
            json!({"a": [1, -25.0, true, false, null, "🚀\n/"]})
        );
        assert_eq!(value("-0"), json!(0));
        assert_eq!(to_vec(&value("[-0.0,1E5,1.10]")), b"[0.0,100000.0,1.1]");
        assert_eq!(value("18446744073709551615"), json!(u64::MAX));
        assert_eq!(value("-9223372036854775808"), json!(i64::MIN));
    }

    #[test]
    fn the_last_of_equal_keys_counts_in_the_place_of_the_first() {
        assert_eq!(to_vec(&value("{\"a\":1,\"b\":0,\"a\":2}")), b"{\"a\":2,\"b\":0}");
    }

    #[test]
    fn long_integers_come_back_as_integers() {
        let text = "[123456789012345678901234567890,-18446744073709551616]";
        let long = value(text);
        assert_eq!(big_integer(&long[0]), Some("123456789012345678901234567890"));
        assert_eq!(as_text(&long[0]), None);
        assert_eq!(to_vec(&long), text.as_bytes());
        let stored = serde_json::to_string(&long).expect("a value has a text");
        assert_eq!(serde_json::from_str::<Value>(&stored).expect("its own text"), long);
        assert_eq!(
            parse("1".repeat(MAX_INTEGER_DIGITS + 1).as_bytes()),
            Err(JsonError::Unreadable)
        );
    }

    #[test]
    fn nuls_are_reported_with_their_place() {
        let text =
            "{\"nodes\":[{\"t\":\"a\"},{\"t\":\"\\u0000\",\"u\":[\"\\u0000\"]},{\"\\u0000\":1}]}";
        let document = parse(text.as_bytes()).expect("NUL is valid JSON");
        let step = |index| vec![Step::Key("nodes".to_owned()), Step::Index(index)];
        let places: Vec<_> =
            document.nuls.iter().map(|nul| (nul.offset, nul.path.clone())).collect();
        assert_eq!(places, [(26, step(1)), (52, step(2))]);
        assert_eq!(document.value["nodes"][1]["t"], json!("\u{fffd}"));
    }

    #[test]
    fn deep_nesting_is_refused_without_recursing_into_it() {
        assert!(parse(nested(MAX_DEPTH).as_bytes()).is_ok());
        assert_eq!(parse(nested(MAX_DEPTH + 1).as_bytes()), Err(JsonError::Unreadable));
        assert_eq!(parse("[".repeat(100_000).as_bytes()), Err(JsonError::Unreadable));
        assert_eq!(parse("{\"a\":".repeat(100_000).as_bytes()), Err(JsonError::Unreadable));
        let kept = serde_json::from_str::<Value>(&nested(MAX_DEPTH + 5));
        assert!(kept.is_ok(), "what is accepted can be read again");
    }

    #[test]
    fn other_encodings_are_recognised() {
        let text = "{\"é\":\"🚀\"}";
        let wide =
            |encode: fn(u16) -> [u8; 2]| text.encode_utf16().flat_map(encode).collect::<Vec<_>>();
        let wider = |encode: fn(u32) -> [u8; 4]| {
            text.chars().flat_map(|c| encode(c as u32)).collect::<Vec<_>>()
        };
        for body in [
            wide(u16::to_le_bytes),
            wide(u16::to_be_bytes),
            wider(u32::to_le_bytes),
            wider(u32::to_be_bytes),
        ] {
            assert_eq!(parse(&body).expect("valid").value, json!({"é": "🚀"}));
        }
        assert_eq!(parse("\u{feff}{}".as_bytes()).expect("valid").value, json!({}));
        assert_eq!(parse(b"\"\xff\""), Err(JsonError::Unreadable));
    }

    fn any_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            prop::num::f64::NORMAL.prop_map(Value::from),
            "[^\0]*".prop_map(Value::from),
        ];
        leaf.prop_recursive(5, 40, 6, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
                prop::collection::vec(("[^\0]{0,5}", inner), 0..6)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(value in any_value()) {
            for text in [serde_json::to_vec(&value), serde_json::to_vec_pretty(&value)] {
                prop_assert_eq!(&parse(&text.expect("a value has a text")).expect("valid").value, &value);
            }
            prop_assert_eq!(to_vec(&value), serde_json::to_vec(&value).expect("a value has a text"));
            let spaced = to_spaced(&value);
            prop_assert!(spaced.is_ascii());
            prop_assert_eq!(parse(spaced.as_bytes()).expect("valid").value, value);
        }

        #[test]
        fn agrees_with_another_parser(text in "[\\[\\]{}:,\"0-9eE.+\\-a\\\\ntrufalsx \n]{0,18}") {
            let ours = parse(text.as_bytes());
            match serde_json::from_str::<Value>(&text) {
                // A negative zero loses its sign here.
                Ok(theirs) => prop_assert!(ours.is_ok_and(|d| d.value == theirs || text.contains("-0"))),
                Err(error) => prop_assert!(ours.is_err(), "{} but {:?}", error, ours),
            }
        }

        #[test]
        fn never_panics(body in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&body);
        }
    }
}
