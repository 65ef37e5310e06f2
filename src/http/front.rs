//! What every request of a surface goes through before its handler, in this order: path and
//! method (404, 405), the address's rate (429), size (413), token (401), the tenant's rate
//! (429). The handler's extractors follow with the body (422), the handler itself with scopes
//! (403). On the way back errors get their bodies and answers their headers.

use std::any::Any;
use std::net::SocketAddr;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, Request};
use axum::http::header::{ALLOW, HOST, LOCATION, ORIGIN};
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use http_body_util::BodyExt;
use tower::ServiceExt;

use super::cors::Cors;
use super::dialect::{self, Anonymous, Dialect};
use super::error::{ApiError, ErrorKind};
use super::limits;
use super::rate_limit::{Group, Permit, Quota, RateLimiter, Verdict};
use super::request_id::{RequestId, X_REQUEST_ID};
use super::routes::{Found, Route, RouteTable, joined, segments};
use crate::admin::Peer;
use crate::observability::metrics::RateLimited;

/// Who calls, and what is learned from the answers: the part of a surface that differs.
pub trait Gate: Send + Sync + 'static {
    /// The identity handlers get, in the request's extensions.
    type Caller: Clone + Send + Sync + 'static;

    /// The caller behind a request to a route that is not open.
    ///
    /// # Errors
    ///
    /// What to answer instead.
    fn caller(&self, parts: &Parts) -> Result<Self::Caller, ApiError>;

    /// The tenant whose requests are counted together; `None` counts by address.
    fn tenant<'a>(&self, caller: &'a Self::Caller) -> Option<&'a str>;

    /// Told of every request beyond its caller's rate or share, with the path of the route.
    fn limited(&self, path: &'static str, limit: RateLimited) {
        let _ = (path, limit);
    }

    /// Told of every answer, with the path of the route if there is one.
    fn answered(&self, path: Option<&'static str>, status: StatusCode, took: Duration) {
        let _ = (path, status, took);
    }
}

/// The settings of a front.
pub struct FrontSettings {
    /// Largest body, in bytes.
    pub max_request_bytes: usize,
    /// The header a trusted proxy puts the client's address in; `None` trusts none.
    pub real_ip_header: Option<String>,
    /// How often callers may ask; `None` = as they like.
    pub rates: Option<RateLimiter>,
    /// Browsers of other origins.
    pub cors: Cors,
    /// How errors of a path are worded.
    pub dialect: fn(&str) -> Dialect,
}

/// A surface: `routes` in front of `handlers`, which must hold exactly them.
pub fn surface<G: Gate>(
    gate: G,
    settings: FrontSettings,
    routes: &'static [Route],
    handlers: Router,
) -> Router {
    let handlers = handlers
        .fallback(|| async { ApiError::not_found("Not Found") })
        .method_not_allowed_fallback(|| async { method_not_allowed() });
    let front = Arc::new(Front { gate, settings, table: RouteTable::new(routes), handlers });
    Router::new().fallback(move |request: Request| front.clone().serve(request))
}

struct Front<G> {
    gate: G,
    settings: FrontSettings,
    table: RouteTable,
    handlers: Router,
}

impl<G: Gate> Front<G> {
    async fn serve(self: Arc<Self>, request: Request) -> Response {
        let started = Instant::now();
        let id = RequestId::of(request.headers());
        let origin = request.headers().get(ORIGIN).cloned();
        let cors = &self.settings.cors;
        let dialect = (self.settings.dialect)(&segments(request.uri().path()).join("/"));
        let mut path = None;
        let mut response = match cors.preflight(request.method(), request.headers()) {
            Some(response) => response,
            None => AssertUnwindSafe(self.pass(request, &id, &mut path))
                .catch_unwind()
                .await
                .unwrap_or_else(|panic| Err(ApiError::unhandled(message(&*panic))))
                .unwrap_or_else(ApiError::into_response),
        };
        if let Some(error) = response.extensions_mut().remove::<ApiError>() {
            dialect::log(&error, &id, path.unwrap_or_default());
            response = dialect.render(&error, &id);
        }
        if response.extensions().get::<Anonymous>().is_none() {
            response.headers_mut().insert(X_REQUEST_ID, id.header());
        }
        cors.put_headers(origin.as_ref(), response.headers_mut());
        self.gate.answered(path, response.status(), started.elapsed());
        response
    }

