//! Vectors of nodes and queries.

use std::time::Duration;

use super::options::EmbeddingOptions;
use super::{ConfigError, read};

/// The model compiled into the binary, by the names it goes under.
const BUILT_IN: [&str; 2] = ["all-MiniLM-L6-v2", "sentence-transformers/all-MiniLM-L6-v2"];

/// Vectors of nodes and queries.
#[derive(Debug, Clone)]
pub struct Embedding {
    /// The name of the embedder, as reported.
    pub backend: String,
    /// The name of the model, as typed and reported.
    pub model: String,
    /// The arithmetic of the encoder.
    pub precision: Precision,
    /// Creates answer before the node is embedded.
    pub asynchronous: bool,
    /// The longest a create waits for its embedding when it waits.
    pub sync_wait: Duration,
    /// Most queued nodes; `None` is no limit.
    pub queue_max_depth: Option<u64>,
    /// Most queued nodes of one tenant; `None` is no limit.
    pub tenant_max_pending: Option<u64>,
    /// Labelled properties go before the text of resumes and jobs.
    pub prefix_enabled: bool,
    /// Nodes are embedded as they are created.
    pub auto_embed_on_create: bool,
    /// The version stamped into props.
    pub extraction_version: String,
}

/// The arithmetic of the encoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Precision {
    /// The fastest this processor has.
    Auto,
    /// 32-bit floats throughout.
    F32,
}

impl Embedding {
    pub(super) fn new(options: &EmbeddingOptions) -> Result<Self, ConfigError> {
        let EmbeddingOptions {
            embedding_backend,
            embedding_model,
            embedding_precision,
            embedding_async,
            embedding_sync_wait_ms,
            embedding_queue_max_depth,
            embedding_tenant_max_pending,
            embedding_prefix_enabled,
            embedding_windows,
            auto_embed_on_create,
            extraction_version,
        } = options;
        let backend = read::text(embedding_backend).unwrap_or("sentence-transformers");
        if backend != "sentence-transformers" {
            let fault =
                format!("{backend:?} is not in this build; sentence-transformers is compiled in");
            return Err(ConfigError::new("EMBEDDING_BACKEND", fault));
        }
        let model = read::text(embedding_model).unwrap_or(BUILT_IN[0]);
        if !BUILT_IN.contains(&model) {
            let fault = format!("{model:?} is not in this build; {} is compiled in", BUILT_IN[0]);
            return Err(ConfigError::new("EMBEDDING_MODEL", fault));
        }
        match read::text(embedding_windows) {
            None | Some("first") => {}
            Some(other) => {
                let fault = format!(
                    "{other:?} is not in this build; first embeds the start of a text, as long as the model reads"
                );
                return Err(ConfigError::new("EMBEDDING_WINDOWS", fault));
            }
        }
        let precisions = [("auto", Precision::Auto), ("f32", Precision::F32)];
        // Half an hour: no client waits longer.
        let wait =
            read::number("EMBEDDING_SYNC_WAIT_MS", embedding_sync_wait_ms, 0..=1_800_000_u64)?;
        let cap = |setting, raw, default| {
            let cap = read::number(setting, raw, 0..=u64::MAX)?.unwrap_or(default);
            Ok::<_, ConfigError>((cap > 0).then_some(cap))
        };
        Ok(Self {
            backend: backend.to_owned(),
            model: model.to_owned(),
            precision: read::word("EMBEDDING_PRECISION", embedding_precision, &precisions)?
                .unwrap_or(Precision::Auto),
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
            auto_embed_on_create: read::boolean(
                "AUTO_EMBED_ON_CREATE",
                auto_embed_on_create,
                true,
            )?,
            extraction_version: read::text(extraction_version).unwrap_or("1.0.0").to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};

    #[test]
    fn zero_takes_a_cap_away() {
        let config =
            config(&[("EMBEDDING_QUEUE_MAX_DEPTH", "0"), ("EMBEDDING_TENANT_MAX_PENDING", "7")])
                .unwrap();
        assert_eq!(config.embedding.queue_max_depth, None);
        assert_eq!(config.embedding.tenant_max_pending, Some(7));
    }

    #[test]
    fn what_this_build_lacks_is_said() {
        let text = fault(&[("EMBEDDING_WINDOWS", "mean")]);
        assert!(text.starts_with("EMBEDDING_WINDOWS: \"mean\" is not in this build"), "{text}");
        assert!(
            fault(&[("EMBEDDING_BACKEND", "ollama")])
                .starts_with("EMBEDDING_BACKEND: \"ollama\" is not")
        );
        assert!(fault(&[("EMBEDDING_MODEL", "/models/other")]).starts_with("EMBEDDING_MODEL: "));
    }
}
