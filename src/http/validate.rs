//! Field checks over parsed JSON and query strings, with the leniency and the error items that
//! clients of the graph API know.
//!
//! A rule is a method of [`At`], the value at one place of the input: it gives the converted
//! value or the items that say what is wrong. [`Fields`] applies rules to the members of an
//! object and collects the items of all of them in the order of the calls.

mod number;

use serde_json::{Map, Value, json};

use super::json::as_text;

/// What a rule gives: the value, or everything that is wrong with it.
pub type Checked<T> = Result<T, Vec<Item>>;

/// Faults reported for the items of one list at most; a list of a million wrong items is
/// answered briefly.
const LIST_FAULTS_MAX: usize = 100;

/// One fault of an input.
#[derive(Debug, Clone, PartialEq)]
pub struct Item {
    kind: &'static str,
    loc: Vec<Value>,
    message: String,
    input: Value,
    ctx: Option<Value>,
}

impl Item {
    /// A fault of the given type at `loc`, whose members are strings and indexes.
    pub fn new(
        kind: &'static str,
        loc: Vec<Value>,
        message: impl Into<String>,
        input: Value,
    ) -> Self {
        Self { kind, loc, message: message.into(), input, ctx: None }
    }

    /// With the figures that belong to the message.
    #[must_use]
    pub fn with_ctx(self, ctx: Value) -> Self {
        Self { ctx: Some(ctx), ..self }
    }

    /// With `input` in place of what stands at `loc`, for inputs that must not be repeated.
    #[must_use]
    pub fn map_input(self, change: impl FnOnce(&[Value], Value) -> Value) -> Self {
        let input = change(&self.loc, self.input);
        Self { input, ..self }
    }

    /// The body is not JSON: what was found at which character.
    pub fn json_invalid(message: &str, offset: usize) -> Self {
        let loc = vec!["body".into(), offset.into()];
        Self::new("json_invalid", loc, "JSON decode error", json!({}))
            .with_ctx(json!({ "error": message }))
    }

    /// Where the fault is, below the body or the query: `messages.0.role`; nothing for the whole,
    /// and for a body that is no JSON, in which a place is a count of characters.
    pub fn place(&self) -> Option<String> {
        if self.kind == "json_invalid" {
            return None;
        }
        let steps = self.loc.get(1..).unwrap_or_default().iter();
        let steps: Vec<String> = steps
            .map(|step| step.as_str().map_or_else(|| step.to_string(), str::to_owned))
            .collect();
        (!steps.is_empty()).then(|| steps.join("."))
    }

    /// The fault and its place in a sentence.
    pub fn sentence(&self) -> String {
        match self.place() {
            Some(place) => format!("{place}: {}", self.message),
            None => self.message.clone(),
        }
    }

    /// The item as answers have it.
    pub fn to_value(&self) -> Value {
        let Self { kind, loc, message, input, ctx } = self;
        let mut item = json!({ "type": kind, "loc": loc, "msg": message, "input": input });
        if let Some(ctx) = ctx {
            item["ctx"] = ctx.clone();
        }
        item
    }
}

/// The way to a value, linked upwards and written out only for a fault.
#[derive(Debug, Clone, Copy)]
struct Loc<'a> {
    up: Option<&'a Loc<'a>>,
    step: Step<'a>,
}

#[derive(Debug, Clone, Copy)]
enum Step<'a> {
    Key(&'a str),
    Index(usize),
}

impl Loc<'_> {
    fn steps(&self) -> Vec<Value> {
        let mut steps = self.up.map(Loc::steps).unwrap_or_default();
        steps.push(match self.step {
            Step::Key(key) => key.into(),
            Step::Index(index) => index.into(),
        });
        steps
    }
}

/// A value of the input and where it stands.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    /// The value.
    pub value: &'a Value,
    loc: Loc<'a>,
}

impl<'a> At<'a> {
    /// The whole body.
    pub fn body(value: &'a Value) -> Self {
        Self { value, loc: Loc { up: None, step: Step::Key("body") } }
    }

    /// All query parameters, as an object of strings.
    pub fn query(value: &'a Value) -> Self {
        Self { value, loc: Loc { up: None, step: Step::Key("query") } }
    }

