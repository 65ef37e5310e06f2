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
/// Families whose series come with use, for nobody knows their labels before; all others have
/// theirs from the start, or from when a connector is registered. That queries of these return
/// something is for `.ci/panels` to find out.
const WITH_USE: &[&str] = &[
    "activekg_api_errors_total",
    "activekg_embedding_coverage_ratio",
    "activekg_embedding_max_staleness_seconds",
    "activekg_retrieval_uplift_mrr_percent",
    "activekg_triggers_fired_total",
];

/// What an expression asks for: metrics with the labels they are chosen by, and the labels that
/// results are grouped by.
#[derive(Debug, Default, PartialEq, Eq)]
struct Asked {
    metrics: Vec<(String, Vec<Matcher>)>,
    groups: BTreeSet<String>,
}

/// A label, and the values that are named, to have or not to have: texts, or what they begin with
/// and `.*`.
type Matcher = (String, Vec<String>);

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
    let (label, quoted) = text.trim().split_once('"').expect("a value");
    let values = quoted.trim_end_matches('"').split('|').map(str::to_owned);
    (word(label).to_owned(), values.collect())
}

/// Whether a series has this value of a matcher. A variable of a dashboard stands for any.
fn has(found: Option<&String>, value: &str) -> bool {
    found.is_some_and(|found| match value.strip_suffix(".*") {
        Some(start) => found.starts_with(start),
        None => value.starts_with('$') || found == value,
    })
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
    let list = |value: &Value| value.as_array().expect("a list").clone();
    let panels = list(&board["panels"]);
    let targets = panels.iter().flat_map(|panel| list(&panel["targets"]));
    let of = |object: Value| object["expr"].as_str().expect("an expression").to_owned();
    let mut found: Vec<String> =
        targets.chain(list(&board["annotations"]["list"])).map(of).collect();
    for variable in list(&board["templating"]["list"]) {
        if variable["type"] == "query" {
            let query = variable["query"]["query"].as_str().expect("a query");
            let inner = query.strip_prefix("label_values(").and_then(|q| q.strip_suffix(')'));
            let (metric, label) = inner.and_then(|q| q.rsplit_once(", ")).expect("label_values");
            found.push(format!("count by ({label}) ({metric})"));
        }
    }
    found
}

#[test]
fn expressions_name_metrics_and_labels() {
    let found = asked(
        r#"sum by (le, a) (rate(x_bucket{b="1",c=~"2|3"}[5m])) / (y > 0.5) and on () z == 3"#,
    );
    let matcher = |label: &str, values: &[&str]| {
        (label.to_owned(), values.iter().map(|value| (*value).to_owned()).collect())
    };
    let matchers = vec![matcher("b", &["1"]), matcher("c", &["2", "3"])];
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

    let mut faults = Vec::new();
    for expression in &expressions {
        let Asked { metrics, groups } = asked(expression);
        let mut labels = BTreeSet::new();
        for (metric, matchers) in metrics.iter().filter(|(name, _)| !OWN.contains(&name.as_str())) {
            let Some(series) = families.get(metric) else {
                faults.push(format!("{metric} is not measured: {expression}"));
                continue;
            };
            if series.is_empty() {
                if !WITH_USE.contains(&metric.as_str()) {
                    faults.push(format!("{metric} has no series: {expression}"));
                }
                // Labels that nobody has seen yet cannot be compared.
                labels.extend(groups.iter().cloned());
                continue;
            }
            labels.extend(series.iter().flat_map(|series| series.keys().cloned()));
            for (label, values) in matchers {
                for value in values {
                    if !series.iter().any(|series| has(series.get(label), value)) {
                        faults.push(format!("{metric} has no {label} {value}: {expression}"));
                    }
                }
            }
        }
        for group in groups.difference(&labels) {
            faults.push(format!("nothing has a label {group}: {expression}"));
        }
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}
