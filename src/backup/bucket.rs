//! Archives in a bucket of an object store.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt as _, StreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::gcp::GoogleCloudStorageBuilder;
use object_store::{
    GetOptions, MultipartUpload, ObjectStore, ObjectStoreExt as _, ObjectStoreScheme, PutPayload,
    RetryConfig, path,
};
use tokio::runtime::Handle;
use tracing::warn;

use super::fault::Whereabouts;
use super::name::ArchiveName;
use super::target::{Draft, Entry, Target};
use crate::clouds;
use crate::config::Secret;

/// Bytes of one part of an upload, and all of it that is in memory. Stores take ten thousand parts,
/// so that an archive can have 160 GB.
const PART_BYTES: usize = 16 << 20;

/// Attempts after the first one of a request, and the time after which there are no more.
const RETRIES: (usize, Duration) = (5, Duration::from_secs(60));

/// A bucket, or what is under a prefix of one.
#[derive(Clone)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: path::Path,
    url: String,
    whereabouts: Whereabouts,
    runtime: Handle,
}

impl Bucket {
    /// The bucket at `url`, used with the settings `clouds`.
    pub(super) fn open(url: &str, clouds: &[(String, Secret)]) -> io::Result<Self> {
        let (n, within) = RETRIES;
        let retries = RetryConfig { max_retries: n, retry_timeout: within, ..Default::default() };
        Self::open_with(url, clouds, retries)
    }

    fn open_with(url: &str, clouds: &[(String, Secret)], retries: RetryConfig) -> io::Result<Self> {
        crate::tls::init();
        let parsed = reqwest::Url::parse(url).map_err(io::Error::other)?;
        let settings = clouds::settings(clouds);
        let (scheme, prefix) = ObjectStoreScheme::parse(&parsed).map_err(io::Error::other)?;
        // The builders look the same and share no trait.
        macro_rules! built {
            ($builder:ty) => {{
                let mut builder = <$builder>::new().with_url(url).with_retry(retries);
                for (name, value) in settings {
                    if let Ok(key) = name.parse() {
                        builder = builder.with_config(key, value);
                    }
                }
                Arc::new(builder.build()?)
            }};
        }
        let store: Arc<dyn ObjectStore> = match scheme {
            ObjectStoreScheme::AmazonS3 => built!(AmazonS3Builder),
            ObjectStoreScheme::GoogleCloudStorage => built!(GoogleCloudStorageBuilder),
            ObjectStoreScheme::MicrosoftAzure => built!(MicrosoftAzureBuilder),
            _ => return Err(io::Error::other("not an s3://, gs:// or az:// address")),
        };
        Ok(Self::of(store, prefix, url, Whereabouts::new(url, clouds)))
    }

    fn of(
        store: Arc<dyn ObjectStore>,
        prefix: path::Path,
        url: &str,
        whereabouts: Whereabouts,
    ) -> Self {
        Self { store, prefix, url: url.to_owned(), whereabouts, runtime: Handle::current() }
    }

    /// Waits for what the bucket answers.
    fn wait<T>(&self, answer: impl Future<Output = object_store::Result<T>>) -> io::Result<T> {
        self.runtime.block_on(answer).map_err(|error| self.whereabouts.fault(error))
    }

    fn object(&self, name: ArchiveName) -> path::Path {
        self.prefix.clone().join(name.to_string())
    }
}

impl Target for Bucket {
    fn called(&self, name: ArchiveName) -> String {
        format!("{}/{name}", self.url)
    }

    fn folder(&self) -> Option<&Path> {
        None
    }

    fn list(&self) -> io::Result<Vec<Entry>> {
        let found = self.wait(self.store.list_with_delimiter(Some(&self.prefix)))?;
        let entry = |object: object_store::ObjectMeta| {
            let name = object.location.filename()?.parse().ok()?;
            Some(Entry { name, bytes: object.size })
        };
        let mut entries: Vec<Entry> = found.objects.into_iter().filter_map(entry).collect();
        entries.sort_unstable();
        Ok(entries)
    }

