//! Sizes, rates, browsers of other origins.

use super::options::LimitOptions;
use super::{ConfigError, read};

/// The most nodes a batch may hold whatever the setting says; the request schema has it.
const NODE_BATCH_CAP: usize = 500;

/// Sizes and rates.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Largest request body, in bytes.
    pub max_request_bytes: usize,
    /// Most nodes in one batch.
    pub node_batch_max: usize,
    /// Most files in one upload.
    pub upload_max_files: usize,
    /// Request rates; `None` limits none.
    pub rates: Option<RateLimits>,
    /// The header a trusted proxy puts a caller's address in, lower case; `None` trusts none.
    pub real_ip_header: Option<String>,
}

/// Request rates, a bucket for each group of routes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateLimits {
    /// POST /search.
    pub search: Bucket,
    /// POST /ask.
    pub ask: Bucket,
    /// POST /ask/stream.
    pub ask_stream: Bucket,
    /// POST /admin/refresh.
    pub admin_refresh: Bucket,
    /// The S3 webhook.
    pub webhook_s3: Bucket,
    /// The GCS webhook.
    pub webhook_gcs: Bucket,
    /// The remaining limited routes.
    pub default: Bucket,
    /// Questions of one caller answered at once.
    pub concurrency_ask: usize,
    /// Answers of one caller streamed at once.
    pub concurrency_ask_stream: usize,
}

/// A token bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Bucket {
    /// Requests a second in the long run, above 0.
    pub rate: f64,
    /// Requests at once, 1 or more.
    pub burst: u32,
}

/// Browsers of other origins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Whether they may call at all.
    pub enabled: bool,
    /// The origins, or `*` alone.
    pub origins: Vec<String>,
    /// Whether they may send credentials.
    pub credentials: bool,
}

impl Limits {
    pub(super) fn new(
        options: &LimitOptions,
        notices: &mut Vec<String>,
    ) -> Result<Self, ConfigError> {
        let trust = read::boolean("TRUST_PROXY", &options.trust_proxy, false)?;
        let header = read::text(&options.real_ip_header).unwrap_or("X-Forwarded-For");
        if !header.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-') {
            return Err(ConfigError::new(
                "REAL_IP_HEADER",
                format!("{header:?} is not the name of a header"),
            ));
        }
        // All of a body is in memory at once, so the limit has one too.
        let body =
            read::number("MAX_REQUEST_SIZE_BYTES", &options.max_request_size_bytes, 1..=1 << 30)?;
        let batch = read::number("NODE_BATCH_MAX", &options.node_batch_max, 1..=NODE_BATCH_CAP)?;
        let files = read::number("UPLOAD_MAX_FILES", &options.upload_max_files, 1..=10_000)?;
        let rates = RateLimits::new(options, notices);
        Ok(Self {
            max_request_bytes: body.unwrap_or(10 * 1024 * 1024),
            node_batch_max: batch.unwrap_or(200),
            upload_max_files: files.unwrap_or(50),
            rates: read::boolean("RATE_LIMIT_ENABLED", &options.rate_limit_enabled, false)?
                .then_some(rates),
            real_ip_header: trust.then(|| header.to_ascii_lowercase()),
        })
    }
}

impl RateLimits {
    /// The contract lets a bad rate fall back to its default; a notice says so.
    fn new(options: &LimitOptions, notices: &mut Vec<String>) -> Self {
        let mut number = |setting: &str, raw: &Option<String>, default: f64, whole: bool| {
            let Some(text) = read::text(raw) else {
                return default;
            };
            match text.parse::<f64>() {
                Ok(value) if value > 0.0 && value <= 1e6 && (!whole || value.fract() == 0.0) => {
                    value
                }
                _ => {
                    notices.push(format!(
                        "{setting} falls back to {default}: {text:?} is no usable number"
                    ));
                    default
                }
            }
        };
        let mut bucket = |name: &str,
                          rate: &Option<String>,
                          burst: &Option<String>,
                          default: (f64, f64)| Bucket {
            rate: number(&format!("RATE_LIMIT_{name}_RATE"), rate, default.0, false),
            burst: number(&format!("RATE_LIMIT_{name}_BURST"), burst, default.1, true) as u32,
        };
        let o = options;
        Self {
            search: bucket(
                "SEARCH",
                &o.rate_limit_search_rate,
                &o.rate_limit_search_burst,
                (50.0, 100.0),
            ),
            ask: bucket("ASK", &o.rate_limit_ask_rate, &o.rate_limit_ask_burst, (3.0, 5.0)),
            ask_stream: bucket(
                "ASK_STREAM",
                &o.rate_limit_ask_stream_rate,
                &o.rate_limit_ask_stream_burst,
                (1.0, 3.0),
            ),
            admin_refresh: bucket(
                "ADMIN_REFRESH",
                &o.rate_limit_admin_refresh_rate,
                &o.rate_limit_admin_refresh_burst,
                (1.0, 2.0),
            ),
            webhook_s3: bucket(
                "WEBHOOK_S3",
                &o.rate_limit_webhook_s3_rate,
                &o.rate_limit_webhook_s3_burst,
                (100.0, 200.0),
            ),
            webhook_gcs: bucket(
                "WEBHOOK_GCS",
                &o.rate_limit_webhook_gcs_rate,
                &o.rate_limit_webhook_gcs_burst,
                (100.0, 200.0),
            ),
            default: bucket(
                "DEFAULT",
                &o.rate_limit_default_rate,
                &o.rate_limit_default_burst,
                (100.0, 200.0),
            ),
            concurrency_ask: number("CONCURRENCY_ASK", &o.concurrency_ask, 3.0, true) as usize,
            concurrency_ask_stream: number(
                "CONCURRENCY_ASK_STREAM",
                &o.concurrency_ask_stream,
                2.0,
                true,
            ) as usize,
        }
    }
}

