//! Answers by a service that speaks the protocol of OpenAI's chat completions.

mod chat;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use activekg_storage::time::Clock;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};

use super::{AnswerWriter, LlmError, Occasion, Prompt, Route, Snippet};
use crate::config;
use crate::observability::metrics::Metrics;
use crate::upstream::sse::{Events, TooLong};
use crate::upstream::{Failure, Limits, Pieces, Service, Upstream, UpstreamError};
use chat::{Answer, Request};

/// Largest answer, with everything around it: some hundred times what the largest budget needs.
const ANSWER_BYTES: usize = 16 << 20;
/// Largest event of a stream.
const EVENT_BYTES: usize = 1 << 20;

/// Writes answers by remote models: one, or a fast and a thorough one.
pub struct RemoteWriter {
    /// The only model, or the thorough one.
    model: Model,
    fast: Option<Fast>,
    snippet_len: usize,
    metrics: Arc<Metrics>,
}

struct Fast {
    model: Model,
    /// Cosine from which a question is easy.
    easy_from: f64,
}

/// A model and where it is.
#[derive(Clone)]
struct Model {
    upstream: Upstream,
    backend: &'static str,
    name: String,
    max_tokens: u32,
}

impl RemoteWriter {
    /// A writer by the models that `config` names, from `snippet_len` characters of each source.
    ///
    /// # Errors
    ///
    /// When an address or a key cannot be used.
    pub fn new(
        config: &config::RemoteLlm,
        snippet_len: usize,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, UpstreamError> {
        let limits = Limits {
            first_byte: config.first_token.min(config.timeout),
            silence: config.first_token.min(config.timeout),
            total: config.timeout,
            response_bytes: ANSWER_BYTES,
            ..Limits::default()
        };
        let connected = |route: &config::Route| {
            let service = Service {
                name: route.service.backend,
                base_url: route.service.base_url.clone(),
                key: route.service.key.clone(),
                limits,
                retries: Default::default(),
                breaker: Default::default(),
            };
            let upstream = Upstream::new(service, metrics.upstream.clone(), clock.clone())?;
            Ok::<_, UpstreamError>(Model {
                upstream,
                backend: route.service.backend,
                name: route.model.clone(),
                max_tokens: route.max_tokens,
            })
        };
        let model = connected(&config.route)?;
        let fast = match &config.fast {
            None => None,
            Some(fast) => {
                let mut model_of_fast = connected(&fast.route)?;
                if model_of_fast.backend == model.backend {
                    // One service, so one breaker and one count of calls under way.
                    model_of_fast.upstream = model.upstream.clone();
                }
                Some(Fast { model: model_of_fast, easy_from: fast.top_similarity })
            }
        };
        Ok(Self { model, fast, snippet_len, metrics: metrics.clone() })
    }
}

impl AnswerWriter for RemoteWriter {
    fn name(&self) -> &'static str {
        self.model.backend
    }

    fn model(&self) -> Option<&str> {
        Some(&self.model.name)
    }

    fn route(&self, occasion: &Occasion<'_>) -> Route {
        match &self.fast {
            None => Route::only(),
            Some(fast) => Route::choose(occasion, fast.easy_from),
        }
    }

    fn write(
        &self,
        question: &str,
        snippets: Vec<Snippet>,
    ) -> BoxStream<'static, Result<String, LlmError>> {
        self.write_by(&Route::only(), question, snippets)
    }

    fn write_by(
        &self,
        route: &Route,
        question: &str,
        snippets: Vec<Snippet>,
    ) -> BoxStream<'static, Result<String, LlmError>> {
        let model = match &self.fast {
            Some(fast) if route.path == Route::FAST => &fast.model,
            Some(_) | None => &self.model,
        };
        let prompt = Prompt::new(question, &snippets, self.snippet_len);
        let writing = Writing {
            model: model.clone(),
            prompt,
            metrics: self.metrics.clone(),
            state: State::Asked,
        };
        stream::unfold(writing, |mut writing| async move {
            let piece = writing.next().await?;
            Some((piece, writing))
        })
        .boxed()
    }
}