    fn begin(&self, name: ArchiveName) -> io::Result<Box<dyn Draft>> {
        let object = self.object(name);
        match self.runtime.block_on(self.store.head(&object)) {
            Ok(_) => return Err(io::ErrorKind::AlreadyExists.into()),
            Err(object_store::Error::NotFound { .. }) => {}
            Err(error) => return Err(self.whereabouts.fault(error)),
        }
        let upload = self.wait(self.store.put_multipart(&object))?;
        let draft = Upload {
            bucket: self.clone(),
            name,
            upload,
            part: Vec::with_capacity(PART_BYTES),
            n_bytes: 0,
            state: State::Open,
        };
        Ok(Box::new(draft))
    }

    fn read(&self, name: ArchiveName) -> io::Result<Box<dyn Read + Send>> {
        let object = self.object(name);
        let found = self.wait(self.store.get_opts(&object, GetOptions::default()))?;
        let bucket = self.clone();
        Ok(Box::new(Download { bucket, stream: found.into_stream(), rest: Bytes::new() }))
    }

    fn remove(&self, name: ArchiveName) -> io::Result<()> {
        self.wait(self.store.delete(&self.object(name)))
    }
}

/// An object that is being written.
struct Upload {
    bucket: Bucket,
    name: ArchiveName,
    upload: Box<dyn MultipartUpload>,
    /// Gathered and not yet sent.
    part: Vec<u8>,
    n_bytes: u64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Nobody sees it.
    Open,
    /// It is there, and may have to go.
    Closed,
    Published,
}

impl Upload {
    fn send(&mut self) -> io::Result<()> {
        let part = std::mem::take(&mut self.part);
        if part.is_empty() {
            return Ok(());
        }
        self.n_bytes += part.len() as u64;
        let sent = self.upload.put_part(PutPayload::from(part));
        self.bucket.wait(sent)?;
        self.part.reserve(PART_BYTES);
        Ok(())
    }
}

impl Write for Upload {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let n_bytes = bytes.len().min(PART_BYTES - self.part.len());
        self.part.extend_from_slice(&bytes[..n_bytes]);
        if self.part.len() == PART_BYTES {
            self.send()?;
        }
        Ok(n_bytes)
    }

    /// Parts have a least size, so nothing is sent early.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Draft for Upload {
    fn close(&mut self) -> io::Result<()> {
        self.send()?;
        self.bucket.wait(self.upload.complete())?;
        self.state = State::Closed;
        Ok(())
    }

    fn read_back(&self) -> io::Result<Box<dyn Read + Send>> {
        self.bucket.read(self.name)
    }

    fn publish(mut self: Box<Self>) -> io::Result<u64> {
        self.state = State::Published;
        Ok(self.n_bytes)
    }
}

impl Drop for Upload {
    fn drop(&mut self) {
        let undone = match self.state {
            State::Published => return,
            State::Open => self.bucket.wait(self.upload.abort()),
            State::Closed => self.bucket.remove(self.name),
        };
        if let Err(error) = undone {
            warn!("could not remove {}: {error}", self.bucket.called(self.name));
        }
    }
}

/// An object that is being read.
struct Download {
    bucket: Bucket,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Download {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.bucket.wait(self.stream.next().map(Option::transpose))? {
                Some(more) => self.rest = more,
                None => return Ok(0),
            }
        }
        let n_bytes = into.len().min(self.rest.len());
        into[..n_bytes].copy_from_slice(&self.rest.split_to(n_bytes));
        Ok(n_bytes)
    }
}

#[cfg(test)]
mod tests {
    use activekg_storage::UnixMicros;
    use object_store::memory::InMemory;

    use super::*;

