//! The parser: recursive, with a bounded depth, over text that is valid UTF-8.

use serde_json::{Map, Number, Value};

use super::{BIG_INTEGER_MARK, Document, JsonError, MAX_DEPTH, MAX_INTEGER_DIGITS, Nul, Step};

/// What takes the place of a NUL in a string.
const REPLACEMENT: char = '\u{fffd}';

const VALUE: &str = "Expecting value";
const KEY: &str = "Expecting property name enclosed in double quotes";
const COLON: &str = "Expecting ':' delimiter";
const COMMA: &str = "Expecting ',' delimiter";
const EXTRA: &str = "Extra data";
const UNTERMINATED: &str = "Unterminated string starting at";
const CONTROL: &str = "Invalid control character at";
const ESCAPE: &str = "Invalid \\escape";
const UNICODE: &str = "Invalid \\uXXXX escape";
const RANGE: &str = "Out of range float values are not JSON compliant";

pub(super) fn parse(text: &str) -> Result<Document, JsonError> {
    let mut parser = Parser { text, at: 0, depth: 0, nuls: Vec::new() };
    let parsed = parser.document();
    let Parser { nuls, .. } = parser;
    match parsed {
        Ok(value) => {
            let nuls =
                nuls.into_iter().map(|nul| Nul { offset: characters(text, nul.offset), ..nul });
            Ok(Document { value, nuls: nuls.collect() })
        }
        Err(Fault::Syntax(message, at)) => {
            Err(JsonError::Syntax { message, offset: characters(text, at) })
        }
        Err(Fault::Unreadable) => Err(JsonError::Unreadable),
    }
}

/// Characters before byte `at`, which is a character's first or the end.
fn characters(text: &str, at: usize) -> usize {
    text[..at].chars().count()
}

/// An error placed in bytes, which is what the parser counts.
enum Fault {
    Syntax(&'static str, usize),
    Unreadable,
}

type Parsed<T> = Result<T, Fault>;

struct Parser<'a> {
    text: &'a str,
    /// The next byte; always at the start of a character.
    at: usize,
    depth: usize,
    /// Offsets in bytes; paths grow at the front as the containers close.
    nuls: Vec<Nul>,
}

