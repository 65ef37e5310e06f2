//! The client of one service.

use std::sync::Arc;
use std::time::Duration;

use activekg_storage::time::Clock;
use bytes::Bytes;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Response, Url, redirect};
use serde::Serialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::debug;

use super::body::{Body, Pieces};
use super::breaker::Breaker;
use super::error::code_of;
use super::retry::retry_after;
use super::{BreakerState, Failure, Limits, Retries, Service, UpstreamError};
use crate::config::Secret;
use crate::observability::metrics::UpstreamMetrics;
use crate::tls;

/// Bytes of an error's body that are read for its word.
const ERROR_BODY_MAX: usize = 64 * 1024;
/// Longest time for that.
const ERROR_BODY_TIME: Duration = Duration::from_secs(2);
/// Idle connections are given up before a server does, which would fail the next call.
const IDLE_MAX: Duration = Duration::from_secs(20);

/// Calls one service. Clones share its connections, its limits and its breaker.
#[derive(Clone)]
pub struct Upstream {
    inside: Arc<Inside>,
}

pub(super) struct Inside {
    http: Client,
    service: &'static str,
    /// Host and port.
    place: Arc<str>,
    base: Url,
    authorization: Option<HeaderValue>,
    /// Compared with what the service says, so that it is not repeated.
    key: Option<Secret>,
    limits: Limits,
    retries: Retries,
    breaker: Breaker,
    places: Arc<Semaphore>,
    metrics: UpstreamMetrics,
    clock: Arc<dyn Clock>,
}

