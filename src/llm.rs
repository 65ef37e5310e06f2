//! Writers of answers: from a question and numbered sources to a text that cites them.
//!
//! [`Extractive`] needs no language model: it quotes. [`RemoteWriter`] asks a service that speaks
//! the protocol of OpenAI's chat completions. [`Local`] runs a model from a file.

mod extractive;
pub mod local;
mod prompt;
mod remote;
mod route;
mod sentences;
mod writers;

use futures_util::stream::BoxStream;

use crate::upstream::{Failure, UpstreamError};

pub use extractive::Extractive;
pub use local::Local;
pub use prompt::Prompt;
pub use remote::RemoteWriter;
pub use route::{Occasion, Route};
pub use writers::{Writers, local_writer};

/// What a writer says when the sources do not answer the question.
pub const CANNOT_TELL: &str =
    "I don't have enough information to answer this question confidently.";

/// A source an answer may cite.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Snippet {
    /// The number it is cited by, as `[0]`.
    pub index: usize,
    /// Its text.
    pub text: String,
    /// How well it fits and how fresh it is.
    pub standing: Standing,
}

/// How well a source fits and how fresh it is.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Standing {
    /// The score it was found with.
    pub similarity: f64,
    /// How far its text had moved when it was last embedded, 0 to 2.
    pub drift: Option<f64>,
    /// Days since then; none before the first time.
    pub age_days: Option<f64>,
}

/// Why a writer stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LlmError {
    /// The work was cut off, as happens in a shutdown.
    #[error("the answer was interrupted")]
    Interrupted,
    /// The service cannot be reached, or says that it cannot answer now. Trying again a little
    /// later may help.
    #[error("{0}")]
    Unavailable(#[source] UpstreamError),
    /// The service took longer than allowed.
    #[error("{0}")]
    TimedOut(#[source] UpstreamError),
    /// The service refuses, or answers what makes no sense. A setting is likely to be wrong.
    #[error("{0}")]
    Refused(#[source] UpstreamError),
    /// As many questions as may wait for the local model are waiting for it already.
    #[error("{waiting} questions wait for the local model already; ask again a little later")]
    Busy {
        /// How many may wait.
        waiting: usize,
    },
    /// The local model failed.
    #[error("the local model cannot answer: {0}")]
    Local(String),
}

impl From<UpstreamError> for LlmError {
    fn from(error: UpstreamError) -> Self {
        match error.failure {
            Failure::TimedOut(_) => Self::TimedOut(error),
            Failure::Resting { .. } => Self::Unavailable(error),
            ref failure if failure.is_passing() => Self::Unavailable(error),
            _ => Self::Refused(error),
        }
    }
}

/// Writes answers.
pub trait AnswerWriter: Send + Sync {
    /// Its name in `/health`.
    fn name(&self) -> &'static str;

    /// The name of its model there, if it works by one.
    fn model(&self) -> Option<&str> {
        None
    }

    /// Which way it takes for a question, if it has several.
    fn route(&self, occasion: &Occasion<'_>) -> Route {
        let _ = occasion;
        Route::only()
    }

    /// The answer to `question` from `snippets`, best source first, in pieces that make the whole
    /// when put together. It states nothing that is not in a snippet, puts `[index]` behind what
    /// it takes from one, cites no other index, and says [`CANNOT_TELL`] if none of them helps.
    /// Work begins with the first piece asked for and ends when the stream is dropped.
    fn write(
        &self,
        question: &str,
        snippets: Vec<Snippet>,
    ) -> BoxStream<'static, Result<String, LlmError>>;

    /// The same, by a way that [`AnswerWriter::route`] has chosen.
    fn write_by(
        &self,
        route: &Route,
        question: &str,
        snippets: Vec<Snippet>,
    ) -> BoxStream<'static, Result<String, LlmError>> {
        let _ = route;
        self.write(question, snippets)
    }
}
