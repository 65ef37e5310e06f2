//! Is an answer the expected one?

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Number, Value};

use super::case::{Expected, Metrics, Mode};
use crate::common::{Answer, json, token};

/// Members that come after the recorded ones. Any other new member is a fault.
const ADDED: &[&str] = &[
    "search_mode",
    "mode",
    "score_type",
    "vector_similarity",
    "actor_id",
    "actor_type",
    "ann_config",
    "leased",
    "oldest_age_seconds",
    "pending",
    "enabled",
    "key_version",
    "created_at",
    "updated_at",
    "reason",
];

/// Objects whose members have no order, and to which nothing is added.
const FREE: &[&str] =
    &["config", "props", "metadata", "edge_props", "payload", "status_counts", "input"];

/// The part of these messages that counts; behind it parsers differ in wording.
const PREFIXES: &[&str] = &["Invalid JWT token: "];

/// Tolerances of scores: of cosines and of fused ranks.
const COSINE_TOLERANCE: f64 = 0.01;
const FUSED_TOLERANCE: f64 = 0.0005;

/// What placeholders stand for.
#[derive(Debug)]
pub(super) struct Context<'a> {
    /// `host:port` of the server.
    pub(super) host: &'a str,
    pub(super) model: &'a str,
    pub(super) captured: &'a BTreeMap<String, String>,
    /// The scores are fused ranks.
    pub(super) fused: bool,
}

/// All that is wrong with an answer, a line each; empty when it is as expected.
pub(super) fn faults(
    expected: &Expected,
    answer: &Answer,
    mode: Option<Mode>,
    context: &Context<'_>,
) -> Vec<String> {
    let mut compare = Compare { context, approx: &expected.approx, faults: Vec::new() };
    compare.answer(expected, answer, mode);
    compare.faults
}

struct Compare<'a> {
    context: &'a Context<'a>,
    approx: &'a Map<String, Value>,
    faults: Vec<String>,
}

/// Which members an object may have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Members {
    /// Those expected, in their order, then those the contract adds.
    Envelope,
    /// Those expected, in any order.
    Free,
    /// Those expected among others.
    Part,
}

