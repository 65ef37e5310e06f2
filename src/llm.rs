//! Writers of answers: from a question and numbered sources to a text that cites them.
//!
//! The one writer so far is [`Extractive`], which needs no language model: it quotes.

mod extractive;
mod sentences;

use futures_util::stream::BoxStream;

pub use extractive::Extractive;

/// What a writer says when the sources do not answer the question.
pub const CANNOT_TELL: &str =
    "I don't have enough information to answer this question confidently.";

/// A source an answer may cite.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snippet {
    /// The number it is cited by, as `[0]`.
    pub index: usize,
    /// Its text.
    pub text: String,
}

/// Why a writer stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LlmError {
    /// The work was cut off, as happens in a shutdown.
    #[error("the answer was interrupted")]
    Interrupted,
}

/// Writes answers.
pub trait AnswerWriter: Send + Sync {
    /// Its name in `/health`.
    fn name(&self) -> &'static str;

    /// The answer to `question` from `snippets`, best source first, in pieces that make the whole
    /// when put together. It states nothing that is not in a snippet, puts `[index]` behind what
    /// it takes from one, cites no other index, and says [`CANNOT_TELL`] if none of them helps.
    /// Work begins with the first piece asked for and ends when the stream is dropped.
    fn write(
        &self,
        question: &str,
        snippets: Vec<Snippet>,
    ) -> BoxStream<'static, Result<String, LlmError>>;
}
