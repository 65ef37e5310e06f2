//! Vectors of nodes and queries.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::answers::{address_of, is_open_line};
use super::options::{EmbeddingOptions, LlmOptions, ModelOptions};
use super::{ConfigError, Secret, read};
use crate::embedding::Windows;
use crate::models::ModelName;

/// The model compiled into the binary, by the names it goes under.
const BUILT_IN: [&str; 2] = ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"];

const OPENAI_URL: &str = "https://api.openai.com/v1";
const OPENAI_MODEL: &str = "text-embedding-3-small";
const OLLAMA_URL: &str = "http://127.0.0.1:11434";
const OLLAMA_MODEL: &str = "nomic-embed-text";

/// Numbers in a vector of models that are known, by their names without a tag.
const DIMENSIONS: [(&str, usize); 9] = [
    ("text-embedding-3-small", 1536),
    ("text-embedding-3-large", 3072),
    ("text-embedding-ada-002", 1536),
    ("nomic-embed-text", 768),
    ("mxbai-embed-large", 1024),
    ("snowflake-arctic-embed", 1024),
    ("bge-m3", 1024),
    ("bge-large", 1024),
    ("all-minilm", 384),
];

/// Vectors of nodes and queries.
#[derive(Clone)]
pub struct Embedding {
    /// The name of the embedder, as reported.
    pub backend: String,
    /// The name of the model, as typed and reported.
    pub model: String,
    /// Where the model computes.
    pub source: EmbeddingSource,
    /// The arithmetic of the encoder.
    pub precision: Precision,
    /// The instructions of the encoder; `None` is the best this processor has.
    pub cpu: Option<Cpu>,
    /// Creates answer before the node is embedded.
    pub asynchronous: bool,
    /// The longest a create waits for its embedding when it waits.
    pub sync_wait: Duration,
    /// Most queued nodes; `None` is no limit.
    pub queue_max_depth: Option<u64>,
    /// Most queued nodes of one tenant; `None` is no limit.
    pub tenant_max_pending: Option<u64>,
    /// What becomes of texts that are longer than the model reads.
    pub windows: Windows,
    /// Labelled properties go before the text of resumes and jobs.
    pub prefix_enabled: bool,
    /// Queries whose vectors are kept in memory.
    pub cache_size: usize,
    /// How long they are; `None` is until there is no room.
    pub cache_ttl: Option<Duration>,
    /// Queries in line for the model before one is refused, and texts before their jobs wait.
    pub queue_texts: usize,
    /// Threads that embed; `None` is one for each core.
    pub threads: Option<usize>,
    /// Nodes are embedded as they are created.
    pub auto_embed_on_create: bool,
    /// The version stamped into props.
    pub extraction_version: String,
    /// What was given, to read it again with another model.
    given: Given,
}

/// The settings that a model is read from.
#[derive(Clone)]
struct Given {
    options: EmbeddingOptions,
    llm: LlmOptions,
}

/// A model by the settings that name it. The others, such as keys, timeouts and budgets, hold for
/// every model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelChoice {
    /// `EMBEDDING_BACKEND`.
    pub backend: String,
    /// `EMBEDDING_MODEL`.
    pub model: String,
    /// `EMBEDDING_BASE_URL`; it holds no password.
    pub base_url: Option<String>,
    /// `EMBEDDING_DIMENSIONS`.
    pub dimensions: Option<u32>,
}

/// Where a model computes.
#[derive(Clone)]
pub enum EmbeddingSource {
    /// Here; it is compiled in.
    BuiltIn,
    /// Here; it is read from a folder.
    Folder(PathBuf),
    /// Here; it is kept beside the data.
    Kept(ModelName),
    /// At a service.
    Remote(RemoteEmbedding),
}

