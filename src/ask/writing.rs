//! The text of an answer as it comes, from the writer or from the one that stands in for it.

use std::sync::Arc;

use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use tracing::{error, warn};

use crate::llm::{AnswerWriter, LlmError, Route, Snippet};

/// The path of an answer that another writer had to write.
const STAND_IN: &str = "extractive";
/// Why it did.
const FAILED: &str = "writer_failed";

/// An answer being written.
pub(super) struct Writing {
    pieces: BoxStream<'static, Result<String, LlmError>>,
    begun: bool,
    /// Writes if the first one fails before it has said anything; taken once.
    stand_in: Option<Arc<dyn AnswerWriter>>,
    question: String,
    snippets: Vec<Snippet>,
    /// The way the answer takes.
    route: Route,
    stood_in: bool,
}

impl Writing {
    /// Lets `writer` answer `question` by `route`, and `stand_in` in its place if it fails before
    /// it has said anything.
    pub(super) fn begin(
        writer: &dyn AnswerWriter,
        stand_in: Option<Arc<dyn AnswerWriter>>,
        route: Route,
        question: &str,
        snippets: Vec<Snippet>,
    ) -> Self {
        let pieces = writer.write_by(&route, question, snippets.clone());
        let question = question.to_owned();
        Self { pieces, begun: false, stand_in, question, snippets, route, stood_in: false }
    }

    /// The next piece; none after the last.
    pub(super) async fn next(&mut self) -> Result<Option<String>, LlmError> {
        match self.pieces.next().await.transpose() {
            Err(failure) if !self.begun => self.instead(failure).await,
            outcome => {
                self.begun = true;
                outcome
            }
        }
    }

    /// All that is still to come. As nobody has seen anything of it, another writer can begin
    /// anew at any time.
    pub(super) async fn rest(&mut self) -> Result<String, LlmError> {
        let mut text = String::new();
        loop {
            match self.pieces.next().await.transpose() {
                Ok(Some(piece)) => text.push_str(&piece),
                Ok(None) => return Ok(text),
                Err(failure) => {
                    text = self.instead(failure).await?.unwrap_or_default();
                }
            }
        }
    }

    /// The first piece of the writer that stands in after `failure`, if there is one.
    async fn instead(&mut self, failure: LlmError) -> Result<Option<String>, LlmError> {
        let Some(writer) = self.stand_in.take() else {
            return Err(failure);
        };
        match failure {
            LlmError::Refused(_) => {
                error!(
                    "the best sentences are quoted, as the writer of answers refuses: {failure}"
                );
            }
            LlmError::Unavailable(_)
            | LlmError::TimedOut(_)
            | LlmError::Interrupted
            | LlmError::Busy { .. }
            | LlmError::Local(_) => {
                warn!("the best sentences are quoted, as the writer of answers failed: {failure}");
            }
        }
        self.route = Route { path: STAND_IN, reason: FAILED.to_owned() };
        self.stood_in = true;
        self.begun = true;
        self.pieces = writer.write(&self.question, std::mem::take(&mut self.snippets));
        self.pieces.next().await.transpose()
    }

    /// The way that the answer took, and whether another writer had to write it.
    pub(super) fn outcome(self) -> (Route, bool) {
        (self.route, self.stood_in)
    }
}
