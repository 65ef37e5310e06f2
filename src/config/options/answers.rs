//! Settings of /ask.

use clap::Args;

use crate::config::Secret;

/// Answers.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Answers")]
pub struct AskOptions {
    /// Similarity below which only the first hit is used [default: 0.30 on cosine]
    #[arg(long, env = "ASK_SIM_THRESHOLD", value_name = "X")]
    pub ask_sim_threshold: Option<String>,
    /// Fused score below which /ask refuses; when unset, cosine decides
    #[arg(long, env = "RRF_LOW_SIM_THRESHOLD", value_name = "X")]
    pub rrf_low_sim_threshold: Option<String>,
    /// Similarity below which /ask refuses [default: 0.15]
    #[arg(long, env = "RAW_LOW_SIM_THRESHOLD", value_name = "X")]
    pub raw_low_sim_threshold: Option<String>,
    /// Longest answer, in tokens [default: 256]
    #[arg(long, env = "ASK_MAX_TOKENS", value_name = "N")]
    pub ask_max_tokens: Option<String>,
    /// Most passages an answer is written from [default: 3]
    #[arg(long, env = "ASK_MAX_SNIPPETS", value_name = "N")]
    pub ask_max_snippets: Option<String>,
    /// Length of a passage, in characters [default: 300]
    #[arg(long, env = "ASK_SNIPPET_LEN", value_name = "N")]
    pub ask_snippet_len: Option<String>,
    /// Rerank the passages [default: true]
    #[arg(long, env = "ASK_USE_RERANKER", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub ask_use_reranker: Option<String>,
    /// Most cached answers [default: 512]
    #[arg(long, env = "ASK_CACHE_MAX", value_name = "N")]
    pub ask_cache_max: Option<String>,
    /// Age of a cached answer, in seconds [default: 600]
    #[arg(long, env = "ASK_CACHE_TTL", value_name = "SECONDS")]
    pub ask_cache_ttl: Option<String>,
}

/// The writer of answers.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Writer of answers")]
pub struct LlmOptions {
    /// true: a remote model; false: /ask answers 503 [default: the remote model if its key or address is set, else the extractive writer]
    #[arg(long, env = "LLM_ENABLED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub llm_enabled: Option<String>,
    /// groq, openai, local or extractive [default: groq]
    #[arg(long, env = "LLM_BACKEND", value_name = "NAME")]
    pub llm_backend: Option<String>,
    /// Model of the remote service [default: llama-3.1-8b-instant]; with backend local the path of a GGUF file
    #[arg(long, env = "LLM_MODEL", value_name = "NAME")]
    pub llm_model: Option<String>,
    /// Address of an OpenAI-compatible service, up to and with /v1
    #[arg(long, env = "LLM_BASE_URL", value_name = "URL", hide_env_values = true)]
    pub llm_base_url: Option<Secret>,
    /// The same for backend openai, read when LLM_BASE_URL is unset
    #[arg(long, env = "OPENAI_BASE_URL", value_name = "URL", hide_env_values = true)]
    pub openai_base_url: Option<Secret>,
    /// Longest time for an answer of the remote model, in milliseconds [default: 60000]
    #[arg(long, env = "LLM_TIMEOUT_MS", value_name = "MS")]
    pub llm_timeout_ms: Option<String>,
    /// Longest time until its answer begins, and between two pieces of it [default: 20000]
    #[arg(long, env = "LLM_FIRST_TOKEN_MS", value_name = "MS")]
    pub llm_first_token_ms: Option<String>,
    /// When the remote model fails before it has said anything: error, or extractive to quote the best sentences [default: error]
    #[arg(long, env = "LLM_ON_FAILURE", value_name = "NAME")]
    pub llm_on_failure: Option<String>,
    /// Most tokens of prompt and answer with backend local; models made for less have less [default: 4096]
    #[arg(long, env = "LLM_CONTEXT", value_name = "TOKENS")]
    pub llm_context: Option<String>,
    /// Threads of the local model [default: as many as cores]
    #[arg(long, env = "LLM_THREADS", value_name = "N")]
    pub llm_threads: Option<String>,
    /// Questions that may wait while the local model answers one [default: 8]
    #[arg(long, env = "LLM_QUEUE", value_name = "N")]
    pub llm_queue: Option<String>,
    /// How freely the local model chooses its words, 0 to 2 [default: 0.1]
    #[arg(long, env = "LLM_TEMPERATURE", value_name = "X")]
    pub llm_temperature: Option<String>,
    /// Share of the likeliest words that the local model chooses from [default: 0.95]
    #[arg(long, env = "LLM_TOP_P", value_name = "X")]
    pub llm_top_p: Option<String>,
    /// Seed of the local model's choices [default: 0]
    #[arg(long, env = "LLM_SEED", value_name = "N")]
    pub llm_seed: Option<String>,
    /// Key for backend groq
    #[arg(long, env = "GROQ_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub groq_api_key: Option<Secret>,
    /// Key for backend openai
    #[arg(long, env = "OPENAI_API_KEY", value_name = "KEY", hide_env_values = true)]
    pub openai_api_key: Option<Secret>,
    /// Choose between a fast and a thorough model a question [default: false]
    #[arg(long, env = "HYBRID_ROUTING_ENABLED", value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    pub hybrid_routing_enabled: Option<String>,
    /// Backend of the fast model [default: groq]
    #[arg(long, env = "ASK_FAST_BACKEND", value_name = "NAME")]
    pub ask_fast_backend: Option<String>,
    /// The fast model [default: llama-3.1-8b-instant]
    #[arg(long, env = "ASK_FAST_MODEL", value_name = "NAME")]
    pub ask_fast_model: Option<String>,
    /// Longest answer of the fast model, in tokens [default: 192]
    #[arg(long, env = "ASK_FAST_MAX_TOKENS", value_name = "N")]
    pub ask_fast_max_tokens: Option<String>,
    /// Backend of the thorough model [default: openai]
    #[arg(long, env = "ASK_FALLBACK_BACKEND", value_name = "NAME")]
    pub ask_fallback_backend: Option<String>,
    /// The thorough model [default: gpt-4o-mini]
    #[arg(long, env = "ASK_FALLBACK_MODEL", value_name = "NAME")]
    pub ask_fallback_model: Option<String>,
    /// Longest answer of the thorough model, in tokens [default: 320]
    #[arg(long, env = "ASK_FALLBACK_MAX_TOKENS", value_name = "N")]
    pub ask_fallback_max_tokens: Option<String>,
    /// Similarity from which the fast model answers [default: 0.70]
    #[arg(long, env = "ASK_ROUTER_TOPSIM", value_name = "X")]
    pub ask_router_topsim: Option<String>,
}