/// A service that embeds.
#[derive(Clone)]
pub struct RemoteEmbedding {
    /// Its protocol.
    pub protocol: EmbeddingProtocol,
    /// Its address, without a slash at the end; it may hold a password.
    pub base_url: Secret,
    /// Its key; local services need none.
    pub key: Option<Secret>,
    /// Numbers in a vector.
    pub dimensions: usize,
    /// The operator set their number, so that the service is to be told.
    pub names_dimensions: bool,
    /// Longest time for a request, all attempts together.
    pub timeout: Duration,
    /// Tokens a day; `None` is no limit.
    pub tokens_a_day: Option<u64>,
}

/// How a service is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EmbeddingProtocol {
    /// As OpenAI.
    OpenAi,
    /// As Ollama.
    Ollama,
}

/// The arithmetic of the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// The fastest this processor has.
    Auto,
    /// 32-bit floats throughout.
    F32,
}

/// Instructions that an encoder can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cpu {
    /// Tiles.
    Amx,
    /// AVX-512 with VNNI.
    Avx512Vnni,
    /// AVX2.
    Avx2,
    /// What every processor has.
    Portable,
}

impl Embedding {
    /// What the settings of a command mean that embeds without a server; remarks go to `notices`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting whose value cannot be used.
    pub fn of_command(
        options: &ModelOptions,
        notices: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let ModelOptions {
            backend,
            model,
            base_url,
            dimensions,
            token_budget,
            timeout_ms,
            openai_api_key,
            openai_base_url,
            precision,
            cpu,
            store: _,
        } = options.clone();
        let embedding = EmbeddingOptions {
            embedding_backend: backend,
            embedding_model: model,
            embedding_base_url: base_url,
            embedding_dimensions: dimensions,
            embedding_token_budget: token_budget,
            embedding_timeout_ms: timeout_ms,
            embedding_precision: precision,
            cpu,
            ..EmbeddingOptions::default()
        };
        let llm = LlmOptions { openai_api_key, openai_base_url, ..LlmOptions::default() };
        Self::new(&embedding, &llm, notices)
    }

    pub(super) fn new(
        options: &EmbeddingOptions,
        llm: &LlmOptions,
        notices: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let (backend, model, source) = source(options, llm, notices)?;
        let EmbeddingOptions {
            embedding_backend: _,
            embedding_model: _,
            embedding_base_url: _,
            embedding_dimensions: _,
            embedding_token_budget: _,
            embedding_timeout_ms: _,
            embedding_precision,
            cpu,
            embedding_async,
            embedding_sync_wait_ms,
            embedding_queue_max_depth,
            embedding_tenant_max_pending,
            embedding_prefix_enabled,
            embedding_windows,
            embedding_cache_size,
            embedding_cache_ttl,
            embedding_queue_texts,
            embedding_threads,
            embedding_worker_concurrency,
            auto_embed_on_create,
            extraction_version,
        } = options;
        let windows = read::word("EMBEDDING_WINDOWS", embedding_windows, &Windows::NAMES)?;
        let is_remote = matches!(source, EmbeddingSource::Remote(_));
        if let Some(windows) = windows.filter(|&windows| is_remote && windows != Windows::First) {
            notices.push(format!(
                "EMBEDDING_WINDOWS={windows} has no effect: the embedding service cuts texts itself"
            ));
        }
        // Found by measured retrieval: see the page on models.
        let windows = windows.unwrap_or(if is_remote { Windows::First } else { Windows::Best });
        let precisions = [("auto", Precision::Auto), ("f32", Precision::F32)];
        let cpus = [
            ("amx", Cpu::Amx),
            ("avx512vnni", Cpu::Avx512Vnni),
            ("avx2", Cpu::Avx2),
            ("portable", Cpu::Portable),
        ];
        // Half an hour: no client waits longer.
        let wait =
            read::number("EMBEDDING_SYNC_WAIT_MS", embedding_sync_wait_ms, 0..=1_800_000_u64)?;
        let size = read::number("EMBEDDING_CACHE_SIZE", embedding_cache_size, 0..=1_000_000)?;
        // A year: the process does not live longer.
        let ttl = read::number("EMBEDDING_CACHE_TTL", embedding_cache_ttl, 0..=31_536_000_u64)?;
        let queue = read::number("EMBEDDING_QUEUE_TEXTS", embedding_queue_texts, 1..=1_000_000)?;
        let threads = |setting, raw| read::number(setting, raw, 0..=1024_usize);
        let workers = threads("EMBEDDING_WORKER_CONCURRENCY", embedding_worker_concurrency)?;
        let threads = threads("EMBEDDING_THREADS", embedding_threads)?.or(workers);
        let cap = |setting, raw, default| {
            let cap = read::number(setting, raw, 0..=u64::MAX)?.unwrap_or(default);
            Ok::<_, ConfigError>((cap > 0).then_some(cap))
        };
        Ok(Self {
            backend: backend.to_owned(),
            model,
            source,
            precision: read::word("EMBEDDING_PRECISION", embedding_precision, &precisions)?
                .unwrap_or(Precision::Auto),
            cpu: read::word("ACTIVEKG_CPU", cpu, &cpus)?,
            asynchronous: read::boolean("EMBEDDING_ASYNC", embedding_async, false)?,
            sync_wait: Duration::from_millis(wait.unwrap_or(10_000)),
            queue_max_depth: cap("EMBEDDING_QUEUE_MAX_DEPTH", embedding_queue_max_depth, 5000)?,
            tenant_max_pending: cap(
                "EMBEDDING_TENANT_MAX_PENDING",
                embedding_tenant_max_pending,
                2000,
            )?,
            prefix_enabled: read::boolean(
                "EMBEDDING_PREFIX_ENABLED",
                embedding_prefix_enabled,
                false,
            )?,
            windows,
            cache_size: size.unwrap_or(4096),
            cache_ttl: Some(Duration::from_secs(ttl.unwrap_or(3600))).filter(|ttl| !ttl.is_zero()),
            queue_texts: queue.unwrap_or(1024),
            threads: threads.filter(|&threads| threads > 0),
            auto_embed_on_create: read::boolean(
                "AUTO_EMBED_ON_CREATE",
                auto_embed_on_create,
                true,
            )?,
            extraction_version: read::text(extraction_version).unwrap_or("1.0.0").to_owned(),
            given: Given { options: options.clone(), llm: llm.clone() },
        })
    }

