//! Answers and who writes them.

use std::time::Duration;

use super::options::{AskOptions, LlmOptions};
use super::{ConfigError, Secret, read, seconds};

const GROQ_URL: &str = "https://api.groq.com/openai/v1";
const OPENAI_URL: &str = "https://api.openai.com/v1";
const MODEL: &str = "llama-3.1-8b-instant";

/// Answers.
#[derive(Debug, Clone)]
pub struct Ask {
    /// Score below which only the first hit is used; `None` when the operator set none, then 0.30
    /// of the cosine.
    pub sim_threshold: Option<f64>,
    /// Fused score below which a question is refused; `None` when the operator set none, then the
    /// cosine decides alone.
    pub rrf_low_sim_threshold: Option<f64>,
    /// Cosine below which a question is refused; `None` when the operator set none, then 0.15.
    pub raw_low_sim_threshold: Option<f64>,
    /// Longest answer, in tokens.
    pub max_tokens: u32,
    /// Most passages an answer is written from.
    pub max_snippets: usize,
    /// Length of a passage, in characters.
    pub snippet_len: usize,
    /// Passages are reranked where a reranker is there.
    pub use_reranker: bool,
    /// Most cached answers; 0 keeps none.
    pub cache_max: usize,
    /// Age from which a cached answer no longer counts.
    pub cache_ttl: Duration,
}

/// The writer of answers.
#[derive(Clone)]
pub enum Llm {
    /// `LLM_ENABLED=false`: `/ask` answers 503.
    Off,
    /// The best sentences, cited; no model.
    Extractive,
    /// An OpenAI-compatible service.
    Remote(RemoteLlm),
    /// A remote model is wanted and its key is missing: `/ask` answers 503 and says this in the log.
    Misconfigured(String),
}

/// An OpenAI-compatible service.
#[derive(Clone)]
pub struct RemoteLlm {
    /// `groq` or `openai`, as reported.
    pub backend: String,
    /// The model, as reported.
    pub model: String,
    /// The address up to and with `/v1`, without a slash at the end; it may hold a password.
    pub base_url: Secret,
    /// The key of this backend only; local services need none.
    pub key: Option<Secret>,
    /// Chooses between two models a question; `None` keeps to this one.
    pub router: Option<Router>,
}

/// Two models, one for easy questions.
#[derive(Debug, Clone)]
pub struct Router {
    /// For easy questions.
    pub fast: Route,
    /// For the others.
    pub fallback: Route,
    /// Similarity from which a question is easy.
    pub top_similarity: f64,
}

/// One model of a [`Router`].
#[derive(Debug, Clone)]
pub struct Route {
    /// `groq` or `openai`.
    pub backend: String,
    /// The model.
    pub model: String,
    /// Longest answer, in tokens.
    pub max_tokens: u32,
}

impl Ask {
    pub(super) fn new(options: &AskOptions) -> Result<Self, ConfigError> {
        let AskOptions {
            ask_sim_threshold,
            rrf_low_sim_threshold,
            raw_low_sim_threshold,
            ask_max_tokens,
            ask_max_snippets,
            ask_snippet_len,
            ask_use_reranker,
            ask_cache_max,
            ask_cache_ttl,
        } = options;
        Ok(Self {
            sim_threshold: read::number("ASK_SIM_THRESHOLD", ask_sim_threshold, -1.0..=1.0)?,
            rrf_low_sim_threshold: read::number(
                "RRF_LOW_SIM_THRESHOLD",
                rrf_low_sim_threshold,
                0.0..=1.0,
            )?,
            raw_low_sim_threshold: read::number(
                "RAW_LOW_SIM_THRESHOLD",
                raw_low_sim_threshold,
                -1.0..=1.0,
            )?,
            max_tokens: read::number("ASK_MAX_TOKENS", ask_max_tokens, 1..=32_768)?.unwrap_or(256),
            max_snippets: read::number("ASK_MAX_SNIPPETS", ask_max_snippets, 1..=20)?.unwrap_or(3),
            snippet_len: read::number("ASK_SNIPPET_LEN", ask_snippet_len, 1..=100_000)?
                .unwrap_or(300),
            use_reranker: read::boolean("ASK_USE_RERANKER", ask_use_reranker, true)?,
            cache_max: read::number("ASK_CACHE_MAX", ask_cache_max, 0..=1_000_000)?.unwrap_or(512),
            cache_ttl: seconds("ASK_CACHE_TTL", ask_cache_ttl, 600)?,
        })
    }
}

