//! POST /ask and POST /ask/stream.

use std::time::Instant;

use activekg_storage::ids::NodeId;
use axum::extract::State;
use axum::response::Response;
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use tracing::error;

use super::access::Who;
use super::failure::{of_graph, of_search};
use super::wire::ask::{AskAnswer, AskRequest, CitationView, LineageStep};
use crate::app::App;
use crate::ask::answer::{Fit, Report};
use crate::ask::{self, Answer, Citation, Event, Outcome, Question};
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::NamedOrDev;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Reply};
use crate::http::request_id::RequestId;
use crate::http::sse::{self, Frame};
use crate::llm::CANNOT_TELL;
use crate::observability::metrics::{AskMetrics, AskOutcome, Rejection};

/// What a client reads of a failure inside.
const FAILED: &str = "Error processing question";
/// What a stream says when nothing was found; POST /ask has a longer sentence.
const NOTHING_FOUND: &str = "I couldn't find relevant information.";

/// POST /ask.
pub(super) async fn ask(
    State(app): State<App>,
    Who(caller): Who,
    JsonBody(body): JsonBody<AskRequest>,
) -> Result<Reply<AskAnswer>, ApiError> {
    let started = Instant::now();
    let view = app.view(&caller, Access::Ask, body.tenant_id.as_deref(), NamedOrDev)?;
    let answer = app.ask.answer(&view, question(body)).await.map_err(of_ask)?;
    count(&app.metrics.ask, &answer, started);
    Ok(Reply(answer_view(answer)))
}

/// POST /ask/stream.
pub(super) async fn ask_stream(
    State(app): State<App>,
    Who(caller): Who,
    request_id: RequestId,
    JsonBody(body): JsonBody<AskRequest>,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let view = app.view(&caller, Access::Ask, body.tenant_id.as_deref(), NamedOrDev)?;
    let events = app.ask.stream(view, question(body)).map_err(of_ask)?;
    let mut first = true;
    let frames = events.map(move |event| {
        match &event {
            Event::Token(_) if std::mem::take(&mut first) => {
                app.metrics.ask.first_chunk(started.elapsed());
            }
            Event::Final(answer) => count(&app.metrics.ask, answer, started),
            Event::Failed(error) => {
                error!(request_id = request_id.as_str(), "could not answer a question: {error}");
            }
            Event::Context { .. } | Event::Token(_) => {}
        }
        frame(event)
    });
    Ok(sse::response(frames))
}

/// The answer to an error of a question.
pub(super) fn of_ask(error: ask::Error) -> ApiError {
    match error {
        ask::Error::Off => ApiError::unavailable(error.to_string()),
        ask::Error::Search(error) => of_search(error, FAILED),
        ask::Error::Graph(error) => of_graph(error, Some(FAILED)),
        inside @ ask::Error::Writer(_) => ApiError::internal(FAILED, inside),
    }
}

fn question(body: AskRequest) -> Question {
    let AskRequest { question, max_results, tenant_id: _, use_weighted_score } = body;
    Question { text: question, max_results, weighted: use_weighted_score }
}

/// Adds an answer to the metrics.
pub(super) fn count(metrics: &AskMetrics, answer: &Answer, started: Instant) {
    if matches!(&answer.outcome, Outcome::Answered(report) if report.stood_in) {
        metrics.stood_in();
    }
    metrics.ended(&AskOutcome {
        score_type: answer.outcome.score_type().as_str(),
        gating_score: answer.outcome.gating_score(),
        answer: match &answer.outcome {
            Outcome::NothingFound { .. } => Err(Rejection::NoResults),
            Outcome::TooWeak { .. } => Err(Rejection::ExtremelyLowSimilarity),
            Outcome::Answered(_) => Ok(answer.citations.len()),
        },
        reranked: answer.reranked,
        latency: started.elapsed(),
    });
}

/// The frame of an event. Refusals are constants, and short.
fn frame(event: Event) -> Frame {
    match event {
        Event::Context { nodes, top_similarity } => {
            let ids: Vec<String> = nodes.iter().map(ToString::to_string).collect();
            let data = object([
                ("type", json!("context")),
                ("node_ids", json!(ids)),
                ("top_similarity", json!(top_similarity)),
                ("count", json!(nodes.len())),
            ]);
            Frame::event("context", &data)
        }
        Event::Token(text) => {
            Frame::event("token", &object([("type", json!("token")), ("text", json!(text))]))
        }
        Event::Final(answer) => final_frame(*answer),
        Event::Failed(_) => {
            let data = object([("type", json!("error")), ("message", json!(FAILED))]);
            Frame::event("error", &data)
        }
    }
}

