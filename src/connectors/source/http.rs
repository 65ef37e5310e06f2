//! Pages of the web, under the rules that the program follows wherever tenants send it.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use reqwest::header::{
    AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, ETAG, HeaderMap, HeaderName, HeaderValue,
    LAST_MODIFIED,
};
use reqwest::{Method, RequestBuilder, Response, Url};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::time::timeout;

use super::globs::Globs;
use super::{Fault, FaultClass, Found, Page, Settings, SourceParts, Unusable, rest};
use crate::fetch::Unanswered;
use crate::graph::Object;

/// Pages that are asked for at the same time.
const AT_ONCE: usize = 4;
/// Longest page that is read in order to be told from its next version.
const HASHED_MAX: u64 = 32 << 20;
/// Longest wait for the beginning of an answer, and for all of it.
const BEGIN: Duration = Duration::from_secs(35);
const WHOLE: Duration = Duration::from_secs(300);

/// Pages of the web.
pub(super) struct Pages {
    parts: SourceParts,
    urls: Vec<Url>,
    token: Option<HeaderValue>,
    globs: Globs,
}

impl Pages {
    pub(super) fn open(settings: &Settings<'_>, parts: &SourceParts) -> Result<Self, Fault> {
        let given = settings.connector.shown().get("urls").and_then(Value::as_array);
        let bad = || Fault::settings("urls is no list of addresses of pages");
        let urls = given.ok_or_else(bad)?.iter().map(|url| {
            let mut url: Url = url.as_str()?.parse().ok()?;
            url.set_fragment(None);
            Some(url)
        });
        let mut urls = urls.collect::<Option<Vec<Url>>>().ok_or_else(bad)?;
        urls.sort_unstable();
        urls.dedup();
        let token = settings.connector.secret("bearer_token").map(|token| {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| Fault::settings("bearer_token cannot be put into a header"))?;
            value.set_sensitive(true);
            Ok(value)
        });
        let (token, globs) = (token.transpose()?, settings.globs.clone());
        Ok(Self { parts: parts.clone(), urls, token, globs })
    }

    pub(super) async fn list(
        &self,
        prefix: Option<&str>,
        cursor: Option<&str>,
        limit: usize,
    ) -> Result<Page, Fault> {
        let from = match cursor {
            None => 0,
            Some(cursor) => cursor.parse().map_err(|_| Fault::cursor())?,
        };
        let prefix = prefix.unwrap_or_default();
        let urls = self.urls.iter().skip(from).take(limit);
        let wanted: Vec<&Url> =
            urls.filter(|url| url.as_str().starts_with(prefix) && self.takes(url)).collect();
        let mut page = Page::default();
        for urls in wanted.chunks(AT_ONCE) {
            let looked = join_all(urls.iter().map(|url| self.look(url))).await;
            for (url, found) in urls.iter().zip(looked) {
                match found {
                    Ok(Some(found)) => page.found.push(found),
                    Ok(None) => {}
                    // The other pages do not have to wait for this one.
                    Err(_) => page.unusable.push(Unusable {
                        name: url.as_str().to_owned(),
                        why: "it cannot be read now",
                    }),
                }
            }
        }
        let next = from.saturating_add(limit);
        page.next = (next < self.urls.len()).then(|| next.to_string());
        Ok(page)
    }

    pub(super) async fn stat(&self, uri: &str) -> Result<Option<Found>, Fault> {
        // The source is what its settings name.
        match self.of_ours(uri) {
            Ok(url) if self.takes(url) => self.look(url).await,
            Ok(_) | Err(_) => Ok(None),
        }
    }

    pub(super) async fn fetch(&self, uri: &str, max_bytes: u64) -> Result<Bytes, Fault> {
        let response = self.ask(&Method::GET, self.of_ours(uri)?).await?;
        if !response.status().is_success() {
            return Err(rest::refused(response.status(), response.headers()));
        }
        rest::body(response, max_bytes).await
    }

    fn takes(&self, url: &Url) -> bool {
        self.globs.take(url.as_str())
    }

    fn of_ours(&self, uri: &str) -> Result<&Url, Fault> {
        self.urls.iter().find(|url| url.as_str() == uri).ok_or_else(Fault::elsewhere)
    }

    /// What is at an address. Where the host does not say what tells one version from the next, the
    /// page itself does.
    async fn look(&self, url: &Url) -> Result<Option<Found>, Fault> {
        let head = self.ask(&Method::HEAD, url).await?;
        if head.status().is_success()
            && let Some(etag) = etag(head.headers())
        {
            return Ok(Some(found(url, head.headers(), etag)));
        }
        if matches!(head.status().as_u16(), 404 | 410) {
            return Ok(None);
        }
        let page = self.ask(&Method::GET, url).await?;
        match page.status().as_u16() {
            404 | 410 => return Ok(None),
            200..300 => {}
            _ => return Err(rest::refused(page.status(), page.headers())),
        }
        let headers = page.headers().clone();
        if let Some(etag) = etag(&headers) {
            return Ok(Some(found(url, &headers, etag)));
        }
        let body = rest::body(page, HASHED_MAX).await?;
        let hash: String = Sha256::digest(&body).iter().map(|byte| format!("{byte:02x}")).collect();
        let size = Some(body.len() as u64);
        Ok(Some(Found { size, ..found(url, &headers, format!("sha256:{hash}")) }))
    }

    async fn ask(&self, method: &Method, url: &Url) -> Result<Response, Fault> {
        let origin = url.origin();
        let asked = |to: &Url, request: RequestBuilder| {
            let request = request.timeout(WHOLE);
            match &self.token {
                // It is for the host that was named, not for those that it sends others to.
                Some(token) if to.origin() == origin => {
                    request.header(AUTHORIZATION, token.clone())
                }
                _ => request,
            }
        };
        let answer = timeout(BEGIN, self.parts.0.web.ask(method, url.clone(), asked)).await;
        let answer = answer.map_err(|_| Fault::new(FaultClass::Timeout, "no answer in time"))?;
        answer.map_err(|why| match why {
            Unanswered::Refused(why) => Fault::new(FaultClass::AccessDenied, why),
            Unanswered::Redirects(why) => Fault::new(FaultClass::Network, why),
            Unanswered::Failed(error) => rest::unanswered(&error),
        })
    }
}

fn etag(headers: &HeaderMap) -> Option<String> {
    let header = |name: &HeaderName| rest::text(headers, name);
    if let Some(etag) = header(&ETAG).and_then(rest::bare_etag) {
        return Some(etag);
    }
    let modified = header(&LAST_MODIFIED).and_then(rest::web_date)?;
    Some(format!("{}-{}", modified.get(), header(&CONTENT_LENGTH).unwrap_or_default()))
}

fn found(url: &Url, headers: &HeaderMap, etag: String) -> Found {
    let header = |name: &HeaderName| rest::text(headers, name);
    let last = url.path_segments().and_then(|mut parts| parts.next_back()).unwrap_or_default();
    let title = rest::decoded(last, false).filter(|title| !title.is_empty());
    let host = url.host_str().unwrap_or_default();
    let props = json!({ "url": url.as_str() });
    Found {
        uri: url.as_str().to_owned(),
        title: title.unwrap_or_else(|| host.to_owned()),
        etag: Some(etag),
        generation: None,
        modified_at: header(&LAST_MODIFIED).and_then(rest::web_date),
        size: header(&CONTENT_LENGTH).and_then(|size| size.parse().ok()),
        content_type: header(&CONTENT_TYPE).map(str::to_owned),
        props: match props {
            Value::Object(props) => props,
            _ => Object::new(),
        },
    }
}
