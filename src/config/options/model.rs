//! Settings of commands that embed without a server.

use clap::Args;

use super::StoreOptions;
use crate::config::Secret;

/// The embedding model of a command: the settings of the server under shorter flags.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Model")]
pub struct ModelOptions {
    /// Embedder: sentence-transformers (in this process), openai or ollama [default: sentence-transformers]
    #[arg(long, env = "EMBEDDING_BACKEND", value_name = "NAME")]
    pub backend: Option<String>,
    /// Model: all-MiniLM-L6-v2 (compiled in), one that was added, the path of a model's folder, or its name at the service [default: all-MiniLM-L6-v2, text-embedding-3-small, nomic-embed-text]
    #[arg(long, env = "EMBEDDING_MODEL", value_name = "NAME")]
    pub model: Option<String>,
    /// Address of the service; openai falls back to OPENAI_BASE_URL [default: its public one, http://127.0.0.1:11434 for ollama]
    #[arg(long, env = "EMBEDDING_BASE_URL", value_name = "URL", hide_env_values = true)]
    pub base_url: Option<Secret>,
    /// Numbers in a vector of the service's model [default: what the model is known to have]
    #[arg(long, env = "EMBEDDING_DIMENSIONS", value_name = "N")]
    pub dimensions: Option<String>,
    /// Most tokens the service may take of this command, 0 = no limit [default: 0]
    #[arg(long, env = "EMBEDDING_TOKEN_BUDGET", value_name = "N")]
    pub token_budget: Option<String>,
    /// Longest time for a request to the service, in milliseconds [default: 30000]
    #[arg(long, env = "EMBEDDING_TIMEOUT_MS", value_name = "MS")]
    pub timeout_ms: Option<String>,
    /// Key for backend openai
    #[arg(long, env = "OPENAI_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub openai_api_key: Option<Secret>,
    /// Address for backend openai, read when there is no --base-url
    #[arg(
        long,
        env = "OPENAI_BASE_URL",
        value_name = "URL",
        hide_env_values = true,
        hide_short_help = true
    )]
    pub openai_base_url: Option<Secret>,
    /// Arithmetic: f32 (exact) or auto (the fastest this processor has) [default: auto]
    #[arg(long, env = "EMBEDDING_PRECISION", value_name = "NAME")]
    pub precision: Option<String>,
    /// Instructions: amx, avx512vnni, avx2 or portable [default: the best this processor has]
    #[arg(long, env = "ACTIVEKG_CPU", value_name = "NAME", hide_short_help = true)]
    pub cpu: Option<String>,
    /// Where added models are.
    #[command(flatten)]
    pub store: StoreOptions,
}
