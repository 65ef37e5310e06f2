//! Texts from the web.

use std::error::Error as StdError;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::header::{ACCEPT, CONTENT_TYPE, LOCATION};
use reqwest::{Client, Method, RequestBuilder, Response, Url, redirect};
use tokio::time::timeout;

use super::{FetchError, is_public};
use crate::documents::page_text;
use crate::names::{Checked, Lookup, Objection};
use crate::{config, tls};

/// Redirects followed for one text.
const HOPS_MAX: usize = 5;
/// Told of an address that may not be connected to.
const PRIVATE: &str = "the host has an address that is not public";

/// Fetches from the web.
#[derive(Clone)]
pub(crate) struct Web {
    http: Client,
    limits: Arc<Limits>,
}

struct Limits {
    hosts: Vec<String>,
    max_bytes: usize,
    timeout: Duration,
    allow_private: bool,
}

impl Web {
    pub(crate) fn new(
        settings: &config::Fetch,
        names: impl Lookup,
    ) -> Result<Self, reqwest::Error> {
        let limits = Limits {
            hosts: settings.hosts.clone(),
            max_bytes: settings.max_bytes,
            timeout: settings.timeout,
            allow_private: settings.danger_allow_private_addresses,
        };
        let check = if limits.allow_private { |_: &[IpAddr]| Ok(()) } else { public };
        let names = Arc::new(Checked::new(names, check));
        let http = tls::web(|builder| {
            builder
                .user_agent(concat!("activekg/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .referer(false)
                .retry(reqwest::retry::never())
                // A proxy would connect to addresses that nobody here has looked at.
                .no_proxy()
                .dns_resolver(names.clone())
                .pool_max_idle_per_host(1)
        })?;
        Ok(Self { http, limits: Arc::new(limits) })
    }

    pub(super) async fn text(&self, reference: &str) -> Result<String, FetchError> {
        let fetched = timeout(self.limits.timeout, self.fetch(reference)).await;
        fetched.unwrap_or_else(|_| {
            Err(FetchError::failed("no whole answer within ACTIVEKG_FETCH_TIMEOUT"))
        })
    }

    async fn fetch(&self, reference: &str) -> Result<String, FetchError> {
        let url = Url::parse(reference).map_err(|_| FetchError::refused("it is not a URL"))?;
        let asked =
            |_: &Url, request: RequestBuilder| request.header(ACCEPT, "text/*, application/json");
        let response = self.ask(&Method::GET, url, asked).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(FetchError::failed(format!("the host answers {}", status.as_u16())));
        }
        self.read(response).await
    }

    /// The answer at the end of all redirects. `asked` puts into every request what it wants, by the
    /// address that it goes to.
    pub(crate) async fn ask(
        &self,
        method: &Method,
        mut url: Url,
        asked: impl Fn(&Url, RequestBuilder) -> RequestBuilder,
    ) -> Result<Response, Unanswered> {
        for _ in 0..=HOPS_MAX {
            self.vet(&url)?;
            let request = asked(&url, self.http.request(method.clone(), url.clone()));
            let response = request.send().await.map_err(unanswered)?;
            if response.status().is_redirection()
                && let Some(to) = response.headers().get(LOCATION)
            {
                let to = to.to_str().ok().and_then(|to| url.join(to).ok());
                url = to.ok_or(Unanswered::Redirects("a redirect leads to no address"))?;
                continue;
            }
            return Ok(response);
        }
        Err(Unanswered::Redirects("more than 5 redirects"))
    }

    /// Whether the address may be asked, as far as can be told before its name is looked up.
    fn vet(&self, url: &Url) -> Result<(), Unanswered> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Unanswered::Refused("a redirect leaves the web"));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(Unanswered::Refused("it holds a user or a password"));
        }
        let host = url.host_str().unwrap_or_default();
        let bare = host.trim_end_matches('.').to_ascii_lowercase();
        let Limits { hosts, allow_private, .. } = &*self.limits;
        if !hosts.is_empty() && !hosts.contains(&bare) {
            return Err(Unanswered::Refused("the host is not in ACTIVEKG_URL_ALLOWLIST"));
        }
        // An address in place of a name is not looked up. It is in its one form here, however it
        // was written.
        let literal = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        if literal.is_ok_and(|address| !allow_private && !is_public(address)) {
            return Err(Unanswered::Refused(PRIVATE));
        }
        Ok(())
    }

    /// The body, if it is text.
    async fn read(&self, response: Response) -> Result<String, FetchError> {
        let kind = response.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let kind = kind.unwrap_or_default().to_ascii_lowercase();
        let is_page = kind.starts_with("text/html");
        if !kind.starts_with("text/") && !kind.starts_with("application/json") {
            return Err(FetchError::refused("what it leads to is neither text nor JSON"));
        }
        let most = self.limits.max_bytes;
        if response.content_length().is_some_and(|length| length > most as u64) {
            return Err(FetchError::refused("it is longer than ACTIVEKG_MAX_FETCH_BYTES"));
        }
        let mut body = Vec::new();
        let mut pieces = response.bytes_stream();
        while let Some(piece) = pieces.next().await {
            let piece = piece.map_err(fault)?;
            let room = most - body.len();
            body.extend_from_slice(&piece[..piece.len().min(room)]);
            if body.len() == most {
                break;
            }
        }
        if is_page {
            let read = tokio::task::spawn_blocking(move || page_text(&body, &kind)).await;
            // A page without words is one without text, as an empty file is.
            return Ok(read
                .map_err(|_| FetchError::failed("the process stops"))?
                .unwrap_or_default());
        }
        Ok(String::from_utf8_lossy(&body).into_owned())
    }
}

/// Objects to names with an address that is not public: even beside others, since the next look-up
/// may give it alone.
fn public(addresses: &[IpAddr]) -> Result<(), Objection> {
    if addresses.iter().all(|address| is_public(*address)) { Ok(()) } else { Err(NotPublic.into()) }
}

/// A name leads to an address that may not be connected to.
#[derive(Debug, thiserror::Error)]
#[error("{PRIVATE}")]
struct NotPublic;

/// Why the web gave no answer.
pub(crate) enum Unanswered {
    /// The address leads nowhere that may be asked.
    Refused(&'static str),
    /// Redirects lead to no answer.
    Redirects(&'static str),
    /// The request failed.
    Failed(reqwest::Error),
}

impl From<Unanswered> for FetchError {
    fn from(why: Unanswered) -> Self {
        match why {
            Unanswered::Refused(why) => Self::refused(why),
            Unanswered::Redirects(why) => Self::failed(why),
            Unanswered::Failed(error) => fault(error),
        }
    }
}

fn unanswered(error: reqwest::Error) -> Unanswered {
    let mut inner: Option<&(dyn StdError + 'static)> = Some(&error);
    while let Some(cause) = inner {
        if cause.is::<NotPublic>() {
            return Unanswered::Refused(PRIVATE);
        }
        inner = cause.source();
    }
    Unanswered::Failed(error)
}

/// What went wrong, without the address it went wrong at.
fn fault(error: reqwest::Error) -> FetchError {
    FetchError::failed(match () {
        () if error.is_timeout() => "the host does not answer in time",
        () if error.is_connect() => "no connection to the host",
        () if error.is_body() || error.is_decode() => "the answer broke off",
        () => "the host does not answer as a web server does",
    })
}