impl Llm {
    pub(super) fn new(
        options: &LlmOptions,
        notices: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let enabled = read::optional_boolean("LLM_ENABLED", &options.llm_enabled)?;
        let backends = [("groq", "groq"), ("openai", "openai"), ("extractive", "extractive")];
        let backend = read::word("LLM_BACKEND", &options.llm_backend, &backends)?.unwrap_or("groq");
        let router = Router::new(options)?;
        let base_url = Secret::given(&options.llm_base_url);
        let (base_url, key, key_setting, public_url) = match backend {
            "extractive" => (None, None, "", ""),
            "openai" => {
                let base_url = base_url.or_else(|| Secret::given(&options.openai_base_url));
                (base_url, Secret::given(&options.openai_api_key), "OPENAI_API_KEY", OPENAI_URL)
            }
            _ => (base_url, Secret::given(&options.groq_api_key), "GROQ_API_KEY", GROQ_URL),
        };
        if enabled == Some(false) {
            return Ok(Self::Off);
        }
        if backend == "extractive" {
            return Ok(Self::Extractive);
        }
        if base_url.is_none() && key.is_none() {
            if enabled.is_none() {
                return Ok(Self::Extractive);
            }
            let reason = format!(
                "LLM_ENABLED=true with backend {backend} needs {key_setting}, or LLM_BASE_URL for a service without keys"
            );
            notices.push(reason.clone());
            return Ok(Self::Misconfigured(reason));
        }
        let base_url = base_url
            .map_or(public_url.to_owned(), |url| url.reveal().trim_end_matches('/').to_owned());
        if !base_url.starts_with("http://") && !base_url.starts_with("https://") {
            let setting = if Secret::given(&options.llm_base_url).is_some() {
                "LLM_BASE_URL"
            } else {
                "OPENAI_BASE_URL"
            };
            return Err(ConfigError::new(setting, "is not an http:// or https:// address"));
        }
        Ok(Self::Remote(RemoteLlm {
            backend: backend.to_owned(),
            model: read::text(&options.llm_model).unwrap_or(MODEL).to_owned(),
            base_url: Secret::from(base_url),
            key,
            router,
        }))
    }
}

impl Router {
    fn new(options: &LlmOptions) -> Result<Option<Self>, ConfigError> {
        let backends = [("groq", "groq"), ("openai", "openai")];
        let route = |settings: [&'static str; 2],
                     raw: [&Option<String>; 3],
                     default: (&str, &str, u32)| {
            let backend = read::word(settings[0], raw[0], &backends)?.unwrap_or(default.0);
            let max_tokens = read::number(settings[1], raw[2], 1..=32_768)?.unwrap_or(default.2);
            let model = read::text(raw[1]).unwrap_or(default.1).to_owned();
            Ok::<_, ConfigError>(Route { backend: backend.to_owned(), model, max_tokens })
        };
        let fast = route(
            ["ASK_FAST_BACKEND", "ASK_FAST_MAX_TOKENS"],
            [&options.ask_fast_backend, &options.ask_fast_model, &options.ask_fast_max_tokens],
            ("groq", MODEL, 192),
        )?;
        let fallback = route(
            ["ASK_FALLBACK_BACKEND", "ASK_FALLBACK_MAX_TOKENS"],
            [
                &options.ask_fallback_backend,
                &options.ask_fallback_model,
                &options.ask_fallback_max_tokens,
            ],
            ("openai", "gpt-4o-mini", 320),
        )?;
        let top = read::number("ASK_ROUTER_TOPSIM", &options.ask_router_topsim, -1.0..=1.0)?;
        let enabled =
            read::boolean("HYBRID_ROUTING_ENABLED", &options.hybrid_routing_enabled, false)?;
        Ok(enabled.then_some(Self { fast, fallback, top_similarity: top.unwrap_or(0.70) }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};
    use super::*;

    fn llm(variables: &[(&str, &str)]) -> Llm {
        config(variables).unwrap().llm
    }

    #[test]
    fn unset_takes_the_remote_model_when_it_can_be_reached() {
        assert!(matches!(llm(&[]), Llm::Extractive));
        assert!(matches!(llm(&[("OPENAI_API_KEY", "k")]), Llm::Extractive));
        assert!(
            matches!(llm(&[("GROQ_API_KEY", "k")]), Llm::Remote(remote) if remote.base_url.reveal() == GROQ_URL)
        );
        assert!(matches!(llm(&[("LLM_BASE_URL", "http://127.0.0.1:11434/v1/")]),
            Llm::Remote(remote) if remote.base_url.reveal() == "http://127.0.0.1:11434/v1" && remote.key.is_none()));
    }

    #[test]
    fn a_key_goes_to_its_own_backend_only() {
        let set = [("LLM_ENABLED", "true"), ("LLM_BACKEND", "groq"), ("OPENAI_API_KEY", "k")];
        assert!(matches!(llm(&set), Llm::Misconfigured(reason) if reason.contains("GROQ_API_KEY")));
        let set = [
            ("LLM_BACKEND", "openai"),
            ("OPENAI_API_KEY", "k"),
            ("OPENAI_BASE_URL", "http://127.0.0.1:59001/v1"),
        ];
        assert!(matches!(llm(&set), Llm::Remote(remote) if remote.backend == "openai"));
    }

    #[test]
    fn false_wins_over_any_key() {
        assert!(matches!(llm(&[("LLM_ENABLED", "false"), ("GROQ_API_KEY", "k")]), Llm::Off));
    }

    #[test]
    fn an_address_is_not_repeated_in_its_fault() {
        let text = fault(&[("LLM_BASE_URL", "ftp://user:hunter2@host")]);
        assert_eq!(text, "LLM_BASE_URL: is not an http:// or https:// address");
    }

    #[test]
    fn thresholds_say_whether_they_were_set() {
        assert_eq!(config(&[]).unwrap().ask.raw_low_sim_threshold, None);
        let set =
            config(&[("RAW_LOW_SIM_THRESHOLD", "0.2"), ("RRF_LOW_SIM_THRESHOLD", "0.01")]).unwrap();
        assert_eq!(
            (set.ask.raw_low_sim_threshold, set.ask.rrf_low_sim_threshold),
            (Some(0.2), Some(0.01))
        );
    }
}
