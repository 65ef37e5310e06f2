//! The same answer, piece by piece.

use activekg_storage::ids::NodeId;
use futures_util::Stream;
use futures_util::stream;

use super::pipeline::{Prepared, Ready};
use super::writing::Writing;
use super::{Answer, Ask, Error, Question};
use crate::graph::View;

/// A step of an answer. The last is [`Event::Final`] or [`Event::Failed`].
#[derive(Debug)]
pub enum Event {
    /// The sources are chosen; comes once, unless the question is refused.
    Context {
        /// The sources, in the order of their indexes.
        nodes: Vec<NodeId>,
        /// Score of the best hit.
        top_similarity: f64,
    },
    /// The text goes on.
    Token(String),
    /// The text is complete, or the question was refused.
    Final(Box<Answer>),
    /// There will be no answer.
    Failed(Error),
}

/// Where an answer stands between two events.
enum State {
    Asked(View, Question),
    Written { ready: Box<Ready>, text: String },
    Writing { ready: Box<Ready>, text: String, writing: Box<Writing> },
    Complete { ready: Box<Ready>, text: String },
    Over,
}

impl Ask {
    /// Answers `question` from what `view` may see. Work goes on as the stream is read, and
    /// stops when it is dropped.
    ///
    /// # Errors
    ///
    /// [`Error::Off`]; all others come as [`Event::Failed`].
    pub fn stream(
        &self,
        view: View,
        question: Question,
    ) -> Result<impl Stream<Item = Event> + Send + use<>, Error> {
        if self.parts.writers.main.is_none() {
            return Err(Error::Off);
        }
        let ask = self.clone();
        Ok(stream::unfold(State::Asked(view, question), move |state| {
            let ask = ask.clone();
            async move {
                match ask.next(state).await {
                    Ok(step) => step,
                    Err(error) => Some((Event::Failed(error), State::Over)),
                }
            }
        }))
    }

    /// The next event and what follows it.
    async fn next(&self, state: State) -> Result<Option<(Event, State)>, Error> {
        let (ready, text, cached) = match state {
            State::Over => return Ok(None),
            State::Asked(view, question) => {
                let step = match self.parts.prepare(&view, &question).await? {
                    Prepared::Refused(answer) => (Event::Final(Box::new(answer)), State::Over),
                    Prepared::Ready(ready) => (ready.context(), self.begin(ready)),
                };
                return Ok(Some(step));
            }
            State::Written { ready, text } => {
                return Ok(Some((Event::Token(text.clone()), State::Complete { ready, text })));
            }
            State::Writing { ready, mut text, mut writing } => {
                if let Some(piece) = writing.next().await? {
                    text.push_str(&piece);
                    return Ok(Some((
                        Event::Token(piece),
                        State::Writing { ready, text, writing },
                    )));
                }
                (Box::new(ready.written(*writing)), text, false)
            }
            State::Complete { ready, text } => (ready, text, true),
        };
        let answer = self.parts.finish(*ready, &text, cached).await?;
        Ok(Some((Event::Final(Box::new(answer)), State::Over)))
    }

    /// Takes up the text that was written before, or starts writing.
    fn begin(&self, ready: Box<Ready>) -> State {
        match self.parts.written_before(&ready) {
            Some(text) => State::Written { ready, text: text.as_ref().to_owned() },
            None => {
                let writing = Box::new(self.parts.write(&ready));
                State::Writing { ready, text: String::new(), writing }
            }
        }
    }
}
