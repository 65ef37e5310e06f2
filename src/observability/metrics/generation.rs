//! Answers written by a local model.

use std::time::Duration;

use prometheus::Histogram;

use super::register::Register;

/// Answers written by a local model.
pub struct GenerationMetrics {
    first_token: Histogram,
    speed: Histogram,
}

impl GenerationMetrics {
    pub(super) fn new(register: &mut Register<'_>) -> Result<Self, prometheus::Error> {
        let first_token = register.histogram(
            "activekg_llm_local_first_token_seconds",
            "From a question's turn at the local model to the first token of its answer",
            &[0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0],
        )?;
        let speed = register.histogram(
            "activekg_llm_local_tokens_per_second",
            "Tokens a second of the local model, after the first one",
            &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0],
        )?;
        Ok(Self { first_token, speed })
    }

    /// An answer is complete. One of a single token has no speed.
    pub fn answered(&self, first_token: Duration, tokens_per_second: Option<f64>) {
        self.first_token.observe(first_token.as_secs_f64());
        if let Some(speed) = tokens_per_second {
            self.speed.observe(speed);
        }
    }
}
