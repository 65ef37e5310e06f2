//! Amazon S3, and servers that speak its protocol.

use std::sync::{Mutex, PoisonError};

use object_store::aws::{AmazonS3Builder, AwsAuthorizer, AwsCredential};
use object_store::client::{HttpRequest, HttpRequestBody};
use reqwest::{Method, Request, Response, Url};
use serde_json::json;

use super::{Listed, Listing, Wanted, cursor, head, there, xml};
use crate::clouds;
use crate::connectors::policy::is_metadata;
use crate::connectors::source::{Fault, FaultClass, Found, Settings, SourceParts, rest};

/// What a page is asked for with.
const TOKEN: &str = "ContinuationToken";
/// Tells of the region that a bucket is really in.
const REGION: &str = "x-amz-bucket-region";

/// A bucket.
pub(super) struct S3 {
    parts: SourceParts,
    bucket: String,
    endpoint: Option<Url>,
    path_style: bool,
    /// The region, once the service has said which.
    region: Mutex<String>,
    credentials: Credentials,
}

enum Credentials {
    /// The connector's own.
    Own(AwsCredential),
    /// Those of the server.
    Lent(object_store::aws::AmazonS3),
}

impl S3 {
    pub(super) fn open(
        bucket: &str,
        settings: &Settings<'_>,
        parts: &SourceParts,
    ) -> Result<Self, Fault> {
        let region = settings.text("region").map(str::to_owned);
        let region = region.or_else(|| parts.0.cloud("aws_region").map(str::to_owned));
        let region = region.unwrap_or_else(|| "us-east-1".to_owned());
        if !is_label(&region) {
            return Err(Fault::settings("region is no name of a region, such as eu-central-1"));
        }
        // As with Amazon's own tools, the operator's service is meant where none is named.
        let named = settings.text("endpoint");
        let named =
            named.or_else(|| clouds::endpoint(&parts.0.clouds).map(|named| named.reveal().trim()));
        let endpoint = named.map(endpoint).transpose()?;
        let path_style = settings.switch("force_path_style");
        let path_style = path_style.unwrap_or(endpoint.is_some() || bucket.contains('.'));
        if !path_style && !is_label(bucket) {
            return Err(Fault::settings("bucket is no name of a host; set force_path_style"));
        }
        if bucket == "." || bucket == ".." {
            return Err(Fault::settings("bucket is no name of a bucket"));
        }
        let credentials = credentials(settings, parts, &region)?;
        Ok(Self {
            parts: parts.clone(),
            bucket: bucket.to_owned(),
            endpoint,
            path_style,
            region: Mutex::new(region),
            credentials,
        })
    }

    pub(super) async fn list(
        &self,
        prefix: &str,
        from: Option<&str>,
        limit: usize,
    ) -> Result<Listing, Fault> {
        let mut query = format!(
            "list-type=2&encoding-type=url&max-keys={limit}&prefix={}",
            rest::in_query(prefix)
        );
        if let Some(token) = cursor(from, TOKEN)? {
            query.push_str("&continuation-token=");
            query.push_str(&rest::in_query(&token));
        }
        let response = self.ask(Method::GET, "", &query, Wanted::Any).await?;
        listing(&rest::answer(response).await?)
    }

    pub(super) async fn stat(&self, key: &str) -> Result<Option<Found>, Fault> {
        let response = there(self.ask(Method::HEAD, key, "", Wanted::Any).await)?;
        Ok(response.as_ref().map(head))
    }

    /// The answer whose body is the object.
    pub(super) async fn open_object(
        &self,
        key: &str,
        wanted: Wanted<'_>,
    ) -> Result<Response, Fault> {
        self.ask(Method::GET, key, "", wanted).await
    }

    /// The answer to a request, if it is one of success. Where the bucket turns out to be in another
    /// region, it is asked for there once.
    async fn ask(
        &self,
        method: Method,
        key: &str,
        query: &str,
        wanted: Wanted<'_>,
    ) -> Result<Response, Fault> {
        let region = self.region.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let response = self.ask_in(&region, method.clone(), key, query, wanted).await?;
        if wanted.is_answered_by(response.status()) {
            return Ok(response);
        }
        let other = response.headers().get(REGION).and_then(|region| region.to_str().ok());
        let other = other.filter(|other| is_label(other) && *other != region).map(str::to_owned);
        let Some(other) = other else {
            return Err(rest::refused(response.status(), response.headers()));
        };
        let response = self.ask_in(&other, method, key, query, wanted).await?;
        if !wanted.is_answered_by(response.status()) {
            return Err(rest::refused(response.status(), response.headers()));
        }
        *self.region.lock().unwrap_or_else(PoisonError::into_inner) = other;
        Ok(response)
    }

