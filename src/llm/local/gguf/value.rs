//! Metadata: named values.

use std::collections::HashMap;
use std::io::Read;

use super::read::Cut;
use super::{GgufError, NAME_MAX};

/// Longest text, in bytes: templates are some kilobytes long.
const TEXT_MAX: u64 = 1 << 20;
/// Longest list; the largest vocabularies have a quarter of a million tokens and as many merges.
const LIST_MAX: u64 = 1 << 22;

/// A value. Numbers are widened.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// An integer.
    Integer(i128),
    /// A number with a fraction.
    Float(f64),
    /// A switch.
    Bool(bool),
    /// A text.
    Text(String),
    /// A list of integers; switches are 0 and 1.
    Integers(Vec<i64>),
    /// A list of numbers.
    Floats(Vec<f32>),
    /// A list of texts.
    Texts(Vec<String>),
}

/// The values of a file by name.
#[derive(Debug, Default)]
pub struct Metadata {
    values: HashMap<String, Value>,
}

impl Metadata {
    pub(super) fn read<R: Read>(cut: &mut Cut<R>, n_entries: u64) -> Result<Self, GgufError> {
        let mut values = HashMap::new();
        for _ in 0..n_entries {
            let name = cut.text("the name of an entry", NAME_MAX)?;
            let kind = cut.u32()?;
            let value = match kind {
                LIST => list(cut, &name)?,
                TEXT => Value::Text(cut.text(&name, TEXT_MAX)?),
                kind => scalar(cut, kind, &name)?,
            };
            values.insert(name, value);
        }
        Ok(Self { values })
    }

    /// The value called `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.values.get(name)
    }

    /// A count or an id; `None` when there is none, or it is negative or no integer.
    pub fn unsigned(&self, name: &str) -> Option<u64> {
        match self.get(name)? {
            Value::Integer(number) => u64::try_from(*number).ok(),
            _ => None,
        }
    }

    /// A number.
    pub fn float(&self, name: &str) -> Option<f64> {
        match self.get(name)? {
            Value::Float(number) => Some(*number),
            Value::Integer(number) => Some(*number as f64),
            _ => None,
        }
    }

    /// A switch.
    pub fn boolean(&self, name: &str) -> Option<bool> {
        match self.get(name)? {
            Value::Bool(switch) => Some(*switch),
            _ => None,
        }
    }

    /// A text.
    pub fn text(&self, name: &str) -> Option<&str> {
        match self.get(name)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// A list of texts.
    pub fn texts(&self, name: &str) -> Option<&[String]> {
        match self.get(name)? {
            Value::Texts(texts) => Some(texts),
            _ => None,
        }
    }

    /// A list of numbers.
    pub fn floats(&self, name: &str) -> Option<&[f32]> {
        match self.get(name)? {
            Value::Floats(numbers) => Some(numbers),
            _ => None,
        }
    }

    /// A list of integers.
    pub fn integers(&self, name: &str) -> Option<&[i64]> {
        match self.get(name)? {
            Value::Integers(numbers) => Some(numbers),
            _ => None,
        }
    }
}

impl FromIterator<(String, Value)> for Metadata {
    fn from_iter<I: IntoIterator<Item = (String, Value)>>(values: I) -> Self {
        Self { values: values.into_iter().collect() }
    }
}

impl IntoIterator for Metadata {
    type Item = (String, Value);
    type IntoIter = std::collections::hash_map::IntoIter<String, Value>;

    fn into_iter(self) -> Self::IntoIter {
        self.values.into_iter()
    }
}

const BOOL: u32 = 7;
const TEXT: u32 = 8;
const LIST: u32 = 9;

fn scalar<R: Read>(cut: &mut Cut<R>, kind: u32, name: &str) -> Result<Value, GgufError> {
    Ok(match kind {
        0 => Value::Integer(u8::from_le_bytes(cut.bytes()?).into()),
        1 => Value::Integer(i8::from_le_bytes(cut.bytes()?).into()),
        2 => Value::Integer(u16::from_le_bytes(cut.bytes()?).into()),
        3 => Value::Integer(i16::from_le_bytes(cut.bytes()?).into()),
        4 => Value::Integer(u32::from_le_bytes(cut.bytes()?).into()),
        5 => Value::Integer(i32::from_le_bytes(cut.bytes()?).into()),
        6 => Value::Float(f32::from_le_bytes(cut.bytes()?).into()),
        BOOL => match cut.bytes()? {
            [0] => Value::Bool(false),
            [1] => Value::Bool(true),
            [byte] => return Err(GgufError::Damaged(format!("{name} is a switch at {byte}"))),
        },
        10 => Value::Integer(u64::from_le_bytes(cut.bytes()?).into()),
        11 => Value::Integer(i64::from_le_bytes(cut.bytes()?).into()),
        12 => Value::Float(f64::from_le_bytes(cut.bytes()?)),
        kind => return Err(GgufError::Damaged(format!("{name} is of the unknown type {kind}"))),
    })
}

/// The bytes that a value of `kind` takes at least, and whether it is a fraction.
fn least_bytes(kind: u32) -> Option<u64> {
    Some(match kind {
        0 | 1 | BOOL => 1,
        2 | 3 => 2,
        4..=6 => 4,
        TEXT | 10..=12 => 8,
        _ => return None,
    })
}

fn list<R: Read>(cut: &mut Cut<R>, name: &str) -> Result<Value, GgufError> {
    let kind = cut.u32()?;
    let Some(bytes) = least_bytes(kind) else {
        return Err(GgufError::Damaged(format!("{name} is a list of the type {kind}")));
    };
    // `count` bounds the list by the bytes left, so that what is collected is, too.
    let n = cut.count(name, bytes, LIST_MAX)?;
    if kind == TEXT {
        let texts: Result<_, _> = (0..n).map(|_| cut.text(name, TEXT_MAX)).collect();
        return Ok(Value::Texts(texts?));
    }
    let (mut integers, mut floats) = (Vec::new(), Vec::new());
    for _ in 0..n {
        match scalar(cut, kind, name)? {
            Value::Float(number) => floats.push(number as f32),
            // More than i64::MAX is no id and no count: such a number says nothing here.
            Value::Integer(number) => integers.push(i64::try_from(number).unwrap_or(i64::MAX)),
            Value::Bool(switch) => integers.push(i64::from(switch)),
            Value::Text(_) | Value::Integers(_) | Value::Floats(_) | Value::Texts(_) => {}
        }
    }
    Ok(if matches!(kind, 6 | 12) { Value::Floats(floats) } else { Value::Integers(integers) })
}
