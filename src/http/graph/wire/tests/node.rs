//! Nodes and batches of them.

use serde_json::{Value, json};

use super::{OBJECT, body, items, refused};
use crate::http::extract::Input;
use crate::http::graph::wire::node::{NodeBatch, NodeCreate, NodePut};

#[test]
fn nodes_are_refused_member_by_member() {
    let string = |loc: Value, input: Value| json!([{"type": "string_type", "loc": loc, "msg": "Input should be a valid string", "input": input}]);
    let object = |name: &str, input: Value| json!([{"type": "dict_type", "loc": ["body", name], "msg": "Input should be a valid dictionary", "input": input}]);
    let list = |name: &str, input: Value| json!([{"type": "list_type", "loc": ["body", name], "msg": "Input should be a valid list", "input": input}]);
    let eleven: Vec<String> = (0..11).map(|n| format!("c{n}")).collect();
    let (x101, x501) = ("x".repeat(101), "x".repeat(501));
    for (member, value, expected) in [
        (
            "classes",
            json!([]),
            json!([{"type": "too_short", "loc": ["body", "classes"],
            "msg": "List should have at least 1 item after validation, not 0", "input": [],
            "ctx": {"field_type": "List", "min_length": 1, "actual_length": 0}}]),
        ),
        (
            "classes",
            json!(eleven),
            json!([{"type": "too_long", "loc": ["body", "classes"],
            "msg": "List should have at most 10 items after validation, not 11", "input": eleven,
            "ctx": {"field_type": "List", "max_length": 10, "actual_length": 11}}]),
        ),
        (
            "classes",
            json!([x101]),
            json!([{"type": "value_error", "loc": ["body", "classes"],
            "msg": "Value error, Class names must be strings under 100 characters", "input": [x101], "ctx": {"error": {}}}]),
        ),
        ("classes", json!([1]), string(json!(["body", "classes", 0]), json!(1))),
        ("classes", json!("Doc"), list("classes", json!("Doc"))),
        ("classes", Value::Null, list("classes", Value::Null)),
        ("props", json!([]), object("props", json!([]))),
        ("props", Value::Null, object("props", Value::Null)),
        (
            "payload_ref",
            json!(x501),
            json!([{"type": "string_too_long", "loc": ["body", "payload_ref"],
            "msg": "String should have at most 500 characters", "input": x501, "ctx": {"max_length": 500}}]),
        ),
        ("payload_ref", json!(5), string(json!(["body", "payload_ref"]), json!(5))),
        ("metadata", json!([1]), object("metadata", json!([1]))),
        ("refresh_policy", json!("5m"), object("refresh_policy", json!("5m"))),
        (
            "refresh_policy",
            json!({"interval": 5, "cron": "not a cron"}),
            string(json!(["body", "refresh_policy", "interval"]), json!(5)),
        ),
        (
            "refresh_policy",
            json!({"drift_threshold": "x"}),
            json!([{"type": "float_type",
            "loc": ["body", "refresh_policy", "drift_threshold"], "msg": "Input should be a valid number", "input": "x"}]),
        ),
        (
            "refresh_policy",
            json!({"cron": "x"}),
            json!([{"type": "value_error", "loc": ["body", "refresh_policy"],
            "msg": "Value error, interval must be digits and m, h or d, and cron must have 5 or 6 valid fields",
            "input": {"cron": "x"}, "ctx": {"error": {}}}]),
        ),
        ("triggers", json!({"name": "p"}), list("triggers", json!({"name": "p"}))),
        (
            "triggers",
            json!([1]),
            json!([{"type": "dict_type", "loc": ["body", "triggers", 0],
            "msg": "Input should be a valid dictionary", "input": 1}]),
        ),
        (
            "tenant_id",
            json!(x101),
            json!([{"type": "string_too_long", "loc": ["body", "tenant_id"],
            "msg": "String should have at most 100 characters", "input": x101, "ctx": {"max_length": 100}}]),
        ),
        ("tenant_id", json!(1), string(json!(["body", "tenant_id"]), json!(1))),
        (
            "extract",
            json!("perhaps"),
            json!([{"type": "bool_parsing", "loc": ["body", "extract"],
            "msg": "Input should be a valid boolean, unable to interpret input", "input": "perhaps"}]),
        ),
    ] {
        let mut node = json!({"classes": ["Doc"], "props": {}});
        node[member] = value.clone();
        assert_eq!(refused(NodeCreate::parse(&node)), items(expected.clone()), "{member} {value}");
        if !value.is_null() && !matches!(member, "extract") {
            assert_eq!(
                refused(NodePut::parse(&json!({ member: value }))),
                items(expected),
                "PUT {member}"
            );
        }
    }
}

