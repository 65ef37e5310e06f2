//! What an answer to a bad request must not repeat.

use activekg_storage::crypt::fields::SECRET_FIELDS;
use serde_json::Value;

use crate::connectors::{Kind, Provider, REDACTED};
use crate::http::validate::Item;

/// The faults without the secrets that their inputs hold. Of a setting nobody knows, any text may
/// be one: its name may be that of a secret, misspelt.
pub(super) fn items(items: Vec<Item>) -> Vec<Item> {
    items.into_iter().map(|item| item.map_input(input)).collect()
}

fn input(place: &[Value], input: Value) -> Value {
    let names: Vec<&str> = place.iter().filter_map(Value::as_str).collect();
    let setting = match names[..] {
        ["body", "config", name, ..] | ["body", name, ..] if name != "config" => Some(name),
        _ => None,
    };
    match setting {
        Some(name) if name == "tenant_id" || is_plain(name) => plain(input),
        Some(_) if input.is_null() => input,
        Some(_) => REDACTED.into(),
        None => whole(input),
    }
}

/// What stands where nothing secret should. Where a setting is missing that is all the others.
fn plain(input: Value) -> Value {
    match input {
        Value::Object(_) => whole(input),
        Value::Array(items) => items.into_iter().map(plain).collect(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => input,
    }
}

/// A body, or the settings in it.
fn whole(input: Value) -> Value {
    match input {
        Value::Object(mut members) => {
            for (name, value) in &mut members {
                let keep = name == "tenant_id" || value.is_null() || is_plain(name);
                if name == "config" {
                    *value = whole(value.take());
                } else if !keep {
                    *value = REDACTED.into();
                }
            }
            Value::Object(members)
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => input,
        Value::String(_) | Value::Array(_) => REDACTED.into(),
    }
}

/// Whether a setting of this name is known to hold nothing secret. Addresses may hold passwords.
fn is_plain(name: &str) -> bool {
    let mut known = Provider::ALL.into_iter().flat_map(Provider::fields);
    !SECRET_FIELDS.contains(&name)
        && known.any(|field| field.name == name && !matches!(field.kind, Kind::Url | Kind::Urls))
}
