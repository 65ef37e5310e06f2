//! The format of the recordings.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::common::{json, token};

/// A recorded run: one server, one conversation.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Area {
    #[serde(rename = "area")]
    _area: String,
    #[serde(rename = "profile")]
    _profile: String,
    #[serde(rename = "about")]
    _about: String,
    /// Settings beside those of all areas.
    pub(super) env: BTreeMap<String, String>,
    /// In the order they are sent.
    pub(super) cases: Vec<Case>,
}

impl Area {
    pub(super) fn read(path: &str) -> Self {
        let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{path}: {error}"));
        let value = json::parse(&text).unwrap_or_else(|error| panic!("{path}: {error}"));
        serde_json::from_value(value).unwrap_or_else(|error| panic!("{path}: {error}"))
    }
}

/// A request with its answer, or a step between requests.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Case {
    #[serde(rename = "seq")]
    pub(super) number: u32,
    pub(super) id: Option<String>,
    #[serde(rename = "profile")]
    _profile: Option<String>,
    #[serde(rename = "name")]
    _name: Option<String>,
    #[serde(rename = "note")]
    _note: Option<String>,
    pub(super) step: Option<Step>,
    /// Settings that a restart adds; an empty one is unset.
    #[serde(default)]
    pub(super) env: BTreeMap<String, String>,
    /// How long to sleep.
    pub(super) seconds: Option<f64>,
    pub(super) request: Option<Recorded>,
    /// Variables and where their values stand in the answer.
    #[serde(default)]
    pub(super) capture: BTreeMap<String, String>,
    pub(super) poll: Option<Poll>,
    pub(super) repeat: Option<Repeat>,
    pub(super) mode: Option<Mode>,
    pub(super) response: Option<Expected>,
    /// The recorded answer is one not to copy.
    #[serde(default, rename = "defect")]
    _defect: bool,
    #[serde(rename = "reason")]
    _reason: Option<String>,
    #[serde(rename = "want")]
    _want: Option<String>,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Step {
    /// Stop the server, start it on the same store.
    Restart,
    Sleep,
}

/// How much of the answer counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Mode {
    /// Status and headers.
    Status,
    /// Names and types.
    Shape,
    /// Metrics: their types and labels.
    Prometheus,
    /// Frames of an event stream.
    Sse,
}

/// Ask again until a value is there.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Poll {
    pub(super) pointer: String,
    pub(super) equals: Value,
    pub(super) timeout_s: f64,
}

/// Ask many times within one second of the clock.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Repeat {
    pub(super) count: usize,
    /// Always one in the recordings.
    pub(super) parallel: usize,
}

/// A request as recorded, before captured values are put in.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Recorded {
    pub(super) method: String,
    pub(super) path: String,
    #[serde(default)]
    pub(super) headers: BTreeMap<String, String>,
    pub(super) json: Option<Value>,
    pub(super) raw: Option<String>,
    #[serde(rename = "gen")]
    pub(super) generated: Option<Generated>,
    pub(super) multipart: Option<Vec<Part>>,
    #[serde(default)]
    pub(super) chunked: bool,
    pub(super) auth: Option<Auth>,
}

/// A token to be made.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Auth {
    alg: String,
    key: String,
    claims: Value,
}

impl Auth {
    pub(super) fn token(&self) -> String {
        token::signed(&self.alg, &self.key, &self.claims)
    }
}

/// A body too large to be written out.
#[derive(Debug, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub(super) enum Generated {
    Repeat {
        #[serde(default)]
        prefix: String,
        unit: String,
        count: usize,
        #[serde(default)]
        suffix: String,
    },
    Nest {
        #[serde(default)]
        prefix: String,
        open: String,
        #[serde(default)]
        middle: String,
        close: String,
        depth: usize,
        #[serde(default)]
        suffix: String,
    },
}

impl Generated {
    pub(super) fn text(&self) -> String {
        match self {
            Self::Repeat { prefix, unit, count, suffix } => {
                format!("{prefix}{}{suffix}", unit.repeat(*count))
            }
            Self::Nest { prefix, open, middle, close, depth, suffix } => {
                let (opened, closed) = (open.repeat(*depth), close.repeat(*depth));
                format!("{prefix}{opened}{middle}{closed}{suffix}")
            }
        }
    }
}

/// A part of a form.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Part {
    pub(super) field: String,
    pub(super) filename: Option<String>,
    pub(super) content_type: Option<String>,
    pub(super) text: Option<String>,
    pub(super) base64: Option<String>,
    #[serde(rename = "gen")]
    pub(super) generated: Option<Generated>,
}

/// An answer as it must be.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Expected {
    pub(super) status: Option<u16>,
    /// Null: must be absent.
    pub(super) headers: BTreeMap<String, Option<String>>,
    /// The whole body.
    pub(super) json: Option<Value>,
    /// Members the body must have among others; used by deviations.
    pub(super) part: Option<Value>,
    /// Of a body whose content does not count.
    pub(super) shape: Option<Value>,
    pub(super) text: Option<String>,
    /// Says that the size was not compared.
    #[serde(rename = "bytes")]
    pub(super) _bytes: Option<Value>,
    pub(super) metrics: Option<Metrics>,
    pub(super) frames: Option<Vec<Value>>,
    /// Pointers to numbers and about what they are.
    pub(super) approx: Map<String, Value>,
    /// Of a repeated request: how often each status.
    pub(super) statuses: Option<BTreeMap<String, usize>>,
    pub(super) examples: BTreeMap<String, Expected>,
    /// The body is not compact.
    pub(super) json_style: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Metrics {
    /// `name type` each.
    pub(super) types: Vec<String>,
    /// Label names by sample name.
    pub(super) labels_seen: BTreeMap<String, Vec<String>>,
}
