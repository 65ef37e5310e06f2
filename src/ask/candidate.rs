//! A node that may help to answer.

use std::collections::HashSet;

use crate::graph::Node;
use crate::graph::text;

/// A node that may help to answer, and what speaks for it.
#[derive(Debug, Clone)]
pub struct Candidate {
    /// The node.
    pub node: Node,
    /// What it is ordered by and what is reported of it: the score of the search that found it,
    /// or 0 to 1 from a structured query.
    pub score: f64,
    /// Cosine similarity to the question, -1 to 1; none when the node has no vector, or none was
    /// compared.
    pub cosine: Option<f64>,
    /// Selected by class and properties, not by likeness to the question.
    pub structured: bool,
}

impl Candidate {
    /// How well it fits the question, 0 to 1, on one scale for all ways of finding. Fused scores
    /// are no such scale, so they count only where there is nothing better.
    pub fn strength(&self) -> f64 {
        let strength = if self.structured { self.score } else { self.cosine.unwrap_or(self.score) };
        strength.clamp(0.0, 1.0)
    }

    /// Whether its title or text holds one of `terms`, which are lower-case.
    pub fn mentions(&self, terms: &[&str]) -> bool {
        mentions(&self.node, terms)
    }
}

/// Whether the title or text of `node` holds one of `terms`, which are lower-case.
pub fn mentions(node: &Node, terms: &[&str]) -> bool {
    let holds = |text: &str| {
        let text = text.to_lowercase();
        terms.iter().any(|term| text.contains(term))
    };
    holds(node.text()) || text::title(&node.props).is_some_and(holds)
}

/// The structured hits, then the others that are not among them, at most `limit` in all. A
/// structured hit that the search found too takes the similarity from there.
pub fn merge(
    mut structured: Vec<Candidate>,
    found: Vec<Candidate>,
    limit: usize,
) -> Vec<Candidate> {
    let ids: HashSet<_> = structured.iter().map(|candidate| candidate.node.id).collect();
    for candidate in &mut structured {
        let twin = found.iter().find(|other| other.node.id == candidate.node.id);
        candidate.cosine = candidate.cosine.or(twin.and_then(|other| other.cosine));
    }
    structured.extend(found.into_iter().filter(|candidate| !ids.contains(&candidate.node.id)));
    structured.truncate(limit);
    structured
}

/// Keeps the candidates that mention one of `terms`, or all when none does; whether it kept all
/// for that reason. No terms, no condition.
pub fn keep_mentioning(candidates: &mut Vec<Candidate>, terms: &[&str]) -> bool {
    if terms.is_empty() || candidates.is_empty() {
        return false;
    }
    if candidates.iter().any(|candidate| candidate.mentions(terms)) {
        candidates.retain(|candidate| candidate.mentions(terms));
        return false;
    }
    true
}

#[cfg(test)]
pub(super) mod tests {
    use activekg_storage::ids::{NodeId, TenantId};
    use activekg_storage::tables::graph::EmbeddingStatus;
    use activekg_storage::time::UnixMicros;
    use serde_json::json;

    use super::*;

    /// A node of id `id` whose text is `text`.
    pub(in super::super) fn node(id: u128, text: &str) -> Node {
        let props = json!({ "text": text });
        Node {
            id: NodeId::from_u128(id),
            tenant: TenantId::new("t").expect("a name"),
            classes: vec!["Doc".to_owned()],
            props: props.as_object().expect("an object").clone(),
            payload_ref: None,
            metadata: serde_json::Map::new(),
            refresh_policy: serde_json::Map::new(),
            triggers: Vec::new(),
            version: 1,
            embedding_status: EmbeddingStatus::Ready,
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

    /// A candidate that a search found.
    pub(in super::super) fn found(score: f64, cosine: Option<f64>) -> Candidate {
        Candidate { node: node(1, "text"), score, cosine, structured: false }
    }

    /// A candidate that a structured query found.
    pub(in super::super) fn structured(score: f64) -> Candidate {
        Candidate { structured: true, ..found(score, None) }
    }

    fn with_id(candidate: Candidate, id: u128, text: &str) -> Candidate {
        Candidate { node: node(id, text), ..candidate }
    }

    #[test]
    fn structured_hits_lead_and_nothing_comes_twice() {
        let first = vec![with_id(structured(1.0), 1, ""), with_id(structured(0.5), 2, "")];
        let then = vec![
            with_id(found(0.03, Some(0.6)), 3, ""),
            with_id(found(0.02, Some(0.4)), 2, ""),
            with_id(found(0.01, Some(0.2)), 4, ""),
        ];
        let merged = merge(first, then, 3);
        let ids: Vec<_> = merged.iter().map(|c| (c.node.id.as_u128(), c.cosine)).collect();
        assert_eq!(ids, [(1, None), (2, Some(0.4)), (3, Some(0.6))]);
        assert!(merged[1].structured);
    }

    #[test]
    fn terms_narrow_unless_nothing_is_left() {
        let all = || {
            vec![
                with_id(found(0.1, None), 1, "Site Reliability"),
                with_id(found(0.1, None), 2, "cook"),
            ]
        };
        let ids = |candidates: &[Candidate]| {
            candidates.iter().map(|c| c.node.id.as_u128()).collect::<Vec<_>>()
        };
        let mut some = all();
        assert!(!keep_mentioning(&mut some, &["site reliability", "sre"]));
        assert_eq!(ids(&some), [1]);
        let mut none = all();
        assert!(keep_mentioning(&mut none, &["grafana"]));
        assert_eq!(ids(&none), [1, 2]);
        let mut free = all();
        assert!(!keep_mentioning(&mut free, &[]));
        assert_eq!(ids(&free), [1, 2]);
    }

    #[test]
    fn strength_is_on_one_scale() {
        assert_eq!(found(0.033, Some(0.6)).strength(), 0.6);
        assert_eq!(found(0.033, Some(-0.2)).strength(), 0.0);
        assert_eq!(found(0.033, None).strength(), 0.033);
        assert_eq!(structured(1.0).strength(), 1.0);
    }
}
