//! Where activekg answers otherwise than was recorded.
//!
//! A row of `deviations.json` names a case and the rule by which it differs. Then either it says
//! `later`: the route is not built yet, so that the answer is a 404. Or it says what is answered
//! instead, with the members of an expected answer. A row with a body of its own has the usual
//! headers besides those it names; any other row differs from the recorded answer only in what it
//! says, `change` being pointers into the recorded body and the values that stand there now.
//! `sometimes` marks an answer that may by chance equal the recorded one.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::case::Expected;

#[derive(Debug, Deserialize)]
struct Row {
    case: String,
    #[serde(flatten)]
    deviation: Deviation,
}

/// How the answer to a case differs.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Deviation {
    #[serde(default)]
    pub(super) rule: String,
    /// The route that is not built yet.
    pub(super) later: Option<String>,
    /// The recorded answer is possible too.
    #[serde(default)]
    pub(super) sometimes: bool,
    #[serde(default)]
    change: Map<String, Value>,
    #[serde(flatten)]
    instead: Map<String, Value>,
}

/// The table.
#[derive(Debug)]
pub(super) struct Deviations {
    rows: BTreeMap<String, Deviation>,
    used: BTreeSet<String>,
}

impl Deviations {
    pub(super) fn read() -> Self {
        let rows: Vec<Row> = serde_json::from_str(include_str!("deviations.json"))
            .unwrap_or_else(|error| panic!("deviations.json: {error}"));
        let mut table = BTreeMap::new();
        for Row { case, deviation } in rows {
            assert!(
                deviation.later.is_some() || !deviation.rule.is_empty(),
                "{case} deviates by no rule"
            );
            assert!(
                deviation.later.is_none() || deviation.instead.is_empty(),
                "{case} comes later, so its answer is fixed"
            );
            let expected: Result<Expected, _> =
                serde_json::from_value(deviation.instead.clone().into());
            assert!(expected.is_ok(), "{case}: {expected:?}");
            let before = table.insert(case.clone(), deviation);
            assert!(before.is_none(), "{case} has two rows");
        }
        Self { rows: table, used: BTreeSet::new() }
    }

    pub(super) fn cases(&self) -> impl Iterator<Item = &str> {
        self.rows.keys().map(String::as_str)
    }

    /// The row of a case, which counts as used from now on.
    pub(super) fn of(&mut self, case: &str) -> Option<Deviation> {
        let row = self.rows.get(case).cloned();
        if row.is_some() {
            self.used.insert(case.to_owned());
        }
        row
    }

    /// The rows of an area that no case has used.
    pub(super) fn unused(&self, area: &str) -> Vec<&str> {
        let of_area = self.cases().filter(|case| case.split('.').next() == Some(area));
        of_area.filter(|case| !self.used.contains(*case)).collect()
    }
}

impl Deviation {
    /// The answer that is expected where `recorded` was the answer before.
    pub(super) fn instead(&self, recorded: &Expected) -> Expected {
        if self.later.is_some() {
            let times = |statuses: &BTreeMap<String, usize>| statuses.values().sum();
            return Expected {
                statuses: recorded.statuses.as_ref().map(|s| [("404".to_owned(), times(s))].into()),
                status: Some(404),
                headers: headers("application/json"),
                json: Some(json!({ "detail": "Not Found" })),
                ..Expected::default()
            };
        }
        let mut instead: Expected =
            serde_json::from_value(self.instead.clone().into()).expect("checked when it was read");
        let kind = match &instead {
            Expected { json: Some(_), .. } | Expected { part: Some(_), .. } => "application/json",
            Expected { metrics: Some(_), .. } => "text/plain; version=0.0.4; charset=utf-8",
            _ => return self.changed(recorded, instead),
        };
        instead.status = instead.status.or(recorded.status);
        let mut all = headers(kind);
        all.extend(std::mem::take(&mut instead.headers));
        instead.headers = all;
        instead
    }

    /// The recorded answer with what this row says about it.
    fn changed(&self, recorded: &Expected, row: Expected) -> Expected {
        let mut changed = recorded.clone();
        changed.status = row.status.or(changed.status);
        changed.headers.extend(row.headers);
        changed.approx.extend(row.approx);
        changed.statuses = row.statuses.or(changed.statuses);
        changed.examples.extend(row.examples);
        changed.frames = row.frames.or(changed.frames);
        for (pointer, value) in &self.change {
            let body = changed.json.as_mut().or(changed.shape.as_mut());
            let place = body.and_then(|body| body.pointer_mut(pointer));
            *place.unwrap_or_else(|| panic!("nothing was recorded at {pointer}")) = value.clone();
        }
        changed
    }
}

fn headers(kind: &str) -> BTreeMap<String, Option<String>> {
    [("content-type", kind), ("x-request-id", "<uuid>")]
        .map(|(name, value)| (name.to_owned(), Some(value.to_owned())))
        .into()
}
