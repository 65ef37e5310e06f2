//! Answers and who writes them.

use std::time::Duration;

use super::options::{AskOptions, LlmOptions};
use super::{ConfigError, LocalLlm, Secret, read, seconds};

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
    /// A model in a file.
    Local(LocalLlm),
    /// An OpenAI-compatible service.
    Remote(Box<RemoteLlm>),
    /// A remote model is wanted and its key is missing: `/ask` answers 503 and says this in the log.
    Misconfigured(String),
}

/// Models behind OpenAI-compatible services.
#[derive(Clone)]
pub struct RemoteLlm {
    /// The only model, or the one for questions that are not easy.
    pub route: Route,
    /// A second one for easy questions.
    pub fast: Option<FastRoute>,
    /// Longest time for an answer, all attempts together.
    pub timeout: Duration,
    /// Longest time until an answer begins, and between two pieces of it.
    pub first_token: Duration,
    /// When the model fails before it has said anything, the best sentences are quoted instead;
    /// otherwise the question fails.
    pub quote_on_failure: bool,
}

/// One model.
#[derive(Clone)]
pub struct Route {
    /// Where it is.
    pub service: LlmService,
    /// Its name there, as reported.
    pub model: String,
    /// Longest answer, in tokens.
    pub max_tokens: u32,
}

/// The model for easy questions.
#[derive(Clone)]
pub struct FastRoute {
    /// The model.
    pub route: Route,
    /// Similarity from which a question is easy.
    pub top_similarity: f64,
}

/// An OpenAI-compatible service.
#[derive(Clone)]
pub struct LlmService {
    /// `groq` or `openai`, as reported.
    pub backend: &'static str,
    /// The address up to and with `/v1`, without a slash at the end; it may hold a password.
    pub base_url: Secret,
    /// The key of this backend only; local services need none.
    pub key: Option<Secret>,
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
        ask: &Ask,
        notices: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let enabled = read::optional_boolean("LLM_ENABLED", &options.llm_enabled)?;
        let backends = ["groq", "openai", "local", "extractive"].map(|name| (name, name));
        let backend = read::word("LLM_BACKEND", &options.llm_backend, &backends)?.unwrap_or("groq");
        let routing =
            read::boolean("HYBRID_ROUTING_ENABLED", &options.hybrid_routing_enabled, false)?;
        let [fast, fallback] = [Wanted::fast(options)?, Wanted::fallback(options)?];
        let top = read::number("ASK_ROUTER_TOPSIM", &options.ask_router_topsim, -1.0..=1.0)?;
        let time = |setting, raw, default| {
            let ms = read::number(setting, raw, 1..=3_600_000_u64)?;
            Ok::<_, ConfigError>(Duration::from_millis(ms.unwrap_or(default)))
        };
        let timeout = time("LLM_TIMEOUT_MS", &options.llm_timeout_ms, 60_000)?;
        let first_token = time("LLM_FIRST_TOKEN_MS", &options.llm_first_token_ms, 20_000)?;
        let ways = [("error", false), ("extractive", true)];
        let quote_on_failure =
            read::word("LLM_ON_FAILURE", &options.llm_on_failure, &ways)?.unwrap_or(false);
        let services = Services::new(options, backend)?;
        let local = LocalLlm::new(options, ask, backend == "local")?;
        if enabled == Some(false) {
            return Ok(Self::Off);
        }
        if backend == "extractive" {
            return Ok(Self::Extractive);
        }
        if let Some(mut local) = local {
            local.quote_on_failure = quote_on_failure;
            return Ok(Self::Local(local));
        }
        let model = read::text(&options.llm_model).unwrap_or(MODEL).to_owned();
        let max_tokens = ask.max_tokens;
        let only = Wanted { backend, model, max_tokens };
        let wanted = if routing { vec![fallback, fast] } else { vec![only] };
        let found = wanted.iter().map(|wanted| services.of(wanted.backend));
        let found: Vec<Option<LlmService>> = found.collect();
        if found.iter().all(Option::is_none) && enabled.is_none() {
            return Ok(Self::Extractive);
        }
        let mut routes = Vec::new();
        for (Wanted { backend, model, max_tokens }, service) in wanted.into_iter().zip(found) {
            let Some(service) = service else {
                let key = if backend == "openai" { "OPENAI_API_KEY" } else { "GROQ_API_KEY" };
                let cause =
                    if routing { "HYBRID_ROUTING_ENABLED=true" } else { "LLM_ENABLED=true" };
                let reason = format!(
                    "{cause} with backend {backend} needs {key}, or LLM_BASE_URL for a service without keys"
                );
                notices.push(reason.clone());
                return Ok(Self::Misconfigured(reason));
            };
            if service.sends_its_key_in_the_clear() {
                notices.push(format!(
                    "the key of backend {backend} travels unencrypted: its address is http:// and not on this machine"
                ));
            }
            routes.push(Route { service, model, max_tokens });
        }
        let mut routes = routes.into_iter();
        let route = routes.next().expect("at least one model is wanted");
        let fast =
            routes.next().map(|route| FastRoute { route, top_similarity: top.unwrap_or(0.70) });
        let remote = RemoteLlm { route, fast, timeout, first_token, quote_on_failure };
        Ok(Self::Remote(Box::new(remote)))
    }
}

