//! The embedding model of a start: the one that the settings name, and no other than made the
//! vectors that are there.

use std::path::PathBuf;
use std::sync::Arc;

use activekg_storage::tables::graph::VECTORS;
use activekg_storage::time::Clock;
use activekg_storage::{Readable, Scan, StorageError, Store};
use anyhow::{Context, bail};
use tokio::task::JoinHandle;

use crate::config::{self, Config, EmbeddingProtocol, EmbeddingSource};
use crate::embedding::{
    Dialect, EmbedError, Embedder, EmbedderOptions, Encoder, EncoderOptions, Isa, ModelInfo,
    Precision, Provider, ProviderOptions,
};
use crate::models::{Kind, Library};
use crate::observability::metrics::UpstreamMetrics;
use crate::upstream::{Limits, Service};

/// Longest text a remote model is taken to read, in tokens; what is longer it cuts off itself.
const REMOTE_TOKENS: usize = 8192;

/// A model that is known and may still be loading.
pub(super) enum Prepared {
    Loading(ModelInfo, JoinHandle<Result<Encoder, EmbedError>>),
    Loaded(Box<Encoder>),
    Remote(Box<Provider>),
}

/// Begins to load the model that the settings name.
pub(super) async fn prepare(
    config: &Config,
    metrics: &UpstreamMetrics,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Prepared> {
    let options = encoder_options(&config.embedding);
    match &config.embedding.source {
        EmbeddingSource::BuiltIn => {
            let loading = tokio::task::spawn_blocking(move || Encoder::built_in(options));
            Ok(Prepared::Loading(ModelInfo::built_in(), loading))
        }
        EmbeddingSource::Folder(path) => load(path.clone(), options).await,
        EmbeddingSource::Kept(name) => {
            let kept = Library::of(&config.store.data_dir).get(name);
            let kept = kept.context("find the model (EMBEDDING_MODEL)")?;
            if kept.manifest.kind != Kind::Embedder {
                bail!("{name} writes answers and makes no vectors (EMBEDDING_MODEL)");
            }
            load(kept.loads, options).await
        }
        EmbeddingSource::Remote(remote) => {
            let options = provider_options(remote, &config.embedding.model);
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
pub(super) fn options(config: &Config) -> EmbedderOptions {
    let embedding = &config.embedding;
    EmbedderOptions {
        cache_entries: embedding.cache_size,
        cache_ttl: embedding.cache_ttl,
        queue_len: embedding.queue_texts,
        threads: embedding.threads.unwrap_or(0),
    }
}

impl Prepared {
    /// What its vectors will be.
    pub(super) fn info(&self) -> &ModelInfo {
        match self {
            Self::Loading(info, _) => info,
            Self::Loaded(encoder) => encoder.model(),
            Self::Remote(provider) => provider.model(),
        }
    }

    /// The embedder, once the model is loaded.
    pub(super) async fn start(self, options: EmbedderOptions) -> anyhow::Result<Embedder> {
        let encoder = match self {
            Self::Remote(provider) => return Ok(Embedder::remote(*provider, options)),
            Self::Loaded(encoder) => *encoder,
            Self::Loading(_, loading) => {
                loading.await.context("load the model")?.context("load the model")?
            }
        };
        Embedder::start(encoder, options).context("start the embedder")
    }
}

/// Vectors of another model are there already.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the vectors in the data directory are of {found} ({found_dim} numbers each), and the settings name {named} \
     ({named_dim} numbers each); vectors of two models do not compare. Set EMBEDDING_MODEL back to {found}, or start \
     with another data directory and write the nodes there, which embeds them anew"
)]
pub(crate) struct OtherModel {
    found: String,
    found_dim: usize,
    named: String,
    named_dim: usize,
}

/// Refuses a store whose vectors another model made. Each holds its model's name; as no start
/// lets two models into one store, the first one speaks for all.
pub(super) fn refuse_others(store: &Store, model: &ModelInfo) -> anyhow::Result<()> {
    let first = first_vector(store).context("read the model of the vectors")?;
    let Some((found, found_dim)) = first else {
        return Ok(());
    };
    if found == model.name && found_dim == model.dim {
        return Ok(());
    }
    let (named, named_dim) = (model.name.clone(), model.dim);
    Err(OtherModel { found, found_dim, named, named_dim }.into())
}

fn first_vector(store: &Store) -> Result<Option<(String, usize)>, StorageError> {
    let tx = store.read()?;
    let Some(row) = tx.scan(&VECTORS, Scan::all())?.next() else {
        return Ok(None);
    };
    let (_, vector) = row?;
    Ok(Some((vector.model, vector.values.len())))
}