    async fn ask_in(
        &self,
        region: &str,
        method: Method,
        key: &str,
        query: &str,
        wanted: Wanted<'_>,
    ) -> Result<Response, Fault> {
        let url = self.url(region, key, query)?;
        let unusable = || Fault::settings("no request can be made of these settings");
        let mut signed = HttpRequest::new(HttpRequestBody::empty());
        *signed.method_mut() = method.clone();
        *signed.uri_mut() = url.as_str().parse().map_err(|_| unusable())?;
        let machine;
        let credential = match &self.credentials {
            Credentials::Own(credential) => credential,
            Credentials::Lent(client) => {
                machine = client.credentials().get_credential().await.map_err(|_| {
                    let advice = "the server has no AWS credentials to lend; set access_key_id and secret_access_key, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY";
                    Fault::new(FaultClass::AccessDenied, advice)
                })?;
                &*machine
            }
        };
        let authorizer = AwsAuthorizer::new(credential, "s3", region);
        authorizer.try_authorize(&mut signed, None).map_err(|_| unusable())?;
        let mut request = Request::new(method, url);
        *request.headers_mut() = signed.headers().clone();
        request.headers_mut().extend(wanted.header());
        self.parts.0.client.execute(request).await.map_err(|error| rest::unanswered(&error))
    }

    fn url(&self, region: &str, key: &str, query: &str) -> Result<Url, Fault> {
        let mut url = match &self.endpoint {
            Some(endpoint) => endpoint.clone(),
            None => {
                let top =
                    if region.starts_with("cn-") { "amazonaws.com.cn" } else { "amazonaws.com" };
                let url = format!("https://s3.{region}.{top}/");
                url.parse().map_err(|_| Fault::settings("region is no name of a region"))?
            }
        };
        let mut path = url.path().trim_end_matches('/').to_owned();
        if self.path_style {
            path.push('/');
            path.push_str(&rest::in_query(&self.bucket));
        } else {
            let host = format!("{}.{}", self.bucket, url.host_str().unwrap_or_default());
            let set = url.set_host(Some(&host));
            set.map_err(|_| Fault::settings("bucket is no name of a host; set force_path_style"))?;
        }
        path.push('/');
        path.push_str(&rest::in_path(key));
        url.set_path(&path);
        url.set_query((!query.is_empty()).then_some(query));
        if url.path() != path {
            // What the address makes of the name is another name.
            return Err(Fault::new(FaultClass::Unsupported, "no request can hold this name"));
        }
        Ok(url)
    }
}

/// The connector's own credentials, or the way to those of the server.
fn credentials(
    settings: &Settings<'_>,
    parts: &SourceParts,
    region: &str,
) -> Result<Credentials, Fault> {
    if let Some(key_id) = settings.connector.secret("access_key_id") {
        let secret_key = settings.connector.secret("secret_access_key");
        let secret_key =
            secret_key.ok_or_else(|| Fault::settings("secret_access_key is not set"))?;
        let token = settings.connector.secret("session_token");
        // They go into headers.
        let fits = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !fits(key_id) || token.is_some_and(|token| !fits(token)) {
            return Err(Fault::settings("access_key_id or session_token has odd characters"));
        }
        return Ok(Credentials::Own(AwsCredential {
            key_id: key_id.to_owned(),
            secret_key: secret_key.to_owned(),
            token: token.map(str::to_owned),
        }));
    }
    let set = |name| parts.0.cloud(name).is_some();
    let without_machine = parts.0.cloud("aws_ec2_metadata_disabled") == Some("true");
    let others = [
        "aws_access_key_id",
        "aws_web_identity_token_file",
        "aws_container_credentials_relative_uri",
        "aws_container_credentials_full_uri",
    ];
    if without_machine && !others.into_iter().any(set) {
        let advice = "the server has no AWS credentials to lend, and AWS_EC2_METADATA_DISABLED keeps it from asking for any";
        return Err(Fault::settings(advice));
    }
    let mut builder = AmazonS3Builder::new();
    for (name, value) in clouds::settings(&parts.0.clouds) {
        if let Ok(key) = name.parse() {
            builder = builder.with_config(key, value);
        }
    }
    let client = builder.with_bucket_name("any").with_region(region).build();
    let unusable = |_| Fault::settings("the AWS_* variables cannot be used");
    Ok(Credentials::Lent(client.map_err(unusable)?))
}

