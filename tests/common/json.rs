//! JSON as tests compare it.

use serde_json::Value;

/// Parses JSON. An integer of more than 64 bits becomes the string `<integer N>`, so that two of
/// them are equal only when all their digits are.
pub(crate) fn parse(text: &str) -> Result<Value, String> {
    let mut out = String::with_capacity(text.len());
    for token in tokens(text) {
        match token {
            Token::Number(digits) if is_big(digits) => {
                out.push_str(&format!("\"<integer {digits}>\""));
            }
            Token::Number(text) | Token::String(text) | Token::Other(text) => out.push_str(text),
        }
    }
    serde_json::from_str(&out).map_err(|error| error.to_string())
}

/// What keeps `text` from being compact JSON with its characters as they are: blanks between
/// tokens, or an escape for a character that needs none.
pub(crate) fn fault_in_compact(text: &str) -> Option<String> {
    for token in tokens(text) {
        match token {
            Token::Other(blank) if blank.chars().any(char::is_whitespace) => {
                return Some("it has blanks between its tokens".to_owned());
            }
            Token::String(string) if escapes_needlessly(string) => {
                return Some(format!("it escapes what it need not: {string}"));
            }
            Token::Number(_) | Token::String(_) | Token::Other(_) => {}
        }
    }
    None
}

enum Token<'a> {
    Number(&'a str),
    String(&'a str),
    Other(&'a str),
}

/// The tokens of `text`, of which only strings and numbers are told apart. What is no JSON comes
/// out as it went in.
fn tokens(text: &str) -> impl Iterator<Item = Token<'_>> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = *rest.as_bytes().first()?;
        let is_numeric = |byte: u8| matches!(byte, b'0'..=b'9' | b'-' | b'+' | b'.' | b'e' | b'E');
        let until = |stops: &dyn Fn(u8) -> bool| rest.bytes().position(stops).unwrap_or(rest.len());
        let end = match first {
            b'"' => string_end(rest),
            b'-' | b'0'..=b'9' => until(&|byte| !is_numeric(byte)),
            _ => until(&|byte| byte == b'"' || byte == b'-' || byte.is_ascii_digit()),
        };
        let (token, tail) = rest.split_at(end);
        rest = tail;
        Some(match first {
            b'"' => Token::String(token),
            b'-' | b'0'..=b'9' => Token::Number(token),
            _ => Token::Other(token),
        })
    })
}

fn string_end(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

fn is_big(number: &str) -> bool {
    let is_integer = !number.contains(['.', 'e', 'E']);
    is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err()
}

fn escapes_needlessly(string: &str) -> bool {
    string.match_indices("\\u").any(|(at, _)| {
        let digits = string.get(at + 2..at + 6).unwrap_or_default();
        u32::from_str_radix(digits, 16).is_ok_and(|code| code >= 0x80)
    })
}

#[test]
fn big_integers_keep_their_digits() {
    let text =
        r#"{"a":[18446744073709551615,18446744073709551616,-1,1.5],"s":"99999999999999999999"}"#;
    let value = parse(text).unwrap();
    assert_eq!(value["a"][0], 18_446_744_073_709_551_615_u64);
    assert_eq!(value["a"][1], "<integer 18446744073709551616>");
    assert_eq!(value["s"], "99999999999999999999");
}

#[test]
fn compactness_is_about_blanks_and_escapes() {
    assert_eq!(fault_in_compact(r#"{"a b":"é \n \u0001","n":[1,null]}"#), None);
    assert!(fault_in_compact(r#"{"a": 1}"#).is_some());
    assert!(fault_in_compact(r#"["\u00e9"]"#).is_some());
}