impl Compare<'_> {
    fn fault(&mut self, at: &str, expected: impl std::fmt::Display, found: impl std::fmt::Display) {
        let at = if at.is_empty() { "the body" } else { at };
        self.faults.push(format!("{at}: expected {expected}, found {found}"));
    }

    fn answer(&mut self, expected: &Expected, answer: &Answer, mode: Option<Mode>) {
        if let Some(status) = expected.status.filter(|status| *status != answer.status) {
            self.fault("status", status, answer.status);
        }
        for (name, value) in &expected.headers {
            self.header(name, value.as_deref(), answer.header(name));
        }
        if mode == Some(Mode::Status) && expected.json.is_none() && expected.part.is_none() {
            return;
        }
        if let Some(text) = &expected.text {
            let text = self.filled(text);
            if text != answer.text() {
                self.fault("", format!("{text:?}"), format!("{:?}", answer.text()));
            }
        }
        if let Some(metrics) = &expected.metrics {
            self.metrics(metrics, answer.text());
        }
        if let Some(frames) = &expected.frames {
            let found = answer.frames().into_iter().map(|(event, data)| {
                Value::from(Map::from_iter([
                    ("event".to_owned(), event.into()),
                    ("data".to_owned(), data),
                ]))
            });
            self.value("/frames", &frames.clone().into(), &found.collect(), Members::Envelope);
        }
        if expected.json.is_none() && expected.part.is_none() && expected.shape.is_none() {
            return;
        }
        let body = match json::parse(answer.text()) {
            Ok(body) => body,
            Err(_) => return self.fault("", "JSON", format!("{:?}", answer.text())),
        };
        if expected.json_style.is_none()
            && let Some(fault) = json::fault_in_compact(answer.text())
        {
            self.fault("", "compact JSON", fault);
        }
        if let Some(json) = &expected.json {
            self.value("", json, &body, Members::Envelope);
        }
        if let Some(part) = &expected.part {
            self.value("", part, &body, Members::Part);
        }
        if let Some(shape) = &expected.shape {
            self.shape("", shape, &body);
        }
    }

    fn header(&mut self, name: &str, expected: Option<&str>, found: Option<&str>) {
        let at = format!("header {name}");
        match (expected, found) {
            (None, None) => {}
            (None, Some(found)) => self.fault(&at, "none", found),
            (Some(expected), None) => self.fault(&at, expected, "none"),
            (Some(expected), Some(found)) if name == "allow" => {
                let methods = |list: &str| -> BTreeSet<String> {
                    list.split(',').map(|method| method.trim().to_owned()).collect()
                };
                if methods(expected) != methods(found) {
                    self.fault(&at, expected, found);
                }
            }
            (Some(expected), Some(found)) => self.string(&at, expected, &found.into()),
        }
    }

    fn value(&mut self, at: &str, expected: &Value, found: &Value, members: Members) {
        match (expected, found) {
            (Value::String(expected), _) => self.string(at, expected, found),
            (Value::Number(expected), Value::Number(found)) => {
                if !same_number(expected, found) {
                    self.fault(at, expected, found);
                }
            }
            (Value::Array(expected), Value::Array(found)) => {
                if expected.len() != found.len() {
                    let (expected, found) =
                        (Value::from(expected.clone()), Value::from(found.clone()));
                    return self.fault(at, expected, found);
                }
                for (index, (expected, found)) in expected.iter().zip(found).enumerate() {
                    self.value(&format!("{at}/{index}"), expected, found, members);
                }
            }
            (Value::Object(expected), Value::Object(found)) => {
                self.object(at, expected, found, members);
            }
            _ if expected == found => {}
            _ => self.fault(at, expected, found),
        }
    }

    fn object(
        &mut self,
        at: &str,
        expected: &Map<String, Value>,
        found: &Map<String, Value>,
        members: Members,
    ) {
        for (name, value) in expected {
            let at = format!("{at}/{name}");
            let inside = match members {
                Members::Envelope if FREE.contains(&name.as_str()) => Members::Free,
                other => other,
            };
            match found.get(name) {
                Some(found) => self.value(&at, value, found, inside),
                None => self.fault(&at, value, "nothing"),
            }
        }
        for name in found.keys().filter(|name| !expected.contains_key(*name)) {
            let allowed = match members {
                Members::Envelope => ADDED.contains(&name.as_str()),
                Members::Free => false,
                Members::Part => true,
            };
            if !allowed {
                self.fault(&format!("{at}/{name}"), "nothing", &found[name]);
            }
        }
        let in_order = found.keys().filter(|name| expected.contains_key(*name)).eq(expected.keys())
            && found.keys().take(expected.len()).all(|name| expected.contains_key(name));
        if members == Members::Envelope && !in_order && found.len() >= expected.len() {
            let order =
                |map: &Map<String, Value>| map.keys().cloned().collect::<Vec<_>>().join(", ");
            self.fault(at, format!("the members {}", order(expected)), order(found));
        }
    }

    /// A recorded string: text, captured values and the address filled in, or a placeholder.
    fn string(&mut self, at: &str, expected: &str, found: &Value) {
        if let Some(fits) = placeholder(expected, found) {
            if !fits {
                self.fault(at, expected, found);
            } else if let Some(about) = self.approx.get(at).and_then(Value::as_f64) {
                let tolerance = if self.context.fused { FUSED_TOLERANCE } else { COSINE_TOLERANCE };
                let near = found.as_f64().is_some_and(|found| (found - about).abs() <= tolerance);
                if !near {
                    self.fault(at, format!("{about} ± {tolerance}"), found);
                }
            }
            return;
        }
        let expected = self.filled(expected);
        let fits = found.as_str().is_some_and(|found| {
            let prefix = PREFIXES.iter().find(|prefix| expected.starts_with(**prefix));
            prefix.map_or(found == expected, |prefix| found.starts_with(prefix))
        });
        if !fits {
            self.fault(at, format!("{expected:?}"), found);
        }
    }

    fn filled(&self, text: &str) -> String {
        let base = format!("http://{}", self.context.host);
        let text = text.replace("<base>", &base).replace("<host>", self.context.host);
        filled(&text.replace("<model>", self.context.model), self.context.captured)
    }

    /// Names and types; a list counts by its first item.
    fn shape(&mut self, at: &str, expected: &Value, found: &Value) {
        match (expected, found) {
            (Value::Object(expected), Value::Object(found)) => {
                for name in expected.keys().chain(found.keys()).collect::<BTreeSet<_>>() {
                    let at = format!("{at}/{name}");
                    match (expected.get(name), found.get(name)) {
                        (Some(expected), Some(found)) => self.shape(&at, expected, found),
                        (Some(expected), None) => self.fault(&at, expected, "nothing"),
                        (None, Some(found)) if !ADDED.contains(&name.as_str()) => {
                            self.fault(&at, "nothing", found);
                        }
                        (None, _) => {}
                    }
                }
            }
            (Value::Array(expected), Value::Array(found)) => {
                match (expected.first(), found.first()) {
                    (Some(expected), Some(found)) => {
                        self.shape(&format!("{at}/0"), expected, found)
                    }
                    (None, None) => {}
                    (expected, found) => {
                        self.fault(at, format!("{expected:?}"), format!("{found:?}"));
                    }
                }
            }
            _ => self.value(at, expected, found, Members::Envelope),
        }
    }

    fn metrics(&mut self, expected: &Metrics, text: &str) {
        let types: BTreeSet<&str> =
            text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).collect();
        for metric in expected.types.iter().filter(|metric| !types.contains(metric.as_str())) {
            self.fault("metrics", metric, "nothing of that name and type");
        }
        let mut labels: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            if let Some((name, rest)) = line.split_once('{')
                && let Some((pairs, _)) = rest.rsplit_once('}')
            {
                // No label value of the recordings holds a comma or an equals sign.
                let names =
                    pairs.split(',').filter_map(|pair| pair.split_once('=')).map(|(name, _)| name);
                labels.entry(name).or_default().extend(names);
            }
        }
        for (sample, expected) in &expected.labels_seen {
            let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
            let found = labels.get(sample.as_str()).cloned().unwrap_or_default();
            if expected != found {
                self.fault(sample, format!("labels {expected:?}"), format!("{found:?}"));
            }
        }
    }
}

