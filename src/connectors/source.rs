//! Where the documents of a connector are: what is there, and the bytes of it.
//!
//! A source is asked page by page, and every page tells where the next one begins. What its settings
//! leave out, by prefix or by pattern, is not there for anybody who asks. What is there and cannot
//! be taken is told, never left out in silence.

mod fault;
mod globs;
mod local;
mod parts;

use std::sync::Arc;

use activekg_storage::time::UnixMicros;
use bytes::Bytes;
use serde_json::Value;

use super::{Connector, Provider};
use crate::graph::Object;

pub use fault::{Fault, FaultClass};
pub use parts::SourceParts;

use globs::Globs;
use local::Local;

/// Most objects of one page.
pub const PAGE_MAX: usize = 1000;

/// The documents of a connector. A clone is cheap.
#[derive(Clone)]
pub struct Source(Arc<Inner>);

enum Inner {
    Local(Local),
}

/// Objects that were found, and where to go on.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Page {
    /// The objects, in the order of the source.
    pub found: Vec<Found>,
    /// What is there but cannot be taken.
    pub unusable: Vec<Unusable>,
    /// Where the next page begins; `None` after the last.
    pub next: Option<String>,
}

/// An object of a source.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Found {
    /// Its address: a scheme, `://`, and what the source calls it, as it is.
    pub uri: String,
    /// What to call it.
    pub title: String,
    /// Changes with its content.
    pub etag: Option<String>,
    /// The number of its version, where the source counts them.
    pub generation: Option<String>,
    /// When it last changed.
    pub modified_at: Option<UnixMicros>,
    /// Its size in bytes, where that is known beforehand.
    pub size: Option<u64>,
    /// What the source says it is.
    pub content_type: Option<String>,
    /// What else is kept of it with the document.
    pub props: Object,
}

/// An object that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// What it is called, as far as that can be written.
    pub name: String,
    /// Why.
    pub why: &'static str,
}

impl Source {
    /// The source of a connector. Nothing is asked yet.
    ///
    /// # Errors
    ///
    /// A [`Fault`] of class [`FaultClass::Settings`] when its settings cannot be used.
    pub fn open(
        provider: Provider,
        connector: &Connector,
        parts: &SourceParts,
    ) -> Result<Self, Fault> {
        let settings = Settings { connector, globs: Globs::of(connector.shown())? };
        let inner = match provider {
            Provider::Local => Inner::Local(Local::open(&settings, parts)?),
            Provider::S3 | Provider::Gcs | Provider::Azure | Provider::Drive | Provider::Http => {
                return Err(Fault::settings(format!("{} is not read yet", provider.as_str())));
            }
        };
        Ok(Self(Arc::new(inner)))
    }

    /// A page of at most `limit` objects, and of [`PAGE_MAX`], below `prefix`, after `cursor`.
    /// Without a prefix it is the connector's own that counts; one that is not below that is a
    /// fault.
    ///
    /// # Errors
    ///
    /// As [`Fault`] says.
    pub async fn list(
        &self,
        prefix: Option<&str>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, Fault> {
        let limit = limit.clamp(1, PAGE_MAX);
        match &*self.0 {
            Inner::Local(local) => local.list(prefix, cursor, limit).await,
        }
    }

    /// What is at an address of this source; `None` if nothing is, or nothing that the settings let
    /// in.
    ///
    /// # Errors
    ///
    /// As [`Fault`] says; [`FaultClass::Unsupported`] for an address of another source.
    pub async fn stat(&self, uri: &str) -> Result<Option<Found>, Fault> {
        match &*self.0 {
            Inner::Local(local) => local.stat(uri).await,
        }
    }

    /// The bytes of an object, of the very version that was found where the source can tell.
    ///
    /// # Errors
    ///
    /// As [`Fault`] says; [`FaultClass::TooLarge`] beyond `max_bytes`, of which no more are held.
    pub async fn fetch(&self, found: &Found, max_bytes: u64) -> Result<Bytes, Fault> {
        if found.size.is_some_and(|size| size > max_bytes) {
            return Err(Fault::too_large(max_bytes));
        }
        match &*self.0 {
            Inner::Local(local) => local.fetch(&found.uri, max_bytes).await,
        }
    }
}

/// What all sources are set up with.
struct Settings<'a> {
    connector: &'a Connector,
    globs: Globs,
}

impl Settings<'_> {
    /// A text that is set and not empty.
    fn text(&self, name: &str) -> Option<&str> {
        let text = self.connector.shown().get(name).and_then(Value::as_str);
        text.filter(|text| !text.is_empty())
    }

    /// A text that must be set.
    fn needed(&self, name: &str) -> Result<&str, Fault> {
        self.text(name).ok_or_else(|| Fault::settings(format!("{name} is not set")))
    }

    fn switch(&self, name: &str) -> Option<bool> {
        self.connector.shown().get(name).and_then(Value::as_bool)
    }
}