    fn name(second: i64) -> ArchiveName {
        ArchiveName::new(UnixMicros(second * 1_000_000), true)
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn archives_go_to_a_bucket_and_come_back() {
        let store = Arc::new(InMemory::new());
        let (url, prefix) = ("s3://b/kg", path::Path::from("kg"));
        let bucket = Bucket::of(store.clone(), prefix, url, Whereabouts::new(url, &[]));
        let other = path::Path::from("kg/notes.txt");
        store.put(&other, PutPayload::from_static(b"mine")).await.unwrap();
        let done = tokio::task::spawn_blocking(move || {
            // More than one part.
            let content: Vec<u8> = (0..PART_BYTES + 1000).map(|byte| byte as u8).collect();
            let mut draft = bucket.begin(name(1)).unwrap();
            draft.write_all(&content).unwrap();
            assert_eq!(bucket.list().unwrap(), []);
            draft.close().unwrap();
            let mut back = Vec::new();
            draft.read_back().unwrap().read_to_end(&mut back).unwrap();
            assert_eq!(back, content);
            assert_eq!(draft.publish().unwrap(), content.len() as u64);
            let entry = Entry { name: name(1), bytes: content.len() as u64 };
            assert_eq!(bucket.list().unwrap(), [entry]);
            let taken = bucket.begin(name(1)).err().unwrap();
            assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
            assert_eq!(bucket.called(name(1)), format!("s3://b/kg/{}", name(1)));

            // One that does not pass its check is not left.
            let mut draft = bucket.begin(name(2)).unwrap();
            draft.write_all(b"bad").unwrap();
            draft.close().unwrap();
            drop(draft);
            assert_eq!(bucket.list().unwrap(), [entry]);
            bucket.remove(name(1)).unwrap();
            assert_eq!(bucket.list().unwrap(), []);
        });
        done.await.unwrap();
        assert!(store.head(&other).await.is_ok());
    }

    #[tokio::test]
    async fn a_bucket_is_opened_with_the_variables_of_its_store() {
        let clouds = [
            ("aws_access_key_id".to_owned(), Secret::from("id".to_owned())),
            ("aws_secret_access_key".to_owned(), Secret::from("secret".to_owned())),
            ("aws_region".to_owned(), Secret::from("eu-central-1".to_owned())),
        ];
        let bucket = Bucket::open("s3://bucket/some/where", &clouds).unwrap();
        assert_eq!(bucket.prefix.as_ref(), "some/where");
        let wrong = [("aws_allow_http".to_owned(), Secret::from("maybe".to_owned()))];
        assert!(Bucket::open("s3://bucket", &wrong).is_err());
    }

    /// A service that gives every request the same answer.
    async fn refusing(status: u16, body: &'static str) -> std::net::SocketAddr {
        let answer =
            move || async move { (axum::http::StatusCode::from_u16(status).unwrap(), body) };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let router = axum::Router::new().fallback(answer);
        tokio::spawn(async move { axum::serve(listener, router).await });
        addr
    }

    /// What listing a bucket at `endpoint` fails with.
    async fn fault_at(endpoint: String) -> io::Error {
        let clouds = [
            ("aws_endpoint_url_s3", endpoint),
            ("aws_access_key_id", "AKIAEXAMPLE".to_owned()),
            ("aws_secret_access_key", "hunter2".to_owned()),
            ("aws_region", "eu-central-1".to_owned()),
        ];
        let clouds = clouds.map(|(name, value)| (name.to_owned(), Secret::from(value)));
        let retries = RetryConfig { max_retries: 0, ..Default::default() };
        let bucket = Bucket::open_with("s3://b/kg", &clouds, retries).unwrap();
        let listed = tokio::task::spawn_blocking(move || bucket.list());
        listed.await.unwrap().unwrap_err()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_bucket_that_cannot_be_used_says_what_is_wrong() {
        let told = |error: io::Error| {
            let text = super::super::Error::Target(error);
            let text = text.bucket().expect("the bucket is at fault").to_string();
            assert!(!text.contains("AKIAEXAMPLE") && !text.contains("hunter2"), "{text}");
            text
        };
        let xml = "<Error><Code>InvalidAccessKeyId</Code><AWSAccessKeyId>AKIAEXAMPLE</AWSAccessKeyId></Error>";
        let addr = refusing(403, xml).await;
        let refused = told(fault_at(format!("http://{addr}")).await);
        let expected = format!(
            "s3://b/kg at {addr} refuses (status 403, InvalidAccessKeyId); check AWS_ACCESS_KEY_ID"
        );
        assert!(refused.starts_with(&expected), "{refused}");

        let addr = refusing(404, "<Error><Code>NoSuchBucket</Code></Error>").await;
        let missing = told(fault_at(format!("http://{addr}")).await);
        assert!(missing.contains("(status 404, NoSuchBucket); make the bucket"), "{missing}");

        let addr = refusing(503, "AKIAEXAMPLE is slow").await;
        let failing = told(fault_at(format!("http://{addr}")).await);
        assert!(failing.contains("failed (status 503); try again later"), "{failing}");

        // Nobody listens on a port that was given back.
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let gone = told(fault_at(format!("http://{free}")).await);
        let expected = format!("s3://b/kg at {free} cannot be reached; check AWS_ENDPOINT_URL_S3");
        assert!(gone.starts_with(&expected), "{gone}");
    }
}
