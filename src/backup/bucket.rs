//! Archives in a bucket of an object store.

use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::BoxStream;
use object_store::{
    GetOptions, MultipartUpload, ObjectStore, ObjectStoreExt as _, PutPayload, path,
};
use tokio::runtime::Handle;
use tracing::warn;

use super::name::ArchiveName;
use super::target::{Draft, Entry, Target};
use crate::config::Secret;

/// Bytes of one part of an upload, and all of it that is in memory. Stores take ten thousand parts,
/// so that an archive can have 160 GB.
const PART_BYTES: usize = 16 << 20;

/// A bucket, or what is under a prefix of one.
#[derive(Clone)]
pub(super) struct Bucket {
    store: Arc<dyn ObjectStore>,
    prefix: path::Path,
    url: String,
    runtime: Handle,
}

impl Bucket {
    /// The bucket at `url`, used with the settings `clouds`.
    pub(super) fn open(url: &str, clouds: &[(String, Secret)]) -> io::Result<Self> {
        crate::tls::init();
        let parsed = reqwest::Url::parse(url).map_err(io::Error::other)?;
        let clouds = clouds.iter().map(|(name, value)| (name.as_str(), value.reveal()));
        let (store, prefix) =
            object_store::parse_url_opts(&parsed, clouds).map_err(io::Error::from)?;
        Ok(Self::of(Arc::from(store), prefix, url.to_owned()))
    }

    fn of(store: Arc<dyn ObjectStore>, prefix: path::Path, url: String) -> Self {
        Self { store, prefix, url, runtime: Handle::current() }
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
        let found = self.runtime.block_on(self.store.list_with_delimiter(Some(&self.prefix)))?;
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
            Err(error) => return Err(error.into()),
        }
        let upload = self.runtime.block_on(self.store.put_multipart(&object))?;
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
        let found = self.runtime.block_on(self.store.get_opts(&object, GetOptions::default()))?;
        let runtime = self.runtime.clone();
        Ok(Box::new(Download { runtime, stream: found.into_stream(), rest: Bytes::new() }))
    }

    fn remove(&self, name: ArchiveName) -> io::Result<()> {
        Ok(self.runtime.block_on(self.store.delete(&self.object(name)))?)
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
        self.bucket.runtime.block_on(sent)?;
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
        self.bucket.runtime.block_on(self.upload.complete())?;
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
            State::Open => {
                let aborted = self.bucket.runtime.block_on(self.upload.abort());
                aborted.map_err(io::Error::from)
            }
            State::Closed => self.bucket.remove(self.name),
        };
        if let Err(error) = undone {
            warn!("could not remove {}: {error}", self.bucket.called(self.name));
        }
    }
}

/// An object that is being read.
struct Download {
    runtime: Handle,
    stream: BoxStream<'static, object_store::Result<Bytes>>,
    rest: Bytes,
}

impl Read for Download {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.rest.is_empty() {
            match self.runtime.block_on(self.stream.next()) {
                Some(more) => self.rest = more?,
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
        let bucket = Bucket::of(store.clone(), path::Path::from("kg"), "s3://b/kg".to_owned());
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
}
