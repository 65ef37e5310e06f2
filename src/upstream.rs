//! Calls of services that run models: the one way out for remote embedders and answer writers.
//!
//! ```text
//! place (so many at a time) → breaker (is it worth asking?) → attempt → body within its limits
//!                                   ↑                            ↓
//!                                   └── wait (Retry-After, or a random time that grows) ←┘
//! ```
//!
//! - A service gets its own key and nobody else's, in the `Authorization` header and nowhere else.
//! - Redirects are not followed: they would carry questions and texts to an address that the
//!   operator did not name.
//! - Every wait and every answer has a limit, and all attempts of a call share one.
//! - Errors name the service and its host. They hold no key, no password of an address, and
//!   nothing of what was asked: services repeat both in their error messages, so those are not
//!   passed on.

mod body;
mod breaker;
mod client;
mod error;
mod retry;
pub mod sse;

use std::time::Duration;

use crate::config::Secret;

pub use body::Pieces;
pub use breaker::{Breaker, BreakerSettings, BreakerState};
pub use client::Upstream;
pub(crate) use error::code_in;
pub use error::{Failure, UpstreamError};
pub use retry::Retries;

/// A service that can be called.
#[derive(Clone)]
pub struct Service {
    /// What it is called in errors, logs and metrics.
    pub name: &'static str,
    /// Its address, with or without a slash at the end; a name and password in it are sent as
    /// basic authentication unless there is a key.
    pub base_url: Secret,
    /// Its key; services on the same machine often need none.
    pub key: Option<Secret>,
    /// How much and how long.
    pub limits: Limits,
    /// How often again.
    pub retries: Retries,
    /// When not to ask at all.
    pub breaker: BreakerSettings,
}

/// How much of a service's time and memory a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Until a connection stands.
    pub connect: Duration,
    /// Until the first byte of an answer's body, in each attempt.
    pub first_byte: Duration,
    /// Between two pieces of an answer.
    pub silence: Duration,
    /// All attempts together, with the whole answer.
    pub total: Duration,
    /// Largest answer.
    pub response_bytes: usize,
    /// Calls under way at a time; further ones wait.
    pub in_flight: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(5),
            first_byte: Duration::from_secs(20),
            silence: Duration::from_secs(20),
            total: Duration::from_secs(60),
            response_bytes: 8 << 20,
            in_flight: 16,
        }
    }
}

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