/// A model that the settings name, wherever it may be.
struct Wanted {
    backend: &'static str,
    model: String,
    max_tokens: u32,
}

impl Wanted {
    fn fast(options: &LlmOptions) -> Result<Self, ConfigError> {
        let settings = ["ASK_FAST_BACKEND", "ASK_FAST_MAX_TOKENS"];
        let LlmOptions { ask_fast_backend, ask_fast_model, ask_fast_max_tokens, .. } = options;
        let raw = [ask_fast_backend, ask_fast_model, ask_fast_max_tokens];
        Self::new(settings, raw, ("groq", MODEL, 192))
    }

    fn fallback(options: &LlmOptions) -> Result<Self, ConfigError> {
        let settings = ["ASK_FALLBACK_BACKEND", "ASK_FALLBACK_MAX_TOKENS"];
        let LlmOptions {
            ask_fallback_backend, ask_fallback_model, ask_fallback_max_tokens, ..
        } = options;
        let raw = [ask_fallback_backend, ask_fallback_model, ask_fallback_max_tokens];
        Self::new(settings, raw, ("openai", "gpt-4o-mini", 320))
    }

    fn new(
        settings: [&'static str; 2],
        raw: [&Option<String>; 3],
        default: (&'static str, &str, u32),
    ) -> Result<Self, ConfigError> {
        let backends = [("groq", "groq"), ("openai", "openai")];
        let backend = read::word(settings[0], raw[0], &backends)?.unwrap_or(default.0);
        let max_tokens = read::number(settings[1], raw[2], 1..=32_768)?.unwrap_or(default.2);
        let model = read::text(raw[1]).unwrap_or(default.1).to_owned();
        Ok(Self { backend, model, max_tokens })
    }
}

/// The services that can be reached: those with a key or an address.
struct Services {
    groq: Option<LlmService>,
    openai: Option<LlmService>,
}

impl Services {
    /// `LLM_BASE_URL` is the address of `chosen` and of no other backend: another one's key must
    /// not be sent there.
    fn new(options: &LlmOptions, chosen: &str) -> Result<Self, ConfigError> {
        let service = |backend: &'static str,
                       addresses: &[(&'static str, &Option<Secret>)],
                       key,
                       public: &str| {
            let given = addresses
                .iter()
                .find_map(|(setting, raw)| Secret::given(raw).map(|address| (*setting, address)));
            let key = Secret::given(key);
            if given.is_none() && key.is_none() {
                return Ok(None);
            }
            let base_url = match given {
                Some((setting, address)) => address_of(setting, &address)?,
                None => Secret::from(public.to_owned()),
            };
            Ok::<_, ConfigError>(Some(LlmService { backend, base_url, key }))
        };
        let chosen_address = ("LLM_BASE_URL", &options.llm_base_url);
        let own_address = ("OPENAI_BASE_URL", &options.openai_base_url);
        let addresses =
            if chosen == "openai" { vec![chosen_address, own_address] } else { vec![own_address] };
        let openai = service("openai", &addresses, &options.openai_api_key, OPENAI_URL)?;
        let addresses = if chosen == "groq" { vec![chosen_address] } else { Vec::new() };
        let groq = service("groq", &addresses, &options.groq_api_key, GROQ_URL)?;
        Ok(Self { groq, openai })
    }

    fn of(&self, backend: &str) -> Option<LlmService> {
        if backend == "openai" { self.openai.clone() } else { self.groq.clone() }
    }
}

/// An address without a slash at its end.
pub(super) fn address_of(setting: &'static str, address: &Secret) -> Result<Secret, ConfigError> {
    let address = address.reveal().trim_end_matches('/');
    if !address.starts_with("http://") && !address.starts_with("https://") {
        return Err(ConfigError::new(setting, "is not an http:// or https:// address"));
    }
    Ok(Secret::from(address.to_owned()))
}

impl LlmService {
    fn sends_its_key_in_the_clear(&self) -> bool {
        self.key.is_some() && is_open_line(&self.base_url)
    }
}

/// Whether what is sent to `address` can be read on its way: it is not encrypted, and leaves this
/// machine.
pub(super) fn is_open_line(address: &Secret) -> bool {
    let Some(rest) = address.reveal().strip_prefix("http://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or(rest),
        None => host.split(':').next().unwrap_or(host),
    };
    let loopback = host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    !loopback && !host.eq_ignore_ascii_case("localhost")
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
            matches!(llm(&[("GROQ_API_KEY", "k")]), Llm::Remote(remote) if remote.route.service.base_url.reveal() == GROQ_URL)
        );
        assert!(matches!(llm(&[("LLM_BASE_URL", "http://127.0.0.1:11434/v1/")]),
            Llm::Remote(remote) if remote.route.service.base_url.reveal() == "http://127.0.0.1:11434/v1"
                && remote.route.service.key.is_none()));
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
        assert!(
            matches!(llm(&set), Llm::Remote(remote) if remote.route.service.backend == "openai")
        );
    }

    #[test]
    fn every_model_of_the_router_has_the_service_of_its_backend() {
        let set = [
            ("HYBRID_ROUTING_ENABLED", "true"),
            ("GROQ_API_KEY", "g"),
            ("OPENAI_API_KEY", "o"),
            ("LLM_BASE_URL", "http://127.0.0.1:1/v1"),
            ("ASK_FAST_MAX_TOKENS", "99"),
        ];
        let Llm::Remote(remote) = llm(&set) else { panic!("a remote model is set") };
        let RemoteLlm { route, fast: Some(fast), .. } = *remote else {
            panic!("two models are there");
        };
        let service = |route: &Route| {
            let LlmService { backend, base_url, key } = &route.service;
            let key = key.as_ref().map(|key| key.reveal().to_owned());
            (*backend, base_url.reveal().to_owned(), key)
        };
        // LLM_BASE_URL is that of the chosen backend, groq.
        let groq = ("groq", "http://127.0.0.1:1/v1".to_owned(), Some("g".to_owned()));
        let openai = ("openai", OPENAI_URL.to_owned(), Some("o".to_owned()));
        assert_eq!((service(&fast.route), service(&route)), (groq, openai));
        assert_eq!((fast.route.max_tokens, route.max_tokens, fast.top_similarity), (99, 320, 0.70));

        let half = [("HYBRID_ROUTING_ENABLED", "true"), ("GROQ_API_KEY", "g")];
        assert!(matches!(llm(&half), Llm::Misconfigured(reason)
            if reason.contains("HYBRID_ROUTING_ENABLED") && reason.contains("OPENAI_API_KEY")));
        assert!(matches!(llm(&half[..1]), Llm::Extractive));
    }

    #[test]
    fn a_key_on_an_open_line_is_remarked_on() {
        let noticed = |address: &str| {
            let set = [("GROQ_API_KEY", "k"), ("LLM_BASE_URL", address)];
            !config(&set).unwrap().notices.is_empty()
        };
        assert!(noticed("http://models.example/v1") && noticed("http://localhost:1@10.0.0.1/v1"));
        for quiet in [
            "https://models.example/v1",
            "http://127.0.0.2:1/v1",
            "http://[::1]:1",
            "http://LOCALHOST:1/",
        ] {
            assert!(!noticed(quiet), "{quiet}");
        }
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
