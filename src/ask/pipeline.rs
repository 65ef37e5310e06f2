//! From a question to what the writer gets, and from the writer's text to an answer.

use std::sync::Arc;

use activekg_storage::time::UnixMicros;

use super::answer::{Answer, Fit, NOTHING_FOUND, Outcome, Report};
use super::candidate::Candidate;
use super::citation::{self, Citation};
use super::confidence::{Grounds, thousandths};
use super::gate::Gate;
use super::intent::Intent;
use super::retrieve::{Retrieved, retrieve};
use super::writing::Writing;
use super::{Ask, Error, Event, Parts, Question, cache, context};
use crate::graph::View;
use crate::llm::{AnswerWriter, CANNOT_TELL, Occasion, Snippet, Standing, Writers};

/// How far back a citation tells where its node comes from.
const LINEAGE_DEPTH: u32 = 3;
/// Most confidence in an answer from one weak source.
const NARROW_CONFIDENCE_MAX: f64 = 0.6;
/// Confidence in a refusal of what fits too badly.
const REFUSAL_CONFIDENCE: f64 = 0.2;

/// What a question has come to before anything is written.
pub(super) enum Prepared {
    /// It will not be answered.
    Refused(Answer),
    /// It can be.
    Ready(Box<Ready>),
}

/// All that is needed to write an answer.
pub(super) struct Ready {
    writer: Arc<dyn AnswerWriter>,
    stand_in: Option<Arc<dyn AnswerWriter>>,
    view: View,
    question: String,
    /// Best first, never empty; the answer refers to them by index.
    sources: Vec<Candidate>,
    /// Complete but for what the text shows.
    report: Report,
    narrow: bool,
    intent_applies: bool,
    reranked: bool,
    key: cache::Key,
}

impl Ask {
    /// Answers `question` from what `view` may see.
    ///
    /// # Errors
    ///
    /// [`Error::Off`], or what search, store or writer report.
    pub async fn answer(&self, view: &View, question: Question) -> Result<Answer, Error> {
        let ready = match self.parts.prepare(view, &question).await? {
            Prepared::Refused(answer) => return Ok(answer),
            Prepared::Ready(ready) => ready,
        };
        if let Some(text) = self.parts.written_before(&ready) {
            return self.parts.finish(*ready, &text, true).await;
        }
        let mut writing = self.parts.write(&ready);
        let text = writing.rest().await?;
        self.parts.finish(ready.written(writing), &text, false).await
    }
}

impl Ready {
    /// What a reader is told before the first piece.
    pub(super) fn context(&self) -> Event {
        Event::Context {
            nodes: self.sources.iter().map(|source| source.node.id).collect(),
            top_similarity: self.report.fit.top,
        }
    }

    /// The same, with the way that its text took.
    pub(super) fn written(mut self: Box<Self>, writing: Writing) -> Self {
        (self.report.route, self.report.stood_in) = writing.outcome();
        *self
    }

    fn snippets(&self, now: UnixMicros) -> Vec<Snippet> {
        let snippet = |(index, source): (usize, &Candidate)| Snippet {
            index,
            text: source.node.text().to_owned(),
            standing: Standing {
                similarity: source.score,
                drift: source.node.drift_score,
                age_days: citation::age_days(&source.node, now),
            },
        };
        self.sources.iter().enumerate().map(snippet).collect()
    }
}

impl Parts {
    /// Lets the writer begin.
    pub(super) fn write(&self, ready: &Ready) -> Writing {
        let Ready { writer, stand_in, question, report, .. } = ready;
        let snippets = ready.snippets(self.clock.now());
        Writing::begin(&**writer, stand_in.clone(), report.route.clone(), question, snippets)
    }

