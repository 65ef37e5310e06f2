//! Alert rules and dashboards ask for what the server measures, and for nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use serde_json::{Value, json};

use crate::common::{Options, Server};

/// Words of the query language that look like names of metrics.
const WORDS: &[&str] = &["and", "or", "unless", "bool", "by", "without", "on", "ignoring"];
/// Words after which names of labels follow.
const GROUPINGS: &[&str] = &["by", "without", "on", "ignoring"];
/// What Prometheus itself makes.
const OWN: &[&str] = &["ALERTS"];
/// Families that have every series from the start, or from when a connector is registered.
const AT_ZERO: &[&str] = &["connector_", "webhook_", "api_rate_limited_total"];

/// Parts of the program that measure what begins so.
const PARTS: &[&str] = &[
    "connector_dlq_",
    "connector_ingest_",
    "connector_poller_",
    "connector_purger_",
    "connector_worker_",
];

/// What an expression asks for: metrics with the labels they are chosen by, and the labels that
/// results are grouped by.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    metrics: Vec<(String, Vec<Matcher>)>,
    groups: BTreeSet<String>,
}

/// A label, and the value it must have if it must be one.
type Matcher = (String, Option<String>);

fn asked(expression: &str) -> Asked {
    let mut asked = Asked::default();
    let mut rest = expression;
    while let Some(first) = rest.chars().next() {
        if first == '[' || first == '"' {
            let end = if first == '[' { ']' } else { '"' };
            rest = rest[1..].split_once(end).expect("it is closed").1;
        } else if first.is_ascii_alphabetic() || first == '_' {
            let name = word(rest);
            rest = rest[name.len()..].trim_start();
            if GROUPINGS.contains(&name) {
                let (labels, after) = rest[1..].split_once(')').expect("it is closed");
                let labels = labels.split(',').map(|label| label.trim().to_owned());
                asked.groups.extend(labels.filter(|label| !label.is_empty()));
                rest = after;
            } else if let Some(matchers) = rest.strip_prefix('{') {
                let (matchers, after) = matchers.split_once('}').expect("it is closed");
                asked.metrics.push((name.to_owned(), matchers.split(',').map(matcher).collect()));
                rest = after;
            } else if !rest.starts_with('(') && !WORDS.contains(&name) && !aggregates(rest) {
                asked.metrics.push((name.to_owned(), Vec::new()));
            }
        } else if first.is_ascii_digit() {
            rest = rest.trim_start_matches(|c: char| c.is_ascii_alphanumeric() || c == '.');
        } else {
            rest = &rest[first.len_utf8()..];
        }
    }
    asked
}

/// Whether what stands before `rest` is a function: its labels come next.
fn aggregates(rest: &str) -> bool {
    ["by", "without"].contains(&word(rest))
}

fn word(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
    &text[..end.unwrap_or(text.len())]
}

fn matcher(text: &str) -> Matcher {
    let label = word(text.trim());
    let value = text.trim()[label.len()..].strip_prefix("=\"");
    (label.to_owned(), value.map(|value| value.trim_end_matches('"').to_owned()))
}

/// The families of an exposition, and the labels of each of their series.
fn exposed(text: &str) -> BTreeMap<String, Vec<BTreeMap<String, String>>> {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let types: BTreeMap<&str, &str> = types.collect();
    let mut families: BTreeMap<String, Vec<_>> = BTreeMap::new();
    for (name, kind) in &types {
        let parts: &[&str] =
            if *kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        for part in parts {
            families.insert(format!("{name}{part}"), Vec::new());
        }
    }
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = match line.split_once('{') {
            Some((name, rest)) => (name, rest.rsplit_once('}').expect("it is closed").0),
            None => (line.split(' ').next().expect("a name"), ""),
        };
        let pairs = labels.split("\",").filter_map(|pair| pair.split_once("=\""));
        let pairs =
            pairs.map(|(name, value)| (name.to_owned(), value.trim_end_matches('"').to_owned()));
        families.entry(name.to_owned()).or_default().push(pairs.collect());
    }
    families
}

/// The expressions of a file of rules.
fn of_rules(text: &str) -> Vec<String> {
    let blocks = text.split("        expr: |-\n").skip(1);
    let indented = |line: &&str| line.starts_with("          ");
    blocks.map(|block| block.lines().take_while(indented).collect::<Vec<_>>().join(" ")).collect()
}

