//! Searches, questions, requeues.

use serde_json::{Value, json};

use super::{items, refused};
use crate::http::extract::Input;
use crate::http::graph::wire::ask::AskRequest;
use crate::http::graph::wire::embedding::{RequeueRequest, StatusFilter};
use crate::http::graph::wire::search::{SearchExplainRequest, SearchMode, SearchRequest};

#[test]
fn searches() {
    let with = |member: &str, value: Value| {
        let mut request = json!({"query": "x"});
        request[member] = value;
        SearchRequest::parse(&request)
    };
    for (member, value, kind, message, ctx) in [
        (
            "top_k",
            json!(0),
            "greater_than_equal",
            "Input should be greater than or equal to 1",
            json!({"ge": 1}),
        ),
        (
            "top_k",
            json!(101),
            "less_than_equal",
            "Input should be less than or equal to 100",
            json!({"le": 100}),
        ),
        (
            "top_k",
            json!(2.5),
            "int_from_float",
            "Input should be a valid integer, got a number with a fractional part",
            Value::Null,
        ),
        (
            "use_hybrid",
            json!("perhaps"),
            "bool_parsing",
            "Input should be a valid boolean, unable to interpret input",
            Value::Null,
        ),
        (
            "query",
            json!(" \t "),
            "value_error",
            "Value error, Query cannot be empty",
            json!({"error": {}}),
        ),
        (
            "query",
            json!("x".repeat(2001)),
            "string_too_long",
            "String should have at most 2000 characters",
            json!({"max_length": 2000}),
        ),
        (
            "mode",
            json!("magic"),
            "literal_error",
            "Input should be 'hybrid', 'similarity', 'vector', 'bm25' or 'text'",
            json!({"expected": "'hybrid', 'similarity', 'vector', 'bm25' or 'text'"}),
        ),
    ] {
        let mut item =
            json!({"type": kind, "loc": ["body", member], "msg": message, "input": value});
        if !ctx.is_null() {
            item["ctx"] = ctx;
        }
        assert_eq!(refused(with(member, value)), items(json!([item])));
    }
    let request = json!({"query": "x", "metadata_filters": [1], "compound_filter": "x", "decay_lambda": 1.5, "drift_beta": -0.1});
    assert_eq!(
        refused(SearchRequest::parse(&request)),
        items(json!([
            {"type": "dict_type", "loc": ["body", "metadata_filters"], "msg": "Input should be a valid dictionary", "input": [1]},
            {"type": "dict_type", "loc": ["body", "compound_filter"], "msg": "Input should be a valid dictionary", "input": "x"},
            {"type": "less_than_equal", "loc": ["body", "decay_lambda"], "msg": "Input should be less than or equal to 1", "input": 1.5, "ctx": {"le": 1.0}},
            {"type": "greater_than_equal", "loc": ["body", "drift_beta"], "msg": "Input should be greater than or equal to 0", "input": -0.1, "ctx": {"ge": 0.0}},
        ]))
    );
}

#[test]
fn a_search_is_normalised() {
    let plain = SearchRequest::parse(
        &json!({"query": "  pump \n\t maintenance  ", "top_k": "5", "use_hybrid": "no"}),
    )
    .expect("valid");
    assert_eq!(
        (plain.query.as_str(), plain.top_k, plain.mode),
        ("pump maintenance", 5, SearchMode::Vector)
    );
    assert_eq!((plain.decay_lambda, plain.drift_beta, plain.use_reranker), (0.01, 0.1, true));
    let named = SearchRequest::parse(&json!({"query": "pump", "limit": 1, "mode": "hybrid", "min_similarity": 0.99, "classes": ["A"]})).expect("valid");
    assert_eq!(
        (named.top_k, named.mode, named.min_similarity),
        (1, SearchMode::Hybrid, Some(0.99))
    );
    assert_eq!(named.classes, ["A"]);
    let both = SearchRequest::parse(
        &json!({"query": "q", "top_k": 3, "limit": 7, "use_hybrid": true, "mode": "bm25"}),
    )
    .expect("valid");
    assert_eq!((both.top_k, both.mode), (3, SearchMode::Text));
}

#[test]
fn questions() {
    assert_eq!(
        refused(AskRequest::parse(&json!({"question": "   "}))),
        items(
            json!([{"type": "value_error", "loc": ["body", "question"], "msg": "Value error, Question cannot be empty", "input": "   ", "ctx": {"error": {}}}])
        )
    );
    assert_eq!(
        refused(AskRequest::parse(&json!({"question": "q", "max_results": 21}))),
        items(
            json!([{"type": "less_than_equal", "loc": ["body", "max_results"], "msg": "Input should be less than or equal to 20", "input": 21, "ctx": {"le": 20}}])
        )
    );
    assert_eq!(
        refused(AskRequest::parse(&json!({"question": ""}))),
        items(
            json!([{"type": "string_too_short", "loc": ["body", "question"], "msg": "String should have at least 1 character", "input": "", "ctx": {"min_length": 1}}])
        )
    );
    let question = "q".repeat(1001);
    assert_eq!(
        refused(AskRequest::parse(&json!({"question": question}))),
        items(
            json!([{"type": "string_too_long", "loc": ["body", "question"], "msg": "String should have at most 1000 characters", "input": question, "ctx": {"max_length": 1000}}])
        )
    );
    let asked =
        AskRequest::parse(&json!({"question": "why?", "max_results": null, "stream": true}))
            .expect("valid");
    assert_eq!((asked.max_results, asked.use_weighted_score), (5, true));
}

#[test]
fn requeues_and_explanations() {
    assert_eq!(
        refused(RequeueRequest::parse(&json!({"limit": "x"}))),
        items(
            json!([{"type": "int_parsing", "loc": ["body", "limit"], "msg": "Input should be a valid integer, unable to parse string as an integer", "input": "x"}])
        )
    );
    let requeue = RequeueRequest::parse(
        &json!({"limit": 0, "node_ids": ["xyz", "00000000-0000-4000-8000-000000000000"]}),
    )
    .expect("valid");
    assert_eq!(
        (requeue.limit, requeue.status, requeue.backfill_ready),
        (1, StatusFilter::Failed, true)
    );
    assert_eq!(requeue.node_ids.map(|ids| ids.len()), Some(1));
    let explain =
        SearchExplainRequest::parse(&json!({"query": "pump", "top_k": 100, "use_hybrid": null}))
            .expect("valid");
    assert_eq!((explain.top_k, explain.use_hybrid), (20, false));
    let explain =
        SearchExplainRequest::parse_query(&json!({"query": "pump", "top_k": "3"})).expect("valid");
    assert_eq!(explain.top_k, 3);
}
