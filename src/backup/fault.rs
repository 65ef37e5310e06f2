//! Why a bucket could not be used, for whoever keeps the backups.

use std::error::Error as StdError;
use std::io;

use object_store::client::{HttpError, HttpErrorKind};
use reqwest::Url;

use crate::clouds::endpoint;
use crate::config::Secret;

/// Longest code of an answer that is repeated.
const CODE_MAX: usize = 64;

/// What a bucket is called, where it is, and what its settings are called. Holds no secret.
#[derive(Debug, Clone)]
pub(super) struct Whereabouts {
    url: String,
    /// Host and port of the service, if they are set; else the provider knows.
    host: Option<String>,
    provider: Provider,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Provider {
    S3,
    Google,
    Azure,
}

impl Whereabouts {
    /// Those of the bucket at `url`, used with the settings `clouds`.
    pub(super) fn new(url: &str, clouds: &[(String, Secret)]) -> Self {
        let provider = match url.split(':').next() {
            Some("gs") => Provider::Google,
            Some("az") => Provider::Azure,
            _ => Provider::S3,
        };
        let host = endpoint(clouds)
            .filter(|_| provider == Provider::S3)
            .and_then(|endpoint| Url::parse(endpoint.reveal()).ok())
            .and_then(|endpoint| {
                let host = endpoint.host_str()?.to_owned();
                Some(
                    endpoint
                        .port_or_known_default()
                        .map_or(host.clone(), |port| format!("{host}:{port}")),
                )
            });
        Self { url: url.to_owned(), host, provider }
    }

    /// `error` as an error of reading or writing, with a [`BucketFault`] in it.
    pub(super) fn fault(&self, error: object_store::Error) -> io::Error {
        let kind = match &error {
            object_store::Error::NotFound { .. } => io::ErrorKind::NotFound,
            _ => io::ErrorKind::Other,
        };
        let wrong = Wrong::of(&error);
        let Self { url, host, .. } = self;
        let host = host.as_ref().map(|host| format!(" at {host}")).unwrap_or_default();
        let (what, advice) = (wrong.text(), wrong.advice(self.provider));
        io::Error::new(kind, BucketFault(format!("{url}{host} {what}; {advice}")))
    }
}

/// Why a bucket could not be used, and what to do: a sentence without any secret, since neither
/// keys nor what the service said beyond a one-word code are in it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BucketFault(String);

impl BucketFault {
    /// The fault that led to `error`, if it was one.
    pub(super) fn behind<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Self> {
        chain(error).find_map(|error| {
            let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
            inside.and_then(|inside| inside.downcast_ref())
        })
    }
}

/// What went wrong.
#[derive(Debug, PartialEq, Eq)]
enum Wrong {
    Unreachable,
    TimedOut,
    BrokeOff,
    /// It answered with a status, and maybe a code.
    Answered(u16, Option<String>),
    /// Another region has the bucket.
    Elsewhere,
    /// A setting is missing or wrong, before anything was sent.
    Settings,
}

impl Wrong {
    fn of(error: &object_store::Error) -> Self {
        let connection = chain(error).find_map(|error| error.downcast_ref::<HttpError>());
        if let Some(error) = connection {
            return match error.kind() {
                HttpErrorKind::Connect => Self::Unreachable,
                HttpErrorKind::Timeout => Self::TimedOut,
                _ => Self::BrokeOff,
            };
        }
        // The client has no public type for a status; its messages have had one shape for long.
        // The innermost message is the answer's alone.
        let said = chain(error).last().map(ToString::to_string).unwrap_or_default();
        if said.contains("redirect without LOCATION") {
            return Self::Elsewhere;
        }
        let code = code(&said);
        let status =
            said.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)?.parse().ok());
        let known = match error {
            object_store::Error::NotFound { .. } => Some(404),
            object_store::Error::PermissionDenied { .. } => Some(403),
            object_store::Error::Unauthenticated { .. } => Some(401),
            object_store::Error::AlreadyExists { .. } => Some(409),
            object_store::Error::Precondition { .. } => Some(412),
            // An error in an answer that says it is none.
            _ if said.starts_with("Server returned error response") => Some(200),
            _ => None,
        };
        status.or(known).map_or(Self::Settings, |status| Self::Answered(status, code))
    }

    fn text(&self) -> String {
        match self {
            Self::Unreachable => "cannot be reached".to_owned(),
            Self::TimedOut => "did not answer in time".to_owned(),
            Self::BrokeOff => "broke off the connection".to_owned(),
            Self::Elsewhere => "is in another region".to_owned(),
            Self::Settings => "cannot be used with these settings".to_owned(),
            Self::Answered(status, code) => {
                let code = code.as_ref().map(|code| format!(", {code}")).unwrap_or_default();
                match status {
                    401 | 403 => format!("refuses (status {status}{code})"),
                    404 => format!("is not there (status 404{code})"),
                    _ => format!("failed (status {status}{code})"),
                }
            }
        }
    }

    fn advice(&self, provider: Provider) -> &'static str {
        match (self, provider) {
            (Self::Unreachable | Self::TimedOut | Self::BrokeOff, Provider::S3) => {
                "check AWS_ENDPOINT_URL_S3, AWS_REGION and the network; without AWS_ACCESS_KEY_ID the keys of this machine are asked for"
            }
            (Self::Unreachable | Self::TimedOut | Self::BrokeOff, _) => "check the network",
            (Self::Answered(404, _), _) => {
                "make the bucket, or name another one in ACTIVEKG_BACKUP_DIR"
            }
            (Self::Answered(500.., _), _) => "try again later",
            (Self::Elsewhere, _) => "set AWS_REGION to the bucket's",
            (Self::Answered(..) | Self::Settings, Provider::S3) => {
                "check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION and what the key may do with the bucket"
            }
            (Self::Answered(..) | Self::Settings, Provider::Google) => {
                "check GOOGLE_APPLICATION_CREDENTIALS and what the account may do with the bucket"
            }
            (Self::Answered(..) | Self::Settings, Provider::Azure) => {
                "check AZURE_STORAGE_ACCOUNT_NAME, AZURE_STORAGE_ACCOUNT_KEY and what the key may do with the container"
            }
        }
    }
}

fn chain<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The one-word code of an answer in XML, if it is one word.
fn code(said: &str) -> Option<String> {
    let (_, rest) = said.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let word = !code.is_empty()
        && code.len() <= CODE_MAX
        && code.bytes().all(|byte| byte.is_ascii_alphanumeric());
    word.then(|| code.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_word_is_taken_for_a_code() {
        assert_eq!(code("<Error><Code>NoSuchBucket</Code>").as_deref(), Some("NoSuchBucket"));
        for no in ["", "<Code></Code>", "<Code>a b</Code>", "<Code>x", "<Code>key=1</Code>"] {
            assert_eq!(code(no), None, "{no}");
        }
    }

    #[test]
    fn a_place_is_named_without_what_is_secret() {
        let cloud = |name: &str, value: &str| (name.to_owned(), Secret::from(value.to_owned()));
        let clouds = [
            cloud("aws_endpoint_url_s3", "http://user:hunter2@10.0.0.9:9000/x"),
            cloud("aws_secret_access_key", "hunter2"),
        ];
        let missing =
            object_store::Error::NotFound { path: "kg".to_owned(), source: "hunter2".into() };
        let error = Whereabouts::new("s3://b/kg", &clouds).fault(missing);
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
        let text = error.to_string();
        let place = "s3://b/kg at 10.0.0.9:9000 is not there (status 404); make the bucket";
        assert!(text.starts_with(place), "{text}");
        assert!(!text.contains("hunter2"), "{text}");
    }
}