/// `text` with `{{name}}` replaced by what was captured under that name.
pub(super) fn filled(text: &str, captured: &BTreeMap<String, String>) -> String {
    let mut text = text.to_owned();
    for (name, value) in captured {
        text = text.replace(&format!("{{{{{name}}}}}"), value);
    }
    text
}

/// Whether `found` is what a placeholder stands for; nothing if `expected` is no placeholder. A
/// question mark allows null besides.
fn placeholder(expected: &str, found: &Value) -> Option<bool> {
    let inner = expected.strip_prefix('<')?.strip_suffix('>')?;
    let (kind, nullable) = match inner.strip_suffix('?') {
        Some(kind) => (kind, true),
        None => (inner, false),
    };
    let text = found.as_str().unwrap_or_default();
    let fits = match kind {
        "uuid" => is_uuid(text),
        "ts" => is_instant(text, "+00:00"),
        "ts-z" => is_instant(text, "Z"),
        "ts-naive" => is_instant(text, ""),
        "float" | "number" => found.is_number(),
        "int" => found.is_i64() || found.is_u64(),
        "string" => found.is_string(),
        "bool" => found.is_boolean(),
        "unix" => {
            let seconds = found.as_i64().or_else(|| text.parse().ok());
            seconds.is_some_and(|seconds| (seconds - token::unix_now()).abs() < 86_400)
        }
        _ => return None,
    };
    Some(fits || (nullable && found.is_null()))
}

