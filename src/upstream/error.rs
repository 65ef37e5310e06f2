//! What came of a call that failed.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

/// A call that failed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{service} at {place} {failure}")]
pub struct UpstreamError {
    /// The service.
    pub service: &'static str,
    /// Its host and port.
    pub place: Arc<str>,
    /// What happened.
    pub failure: Failure,
}

impl UpstreamError {
    /// Whether the service answered that it will not do what this request asks for, which says
    /// nothing about others.
    pub fn is_refusal(&self) -> bool {
        matches!(self.failure, Failure::Status { status: 400 | 413 | 422, .. })
    }
}

/// Why a call failed.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    /// No connection came about.
    #[error("cannot be reached: {0}; check its address and that it runs")]
    Unreachable(String),
    /// It took longer than allowed.
    #[error("took too long: {0}")]
    TimedOut(&'static str),
    /// The connection broke, or the answer ended too early.
    #[error("broke off its answer: {0}")]
    BrokeOff(String),
    /// It answered with a status other than 2xx.
    #[error("answered {status}{}{}", code.as_deref().map_or(String::new(), |code| format!(" ({code})")), advice(*status))]
    Status {
        /// The status.
        status: u16,
        /// The service's word for it.
        code: Option<String>,
        /// How long it asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// Its answer is larger than allowed.
    #[error("sent more than {limit} bytes")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
    /// Its answer is none that this program understands.
    #[error("sent an answer that makes no sense: {0}; check that the address is of such a service")]
    NoSense(String),
    /// It said in the middle of its answer that it cannot go on.
    #[error("gave up its answer{}", .0.as_deref().map_or(String::new(), |code| format!(" ({code})")))]
    Reported(Option<String>),
    /// It withheld its answer by rules of its own.
    #[error("withheld its answer: its own rules forbid it")]
    Withheld,
    /// It failed so often that it is not asked for a while.
    #[error("failed repeatedly and is left alone for another {} s", wait.as_secs_f64().ceil())]
    Resting {
        /// How long still.
        wait: Duration,
    },
    /// The settings of the service cannot be used.
    #[error("cannot be used: {0}")]
    Settings(&'static str),
}

/// What to do about a status.
fn advice(status: u16) -> &'static str {
    match status {
        300..=399 => "; redirects are not followed, set the address it redirects to",
        401 | 403 => "; check its key",
        404 => "; check its address and the name of the model",
        429 => "; it takes no more for now",
        _ => "",
    }
}

impl Failure {
    /// Whether another attempt may end differently.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable(_) | Self::BrokeOff(_) | Self::Reported(_) => true,
            Self::Status { status, .. } => matches!(status, 408 | 425 | 429 | 500..=599),
            Self::TimedOut(_)
            | Self::TooLarge { .. }
            | Self::NoSense(_)
            | Self::Withheld
            | Self::Resting { .. }
            | Self::Settings(_) => false,
        }
    }

    /// Whether it speaks against asking the service again soon. A refusal of one request does
    /// not: the service is there.
    pub(super) fn counts(&self) -> bool {
        matches!(self, Self::TimedOut(_)) || self.is_passing()
    }

    /// The wait that the service asked for.
    pub(super) fn asked_for(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    /// Its label in metrics, one of [`Failure::LABELS`].
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::TimedOut(_) => "timed_out",
            Self::BrokeOff(_) => "broke_off",
            Self::Status { status: 429, .. } => "rate_limited",
            Self::Status { status: 500.., .. } | Self::Reported(_) => "server_error",
            Self::Status { .. } | Self::Settings(_) | Self::Withheld => "refused",
            Self::TooLarge { .. } => "too_large",
            Self::NoSense(_) => "no_sense",
            Self::Resting { .. } => "resting",
        }
    }

    /// All labels.
    pub(crate) const LABELS: [&str; 9] = [
        "unreachable",
        "timed_out",
        "broke_off",
        "rate_limited",
        "server_error",
        "refused",
        "too_large",
        "no_sense",
        "resting",
    ];

    /// What an error of the HTTP client is.
    pub(super) fn of(error: reqwest::Error) -> Self {
        let connecting = error.is_connect();
        let timeout = error.is_timeout();
        let reason = innermost(&error.without_url());
        match (connecting, timeout) {
            (true, true) => Self::Unreachable("no connection in time".to_owned()),
            (true, false) => Self::Unreachable(reason),
            (false, true) => Self::TimedOut("no answer"),
            (false, false) => Self::BrokeOff(reason),
        }
    }
}

/// The last of the causes of `error`, which says what happened; the ones before say where.
fn innermost(error: &dyn Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}

/// Longest word taken over from a service.
const WORD_MAX: usize = 64;

/// The service's word for an error: `error.code`, `error.type` or a short `error`. Sentences are
/// left out, as they may repeat keys and questions.
pub(super) fn code_of(body: &[u8]) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    code_in(&body)
}

/// The word in an object that has an `error`.
pub(crate) fn code_in(body: &Value) -> Option<String> {
    let error = body.get("error")?;
    let words = [error.get("code"), error.get("type"), Some(error)];
    let mut words = words.into_iter().flatten().filter_map(|word| match word {
        Value::String(word) => Some(word.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    });
    words.find(|word| {
        let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        // A key has upper-case letters or a dash, and the words of these APIs do not.
        !word.is_empty() && word.len() <= WORD_MAX && word.bytes().all(plain)
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn words_of_a_service_are_passed_on_and_sentences_are_not() {
        let code = |body: Value| code_of(body.to_string().as_bytes());
        let word = |word: &str| Some(word.to_owned());
        assert_eq!(
            code(
                json!({"error": {"message": "bad key sk-abc", "code": "invalid_api_key", "type": "x"}})
            ),
            word("invalid_api_key")
        );
        assert_eq!(
            code(json!({"error": {"code": null, "type": "server_error"}})),
            word("server_error")
        );
        assert_eq!(code(json!({"error": {"code": 400, "message": "no"}})), word("400"));
        for leaking in [
            json!({"error": "model \"x\" not found"}),
            json!({"error": {"message": "what about pumps?"}}),
            json!({"error": {"code": "sk-0123456789"}}),
            json!({"error": {"code": "a".repeat(65)}}),
            json!({"error": []}),
            json!({"detail": "not_here"}),
            json!([]),
        ] {
            assert_eq!(code(leaking.clone()), None, "{leaking}");
        }
        assert_eq!(code_of(b"<html>"), None);
    }

    #[test]
    fn errors_say_what_to_do() {
        let error = |failure| {
            let place = "127.0.0.1:9".into();
            UpstreamError { service: "openai", place, failure }.to_string()
        };
        let status = |status, code: Option<&str>| Failure::Status {
            status,
            code: code.map(str::to_owned),
            retry_after: None,
        };
        assert_eq!(
            error(status(401, Some("invalid_api_key"))),
            "openai at 127.0.0.1:9 answered 401 (invalid_api_key); check its key"
        );
        assert_eq!(error(status(500, None)), "openai at 127.0.0.1:9 answered 500");
        assert_eq!(
            error(Failure::Resting { wait: Duration::from_millis(2100) }),
            "openai at 127.0.0.1:9 failed repeatedly and is left alone for another 3 s"
        );
        for failure in [status(429, None), status(503, None), status(302, None)] {
            assert!(Failure::LABELS.contains(&failure.label()));
        }
    }
}
