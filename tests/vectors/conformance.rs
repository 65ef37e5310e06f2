//! The table of `docs/conformance.md`: every route with its recorded answers, and every answer that
//! differs from the recorded one with the rule by which it does.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::case::Area;
use super::deviations::Deviations;
use super::{AREAS, file};
use crate::common::{Server, of_checkout};

const PATH: &str = "docs/conformance.md";

/// Writes the file anew instead of comparing it.
const UPDATE: &str = "ACTIVEKG_TEST_UPDATE";

const HEAD: &str = "\
# Conformance

Conversations with the system that activekg replaces were recorded; the tests replay them against
activekg and compare status, headers, members and values. Where activekg answers otherwise it does so
by a rule, and that answer is compared as well. This page is made by the test
`vectors::conformance::the_page_is_current` (with `ACTIVEKG_TEST_UPDATE=1` it writes it).

## Routes

*New* routes were not there to be recorded; they have tests of their own.

| route | recorded answers | the same | by a rule |
|---|---|---|---|
";

#[derive(Default)]
struct Row {
    same: usize,
    by_rule: usize,
}

/// The routes that the program describes, in its order: path and methods.
fn described() -> Vec<(String, Vec<String>)> {
    let description = Server::start(&[]).get("/openapi.json").expect(200);
    let paths = description["paths"].as_object().expect("paths").iter();
    let methods = |methods: &serde_json::Value| {
        let names = methods.as_object().expect("methods").keys();
        names.map(|name| name.to_uppercase()).collect()
    };
    paths.map(|(path, described)| (path.clone(), methods(described))).collect()
}

/// Whether a path is one of these; a segment in braces is any.
fn fits(template: &str, path: &str) -> bool {
    let (template, path) = (template.split('/'), path.split('/'));
    template.clone().count() == path.clone().count()
        && template.zip(path).all(|(wanted, given)| wanted.starts_with('{') || wanted == given)
}

/// The route a recorded request is for, in words if there is none.
fn route(routes: &[(String, Vec<String>)], method: &str, path: &str) -> String {
    let fitting = routes.iter().filter(|(template, _)| fits(template, path));
    // What is spelled out goes before what varies.
    match fitting.min_by_key(|(template, _)| template.matches('{').count()) {
        Some((template, methods)) if methods.iter().any(|known| known == method) => {
            format!("{method} {template}")
        }
        Some(_) => "another method".to_owned(),
        None => "another path".to_owned(),
    }
}

fn page() -> String {
    let routes = described();
    let mut deviations = Deviations::read();
    let mut rows: BTreeMap<String, Row> = BTreeMap::new();
    let mut rules: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut later: BTreeMap<String, usize> = BTreeMap::new();
    for area in AREAS {
        for case in Area::read(&file(area)).cases {
            let (Some(id), Some(request)) = (case.id, case.request) else { continue };
            let deviation = deviations.of(&id);
            if let Some(route) = deviation.as_ref().and_then(|row| row.later.clone()) {
                *later.entry(route).or_default() += 1;
                continue;
            }
            let path = request.path.split('?').next().unwrap_or_default();
            let route = route(&routes, &request.method, path);
            let row = rows.entry(route).or_default();
            match deviation {
                None => row.same += 1,
                Some(deviation) => {
                    row.by_rule += 1;
                    rules.entry(deviation.rule).or_default().push(id);
                }
            }
        }
    }
    let mut page = HEAD.to_owned();
    let line = |page: &mut String, name: &str, row: Option<Row>| {
        let _ = match row {
            Some(Row { same, by_rule }) => {
                writeln!(page, "| {name} | {} | {same} | {by_rule} |", same + by_rule)
            }
            None => writeln!(page, "| {name} | *new* | | |"),
        };
    };
    for (path, methods) in &routes {
        for method in methods {
            let name = format!("{method} {path}");
            line(&mut page, &format!("`{name}`"), rows.remove(&name));
        }
    }
    for (name, row) in rows {
        line(&mut page, &name, Some(row));
    }
    if !later.is_empty() {
        page += "\n## Not built yet\n\n| route | recorded answers |\n|---|---|\n";
        for (route, n) in later {
            let _ = writeln!(page, "| `{route}` | {n} |");
        }
    }
    page += "\n## Rules\n\n| rule | answers |\n|---|---|\n";
    for (rule, cases) in rules {
        let cases: Vec<String> = cases.iter().map(|case| format!("`{case}`")).collect();
        let _ = writeln!(page, "| {rule} | {} |", cases.join(", "));
    }
    page
}

#[test]
fn the_page_is_current() {
    let page = page();
    if std::env::var_os(UPDATE).is_some() {
        std::fs::write(of_checkout(PATH), page).expect("the page can be written");
        return;
    }
    let kept = std::fs::read_to_string(of_checkout(PATH)).expect("the page is there");
    assert!(kept == page, "docs/conformance.md is out of date: {UPDATE}=1 writes it anew");
}