fn final_frame(answer: Answer) -> Frame {
    let refused = match &answer.outcome {
        Outcome::NothingFound { .. } => Some(NOTHING_FOUND),
        Outcome::TooWeak { .. } => Some(CANNOT_TELL),
        Outcome::Answered(_) => None,
    };
    let AskAnswer { answer, citations, confidence, metadata } = answer_view(answer);
    let mut data = object([
        ("type", json!("final")),
        ("answer", json!(refused.unwrap_or(&answer))),
        ("citations", json!(citations)),
        ("confidence", json!(confidence)),
    ]);
    if refused.is_some() {
        return Frame::compact("final", &data);
    }
    let kept = ["searched_nodes", "filtered_nodes", "cited_nodes", "top_similarity"];
    let figures: Map<String, Value> =
        metadata.into_iter().filter(|(name, _)| kept.contains(&name.as_str())).collect();
    data.insert("metadata".to_owned(), figures.into());
    Frame::event("final", &data)
}

fn answer_view(answer: Answer) -> AskAnswer {
    let Answer { text, citations, confidence, outcome, reranked: _ } = answer;
    let metadata = match &outcome {
        Outcome::NothingFound { score_type } => object([
            ("searched_nodes", json!(0)),
            ("cited_nodes", json!(0)),
            ("filtered_nodes", json!(0)),
            ("gating_score", json!(0.0)),
            ("gating_score_type", json!(score_type.as_str())),
        ]),
        Outcome::TooWeak { searched, fit } => too_weak(*searched, fit),
        Outcome::Answered(report) => figures(report, citations.len()),
    };
    let citations = citations.into_iter().map(citation_view).collect();
    AskAnswer { answer: text, citations, confidence, metadata }
}

fn too_weak(searched: usize, fit: &Fit) -> Map<String, Value> {
    let Fit { top, top_vector, max_vector, score_type } = fit;
    object([
        ("searched_nodes", json!(searched)),
        ("cited_nodes", json!(0)),
        ("filtered_nodes", json!(0)),
        ("top_similarity", json!(top)),
        ("top_vector_similarity", json!(top_vector)),
        ("max_vector_similarity", json!(max_vector)),
        ("gating_score", json!(top)),
        ("gating_score_type", json!(score_type.as_str())),
        ("reason", json!(Rejection::ExtremelyLowSimilarity.as_str())),
    ])
}

fn figures(report: &Report, cited: usize) -> Map<String, Value> {
    let Report {
        searched,
        sources,
        fit: Fit { top, top_vector, max_vector, score_type },
        first_cited,
        intent,
        classes,
        must_have_terms,
        structured,
        route,
        stood_in: _,
        term_gating,
    } = report;
    let mut figures = object([
        ("searched_nodes", json!(searched)),
        ("filtered_nodes", json!(sources)),
        ("cited_nodes", json!(cited)),
        ("top_similarity", json!(top)),
        ("top_vector_similarity", json!(top_vector)),
        ("max_vector_similarity", json!(max_vector)),
        ("gating_score", json!(top)),
        ("gating_score_type", json!(score_type.as_str())),
        ("first_citation_idx", json!(first_cited)),
        ("citation_at_1_precision", json!(if *first_cited == Some(0) { 1.0 } else { 0.0 })),
        ("llm_path", json!(route.path)),
        ("routing_reason", json!(route.reason)),
        ("intent_detected", json!(intent)),
        ("intent_type", json!(intent)),
        ("classes_filter", json!(classes)),
        ("must_have_terms", json!(Some(must_have_terms).filter(|terms| !terms.is_empty()))),
        ("structured_results_count", json!(structured)),
    ]);
    if let Some(gating) = term_gating {
        figures.insert("term_gating_before".to_owned(), gating.before.into());
        figures.insert("term_gating_after".to_owned(), gating.after.into());
        figures.insert("term_gating_relaxed".to_owned(), gating.relaxed.into());
    }
    figures
}

fn object<const N: usize>(members: [(&str, Value); N]) -> Map<String, Value> {
    members.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

pub(super) fn citation_view(citation: Citation) -> CitationView {
    let Citation { node, classes, drift_score, age_days, lineage } = citation;
    let step =
        |(ancestor, depth): (NodeId, u32)| LineageStep { ancestor: ancestor.as_uuid(), depth };
    CitationView {
        node_id: node.as_uuid(),
        classes,
        drift_score,
        age_days,
        lineage: lineage.into_iter().map(step).collect(),
    }
}

#[cfg(test)]
mod tests;
