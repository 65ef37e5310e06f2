//! The description of a surface's API, made of its route table.

use serde_json::{Map, Value, json};

use super::dialect::Dialect;
use super::error::ErrorKind;
use super::routes::{Answer, Parameter, Route};

/// Bodies that are forms, because they hold files. All others are JSON.
const FORMS: [&str; 1] = ["UploadForm"];
/// Bodies that need not be sent: what they would say has a default.
const OPTIONAL: [&str; 7] = [
    "BackfillRequest",
    "BackupRequest",
    "LettersRequest",
    "ModelCompareRequest",
    "ModelSwitchRequest",
    "RefreshRequest",
    "ReplayRequest",
];

/// The OpenAPI 3.1 document of `routes`, whose errors are worded as `dialect` says for each path.
/// `schemas` is a JSON object of the schemas that routes name.
///
/// # Errors
///
/// When `schemas` is not JSON.
pub fn document(
    title: &str,
    version: &str,
    routes: &[Route],
    dialect: fn(&str) -> Dialect,
    schemas: &str,
) -> Result<Value, serde_json::Error> {
    let schemas: Value = serde_json::from_str(schemas)?;
    let mut paths = Map::new();
    for route in routes {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.as_str().to_ascii_lowercase()] = operation(route, dialect(route.path));
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

fn operation(route: &Route, dialect: Dialect) -> Value {
    let Route { method: _, path, summary, tag, access, group, query, body, answer, also } = route;
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
        operation["requestBody"] =
            json!({ "required": !OPTIONAL.contains(schema), "content": content });
    }
    let mut errors = also.to_vec();
    let applies = [
        (access.is_some(), [ErrorKind::Unauthorized, ErrorKind::Forbidden]),
        (absent, [ErrorKind::NotFound; 2]),
        (checked, [ErrorKind::Invalid; 2]),
        (body.is_some(), [ErrorKind::BadRequest, ErrorKind::TooLarge]),
        (group.is_some(), [ErrorKind::TooMany; 2]),
    ];
    errors.extend(applies.into_iter().filter(|(applies, _)| *applies).flat_map(|(_, kinds)| kinds));
    operation["responses"] = responses(answer, dialect, &errors);
    if access.is_some() {
        operation["security"] = json!([{ "bearer": [] }]);
    }
    operation
}

/// What a route may answer, as far as its callers can bring it about. A server in trouble answers
/// 500, 503 or 507 besides, in the same words.
fn responses(answer: &Answer, dialect: Dialect, errors: &[ErrorKind]) -> Value {
    let (error, faults) = match dialect {
        Dialect::Detail | Dialect::Administration | Dialect::Webhook => {
            ("Error", "ValidationError")
        }
        Dialect::OpenAi => ("OpenAiError", "OpenAiError"),
        Dialect::JsonRpc => ("JsonRpcError", "JsonRpcError"),
    };
    let success = if matches!(answer, Answer::Begun(_)) { "202" } else { "200" };
    let mut responses =
        json!({ success: { "description": "Success", "content": content(answer) } });
    if dialect == Dialect::JsonRpc {
        responses["202"] = json!({ "description": "Taken, and nothing to answer" });
    }
    for kind in errors {
        let schema = if *kind == ErrorKind::Invalid { faults } else { error };
        let content = match kind {
            ErrorKind::TooLarge if matches!(dialect, Dialect::Detail | Dialect::Administration) => {
                content(&Answer::Text("text/plain"))
            }
            _ => content(&Answer::Json(schema)),
        };
        responses[dialect.status(*kind).as_str()] =
            json!({ "description": about(*kind), "content": content });
    }
    responses
}

/// What an error says to whoever reads the description.
fn about(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::BadRequest => "The request makes no sense as a whole",
        ErrorKind::Unauthorized => "No valid token",
        ErrorKind::Forbidden => "The token does not allow this",
        ErrorKind::NotFound => "Not there, or not for this caller",
        ErrorKind::MethodNotAllowed => "Another method is meant",
        ErrorKind::Timeout => "The request came too slowly",
        ErrorKind::Conflict => "It is there already, or in another state",
        ErrorKind::TooLarge => "The body is larger than allowed",
        ErrorKind::UnsupportedMediaType => "The body must say that it is JSON",
        ErrorKind::Invalid => "Fields are wrong",
        ErrorKind::TooMany => "Too many requests",
        ErrorKind::NotConfigured => "A setting is missing",
        ErrorKind::Internal | ErrorKind::Unhandled => "The server failed",
        ErrorKind::Unavailable => "A part that is needed is off or down",
        ErrorKind::BadGateway => "A source outside fails",
        ErrorKind::InsufficientStorage => "The disk is nearly full",
    }
}

fn content(answer: &Answer) -> Value {
    match answer {
        Answer::Json(schema) | Answer::Begun(schema) => {
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
    use crate::http::graph::table::{ROUTES, dialect};
    use crate::http::pages::GRAPH_SCHEMAS;

    fn graph() -> Value {
        document("activekg", "1.0.0", &ROUTES, dialect, GRAPH_SCHEMAS)
            .expect("the schemas are JSON")
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
        for route in ROUTES.iter() {
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
