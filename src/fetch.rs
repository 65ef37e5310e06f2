//! What a node's `payload_ref` leads to: the only way in which the program goes where data of a
//! tenant sends it.
//!
//! | reference | what guards it |
//! |---|---|
//! | `http://`, `https://` | hosts may be limited; only public addresses are connected to, and they are looked at when the connection is made, so that a name cannot change its meaning in between; every redirect is such a request again; no proxy |
//! | `file://` | off without folders; no symbolic link is followed anywhere below them |
//! | `s3://` | off without buckets; the operator's credentials are used |
//!
//! Everything has a limit of bytes and one deadline. What is refused is refused for good; what
//! fails may be tried again. Errors name neither the reference nor what was read.

mod address;
mod bucket;
mod file;
mod web;

use crate::config;
use crate::names::Lookup;

pub use address::is_public;

use bucket::Buckets;
use file::Files;
pub(crate) use web::{Unanswered, Web};

/// What every refusal begins with.
const REFUSED: &str = "payload_ref not allowed";

/// Fetches the texts of nodes. A clone is cheap.
#[derive(Clone)]
pub struct Fetcher {
    web: Web,
    files: Files,
    buckets: Buckets,
}

/// Why there is no text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// It leads nowhere that may be read. To try again would not help.
    #[error("{0}")]
    Refused(String),
    /// It could not be read this time.
    #[error("payload could not be loaded: {0}")]
    Failed(String),
}

impl FetchError {
    fn refused(why: &str) -> Self {
        Self::Refused(format!("{REFUSED}: {why}"))
    }

    fn failed(why: impl Into<String>) -> Self {
        Self::Failed(why.into())
    }
}

impl Fetcher {
    /// A fetcher within these settings, which finds the addresses of hosts by `names`.
    ///
    /// # Errors
    ///
    /// When no HTTP client can be made.
    pub fn new(settings: &config::Fetch, names: impl Lookup) -> Result<Self, reqwest::Error> {
        Ok(Self {
            web: Web::new(settings, names)?,
            files: Files::new(&settings.folders, settings.max_file_bytes),
            buckets: Buckets::new(settings),
        })
    }

    /// The text that `reference` leads to. Of one that is too long, the beginning; what is not
    /// UTF-8 is replaced. Markup is taken off HTML.
    ///
    /// # Errors
    ///
    /// As [`FetchError`] says.
    pub async fn text(&self, reference: &str) -> Result<String, FetchError> {
        let Some((scheme, rest)) = reference.split_once("://") else {
            // A bare path would be read wherever the process happens to stand.
            return Err(FetchError::Refused(REFUSED.to_owned()));
        };
        match scheme.to_ascii_lowercase().as_str() {
            "http" | "https" => self.web.text(reference).await,
            "file" => self.files.text(rest).await,
            "s3" => self.buckets.text(rest).await,
            _ => Err(FetchError::refused("it is none of http://, https://, file:// and s3://")),
        }
    }
}

#[cfg(test)]
mod tests;
