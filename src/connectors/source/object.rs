//! Buckets: Amazon S3 and what speaks its protocol, Google Cloud Storage, Azure Blob Storage.
//!
//! Requests are made here, since the names of objects are kept exactly as they are: clients that
//! tidy them up would read another object, or none. Signatures and the credentials of machines come
//! from `object_store`.

mod azure;
mod gcs;
mod s3;
mod xml;

use bytes::Bytes;
use reqwest::header::{
    CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderName, HeaderValue, IF_MATCH, IF_NONE_MATCH,
    LAST_MODIFIED,
};
use reqwest::{Response, StatusCode};

use super::globs::Globs;
use super::{Begun, Fault, FaultClass, Found, Looked, Page, Settings, SourceParts, Unusable, rest};
use crate::connectors::Provider;
use crate::graph::Object;

pub(in crate::connectors) use azure::host as azure_host;

use azure::Azure;
use gcs::Gcs;
use s3::S3;

/// A bucket of some provider.
pub(super) struct Bucket {
    service: Service,
    /// What addresses of its objects begin with.
    root: String,
    prefix: String,
    globs: Globs,
}

enum Service {
    S3(S3),
    Gcs(Gcs),
    Azure(Azure),
}

/// Part of a listing, as the service gives it.
struct Listing {
    objects: Vec<Listed>,
    next: Option<String>,
}

/// An object in a listing.
#[derive(Debug, Default)]
struct Listed {
    name: String,
    found: Found,
}

/// Which version of an object is wanted, by its tag.
#[derive(Clone, Copy)]
enum Wanted<'a> {
    /// Whichever there is.
    Any,
    /// This one.
    Only(&'a str),
    /// Another one.
    AnyBut(&'a str),
}

impl Wanted<'_> {
    /// The header that says so. A tag that fits no header cannot have come in one.
    fn header(self) -> Option<(HeaderName, HeaderValue)> {
        let (name, etag) = match self {
            Self::Any => return None,
            Self::Only(etag) => (IF_MATCH, etag),
            Self::AnyBut(etag) => (IF_NONE_MATCH, etag),
        };
        Some((name, HeaderValue::from_str(&format!("\"{etag}\"")).ok()?))
    }

    /// Whether an answer of this status is one to the question.
    fn is_answered_by(self, status: StatusCode) -> bool {
        status.is_success()
            || (status == StatusCode::NOT_MODIFIED && matches!(self, Self::AnyBut(_)))
    }
}

/// No answer where nothing is.
fn there(answer: Result<Response, Fault>) -> Result<Option<Response>, Fault> {
    match answer {
        Ok(response) => Ok(Some(response)),
        Err(Fault { class: FaultClass::NotFound, .. }) => Ok(None),
        Err(fault) => Err(fault),
    }
}

/// What the headers of an object say.
fn head(response: &Response) -> Found {
    let header = |name: &HeaderName| rest::text(response.headers(), name);
    Found {
        etag: header(&ETAG).and_then(rest::bare_etag),
        modified_at: header(&LAST_MODIFIED).and_then(rest::web_date),
        size: header(&CONTENT_LENGTH).and_then(|size| size.parse().ok()),
        content_type: header(&CONTENT_TYPE).map(str::to_owned),
        ..Found::default()
    }
}

/// Tools leave empty objects in place of folders.
fn is_folder(name: &str, found: &Found) -> bool {
    name.ends_with('/') && found.size == Some(0)
}

impl Bucket {
    pub(super) fn open(
        provider: Provider,
        settings: &Settings<'_>,
        parts: &SourceParts,
    ) -> Result<Self, Fault> {
        let (service, root) = match provider {
            Provider::Gcs => {
                let bucket = settings.needed("bucket")?;
                (Service::Gcs(Gcs::open(bucket, settings, parts)?), format!("gs://{bucket}/"))
            }
            Provider::Azure => {
                let container = settings.needed("container")?;
                let azure = Azure::open(container, settings, parts)?;
                (Service::Azure(azure), format!("az://{container}/"))
            }
            _ => {
                let bucket = settings.needed("bucket")?;
                (Service::S3(S3::open(bucket, settings, parts)?), format!("s3://{bucket}/"))
            }
        };
        let prefix = settings.text("prefix").unwrap_or_default().to_owned();
        Ok(Self { service, root, prefix, globs: settings.globs.clone() })
    }