    async fn pass(
        &self,
        request: Request,
        id: &RequestId,
        path: &mut Option<&'static str>,
    ) -> Result<Response, ApiError> {
        let asked = segments(request.uri().path());
        let route = match self.table.find(request.method(), &asked) {
            Found::Route(route) => route,
            Found::Moved(to) => return Ok(self.redirect(&request, &to)),
            Found::WrongMethod(allow) => {
                let allow = HeaderValue::from_str(&allow).expect("methods are ASCII words");
                return Err(method_not_allowed().with_header(ALLOW, allow));
            }
            Found::Nothing => return Err(ApiError::not_found("Not Found")),
        };
        *path = Some(route.path);

        let (mut parts, body) = request.into_parts();
        let caller = route.access.map(|_| self.gate.caller(&parts));
        let address = self.address(&parts);
        let tenant = match &caller {
            Some(Ok(caller)) => self.gate.tenant(caller).map(|tenant| format!("tenant:{tenant}")),
            _ => None,
        };
        let mut verdict = None;
        match &caller {
            // Floods of bad tokens are counted apart, so that they use up nobody's requests.
            Some(Err(_)) => {
                let group = route.group.unwrap_or(Group::Default);
                self.count(route, group, &format!("refused:{address}"))?;
            }
            // Whoever runs the server is not kept from looking after it by a flood of requests.
            _ if is_local(&parts) => {}
            _ if tenant.is_none() => verdict = self.limit(route, &address)?,
            _ => {}
        }

        let (most, too_large) = self.body_max(route);
        let declared = limits::declared_length(&parts.headers);
        if declared.is_some_and(|length| length > most as u64) {
            limits::discard(body, most).await;
            return Err(too_large());
        }
        let caller = match caller.transpose() {
            Ok(caller) => caller,
            Err(error) => {
                // A body of undeclared length may still be too large, which goes before.
                let fits = declared.is_some() || limits::fits(body, most).await;
                return Err(if fits { error } else { too_large() });
            }
        };
        let body = match declared {
            Some(_) => body,
            None => read(body, most, too_large).await?.into(),
        };
        if let Some(tenant) = &tenant {
            verdict = self.limit(route, tenant)?;
        }
        let who = tenant.as_deref().unwrap_or(&address);
        let permit = self.enter(route, who, verdict)?;
        if let Some(rates) = self.settings.rates.as_ref().filter(|_| !is_local(&parts)) {
            parts.extensions.insert(Quota::new(rates.clone(), who));
        }
        let body = read(body, most, too_large).await?;

        parts.uri = with_path(&parts.uri, &asked);
        parts.extensions.insert(id.clone());
        parts.extensions.insert(*route);
        if let Some(caller) = caller {
            parts.extensions.insert(caller);
        }
        let request = Request::from_parts(parts, Body::from(body));
        let mut response =
            self.handlers.clone().oneshot(request).await.unwrap_or_else(|never| match never {});
        if let Some(verdict) = verdict
            && !(response.status().is_client_error() || response.status().is_server_error())
        {
            verdict.put_headers(response.headers_mut(), unix_now());
        }
        Ok(match permit {
            Some(permit) => response.map(|body| holding(body, permit)),
            None => response,
        })
    }

    /// Largest body of a request to `route`, in bytes, and what a larger one is answered.
    fn body_max(&self, route: &Route) -> (usize, fn() -> ApiError) {
        let most = self.settings.max_request_bytes;
        match route.group.and_then(Group::body_max) {
            Some(own) if own <= most => (own, limits::webhook_too_large),
            _ => (most, limits::too_large),
        }
    }

    /// Counts a request to `route`, if routes like it are limited.
    fn limit(&self, route: &Route, who: &str) -> Result<Option<Verdict>, ApiError> {
        route.group.map_or(Ok(None), |group| self.count(route, group, who))
    }

