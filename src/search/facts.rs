//! Hashes by which an index finds the nodes that may pass a filter.
//!
//! A node has a fact for each class and for each scalar in its metadata. A filter asks for
//! facts that every node it admits must have, so the index can narrow the search and never hides
//! a node; the store decides afterwards.

use std::hash::Hasher;

use activekg_index::FactFilter;
use serde_json::Value;

use super::filter::{Filter, as_text};
use crate::graph::{Node, Object};

/// Most facts of one node; what is beyond is not indexed, and [`OVERFULL`] says so.
const FACTS_MAX: usize = 512;
/// The fact of nodes with more than [`FACTS_MAX`] facts: they pass every filter here.
const OVERFULL: u64 = 0;
/// Deepest level of metadata with facts.
const DEPTH_MAX: usize = 8;

/// The facts of a node, sorted, each once.
pub(super) fn of(node: &Node) -> Vec<u64> {
    let mut facts: Vec<u64> = node.classes.iter().map(|class| fact(b'c', class, "")).collect();
    for (key, value) in &node.metadata {
        facts.extend(as_text(value).map(|text| fact(b't', key, &text)));
    }
    contained(&node.metadata, "", DEPTH_MAX, &mut facts);
    facts.sort_unstable();
    facts.dedup();
    if facts.len() > FACTS_MAX {
        facts.truncate(FACTS_MAX);
        facts.insert(0, OVERFULL);
    }
    facts
}

/// The facts that every node must have which the filter admits.
pub(super) fn required(filter: &Filter) -> FactFilter {
    let Filter { metadata_filters, compound_filter, classes } = filter;
    let mut any = Vec::new();
    for (key, value) in metadata_filters.iter().flatten() {
        if let Some(text) = as_text(value) {
            // A number matches by value or by text; `1` and `1.0` are one value of two texts.
            let mut group = vec![fact(b't', key, &text), OVERFULL];
            group.extend(number(value).map(|value| fact(b'v', key, &value)));
            any.push(group);
        }
    }
    let mut contained_facts = Vec::new();
    if let Some(wanted) = compound_filter {
        contained(wanted, "", DEPTH_MAX, &mut contained_facts);
    }
    any.extend(contained_facts.into_iter().map(|fact| vec![fact, OVERFULL]));
    if !classes.is_empty() {
        let mut group: Vec<u64> = classes.iter().map(|class| fact(b'c', class, "")).collect();
        group.push(OVERFULL);
        any.push(group);
    }
    FactFilter { all: Vec::new(), any }
}

/// The facts of every scalar in an object, down to `depth` more levels.
fn contained(object: &Object, path: &str, depth: usize, facts: &mut Vec<u64>) {
    for (key, value) in object {
        let path = if path.is_empty() { key.clone() } else { format!("{path}\u{1}{key}") };
        value_facts(value, &path, depth, facts);
    }
}

/// The facts of a value at `path`. Items of an array share their array's path.
fn value_facts(value: &Value, path: &str, depth: usize, facts: &mut Vec<u64>) {
    match value {
        Value::Object(object) if depth > 0 => contained(object, path, depth - 1, facts),
        Value::Array(items) if depth > 0 => {
            let path = format!("{path}\u{1}[]");
            for item in items {
                value_facts(item, &path, depth - 1, facts);
            }
        }
        Value::Object(_) | Value::Array(_) => {}
        scalar => {
            facts.push(fact(b'v', path, &number(scalar).unwrap_or_else(|| scalar.to_string())))
        }
    }
}

/// One text for all ways to write a number.
fn number(value: &Value) -> Option<String> {
    value.as_f64().map(|number| format!("{number:e}"))
}

/// The hash of one fact. It is kept in index files, so it must never change: FNV-1a, 64 bits.
fn fact(kind: u8, key: &str, value: &str) -> u64 {
    let mut hash = Fnv(0xcbf2_9ce4_8422_2325);
    hash.write(&[kind]);
    hash.write(key.as_bytes());
    hash.write(&[0]);
    hash.write(value.as_bytes());
    hash.finish().max(1) // 0 means something else
}

