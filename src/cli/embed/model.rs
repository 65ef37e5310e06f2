//! The embedding model of a command.

use std::path::PathBuf;
use std::sync::Arc;

use activekg_storage::ids::TenantId;
use activekg_storage::tables::graph::Slot;
use activekg_storage::time::{Clock, SystemClock};
use anyhow::{Context, bail};
use prometheus::Registry;
use tokio::runtime::Runtime;

use crate::config::options::ModelOptions;
use crate::config::{self, EmbeddingSource};
use crate::embedding::{Encoder, FixedEmbedder, ModelInfo};
use crate::models::{self, Library, Opened};
use crate::observability::metrics::Metrics;

/// The one that texts are sent for. Services see no tenants.
const TENANT: &str = "default";

/// A model as a function; what it computes or sends blocks.
pub(in crate::cli) enum Model {
    /// In this process, on all cores.
    Here(Box<Encoder>),
    /// At a service.
    Service(FixedEmbedder, Runtime),
}

impl Model {
    /// The model that the settings name.
    ///
    /// # Errors
    ///
    /// A setting whose value cannot be used, or a model that does not load.
    pub(in crate::cli) fn open(options: &ModelOptions) -> anyhow::Result<Self> {
        let mut notices = Vec::new();
        let settings = config::Embedding::of_command(options, &mut notices)?;
        for notice in notices {
            eprintln!("activekg: {notice}");
        }
        let data_dir = match &settings.source {
            EmbeddingSource::Kept(_) => {
                config::Store::new(&options.store, &mut Vec::new())?.data_dir
            }
            // These need none, and there may be none.
            EmbeddingSource::BuiltIn | EmbeddingSource::Folder(_) | EmbeddingSource::Remote(_) => {
                PathBuf::new()
            }
        };
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let metrics = Metrics::new(Registry::new(), clock.now()).context("register metrics")?;
        let runtime = crate::cli::runtime()?;
        let library = Library::of(&data_dir);
        let opened = runtime.block_on(async {
            let upstream = &metrics.upstream;
            models::prepare(&settings, &library, upstream, &clock).await?.open().await
        });
        Ok(match opened? {
            Opened::Here(encoder) => Self::Here(encoder),
            Opened::Remote(provider) => {
                let options = models::options(&settings);
                Self::Service(FixedEmbedder::remote(*provider, options, Slot::default()), runtime)
            }
        })
    }

    /// What the vectors are.
    pub(in crate::cli) fn info(&self) -> &ModelInfo {
        match self {
            Self::Here(encoder) => encoder.model(),
            Self::Service(embedder, _) => embedder.model(),
        }
    }

    /// The vectors of `texts`, in their order: of as much of each as the model reads.
    ///
    /// # Errors
    ///
    /// When the computation or the service fails for any of the texts.
    pub(in crate::cli) fn encode(&self, texts: &[&str]) -> anyhow::Result<Vec<Vec<f32>>> {
        match self {
            Self::Here(encoder) => Ok(encoder.encode(texts)?),
            Self::Service(embedder, runtime) => {
                let tenant = TenantId::new(TENANT).context("name the tenant")?;
                let texts = texts.iter().map(|text| (*text).to_owned()).collect();
                Ok(runtime.block_on(embedder.batch(&tenant, texts))?)
            }
        }
    }

    /// The parts of `text` that the model does not read with its start; see
    /// [`Encoder::further_windows`].
    ///
    /// # Errors
    ///
    /// For a model at a service: only the service knows where its window ends.
    pub(in crate::cli) fn further_windows(&self, text: &str) -> anyhow::Result<Vec<String>> {
        match self {
            Self::Here(encoder) => Ok(encoder.further_windows(text)?),
            Self::Service(..) => {
                bail!("a service cuts texts itself: with one, --windows can only be first")
            }
        }
    }
}
