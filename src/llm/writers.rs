//! Which writers the settings ask for.

use std::sync::Arc;

use activekg_storage::time::Clock;
use tracing::error;

use super::local::{Figures, Level, Observer};
use super::{AnswerWriter, Local, RemoteWriter};
use crate::config::{Config, Cpu, Llm};
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

/// Loads the model in a file, if the settings name one by its path or by the name it is kept under.
/// One that cannot be used turns answers off, which the log says, and nothing else.
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
    let (run, waiting, limit) = (settings.run, settings.waiting_max, level(config.embedding.cpu));
    let load = move || Local::start(&path, run, waiting, limit, observer);
    let loading = tokio::task::spawn_blocking(load);
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

/// The best instructions that a local model may use where `ACTIVEKG_CPU` limits them. It has no
/// kernels with tiles.
fn level(cpu: Option<Cpu>) -> Level {
    match cpu {
        None => Level::BEST,
        Some(Cpu::Amx | Cpu::Avx512Vnni) => Level::Avx512,
        Some(Cpu::Avx2) => Level::Avx2,
        Some(Cpu::Portable) => Level::Portable,
    }
}

#[cfg(test)]
mod tests {
    use activekg_storage::time::UnixMicros;
    use candle_core::quantized::GgmlDType;
    use prometheus::Registry;

    use super::*;
    use crate::config::Options;
    use crate::llm::local::kernels::Kernels;
    use crate::llm::local::sample::Sample;

    #[tokio::test]
    async fn the_setting_for_instructions_limits_the_local_model_too() {
        let file = Sample::model("llama", GgmlDType::Q8_0).file();
        let path = file.path().to_str().unwrap();
        let metrics = Arc::new(Metrics::new(Registry::new(), UnixMicros(0)).unwrap());
        for (cpu, limit) in [
            ("portable", Level::Portable),
            ("avx2", Level::Avx2),
            ("avx512vnni", Level::Avx512),
            ("amx", Level::Avx512),
            ("", Level::BEST),
        ] {
            let lookup = |name: &str| {
                let value = match name {
                    "HOME" => "/home/somebody",
                    "LLM_BACKEND" => "local",
                    "LLM_MODEL" => path,
                    "LLM_THREADS" => "1",
                    "ACTIVEKG_CPU" => cpu,
                    _ => return None,
                };
                Some(value.to_owned())
            };
            let config = Config::new(&Options::from_lookup(lookup).unwrap()).unwrap();
            let local = local_writer(&config, &metrics).await.unwrap();
            assert_eq!(local.level(), Kernels::best(limit).level(), "{cpu}");
        }
    }
}
