//! POST /v1/chat/completions: questions, asked and answered as a conversation.
//!
//! The last message of the user is the question. When nothing is known of it, it is asked once
//! more behind the message before it: "and when?" means something only there. Answers come from
//! the pipeline that POST /ask has, with the same sources, the same refusals and the same figures.

use std::time::Instant;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use futures_util::stream::{self, Stream, StreamExt as _};
use serde_json::Value;

use super::super::access::Who;
use super::super::ask::{citation_view, count, of_ask};
use super::super::wire::openai::chat::{
    AnswerMessage, Bounds, ChatAnswer, ChatChunk, ChatRequest, ChatUsage, Choice, ChunkChoice,
    Delta, IndexedCitation,
};
use super::super::wire::openai::estimated_tokens;
use super::cut::Cutter;
use super::{unix_now, writer};
use crate::app::App;
use crate::ask::{self, Answer, Event, Outcome, Question, citation};
use crate::auth::Access;
use crate::auth::tenancy::OpenTenant::NamedOrDev;
use crate::graph::View;
use crate::http::dialect;
use crate::http::error::ApiError;
use crate::http::extract::{JsonBody, Reply};
use crate::http::request_id::RequestId;
use crate::http::sse::{self, Frame};

/// POST /v1/chat/completions.
pub(in crate::http::graph) async fn complete(
    State(app): State<App>,
    Who(caller): Who,
    request_id: RequestId,
    JsonBody(body): JsonBody<ChatRequest>,
) -> Result<Response, ApiError> {
    let started = Instant::now();
    let view = app.view(&caller, Access::Ask, body.tenant_id.as_deref(), NamedOrDev)?;
    let ChatRequest { question, in_context, max_results, .. } = &body;
    let questions = [Some(question), in_context.as_ref()]
        .into_iter()
        .flatten()
        .map(|text| Question { text: text.clone(), max_results: *max_results, weighted: true });
    let questions: Vec<Question> = questions.collect();
    let telling = Telling::new(&app, &request_id, &body);
    if !body.stream {
        let answer = answer(&app, &view, questions).await?;
        count(&app.metrics.ask, &answer, started);
        return Ok(Reply(telling.whole(answer)).into_response());
    }
    let events = begin(&app, view, questions).await?;
    Ok(sse::response(telling.pieces(app, request_id, started, events)))
}

/// The answer to the first of `questions` that is not refused, else to the last.
async fn answer(app: &App, view: &View, questions: Vec<Question>) -> Result<Answer, ApiError> {
    let mut last = None;
    for question in questions {
        let answer = app.ask.answer(view, question).await.map_err(of_ask)?;
        let refused = is_refused(&answer);
        last = Some(answer);
        if !refused {
            break;
        }
    }
    last.ok_or_else(|| ApiError::unhandled("a conversation without a question"))
}

/// The same, as it is written. What fails before the first word is answered as an error.
async fn begin(
    app: &App,
    view: View,
    questions: Vec<Question>,
) -> Result<impl Stream<Item = Event> + Send + use<>, ApiError> {
    let mut questions = questions.into_iter().peekable();
    while let Some(question) = questions.next() {
        let mut events = Box::pin(app.ask.stream(view.clone(), question).map_err(of_ask)?);
        match events.next().await {
            Some(Event::Failed(error)) => return Err(of_ask(error)),
            Some(Event::Final(answer)) if is_refused(&answer) && questions.peek().is_some() => {}
            first => return Ok(stream::iter(first).chain(events)),
        }
    }
    Err(ApiError::unhandled("a conversation without a question"))
}

fn is_refused(answer: &Answer) -> bool {
    match answer.outcome {
        Outcome::NothingFound { .. } | Outcome::TooWeak { .. } => true,
        Outcome::Answered(_) => false,
    }
}

/// How one answer is told.
struct Telling {
    id: String,
    created: i64,
    model: String,
    prompt_tokens: usize,
    include_usage: bool,
    bounds: Bounds,
}

impl Telling {
    fn new(app: &App, request_id: &RequestId, request: &ChatRequest) -> Self {
        Self {
            id: format!("chatcmpl-{}", request_id.as_str()),
            created: unix_now(app),
            // Without a writer there is no answer to tell.
            model: writer(app).unwrap_or_default(),
            prompt_tokens: request.prompt_tokens,
            include_usage: request.include_usage,
            bounds: request.bounds.clone(),
        }
    }

