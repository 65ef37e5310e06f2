//! How often one caller may ask, and how much of it at once.
//!
//! A token bucket for each group of routes and caller, and a cap on answers in the making. All
//! of it is in memory and bounded: beyond [`CALLERS_MAX`] callers, new ones share one bucket a
//! group.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::http::header::RETRY_AFTER;
use axum::http::{HeaderMap, HeaderName, HeaderValue};

use super::error::{ApiError, ErrorKind};
use crate::config::{Bucket, RateLimits};
use crate::observability::metrics::RateLimited;

/// Callers remembered at once. A bucket is about 100 bytes.
pub const CALLERS_MAX: usize = 65_536;

/// How long an answer in the making counts. One that takes longer hangs, and must not keep its
/// caller out.
const IN_FLIGHT_MAX: Duration = Duration::from_secs(600);

/// Shortest time between two searches for forgotten callers.
const SWEEP_PAUSE: Duration = Duration::from_secs(1);

const X_LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
const X_REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
const X_RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");

/// Headers of limited answers, for browsers that may see only those named to them.
pub const HEADERS: &str =
    "X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, Retry-After";

/// Routes that are limited together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Group {
    /// POST /search.
    Search,
    /// POST /ask.
    Ask,
    /// POST /ask/stream.
    AskStream,
    /// POST /admin/refresh.
    AdminRefresh,
    /// POST /_webhooks/s3.
    WebhookS3,
    /// POST /_webhooks/gcs.
    WebhookGcs,
    /// The remaining limited routes.
    Default,
}

impl Group {
    /// Largest body of a request, in bytes, where it is less than that of others.
    #[must_use]
    pub const fn body_max(self) -> Option<usize> {
        match self {
            Self::WebhookS3 | Self::WebhookGcs => Some(1 << 20),
            Self::Search | Self::Ask | Self::AskStream | Self::AdminRefresh | Self::Default => None,
        }
    }
}

/// The outcome of asking for one more request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it may go on.
    pub allowed: bool,
    group: Group,
    limit: u32,
    remaining: u32,
    retry_after: u32,
}

impl Verdict {
    /// Tells a caller where it stands. `unix_now` is in seconds.
    pub fn put_headers(&self, headers: &mut HeaderMap, unix_now: u64) {
        headers.insert(X_LIMIT, self.limit.into());
        headers.insert(X_REMAINING, self.remaining.into());
        headers.insert(X_RESET, HeaderValue::from(unix_now + 1));
    }

    /// The refusal of a request over the rate.
    pub fn refusal(&self, unix_now: u64) -> ApiError {
        let detail = match self.group {
            Group::Default | Group::Search | Group::WebhookS3 | Group::WebhookGcs => {
                "Rate limit exceeded"
            }
            Group::Ask | Group::AskStream | Group::AdminRefresh => {
                "Rate limit exceeded. Please retry after the specified interval."
            }
        };
        let mut error = ApiError::too_many(detail, self.retry_after);
        if self.group != Group::Default {
            self.put_headers(&mut error.headers, unix_now);
        }
        error
    }

    /// The refusal of a request beside too many others.
    pub fn refusal_of_concurrency(&self, unix_now: u64) -> ApiError {
        let detail =
            "Too many concurrent requests. Please retry after completing existing requests.";
        let mut error = ApiError::new(ErrorKind::TooMany, detail);
        Self { remaining: 0, ..*self }.put_headers(&mut error.headers, unix_now);
        error.with_header(RETRY_AFTER, HeaderValue::from_static("5"))
    }
}

/// The limits of one process. A clone shares them.
#[derive(Clone)]
pub struct RateLimiter {
    rates: RateLimits,
    callers_max: usize,
    state: Arc<Mutex<State>>,
}

/// A group of routes and a caller.
type Key = (Group, Box<str>);

#[derive(Default)]
struct State {
    buckets: HashMap<Key, Tokens>,
    /// Number and beginning of each permit that is out.
    in_flight: HashMap<Key, Vec<(u64, Instant)>>,
    next_permit: u64,
    swept: Option<Instant>,
}

struct Tokens {
    left: f64,
    at: Instant,
}

impl RateLimiter {
    /// Limits of these rates.
    pub fn new(rates: RateLimits) -> Self {
        Self { rates, callers_max: CALLERS_MAX, state: Arc::default() }
    }

    fn bucket(&self, group: Group) -> Bucket {
        match group {
            Group::Search => self.rates.search,
            Group::Ask => self.rates.ask,
            Group::AskStream => self.rates.ask_stream,
            Group::AdminRefresh => self.rates.admin_refresh,
            Group::WebhookS3 => self.rates.webhook_s3,
            Group::WebhookGcs => self.rates.webhook_gcs,
            Group::Default => self.rates.default,
        }
    }