    /// The model that these settings name. An address with a password is left out.
    #[must_use]
    pub fn choice(&self) -> ModelChoice {
        let options = &self.given.options;
        let base_url = Secret::given(&options.embedding_base_url);
        let base_url = base_url.filter(|url| !url.reveal().contains('@'));
        let dimensions = match &self.source {
            EmbeddingSource::Remote(remote) => u32::try_from(remote.dimensions).ok(),
            EmbeddingSource::BuiltIn | EmbeddingSource::Folder(_) | EmbeddingSource::Kept(_) => {
                None
            }
        };
        ModelChoice {
            backend: self.backend.clone(),
            model: self.model.clone(),
            base_url: base_url.map(|url| url.reveal().to_owned()),
            dimensions,
        }
    }

    /// The same settings with another model. A service of the backend that the settings name is
    /// reached at their address if the choice has none.
    ///
    /// # Errors
    ///
    /// As for settings that name it; also an address with a password, which would be stored.
    pub fn with_model(&self, choice: &ModelChoice) -> Result<Self, ConfigError> {
        let ModelChoice { backend, model, base_url, dimensions } = choice;
        if base_url.as_ref().is_some_and(|url| url.contains('@')) {
            let fault = "must not hold a password here; give the key as OPENAI_API_KEY";
            return Err(ConfigError::new("EMBEDDING_BASE_URL", fault));
        }
        let Given { mut options, llm } = self.given.clone();
        if base_url.is_some() || *backend != self.backend {
            options.embedding_base_url = base_url.clone().map(Secret::from);
        }
        options.embedding_backend = Some(backend.clone());
        options.embedding_model = Some(model.clone());
        options.embedding_dimensions = dimensions.map(|n| n.to_string());
        Self::new(&options, &llm, &mut Vec::new())
    }
}

