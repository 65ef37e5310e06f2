//! Which writers the settings ask for.

use std::sync::Arc;

use activekg_storage::time::Clock;
use tracing::error;

use super::local::{Figures, Observer};
use super::{AnswerWriter, Local, RemoteWriter};
use crate::config::{Config, Llm};
use crate::models::Library;
use crate::observability::metrics::Metrics;
use crate::upstream::UpstreamError;

/// Who writes answers.
#[derive(Clone, Default)]
pub struct Writers {
    /// Writes them; none when answers are off.
    pub main: Option<Arc<dyn AnswerWriter>>,
    /// Writes those of which the main one has not said anything when it fails; none when such a
    /// question is to fail.
    pub stand_in: Option<Arc<dyn AnswerWriter>>,
}

impl Writers {
    /// The writers that the operator chose. `extractive` is the one that needs no model, `local`
    /// what [`local_writer`] gave.
    ///
    /// # Errors
    ///
    /// When the address or the key of a remote model cannot be used.
    pub fn new(
        config: &Config,
        extractive: Arc<dyn AnswerWriter>,
        local: Option<Local>,
        metrics: Arc<Metrics>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, UpstreamError> {
        match &config.llm {
            Llm::Off | Llm::Misconfigured(_) => Ok(Self::default()),
            Llm::Local(settings) => Ok(Self {
                stand_in: (settings.quote_on_failure && local.is_some()).then_some(extractive),
                main: local.map(|local| Arc::new(local) as Arc<dyn AnswerWriter>),
            }),
            Llm::Extractive => Ok(Self { main: Some(extractive), stand_in: None }),
            Llm::Remote(remote) => {
                let writer = RemoteWriter::new(remote, config.ask.snippet_len, metrics, clock)?;
                let stand_in = remote.quote_on_failure.then_some(extractive);
                Ok(Self { main: Some(Arc::new(writer)), stand_in })
            }
        }
    }
}

/// Loads the model in a file, if the settings name one by its path or by the name it is kept under. One that cannot be used turns answers off,
/// which the log says, and nothing else.
pub async fn local_writer(config: &Config, metrics: &Arc<Metrics>) -> Option<Local> {
    let Llm::Local(settings) = &config.llm else {
        return None;
    };
    let kept = settings.path.to_str().and_then(|name| name.parse().ok());
    let kept = kept.map(|name| Library::of(&config.store.data_dir).find(&name)).transpose();
    let path = match kept {
        Ok(kept) => kept.flatten().unwrap_or_else(|| settings.path.clone()),
        Err(fault) => {
            error!("answers are off, LLM_MODEL cannot be used: {fault}");
            return None;
        }
    };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let metrics = metrics.clone();
    let observer: Observer = Arc::new(move |figures: Option<&Figures>| match figures {
        Some(figures) => {
            let tokens = (figures.prompt_tokens as u64, figures.answer_tokens as u64);
            let latency = figures.first_token + figures.writing;
            metrics.llm.succeeded("local", &name, tokens, latency);
            let speed = Some(figures.tokens_per_second()).filter(|speed| *speed > 0.0);
            metrics.generation.answered(figures.first_token, speed);
        }
        None => metrics.llm.failed("local", &name),
    });
    let (run, waiting) = (settings.run, settings.waiting_max);
    let loading = tokio::task::spawn_blocking(move || Local::start(&path, run, waiting, observer));
    match loading.await {
        Ok(Ok(local)) => Some(local),
        Ok(Err(fault)) => {
            error!("answers are off, LLM_MODEL cannot be used: {fault}");
            None
        }
        Err(_) => {
            error!("answers are off, loading LLM_MODEL broke off");
            None
        }
    }
}
