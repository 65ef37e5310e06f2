//! Google Cloud Storage, by its JSON interface: names, generations and types are all in it.

use bytes::Bytes;
use reqwest::header::AUTHORIZATION;
use reqwest::{Method, Request, Response, StatusCode, Url};
use serde_json::{Value, json};

use super::{Listed, Listing, cursor, xml};
use crate::connectors::source::google::{Account, Tokens};
use crate::connectors::source::{Fault, FaultClass, Found, Settings, SourceParts, rest};

const SERVICE: &str = "https://storage.googleapis.com";
const SCOPE: &str = "https://www.googleapis.com/auth/devstorage.read_only";
/// What a page is asked for with.
const TOKEN: &str = "page_token";
/// What is asked of an object.
const FIELDS: &str = "name,generation,etag,md5Hash,updated,size,contentType";

/// A bucket.
pub(super) struct Gcs {
    parts: SourceParts,
    bucket: String,
    service: Url,
    /// Emulators want none.
    tokens: Option<Tokens>,
}

impl Gcs {
    pub(super) fn open(
        bucket: &str,
        settings: &Settings<'_>,
        parts: &SourceParts,
    ) -> Result<Self, Fault> {
        let emulator = parts.0.storage_emulator.clone();
        let tokens = match emulator {
            Some(_) => None,
            None => Some(Tokens::new(Account::of_storage(settings, parts)?, SCOPE, None, parts)),
        };
        let service = match emulator {
            Some(emulator) => emulator,
            None => SERVICE.parse().map_err(|_| Fault::settings("no address of the service"))?,
        };
        Ok(Self { parts: parts.clone(), bucket: bucket.to_owned(), service, tokens })
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Listing, Fault> {
        let mut query = format!(
            "maxResults={limit}&prefix={}&fields=nextPageToken,items({FIELDS})",
            rest::in_query(prefix)
        );
        if let Some(token) = cursor(from, TOKEN)? {
            query.push_str("&pageToken=");
            query.push_str(&rest::in_query(&token));
        }
        let answer = json_of(self.ask(None, &query).await?).await?;
        let items = match answer.get("items") {
            None => &[][..],
            Some(items) => items.as_array().ok_or_else(xml::not_a_listing)?,
        };
        let objects = items.iter().map(listed).collect::<Option<_>>();
        let objects = objects.ok_or_else(xml::not_a_listing)?;
        let next = answer.get("nextPageToken").and_then(Value::as_str);
        let next = next.filter(|token| !token.is_empty());
        Ok(Listing { objects, next: next.map(|token| json!({ TOKEN: token }).to_string()) })
    }

    pub(super) async fn stat(&self, name: &str) -> Result<Option<Found>, Fault> {
        match self.ask(Some(name), &format!("fields={FIELDS}")).await {
            Ok(response) => {
                let object = listed(&json_of(response).await?).ok_or_else(xml::not_a_listing)?;
                Ok(Some(object.found))
            }
            Err(Fault { class: FaultClass::NotFound, .. }) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    pub(super) async fn fetch(
        &self,
        name: &str,
        generation: Option<&str>,
        max_bytes: u64,
    ) -> Result<Bytes, Fault> {
        let mut query = "alt=media".to_owned();
        if let Some(generation) = generation {
            query.push_str("&generation=");
            query.push_str(&rest::in_query(generation));
        }
        rest::body(self.ask(Some(name), &query).await?, max_bytes).await
    }

    /// The answer to a request, if it is one of success. A token that is refused is asked for anew
    /// once, since the account's key may have been replaced meanwhile.
    async fn ask(&self, name: Option<&str>, query: &str) -> Result<Response, Fault> {
        let mut url = self.service.clone();
        let mut path = format!("/storage/v1/b/{}/o", rest::in_query(&self.bucket));
        if let Some(name) = name {
            path.push('/');
            path.push_str(&rest::in_query(name));
        }
        url.set_path(&path);
        url.set_query(Some(query));
        if url.path() != path {
            return Err(Fault::new(FaultClass::Unsupported, "no request can hold this name"));
        }
        for is_last in [false, true] {
            let mut request = Request::new(Method::GET, url.clone());
            if let Some(tokens) = &self.tokens {
                request.headers_mut().insert(AUTHORIZATION, tokens.bearer().await?);
            }
            let response = self.parts.0.client.execute(request).await;
            let response = response.map_err(|error| rest::unanswered(&error))?;
            let status = response.status();
            if status.is_success() {
                return Ok(response);
            }
            match &self.tokens {
                Some(tokens) if status == StatusCode::UNAUTHORIZED && !is_last => tokens.forget(),
                _ => return Err(rest::refused(status, response.headers())),
            }
        }
        Err(rest::refused(StatusCode::UNAUTHORIZED, &Default::default()))
    }
}

async fn json_of(response: Response) -> Result<Value, Fault> {
    let answer = rest::answer(response).await?;
    serde_json::from_slice(&answer).map_err(|_| xml::not_a_listing())
}

fn listed(object: &Value) -> Option<Listed> {
    let text = |name: &str| match object.get(name)? {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    let etag = text("etag").and_then(|etag| rest::bare_etag(&etag));
    let found = Found {
        etag: etag.or_else(|| text("md5Hash")).or_else(|| text("generation")),
        generation: text("generation"),
        modified_at: text("updated").and_then(|at| rest::iso_date(&at)),
        size: text("size").and_then(|size| size.parse().ok()),
        content_type: text("contentType"),
        ..Found::default()
    };
    Some(Listed { name: text("name")?, found })
}
