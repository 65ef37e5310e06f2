//! One model answering one question at a time.

#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::{Duration, Instant};

use super::decoder::Decoder;
use super::gguf::{GgufError, ModelFile};
use super::kernels::Kernels;
use super::sampler::{Sampler, Sampling};
use super::speech::Speech;
use super::template::Template;
use super::vocabulary::{Pieces, Vocabulary};
use crate::llm::Snippet;
use crate::llm::prompt::{Prompt, STOPS};

/// How a model is run.
#[derive(Debug, Clone, Copy)]
pub struct Settings {
    /// Longest text, prompt and answer together, in tokens; a model made for less has less.
    pub context: usize,
    /// Longest answer, in tokens.
    pub max_tokens: usize,
    /// How tokens are chosen.
    pub sampling: Sampling,
    /// Longest text of a source, in characters.
    pub snippet_chars: usize,
    /// Threads that compute.
    pub threads: usize,
}

/// How an answer was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens of the answer.
    pub answer_tokens: usize,
    /// From the beginning to the first token of the answer.
    pub first_token: Duration,
    /// From the first token to the last.
    pub writing: Duration,
}

impl Figures {
    /// Tokens a second, once the first is there; 0 for an answer of one token.
    pub fn tokens_per_second(&self) -> f64 {
        let seconds = self.writing.as_secs_f64();
        if seconds > 0.0 { self.answer_tokens.saturating_sub(1) as f64 / seconds } else { 0.0 }
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    /// The question alone is longer than the model's text may be.
    #[error("the question does not fit the model's {0} tokens; raise LLM_CONTEXT or ask shorter")]
    TooLong(usize),
    /// Nobody waits for the answer any more.
    #[error("nobody waits for the answer")]
    Abandoned,
    /// The model computes nonsense.
    #[error("the model's scores are no numbers; its file may be damaged")]
    NoNumbers,
    /// The template of the model fails.
    #[error(transparent)]
    Model(#[from] GgufError),
}

/// A loaded model.
pub struct Generator {
    decoder: Decoder,
    vocabulary: Vocabulary,
    template: Template,
    settings: Settings,
}

impl Generator {
    /// Loads the model at `path`.
    ///
    /// # Errors
    ///
    /// When the file is no model that can be run.
    pub fn load(path: &Path, settings: Settings, kernels: Kernels) -> Result<Self, GgufError> {
        let file = ModelFile::open(path)?;
        let vocabulary = Vocabulary::read(&file.header.metadata)?;
        let template = Template::read(&file.header.metadata, &vocabulary)?;
        let decoder = Decoder::load(&file, kernels, settings.threads)?;
        if decoder.vocabulary() < vocabulary.n_tokens() {
            let (rows, tokens) = (decoder.vocabulary(), vocabulary.n_tokens());
            let reason = format!("it has {tokens} tokens and embeddings for {rows}");
            return Err(GgufError::Damaged(reason));
        }
        let context = settings.context.min(decoder.shape().context);
        let max_tokens = settings.max_tokens.min(context / 2);
        let settings = Settings { context, max_tokens, ..settings };
        Ok(Self { decoder, vocabulary, template, settings })
    }

    /// How it is run; the context is the model's own if that is shorter.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Answers `question` from `snippets`, best first. `say` gets the text piece by piece and
    /// says whether anybody still waits. Sources that do not fit are dropped, the last first; the
    /// question never is.
    ///
    /// # Errors
    ///
    /// See [`GenerateError`].
    pub fn answer(
        &mut self,
        question: &str,
        snippets: Vec<Snippet>,
        say: impl FnMut(String) -> bool,
    ) -> Result<Figures, GenerateError> {
        let started = Instant::now();
        let prompt = self.prompt(question, snippets)?;
        self.complete(&prompt, started, say)
    }

    /// Goes on with `text`, without a template, rules or sources: for measurements.
    ///
    /// # Errors
    ///
    /// See [`GenerateError`].
    pub fn go_on(
        &mut self,
        text: &str,
        say: impl FnMut(String) -> bool,
    ) -> Result<Figures, GenerateError> {
        let started = Instant::now();
        let mut pieces = Pieces::default();
        pieces.template(text);
        let prompt = self.vocabulary.encode(&pieces);
        if prompt.is_empty() || prompt.len() > self.room() {
            return Err(GenerateError::TooLong(self.room()));
        }
        self.complete(&prompt, started, say)
    }

    /// Tokens that a prompt may have.
    fn room(&self) -> usize {
        self.settings.context - self.settings.max_tokens
    }

    /// The tokens that ask `question` from as many of `snippets` as fit.
    fn prompt(
        &self,
        question: &str,
        mut snippets: Vec<Snippet>,
    ) -> Result<Vec<u32>, GenerateError> {
        let mut chars = self.settings.snippet_chars;
        loop {
            let prompt = Prompt::new(question, &snippets, chars);
            let tokens = self.vocabulary.encode(&self.template.render(&prompt)?);
            if tokens.len() <= self.room() {
                return Ok(tokens);
            }
            match &mut snippets[..] {
                [] => return Err(GenerateError::TooLong(self.room())),
                // Of a single source some part may fit.
                [_] if chars > 1 => chars /= 2,
                _ => {
                    snippets.pop();
                }
            }
        }
    }

    fn complete(
        &mut self,
        prompt: &[u32],
        started: Instant,
        mut say: impl FnMut(String) -> bool,
    ) -> Result<Figures, GenerateError> {
        self.decoder.forget();
        let Self { decoder, vocabulary, settings, .. } = self;
        let mut sampler = Sampler::new(settings.sampling);
        let mut speech = Speech::new(&STOPS);
        let mut figures = Figures {
            prompt_tokens: prompt.len(),
            answer_tokens: 0,
            first_token: Duration::ZERO,
            writing: Duration::ZERO,
        };
        let mut next;
        let mut reading = prompt;
        while figures.answer_tokens < settings.max_tokens {
            let scores = decoder.read(reading, || say(String::new()));
            let scores = scores.ok_or(GenerateError::Abandoned)?;
            // Embeddings beyond the vocabulary are padding.
            let token = sampler.choose(&scores[..vocabulary.n_tokens()]);
            let token = token.ok_or(GenerateError::NoNumbers)?;
            figures.answer_tokens += 1;
            if figures.answer_tokens == 1 {
                figures.first_token = started.elapsed();
            }
            if vocabulary.ends(token) {
                break;
            }
            let text = speech.push(vocabulary.spoken(token));
            if !text.is_empty() && !say(text) {
                return Err(GenerateError::Abandoned);
            }
            if speech.stopped() {
                break;
            }
            next = [token];
            reading = &next;
        }
        figures.writing = started.elapsed().saturating_sub(figures.first_token);
        let rest = speech.finish();
        if !rest.is_empty() && !say(rest) {
            return Err(GenerateError::Abandoned);
        }
        Ok(figures)
    }
}
