//! The graph surface.

mod access;
mod ask;
mod connectors;
mod deleting;
mod edges;
mod embedding;
mod every_route;
mod faults;
mod graph_reading;
mod indexes;
mod issuers;
mod limits;
mod mcp;
mod models;
mod nodes;
mod openai;
mod operator;
mod purge;
mod queues;
mod refreshing;
mod search;
mod service;
mod survey;
mod tenants;
mod triggers;
mod upload;
mod webhooks;

use serde_json::{Value, json};

use crate::common::{Answer, Server};

/// An id that no node has.
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// The body of a document with this text.
fn doc(text: &str) -> Value {
    json!({ "classes": ["Doc"], "props": { "text": text } })
}

/// The ids of the hits of a search, best first.
fn ids(answer: &Answer) -> Vec<String> {
    let body = answer.expect(200);
    let results = body["results"].as_array().expect("a list of results");
    let ids: Vec<String> = results.iter().map(|hit| text_of(&hit["id"])).collect();
    assert_eq!(body["count"], ids.len());
    ids
}

/// The ids a search by meaning and by words finds.
fn found(server: &Server, query: &str) -> Vec<String> {
    ids(&server.post("/search", &json!({ "query": query, "use_hybrid": true })))
}

fn text_of(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("no text: {value}")).to_owned()
}
