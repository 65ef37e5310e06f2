//! Azure Blob Storage.

use object_store::azure::{AzureAccessKey, AzureAuthorizer, AzureCredential, split_sas};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::{Method, Request, Response, Url};
use serde_json::json;

use super::{Listed, Listing, Wanted, cursor, head, there, xml};
use crate::connectors::source::{Fault, FaultClass, Found, Settings, SourceParts, rest};

/// What a page is asked for with.
const TOKEN: &str = "marker";

/// A container.
pub(super) struct Azure {
    parts: SourceParts,
    container: String,
    account: String,
    endpoint: Url,
    credential: AzureCredential,
}

impl Azure {
    pub(super) fn open(
        container: &str,
        settings: &Settings<'_>,
        parts: &SourceParts,
    ) -> Result<Self, Fault> {
        let text = settings.connector.secret("connection_string");
        let text = text.ok_or_else(|| Fault::settings("connection_string is not set"))?;
        let value = |name| member(text, name);
        let endpoint = endpoint(text)
            .ok_or_else(|| Fault::settings("connection_string names no account or no host"))?;
        let credential = match (value("AccountKey"), value("SharedAccessSignature")) {
            (Some(key), _) => AzureAccessKey::try_new(key).ok().map(AzureCredential::AccessKey),
            (None, Some(sas)) => split_sas(sas).ok().map(AzureCredential::SASToken),
            (None, None) => None,
        };
        let credential = credential.ok_or_else(|| {
            Fault::settings("connection_string has no good AccountKey or SharedAccessSignature")
        })?;
        let account = value("AccountName").unwrap_or_default();
        if !account.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(Fault::settings("connection_string names no account"));
        }
        Ok(Self {
            parts: parts.clone(),
            container: container.to_owned(),
            account: account.to_owned(),
            endpoint,
            credential,
        })
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Listing, Fault> {
        let mut query = format!(
            "restype=container&comp=list&maxresults={limit}&prefix={}",
            rest::in_query(prefix)
        );
        if let Some(marker) = cursor(from, TOKEN)? {
            query.push_str("&marker=");
            query.push_str(&rest::in_query(&marker));
        }
        let response = self.ask(Method::GET, "", &query, Wanted::Any).await?;
        listing(&rest::answer(response).await?)
    }

    pub(super) async fn stat(&self, name: &str) -> Result<Option<Found>, Fault> {
        let response = there(self.ask(Method::HEAD, name, "", Wanted::Any).await)?;
        Ok(response.as_ref().map(head))
    }

    /// The answer whose body is the object.
    pub(super) async fn open_object(
        &self,
        name: &str,
        wanted: Wanted<'_>,
    ) -> Result<Response, Fault> {
        self.ask(Method::GET, name, "", wanted).await
    }

    async fn ask(
        &self,
        method: Method,
        name: &str,
        query: &str,
        wanted: Wanted<'_>,
    ) -> Result<Response, Fault> {
        let mut url = self.endpoint.clone();
        let mut path = url.path().trim_end_matches('/').to_owned();
        path.push('/');
        path.push_str(&rest::in_query(&self.container));
        if !name.is_empty() {
            path.push('/');
            path.push_str(&rest::in_path(name));
        }
        url.set_path(&path);
        url.set_query((!query.is_empty()).then_some(query));
        if url.path() != path {
            return Err(Fault::new(FaultClass::Unsupported, "no request can hold this name"));
        }
        let unusable = || Fault::settings("no request can be made of these settings");
        let mut signed = HttpRequest::new(HttpRequestBody::empty());
        *signed.method_mut() = method.clone();
        *signed.uri_mut() = url.as_str().parse().map_err(|_| unusable())?;
        signed.headers_mut().extend(wanted.header());
        let authorizer = AzureAuthorizer::new(&self.credential, &self.account);
        authorizer.try_authorize(&mut signed).map_err(|_| unusable())?;
        // A shared access signature is in the address.
        let url = signed.uri().to_string().parse().map_err(|_| unusable())?;
        let mut request = Request::new(method, url);
        *request.headers_mut() = signed.headers().clone();
        let response = self.parts.0.client.execute(request).await;
        let response = response.map_err(|error| rest::unanswered(&error))?;
        if !wanted.is_answered_by(response.status()) {
            return Err(rest::refused(response.status(), response.headers()));
        }
        Ok(response)
    }
}

/// The host that a connection string leads to, if it is one.
pub(in crate::connectors) fn host(text: &str) -> Option<String> {
    endpoint(text)?.host_str().map(str::to_owned)
}