    fn usage(&self, content: &str) -> ChatUsage {
        let (prompt_tokens, completion_tokens) = (self.prompt_tokens, estimated_tokens(content));
        let total_tokens = prompt_tokens + completion_tokens;
        ChatUsage { prompt_tokens, completion_tokens, total_tokens }
    }

    fn whole(self, answer: Answer) -> ChatAnswer {
        let mut cutter = Cutter::new(self.bounds.clone());
        let mut content = cutter.push(&answer.text);
        content.push_str(&cutter.rest());
        let usage = self.usage(&content);
        let message = AnswerMessage {
            role: "assistant",
            confidence: answer.confidence,
            citations: citations(answer, &content),
            content,
            refusal: None,
        };
        let finish_reason = cutter.finish_reason();
        let Self { id, created, model, .. } = self;
        let choice = Choice { index: 0, message, logprobs: None, finish_reason };
        ChatAnswer { id, object: "chat.completion", created, model, choices: [choice], usage }
    }

    fn pieces(
        self,
        app: App,
        request_id: RequestId,
        started: Instant,
        events: impl Stream<Item = Event> + Send,
    ) -> impl Stream<Item = Frame> + Send {
        let mut cutter = Cutter::new(self.bounds.clone());
        let (mut told, mut first) = (String::new(), true);
        let begun =
            Delta { role: Some("assistant"), content: Some(String::new()), ..Delta::default() };
        let head = self.piece(begun, None);
        let rest = events.flat_map(move |event| {
            let frames = match event {
                Event::Context { .. } => Vec::new(),
                Event::Token(piece) => {
                    if std::mem::take(&mut first) {
                        app.metrics.ask.first_chunk(started.elapsed());
                    }
                    self.text(cutter.push(&piece), &mut told)
                }
                Event::Final(answer) => {
                    count(&app.metrics.ask, &answer, started);
                    // A refusal comes at once, without a piece before it.
                    let whole = if first { cutter.push(&answer.text) } else { String::new() };
                    let mut frames = self.text(whole + &cutter.rest(), &mut told);
                    frames.extend(self.end(*answer, cutter.finish_reason(), &told));
                    frames
                }
                Event::Failed(error) => vec![failure(error, &request_id)],
            };
            stream::iter(frames)
        });
        stream::iter([head]).chain(rest)
    }

    /// The piece that goes on with `text`, if that is anything.
    fn text(&self, text: String, told: &mut String) -> Vec<Frame> {
        if text.is_empty() {
            return Vec::new();
        }
        told.push_str(&text);
        vec![self.piece(Delta { content: Some(text), ..Delta::default() }, None)]
    }

    /// What follows the text.
    fn end(&self, answer: Answer, finish_reason: &'static str, told: &str) -> Vec<Frame> {
        let confidence = Some(answer.confidence);
        let citations = Some(citations(answer, told));
        let delta = Delta { citations, confidence, ..Delta::default() };
        let mut frames = vec![self.piece(delta, Some(finish_reason))];
        if self.include_usage {
            frames.push(self.frame(Vec::new(), Some(self.usage(told))));
        }
        frames.push(Frame::done());
        frames
    }

    fn piece(&self, delta: Delta, finish_reason: Option<&'static str>) -> Frame {
        self.frame(vec![ChunkChoice { index: 0, delta, logprobs: None, finish_reason }], None)
    }

    fn frame(&self, choices: Vec<ChunkChoice>, usage: Option<ChatUsage>) -> Frame {
        Frame::data(&ChatChunk {
            id: self.id.clone(),
            object: "chat.completion.chunk",
            created: self.created,
            model: self.model.clone(),
            choices,
            usage: self.include_usage.then_some(usage),
        })
    }
}

/// The sources that `content`, which may be cut, names.
fn citations(answer: Answer, content: &str) -> Vec<IndexedCitation> {
    let told = citation::indexes(content);
    // Both rise, and indexes that no source has are the largest.
    let all = citation::indexes(&answer.text).into_iter().zip(answer.citations);
    all.filter(|(index, _)| told.contains(index))
        .map(|(index, source)| IndexedCitation { index, source: citation_view(source) })
        .collect()
}

/// What ends a stream that cannot go on.
fn failure(error: ask::Error, request_id: &RequestId) -> Frame {
    let error = of_ask(error);
    dialect::log(&error, request_id, "/v1/chat/completions");
    let body: Value = dialect::open_ai(&error, request_id);
    Frame::data(&body)
}
