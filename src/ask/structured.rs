//! Nodes that an intent asks for by class and properties.

use std::collections::HashMap;
use std::time::Duration;

use activekg_storage::ids::NodeId;
use activekg_storage::time::UnixMicros;

use super::Error;
use super::candidate::{Candidate, mentions};
use super::intent::Intent;
use crate::graph::{Graph, Node, View};
use crate::search::Search;

/// Most nodes that a structured query returns.
const HITS_MAX: usize = 10;
/// How many of the newest nodes of a class are looked at.
const NODES_MAX: usize = 1000;
/// The class of positions.
const POSITION_CLASSES: &[&str] = &["Job"];
/// The classes of reports.
const REPORT_CLASSES: &[&str] = &["Ticket", "Incident", "Issue", "Bug"];
/// Words of which a report about slowness has one.
const SLOWNESS: &str = "performance slow latency timeout bottleneck degradation";

/// What `intent` asks for by class and properties, best first. Intents about documents ask for
/// nothing that way.
///
/// # Errors
///
/// Those of the graph and of the text index.
pub(super) async fn hits(
    graph: &Graph,
    search: &Search,
    view: &View,
    intent: &Intent,
    now: UnixMicros,
) -> Result<Vec<Candidate>, Error> {
    let ids = |nodes: &[Node]| nodes.iter().map(|node| node.id).collect::<Vec<_>>();
    match intent {
        Intent::OpenPositions { role_terms } => {
            let mut nodes = graph.nodes_of_classes(view, POSITION_CLASSES, NODES_MAX).await?;
            nodes.retain(is_open);
            if role_terms.is_empty() {
                return Ok(newest(nodes));
            }
            nodes.retain(|node| mentions(node, role_terms));
            let ranks = search.text_rank(view, &role_terms.join(" "), &ids(&nodes)).await?;
            Ok(ranked(nodes, &ranks))
        }
        Intent::PerformanceIssues { lookback_days } => {
            let mut nodes = graph.nodes_of_classes(view, REPORT_CLASSES, NODES_MAX).await?;
            nodes.retain(|node| is_recent(node, *lookback_days, now));
            let ranks = search.text_rank(view, SLOWNESS, &ids(&nodes)).await?;
            nodes.retain(|node| ranks.iter().any(|(id, _)| *id == node.id));
            Ok(ranked(nodes, &ranks))
        }
        Intent::Entity { .. } => Ok(Vec::new()),
    }
}

/// Whether a position can be filled: a status says open, or there is none.
fn is_open(node: &Node) -> bool {
    let mut statuses = [&node.props, &node.metadata]
        .into_iter()
        .filter_map(|object| object.get("status").filter(|status| !status.is_null()))
        .peekable();
    statuses.peek().is_none()
        || statuses
            .any(|status| status.as_str().is_some_and(|text| text.eq_ignore_ascii_case("open")))
}

/// Whether a report was made at most `days` ago.
fn is_recent(node: &Node, days: u32, now: UnixMicros) -> bool {
    const DAY: Duration = Duration::from_secs(86_400);
    now.since(node.created_at) <= DAY * days
}

/// The first nodes of a list that is newest first; all fit alike.
fn newest(nodes: Vec<Node>) -> Vec<Candidate> {
    nodes.into_iter().take(HITS_MAX).map(|node| candidate(node, 1.0)).collect()
}

/// The best nodes by their words, on a scale where the best has 1; of a list that is newest
/// first, which stays the order of equals.
fn ranked(nodes: Vec<Node>, ranks: &[(NodeId, f64)]) -> Vec<Candidate> {
    let best = ranks.iter().map(|(_, score)| *score).fold(0.0, f64::max);
    let scale = if best > 0.0 { 1.0 / best } else { 0.0 };
    let scores: HashMap<NodeId, f64> = ranks.iter().copied().collect();
    let scored = nodes.into_iter().map(|node| {
        let score = scores.get(&node.id).copied().unwrap_or(0.0) * scale;
        candidate(node, score)
    });
    let mut candidates: Vec<Candidate> = scored.collect();
    candidates.sort_by(|a, b| b.score.total_cmp(&a.score));
    candidates.truncate(HITS_MAX);
    candidates
}

fn candidate(node: Node, score: f64) -> Candidate {
    Candidate { node, score, cosine: None, structured: true }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::candidate::tests::node;
    use super::*;

    #[test]
    fn a_position_is_open_by_either_status_or_without_one() {
        let with = |props, metadata| {
            let mut node = node(1, "text");
            node.props.insert("status".to_owned(), props);
            node.metadata.insert("status".to_owned(), metadata);
            is_open(&node)
        };
        assert!(is_open(&node(1, "text")));
        assert!(with(json!(null), json!(null)));
        assert!(with(json!("open"), json!("closed")));
        assert!(with(json!("filled"), json!("Open")));
        assert!(with(json!(null), json!("open")));
        assert!(!with(json!("closed"), json!(null)));
        assert!(!with(json!("closed"), json!("filled")));
        assert!(!with(json!(true), json!(null)));
    }

    #[test]
    fn reports_grow_old() {
        let day = Duration::from_secs(86_400);
        let created = |at| Node { created_at: at, ..node(1, "slow") };
        let now = UnixMicros(0).plus(day * 100);
        assert!(is_recent(&created(UnixMicros(0).plus(day * 70)), 30, now));
        assert!(!is_recent(
            &created(UnixMicros(0).plus(day * 70 - Duration::from_secs(1))),
            30,
            now
        ));
        assert!(
            is_recent(&created(now.plus(day)), 30, now),
            "a clock that went back hides nothing"
        );
    }

    #[test]
    fn words_order_and_the_newest_lead_among_equals() {
        let nodes = || (1..=4).map(|id| node(id, "text")).collect::<Vec<_>>();
        let id = NodeId::from_u128;
        let by_words = ranked(nodes(), &[(id(3), 8.0), (id(1), 2.0), (id(2), 2.0), (id(9), 8.0)]);
        let found: Vec<_> = by_words.iter().map(|c| (c.node.id.as_u128(), c.score)).collect();
        assert_eq!(found, [(3, 1.0), (1, 0.25), (2, 0.25), (4, 0.0)]);
        let unranked = ranked(nodes(), &[]);
        assert!(unranked.iter().all(|c| c.score == 0.0 && c.structured));
    }

    #[test]
    fn ten_are_enough() {
        let nodes: Vec<_> = (1..=20).map(|id| node(id, "text")).collect();
        let found = newest(nodes.clone());
        assert_eq!(found.len(), HITS_MAX);
        assert!(found.iter().all(|c| c.score == 1.0));
        assert_eq!(ranked(nodes, &[]).len(), HITS_MAX);
    }
}