fn endpoint(text: &str) -> Option<Url> {
    let url: Url = match member(text, "BlobEndpoint") {
        Some(endpoint) => endpoint.parse().ok()?,
        None => {
            let account = member(text, "AccountName")?;
            let protocol = member(text, "DefaultEndpointsProtocol").unwrap_or("https");
            let suffix = member(text, "EndpointSuffix").unwrap_or("core.windows.net");
            format!("{protocol}://{account}.blob.{suffix}").parse().ok()?
        }
    };
    let plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    let web = matches!(url.scheme(), "http" | "https") && url.host_str().is_some();
    (plain && web).then_some(url)
}

/// A member of a connection string.
fn member<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let mut members = text.split(';').filter_map(|member| member.split_once('='));
    let found = members.find(|(key, _)| key.trim().eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim()).filter(|value| !value.is_empty())
}

fn listing(xml: &[u8]) -> Result<Listing, Fault> {
    let (mut objects, mut listed) = (Vec::new(), Listed::default());
    let (mut marker, mut known, mut bad_name) = (None, false, false);
    // The answer begins with a mark of its byte order.
    let xml = xml.strip_prefix(b"\xef\xbb\xbf").unwrap_or(xml);
    xml::read(xml, |path, text, has_attributes| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let ["EnumerationResults", inside @ ..] = path.as_slice() else { return };
        match (inside, text) {
            ([], _) => known = true,
            (["NextMarker"], Some(text)) => {
                marker = Some(text.to_owned()).filter(|marker| !marker.is_empty());
            }
            // Its one attribute says that the name is written for addresses.
            (["Blobs", "Blob", "Name"], Some(text)) => {
                let name =
                    if has_attributes { rest::decoded(text, false) } else { Some(text.to_owned()) };
                bad_name |= name.is_none();
                listed.name = name.unwrap_or_default();
            }
            (["Blobs", "Blob", "Properties", "Last-Modified"], Some(text)) => {
                listed.found.modified_at = rest::web_date(text.trim());
            }
            (["Blobs", "Blob", "Properties", "Etag"], Some(text)) => {
                listed.found.etag = rest::bare_etag(text);
            }
            (["Blobs", "Blob", "Properties", "Content-Length"], Some(text)) => {
                listed.found.size = text.trim().parse().ok();
            }
            (["Blobs", "Blob", "Properties", "Content-Type"], Some(text)) => {
                listed.found.content_type = Some(text.to_owned()).filter(|kind| !kind.is_empty());
            }
            (["Blobs", "Blob"], _) => objects.push(std::mem::take(&mut listed)),
            _ => {}
        }
    })?;
    if !known || bad_name {
        return Err(xml::not_a_listing());
    }
    Ok(Listing { objects, next: marker.map(|marker| json!({ TOKEN: marker }).to_string()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_string_says_where_to_go() {
        let host = |text: &str| host(text);
        assert_eq!(
            host("DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=a==").as_deref(),
            Some("acme.blob.core.windows.net")
        );
        let near = "AccountName=dev;BlobEndpoint=http://127.0.0.1:10000/dev;AccountKey=a==";
        assert_eq!(host(near).as_deref(), Some("127.0.0.1"));
        assert_eq!(member(near, "accountkey"), Some("a=="));
        for bad in ["", "AccountKey=a", "BlobEndpoint=ftp://x", "BlobEndpoint=https://u:p@h/"] {
            assert_eq!(host(bad), None, "{bad}");
        }
    }

    #[test]
    fn blobs_are_listed_with_what_is_known_of_them() {
        let page = listing(
            b"\xef\xbb\xbf<EnumerationResults><Blobs><Blob><Name Encoded=\"true\">a%01b</Name><Properties>\
            <Last-Modified>Wed, 21 Oct 2026 07:28:00 GMT</Last-Modified><Etag>0x8D</Etag>\
            <Content-Length>5</Content-Length><Content-Type>text/plain</Content-Type></Properties></Blob>\
            <Blob><Name>c%20d</Name><Properties><Etag>e</Etag></Properties></Blob></Blobs>\
            <NextMarker>m</NextMarker></EnumerationResults>",
        )
        .unwrap();
        let names: Vec<&str> = page.objects.iter().map(|object| object.name.as_str()).collect();
        assert_eq!(names, ["a\u{1}b", "c%20d"]);
        let found = &page.objects[0].found;
        assert_eq!((found.etag.as_deref(), found.size), (Some("0x8D"), Some(5)));
        assert_eq!(found.modified_at.map(|at| at.get()), Some(1_792_567_680_000_000));
        assert_eq!(cursor(page.next.as_deref(), TOKEN), Ok(Some("m".to_owned())));
        assert!(listing(b"<html/>").is_err());
    }
}