impl Upstream {
    /// A client of `service`; connects when first called.
    ///
    /// # Errors
    ///
    /// [`Failure::Settings`] for an address that is none, or a key that fits in no header.
    pub fn new(
        service: Service,
        metrics: UpstreamMetrics,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, UpstreamError> {
        let Service { name, base_url, key, limits, retries, breaker } = service;
        let unusable = |place: &str, reason| UpstreamError {
            service: name,
            place: place.into(),
            failure: Failure::Settings(reason),
        };
        let base = Url::parse(base_url.reveal()).ok();
        let base = base.filter(|base| matches!(base.scheme(), "http" | "https") && base.has_host());
        let Some(mut base) = base else {
            return Err(unusable("its address", "the address is not http:// or https://"));
        };
        let place = match (base.host_str().unwrap_or_default(), base.port_or_known_default()) {
            (host, Some(port)) => format!("{host}:{port}"),
            (host, None) => host.to_owned(),
        };
        let authorization = key.as_ref().map(bearer).transpose();
        let authorization = authorization
            .map_err(|()| unusable(&place, "its key holds characters that no header may hold"))?;
        if authorization.is_some() {
            // Neither fails for an address with a host. Without a key, the name and password of
            // the address are sent by the HTTP client, and as a header as well.
            let _ = base.set_username("");
            let _ = base.set_password(None);
        }
        base.set_query(None);
        base.set_fragment(None);
        let configured = |builder: reqwest::ClientBuilder| {
            builder
                .user_agent(concat!("activekg/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(limits.connect)
                .pool_idle_timeout(IDLE_MAX)
                .redirect(redirect::Policy::none())
                .referer(false)
                .retry(reqwest::retry::never())
        };
        let http = match base.scheme() {
            "https" => tls::web(configured),
            // No proxy: it would read what is sent.
            _ => configured(tls::plain()).no_proxy().build(),
        };
        let http = http.map_err(|_| unusable(&place, "no client can be made for it"))?;
        metrics.announce(name);
        let inside = Inside {
            http,
            service: name,
            place: place.into(),
            base,
            authorization,
            key,
            limits,
            retries,
            breaker: Breaker::new(breaker),
            places: Arc::new(Semaphore::new(limits.in_flight.clamp(1, Semaphore::MAX_PERMITS))),
            metrics,
            clock,
        };
        Ok(Self { inside: Arc::new(inside) })
    }

    /// What the service is called.
    pub fn name(&self) -> &'static str {
        self.inside.service
    }

    /// Where its breaker stands.
    pub fn state(&self) -> BreakerState {
        self.inside.breaker.state()
    }

    /// Posts `body` as JSON to `path` below the service's address; the whole answer.
    ///
    /// # Errors
    ///
    /// The failure of the last attempt.
    pub async fn call<B>(&self, path: &str, body: &B) -> Result<Vec<u8>, UpstreamError>
    where
        B: Serialize + Sync + ?Sized,
    {
        let request = Request { path, body: encoded(body), wanted: Wanted::Whole };
        let (_, whole, _) = self.inside.attempts(&request).await?;
        self.inside.done();
        Ok(whole.map_or_else(Vec::new, Vec::from))
    }

    /// Posts `body` as JSON to `path` below the service's address; the answer in pieces, once its
    /// first byte is there. After that nothing is tried again.
    ///
    /// # Errors
    ///
    /// The failure of the last attempt.
    pub async fn stream<B>(&self, path: &str, body: &B) -> Result<Pieces, UpstreamError>
    where
        B: Serialize + Sync + ?Sized,
    {
        let request = Request { path, body: encoded(body), wanted: Wanted::FirstByte };
        let (body, first, place) = self.inside.attempts(&request).await?;
        Ok(Pieces::new(body, first, self.inside.clone(), place))
    }

    /// An error of this service, for an answer that came and makes no sense.
    pub fn error(&self, failure: Failure) -> UpstreamError {
        self.inside.error(failure)
    }
}

impl Inside {
    pub(super) fn error(&self, failure: Failure) -> UpstreamError {
        UpstreamError { service: self.service, place: self.place.clone(), failure }
    }

    /// The error of an answer that had begun well; the breaker hears of it.
    pub(super) fn failed_midway(&self, failure: Failure) -> UpstreamError {
        if failure.counts() {
            self.breaker.failed(self.clock.now());
        }
        self.metrics.breaker(self.service, self.breaker.state());
        self.metrics.ended(self.service, failure.label());
        self.error(failure)
    }

    /// A call ended well.
    pub(super) fn done(&self) {
        self.metrics.ended(self.service, "ok");
    }

    /// Makes attempts until one succeeds, or the last failure. All of them, and the wait for a
    /// place, are over by one deadline, which each is told.
    async fn attempts(
        &self,
        request: &Request<'_>,
    ) -> Result<(Body, Option<Bytes>, OwnedSemaphorePermit), UpstreamError> {
        let started = Instant::now();
        let deadline = started + self.limits.total;
        let place = timeout_at(deadline, self.places.clone().acquire_owned()).await;
        let Ok(Ok(place)) = place else {
            return Err(self.ended(Failure::TimedOut("too many calls are under way")));
        };
        let mut n = 0;
        loop {
            let failure = match self.guarded(request, deadline).await {
                Ok((body, read)) => {
                    self.metrics.answered(self.service, started.elapsed());
                    return Ok((body, read, place));
                }
                Err(failure) => failure,
            };
            let wait = failure
                .is_passing()
                .then(|| self.retries.wait(n, failure.asked_for(), rand::random()))
                .flatten()
                .filter(|wait| Instant::now() + *wait < deadline);
            let Some(wait) = wait else {
                return Err(self.ended(failure));
            };
            debug!(service = self.service, attempt = n + 1, "a call failed and is made again");
            self.metrics.again(self.service);
            sleep(wait).await;
            n += 1;
        }
    }

    /// One attempt, if the breaker lets it through.
    async fn guarded(
        &self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<(Body, Option<Bytes>), Failure> {
        let permit = self.breaker.admit(self.clock.now());
        let permit = permit.map_err(|wait| Failure::Resting { wait })?;
        self.metrics.breaker(self.service, self.breaker.state());
        let outcome = timeout_at(deadline, self.attempt(request, deadline)).await;
        let outcome = outcome.unwrap_or(Err(Failure::TimedOut("no whole answer")));
        match &outcome {
            Err(failure) if failure.counts() => permit.failed(self.clock.now()),
            // A refusal is an answer as well.
            Ok(_) | Err(_) => permit.succeeded(),
        }
        self.metrics.breaker(self.service, self.breaker.state());
        outcome
    }

    fn ended(&self, failure: Failure) -> UpstreamError {
        self.metrics.ended(self.service, failure.label());
        self.error(failure)
    }

    /// Sends a request and waits for as much of an answer with success as is wanted.
    async fn attempt(
        &self,
        request: &Request<'_>,
        deadline: Instant,
    ) -> Result<(Body, Option<Bytes>), Failure> {
        let Request { path, body, wanted } = request;
        let first_byte = deadline.min(Instant::now() + self.limits.first_byte);
        let response = timeout_at(first_byte, self.send(path, body.clone())).await;
        let response = response.map_err(|_| Failure::TimedOut("no answer"))??;
        if !response.status().is_success() {
            return Err(self.refusal(response).await);
        }
        let Limits { response_bytes, silence, .. } = self.limits;
        let mut body = Body::new(response, response_bytes, silence, deadline)?;
        let first = body.next_until(first_byte).await?;
        let read = match (first, wanted) {
            (Some(first), Wanted::Whole) => Some(body.rest(first).await?),
            (first, _) => first,
        };
        Ok((body, read))
    }

    async fn send(&self, path: &str, body: Bytes) -> Result<Response, Failure> {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        let request = self.http.post(url).header(CONTENT_TYPE, "application/json").body(body);
        let request = match &self.authorization {
            Some(authorization) => request.header(AUTHORIZATION, authorization.clone()),
            None => request,
        };
        request.send().await.map_err(Failure::of)
    }

    /// What a status other than 2xx means.
    async fn refusal(&self, response: Response) -> Failure {
        let status = response.status().as_u16();
        let asked = response.headers().get(RETRY_AFTER);
        let retry_after = asked.and_then(|asked| retry_after(asked, self.clock.now()));
        let until = Instant::now() + ERROR_BODY_TIME;
        let body = Body::new(response, ERROR_BODY_MAX, ERROR_BODY_TIME, until);
        let code = match body {
            Ok(mut body) => body.rest(Bytes::new()).await.ok().and_then(|body| code_of(&body)),
            Err(_) => None,
        };
        Failure::Status { status, code: code.filter(|code| !self.is_secret(code)), retry_after }
    }

    /// Whether a word of the service is, or is part of, its key.
    fn is_secret(&self, word: &str) -> bool {
        self.key.as_ref().is_some_and(|key| {
            let key = key.reveal();
            word.contains(key) || (word.len() >= 4 && key.contains(word))
        })
    }
}

/// A request, which every attempt sends anew.
struct Request<'a> {
    path: &'a str,
    body: Bytes,
    wanted: Wanted,
}

/// How much of an answer makes an attempt a success.
#[derive(Clone, Copy)]
enum Wanted {
    FirstByte,
    Whole,
}

/// A body of a request: shared, so that every attempt sends the same.
fn encoded<B: Serialize + ?Sized>(body: &B) -> Bytes {
    serde_json::to_vec(body).expect("a request always has a JSON form").into()
}

/// The header that proves who calls.
fn bearer(key: &Secret) -> Result<HeaderValue, ()> {
    let mut value = HeaderValue::from_str(&format!("Bearer {}", key.reveal())).map_err(drop)?;
    value.set_sensitive(true);
    Ok(value)
}
