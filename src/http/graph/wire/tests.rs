//! Requests and the exact items they are refused with.

mod edge;
mod node;
mod search;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::ask::AskRequest;
use super::edge::EdgeCreate;
use super::embedding::RequeueRequest;
use super::node::{NodeBatch, NodeCreate, NodePut};
use super::query::*;
use super::search::{SearchExplainRequest, SearchRequest};
use crate::http::extract::{Input, Query};
use crate::http::json::{parse, to_vec};
use crate::http::validate::{Checked, Item};

/// The items of a refused request, as text: the order of keys counts.
fn refused<T: std::fmt::Debug>(checked: Checked<T>) -> String {
    let items: Value = checked.expect_err("refused").iter().map(Item::to_value).collect();
    String::from_utf8(to_vec(&items)).expect("UTF-8")
}

fn items(expected: Value) -> String {
    expected.to_string()
}

fn body<T: Input>(text: &str) -> Checked<T> {
    T::parse_document(&parse(text.as_bytes()).expect("JSON"))
}

const OBJECT: &str = "Input should be a valid dictionary or object to extract fields from";

#[test]
fn bodies_that_are_no_objects() {
    let nothing = items(
        json!([{"type": "missing", "loc": ["body"], "msg": "Field required", "input": null}]),
    );
    assert_eq!(refused(NodeCreate::parse(&Value::Null)), nothing);
    assert_eq!(refused(RequeueRequest::parse(&Value::Null)), nothing);
    for input in
        [json!("x"), json!("{\"classes\":[\"Doc\"],\"props\":{}}"), json!([]), json!(false)]
    {
        let expected = json!([{"type": "model_attributes_type", "loc": ["body"], "msg": OBJECT, "input": input}]);
        assert_eq!(refused(NodeCreate::parse(&input)), items(expected.clone()));
        assert_eq!(refused(SearchRequest::parse(&input)), items(expected));
    }
}

#[test]
fn missing_members_show_the_object() {
    let missing = |name: &str, input: &Value| json!({"type": "missing", "loc": ["body", name], "msg": "Field required", "input": input});
    let empty = json!({});
    assert_eq!(
        refused(NodeCreate::parse(&empty)),
        items(json!([missing("classes", &empty), missing("props", &empty)]))
    );
    assert_eq!(refused(SearchRequest::parse(&empty)), items(json!([missing("query", &empty)])));
    assert_eq!(refused(AskRequest::parse(&empty)), items(json!([missing("question", &empty)])));
    let edge = json!({"src": "00000000-0000-4000-8000-000000000000"});
    assert_eq!(
        refused(EdgeCreate::parse(&edge)),
        items(json!([missing("dst", &edge), missing("rel", &edge)]))
    );
    // Members that are parameters of their own show nothing.
    let explained = SearchExplainRequest::parse(&empty);
    assert_eq!(refused(explained), items(json!([missing("query", &Value::Null)])));
}

fn any_json() -> impl Strategy<Value = Value> {
    let names = prop::sample::select(vec![
        "classes",
        "props",
        "payload_ref",
        "metadata",
        "refresh_policy",
        "triggers",
        "tenant_id",
        "nodes",
        "src",
        "dst",
        "rel",
        "query",
        "top_k",
        "limit",
        "mode",
        "question",
        "node_ids",
        "interval",
        "cron",
        "name",
        "threshold",
        "page",
    ]);
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,6}".prop_map(Value::from),
        Just(json!("\x0099999999999999999999999")),
    ];
    leaf.prop_recursive(4, 48, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::btree_map(names.clone(), inner, 0..9).prop_map(|members| members
                .into_iter()
                .map(|(name, value)| (name.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    #[test]
    fn no_input_panics_and_every_refusal_has_a_reason(value in any_json()) {
        fn sound<T>(checked: Checked<T>) -> bool {
            checked.err().is_none_or(|items| !items.is_empty())
        }
        prop_assert!(sound(NodeCreate::parse(&value)));
        prop_assert!(sound(NodeBatch::parse(&value)));
        prop_assert!(sound(NodePut::parse(&value)));
        prop_assert!(sound(EdgeCreate::parse(&value)));
        prop_assert!(sound(SearchRequest::parse(&value)));
        prop_assert!(sound(SearchExplainRequest::parse(&value)));
        prop_assert!(sound(AskRequest::parse(&value)));
        prop_assert!(sound(RequeueRequest::parse(&value)));
        prop_assert!(sound(ListQuery::parse(&value)));
        prop_assert!(sound(EventsQuery::parse(&value)));
        prop_assert!(sound(LineageQuery::parse(&value)));
        prop_assert!(sound(VersionsQuery::parse(&value)));
    }
}
