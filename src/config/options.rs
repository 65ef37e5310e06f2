//! What was typed: every setting as a flag and an environment variable, still text.
//!
//! This is the only place that reads the environment. Values stay text here, so that a fault is
//! reported by [`Config`](super::Config) with the setting's name and in one line, and so that an
//! empty variable can count as unset.

mod access;
mod answers;
mod backup;
mod connectors;
mod documents;
mod extraction;
mod fetch;
mod keys;
mod model;
mod purge;
mod remote;
mod resp;
mod retrieval;
mod serving;
mod triggers;
mod webhooks;

pub use access::{AuthOptions, LimitOptions};
pub use answers::{AskOptions, LlmOptions};
pub use backup::BackupOptions;
pub use connectors::ConnectorOptions;
pub use documents::DocumentOptions;
pub use extraction::ExtractionOptions;
pub use fetch::FetchOptions;
pub use keys::{KeyOptions, NumberedKey};
pub use model::ModelOptions;
pub use purge::PurgeOptions;
pub use remote::RemoteOptions;
pub use resp::RespOptions;
pub use retrieval::{EmbeddingOptions, SearchOptions};
pub use serving::{BackgroundOptions, LogOptions, ServerOptions, StoreOptions};
pub use triggers::TriggerOptions;
pub use webhooks::WebhookOptions;

use clap::{Args, CommandFactory, FromArgMatches, Parser};

/// All settings of the server, as typed.
#[derive(Args, Clone, Default)]
pub struct Options {
    /// Address, version, tenants.
    #[command(flatten)]
    pub server: ServerOptions,
    /// Where data lives.
    #[command(flatten)]
    pub store: StoreOptions,
    /// Backups.
    #[command(flatten)]
    pub backup: BackupOptions,
    /// Tokens and scopes.
    #[command(flatten)]
    pub auth: AuthOptions,
    /// Keys that seal secrets.
    #[command(flatten)]
    pub keys: KeyOptions,
    /// Connectors.
    #[command(flatten)]
    pub connectors: ConnectorOptions,
    /// Purging what was deleted.
    #[command(flatten)]
    pub purge: PurgeOptions,
    /// The listener for Redis clients.
    #[command(flatten)]
    pub resp: RespOptions,
    /// Sizes, rates, browsers.
    #[command(flatten)]
    pub limits: LimitOptions,
    /// Files.
    #[command(flatten)]
    pub documents: DocumentOptions,
    /// Vectors of nodes and queries.
    #[command(flatten)]
    pub embedding: EmbeddingOptions,
    /// The extraction of props.
    #[command(flatten)]
    pub extraction: ExtractionOptions,
    /// Retrieval.
    #[command(flatten)]
    pub search: SearchOptions,
    /// Answers.
    #[command(flatten)]
    pub ask: AskOptions,
    /// The writer of answers.
    #[command(flatten)]
    pub llm: LlmOptions,
    /// What is fetched for nodes.
    #[command(flatten)]
    pub fetch: FetchOptions,
    /// Triggers.
    #[command(flatten)]
    pub triggers: TriggerOptions,
    /// Webhooks.
    #[command(flatten)]
    pub webhooks: WebhookOptions,
    /// Background parts.
    #[command(flatten)]
    pub background: BackgroundOptions,
    /// Logs and metrics.
    #[command(flatten)]
    pub log: LogOptions,
}

/// A command line that holds nothing but settings, for [`Options::from_lookup`].
#[derive(Parser)]
#[command(no_binary_name = true)]
struct Bare {
    #[command(flatten)]
    options: Options,
}

impl Options {
    /// The settings as `lookup` gives their variables, with no flags and without the process
    /// environment: for tests, and for commands that take a few settings only.
    ///
    /// # Errors
    ///
    /// When a value cannot be taken as the text of its setting.
    pub fn from_lookup(lookup: impl Fn(&str) -> Option<String>) -> Result<Self, clap::Error> {
        let command = Bare::command();
        let mut line = Vec::new();
        for argument in command.get_arguments() {
            let (Some(variable), Some(flag)) = (argument.get_env(), argument.get_long()) else {
                continue;
            };
            if let Some(value) = variable.to_str().and_then(&lookup) {
                line.push(format!("--{flag}={value}"));
            }
        }
        let command = command.mut_args(|argument| argument.env(clap::builder::Resettable::Reset));
        let matches = command.try_get_matches_from(line)?;
        let mut options = Bare::from_arg_matches(&matches)?.options;
        options.keys.further = keys::further_of(lookup);
        Ok(options)
    }

    /// The settings of the process environment, with no flags.
    ///
    /// # Errors
    ///
    /// When a variable is not UTF-8.
    pub fn from_environment() -> Result<Self, clap::Error> {
        let matches = Bare::command().try_get_matches_from(std::iter::empty::<&str>())?;
        Ok(Bare::from_arg_matches(&matches)?.options)
    }

    /// The variables of all settings, in the order of the help page.
    #[must_use]
    pub fn variables() -> Vec<String> {
        let command = Bare::command();
        let variables = command.get_arguments().filter_map(clap::Arg::get_env);
        variables.map(|name| name.to_string_lossy().into_owned()).collect()
    }
}