    fn count(&self, route: &Route, group: Group, who: &str) -> Result<Option<Verdict>, ApiError> {
        let Some(rates) = &self.settings.rates else {
            return Ok(None);
        };
        let verdict = rates.take(group, who, Instant::now());
        if verdict.allowed {
            return Ok(Some(verdict));
        }
        self.gate.limited(route.path, RateLimited::Rate);
        Err(verdict.refusal(unix_now()))
    }

    /// The right to make one more answer, where it takes one.
    fn enter(
        &self,
        route: &Route,
        who: &str,
        verdict: Option<Verdict>,
    ) -> Result<Option<Permit>, ApiError> {
        let (Some(rates), Some(group), Some(verdict)) =
            (&self.settings.rates, route.group, verdict)
        else {
            return Ok(None);
        };
        if !matches!(group, Group::Ask | Group::AskStream) {
            return Ok(None);
        }
        let permit = rates.enter(group, who, Instant::now());
        permit.map(Some).ok_or_else(|| {
            self.gate.limited(route.path, RateLimited::Concurrency);
            verdict.refusal_of_concurrency(unix_now())
        })
    }

    /// The client's address, as far as it can be known.
    fn address(&self, parts: &Parts) -> String {
        let named = self.settings.real_ip_header.as_ref().and_then(|header| {
            let value = parts.headers.get(header)?.to_str().ok()?;
            let leftmost = value.split(',').next()?.trim();
            (!leftmost.is_empty() && leftmost.len() <= 64).then(|| leftmost.to_owned())
        });
        let peer = || parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
        let address = named.or_else(|| peer().map(|ip| ip.to_string()));
        format!("ip:{}", address.as_deref().unwrap_or("unknown"))
    }

    /// 307 to `path` on the host the client named.
    fn redirect(&self, request: &Request, path: &str) -> Response {
        let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
        let plausible = |host: &&str| {
            !host.is_empty()
                && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._:[]".contains(&b))
        };
        let proxied = self.settings.real_ip_header.is_some();
        let scheme = match text("x-forwarded-proto") {
            Some("https") if proxied => "https",
            _ => "http",
        };
        let base = text(HOST.as_str()).filter(plausible).map(|host| format!("{scheme}://{host}"));
        let query = request.uri().query().map(|query| format!("?{query}")).unwrap_or_default();
        let location = format!("{}{}{query}", base.unwrap_or_default(), path);
        let mut response = StatusCode::TEMPORARY_REDIRECT.into_response();
        if let Ok(location) = HeaderValue::from_str(&location) {
            response.headers_mut().insert(LOCATION, location);
        }
        response
    }
}

/// The whole body, if it has at most `limit` bytes; `too_large` is the answer otherwise.
async fn read(
    body: Body,
    limit: usize,
    too_large: fn() -> ApiError,
) -> Result<bytes::Bytes, ApiError> {
    limits::read(body, limit).await.map_err(|error| match error.kind {
        ErrorKind::TooLarge => too_large(),
        _ => error,
    })
}

/// Whether a request came over the admin socket.
pub fn is_local(parts: &Parts) -> bool {
    parts.extensions.get::<ConnectInfo<Peer>>().is_some()
}

fn method_not_allowed() -> ApiError {
    ApiError::new(ErrorKind::MethodNotAllowed, "Method Not Allowed")
}

/// The same URI with its path written in the one way handlers' routes are written.
fn with_path(uri: &Uri, path: &[String]) -> Uri {
    let query = uri.query().map(|query| format!("?{query}")).unwrap_or_default();
    let text = format!("{}{query}", joined(path));
    text.parse().expect("an escaped path and the query of a valid URI make a valid URI")
}

/// Seconds since 1970.
pub(super) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// What a panic said.
fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("panicked: {}", text.unwrap_or("without a message"))
}

/// A body that keeps a permit until it is sent or dropped.
fn holding(body: Body, permit: Permit) -> Body {
    Body::new(body.map_err(move |error| {
        let _held_by_this_closure = &permit;
        error
    }))
}

#[cfg(test)]
mod tests;