impl Cors {
    pub(super) fn new(options: &LimitOptions) -> Result<Self, ConfigError> {
        let enabled = read::boolean("CORS_ENABLED", &options.cors_enabled, false)?;
        let credentials = read::boolean("CORS_CREDENTIALS", &options.cors_credentials, true)?;
        let list = read::text(&options.cors_origins).unwrap_or("http://localhost:5173");
        let origins: Vec<String> = list
            .split(',')
            .map(|origin| origin.trim().trim_end_matches('/').to_owned())
            .filter(|origin| !origin.is_empty())
            .collect();
        if enabled && credentials && origins.iter().any(|origin| origin == "*") {
            // Any page a user visits could then act with the user's credentials.
            let fault = "* goes only with CORS_CREDENTIALS=false; name the origins instead";
            return Err(ConfigError::new("CORS_ORIGINS", fault));
        }
        Ok(Self { enabled, origins, credentials })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{config, fault};
    use super::*;

    #[test]
    fn a_bad_rate_falls_back_with_a_word() {
        let set = [
            ("RATE_LIMIT_ENABLED", "true"),
            ("RATE_LIMIT_SEARCH_RATE", "fast"),
            ("RATE_LIMIT_SEARCH_BURST", "3"),
            ("RATE_LIMIT_DEFAULT_BURST", "0"),
            ("RATE_LIMIT_ASK_RATE", "NaN"),
        ];
        let config = config(&set).unwrap();
        let rates = config.limits.rates.unwrap();
        assert_eq!(rates.search, Bucket { rate: 50.0, burst: 3 });
        assert_eq!(rates.default, Bucket { rate: 100.0, burst: 200 });
        assert_eq!(rates.ask, Bucket { rate: 3.0, burst: 5 });
        assert_eq!(config.notices.len(), 3);
    }

    #[test]
    fn rates_are_off_by_default() {
        assert!(config(&[("RATE_LIMIT_SEARCH_RATE", "1")]).unwrap().limits.rates.is_none());
    }

    #[test]
    fn the_proxy_header_counts_only_when_trusted() {
        assert_eq!(config(&[("REAL_IP_HEADER", "X-Real-IP")]).unwrap().limits.real_ip_header, None);
        let trusted = config(&[("TRUST_PROXY", "true"), ("REAL_IP_HEADER", "X-Real-IP")]).unwrap();
        assert_eq!(trusted.limits.real_ip_header.as_deref(), Some("x-real-ip"));
    }

    #[test]
    fn every_origin_with_credentials_is_refused() {
        assert!(
            fault(&[("CORS_ENABLED", "true"), ("CORS_ORIGINS", "*")]).starts_with("CORS_ORIGINS: ")
        );
        let open = config(&[
            ("CORS_ENABLED", "true"),
            ("CORS_ORIGINS", "*"),
            ("CORS_CREDENTIALS", "false"),
        ])
        .unwrap();
        assert_eq!(open.cors.origins, ["*"]);
        let two = config(&[("CORS_ORIGINS", "https://a.example/, https://b.example")]).unwrap();
        assert_eq!(two.cors.origins, ["https://a.example", "https://b.example"]);
    }

    #[test]
    fn sizes_have_limits() {
        assert!(fault(&[("NODE_BATCH_MAX", "501")]).starts_with("NODE_BATCH_MAX: "));
        assert!(fault(&[("MAX_REQUEST_SIZE_BYTES", "0")]).starts_with("MAX_REQUEST_SIZE_BYTES: "));
    }
}
