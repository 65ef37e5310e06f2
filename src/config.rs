//! What the settings mean: [`Options`] (what was typed) becomes [`Config`] (checked together).
//!
//! A fault names the setting and what is wrong with its value, in one line. An empty value counts
//! as unset. What goes on although it deserves a word is collected in [`Config::notices`], because
//! logs are not yet there when settings are read.

mod answers;
mod auth;
mod backup;
mod connectors;
mod documents;
mod embedding;
mod fetch;
mod keys;
mod limits;
mod local_llm;
mod observability;
pub mod options;
mod purge;
mod read;
mod resp;
mod search;
mod secret;
mod server;
mod shown;
mod store;
mod triggers;
mod webhooks;

use std::time::Duration;

pub use answers::{Ask, FastRoute, Llm, LlmService, RemoteLlm, Route};
pub use auth::{Auth, AuthzMode, Issuer, Jwt, JwtAlgorithm, JwtKey, KeySource};
pub use backup::{Backup, Place};
pub use connectors::{ConnectorWorker, Connectors};
pub use documents::Documents;
pub use embedding::{
    Cpu, Embedding, EmbeddingProtocol, EmbeddingSource, ModelChoice, Precision, RemoteEmbedding,
};
pub use fetch::Fetch;
pub(crate) use keys::read_key;
pub use keys::{Keys, KeysError};
pub use limits::{Bucket, Cors, Limits, RateLimits};
pub use local_llm::LocalLlm;
pub use observability::{LogLevel, Observability};
pub use options::Options;
pub use purge::{BATCH_MAX, Purge};
pub use resp::Resp;
pub use search::{Distance, Hnsw, IvfFlat, Search};
pub use secret::Secret;
pub use server::Server;
pub use shown::{Shown, fingerprint, masked};
pub use store::Store;
pub use triggers::{Triggers, Webhook};
pub use webhooks::{PushTokens, Webhooks};

/// Settings that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A setting whose value cannot be used.
    #[error("{setting}: {fault}")]
    Setting {
        /// The variable of the setting; its flag is the same word (`activekg serve --help`).
        setting: &'static str,
        /// What is wrong, and what would be right.
        fault: String,
    },
    /// The keys that seal secrets cannot be used.
    #[error("Failed to load connector encryption keys: {0}")]
    Keys(#[from] KeysError),
}

impl ConfigError {
    pub(crate) fn new(setting: &'static str, fault: impl Into<String>) -> Self {
        let fault = fault.into();
        Self::Setting { setting, fault }
    }
}

/// Everything the process is told at its start. Nothing reads the environment later.
#[derive(Clone)]
pub struct Config {
    /// Address and version.
    pub server: Server,
    /// Where data lives.
    pub store: Store,
    /// Backups.
    pub backup: Backup,
    /// Files.
    pub documents: Documents,
    /// Vectors of nodes and queries.
    pub embedding: Embedding,
    /// Retrieval.
    pub search: Search,
    /// Answers.
    pub ask: Ask,
    /// The writer of answers.
    pub llm: Llm,
    /// Tokens and scopes.
    pub auth: Auth,
    /// Keys that seal secrets.
    pub keys: Keys,
    /// Connectors.
    pub connectors: Connectors,
    /// Purging what was deleted.
    pub purge: Purge,
    /// Sizes and rates.
    pub limits: Limits,
    /// Browsers of other origins.
    pub cors: Cors,
    /// The listener for Redis clients.
    pub resp: Resp,
    /// What is fetched for nodes.
    pub fetch: Fetch,
    /// Triggers.
    pub triggers: Triggers,
    /// Webhooks.
    pub webhooks: Webhooks,
    /// Parts that work without a request.
    pub background: Background,
    /// Logs and metrics.
    pub observability: Observability,
    /// Remarks on the settings, a sentence each, to be logged as warnings once logs exist.
    pub notices: Vec<String>,
    /// The settings that were given on the command line of the server and around it.
    pub shown: Vec<Shown>,
}

/// Parts that work without a request; each can be kept off for tests and maintenance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Background {
    /// Embeds queued nodes.
    pub embedding_worker: bool,
    /// Runs connector jobs.
    pub connector_worker: bool,
    /// Refreshes due nodes.
    pub scheduler: bool,
    /// Polls GCS buckets.
    pub gcs_poller: bool,
    /// Watch the folders of local connectors.
    pub file_watcher: bool,
}