    /// Counts one request of `who`, if it may go on.
    pub fn take(&self, group: Group, who: &str, now: Instant) -> Verdict {
        let Bucket { rate, burst } = self.bucket(group);
        let full = f64::from(burst);
        let refilled = |tokens: &Tokens, rate: f64, full: f64| {
            let passed = now.saturating_duration_since(tokens.at).as_secs_f64();
            (tokens.left + passed * rate).min(full)
        };
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = (group, Box::from(who));
        if state.buckets.len() >= self.callers_max && !state.buckets.contains_key(&key) {
            if state.swept.is_none_or(|at| now.saturating_duration_since(at) >= SWEEP_PAUSE) {
                state.swept = Some(now);
                state.buckets.retain(|(group, _), tokens| {
                    let Bucket { rate, burst } = self.bucket(*group);
                    let full = f64::from(burst);
                    refilled(tokens, rate, full) < full
                });
            }
            if state.buckets.len() >= self.callers_max {
                key.1 = Box::from(""); // no caller's name
            }
        }
        let tokens = state.buckets.entry(key).or_insert(Tokens { left: full, at: now });
        tokens.left = refilled(tokens, rate, full);
        tokens.at = now;
        let allowed = tokens.left >= 1.0;
        if allowed {
            tokens.left -= 1.0;
        }
        let wait = ((1.0 - tokens.left) / rate).ceil().clamp(1.0, 3600.0);
        let (remaining, retry_after) = (tokens.left.floor() as u32, wait as u32);
        Verdict { allowed, group, limit: burst, remaining, retry_after }
    }

    /// Lets one more answer of `who` be made beside the others, for as long as the permit lives.
    /// Nothing when there are too many already.
    pub fn enter(&self, group: Group, who: &str, now: Instant) -> Option<Permit> {
        let cap = match group {
            Group::Ask => self.rates.concurrency_ask,
            Group::AskStream => self.rates.concurrency_ask_stream,
            Group::Search
            | Group::AdminRefresh
            | Group::WebhookS3
            | Group::WebhookGcs
            | Group::Default => usize::MAX,
        };
        let key = (group, Box::from(who));
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.next_permit += 1;
        let id = state.next_permit;
        let entered = state.in_flight.entry(key.clone()).or_default();
        entered.retain(|(_, at)| now.saturating_duration_since(*at) < IN_FLIGHT_MAX);
        if entered.len() >= cap {
            return None;
        }
        entered.push((id, now));
        Some(Permit { state: self.state.clone(), key, id })
    }
}

/// What a caller may do in the time to come, for handlers that do the work of several routes at
/// once: each piece of it counts as a request to its own route.
#[derive(Clone)]
pub struct Quota {
    limiter: RateLimiter,
    who: Box<str>,
}

impl Quota {
    /// The quota of `who`.
    pub fn new(limiter: RateLimiter, who: &str) -> Self {
        Self { limiter, who: who.into() }
    }

    /// Counts one request to a route of `group`, which is under way as long as the permit lives.
    ///
    /// # Errors
    ///
    /// Which limit is reached, and how to say so.
    pub fn begin(
        &self,
        group: Group,
        now: Instant,
        unix_now: u64,
    ) -> Result<Permit, (RateLimited, ApiError)> {
        let verdict = self.limiter.take(group, &self.who, now);
        if !verdict.allowed {
            return Err((RateLimited::Rate, verdict.refusal(unix_now)));
        }
        let permit = self.limiter.enter(group, &self.who, now);
        permit.ok_or_else(|| (RateLimited::Concurrency, verdict.refusal_of_concurrency(unix_now)))
    }
}