    /// Applies a rule to what this value stands for, at its place.
    ///
    /// # Errors
    ///
    /// Those of the rule.
    pub fn instead<T>(&self, meant: &Value, rule: impl FnOnce(At<'_>) -> Checked<T>) -> Checked<T> {
        rule(At { value: meant, loc: self.loc })
    }

    /// A fault of this value.
    pub fn item(&self, kind: &'static str, message: impl Into<String>) -> Item {
        Item::new(kind, self.loc.steps(), message, self.value.clone())
    }

    /// A fault of this value, as the only one.
    pub fn fault<T>(&self, kind: &'static str, message: impl Into<String>) -> Checked<T> {
        Err(vec![self.item(kind, message)])
    }

    /// A rule of our own is broken.
    pub fn value_error<T>(&self, message: &str) -> Checked<T> {
        let item = self.item("value_error", format!("Value error, {message}"));
        Err(vec![item.with_ctx(json!({ "error": {} }))])
    }

    /// A member of this object, with its place; nothing if it is absent.
    pub fn member<T>(&self, name: &str, rule: impl FnOnce(At<'_>) -> T) -> Option<T> {
        let value = self.value.get(name)?;
        Some(rule(At { value, loc: Loc { up: Some(&self.loc), step: Step::Key(name) } }))
    }

    /// A string without NUL.
    pub fn string(&self) -> Checked<String> {
        match as_text(self.value) {
            Some(text) if text.contains('\0') => self.value_error("NUL characters are not allowed"),
            Some(text) => Ok(text.to_owned()),
            None => self.fault("string_type", "Input should be a valid string"),
        }
    }

    /// A string of `min` to `max` characters.
    pub fn string_of(&self, min: usize, max: usize) -> Checked<String> {
        let text = self.string()?;
        let length = text.chars().count();
        let characters = |n| if n == 1 { "character" } else { "characters" };
        if length < min {
            let message = format!("String should have at least {min} {}", characters(min));
            let item = self.item("string_too_short", message);
            return Err(vec![item.with_ctx(json!({ "min_length": min }))]);
        }
        if length > max {
            let message = format!("String should have at most {max} {}", characters(max));
            let item = self.item("string_too_long", message);
            return Err(vec![item.with_ctx(json!({ "max_length": max }))]);
        }
        Ok(text)
    }

    /// One of a few words.
    pub fn one_of<T: Copy>(&self, words: &[(&str, T)]) -> Checked<T> {
        let text = as_text(self.value);
        if let Some((_, meaning)) = words.iter().find(|(word, _)| Some(*word) == text) {
            return Ok(*meaning);
        }
        let quoted: Vec<String> = words.iter().map(|(word, _)| format!("'{word}'")).collect();
        let expected = match quoted.split_last() {
            Some((last, [])) => last.clone(),
            Some((last, others)) => format!("{} or {last}", others.join(", ")),
            None => String::new(),
        };
        let item = self.item("literal_error", format!("Input should be {expected}"));
        Err(vec![item.with_ctx(json!({ "expected": expected }))])
    }

    /// An object.
    pub fn object(&self) -> Checked<Map<String, Value>> {
        match self.value {
            Value::Object(members) => Ok(members.clone()),
            _ => self.fault("dict_type", "Input should be a valid dictionary"),
        }
    }

    /// A list of any length.
    pub fn list<T>(&self, rule: impl Fn(At<'_>) -> Checked<T>) -> Checked<Vec<T>> {
        let Value::Array(values) = self.value else {
            return self.fault("list_type", "Input should be a valid list");
        };
        let mut faults = Vec::new();
        let mut items = Vec::with_capacity(values.len());
        for (index, value) in values.iter().enumerate() {
            match rule(At { value, loc: Loc { up: Some(&self.loc), step: Step::Index(index) } }) {
                Ok(item) => items.push(item),
                Err(found) => faults.extend(found),
            }
            if faults.len() >= LIST_FAULTS_MAX {
                break;
            }
        }
        if faults.is_empty() { Ok(items) } else { Err(faults) }
    }

    /// A list of `min` to `max` items. One that is too long is not looked into.
    pub fn list_of<T>(
        &self,
        min: usize,
        max: usize,
        rule: impl Fn(At<'_>) -> Checked<T>,
    ) -> Checked<Vec<T>> {
        let bound = |kind, bound: &str, limit: usize, name: &str, actual: usize| {
            let noun = if limit == 1 { "item" } else { "items" };
            let message = format!(
                "List should have at {bound} {limit} {noun} after validation, not {actual}"
            );
            let mut ctx = Map::new();
            ctx.insert("field_type".to_owned(), "List".into());
            ctx.insert(name.to_owned(), limit.into());
            ctx.insert("actual_length".to_owned(), actual.into());
            Err(vec![self.item(kind, message).with_ctx(ctx.into())])
        };
        if let Value::Array(values) = self.value
            && values.len() > max
        {
            return bound("too_long", "most", max, "max_length", values.len());
        }
        let items = self.list(rule)?;
        if items.len() < min {
            return bound("too_short", "least", min, "min_length", items.len());
        }
        Ok(items)
    }

    /// The members of this object. A body that is null is one that was not sent.
    pub fn fields(self) -> Checked<Fields<'a>> {
        match self.value {
            Value::Object(_) => Ok(Fields { object: self, absent: self.value, faults: Vec::new() }),
            Value::Null if self.loc.up.is_none() => self.fault("missing", "Field required"),
            _ => self.fault(
                "model_attributes_type",
                "Input should be a valid dictionary or object to extract fields from",
            ),
        }
    }
}

/// The members of an object as rules go over them.
#[derive(Debug)]
pub struct Fields<'a> {
    object: At<'a>,
    /// What a missing member is reported to be.
    absent: &'a Value,
    faults: Vec<Item>,
}

impl Fields<'_> {
    /// Reports null, not the whole object, as what stands in place of a missing member: the
    /// habit of query strings and of bodies whose members are separate parameters.
    #[must_use]
    pub fn with_null_for_missing(self) -> Self {
        Self { absent: &Value::Null, ..self }
    }

    /// A member that must be there. After a fault the default stands in; [`Self::finish`] then
    /// refuses the whole.
    pub fn required<T: Default>(
        &mut self,
        name: &'static str,
        rule: impl FnOnce(At<'_>) -> Checked<T>,
    ) -> T {
        match self.object.member(name, rule) {
            Some(checked) => self.keep(checked).unwrap_or_default(),
            None => {
                let mut loc = self.object.loc.steps();
                loc.push(name.into());
                self.faults.push(Item::new("missing", loc, "Field required", self.absent.clone()));
                T::default()
            }
        }
    }

    /// A member that may be absent.
    pub fn optional<T>(
        &mut self,
        name: &'static str,
        default: T,
        rule: impl FnOnce(At<'_>) -> Checked<T>,
    ) -> T {
        let checked = self.object.member(name, rule);
        checked.and_then(|checked| self.keep(checked)).unwrap_or(default)
    }

    /// A member that may be absent or null.
    pub fn nullable<T>(
        &mut self,
        name: &'static str,
        rule: impl FnOnce(At<'_>) -> Checked<T>,
    ) -> Option<T> {
        let rule = |at: At<'_>| {
            if at.value.is_null() { Ok(None) } else { rule(at).map(Some) }
        };
        self.optional(name, None, rule)
    }

    fn keep<T>(&mut self, checked: Checked<T>) -> Option<T> {
        checked.map_err(|faults| self.faults.extend(faults)).ok()
    }

    /// Whether all members passed.
    ///
    /// # Errors
    ///
    /// All faults, in the order of the calls.
    pub fn finish(self) -> Checked<()> {
        if self.faults.is_empty() { Ok(()) } else { Err(self.faults) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn items<T: std::fmt::Debug>(checked: Checked<T>) -> Value {
        checked.expect_err("a fault").iter().map(Item::to_value).collect()
    }

    #[test]
    fn items_have_their_keys_in_order() {
        let value = json!("");
        let text = serde_json::to_string(&items(At::body(&value).string_of(1, 9))).expect("JSON");
        assert_eq!(
            text,
            r#"[{"type":"string_too_short","loc":["body"],"msg":"String should have at least 1 character","input":"","ctx":{"min_length":1}}]"#
        );
    }

    #[test]
    fn lengths_count_characters() {
        let value = json!("日本");
        assert_eq!(At::body(&value).string_of(2, 2), Ok("日本".to_owned()));
    }

    #[test]
    fn faults_of_a_list_are_bounded() {
        let value = Value::from(vec![1; 5000]);
        let faults = At::body(&value).list(|at| at.string()).expect_err("numbers");
        assert_eq!(faults.len(), LIST_FAULTS_MAX);
    }

    #[test]
    fn all_members_are_checked_before_the_whole_is_refused() {
        let value = json!({"b": 1, "c": null});
        let mut fields = At::body(&value).fields().expect("an object");
        let a: String = fields.required("a", |at| at.string());
        let b: String = fields.required("b", |at| at.string());
        let c = fields.nullable("c", |at| at.string());
        let d = fields.optional("d", 7, |at| at.int());
        assert_eq!((a, b, c, d), (String::new(), String::new(), None, 7));
        let found = items(fields.finish());
        assert_eq!(found[0]["type"], "missing");
        assert_eq!(found[0]["input"], value);
        assert_eq!(found[1]["loc"], json!(["body", "b"]));
        assert_eq!(found.as_array().map(Vec::len), Some(2));
    }

    #[test]
    fn words_are_listed_in_the_fault() {
        let value = json!("c");
        let found = items(At::query(&value).one_of(&[("a", 1), ("b", 2), ("z", 3)]));
        assert_eq!(found[0]["msg"], "Input should be 'a', 'b' or 'z'");
    }
}