    /// Finds sources for `question` and decides whether they will do.
    pub(super) async fn prepare(
        &self,
        view: &View,
        question: &Question,
    ) -> Result<Prepared, Error> {
        let Writers { main, stand_in } = self.writers.clone();
        let writer = main.ok_or(Error::Off)?;
        let mut retrieved = retrieve(self, view, question).await?;
        let gate = self.settings.thresholds.decide(&retrieved.candidates, retrieved.score_type);
        let fit = Fit::of(&retrieved.candidates, retrieved.score_type);
        match gate {
            Gate::Refuse => return Ok(Prepared::Refused(refusal(&retrieved, fit))),
            Gate::Narrow => retrieved.candidates.truncate(1),
            Gate::Open => {}
        }
        let intent_applies = retrieved.intent_applies();
        let Retrieved {
            candidates,
            score_type: _,
            reranked,
            intent,
            classes,
            structured,
            term_gating,
        } = retrieved;
        let searched = candidates.len();
        let occasion =
            Occasion { question: &question.text, top_similarity: fit.max_vector, hits: searched };
        let route = writer.route(&occasion);
        let limit = question.max_results.min(self.settings.sources_max);
        let sources = context::select(candidates, self.settings.thresholds.narrow_cosine, limit);
        let report = Report {
            searched,
            sources: sources.len(),
            fit,
            first_cited: None,
            intent: intent.as_ref().map(Intent::name),
            classes,
            must_have_terms: match intent {
                Some(Intent::Entity { must_have_terms, .. }) if intent_applies => must_have_terms,
                _ => Vec::new(),
            },
            structured,
            route,
            stood_in: false,
            term_gating,
        };
        let path = report.route.path;
        let key = cache::Key::new(view.tenant(), &question.text, &sources, path);
        Ok(Prepared::Ready(Box::new(Ready {
            writer,
            stand_in,
            view: view.clone(),
            question: question.text.clone(),
            sources,
            report,
            narrow: gate == Gate::Narrow,
            intent_applies,
            reranked,
            key,
        })))
    }

    /// The text that was written for the same question and sources a while ago.
    pub(super) fn written_before(&self, ready: &Ready) -> Option<Arc<str>> {
        self.cache.get(&ready.key, self.clock.now())
    }

    /// Makes the answer of `text`, and keeps the text unless it is an old one. A writer that
    /// has nothing to say is an answer that nothing is known.
    pub(super) async fn finish(
        &self,
        ready: Ready,
        text: &str,
        cached: bool,
    ) -> Result<Answer, Error> {
        let Ready {
            writer: _,
            stand_in: _,
            view,
            question: _,
            sources,
            report,
            narrow,
            intent_applies,
            reranked,
            key,
        } = ready;
        let text = match text.trim() {
            "" => CANNOT_TELL,
            text => text,
        };
        let now = self.clock.now();
        let cited = citation::indexes(text);
        let mut citations = Vec::new();
        for source in cited.iter().filter_map(|index| sources.get(*index)) {
            let ancestors = self.graph.lineage(&view, source.node.id, LINEAGE_DEPTH).await?;
            citations.push(Citation::of(&source.node, &ancestors, now));
        }
        let strengths: Vec<f64> = sources.iter().map(Candidate::strength).collect();
        let grounds = Grounds {
            strengths: &strengths,
            cited: &cited,
            answer_chars: text.chars().count(),
            intent: intent_applies,
        };
        let cap = if narrow { NARROW_CONFIDENCE_MAX } else { 1.0 };
        let confidence = thousandths(grounds.confidence().min(cap));
        // What stands in is not kept: the writer may be back at the next question.
        if !cached && !report.stood_in && !citations.is_empty() {
            self.cache.put(key, text, now);
        }
        let report = Report { first_cited: cited.first().copied(), ..report };
        let outcome = Outcome::Answered(Box::new(report));
        Ok(Answer { text: text.to_owned(), citations, confidence, outcome, reranked })
    }
}

/// What is said instead of an answer.
fn refusal(retrieved: &Retrieved, fit: Fit) -> Answer {
    let (text, confidence, outcome) = match retrieved.candidates.len() {
        0 => {
            let outcome = Outcome::NothingFound { score_type: retrieved.score_type };
            (NOTHING_FOUND, 0.0, outcome)
        }
        searched => (CANNOT_TELL, REFUSAL_CONFIDENCE, Outcome::TooWeak { searched, fit }),
    };
    let reranked = retrieved.reranked;
    Answer { text: text.to_owned(), citations: Vec::new(), confidence, outcome, reranked }
}
