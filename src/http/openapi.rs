//! The description of a surface's API, made of its route table.

use serde_json::{Map, Value, json};

use super::rate_limit::Group;
use super::routes::{Answer, Parameter, Route};

/// Bodies that are forms, because they hold files. All others are JSON.
const FORMS: [&str; 1] = ["UploadForm"];

/// The OpenAPI 3.1 document of `routes`. `schemas` is a JSON object of the schemas that routes
/// name.
///
/// # Errors
///
/// When `schemas` is not JSON.
pub fn document(
    title: &str,
    version: &str,
    routes: &[Route],
    schemas: &str,
) -> Result<Value, serde_json::Error> {
    let schemas: Value = serde_json::from_str(schemas)?;
    let mut paths = Map::new();
    for route in routes {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route);
    }
    Ok(json!({
        "openapi": "3.1.0",
        "info": { "title": title, "version": version },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT" },
            },
        },
    }))
}

fn operation(route: &Route) -> Value {
    let Route { method: _, path, summary, tag, access, group, query, body, answer } = route;
    let in_path =
        path.split('/').filter_map(|segment| segment.strip_prefix('{')?.strip_suffix('}'));
    let in_path: Vec<Value> = in_path
        .map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }))
        .collect();
    let in_query = query.iter().map(|Parameter { name, kind, required, about }| {
        json!({ "name": name, "in": "query", "required": required, "description": about,
            "schema": { "type": kind } })
    });
    let checked = body.is_some() || !query.is_empty();
    let absent = !in_path.is_empty();
    let parameters: Vec<Value> = in_path.into_iter().chain(in_query).collect();

    let mut operation =
        json!({ "tags": [tag], "summary": summary, "operationId": operation_id(route) });
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(schema) = body {
        let mut content = content(&Answer::Json(schema));
        if FORMS.contains(schema) {
            content = json!({ "multipart/form-data": content["application/json"] });
        }
        operation["requestBody"] = json!({ "required": true, "content": content });
    }
    operation["responses"] = responses(answer, access.is_some(), *group, absent, checked);
    if access.is_some() {
        operation["security"] = json!([{ "bearer": [] }]);
    }
    operation
}

fn responses(
    answer: &Answer,
    token: bool,
    group: Option<Group>,
    absent: bool,
    checked: bool,
) -> Value {
    let error = |about: &str, schema| json!({ "description": about, "content": content(&Answer::Json(schema)) });
    let mut responses = json!({ "200": { "description": "Success", "content": content(answer) } });
    for (applies, status, about, schema) in [
        (token, "401", "No valid token", "Error"),
        (token, "403", "The token does not allow this", "Error"),
        (absent, "404", "Not there, or not for this caller", "Error"),
        (checked, "422", "Fields are wrong", "ValidationError"),
        (group.is_some(), "429", "Too many requests", "Error"),
    ] {
        if applies {
            responses[status] = error(about, schema);
        }
    }
    responses
}

fn content(answer: &Answer) -> Value {
    match answer {
        Answer::Json(schema) => {
            json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{schema}") } } })
        }
        Answer::Text(kind) => {
            let mut content = Map::new();
            content.insert((*kind).to_owned(), json!({ "schema": { "type": "string" } }));
            content.into()
        }
    }
}

/// A name made of method and path: `get_nodes_id`.
fn operation_id(route: &Route) -> String {
    let words =
        route.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let method = route.method.as_str().to_ascii_lowercase();
    words.fold(method, |id, word| format!("{id}_{word}"))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::http::graph::table::ROUTES;
    use crate::http::pages::GRAPH_SCHEMAS;

    fn graph() -> Value {
        document("activekg", "1.0.0", ROUTES, GRAPH_SCHEMAS).expect("the schemas are JSON")
    }

    fn references<'a>(value: &'a Value, found: &mut HashSet<&'a str>) {
        match value {
            Value::Object(members) => {
                found.extend(members.get("$ref").and_then(Value::as_str));
                members.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => {}
        }
    }

    #[test]
    fn every_reference_leads_to_a_schema_and_every_schema_is_used() {
        let document = graph();
        let mut found = HashSet::new();
        references(&document, &mut found);
        let schemas = document["components"]["schemas"].as_object().expect("an object");
        let known: HashSet<String> =
            schemas.keys().map(|name| format!("#/components/schemas/{name}")).collect();
        assert_eq!(found, known.iter().map(String::as_str).collect());
    }

    #[test]
    fn every_route_is_described_under_a_name_of_its_own() {
        let document = graph();
        let mut ids = HashSet::new();
        for route in ROUTES {
            let described =
                &document["paths"][route.path][route.method.as_str().to_ascii_lowercase()];
            assert_eq!(described["summary"], route.summary, "{} {}", route.method, route.path);
            assert!(ids.insert(described["operationId"].as_str().expect("an id")));
        }
    }

    #[test]
    fn parameters_and_tokens_are_described() {
        let document = graph();
        let put = &document["paths"]["/nodes/{id}"]["put"];
        assert_eq!(put["parameters"][0]["name"], "id");
        assert_eq!(put["security"], json!([{ "bearer": [] }]));
        assert!(put["responses"]["404"].is_object() && put["responses"]["422"].is_object());
        assert_eq!(document["paths"]["/health"]["get"].get("security"), None);
    }
}
