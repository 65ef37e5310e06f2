//! The bodies and frames that clients know.

use super::*;
use crate::ask::answer::{GatingScore, TermGating};
use crate::llm::Route;

const FIT: Fit =
    Fit { top: 0.033, top_vector: 0.58, max_vector: 0.6, score_type: GatingScore::RrfFused };

fn answered() -> Answer {
    let node = NodeId::from_u128(7);
    let citation = Citation {
        node,
        classes: vec!["Doc".to_owned()],
        drift_score: Some(0.02),
        age_days: Some(1.5),
        lineage: vec![(NodeId::from_u128(8), 1)],
    };
    let report = Report {
        searched: 20,
        sources: 3,
        fit: FIT,
        first_cited: Some(0),
        intent: Some("entity_job"),
        classes: Some(&["Job"]),
        must_have_terms: vec!["sre"],
        route: Route::only(),
        stood_in: false,
        structured: 0,
        term_gating: Some(TermGating { before: 5, after: 2, relaxed: false }),
    };
    Answer {
        text: "Välve A needs a seal kit [0].".to_owned(),
        citations: vec![citation],
        confidence: 0.64,
        outcome: Outcome::Answered(Box::new(report)),
        reranked: false,
    }
}

fn refused(outcome: Outcome, text: &str, confidence: f64) -> Answer {
    let (text, citations) = (text.to_owned(), Vec::new());
    Answer { text, citations, confidence, outcome, reranked: false }
}

fn body(answer: Answer) -> String {
    serde_json::to_string(&answer_view(answer)).expect("JSON")
}

#[test]
fn answers_have_the_members_of_the_contract_in_order() {
    let id = |last| format!("00000000-0000-0000-0000-00000000000{last}");
    let expected = format!(
        "{{\"answer\":\"Välve A needs a seal kit [0].\",\"citations\":[{{\"node_id\":\"{}\",\
         \"classes\":[\"Doc\"],\"drift_score\":0.02,\"age_days\":1.5,\"lineage\":[{{\
         \"ancestor\":\"{}\",\"depth\":1}}]}}],\"confidence\":0.64,\"metadata\":{{\
         \"searched_nodes\":20,\"filtered_nodes\":3,\"cited_nodes\":1,\"top_similarity\":0.033,\
         \"top_vector_similarity\":0.58,\"max_vector_similarity\":0.6,\"gating_score\":0.033,\
         \"gating_score_type\":\"rrf_fused\",\"first_citation_idx\":0,\
         \"citation_at_1_precision\":1.0,\"llm_path\":\"fallback\",\
         \"routing_reason\":\"hybrid_disabled\",\"intent_detected\":\"entity_job\",\
         \"intent_type\":\"entity_job\",\"classes_filter\":[\"Job\"],\"must_have_terms\":[\"sre\"],\
         \"structured_results_count\":0,\"term_gating_before\":5,\"term_gating_after\":2,\
         \"term_gating_relaxed\":false}}}}",
        id(7),
        id(8)
    );
    assert_eq!(body(answered()), expected);
}

#[test]
fn refusals_have_theirs() {
    let nothing = Outcome::NothingFound { score_type: GatingScore::RrfFused };
    assert_eq!(
        body(refused(nothing, "none", 0.0)),
        r#"{"answer":"none","citations":[],"confidence":0.0,"metadata":{"searched_nodes":0,"cited_nodes":0,"filtered_nodes":0,"gating_score":0.0,"gating_score_type":"rrf_fused"}}"#
    );
    let weak = Outcome::TooWeak { searched: 4, fit: FIT };
    assert_eq!(
        body(refused(weak, "weak", 0.2)),
        r#"{"answer":"weak","citations":[],"confidence":0.2,"metadata":{"searched_nodes":4,"cited_nodes":0,"filtered_nodes":0,"top_similarity":0.033,"top_vector_similarity":0.58,"max_vector_similarity":0.6,"gating_score":0.033,"gating_score_type":"rrf_fused","reason":"extremely_low_similarity"}}"#
    );
}

#[test]
fn frames_are_spaced_and_constant_refusals_are_not() {
    let context = Event::Context { nodes: vec![NodeId::from_u128(7)], top_similarity: 0.033 };
    let data = object([
        ("type", json!("context")),
        ("node_ids", json!(["00000000-0000-0000-0000-000000000007"])),
        ("top_similarity", json!(0.033)),
        ("count", json!(1)),
    ]);
    assert_eq!(frame(context), Frame::event("context", &data));

    let last = frame(Event::Final(Box::new(answered())));
    let citations = answer_view(answered()).citations;
    let data = object([
        ("type", json!("final")),
        ("answer", json!("Välve A needs a seal kit [0].")),
        ("citations", json!(citations)),
        ("confidence", json!(0.64)),
        (
            "metadata",
            json!({"searched_nodes": 20, "filtered_nodes": 3, "cited_nodes": 1, "top_similarity": 0.033}),
        ),
    ]);
    assert_eq!(last, Frame::event("final", &data));

    let nothing = Outcome::NothingFound { score_type: GatingScore::RrfFused };
    let data =
        json!({"type": "final", "answer": NOTHING_FOUND, "citations": [], "confidence": 0.0});
    let nothing = Event::Final(Box::new(refused(nothing, "longer", 0.0)));
    assert_eq!(frame(nothing), Frame::compact("final", &data));

    let failed = frame(Event::Failed(ask::Error::Off));
    let data = json!({"type": "error", "message": FAILED});
    assert_eq!(failed, Frame::event("error", &data), "nothing of the cause is told");
}
