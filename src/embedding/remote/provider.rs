//! A service that embeds.

use std::sync::Arc;

use activekg_storage::time::Clock;
use activekg_storage::{StorageError, Store};

use super::budget::Budget;
use super::wire::Dialect;
use crate::embedding::{EmbedError, ModelInfo};
use crate::observability::metrics::UpstreamMetrics;
use crate::upstream::{Service, Upstream, UpstreamError};

/// Bytes of a text that are sent: beyond the window of any model, and a bound to what it costs.
const TEXT_MAX: usize = 32 * 1024;

/// What a service is and may cost.
#[derive(Clone)]
pub struct ProviderOptions {
    /// Its protocol.
    pub dialect: Dialect,
    /// Its address, its key and its limits.
    pub service: Service,
    /// What the vectors are.
    pub model: ModelInfo,
    /// The service is told how many numbers a vector is to have.
    pub names_dimensions: bool,
    /// Tokens a day; none is no limit.
    pub tokens_a_day: Option<u64>,
}

/// A service that embeds.
pub struct Provider {
    upstream: Upstream,
    dialect: Dialect,
    model: ModelInfo,
    dimensions: Option<usize>,
    budget: Budget,
    metrics: UpstreamMetrics,
    clock: Arc<dyn Clock>,
}

impl Provider {
    /// A client of the service; connects when first asked.
    ///
    /// # Errors
    ///
    /// When its address or its key cannot be used.
    pub fn new(
        options: ProviderOptions,
        metrics: UpstreamMetrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, UpstreamError> {
        let ProviderOptions { dialect, service, model, names_dimensions, tokens_a_day } = options;
        metrics.announce_budget(service.name);
        Ok(Self {
            upstream: Upstream::new(service, metrics.clone(), clock.clone())?,
            dialect,
            dimensions: names_dimensions.then_some(model.dim),
            model,
            budget: Budget::new(tokens_a_day),
            metrics,
            clock,
        })
    }

    /// What the vectors are.
    pub fn model(&self) -> &ModelInfo {
        &self.model
    }

    /// Keeps the tokens of the day in `store`. Blocks for one read.
    pub(super) fn keep_in(&self, store: Arc<Store>) -> Result<(), StorageError> {
        self.budget.keep_in(store, &format!("{} {}", self.upstream.name(), self.model.name))
    }

    /// The vectors of `texts`, in their order and of length 1, and the tokens they took: those
    /// that the service reports, or else a guess of one for four bytes.
    pub(super) async fn vectors(
        &self,
        texts: &[String],
    ) -> Result<(Vec<Vec<f32>>, u64), EmbedError> {
        let texts: Vec<&str> = texts.iter().map(|text| sent(text)).collect();
        let guess = texts.iter().map(|text| text.len() as u64 / 4 + 1).sum();
        if let Err(limit) = self.budget.reserve(guess, self.clock.now()) {
            self.metrics.budget_reached(self.upstream.name());
            return Err(EmbedError::Budget { limit });
        }
        let outcome = self.ask(&texts).await;
        let used = match &outcome {
            Ok((_, tokens)) => tokens.unwrap_or(guess),
            // A service does not charge for what it does not do.
            Err(_) => 0,
        };
        self.budget.correct(guess, used, self.clock.now());
        self.budget.write_down().await;
        self.metrics.embedded(self.upstream.name(), used);
        let (vectors, _) = outcome?;
        Ok((vectors, used))
    }

    async fn ask(&self, texts: &[&str]) -> Result<(Vec<Vec<f32>>, Option<u64>), EmbedError> {
        let request = self.dialect.request(&self.model.name, texts, self.dimensions);
        let answer = self.upstream.call(self.dialect.path(), &request).await;
        let answer = answer.map_err(EmbedError::Remote)?;
        let read = self.dialect.read(&answer, texts.len(), self.model.dim);
        read.map_err(|failure| EmbedError::Remote(self.upstream.error(failure)))
    }
}

/// The part of a text that is sent. Services refuse texts without anything in them.
fn sent(text: &str) -> &str {
    match &text[..text.floor_char_boundary(TEXT_MAX)] {
        "" => " ",
        text => text,
    }
}