#[test]
fn a_node_is_normalised() {
    let node = NodeCreate::parse(&json!({"classes": [""], "props": {}, "payload_ref": "  notes.txt  ", "tenant_id": " ",
        "metadata": {"a": 1}, "extract": "no", "unknown": 7,
        "triggers": [{"name": "p1", "threshold": 0.9}, {"name": "p1"}, "p2", {"nope": 1}, {"name": 5}, {"name": "p3", "threshold": "high"}, "p2", " "]}))
    .expect("valid");
    assert_eq!(node.payload_ref.as_deref(), Some("notes.txt"));
    assert_eq!((node.tenant_id, node.extract), (None, Some(false)));
    assert_eq!(
        serde_json::to_value(&node.triggers).expect("JSON"),
        json!([{"name": "p1", "threshold": 0.9}, {"name": "p2", "threshold": 0.85}, {"name": "p3", "threshold": 0.85}])
    );
}

#[test]
fn a_bad_cron_beside_a_good_interval_is_stored() {
    let policy = json!({"interval": "5m", "cron": "nonsense", "drift_threshold": -1});
    let node = NodeCreate::parse(&json!({"classes": ["A"], "props": {}, "refresh_policy": policy}))
        .expect("valid");
    assert_eq!(Value::Object(node.refresh_policy), policy);
}

#[test]
fn put_leaves_what_is_absent_or_null() {
    assert_eq!(
        NodePut::parse(&json!({"classes": null, "props": null, "payload_ref": null})),
        Ok(NodePut::default())
    );
    let put = NodePut::parse(&json!({"payload_ref": " ", "triggers": []})).expect("valid");
    assert_eq!((put.payload_ref, put.triggers), (Some(None), Some(Vec::new())));
}

#[test]
fn batches() {
    assert_eq!(
        refused(NodeBatch::parse(&json!({"nodes": []}))),
        items(
            json!([{"type": "too_short", "loc": ["body", "nodes"], "msg": "List should have at least 1 item after validation, not 0",
            "input": [], "ctx": {"field_type": "List", "min_length": 1, "actual_length": 0}}])
        )
    );
    assert_eq!(
        refused(NodeBatch::parse(&json!({"nodes": ["x"]}))),
        items(
            json!([{"type": "model_attributes_type", "loc": ["body", "nodes", 0], "msg": OBJECT, "input": "x"}])
        )
    );
    assert_eq!(
        refused(NodeBatch::parse(&json!({"nodes": {"a": 1}}))),
        items(
            json!([{"type": "list_type", "loc": ["body", "nodes"], "msg": "Input should be a valid list", "input": {"a": 1}}])
        )
    );
    let node = json!({"classes": ["D"], "props": {}});
    assert!(
        refused(NodeBatch::parse(&json!({"nodes": vec![node; 501]})))
            .starts_with("[{\"type\":\"too_long\"")
    );
}

#[test]
fn a_node_with_a_nul_fails_alone() {
    let text = r#"{"nodes":[{"classes":["D"],"props":{"a":"x"}},{"classes":["D"],"props":{"t":"a\u0000b"}},{"classes":["D"],"props":{"b":"y"}}],"continue_on_error":false}"#;
    let batch: NodeBatch = body(text).expect("valid");
    let fates: Vec<bool> = batch.nodes.iter().map(|item| item.refused.is_some()).collect();
    assert_eq!((fates, batch.continue_on_error), (vec![false, true, false], false));

    assert!(
        refused(body::<NodeBatch>(r#"{"nodes":[],"tenant_id":"\u0000"}"#)).contains("json_invalid")
    );
    assert_eq!(
        refused(body::<NodeCreate>(r#"{"classes":["D"],"props":{"t":"\u0000"}}"#)),
        items(
            json!([{"type": "json_invalid", "loc": ["body", 31], "msg": "JSON decode error", "input": {},
            "ctx": {"error": "NUL character in string"}}])
        )
    );
}