/// Backend, model and where it computes.
fn source(
    options: &EmbeddingOptions,
    llm: &LlmOptions,
    notices: &mut Vec<String>,
) -> Result<(&'static str, String, EmbeddingSource), ConfigError> {
    const LOCAL: &str = "sentence-transformers";
    let backends = [(LOCAL, LOCAL), ("openai", "openai"), ("ollama", "ollama")];
    let backend =
        read::word("EMBEDDING_BACKEND", &options.embedding_backend, &backends)?.unwrap_or(LOCAL);
    let model = read::text(&options.embedding_model);
    let protocol = match backend {
        "openai" => EmbeddingProtocol::OpenAi,
        "ollama" => EmbeddingProtocol::Ollama,
        _ => {
            let model = model.unwrap_or(BUILT_IN[0]);
            let source = if BUILT_IN.contains(&model) {
                EmbeddingSource::BuiltIn
            } else if Path::new(model).is_absolute() || model.starts_with('.') {
                EmbeddingSource::Folder(PathBuf::from(model))
            } else if let Ok(name) = model.parse() {
                EmbeddingSource::Kept(name)
            } else {
                let fault = format!(
                    "{model:?} is neither {}, which is compiled in, nor the name of a model that was added, nor the path of a model's folder, which starts with / or .",
                    BUILT_IN[0]
                );
                return Err(ConfigError::new("EMBEDDING_MODEL", fault));
            };
            return Ok((backend, model.to_owned(), source));
        }
    };
    let (own_url, public_url, default_model) = match protocol {
        EmbeddingProtocol::OpenAi => {
            let own = ("OPENAI_BASE_URL", Secret::given(&llm.openai_base_url));
            (own, OPENAI_URL, OPENAI_MODEL)
        }
        EmbeddingProtocol::Ollama => (("", None), OLLAMA_URL, OLLAMA_MODEL),
    };
    let given = Secret::given(&options.embedding_base_url).map(|url| ("EMBEDDING_BASE_URL", url));
    let given = given.or_else(|| own_url.1.map(|url| (own_url.0, url)));
    let key = match protocol {
        EmbeddingProtocol::OpenAi => Secret::given(&llm.openai_api_key),
        EmbeddingProtocol::Ollama => None,
    };
    let base_url = match given {
        Some((setting, url)) => address_of(setting, &url)?,
        None if protocol == EmbeddingProtocol::OpenAi && key.is_none() => {
            let fault =
                "openai needs OPENAI_API_KEY, or EMBEDDING_BASE_URL for a service without keys";
            return Err(ConfigError::new("EMBEDDING_BACKEND", fault));
        }
        None => Secret::from(public_url.to_owned()),
    };
    if key.is_some() && is_open_line(&base_url) {
        notices.push(
            "the key for embeddings travels unencrypted: its address is http:// and not on this machine"
                .to_owned(),
        );
    }
    let model = model.unwrap_or(default_model);
    let set = read::number("EMBEDDING_DIMENSIONS", &options.embedding_dimensions, 1..=16_384)?;
    let bare = model.split(':').next().unwrap_or(model);
    let known = DIMENSIONS.iter().find(|(name, _)| *name == bare).map(|(_, n)| *n);
    let Some(dimensions) = set.or(known) else {
        let fault = format!("must be set for {model:?}: how many numbers its vectors have");
        return Err(ConfigError::new("EMBEDDING_DIMENSIONS", fault));
    };
    let timeout =
        read::number("EMBEDDING_TIMEOUT_MS", &options.embedding_timeout_ms, 1..=3_600_000_u64)?;
    let budget =
        read::number("EMBEDDING_TOKEN_BUDGET", &options.embedding_token_budget, 0..=u64::MAX)?;
    let remote = RemoteEmbedding {
        protocol,
        base_url,
        key,
        dimensions,
        names_dimensions: set.is_some() && set != known,
        timeout: Duration::from_millis(timeout.unwrap_or(30_000)),
        tokens_a_day: budget.filter(|tokens| *tokens > 0),
    };
    Ok((backend, model.to_owned(), EmbeddingSource::Remote(remote)))
}

#[cfg(test)]
mod tests;
