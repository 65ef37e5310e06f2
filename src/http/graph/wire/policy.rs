//! Refresh policies and triggers, as they are checked before a node is written.

use serde::Serialize;
use serde_json::{Map, Value};

use crate::http::json::as_text;
use crate::http::validate::{At, Checked};
use crate::refresh::schedule::{PolicyFault, Schedule};

/// Similarity at which a trigger fires when it does not say.
const DEFAULT_THRESHOLD: f64 = 0.85;

/// A pattern a node listens to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Trigger {
    /// Name of the pattern.
    pub name: String,
    /// Cosine similarity from which it fires.
    pub threshold: f64,
}

/// A policy whose schedule, if it has one, can be used.
pub(super) fn refresh_policy(at: At<'_>) -> Checked<Map<String, Value>> {
    let policy = at.object()?;
    let fault = match Schedule::of_policy(&policy) {
        Ok(_) => return Ok(policy),
        Err(fault) => fault,
    };
    let refused = match fault {
        PolicyFault::NotText(name) => {
            at.member(name, |at| at.fault("string_type", "Input should be a valid string"))
        }
        PolicyFault::NotNumber => at.member("drift_threshold", |at| {
            at.fault("float_type", "Input should be a valid number")
        }),
        PolicyFault::NoSchedule => None,
    };
    refused.unwrap_or_else(|| {
        at.value_error(
            "interval must be digits and m, h or d, and cron must have 5 or 6 valid fields",
        )
    })
}

/// Triggers given by name or as objects. Objects without a name are dropped, as are names that
/// came before; a threshold that is no number is the default.
pub(super) fn triggers(at: At<'_>) -> Checked<Vec<Trigger>> {
    let listed = at.list(|at| match at.value {
        Value::String(_) => Ok(Some(Trigger { name: at.string()?, threshold: DEFAULT_THRESHOLD })),
        Value::Object(trigger) => Ok(trigger.get("name").and_then(as_text).map(|name| Trigger {
            name: name.to_owned(),
            threshold: trigger.get("threshold").and_then(threshold).unwrap_or(DEFAULT_THRESHOLD),
        })),
        _ => at.fault("dict_type", "Input should be a valid dictionary"),
    })?;
    let mut triggers: Vec<Trigger> = Vec::new();
    let mut seen = std::collections::HashSet::new();
    for trigger in listed.into_iter().flatten() {
        if !trigger.name.trim().is_empty() && seen.insert(trigger.name.clone()) {
            triggers.push(trigger);
        }
    }
    Ok(triggers)
}

fn threshold(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}
