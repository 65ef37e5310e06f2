//! A model in a file that writes answers.

use std::path::PathBuf;
use std::thread::available_parallelism;

use super::options::LlmOptions;
use super::{Ask, ConfigError, read};
use crate::llm::local::{Sampling, Settings};

/// A model in a file that writes answers.
#[derive(Debug, Clone)]
pub struct LocalLlm {
    /// The GGUF file.
    pub path: PathBuf,
    /// How it is run.
    pub run: Settings,
    /// Questions that may wait while it answers one.
    pub waiting_max: usize,
    /// When the model fails before it has said anything, the best sentences are quoted instead;
    /// otherwise the question fails.
    pub quote_on_failure: bool,
}

impl LocalLlm {
    /// The settings of a local model, which are checked even if none is `wanted`.
    pub(super) fn new(
        options: &LlmOptions,
        ask: &Ask,
        wanted: bool,
    ) -> Result<Option<Self>, ConfigError> {
        let LlmOptions {
            llm_model,
            llm_context,
            llm_threads,
            llm_queue,
            llm_temperature,
            llm_top_p,
            llm_seed,
            ..
        } = options;
        let cores = available_parallelism().map_or(1, usize::from);
        let sampling = Sampling {
            temperature: read::number("LLM_TEMPERATURE", llm_temperature, 0.0..=2.0)?
                .unwrap_or(0.1),
            top_p: read::number("LLM_TOP_P", llm_top_p, 0.01..=1.0)?.unwrap_or(0.95),
            seed: read::number("LLM_SEED", llm_seed, 0..=u64::MAX)?.unwrap_or(0),
        };
        let run = Settings {
            context: read::number("LLM_CONTEXT", llm_context, 256..=1 << 20)?.unwrap_or(4096),
            max_tokens: ask.max_tokens as usize,
            sampling,
            snippet_chars: ask.snippet_len,
            threads: read::number("LLM_THREADS", llm_threads, 1..=1024)?.unwrap_or(cores),
        };
        let waiting_max = read::number("LLM_QUEUE", llm_queue, 0..=10_000)?.unwrap_or(8);
        if !wanted {
            return Ok(None);
        }
        let Some(path) = read::text(llm_model) else {
            let fault = "with LLM_BACKEND=local it names the model: the path of a GGUF file";
            return Err(ConfigError::new("LLM_MODEL", fault));
        };
        Ok(Some(Self { path: PathBuf::from(path), run, waiting_max, quote_on_failure: false }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};
    use super::super::{Config, Llm};
    use super::*;

    fn local(variables: &[(&str, &str)]) -> LocalLlm {
        let file = [("LLM_BACKEND", "local"), ("LLM_MODEL", "/srv/model.gguf")];
        let Config { llm, .. } = config(&[&file, variables].concat()).unwrap();
        let Llm::Local(local) = llm else { panic!("a local model is wanted") };
        local
    }

    #[test]
    fn a_local_model_needs_a_file_and_nothing_else() {
        let default = local(&[]);
        assert_eq!(default.path.to_str(), Some("/srv/model.gguf"));
        assert_eq!((default.run.context, default.run.max_tokens), (4096, 256));
        assert_eq!((default.waiting_max, default.quote_on_failure), (8, false));
        let set = local(&[
            ("LLM_CONTEXT", "1024"),
            ("LLM_THREADS", "3"),
            ("LLM_QUEUE", "0"),
            ("LLM_TEMPERATURE", "0"),
            ("LLM_TOP_P", "0.5"),
            ("LLM_SEED", "7"),
            ("ASK_MAX_TOKENS", "99"),
            ("LLM_ON_FAILURE", "extractive"),
        ]);
        assert_eq!((set.run.context, set.run.threads, set.run.max_tokens), (1024, 3, 99));
        assert_eq!(set.run.sampling, Sampling { temperature: 0.0, top_p: 0.5, seed: 7 });
        assert_eq!((set.waiting_max, set.quote_on_failure), (0, true));
        assert!(fault(&[("LLM_BACKEND", "local")]).starts_with("LLM_MODEL: "));
        assert!(fault(&[("LLM_TEMPERATURE", "3")]).starts_with("LLM_TEMPERATURE: "));
        let off = [("LLM_BACKEND", "local"), ("LLM_MODEL", "m"), ("LLM_ENABLED", "false")];
        assert!(matches!(config(&off).unwrap().llm, Llm::Off));
    }
}
