//! Where the documents of a connector are: what is there, and the bytes of it.
//!
//! A source is asked page by page, and every page tells where the next one begins. What its settings
//! leave out, by prefix or by pattern, is not there for anybody who asks. What is there and cannot
//! be taken is told, never left out in silence.

mod drive;
mod fault;
mod globs;
mod google;
mod http;
mod local;
mod object;
mod parts;
mod rest;

use std::path::Path;
use std::sync::Arc;

use activekg_storage::time::UnixMicros;
use bytes::Bytes;
use reqwest::Response;
use serde_json::Value;

use super::{Connector, Provider};
use crate::graph::Object;

pub use fault::{Fault, FaultClass};
pub use parts::SourceParts;

pub use local::uri as file_uri;
pub(super) use object::azure_host;

use drive::Drive;
use globs::Globs;
use http::Pages;
use local::Local;
use object::Bucket;

/// Most objects of one page.
pub const PAGE_MAX: usize = 1000;

/// The documents of a connector. A clone is cheap.
#[derive(Clone)]
pub struct Source(Arc<Inner>);

enum Inner {
    Bucket(Box<Bucket>),
    Drive(Box<Drive>),
    Local(Local),
    Pages(Pages),
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

/// What is at an address, for one who may have it already.
#[derive(Debug)]
pub enum Looked {
    /// Nothing, or nothing that the settings let in.
    Nothing,
    /// The version that the caller has.
    Same,
    /// Another one, and what [`Source::read`] reads it by.
    Other(Box<Found>, Begun),
}

/// An answer that has begun and whose body holds the bytes of an object, where the source tells of
/// an object and gives it in one.
#[derive(Debug)]
pub struct Begun(Option<Box<Response>>);

/// An object that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unusable {
    /// What it is called, as far as that can be written.
    pub name: String,
    /// Why.
    pub why: &'static str,
}

/// Part of a feed of changes.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct News {
    /// Objects that are new or not what they were.
    pub found: Vec<Found>,
    /// Addresses of objects that are gone, or out of what the settings let in; maybe they never were
    /// in.
    pub gone: Vec<String>,
    /// Where to go on.
    pub cursor: String,
    /// Whether there is more.
    pub more: bool,
    /// Folders moved, so that what is in them has to be listed again.
    pub moved: bool,
}

impl Found {
    /// Whether this is the version with that tag.
    fn is(&self, etag: Option<&str>) -> bool {
        etag.is_some() && self.etag.as_deref() == etag
    }
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
            Provider::S3 | Provider::Gcs | Provider::Azure => {
                Inner::Bucket(Box::new(Bucket::open(provider, &settings, parts)?))
            }
            Provider::Drive => Inner::Drive(Box::new(Drive::open(&settings, parts)?)),
            Provider::Local => Inner::Local(Local::open(&settings, parts)?),
            Provider::Http => Inner::Pages(Pages::open(&settings, parts)?),
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
            Inner::Bucket(bucket) => bucket.list(prefix, cursor, limit).await,
            Inner::Drive(drive) => drive.list(prefix, cursor, limit).await,
            Inner::Local(local) => local.list(prefix, cursor, limit).await,
            Inner::Pages(pages) => pages.list(prefix, cursor, limit).await,
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
            Inner::Bucket(bucket) => bucket.stat(uri).await,
            Inner::Drive(drive) => drive.stat(uri).await,
            Inner::Local(local) => local.stat(uri).await,
            Inner::Pages(pages) => pages.stat(uri).await,
        }
    }

    /// What is at an address of this source, unless it is the version with the tag `unless`. Where
    /// the source allows it, this is one request with that of [`Source::read`].
    ///
    /// # Errors
    ///
    /// As [`Source::stat`].
    pub async fn look(&self, uri: &str, unless: Option<&str>) -> Result<Looked, Fault> {
        if let Inner::Bucket(bucket) = &*self.0
            && bucket.gives_in_one()
        {
            return bucket.look(uri, unless).await;
        }
        Ok(match self.stat(uri).await? {
            None => Looked::Nothing,
            Some(found) if found.is(unless) => Looked::Same,
            Some(found) => Looked::Other(Box::new(found), Begun(None)),
        })
    }

    /// The bytes of an object that [`Source::look`] has found.
    ///
    /// # Errors
    ///
    /// As [`Source::fetch`].
    pub async fn read(&self, found: &Found, begun: Begun, max_bytes: u64) -> Result<Bytes, Fault> {
        match begun.0 {
            Some(response) => rest::body(*response, max_bytes).await,
            None => self.fetch(found, max_bytes).await,
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
            Inner::Bucket(bucket) => bucket.fetch(found, max_bytes).await,
            Inner::Drive(drive) => drive.fetch(found, max_bytes).await,
            Inner::Local(local) => local.fetch(&found.uri, max_bytes).await,
            Inner::Pages(pages) => pages.fetch(&found.uri, max_bytes).await,
        }
    }

    /// The folder that it is, if it is one of this machine.
    #[must_use]
    pub fn folder(&self) -> Option<&Path> {
        match &*self.0 {
            Inner::Local(local) => Some(local.path()),
            Inner::Bucket(_) | Inner::Drive(_) | Inner::Pages(_) => None,
        }
    }

    /// The feeds of changes that the source has, each of which needs a cursor of its own; none if it
    /// has to be listed whole to see what changed.
    #[must_use]
    pub fn feeds(&self) -> Vec<String> {
        match &*self.0 {
            Inner::Drive(drive) => drive.feeds(),
            Inner::Bucket(_) | Inner::Local(_) | Inner::Pages(_) => Vec::new(),
        }
    }

    /// Where a feed is now: what happens from here on is after this cursor.
    ///
    /// # Errors
    ///
    /// As [`Fault`] says; [`FaultClass::Settings`] where there is no such feed.
    pub async fn feed_from_now(&self, feed: &str) -> Result<String, Fault> {
        match &*self.0 {
            Inner::Drive(drive) => drive.feed_from_now(feed).await,
            Inner::Bucket(_) | Inner::Local(_) | Inner::Pages(_) => {
                Err(Fault::settings("the source has no feed of changes"))
            }
        }
    }

    /// What happened after a cursor of a feed.
    ///
    /// # Errors
    ///
    /// As [`Source::feed_from_now`].
    pub async fn feed(&self, feed: &str, cursor: &str) -> Result<News, Fault> {
        match &*self.0 {
            Inner::Drive(drive) => drive.feed(feed, cursor).await,
            Inner::Bucket(_) | Inner::Local(_) | Inner::Pages(_) => {
                Err(Fault::settings("the source has no feed of changes"))
            }
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

#[cfg(test)]
pub(super) mod tests;
