//! Calls of a language model; these show in the JSON of `/metrics` only.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::{Map, Value};

use super::samples::Samples;

/// Backends and models come from the settings, so their number is small.
#[derive(Default)]
pub struct LlmMetrics {
    models: Mutex<BTreeMap<(String, String), Arc<Model>>>,
}

#[derive(Default)]
struct Model {
    calls: Mutex<Calls>,
    latency_ms: Samples,
}

#[derive(Default, Clone, Copy)]
struct Calls {
    success: u64,
    error: u64,
    input_tokens: u64,
    output_tokens: u64,
}

impl LlmMetrics {
    /// A call succeeded, with the tokens it read and wrote.
    pub fn succeeded(&self, backend: &str, model: &str, tokens: (u64, u64), latency: Duration) {
        let model = self.model(backend, model);
        model.latency_ms.add(latency.as_secs_f64() * 1e3);
        let mut calls = model.calls.lock().unwrap_or_else(PoisonError::into_inner);
        calls.success += 1;
        calls.input_tokens += tokens.0;
        calls.output_tokens += tokens.1;
    }

    /// A call failed.
    pub fn failed(&self, backend: &str, model: &str) {
        let model = self.model(backend, model);
        model.calls.lock().unwrap_or_else(PoisonError::into_inner).error += 1;
    }

    fn model(&self, backend: &str, model: &str) -> Arc<Model> {
        let mut models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        models.entry((backend.to_owned(), model.to_owned())).or_default().clone()
    }

    pub(super) fn json(
        &self,
        counters: &mut Map<String, Value>,
        histograms: &mut Map<String, Value>,
    ) {
        let models = self.models.lock().unwrap_or_else(PoisonError::into_inner);
        for ((backend, name), model) in models.iter() {
            let labels = format!("backend={backend},model={name}");
            let Calls { success, error, input_tokens, output_tokens } =
                *model.calls.lock().unwrap_or_else(PoisonError::into_inner);
            if error > 0 {
                counters.insert(format!("llm_requests_total[{labels},status=error]"), error.into());
            }
            counters.insert(format!("llm_requests_total[{labels},status=success]"), success.into());
            counters.insert(format!("llm_tokens_total[{labels},type=input]"), input_tokens.into());
            counters
                .insert(format!("llm_tokens_total[{labels},type=output]"), output_tokens.into());
            if let Some(summary) = model.latency_ms.summary() {
                histograms.insert(format!("llm_latency_ms[{labels}]"), summary);
            }
        }
    }
}