fn endpoint(text: &str) -> Result<Url, Fault> {
    let url: Option<Url> = text.parse().ok();
    let url = url.filter(|url| matches!(url.scheme(), "http" | "https") && url.query().is_none());
    let url = url.ok_or_else(|| Fault::settings("endpoint is no address of a service"))?;
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']).trim_end_matches('.');
    if is_metadata(&host.to_ascii_lowercase()) {
        return Err(Fault::settings("endpoint leads to a link-local or metadata address"));
    }
    Ok(url)
}

/// Whether a text can be a part of the name of a host.
fn is_label(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(plain) && !text.starts_with('-')
}

fn listing(xml: &[u8]) -> Result<Listing, Fault> {
    let (mut objects, mut listed) = (Vec::new(), Listed::default());
    let (mut token, mut truncated, mut encoded, mut known) = (None, false, false, false);
    xml::read(xml, |path, text, _| {
        let path: Vec<&str> = path.iter().map(String::as_str).collect();
        let ["ListBucketResult", inside @ ..] = path.as_slice() else { return };
        match (inside, text) {
            ([], _) => known = true,
            (["IsTruncated"], Some(text)) => truncated = text.trim() == "true",
            (["NextContinuationToken"], Some(text)) => token = Some(text.to_owned()),
            (["EncodingType"], Some(text)) => encoded = text.trim() == "url",
            (["Contents", "Key"], Some(text)) => listed.name = text.to_owned(),
            (["Contents", "LastModified"], Some(text)) => {
                listed.found.modified_at = rest::iso_date(text.trim());
            }
            (["Contents", "ETag"], Some(text)) => listed.found.etag = rest::bare_etag(text),
            (["Contents", "Size"], Some(text)) => listed.found.size = text.trim().parse().ok(),
            (["Contents"], _) => objects.push(std::mem::take(&mut listed)),
            _ => {}
        }
    })?;
    if !known {
        return Err(xml::not_a_listing());
    }
    if encoded {
        for object in &mut objects {
            object.name = rest::decoded(&object.name, true).ok_or_else(xml::not_a_listing)?;
        }
    }
    let next = match (truncated, token) {
        (false, _) => None,
        (true, Some(token)) => Some(json!({ TOKEN: token }).to_string()),
        // To go on without it would be to begin again.
        (true, None) => return Err(xml::not_a_listing()),
    };
    Ok(Listing { objects, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_a_listing_are_what_they_are() {
        let page = listing(
            b"<ListBucketResult><IsTruncated>true</IsTruncated><Contents><Key>a+b%2Bc//%C3%BC%01</Key>\
            <LastModified>2026-01-02T03:04:05.000Z</LastModified><ETag>&quot;e-1&quot;</ETag><Size>7</Size>\
            </Contents><NextContinuationToken>t/=</NextContinuationToken><EncodingType>url</EncodingType>\
            </ListBucketResult>",
        )
        .unwrap();
        let [Listed { name, found }] = &page.objects[..] else { panic!("one object") };
        assert_eq!(name, "a b+c//\u{fc}\u{1}");
        assert_eq!((found.etag.as_deref(), found.size), (Some("e-1"), Some(7)));
        assert_eq!(cursor(page.next.as_deref(), TOKEN), Ok(Some("t/=".to_owned())));
        let raw =
            listing(b"<ListBucketResult><Contents><Key>a+b%2B</Key></Contents></ListBucketResult>");
        assert_eq!(raw.unwrap().objects[0].name, "a+b%2B");
        for bad in [
            "<html></html>",
            "<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>",
            "<ListBucketResult><Contents><Key>a</Key></Contents>",
        ] {
            assert_eq!(listing(bad.as_bytes()).err().unwrap().class, FaultClass::Network, "{bad}");
        }
    }

    #[test]
    fn credentials_and_names_go_nowhere_they_do_not_fit() {
        for (bad, good) in
            [("eu west", "eu-west-1"), ("a.evil.example/", "b-2"), ("", "x"), ("-a", "a-")]
        {
            assert!(!is_label(bad) && is_label(good), "{bad} {good}");
        }
        for bad in
            ["http://169.254.169.254", "ftp://x", "http://[fe80::1]:9000", "minio", "http://m/?q"]
        {
            assert!(endpoint(bad).is_err(), "{bad}");
        }
        assert!(endpoint("http://127.0.0.1:9000").is_ok());
    }
}
