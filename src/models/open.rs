//! The embedding model that the settings name: compiled in, in a folder, kept here, or at a service.

use std::path::PathBuf;
use std::sync::Arc;

use activekg_storage::tables::graph::Slot;
use activekg_storage::time::Clock;
use anyhow::{Context, bail};
use tokio::task::JoinHandle;

use super::{Kind, Library};
use crate::config::{self, EmbeddingProtocol, EmbeddingSource};
use crate::embedding::{
    Dialect, EmbedError, EmbedderOptions, Encoder, EncoderOptions, FixedEmbedder, Isa, ModelInfo,
    Precision, Provider, ProviderOptions,
};
use crate::observability::metrics::UpstreamMetrics;
use crate::upstream::{Limits, Service};

/// Longest text a remote model is taken to read, in tokens; what is longer it cuts off itself.
const REMOTE_TOKENS: usize = 8192;

/// A model that is known and may still be loading.
pub(crate) enum Prepared {
    Loading(ModelInfo, JoinHandle<Result<Encoder, EmbedError>>),
    Loaded(Box<Encoder>),
    Remote(Box<Provider>),
}

/// A model that can be used.
pub(crate) enum Opened {
    Here(Box<Encoder>),
    Remote(Box<Provider>),
}

/// Begins to load the model that the settings name, which may be one kept in `library`.
///
/// # Errors
///
/// A model that is not there, is none, or does not load, and a service whose address or key cannot
/// be used. Of the model that is compiled in and of services more can go wrong later.
pub(crate) async fn prepare(
    settings: &config::Embedding,
    library: &Library,
    metrics: &UpstreamMetrics,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Prepared> {
    let options = encoder_options(settings);
    match &settings.source {
        EmbeddingSource::BuiltIn => {
            let loading = tokio::task::spawn_blocking(move || Encoder::built_in(options));
            Ok(Prepared::Loading(ModelInfo::built_in(), loading))
        }
        EmbeddingSource::Folder(path) => load(path.clone(), options).await,
        EmbeddingSource::Kept(name) => {
            let kept = library.get(name).context("find the model (EMBEDDING_MODEL)")?;
            if kept.manifest.kind != Kind::Embedder {
                bail!("{name} writes answers and makes no vectors (EMBEDDING_MODEL)");
            }
            load(kept.loads, options).await
        }
        EmbeddingSource::Remote(remote) => {
            let options = provider_options(remote, &settings.model);
            let provider = Provider::new(options, metrics.clone(), clock.clone());
            let provider = provider.context("set up the embedder (EMBEDDING_BASE_URL)")?;
            Ok(Prepared::Remote(Box::new(provider)))
        }
    }
}

/// Loads the model in `folder`. What it is shows only once it is read.
async fn load(folder: PathBuf, options: EncoderOptions) -> anyhow::Result<Prepared> {
    let named = folder.display().to_string();
    let loading = tokio::task::spawn_blocking(move || Encoder::open(&folder, options));
    let encoder = loading.await.context("load the model")?;
    let encoder =
        encoder.with_context(|| format!("load the model in {named} (EMBEDDING_MODEL)"))?;
    Ok(Prepared::Loaded(Box::new(encoder)))
}

fn encoder_options(embedding: &config::Embedding) -> EncoderOptions {
    let precision = match embedding.precision {
        config::Precision::F32 => Precision::F32,
        config::Precision::Auto => Precision::Auto,
    };
    let isa = embedding.cpu.map(|cpu| match cpu {
        config::Cpu::Amx => Isa::Amx,
        config::Cpu::Avx512Vnni => Isa::Avx512Vnni,
        config::Cpu::Avx2 => Isa::Avx2,
        config::Cpu::Portable => Isa::Portable,
    });
    EncoderOptions { precision, isa }
}

fn provider_options(remote: &config::RemoteEmbedding, model: &str) -> ProviderOptions {
    let config::RemoteEmbedding {
        protocol,
        base_url,
        key,
        dimensions,
        names_dimensions,
        timeout,
        tokens_a_day,
    } = remote.clone();
    let dialect = match protocol {
        EmbeddingProtocol::OpenAi => Dialect::OpenAi,
        EmbeddingProtocol::Ollama => Dialect::Ollama,
    };
    let limits =
        Limits { first_byte: timeout, silence: timeout, total: timeout, ..Limits::default() };
    ProviderOptions {
        dialect,
        service: Service {
            name: dialect.service(),
            base_url,
            key,
            limits,
            retries: Default::default(),
            breaker: Default::default(),
        },
        model: ModelInfo { name: model.to_owned(), dim: dimensions, max_tokens: REMOTE_TOKENS },
        names_dimensions,
        tokens_a_day,
    }
}

/// How much the embedder may hold and use.
pub(crate) fn options(settings: &config::Embedding) -> EmbedderOptions {
    EmbedderOptions {
        cache_entries: settings.cache_size,
        cache_ttl: settings.cache_ttl,
        queue_len: settings.queue_texts,
        threads: settings.threads.unwrap_or(0),
    }
}

impl Prepared {
    /// What its vectors will be.
    pub(crate) fn info(&self) -> &ModelInfo {
        match self {
            Self::Loading(info, _) => info,
            Self::Loaded(encoder) => encoder.model(),
            Self::Remote(provider) => provider.model(),
        }
    }

    /// The model, once it is loaded.
    ///
    /// # Errors
    ///
    /// When the model that is compiled in does not load.
    pub(crate) async fn open(self) -> anyhow::Result<Opened> {
        Ok(match self {
            Self::Remote(provider) => Opened::Remote(provider),
            Self::Loaded(encoder) => Opened::Here(encoder),
            Self::Loading(_, loading) => {
                let encoder = loading.await.context("load the model")?;
                Opened::Here(Box::new(encoder.context("load the model")?))
            }
        })
    }

    /// The embedder, once the model is loaded, whose vectors are kept in `slot`.
    ///
    /// # Errors
    ///
    /// As [`Prepared::open`]; also when the system gives no threads.
    pub(crate) async fn start(
        self,
        options: EmbedderOptions,
        slot: Slot,
    ) -> anyhow::Result<FixedEmbedder> {
        match self.open().await? {
            Opened::Remote(provider) => Ok(FixedEmbedder::remote(*provider, options, slot)),
            Opened::Here(encoder) => {
                FixedEmbedder::start(*encoder, options, slot).context("start the embedder")
            }
        }
    }
}