/// The right to make one answer; given back when dropped.
pub struct Permit {
    state: Arc<Mutex<State>>,
    key: Key,
    id: u64,
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entered) = state.in_flight.get_mut(&self.key) {
            entered.retain(|(id, _)| *id != self.id);
            if entered.is_empty() {
                state.in_flight.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Small limits that differ from group to group.
    pub(in crate::http) fn rates() -> RateLimits {
        let bucket = |rate, burst| Bucket { rate, burst };
        RateLimits {
            search: bucket(1.0, 3),
            ask: bucket(3.0, 5),
            ask_stream: bucket(1.0, 3),
            admin_refresh: bucket(1.0, 2),
            webhook_s3: bucket(1.0, 1),
            webhook_gcs: bucket(1.0, 1),
            default: bucket(1.0, 5),
            concurrency_ask: 2,
            concurrency_ask_stream: 1,
        }
    }

    fn after(start: Instant, seconds: f64) -> Instant {
        start + Duration::from_secs_f64(seconds)
    }

    #[test]
    fn a_burst_passes_and_the_rate_refills() {
        let (limiter, start) = (RateLimiter::new(rates()), Instant::now());
        let allowed = |seconds| limiter.take(Group::Default, "a", after(start, seconds)).allowed;
        let burst: Vec<bool> = (0..8).map(|n| allowed(f64::from(n) * 0.01)).collect();
        assert_eq!(burst, [true, true, true, true, true, false, false, false]);
        assert!(!allowed(0.9) && allowed(1.2) && !allowed(1.3));
        assert_eq!(
            limiter.take(Group::Default, "a", after(start, 100.0)).remaining,
            4,
            "never above the burst"
        );
    }

    #[test]
    fn callers_and_groups_do_not_share() {
        let (limiter, now) = (RateLimiter::new(rates()), Instant::now());
        while limiter.take(Group::Search, "a", now).allowed {}
        assert!(limiter.take(Group::Search, "b", now).allowed);
        assert!(limiter.take(Group::Ask, "a", now).allowed);
    }

    #[test]
    fn a_clock_that_steps_back_gives_nothing_away() {
        let (limiter, start) = (RateLimiter::new(rates()), Instant::now());
        let later = after(start, 50.0);
        while limiter.take(Group::Search, "a", later).allowed {}
        assert!(!limiter.take(Group::Search, "a", start).allowed);
    }

    #[test]
    fn memory_is_bounded_and_idle_callers_are_forgotten() {
        let limiter = RateLimiter { callers_max: 10, ..RateLimiter::new(rates()) };
        let start = Instant::now();
        for n in 0..30 {
            limiter.take(Group::Default, &n.to_string(), start);
        }
        let count = || limiter.state.lock().expect("unpoisoned").buckets.len();
        assert_eq!(count(), 11, "the ten first and the shared one");
        assert!(!limiter.take(Group::Default, "x", start).allowed, "newcomers share a bucket");
        assert!(limiter.take(Group::Default, "x", after(start, 60.0)).allowed);
        assert_eq!(count(), 1);
    }

    #[test]
    fn answers_in_the_making_are_capped() {
        let (limiter, start) = (RateLimiter::new(rates()), Instant::now());
        let first = limiter.enter(Group::AskStream, "a", start);
        assert!(first.is_some());
        assert!(limiter.enter(Group::AskStream, "a", start).is_none());
        assert!(limiter.enter(Group::AskStream, "b", start).is_some());
        drop(first);
        let second = limiter.enter(Group::AskStream, "a", start);
        assert!(second.is_some());
        let third = limiter.enter(Group::AskStream, "a", after(start, 601.0));
        assert!(third.is_some(), "one that hangs does not count");
        drop((second, third));
        assert!(limiter.state.lock().expect("unpoisoned").in_flight.is_empty());
    }

    #[test]
    fn a_quota_counts_for_each_group_as_its_routes_do() {
        let (limiter, now) = (RateLimiter::new(rates()), Instant::now());
        let quota = Quota::new(limiter.clone(), "a");
        let begin = |group| quota.begin(group, now, 0);
        let (first, second) = (begin(Group::Ask), begin(Group::Ask));
        assert!(first.is_ok() && second.is_ok());
        let (limit, _) = begin(Group::Ask).err().expect("two at once");
        assert_eq!(limit, RateLimited::Concurrency);
        drop((first, second));
        assert!(begin(Group::Ask).is_ok());
        // Five in a burst: four are spent, one with the refusal.
        assert!(limiter.take(Group::Ask, "a", now).allowed);
        let (limit, error) = begin(Group::Ask).err().expect("too often");
        assert_eq!((limit, error.kind), (RateLimited::Rate, ErrorKind::TooMany));
        assert!(begin(Group::Search).is_ok());
    }

    #[test]
    fn refusals_say_what_the_group_says() {
        let (limiter, now) = (RateLimiter::new(rates()), Instant::now());
        let refused = |group| {
            while limiter.take(group, "a", now).allowed {}
            let error = limiter.take(group, "a", now).refusal(1_770_112_800);
            let headers: Vec<_> =
                ["retry-after", "x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset"]
                    .map(|name| {
                        error
                            .headers
                            .get(name)
                            .map(|value| value.to_str().expect("ASCII").to_owned())
                    })
                    .into_iter()
                    .flatten()
                    .collect();
            (error.detail, headers)
        };
        let text = |detail| crate::http::error::Detail::Text(std::borrow::Cow::Borrowed(detail));
        assert_eq!(refused(Group::Default), (text("Rate limit exceeded"), vec!["1".to_owned()]));
        let all = |limit: &str| ["1", limit, "0", "1770112801"].map(str::to_owned).to_vec();
        assert_eq!(refused(Group::Search), (text("Rate limit exceeded"), all("3")));
        let long = "Rate limit exceeded. Please retry after the specified interval.";
        assert_eq!(refused(Group::AdminRefresh), (text(long), all("2")));
    }
}
