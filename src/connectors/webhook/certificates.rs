//! Where certificates of SNS come from: its own servers, or a folder of this machine.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use activekg_storage::time::{Clock, UnixMicros};
use futures_util::future::{BoxFuture, Shared};
use futures_util::{FutureExt as _, StreamExt as _};
use reqwest::{Client, Url, redirect};
use tokio::sync::Semaphore;

use super::certificate::{Certificate, CertificateUrl};
use crate::config;
use crate::tls;

/// Certificates kept at once; one more takes the place of the one kept longest.
const KEPT_MAX: usize = 64;
/// Certificates fetched at once; SNS uses one or two a region.
const FETCHES_MAX: usize = 8;
/// Largest certificate, in bytes.
const BYTES_MAX: usize = 64 << 10;

/// Why there is no certificate now. Asking again later may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unavailable {
    /// Too many others are fetched.
    #[error("too many certificates are fetched at once")]
    Busy,
    /// SNS did not send it.
    #[error("the certificate cannot be fetched from SNS")]
    NotFetched,
    /// The folder does not have it.
    #[error("the certificate is not in the folder of WEBHOOK_SNS_CERT_DIR")]
    NotInFolder,
    /// Something else came.
    #[error("what should be the certificate is none")]
    NotACertificate,
}

type Fetch = Shared<BoxFuture<'static, Result<Arc<Certificate>, Unavailable>>>;

/// The certificates of SNS, each kept for a while. Whoever asks for one that is being fetched waits
/// for that fetch.
pub(super) struct Certificates {
    http: Client,
    folder: Option<PathBuf>,
    ttl: Duration,
    timeout: Duration,
    clock: Arc<dyn Clock>,
    kept: Mutex<HashMap<CertificateUrl, (UnixMicros, Fetch)>>,
    fetches: Arc<Semaphore>,
}