/// The expressions of a dashboard: those of its panels, its variables and its annotations.
fn of_board(text: &str) -> Vec<String> {
    let board: Value = serde_json::from_str(text).expect("JSON");
    let panels = board["panels"].as_array().expect("panels").iter();
    let targets = panels.flat_map(|panel| panel["targets"].as_array().expect("targets"));
    let notes = board["annotations"]["list"].as_array().expect("annotations").iter();
    let of = |object: &Value| object["expr"].as_str().expect("an expression").to_owned();
    targets.chain(notes).map(of).collect()
}

#[test]
fn expressions_name_metrics_and_labels() {
    let found = asked(
        r#"sum by (le, a) (rate(x_bucket{b="1",c=~"2|3"}[5m])) / (y > 0.5) and on () z == 3"#,
    );
    let matchers = vec![("b".to_owned(), Some("1".to_owned())), ("c".to_owned(), None)];
    let metric = |name: &str| (name.to_owned(), Vec::new());
    let expected = Asked {
        metrics: vec![("x_bucket".to_owned(), matchers), metric("y"), metric("z")],
        groups: ["le".to_owned(), "a".to_owned()].into(),
    };
    assert_eq!(found, expected);
}

#[test]
fn every_expression_asks_for_what_is_measured() {
    let server = Server::start(&[("ACTIVEKG_FILE_BASEDIRS", "/srv")]);
    for (provider, config) in [
        ("s3", json!({ "bucket": "b" })),
        ("gcs", json!({ "bucket": "b" })),
        ("drive", json!({ "credentials": "{}", "folder_id": "f" })),
    ] {
        let body = json!({ "tenant_id": "acme", "config": config });
        server.post(&format!("/_admin/connectors/{provider}/register"), &body).expect(200);
    }
    let scraped = server.get("/prometheus");
    let families = exposed(scraped.text());

    let dir = tempfile::tempdir().expect("a folder");
    let mut export = Options::new(&[]).command(dir.path(), &["dashboards", "export"]);
    let exported = export.arg(dir.path()).output().expect("run it");
    assert!(exported.status.success(), "{}", String::from_utf8_lossy(&exported.stderr));
    let folder = dir.path().join("observability");
    let read = |path: &str| fs::read_to_string(folder.join(path)).expect(path);
    let mut expressions = of_rules(&read("alerts/connector_alerts.yml"));
    assert!(expressions.len() >= 20, "{} rules", expressions.len());
    for entry in fs::read_dir(folder.join("dashboards")).expect("a folder") {
        let path = entry.expect("an entry").path();
        expressions.extend(of_board(&fs::read_to_string(path).expect("a dashboard")));
    }
    assert!(expressions.len() >= 70, "{} expressions", expressions.len());

    let part = |name: &str| PARTS.iter().find(|part| name.starts_with(**part));
    let is_here = |name: &str| {
        part(name).is_none_or(|part| families.keys().any(|known| known.starts_with(part)))
    };
    let mut faults = Vec::new();
    for expression in &expressions {
        let Asked { metrics, groups } = asked(expression);
        let mut labels = BTreeSet::new();
        if let Some((absent, _)) = metrics.iter().find(|(metric, _)| !is_here(metric)) {
            println!("skipped, for nothing here measures {absent}: {expression}");
            continue;
        }
        for (metric, matchers) in metrics.iter().filter(|(name, _)| !OWN.contains(&name.as_str())) {
            let Some(series) = families.get(metric) else {
                faults.push(format!("{metric} is not measured: {expression}"));
                continue;
            };
            if series.is_empty() {
                if AT_ZERO.iter().any(|prefix| metric.starts_with(prefix)) {
                    faults.push(format!("{metric} has no series: {expression}"));
                }
                // Labels that nobody has seen yet cannot be compared.
                labels.extend(groups.iter().cloned());
                continue;
            }
            labels.extend(series.iter().flat_map(|series| series.keys().cloned()));
            for (label, value) in matchers {
                let fits = |series: &BTreeMap<String, String>| match (series.get(label), value) {
                    (Some(found), Some(value)) => found == value,
                    (found, _) => found.is_some(),
                };
                if !series.iter().any(fits) {
                    faults.push(format!("{metric} has no {label} {value:?}: {expression}"));
                }
            }
        }
        for group in groups.difference(&labels) {
            faults.push(format!("nothing has a label {group}: {expression}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
