//! Which of a node's words are embedded, and which are indexed.

use serde_json::Value;

use super::node::{Node, Object};

/// The rules of this file. Whoever changes what [`to_embed`] makes of a node raises it, and the
/// nodes whose text comes out differently are embedded again.
pub const RULES: u32 = 1;

/// Props that can hold a node's text; the first non-empty string wins.
const TEXT_KEYS: [&str; 5] = ["text", "resume_text", "content", "body", "description"];
/// Props that can hold a node's title; the first that is there wins.
const TITLE_KEYS: [&str; 3] = ["title", "job_title", "current_title"];
/// Props of the optional prefix, in order, with the label each is given.
const PREFIX: [(&str, &str, Items); 20] = [
    ("current_title", "CURRENT_TITLE", Items::AsGiven),
    ("primary_titles", "PRIMARY_TITLES", Items::AsGiven),
    ("seniority", "SENIORITY", Items::AsGiven),
    ("job_title", "JOB_TITLE", Items::AsGiven),
    ("required_skills", "REQUIRED_SKILLS", Items::AsGiven),
    ("good_to_have_skills", "GOOD_TO_HAVE", Items::AsGiven),
    ("skills_raw", "SKILLS_RAW", Items::AsGiven),
    ("skills_normalized", "SKILLS_NORMALIZED", Items::AsGiven),
    ("years_by_skill", "YEARS_BY_SKILL", Items::AsGiven),
    ("experience_years", "EXPERIENCE", Items::AsGiven),
    ("education_requirement", "EDUCATION", Items::AsGiven),
    ("primary_skills", "EXTRACTED_SKILLS", Items::Sorted),
    ("recent_job_titles", "RECENT_TITLES", Items::Sorted),
    ("certifications", "CERTIFICATIONS", Items::Sorted),
    ("industries", "INDUSTRIES", Items::Sorted),
    ("domains", "DOMAINS", Items::Sorted),
    ("functions", "FUNCTIONS", Items::Sorted),
    ("location", "LOCATION", Items::AsGiven),
    ("years_experience_total", "YEARS_EXPERIENCE_TOTAL", Items::AsGiven),
    ("total_years_experience", "TOTAL_YEARS_EXPERIENCE", Items::AsGiven),
];

/// How the items of a list are ordered in the prefix.
#[derive(Clone, Copy)]
enum Items {
    AsGiven,
    /// Without regard to case: lists that a model extracted come in any order.
    Sorted,
}

/// A node's inline text, if it has one that is not blank.
pub fn inline(props: &Object) -> Option<&str> {
    TEXT_KEYS
        .iter()
        .filter_map(|key| props.get(*key)?.as_str())
        .find(|text| !text.trim().is_empty())
}

/// A node's title, if it has one.
pub fn title(props: &Object) -> Option<&str> {
    TITLE_KEYS
        .iter()
        .find_map(|key| props.get(*key).filter(|value| !value.is_null()))
        .and_then(Value::as_str)
}

/// The text that is embedded for `node` whose own text is `base`: with `prefix` on, a résumé or
/// a job is led by its structured fields. Blank text gives an empty string: a vector of labels
/// alone would match everything.
pub fn to_embed(node: &Node, base: &str, prefix: bool) -> String {
    if base.trim().is_empty() {
        return String::new();
    }
    let structured = node.classes.iter().any(|c| c == "Resume" || c == "Job")
        || ["resume_text", "job_title"].iter().any(|key| node.props.contains_key(*key));
    if !prefix || !structured {
        return base.to_owned();
    }
    let mut lines = String::new();
    for (key, label, items) in PREFIX {
        let value = node.props.get(key).and_then(|value| field(value, items));
        if let Some(value) = value {
            lines.push_str(label);
            lines.push_str(": ");
            lines.push_str(&value);
            lines.push('\n');
        }
    }
    if lines.is_empty() { base.to_owned() } else { format!("{lines}\n{base}") }
}

/// One prop in one line; nothing for what is empty.
fn field(value: &Value, items: Items) -> Option<String> {
    let text = match value {
        Value::Null => return None,
        Value::String(text) => text.trim().to_owned(),
        Value::Array(values) => {
            let mut values: Vec<String> = values.iter().filter_map(|v| field(v, items)).collect();
            if matches!(items, Items::Sorted) {
                values.sort_by_key(|value| value.to_lowercase());
            }
            values.join(", ")
        }
        Value::Object(object) => {
            let mut pairs: Vec<_> = object
                .iter()
                .filter_map(|(key, value)| Some(format!("{key}={}", field(value, items)?)))
                .collect();
            pairs.sort();
            pairs.join("; ")
        }
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    };
    (!text.is_empty()).then_some(text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn props(value: Value) -> Object {
        value.as_object().expect("an object").clone()
    }

    #[test]
    fn the_first_text_that_is_not_blank_wins() {
        let props = props(json!({"text": " ", "content": 5, "body": "b", "description": "d"}));
        assert_eq!(inline(&props), Some("b"));
    }

    #[test]
    fn the_first_title_that_is_there_wins_even_if_it_is_no_string() {
        assert_eq!(title(&props(json!({"title": null, "job_title": "j"}))), Some("j"));
        assert_eq!(title(&props(json!({"title": 1, "job_title": "j"}))), None);
    }

    #[test]
    fn fields_are_flattened() {
        assert_eq!(field(&json!(["b", "A", ""]), Items::Sorted).as_deref(), Some("A, b"));
        assert_eq!(field(&json!(["b", "A"]), Items::AsGiven).as_deref(), Some("b, A"));
        assert_eq!(
            field(&json!({"rust": 3, "c": 2}), Items::AsGiven).as_deref(),
            Some("c=2; rust=3")
        );
        assert_eq!(field(&json!([]), Items::AsGiven), None);
    }
}
