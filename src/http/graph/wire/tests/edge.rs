//! Edges, and the query strings of what reads.

use serde_json::json;

use super::{items, refused};
use crate::http::extract::{Input, Query};
use crate::http::graph::wire::edge::EdgeCreate;
use crate::http::graph::wire::query::*;

#[test]
fn edges() {
    let short = |name: &str| json!({"type": "string_too_short", "loc": ["body", name], "msg": "String should have at least 1 character", "input": "", "ctx": {"min_length": 1}});
    assert_eq!(
        refused(EdgeCreate::parse(&json!({"src": "", "dst": "", "rel": ""}))),
        items(json!([short("src"), short("dst"), short("rel")]))
    );
    let (a, r) = ("a".repeat(101), "r".repeat(101));
    let long = |name: &str, input: &str| json!({"type": "string_too_long", "loc": ["body", name], "msg": "String should have at most 100 characters", "input": input, "ctx": {"max_length": 100}});
    assert_eq!(
        refused(EdgeCreate::parse(&json!({"src": a, "dst": "b", "rel": r}))),
        items(json!([long("src", &a), long("rel", &r)]))
    );
    let wrong = |name: &str, text: &str, input: &str| json!({"type": "value_error", "loc": ["body", name], "msg": format!("Value error, {text}"), "input": input, "ctx": {"error": {}}});
    let id = "00000000-0000-4000-8000-00000000000A";
    assert_eq!(
        refused(EdgeCreate::parse(&json!({"src": "x", "dst": id, "rel": "   "}))),
        items(json!([
            wrong("src", "Node id must be a UUID", "x"),
            wrong("rel", "Relation cannot be empty", "   ")
        ]))
    );
    let edge = EdgeCreate::parse(
        &json!({"src": format!(" {id} "), "dst": id, "rel": "  RELATED  ", "props": {"ü": [1]}}),
    )
    .expect("valid");
    assert_eq!((edge.src.to_string(), edge.rel.as_str()), (id.to_lowercase(), "RELATED"));
}

#[test]
fn queries() {
    let int = |name: &str| {
        items(json!([{"type": "int_parsing", "loc": ["query", name],
        "msg": "Input should be a valid integer, unable to parse string as an integer", "input": "x"}]))
    };
    assert_eq!(refused(LineageQuery::parse(&json!({"max_depth": "x"}))), int("max_depth"));
    assert_eq!(refused(EventsQuery::parse(&json!({"limit": "x"}))), int("limit"));
    assert_eq!(
        refused(EventsQuery::parse(&json!({"limit": "-1"}))),
        items(
            json!([{"type": "greater_than_equal", "loc": ["query", "limit"], "msg": "Input should be greater than or equal to 0", "input": "-1", "ctx": {"ge": 0}}])
        )
    );
    assert!(
        refused(ListQuery::parse(&json!({"limit": "99999999999999999999"})))
            .contains("int_parsing_size")
    );
    assert_eq!(
        refused(ExternalIdQuery::parse(&json!({}))),
        items(
            json!([{"type": "missing", "loc": ["query", "external_id"], "msg": "Field required", "input": null}])
        )
    );
    assert!(refused(TenantQuery::parse(&json!({"tenant_id": "a\0"}))).contains("NUL"));

    let list = ListQuery::parse(&json!({"limit": "5000", "page": "3", "has_embedding": "false", "classes": "Doc, ,Job", "include": "props"})).expect("valid");
    assert_eq!((list.limit, list.offset, list.has_embedding), (1000, 2000, Some(false)));
    assert_eq!(
        (list.classes.as_slice(), list.include_props),
        (&["Doc".to_owned(), "Job".to_owned()][..], true)
    );
    let depth =
        |text: &str| LineageQuery::parse(&json!({"max_depth": text})).map(|query| query.max_depth);
    assert_eq!((depth("0"), depth("51"), depth("-7")), (Ok(1), Ok(50), Ok(1)));
    let versions =
        |text: &str| VersionsQuery::parse(&json!({"limit": text})).map(|query| query.limit);
    assert_eq!(
        (versions("0"), versions("101"), versions("100")),
        (Ok(None), Ok(None), Ok(Some(100)))
    );
    assert_eq!(DeleteQuery::parse(&json!({"hard": "true"})).map(|query| query.hard), Ok(true));
}
