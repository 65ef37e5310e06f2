//! Answers by a language model in a GGUF file, without a network.
//!
//! ```text
//! question, snippets → prompt → chat template → tokens → decoder ⇄ sampler → speech → pieces
//! ```
//!
//! A model answers one question at a time, on a thread of its own; some more may wait. The file is
//! not trusted: its header is checked before memory is taken for it, its numbers before they are
//! used.

pub mod decoder;
pub mod generator;
pub mod gguf;
pub mod kernels;
pub mod matrix;
#[cfg(test)]
pub mod sample;
pub mod sampler;
pub mod shape;
pub mod speech;
pub mod template;
#[cfg(test)]
mod tests;
pub mod vocabulary;
pub mod weights;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;
use tracing::{debug, error, info};

use super::{AnswerWriter, LlmError, Snippet};
pub use generator::GenerateError;
use generator::Generator;
pub use generator::{Figures, Settings};
pub use gguf::GgufError;
use kernels::Kernels;
pub use kernels::Level;
pub use sampler::Sampling;

/// Pieces of text that may wait for a slow reader before the model waits for it.
const PIECES_MAX: usize = 64;

/// What is told about every answer: how it was made, or that it failed.
pub type Observer = Arc<dyn Fn(Option<&Figures>) + Send + Sync>;

/// Answers by a model in a file. A clone shares the model.
#[derive(Clone)]
pub struct Local {
    jobs: SyncSender<Job>,
    waiting_max: usize,
    /// The name of the file, without its folder.
    model: Arc<str>,
    level: Level,
}

/// Loads the model at `path` and has it write a little.
///
/// # Errors
///
/// When the file is no model that can be run, or what it computes is nonsense.
pub fn check(path: &Path) -> Result<(), GenerateError> {
    let settings = Settings {
        context: 256,
        max_tokens: 8,
        sampling: Sampling { temperature: 0.0, top_p: 1.0, seed: 0 },
        snippet_chars: 100,
        threads: std::thread::available_parallelism().map_or(1, usize::from),
    };
    let mut generator = Generator::load(path, settings, Kernels::best(Level::BEST))?;
    generator.go_on("A text to try it with", |_| true)?;
    Ok(())
}

/// A question and who waits for the answer.
struct Job {
    question: String,
    snippets: Vec<Snippet>,
    events: mpsc::Sender<Event>,
}

enum Event {
    Piece(String),
    Failed(LlmError),
    Complete,
}

impl Local {
    /// Loads the model at `path`, which takes a second for each gigabyte, and starts its thread.
    /// Beside the question in work `waiting_max` more may wait. It computes with the best
    /// instructions of the processor up to `limit`.
    ///
    /// # Errors
    ///
    /// When the file is no model that can be run, or the thread cannot be started.
    pub fn start(
        path: &Path,
        settings: Settings,
        waiting_max: usize,
        limit: Level,
        observer: Observer,
    ) -> Result<Self, GgufError> {
        let kernels = Kernels::best(limit);
        let level = kernels.level();
        let generator = Generator::load(path, settings, kernels)?;
        let Settings { context, threads, .. } = *generator.settings();
        let model: Arc<str> =
            path.file_name().unwrap_or_default().to_string_lossy().into_owned().into();
        info!(llm.model = &*model, llm.kernels = %level, context, threads, "the local model is loaded");
        let (jobs, queue) = sync_channel(waiting_max);
        std::thread::Builder::new().name("llm".to_owned()).spawn({
            let model = model.clone();
            move || work(generator, &queue, &model, &observer)
        })?;
        Ok(Self { jobs, waiting_max, model, level })
    }

    /// The instructions it computes with.
    pub fn level(&self) -> Level {
        self.level
    }

    fn enqueue(&self, question: String, snippets: Vec<Snippet>) -> Result<Pieces, LlmError> {
        let (events, pieces) = mpsc::channel(PIECES_MAX);
        match self.jobs.try_send(Job { question, snippets, events }) {
            Ok(()) => Ok(pieces),
            Err(TrySendError::Full(_)) => Err(LlmError::Busy { waiting: self.waiting_max }),
            Err(TrySendError::Disconnected(_)) => Err(LlmError::Interrupted),
        }
    }
}

type Pieces = mpsc::Receiver<Event>;

impl AnswerWriter for Local {
    fn name(&self) -> &'static str {
        "local"
    }

    fn model(&self) -> Option<&str> {
        Some(&self.model)
    }

    fn write(
        &self,
        question: &str,
        snippets: Vec<Snippet>,
    ) -> BoxStream<'static, Result<String, LlmError>> {
        let (local, question) = (self.clone(), question.to_owned());
        // The question is put in the queue when the first piece is asked for.
        let begun = async move {
            match local.enqueue(question, snippets) {
                Ok(pieces) => pieces_of(pieces).boxed(),
                Err(error) => stream::iter([Err(error)]).boxed(),
            }
        };
        begun.flatten_stream().boxed()
    }
}

/// The pieces of an answer. One that breaks off without having ended is an error.
fn pieces_of(pieces: Pieces) -> impl futures_util::Stream<Item = Result<String, LlmError>> {
    stream::unfold(Some(pieces), async |pieces| {
        let mut pieces = pieces?;
        match pieces.recv().await {
            Some(Event::Piece(text)) => Some((Ok(text), Some(pieces))),
            Some(Event::Failed(error)) => Some((Err(error), None)),
            Some(Event::Complete) => None,
            None => Some((Err(LlmError::Interrupted), None)),
        }
    })
}

/// Answers questions until nobody can ask any more.
fn work(mut generator: Generator, queue: &Receiver<Job>, model: &str, observer: &Observer) {
    for Job { question, snippets, events } in queue {
        // Whoever asked has gone while the question waited.
        if events.is_closed() {
            continue;
        }
        let say = |text: String| {
            let told = text.is_empty() || events.blocking_send(Event::Piece(text)).is_ok();
            told && !events.is_closed()
        };
        // A panic costs one answer: the next one begins with `forget`.
        let answered =
            catch_unwind(AssertUnwindSafe(|| generator.answer(&question, snippets, say)));
        let last = match answered {
            Ok(Ok(figures)) => {
                observer(Some(&figures));
                info!(
                    llm.model = model,
                    llm.prompt_tokens = figures.prompt_tokens,
                    llm.answer_tokens = figures.answer_tokens,
                    llm.first_token_ms = figures.first_token.as_millis() as u64,
                    llm.tokens_per_second = figures.tokens_per_second().round(),
                    "the local model answered"
                );
                Event::Complete
            }
            Ok(Err(GenerateError::Abandoned)) => {
                debug!(llm.model = model, "an answer was abandoned by its reader");
                continue;
            }
            Ok(Err(failure)) => {
                observer(None);
                Event::Failed(LlmError::Local(failure.to_string()))
            }
            Err(_) => {
                observer(None);
                error!(llm.model = model, "the local model broke off an answer by a panic");
                Event::Failed(LlmError::Interrupted)
            }
        };
        // Nobody may be there to hear it.
        let _ = events.blocking_send(last);
    }
}
