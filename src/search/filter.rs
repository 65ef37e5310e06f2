//! Which nodes a search may return.

use serde_json::Value;

use crate::graph::{Node, Object};

/// The conditions of a search; all must hold.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Metadata keys and their values: each value must be equal, or equal as text.
    pub metadata_filters: Option<Object>,
    /// An object that the metadata must contain, as JSONB containment has it.
    pub compound_filter: Option<Object>,
    /// Classes of which the node has at least one; empty = any.
    pub classes: Vec<String>,
}

impl Filter {
    /// Whether every node passes.
    pub fn is_empty(&self) -> bool {
        let Self { metadata_filters, compound_filter, classes } = self;
        let none = |object: &Option<Object>| object.as_ref().is_none_or(Object::is_empty);
        none(metadata_filters) && none(compound_filter) && classes.is_empty()
    }

    /// Whether the node passes.
    pub fn admits(&self, node: &Node) -> bool {
        let Self { metadata_filters, compound_filter, classes } = self;
        let equal = metadata_filters
            .iter()
            .flatten()
            .all(|(key, wanted)| node.metadata.get(key).is_some_and(|found| same(found, wanted)));
        equal
            && compound_filter.as_ref().is_none_or(|wanted| contains_all(&node.metadata, wanted))
            && (classes.is_empty() || node.classes.iter().any(|class| classes.contains(class)))
    }
}

/// Equal by type and value, or by text: `2024` is found by `2024`, `2024.0` and `"2024"`.
fn same(found: &Value, wanted: &Value) -> bool {
    equal(found, wanted) || as_text(found).is_some_and(|text| as_text(wanted) == Some(text))
}

/// The text form of a scalar.
pub(super) fn as_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Equality of JSON values in which `1` is `1.0` and the order of keys does not count.
fn equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| equal(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| equal(a, b)))
        }
        _ => a == b,
    }
}

/// JSONB containment of objects: every wanted key is there and contains what is wanted of it.
fn contains_all(found: &Object, wanted: &Object) -> bool {
    wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| contains(found, wanted)))
}

/// JSONB containment of values: arrays as sets, scalars by type and value.
fn contains(found: &Value, wanted: &Value) -> bool {
    match (found, wanted) {
        (Value::Object(found), Value::Object(wanted)) => contains_all(found, wanted),
        (Value::Array(found), Value::Array(wanted)) => {
            wanted.iter().all(|wanted| found.iter().any(|found| contains(found, wanted)))
        }
        (found, wanted) => equal(found, wanted),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn object(value: Value) -> Object {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn metadata_is_equal_by_value_or_by_text() {
        assert!(same(&json!(2024), &json!("2024")));
        assert!(same(&json!(2024), &json!(2024.0)));
        assert!(same(&json!(true), &json!(true)));
        assert!(same(&json!(true), &json!("true")));
        assert!(same(&json!({"a": 1, "b": 2}), &json!({"b": 2, "a": 1})));
        assert!(!same(&json!(false), &json!(true)));
        assert!(!same(&json!(null), &json!("null")));
        assert!(!same(&json!([1]), &json!("[1]")));
    }

    #[test]
    fn containment_is_that_of_jsonb() {
        let found = object(
            json!({"tags": ["pump", "seal", ["x"]], "spec": {"rev": 3, "kind": "m"}, "n": 1}),
        );
        for inside in [
            json!({}),
            json!({"n": 1.0}),
            json!({"tags": ["seal"]}),
            json!({"tags": []}),
            json!({"tags": [["x"]]}),
            json!({"spec": {"rev": 3}}),
        ] {
            assert!(contains_all(&found, &object(inside.clone())), "{inside}");
        }
        for outside in [
            json!({"n": "1"}),
            json!({"tags": "seal"}),
            json!({"tags": ["seal", "belt"]}),
            json!({"spec": {"rev": 4}}),
            json!({"missing": null}),
        ] {
            assert!(!contains_all(&found, &object(outside.clone())), "{outside}");
        }
    }
}
