//! Texts from buckets.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use object_store::aws::AmazonS3Builder;
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectStore, RetryConfig};
use tokio::time::timeout;

use super::FetchError;
use crate::clouds;
use crate::config::{self, Secret};

/// Reads objects of some buckets.
#[derive(Clone)]
pub(super) struct Buckets {
    inside: Arc<Inside>,
}

struct Inside {
    names: Vec<String>,
    clouds: Vec<(String, Secret)>,
    max_bytes: usize,
    timeout: Duration,
    clients: Mutex<HashMap<String, Arc<dyn ObjectStore>>>,
}

impl Buckets {
    pub(super) fn new(settings: &config::Fetch) -> Self {
        let inside = Inside {
            names: settings.buckets.clone(),
            clouds: settings.clouds.clone(),
            max_bytes: settings.max_bytes,
            timeout: settings.timeout,
            clients: Mutex::default(),
        };
        Self { inside: Arc::new(inside) }
    }

    /// The text of an object, by what follows `s3://`.
    pub(super) async fn text(&self, rest: &str) -> Result<String, FetchError> {
        let Inside { names, max_bytes, timeout: limit, .. } = &*self.inside;
        if names.is_empty() {
            return Err(FetchError::refused("s3:// is off; ALLOWED_S3_BUCKETS names buckets"));
        }
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if !names.iter().any(|name| name == bucket) {
            return Err(FetchError::refused("the bucket is not in ALLOWED_S3_BUCKETS"));
        }
        let key = Path::parse(key).ok().filter(|key| !key.as_ref().is_empty());
        let key = key.ok_or_else(|| FetchError::refused("it names no object"))?;
        let client = self.client(bucket)?;
        let range = Some(GetRange::Bounded(0..*max_bytes as u64));
        let read = async {
            let found = client.get_opts(&key, GetOptions { range, ..GetOptions::default() });
            let found = found.await.map_err(fault)?;
            let bytes = found.bytes().await.map_err(fault)?;
            let bytes = &bytes[..bytes.len().min(*max_bytes)];
            Ok(String::from_utf8_lossy(bytes).into_owned())
        };
        timeout(*limit, read).await.unwrap_or_else(|_| {
            Err(FetchError::failed("no whole object within ACTIVEKG_FETCH_TIMEOUT"))
        })
    }

    fn client(&self, bucket: &str) -> Result<Arc<dyn ObjectStore>, FetchError> {
        let Inside { clouds, clients, timeout, .. } = &*self.inside;
        let mut clients = clients.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = clients.get(bucket) {
            return Ok(client.clone());
        }
        crate::tls::init();
        let retries =
            RetryConfig { max_retries: 1, retry_timeout: *timeout, ..RetryConfig::default() };
        let mut builder = AmazonS3Builder::new().with_bucket_name(bucket).with_retry(retries);
        for (name, value) in clouds::settings(clouds) {
            if let Ok(key) = name.parse() {
                builder = builder.with_config(key, value);
            }
        }
        let unusable = |_| FetchError::failed("the AWS_* variables cannot be used");
        let client: Arc<dyn ObjectStore> = Arc::new(builder.build().map_err(unusable)?);
        clients.insert(bucket.to_owned(), client.clone());
        Ok(client)
    }
}

/// What went wrong, without what the service says: that may repeat the request.
fn fault(error: object_store::Error) -> FetchError {
    FetchError::failed(match error {
        object_store::Error::NotFound { .. } => "there is no such object",
        object_store::Error::PermissionDenied { .. }
        | object_store::Error::Unauthenticated { .. } => "the bucket does not let it be read",
        _ => "the bucket does not answer",
    })
}