impl Config {
    /// Checks the settings together.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] for the first setting whose value cannot be used, and for an address other
    /// machines can reach while every route is open.
    pub fn new(options: &Options) -> Result<Self, ConfigError> {
        let mut notices = Vec::new();
        let background = Background::new(&options.background)?;
        let store = Store::new(&options.store, &mut notices)?;
        let ask = Ask::new(&options.ask)?;
        let extracts = &options.extraction.extraction_enabled;
        if read::boolean("EXTRACTION_ENABLED", extracts, false)? {
            let text = "EXTRACTION_ENABLED is ignored: no props are extracted from texts by a language model";
            notices.push(text.to_owned());
        }
        let auth = Auth::new(&options.auth, &options.server, &mut notices)?;
        let connectors = Connectors::new(&options.connectors)?;
        let resp = Resp::new(&options.resp, auth.jwt.is_some())?;
        let config = Self {
            webhooks: Webhooks::new(&options.webhooks, auth.jwt.is_some(), &mut notices)?,
            auth,
            keys: Keys::new(&options.keys, &mut notices)?,
            purge: Purge::new(&options.purge, connectors.retention)?,
            connectors,
            resp,
            server: Server::new(&options.server, &mut notices)?,
            backup: Backup::new(&options.backup, &store.data_dir)?,
            store,
            documents: Documents::new(&options.documents)?,
            embedding: Embedding::new(&options.embedding, &options.llm, &mut notices)?,
            search: Search::new(&options.search)?,
            llm: Llm::new(&options.llm, &ask, &mut notices)?,
            ask,
            limits: Limits::new(&options.limits, &mut notices)?,
            cors: Cors::new(&options.limits)?,
            triggers: Triggers::new(&options.triggers)?,
            fetch: Fetch::new(&options.fetch, &options.backup.clouds)?,
            background,
            observability: Observability::new(&options.log)?,
            notices,
            shown: Vec::new(),
        };
        config.refuse_open_address()?;
        Ok(config)
    }

    /// An open server stays on this machine unless its operator says otherwise.
    fn refuse_open_address(&self) -> Result<(), ConfigError> {
        let Server { bind, danger_open, .. } = self.server;
        if bind.ip().is_loopback() || self.auth.jwt.is_some() || danger_open {
            return Ok(());
        }
        Err(ConfigError::new(
            "ACTIVEKG_BIND",
            format!(
                "{bind} can be reached by other machines and every route is open without a token. This line fixes it:\n    \
                 JWT_ENABLED=true JWT_ALGORITHM=HS256 JWT_SECRET_KEY=\"$(head -c 32 /dev/urandom | base64)\" ACTIVEKG_BIND={bind} activekg serve\n\
                 (keep the secret, tokens are made with it; ACTIVEKG_DANGER_OPEN=true leaves the routes open on purpose)"
            ),
        ))
    }
}

impl Background {
    fn new(options: &options::BackgroundOptions) -> Result<Self, ConfigError> {
        let options::BackgroundOptions {
            run_embedding_worker,
            run_connector_worker,
            run_scheduler,
            run_gcs_poller,
            run_file_watcher,
        } = options;
        Ok(Self {
            embedding_worker: read::boolean("RUN_EMBEDDING_WORKER", run_embedding_worker, true)?,
            connector_worker: read::boolean("RUN_CONNECTOR_WORKER", run_connector_worker, true)?,
            scheduler: read::boolean("RUN_SCHEDULER", run_scheduler, true)?,
            gcs_poller: read::boolean("RUN_GCS_POLLER", run_gcs_poller, true)?,
            file_watcher: read::boolean("RUN_FILE_WATCHER", run_file_watcher, true)?,
        })
    }
}

