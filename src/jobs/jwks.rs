//! Keeps the keys up to date that issuers publish.
//!
//! What was read last from the web is kept beside the data, so that a start without a network checks
//! tokens all the same.

use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures_util::StreamExt as _;
use reqwest::{Client, redirect};
use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;
use tokio::select;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::auth::{IssuerKeys, KeySet};
use crate::config::KeySource;
use crate::tls;

/// Folder of what was read last.
const KEPT: &str = "jwks";
/// Between two looks without cause.
const PERIOD: Duration = Duration::from_secs(300);
/// Between two looks with cause: a token that names an unknown key.
const PAUSE: Duration = Duration::from_secs(5);
/// Longest time for one look.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Largest set.
const BYTES_MAX: usize = 1 << 20;

/// Keeps one issuer's keys up to date.
#[derive(Clone)]
pub struct KeyWatch {
    keys: IssuerKeys,
    kept: PathBuf,
    http: Client,
}

impl KeyWatch {
    /// Watches `keys`, and keeps a copy of them in `data_dir`.
    ///
    /// # Errors
    ///
    /// When no HTTP client can be made.
    pub fn new(keys: IssuerKeys, data_dir: &Path) -> Result<Self, reqwest::Error> {
        let http = tls::web(|builder| {
            builder
                .user_agent(concat!("activekg/", env!("CARGO_PKG_VERSION")))
                .redirect(redirect::Policy::limited(3))
                .timeout(TIMEOUT)
        })?;
        let name = match keys.source() {
            KeySource::File(path) => path.to_string_lossy().into_owned(),
            KeySource::Url(url) => url.clone(),
        };
        let digest = Sha256::digest(name.as_bytes());
        let name: String = digest.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        let kept = data_dir.join(KEPT).join(format!("{name}.json"));
        Ok(Self { keys, kept, http })
    }

    /// Reads the keys before the first request: from their file, or from what was kept of them. One
    /// look at the web follows if nothing was.
    pub async fn begin(&self) {
        let path = match self.keys.source() {
            KeySource::File(path) => path,
            KeySource::Url(_) => &self.kept,
        };
        let kept = std::fs::read(path).ok().and_then(|json| KeySet::parse(&json).ok());
        match kept {
            Some(keys) => self.keys.change_to(keys),
            None => self.look().await,
        }
    }

    /// Looks for new keys now and then until told to stop.
    pub async fn run(self, stop: CancellationToken) {
        loop {
            self.look().await;
            select! {
                () = stop.cancelled() => return,
                () = sleep(PAUSE) => {}
            }
            select! {
                () = stop.cancelled() => return,
                () = self.keys.wanted() => {}
                () = sleep(PERIOD - PAUSE) => {}
            }
        }
    }

    /// Takes the keys as they are now; those of before stay where that fails.
    async fn look(&self) {
        let read = match self.keys.source() {
            KeySource::File(path) => {
                tokio::fs::read(path).await.map_err(|error| format!("{}: {error}", path.display()))
            }
            KeySource::Url(url) => self.fetch(url).await.map_err(|why| format!("{url}: {why}")),
        };
        let parsed = read.and_then(|json| {
            let keys = KeySet::parse(&json).map_err(|error| error.to_string())?;
            Ok((json, keys))
        });
        match parsed {
            Ok((json, keys)) => {
                self.keys.change_to(keys);
                if matches!(self.keys.source(), KeySource::Url(_)) {
                    self.keep(&json);
                }
            }
            Err(why) => warn!("keys to check tokens with stay as they are: {why}"),
        }
    }

    async fn fetch(&self, url: &str) -> Result<Vec<u8>, &'static str> {
        let answer = self.http.get(url).send().await.map_err(|_| "no answer")?;
        if !answer.status().is_success() {
            return Err("the answer is no success");
        }
        let mut json = Vec::new();
        let mut pieces = answer.bytes_stream();
        while let Some(piece) = pieces.next().await {
            json.extend_from_slice(&piece.map_err(|_| "the answer broke off")?);
            if json.len() > BYTES_MAX {
                return Err("the answer is longer than a megabyte");
            }
        }
        Ok(json)
    }

    /// Keeps a copy for a start without a network. The server works without.
    fn keep(&self, json: &[u8]) {
        if std::fs::read(&self.kept).is_ok_and(|kept| kept == json) {
            return;
        }
        match self.write(json) {
            Ok(()) => info!("kept a copy of the keys to check tokens with"),
            Err(error) => warn!("cannot keep a copy of the keys to check tokens with: {error}"),
        }
    }

    fn write(&self, json: &[u8]) -> io::Result<()> {
        let dir = self.kept.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(dir)?;
        let mut file = NamedTempFile::new_in(dir)?;
        file.write_all(json)?;
        file.as_file().sync_all()?;
        file.persist(&self.kept)?;
        Ok(())
    }
}