impl Parser<'_> {
    fn document(&mut self) -> Parsed<Value> {
        self.blanks();
        let value = self.value()?;
        self.blanks();
        if self.at < self.text.len() { Err(Fault::Syntax(EXTRA, self.at)) } else { Ok(value) }
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn blanks(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// Steps over `byte` if it is next.
    fn take(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        self.at += usize::from(found);
        found
    }

    fn value(&mut self) -> Parsed<Value> {
        match self.peek() {
            Some(b'"') => self.string().map(Value::String),
            Some(b'{') => self.nested(Self::object),
            Some(b'[') => self.nested(Self::array),
            Some(b'-' | b'0'..=b'9') => self.number(),
            _ => {
                let literals =
                    [("null", Value::Null), ("true", true.into()), ("false", false.into())];
                let literal =
                    literals.into_iter().find(|(word, _)| self.text[self.at..].starts_with(word));
                let (word, value) = literal.ok_or(Fault::Syntax(VALUE, self.at))?;
                self.at += word.len();
                Ok(value)
            }
        }
    }

    fn nested(&mut self, inside: fn(&mut Self) -> Parsed<Value>) -> Parsed<Value> {
        if self.depth == MAX_DEPTH {
            return Err(Fault::Unreadable);
        }
        self.depth += 1;
        self.at += 1; // the bracket
        self.blanks();
        let value = inside(self);
        self.depth -= 1;
        value
    }

    fn object(&mut self) -> Parsed<Value> {
        let mut members = Map::new();
        if self.take(b'}') {
            return Ok(members.into());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(Fault::Syntax(KEY, self.at));
            }
            let before = self.nuls.len();
            let key = self.string()?;
            self.blanks();
            if !self.take(b':') {
                return Err(Fault::Syntax(COLON, self.at));
            }
            self.blanks();
            let value = self.value()?;
            self.place_nuls(before, || Step::Key(key.clone()));
            members.insert(key, value);
            self.blanks();
            if self.take(b'}') {
                return Ok(members.into());
            }
            if !self.take(b',') {
                return Err(Fault::Syntax(COMMA, self.at));
            }
            self.blanks();
        }
    }

    fn array(&mut self) -> Parsed<Value> {
        let mut items = Vec::new();
        if self.take(b']') {
            return Ok(items.into());
        }
        loop {
            let before = self.nuls.len();
            items.push(self.value()?);
            self.place_nuls(before, || Step::Index(items.len() - 1));
            self.blanks();
            if self.take(b']') {
                return Ok(items.into());
            }
            if !self.take(b',') {
                return Err(Fault::Syntax(COMMA, self.at));
            }
            self.blanks();
        }
    }

    /// Puts the step just taken before the paths of the NULs found in it. Only the two outermost
    /// steps are kept, and below them one NUL speaks for all, so the list stays short.
    fn place_nuls(&mut self, before: usize, step: impl FnOnce() -> Step) {
        if self.nuls.len() == before {
            return;
        }
        if self.depth > 2 {
            self.nuls.truncate(before + 1);
            return;
        }
        if self.depth == 2 {
            self.nuls.truncate(before + 1);
        }
        let step = step();
        for nul in &mut self.nuls[before..] {
            nul.path.insert(0, step.clone());
        }
    }

    fn number(&mut self) -> Parsed<Value> {
        let start = self.at;
        let mut end = start + usize::from(self.peek() == Some(b'-'));
        let digits = |from: usize| {
            let rest = &self.text.as_bytes()[from..];
            from + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
        };
        let byte = |at: usize| self.text.as_bytes().get(at).copied();
        end = match byte(end) {
            Some(b'0') => end + 1,
            Some(b'1'..=b'9') => digits(end),
            _ => return Err(Fault::Syntax(VALUE, start)),
        };
        let integer = end;
        if byte(end) == Some(b'.') && digits(end + 1) > end + 1 {
            end = digits(end + 1);
        }
        if let Some(b'e' | b'E') = byte(end) {
            let sign = usize::from(matches!(byte(end + 1), Some(b'+' | b'-')));
            let exponent = end + 1 + sign;
            if digits(exponent) > exponent {
                end = digits(exponent);
            }
        }
        self.at = end;
        let text = &self.text[start..end];
        if end == integer {
            return whole(text);
        }
        let number: f64 = text.parse().map_err(|_| Fault::Syntax(VALUE, start))?;
        let number = if number == 0.0 { 0.0 } else { number }; // drops the sign of a negative zero
        Number::from_f64(number).map(Value::Number).ok_or(Fault::Syntax(RANGE, start))
    }

    fn string(&mut self) -> Parsed<String> {
        let start = self.at;
        self.at += 1; // the quote
        let mut string = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.bytes().position(|byte| byte < 0x20 || byte == b'"' || byte == b'\\');
            let plain = plain.ok_or(Fault::Syntax(UNTERMINATED, start))?;
            string.push_str(&rest[..plain]);
            self.at += plain;
            match rest.as_bytes()[plain] {
                b'"' => {
                    self.at += 1;
                    return Ok(string);
                }
                b'\\' => string.push(self.escape(start)?),
                _ => return Err(Fault::Syntax(CONTROL, self.at)),
            }
        }
    }

    /// The character of the escape that begins here, in the string that began at `start`.
    fn escape(&mut self, start: usize) -> Parsed<char> {
        let backslash = self.at;
        self.at += 2;
        let kind = self.text.as_bytes().get(backslash + 1);
        Ok(match kind.ok_or(Fault::Syntax(UNTERMINATED, start))? {
            b'"' => '"',
            b'\\' => '\\',
            b'/' => '/',
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let bad = Fault::Syntax(UNICODE, backslash + 1);
                let first = self.hex()?;
                let second = match first {
                    0xd800..0xdc00 if self.text[self.at..].starts_with("\\u") => {
                        self.at += 2;
                        Some(self.hex()?)
                    }
                    _ => None,
                };
                let units = [Some(first), second].into_iter().flatten();
                let mut decoded = char::decode_utf16(units);
                match (decoded.next(), decoded.next()) {
                    (Some(Ok('\0')), None) => {
                        self.nuls.push(Nul { offset: backslash, path: Vec::new() });
                        REPLACEMENT
                    }
                    (Some(Ok(character)), None) => character,
                    _ => return Err(bad),
                }
            }
            _ => return Err(Fault::Syntax(ESCAPE, backslash)),
        })
    }

    /// The four hexadecimal digits of an escape, whose `u` is just behind.
    fn hex(&mut self) -> Parsed<u16> {
        let bad = Fault::Syntax(UNICODE, self.at - 1);
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        // One more character must follow: a text that ends here has the escape at fault, not
        // the string.
        let Some(digits) = digits.filter(|_| self.text.len() > self.at + 4) else {
            return Err(bad);
        };
        let mut unit = 0;
        for digit in digits {
            let Some(digit) = char::from(*digit).to_digit(16) else {
                return Err(bad);
            };
            unit = unit << 4 | digit as u16;
        }
        self.at += 4;
        Ok(unit)
    }
}

/// An integer of any length.
fn whole(text: &str) -> Parsed<Value> {
    if let Ok(number) = text.parse::<i64>() {
        return Ok(number.into());
    }
    if let Ok(number) = text.parse::<u64>() {
        return Ok(number.into());
    }
    if text.trim_start_matches('-').len() > MAX_INTEGER_DIGITS {
        return Err(Fault::Unreadable);
    }
    Ok(format!("{BIG_INTEGER_MARK}{text}").into())
}