/// An answer being written.
struct Writing {
    model: Model,
    prompt: Prompt,
    metrics: Arc<Metrics>,
    state: State,
}

enum State {
    Asked,
    Reading(Box<Reading>),
    Over,
}

/// An answer that has begun.
struct Reading {
    pieces: Pieces,
    /// None once the stream has ended.
    events: Option<Events>,
    /// What came of an answer that is no stream.
    whole: Option<Vec<u8>>,
    answer: Answer,
    /// Texts that are there and not handed on.
    ready: VecDeque<String>,
    started: Instant,
}

impl Writing {
    async fn next(&mut self) -> Option<Result<String, LlmError>> {
        if let State::Asked = self.state {
            match self.begin().await {
                Ok(reading) => self.state = State::Reading(Box::new(reading)),
                Err(error) => return Some(Err(self.failed(error))),
            }
        }
        let State::Reading(reading) = &mut self.state else {
            return None;
        };
        match reading.next().await {
            Ok(Some(text)) => Some(Ok(text)),
            Ok(None) => {
                let Model { backend, name, .. } = &self.model;
                let (tokens, took) = (reading.answer.tokens(), reading.started.elapsed());
                self.metrics.llm.succeeded(backend, name, tokens, took);
                self.state = State::Over;
                None
            }
            Err(error) => Some(Err(self.failed(error))),
        }
    }

    fn failed(&mut self, error: UpstreamError) -> LlmError {
        self.state = State::Over;
        self.metrics.llm.failed(self.model.backend, &self.model.name);
        error.into()
    }

    /// Asks, and waits for the answer to begin.
    async fn begin(&self) -> Result<Reading, UpstreamError> {
        let started = Instant::now();
        let Model { upstream, name, max_tokens, .. } = &self.model;
        let request = Request::new(name, &self.prompt, *max_tokens);
        let pieces = upstream.stream("/chat/completions", &request).await?;
        // A service that cannot stream sends its answer whole, as one event would be.
        let whole = (pieces.media_type() == Some("application/json")).then(Vec::new);
        Ok(Reading {
            pieces,
            events: Some(Events::new(EVENT_BYTES)),
            whole,
            answer: Answer::default(),
            ready: VecDeque::new(),
            started,
        })
    }
}

impl Reading {
    /// The next text; none after the last.
    async fn next(&mut self) -> Result<Option<String>, UpstreamError> {
        loop {
            if let Some(text) = self.ready.pop_front() {
                return Ok(Some(text));
            }
            if self.answer.is_over() {
                return Ok(None);
            }
            if self.events.is_none() {
                let failure = Failure::BrokeOff("the answer ended too early".to_owned());
                return Err(self.pieces.failed(failure));
            }
            let read = match self.pieces.next().await.transpose()? {
                Some(piece) => self.read(&piece),
                None => self.end(),
            };
            read.map_err(|failure| self.pieces.failed(failure))?;
        }
    }

    fn read(&mut self, piece: &[u8]) -> Result<(), Failure> {
        if let Some(whole) = &mut self.whole {
            whole.extend_from_slice(piece);
            return Ok(());
        }
        let Some(events) = &mut self.events else { return Ok(()) };
        let events = events.feed(piece).map_err(too_long)?;
        self.take(events)
    }

    fn end(&mut self) -> Result<(), Failure> {
        let last = self.events.take().map(Events::finish).transpose().map_err(too_long)?;
        let whole = self.whole.take().map(|whole| String::from_utf8_lossy(&whole).into_owned());
        self.take(whole.into_iter().chain(last.flatten()))?;
        self.answer.ended();
        Ok(())
    }

    fn take(&mut self, events: impl IntoIterator<Item = String>) -> Result<(), Failure> {
        for event in events {
            self.ready.extend(self.answer.read(&event)?);
        }
        Ok(())
    }
}

fn too_long(_: TooLong) -> Failure {
    Failure::NoSense("an endless event".to_owned())
}

#[cfg(test)]
mod tests;