fn seconds(
    setting: &'static str,
    raw: &Option<String>,
    default: u64,
) -> Result<Duration, ConfigError> {
    // A century: `Instant` arithmetic on anything below cannot overflow.
    let value = read::number(setting, raw, 0..=3_155_760_000_u64)?;
    Ok(Duration::from_secs(value.unwrap_or(default)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A configuration from variables; the home folder is always there.
    pub(super) fn config(variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
        let lookup = |name: &str| {
            let found = variables.iter().find(|(variable, _)| *variable == name);
            let value = found.map(|(_, value)| (*value).to_owned());
            value.or_else(|| (name == "HOME").then(|| "/home/somebody".to_owned()))
        };
        Config::new(&Options::from_lookup(lookup).unwrap())
    }

    pub(super) fn fault(variables: &[(&str, &str)]) -> String {
        config(variables).err().expect("the settings are refused").to_string()
    }

    #[test]
    fn nothing_set_is_a_server_on_loopback() {
        let config = config(&[]).unwrap();
        assert_eq!(config.server.bind.to_string(), "127.0.0.1:8000");
        assert_eq!(config.store.data_dir.to_str(), Some("/home/somebody/.local/share/activekg"));
        assert!(config.auth.jwt.is_none());
        assert!(config.background.embedding_worker);
        assert!(matches!(config.llm, Llm::Extractive));
        assert_eq!(config.notices, Vec::<String>::new());
    }

    #[test]
    fn an_empty_variable_counts_as_unset() {
        let unset: Vec<String> = Options::variables();
        let empty: Vec<(&str, &str)> =
            unset.iter().filter(|name| *name != "HOME").map(|name| (name.as_str(), "")).collect();
        assert_eq!(config(&empty).unwrap().notices, Vec::<String>::new());
        let blank: Vec<(&str, &str)> = empty.iter().map(|(name, _)| (*name, "  ")).collect();
        assert_eq!(config(&blank).unwrap().notices, Vec::<String>::new());
    }

    #[test]
    fn a_word_that_is_no_boolean_is_named() {
        let text = fault(&[("EMBEDDING_ASYNC", "maybe")]);
        assert_eq!(text, "EMBEDDING_ASYNC: \"maybe\" is neither true/1/yes/on nor false/0/no/off");
        for (word, value) in
            [("TRUE", true), ("1", true), ("Yes", true), ("on", true), ("off", false), ("0", false)]
        {
            assert_eq!(config(&[("EMBEDDING_ASYNC", word)]).unwrap().embedding.asynchronous, value);
        }
    }

    #[test]
    fn every_boolean_refuses_other_words() {
        for name in Options::variables() {
            let boolean = name.ends_with("_ENABLED")
                || name.starts_with("RUN_")
                || ["EMBEDDING_ASYNC", "TRUST_PROXY", "AUTO_EMBED_ON_CREATE", "CORS_CREDENTIALS"]
                    .contains(&name.as_str());
            if boolean {
                assert!(fault(&[(&name, "perhaps")]).starts_with(&format!("{name}: ")), "{name}");
            }
        }
    }

    #[test]
    fn an_open_server_stays_on_this_machine() {
        let text = fault(&[("ACTIVEKG_BIND", "0.0.0.0:8000")]);
        assert!(text.contains("JWT_ENABLED=true"), "{text}");
        assert!(text.contains("ACTIVEKG_BIND=0.0.0.0:8000 activekg serve"), "{text}");
        assert!(fault(&[("HOST", "::"), ("PORT", "80")]).contains("[::]:80"));
        assert!(
            config(&[("ACTIVEKG_BIND", "0.0.0.0:8000"), ("ACTIVEKG_DANGER_OPEN", "true")]).is_ok()
        );
        let secret = "0123456789abcdef0123456789abcdef";
        let closed = [
            ("HOST", "0.0.0.0"),
            ("JWT_ENABLED", "true"),
            ("JWT_ALGORITHM", "HS256"),
            ("JWT_SECRET_KEY", secret),
        ];
        assert!(config(&closed).is_ok());
    }

    #[test]
    fn what_needs_no_attention_is_said_once() {
        let set = [("REDIS_URL", "redis://:pw@h/0"), ("WORKERS", "4")];
        let notices = config(&set).unwrap().notices;
        assert_eq!(notices, ["REDIS_URL, WORKERS are ignored: one process does all the work"]);
    }

    #[test]
    fn the_pool_is_not_too_small() {
        let pool_size =
            |size: &str| Some(config(&[("ACTIVEKG_POOL_SIZE", size)]).ok()?.store.pool_size);
        assert_eq!(config(&[]).unwrap().store.pool_size, None);
        assert_eq!((pool_size("10"), pool_size("200")), (Some(Some(128)), Some(Some(200))));
        assert_eq!((pool_size("0"), pool_size("4097"), pool_size("x")), (None, None, None));
    }
}