    pub(super) async fn list(
        &self,
        prefix: Option<&str>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, Fault> {
        let prefix = prefix.unwrap_or(&self.prefix);
        if !prefix.starts_with(&self.prefix) {
            return Err(Fault::outside());
        }
        let listing = match &self.service {
            Service::S3(s3) => s3.list(prefix, cursor, limit).await?,
            Service::Gcs(gcs) => gcs.list(prefix, cursor, limit).await?,
            Service::Azure(azure) => azure.list(prefix, cursor, limit).await?,
        };
        let mut page = Page { next: listing.next, ..Page::default() };
        for Listed { name, found } in listing.objects {
            if is_folder(&name, &found) || !name.starts_with(prefix) || !self.globs.take(&name) {
                continue;
            }
            match self.obstacle(&name) {
                Some(why) => page.unusable.push(Unusable { name, why }),
                None => page.found.push(self.named(name, found)),
            }
        }
        Ok(page)
    }

    /// The name of what an address leads to, unless the settings leave it out.
    fn name<'u>(&self, uri: &'u str) -> Result<Option<&'u str>, Fault> {
        let name = uri.strip_prefix(&self.root).ok_or_else(Fault::elsewhere)?;
        if name.is_empty() || !name.starts_with(&self.prefix) || !self.globs.take(name) {
            return Ok(None);
        }
        self.can_be_asked_for(name)?;
        Ok(Some(name))
    }

    pub(super) async fn stat(&self, uri: &str) -> Result<Option<Found>, Fault> {
        let Some(name) = self.name(uri)? else { return Ok(None) };
        let found = match &self.service {
            Service::S3(s3) => s3.stat(name).await?,
            Service::Gcs(gcs) => gcs.stat(name).await?,
            Service::Azure(azure) => azure.stat(name).await?,
        };
        let found = found.filter(|found| !is_folder(name, found));
        Ok(found.map(|found| self.named(name.to_owned(), found)))
    }

    /// Whether [`Bucket::look`] can be asked. What Cloud Storage says beside the bytes of an object
    /// is less than what it says of the object.
    pub(super) fn gives_in_one(&self) -> bool {
        !matches!(self.service, Service::Gcs(_))
    }

    /// The object at an address, whose bytes are on their way, unless it is that version.
    pub(super) async fn look(&self, uri: &str, unless: Option<&str>) -> Result<Looked, Fault> {
        let Some(name) = self.name(uri)? else { return Ok(Looked::Nothing) };
        let wanted = unless.map_or(Wanted::Any, Wanted::AnyBut);
        let response = match &self.service {
            Service::S3(s3) => s3.open_object(name, wanted).await,
            Service::Azure(azure) => azure.open_object(name, wanted).await,
            Service::Gcs(_) => Err(Fault::new(FaultClass::Unsupported, "it takes two questions")),
        };
        let Some(response) = there(response)? else { return Ok(Looked::Nothing) };
        let found = head(&response);
        if response.status() == StatusCode::NOT_MODIFIED || found.is(unless) {
            return Ok(Looked::Same);
        }
        if is_folder(name, &found) {
            return Ok(Looked::Nothing);
        }
        let found = self.named(name.to_owned(), found);
        Ok(Looked::Other(Box::new(found), Begun(Some(Box::new(response)))))
    }

    pub(super) async fn fetch(&self, found: &Found, max_bytes: u64) -> Result<Bytes, Fault> {
        let name = found.uri.strip_prefix(&self.root).ok_or_else(Fault::elsewhere)?;
        self.can_be_asked_for(name)?;
        let wanted = found.etag.as_deref().map_or(Wanted::Any, Wanted::Only);
        let response = match &self.service {
            Service::S3(s3) => s3.open_object(name, wanted).await?,
            Service::Azure(azure) => azure.open_object(name, wanted).await?,
            Service::Gcs(gcs) => {
                return gcs.fetch(name, found.generation.as_deref(), max_bytes).await;
            }
        };
        rest::body(response, max_bytes).await
    }

    fn can_be_asked_for(&self, name: &str) -> Result<(), Fault> {
        match self.obstacle(name) {
            None => Ok(()),
            Some(why) => Err(Fault::new(FaultClass::Unsupported, why)),
        }
    }

    /// Why an object of this name cannot be asked for.
    fn obstacle(&self, name: &str) -> Option<&'static str> {
        let dots = |part: &str| part == "." || part == "..";
        let resolved = match self.service {
            Service::S3(_) | Service::Azure(_) => name.split('/').any(dots),
            // The whole name is one part of the address.
            Service::Gcs(_) => dots(name),
        };
        if resolved {
            // Such parts are resolved on the way, and another object would be read.
            return Some("its name has a part that is . or .., which no request can hold");
        }
        None
    }

    fn named(&self, name: String, found: Found) -> Found {
        let title = name.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let title = if title.is_empty() { &name } else { title }.to_owned();
        let bucket = self.root.split_once("://").map_or("", |(_, rest)| rest).trim_end_matches('/');
        let key = match &self.service {
            Service::S3(_) => "key",
            Service::Gcs(_) => "object",
            Service::Azure(_) => "blob",
        };
        let of = match &self.service {
            Service::Azure(_) => "container",
            Service::S3(_) | Service::Gcs(_) => "bucket",
        };
        let mut props = Object::new();
        props.insert(of.to_owned(), bucket.into());
        props.insert(key.to_owned(), name.as_str().into());
        if matches!(self.service, Service::Gcs(_)) {
            props.insert("content_type".to_owned(), found.content_type.clone().into());
            props.insert("generation".to_owned(), found.generation.clone().into());
        }
        Found { uri: format!("{}{name}", self.root), title, props, ..found }
    }
}

/// What a cursor holds under `name`.
fn cursor(text: Option<&str>, name: &str) -> Result<Option<String>, Fault> {
    let Some(text) = text else { return Ok(None) };
    let cursor: serde_json::Value = serde_json::from_str(text).map_err(|_| Fault::cursor())?;
    match cursor.get(name) {
        Some(serde_json::Value::String(token)) => Ok(Some(token.clone())),
        Some(serde_json::Value::Null) => Ok(None),
        _ => Err(Fault::cursor()),
    }
}