impl Certificates {
    /// # Errors
    ///
    /// When no HTTP client can be made.
    pub(super) fn new(
        settings: &config::Webhooks,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, reqwest::Error> {
        let timeout = settings.timeout;
        let http = tls::web(|builder| {
            builder
                .user_agent(concat!("activekg/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::none())
                .referer(false)
                .timeout(timeout)
        })?;
        Ok(Self {
            http,
            folder: settings.certificate_dir.clone(),
            ttl: settings.certificate_ttl,
            timeout,
            clock,
            kept: Mutex::default(),
            fetches: Arc::new(Semaphore::new(FETCHES_MAX)),
        })
    }

    /// The certificate at an address of SNS.
    pub(super) async fn get(&self, url: &CertificateUrl) -> Result<Arc<Certificate>, Unavailable> {
        let (since, fetch) = self.fetch(url);
        let fetched = fetch.await;
        if fetched.is_err() {
            // The next one asks again.
            let mut kept = self.lock();
            if kept.get(url).is_some_and(|(at, _)| *at == since) {
                kept.remove(url);
            }
        }
        fetched
    }

    /// Gets what confirms a subscription.
    pub(super) async fn confirm(&self, url: Url) -> Result<(), Unavailable> {
        let answer = self.http.get(url).send().await.map_err(|_| Unavailable::NotFetched)?;
        if answer.status().is_success() { Ok(()) } else { Err(Unavailable::NotFetched) }
    }

    /// The fetch that is under way or done, or a new one, and since when it is.
    fn fetch(&self, url: &CertificateUrl) -> (UnixMicros, Fetch) {
        let now = self.clock.now();
        let mut kept = self.lock();
        if let Some((since, fetch)) = kept.get(url)
            && now.since(*since) < self.ttl
        {
            return (*since, fetch.clone());
        }
        let fetch = match &self.folder {
            Some(folder) => read(folder.join(url.file())).boxed(),
            None => self.begin(url.as_str().to_owned()).boxed(),
        };
        let fetch = fetch.shared();
        if kept.len() >= KEPT_MAX && !kept.contains_key(url) {
            let oldest = kept.iter().min_by_key(|(_, (since, _))| *since);
            if let Some(oldest) = oldest.map(|(url, _)| url.clone()) {
                kept.remove(&oldest);
            }
        }
        kept.insert(url.clone(), (now, fetch.clone()));
        (now, fetch)
    }

    /// A fetch that ends by itself, whoever waits for it or goes away.
    fn begin(
        &self,
        url: String,
    ) -> impl Future<Output = Result<Arc<Certificate>, Unavailable>> + Send + use<> {
        let (http, fetches) = (self.http.clone(), self.fetches.clone());
        let fetching = tokio::spawn(fetch(http, fetches, url, self.timeout));
        async { fetching.await.unwrap_or(Err(Unavailable::NotFetched)) }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<CertificateUrl, (UnixMicros, Fetch)>> {
        // Nothing in here is left half done by a panic.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn fetch(
    http: Client,
    fetches: Arc<Semaphore>,
    url: String,
    wait: Duration,
) -> Result<Arc<Certificate>, Unavailable> {
    let turn = tokio::time::timeout(wait, fetches.acquire()).await;
    let _one_of_few = turn.map_err(|_| Unavailable::Busy)?.map_err(|_| Unavailable::Busy)?;
    let answer = http.get(url).send().await.map_err(|_| Unavailable::NotFetched)?;
    if !answer.status().is_success() {
        return Err(Unavailable::NotFetched);
    }
    let mut pem = Vec::new();
    let mut pieces = answer.bytes_stream();
    while let Some(piece) = pieces.next().await {
        pem.extend_from_slice(&piece.map_err(|_| Unavailable::NotFetched)?);
        if pem.len() > BYTES_MAX {
            return Err(Unavailable::NotACertificate);
        }
    }
    parsed(&pem)
}

async fn read(path: PathBuf) -> Result<Arc<Certificate>, Unavailable> {
    let length = |path: &Path| std::fs::metadata(path).map(|file| file.len()).ok();
    let read = tokio::task::spawn_blocking(move || {
        let fits = length(&path).is_some_and(|length| length <= BYTES_MAX as u64);
        if fits { std::fs::read(&path).ok() } else { None }
    });
    let pem = read.await.ok().flatten().ok_or(Unavailable::NotInFolder)?;
    parsed(&pem)
}

fn parsed(pem: &[u8]) -> Result<Arc<Certificate>, Unavailable> {
    Certificate::parse(pem).map(Arc::new).map_err(|_| Unavailable::NotACertificate)
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpListener;

    use activekg_storage::time::ManualClock;

    use super::super::certificate::Digest;
    use super::*;
    use crate::config::Config;
    use crate::config::options::Options;

    const VALID: &str = include_str!("../../../tests/data/sns/SimpleNotificationService-valid.pem");
    const EXPIRED: &str =
        include_str!("../../../tests/data/sns/SimpleNotificationService-expired.pem");

    fn settings(folder: Option<PathBuf>) -> config::Webhooks {
        let home = |name: &str| (name == "HOME").then(|| "/home/somebody".to_owned());
        let options = Options::from_lookup(home).unwrap();
        let webhooks = Config::new(&options).unwrap().webhooks;
        config::Webhooks { certificate_dir: folder, ..webhooks }
    }

    fn certificates(folder: Option<PathBuf>) -> (Certificates, Arc<ManualClock>) {
        crate::tls::init();
        let clock = Arc::new(ManualClock::at(UnixMicros(0)));
        (Certificates::new(&settings(folder), clock.clone()).unwrap(), clock)
    }

    fn url(name: &str) -> CertificateUrl {
        let text =
            format!("https://sns.eu-west-1.amazonaws.com/SimpleNotificationService-{name}.pem");
        CertificateUrl::parse(&text).unwrap()
    }

    /// Answers one request with these bytes.
    fn answering(answer: Vec<u8>) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}/x.pem", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut connection, _) = listener.accept().unwrap();
            let _ = connection.read(&mut [0; 4096]);
            let _ = connection.write_all(&answer);
        });
        address
    }

    fn ok(body: &[u8]) -> Vec<u8> {
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        [head.as_bytes(), body].concat()
    }

    #[tokio::test]
    async fn a_folder_is_read_again_when_time_is_up_or_nothing_was_there() {
        let folder = tempfile::tempdir().unwrap();
        let (certificates, clock) = certificates(Some(folder.path().to_owned()));
        let missing = certificates.get(&url("a")).await.err();
        assert_eq!(missing, Some(Unavailable::NotInFolder));
        let path = folder.path().join("SimpleNotificationService-a.pem");
        std::fs::write(&path, VALID).unwrap();
        let now = 1_800_000_000;
        assert!(certificates.get(&url("a")).await.unwrap().valid_at(now));
        std::fs::write(&path, EXPIRED).unwrap();
        assert!(certificates.get(&url("a")).await.unwrap().valid_at(now), "it is kept");
        clock.advance(Duration::from_secs(3600));
        let read = certificates.get(&url("a")).await.unwrap();
        assert!(!read.valid_at(now) && read.valid_at(1_578_000_000));
        assert!(!read.signed(b"text", &[0; 256], Digest::Sha256));
        std::fs::write(folder.path().join("SimpleNotificationService-b.pem"), "no").unwrap();
        let other = certificates.get(&url("b")).await.err();
        assert_eq!(other, Some(Unavailable::NotACertificate));
    }

    #[tokio::test]
    async fn one_too_many_takes_the_place_of_the_oldest() {
        let folder = tempfile::tempdir().unwrap();
        let (certificates, clock) = certificates(Some(folder.path().to_owned()));
        for n in 0..=KEPT_MAX {
            let path = folder.path().join(format!("SimpleNotificationService-{n}.pem"));
            std::fs::write(path, VALID).unwrap();
            certificates.get(&url(&n.to_string())).await.unwrap();
            clock.advance(Duration::from_secs(1));
        }
        let kept = certificates.lock();
        assert_eq!(kept.len(), KEPT_MAX);
        assert!(!kept.contains_key(&url("0")) && kept.contains_key(&url("1")));
    }

    #[tokio::test]
    async fn a_fetch_that_nobody_waits_for_any_more_gives_its_place_back() {
        let (certificates, _) = certificates(None);
        for _ in 0..FETCHES_MAX {
            drop(certificates.begin(answering(Vec::new())));
        }
        let all = certificates.fetches.acquire_many(FETCHES_MAX as u32).await;
        drop(all.expect("every place is given back"));
        let valid = certificates.begin(answering(ok(VALID.as_bytes())));
        assert!(valid.await.is_ok());
    }

    #[tokio::test]
    async fn only_a_small_certificate_without_detours_is_fetched() {
        let (certificates, _) = certificates(None);
        let fetched = async |answer: Vec<u8>| {
            let one = Arc::new(Semaphore::new(1));
            fetch(certificates.http.clone(), one, answering(answer), certificates.timeout).await
        };
        assert!(fetched(ok(VALID.as_bytes())).await.is_ok());
        let long = [VALID.as_bytes(), &vec![b'\n'; BYTES_MAX]].concat();
        assert_eq!(fetched(ok(&long)).await.err(), Some(Unavailable::NotACertificate));
        let moved = b"HTTP/1.1 302 Found\r\nlocation: /y\r\ncontent-length: 0\r\n\r\n".to_vec();
        assert_eq!(fetched(moved).await.err(), Some(Unavailable::NotFetched));
        let missing = b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\n\r\n".to_vec();
        assert_eq!(fetched(missing).await.err(), Some(Unavailable::NotFetched));
        assert_eq!(fetched(Vec::new()).await.err(), Some(Unavailable::NotFetched));
        let none = Arc::new(Semaphore::new(0));
        let none = fetch(certificates.http.clone(), none, String::new(), Duration::ZERO);
        assert_eq!(none.await.err(), Some(Unavailable::Busy));
    }
}