/// FNV-1a (Fowler, Noll, Vo; constants of the 64-bit form).
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use activekg_storage::ids::{NodeId, TenantId};
    use activekg_storage::tables::graph::EmbeddingStatus;
    use activekg_storage::time::UnixMicros;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn node(classes: Vec<String>, metadata: Object) -> Node {
        Node {
            id: NodeId::from_u128(1),
            tenant: TenantId::shared(),
            classes,
            props: Object::new(),
            payload_ref: None,
            metadata,
            refresh_policy: Object::new(),
            triggers: Vec::new(),
            version: 1,
            embedding_status: EmbeddingStatus::Queued,
            embedding_error: None,
            embedding_attempts: 0,
            embedding_updated_at: None,
            last_refreshed: None,
            drift_score: None,
            text_revision: 1,
            created_at: UnixMicros(0),
            updated_at: UnixMicros(0),
            loaded: None,
        }
    }

    /// Whether an index would propose a node of these facts.
    fn proposed(facts: &[u64], filter: &FactFilter) -> bool {
        filter.all.iter().all(|fact| facts.contains(fact))
            && filter.any.iter().all(|group| group.iter().any(|fact| facts.contains(fact)))
    }

    /// JSON of few values, so that filters match now and then.
    fn value() -> impl Strategy<Value = Value> {
        let scalar = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(Value::from),
            (0..3_i64).prop_map(Value::from),
            (0..3_i32).prop_map(|n| json!(f64::from(n))),
            "[01]{0,1}".prop_map(Value::from),
        ];
        scalar.prop_recursive(3, 12, 3, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
                prop::collection::btree_map("[ab]", inner, 0..3)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    fn object() -> impl Strategy<Value = Object> {
        prop::collection::btree_map("[ab]", value(), 0..3).prop_map(|map| map.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn every_node_that_passes_a_filter_is_proposed(
            classes in prop::collection::vec("[xyz]", 1..3),
            metadata in object(),
            equal in prop::option::of(object()),
            contained in prop::option::of(object()),
            wanted in prop::collection::vec("[xyz]", 0..3),
        ) {
            let filter = Filter { metadata_filters: equal, compound_filter: contained, classes: wanted };
            let node = node(classes, metadata);
            if filter.admits(&node) {
                prop_assert!(proposed(&of(&node), &required(&filter)));
            }
        }
    }

    #[test]
    fn facts_tell_nodes_apart() {
        let metadata = json!({"site": "A", "spec": {"rev": 3}, "tags": ["pump"]});
        let node = node(vec!["Doc".to_owned()], metadata.as_object().expect("an object").clone());
        let of_filter = |filter: Value| {
            let compound = filter.as_object().cloned();
            required(&Filter { compound_filter: compound, ..Filter::default() })
        };
        assert!(proposed(&of(&node), &of_filter(json!({"spec": {"rev": 3.0}, "tags": ["pump"]}))));
        for other in [json!({"site": "B"}), json!({"spec": {"rev": 4}}), json!({"tags": ["seal"]})]
        {
            assert!(!proposed(&of(&node), &of_filter(other.clone())), "{other}");
        }
        let wrong_class = Filter { classes: vec!["Job".to_owned()], ..Filter::default() };
        assert!(!proposed(&of(&node), &required(&wrong_class)));
    }

    #[test]
    fn a_node_with_too_many_facts_passes_every_filter_here() {
        let metadata = (0..FACTS_MAX).map(|n| (format!("k{n}"), json!(n))).collect();
        let node = node(vec!["Doc".to_owned()], metadata);
        let facts = of(&node);
        assert!(facts.len() <= FACTS_MAX + 1);
        let filter = Filter { classes: vec!["Job".to_owned()], ..Filter::default() };
        assert!(proposed(&facts, &required(&filter)));
    }
}
