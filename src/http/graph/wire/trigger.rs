//! Patterns that nodes listen for.

use serde::Serialize;
use serde_json::Value;

use super::tenant;
use crate::http::extract::Input;
use crate::http::validate::{At, Checked};

/// Longest name, in characters.
const NAME_MAX: usize = 200;
/// Longest example, in characters.
const EXAMPLE_MAX: usize = 10_000;
/// Longest description, in characters.
const DESCRIPTION_MAX: usize = 2000;

/// Body of POST /triggers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PatternCreate {
    /// The pattern, unless its name or its example is missing or blank, which is the route's own
    /// 400.
    pub pattern: Option<Pattern>,
    /// The tenant it names.
    pub tenant_id: Option<String>,
}

/// A pattern to be registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// 1 to 200 characters.
    pub name: String,
    /// 1 to 10,000 characters.
    pub example_text: String,
    /// Up to 2000 characters.
    pub description: Option<String>,
}

impl Input for PatternCreate {
    fn parse(body: &Value) -> Checked<Self> {
        if body.is_null() {
            At::body(body).fields()?; // nothing was sent
        }
        At::body(body).object()?;
        let mut fields = At::body(body).fields()?;
        let name = fields.nullable("name", |at| at.string_of(0, NAME_MAX));
        let example_text = fields.nullable("example_text", |at| at.string_of(0, EXAMPLE_MAX));
        let description = fields.nullable("description", |at| at.string_of(0, DESCRIPTION_MAX));
        let tenant_id = fields.optional("tenant_id", None, tenant);
        fields.finish()?;
        let some = |text: Option<String>| text.filter(|text| !text.trim().is_empty());
        let pattern = some(name).zip(some(example_text)).map(|(name, example_text)| Pattern {
            name,
            example_text,
            description,
        });
        Ok(Self { pattern, tenant_id })
    }
}

/// Answer of POST /triggers.
#[derive(Debug, Serialize)]
pub struct PatternRegistered {
    /// Always `registered`.
    pub status: &'static str,
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
}

/// Answer of GET /triggers.
#[derive(Debug, Serialize)]
pub struct PatternList {
    /// The patterns, by name.
    pub patterns: Vec<PatternView>,
    /// How many there are.
    pub count: usize,
}

/// A pattern in a list.
#[derive(Debug, Serialize)]
pub struct PatternView {
    /// Its name.
    pub name: String,
    /// What it is for.
    pub description: Option<String>,
    /// When it was first registered.
    pub created_at: String,
    /// When it was last registered.
    pub updated_at: String,
}

/// Answer of DELETE /triggers/{name}.
#[derive(Debug, Serialize)]
pub struct PatternDeleted {
    /// Always `deleted`.
    pub status: &'static str,
    /// Its name.
    pub name: String,
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_name_and_an_example_make_a_pattern() {
        let parsed = PatternCreate::parse(&json!({"name": "a", "example_text": "b"})).unwrap();
        assert_eq!(parsed.pattern.unwrap().description, None);
        for body in [
            json!({}),
            json!({"name": "a"}),
            json!({"name": "", "example_text": "b"}),
            json!({"name": "a", "example_text": " "}),
            json!({"name": null, "example_text": "b"}),
        ] {
            assert_eq!(PatternCreate::parse(&body).unwrap().pattern, None, "{body}");
        }
    }

    #[test]
    fn what_is_no_text_is_refused() {
        for (body, kind) in [
            (json!({"name": 5, "example_text": "x"}), "string_type"),
            (json!({"name": "a", "example_text": 5}), "string_type"),
            (json!({"name": "a".repeat(201), "example_text": "x"}), "string_too_long"),
            (json!("x"), "dict_type"),
            (json!(null), "missing"),
        ] {
            let faults = PatternCreate::parse(&body).unwrap_err();
            assert_eq!(faults[0].to_value()["type"], kind, "{body}");
        }
    }
}