pub(super) fn is_uuid(text: &str) -> bool {
    let groups: Vec<&str> = text.split('-').collect();
    let hex = |group: &&str| group.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    groups.iter().map(|group| group.len()).eq([8, 4, 4, 4, 12]) && groups.iter().all(hex)
}

/// An instant to the microsecond, or to the second, with this zone.
fn is_instant(text: &str, zone: &str) -> bool {
    let Some(local) = text.strip_suffix(zone) else {
        return false;
    };
    let pattern = |text: &str, pattern: &str| {
        let fits = |(byte, sample): (u8, u8)| match sample {
            b'0' => byte.is_ascii_digit(),
            other => byte == other,
        };
        text.len() == pattern.len() && text.bytes().zip(pattern.bytes()).all(fits)
    };
    pattern(local, "0000-00-00T00:00:00.000000") || pattern(local, "0000-00-00T00:00:00")
}

/// Equal in value, and both integers or neither.
fn same_number(a: &Number, b: &Number) -> bool {
    a.is_f64() == b.is_f64() && (a == b || a.as_f64() == b.as_f64())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(expected: &Value, found: &Value) -> Vec<String> {
        let captured = BTreeMap::from([("n".to_owned(), "7".to_owned())]);
        let context = Context { host: "h:1", model: "m", captured: &captured, fused: false };
        let expected = Expected { json: Some(expected.clone()), ..Expected::default() };
        let answer = Answer { status: 200, headers: Vec::new(), body: found.to_string().into() };
        faults(&expected, &answer, None, &context)
    }

    #[test]
    fn order_counts_in_the_envelope_only() {
        assert_eq!(
            check(
                &json!({"id": 1, "props": {"a": 1, "b": 2}}),
                &json!({"id": 1, "props": {"b": 2, "a": 1}})
            ),
            [""; 0]
        );
        assert_eq!(check(&json!({"a": 1, "b": 2}), &json!({"b": 2, "a": 1})).len(), 1);
        assert_eq!(check(&json!([{"a": 1, "b": 2}]), &json!([{"b": 2, "a": 1}])).len(), 1);
    }

    #[test]
    fn members_are_added_by_the_contract_only_and_behind() {
        assert_eq!(check(&json!({"a": 1}), &json!({"a": 1, "mode": "vector"})), [""; 0]);
        assert_eq!(check(&json!({"a": 1}), &json!({"mode": "vector", "a": 1})).len(), 1);
        assert_eq!(check(&json!({"a": 1}), &json!({"a": 1, "debug": true})).len(), 1);
        assert_eq!(check(&json!({"props": {}}), &json!({"props": {"mode": 1}})).len(), 1);
    }

    #[test]
    fn placeholders_stand_for_their_kind() {
        let uuid = "00000000-0000-4000-8000-00000000000a";
        let ts = "2026-02-03T10:00:00.123456+00:00";
        assert_eq!(
            check(
                &json!(["<uuid>", "<ts>", "<int>", "{{n}}", "<string?>"]),
                &json!([uuid, ts, 1, "7", null])
            ),
            [""; 0]
        );
        for (expected, found) in [
            ("<uuid>", json!(uuid.to_uppercase())),
            ("<ts>", json!("2026-02-03T10:00:00.123Z")),
            ("<ts>", json!("2026-02-03T10:00:00.123+00:00")),
            ("<int>", json!(1.5)),
            ("{{n}}", json!("8")),
            ("<string>", json!(null)),
        ] {
            assert_eq!(check(&json!(expected), &found).len(), 1, "{expected} {found}");
        }
    }

    #[test]
    fn numbers_compare_by_kind_and_value() {
        assert_eq!(check(&json!(0.0), &json!(-0.0)), [""; 0]);
        assert_eq!(check(&json!(1), &json!(1.0)).len(), 1);
        assert_eq!(check(&json!(1.5), &json!(1.25)).len(), 1);
    }
}
