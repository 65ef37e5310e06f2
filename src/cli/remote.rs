//! Commands' side of a running server: over its admin socket, or over the network with a token.

use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, anyhow, bail};
use futures_util::StreamExt as _;
use reqwest::{Method, RequestBuilder, Response};
use serde_json::Value;

use crate::admin::{Reach, SOCKET};
use crate::config::options::RemoteOptions;
use crate::config::{self, Secret};

/// Longest wait for a connection. What follows may take as long as the work does.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// Longest line of a streamed answer, in bytes.
const LINE_MAX: usize = 16 << 20;

impl RemoteOptions {
    /// The data directory.
    pub(in crate::cli) fn data_dir(&self) -> anyhow::Result<PathBuf> {
        Ok(config::Store::new(&self.store, &mut Vec::new())?.data_dir)
    }

    /// The server at `--url`, else the one that runs on the data directory; `None` if none does.
    pub(in crate::cli) fn server(&self) -> anyhow::Result<Option<Client>> {
        match self.url.as_deref().filter(|url| !url.trim().is_empty()) {
            Some(url) => Client::at(url, self.token.clone()).map(Some),
            None => Client::connect(&self.data_dir()?),
        }
    }

    /// [`RemoteOptions::server`], where one is needed.
    pub(in crate::cli) fn needed_server(&self) -> anyhow::Result<Client> {
        if let Some(client) = self.server()? {
            return Ok(client);
        }
        let dir = self.data_dir()?;
        bail!(
            "no server runs on {}; start one with `activekg serve`, or name one with --url",
            dir.display()
        )
    }
}

/// A server that answers. Its methods want the async runtime of the command.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    token: Option<Secret>,
    /// Keeps the path to the socket good.
    _socket: Option<Reach>,
}

impl Client {
    /// The server that runs on `data_dir`; `None` if none does.
    ///
    /// # Errors
    ///
    /// When one runs that this user may not talk to.
    pub(super) fn connect(data_dir: &Path) -> anyhow::Result<Option<Client>> {
        let socket = match Reach::new(data_dir, SOCKET) {
            Ok(socket) => socket,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).context("reach the admin socket"),
        };
        match UnixStream::connect(socket.path()) {
            Ok(_) => {}
            // Nothing there, or what a dead server left.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound
                        | io::ErrorKind::NotADirectory
                        | io::ErrorKind::ConnectionRefused
                ) =>
            {
                return Ok(None);
            }
            Err(error) => {
                return Err(error).with_context(|| {
                    format!(
                        "connect to {}; run this as the user the server runs as",
                        data_dir.join(SOCKET).display()
                    )
                });
            }
        }
        let http = crate::tls::plain().unix_socket(socket.path()).no_proxy().build();
        Ok(Some(Client {
            http: http.context("make a client")?,
            base: "http://localhost".to_owned(),
            token: None,
            _socket: Some(socket),
        }))
    }

    /// The server at `url`.
    ///
    /// # Errors
    ///
    /// When `url` is no address of a server.
    pub(super) fn at(url: &str, token: Option<Secret>) -> anyhow::Result<Client> {
        let base = url.trim().trim_end_matches('/').to_owned();
        let parsed = reqwest::Url::parse(&base).with_context(|| format!("--url {base:?}"))?;
        if !matches!(parsed.scheme(), "http" | "https") {
            bail!("--url {base:?} is not an http: address");
        }
        let configured = |builder: reqwest::ClientBuilder| builder.connect_timeout(CONNECT_MAX);
        let http = match parsed.scheme() {
            "https" => crate::tls::web(configured),
            _ => configured(crate::tls::plain()).build(),
        };
        let http = http.context("make a client (SSL_CERT_FILE can name the certificates)")?;
        Ok(Client { http, base, token, _socket: None })
    }

    /// GET.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached, or answers with an error: then the text is its `detail`.
    pub(super) async fn get(&self, path: &str) -> anyhow::Result<Value> {
        self.json(Method::GET, path, None).await
    }

    /// POST of a JSON body.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub(super) async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.json(Method::POST, path, Some(body)).await
    }

    /// PATCH with a JSON body.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub(super) async fn patch(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        self.json(Method::PATCH, path, Some(body)).await
    }

    /// DELETE.
    ///
    /// # Errors
    ///
    /// As [`Client::get`].
    pub(super) async fn delete(&self, path: &str) -> anyhow::Result<Value> {
        self.json(Method::DELETE, path, None).await
    }

    /// POST to a route that answers in JSON lines while it works: `each` sees them as they come,
    /// the last one is returned as well.
    ///
    /// # Errors
    ///
    /// As [`Client::get`]; also when the answer breaks off or its last line has a member `error`.
    pub(super) async fn follow(
        &self,
        path: &str,
        body: &Value,
        mut each: impl FnMut(&Value),
    ) -> anyhow::Result<Value> {
        let answer = self.sent(Method::POST, path, Some(body)).await?;
        let mut lines = Lines::default();
        let mut last = None;
        let mut parts = answer.bytes_stream();
        while let Some(part) = parts.next().await {
            lines.add(&part.with_context(|| format!("read the answer to POST {path}"))?)?;
            while let Some(line) = lines.next()? {
                each(&line);
                last = Some(line);
            }
        }
        let last = last.with_context(|| format!("POST {path} answered nothing"))?;
        match last.get("error").and_then(Value::as_str) {
            Some(error) => Err(anyhow!("{error}")),
            None => Ok(last),
        }
    }

    /// POST to a route that answers in server-sent events: `each` sees their data as they come.
    ///
    /// # Errors
    ///
    /// As [`Client::get`]; also when data is no JSON, or `each` fails.
    pub(super) async fn events(
        &self,
        path: &str,
        body: &Value,
        mut each: impl FnMut(Value) -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let answer = self.sent(Method::POST, path, Some(body)).await?;
        let mut lines = Lines::default();
        let mut parts = answer.bytes_stream();
        while let Some(part) = parts.next().await {
            lines.add(&part.with_context(|| format!("read the answer to POST {path}"))?)?;
            while let Some(data) = lines.next_data()? {
                each(data)?;
            }
        }
        Ok(())
    }

    /// GET: whether it is a success, and the answer as it is.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached.
    pub(super) async fn look(&self, path: &str) -> anyhow::Result<(bool, String)> {
        let answer = self.send(Method::GET, path, None).await?;
        let is_success = answer.status().is_success();
        let text = answer.text().await;
        Ok((is_success, text.with_context(|| format!("read the answer to GET {path}"))?))
    }

    /// POST of a body as it is: the answer as it is, whatever its status.
    ///
    /// # Errors
    ///
    /// When the server cannot be reached.
    pub(super) async fn exchange(&self, path: &str, body: String) -> anyhow::Result<String> {
        let answer = self.send(Method::POST, path, Some(body)).await?;
        answer.text().await.with_context(|| format!("read the answer to POST {path}"))
    }

    async fn json(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let what = format!("{method} {path}");
        let answer = self.sent(method, path, body).await?;
        let text = answer.text().await.with_context(|| format!("read the answer to {what}"))?;
        serde_json::from_str(&text).with_context(|| format!("{what} did not answer JSON"))
    }

    /// The answer to a request, if it is a success.
    async fn sent(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> anyhow::Result<Response> {
        let answer = self.send(method, path, body.map(Value::to_string)).await?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.text().await.unwrap_or_default();
        let body: Option<Value> = serde_json::from_str(&text).ok();
        let detail = body.as_ref().and_then(|body| body.get("detail"));
        let detail = detail.map(|detail| detail.as_str().map_or(detail.to_string(), str::to_owned));
        bail!("the server answered {status}: {}", detail.unwrap_or(text))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> anyhow::Result<Response> {
        let what = format!("{method} {path}");
        let mut request: RequestBuilder = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.reveal());
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body);
        }
        request.send().await.with_context(|| format!("send {what}"))
    }
}

/// Cuts a stream of bytes into lines of JSON.
#[derive(Default)]
struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    fn add(&mut self, bytes: &[u8]) -> anyhow::Result<()> {
        if self.rest.len() + bytes.len() > LINE_MAX {
            bail!("the server's answer has a line of more than {LINE_MAX} bytes");
        }
        self.rest.extend_from_slice(bytes);
        Ok(())
    }

    /// The data of the next event, which is a line beginning with `data:`. Names and comments are
    /// passed over; a frame of ours has one line of data.
    fn next_data(&mut self) -> anyhow::Result<Option<Value>> {
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            if let Some(data) = line.strip_prefix(b"data:") {
                let data = serde_json::from_slice(data);
                return Ok(Some(data.context("the server's event is not JSON")?));
            }
        }
        Ok(None)
    }

    /// The next whole line that is not empty.
    fn next(&mut self) -> anyhow::Result<Option<Value>> {
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            if !line.trim_ascii().is_empty() {
                let line =
                    serde_json::from_slice(&line).context("the server's line is not JSON")?;
                return Ok(Some(line));
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lines_are_cut_wherever_the_parts_end() {
        let text = "{\"done\":1}\n\n{\"done\":2}\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for part in text.as_bytes().chunks(size) {
                lines.add(part).unwrap();
                while let Some(line) = lines.next().unwrap() {
                    found.push(line);
                }
            }
            assert_eq!(found, [json!({ "done": 1 }), json!({ "done": 2 })], "parts of {size}");
        }
    }

    #[test]
    fn events_are_cut_wherever_the_parts_end() {
        let text = ": keep-alive\n\nevent: token\ndata: {\"text\": \"a\"}\n\nevent: final\r\ndata: {}\r\n\r\n";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut found = Vec::new();
            for part in text.as_bytes().chunks(size) {
                lines.add(part).unwrap();
                while let Some(data) = lines.next_data().unwrap() {
                    found.push(data);
                }
            }
            assert_eq!(found, [json!({ "text": "a" }), json!({})], "parts of {size}");
        }
    }

    #[test]
    fn without_a_server_there_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Client::connect(dir.path()).unwrap().is_none());
        assert!(Client::connect(&dir.path().join("not there")).unwrap().is_none());
        drop(std::os::unix::net::UnixListener::bind(dir.path().join(SOCKET)).unwrap());
        assert!(Client::connect(dir.path()).unwrap().is_none(), "a dead one's socket");
    }

    #[test]
    fn an_address_must_be_one() {
        crate::tls::init();
        assert!(Client::at("ftp://somewhere", None).is_err());
        assert!(Client::at("somewhere", None).is_err());
        assert!(Client::at("http://127.0.0.1:8000/", None).is_ok());
    }

    /// The certificates of this machine may be missing: there are others compiled in.
    #[test]
    fn an_https_address_needs_no_certificates_of_this_machine() {
        crate::tls::init();
        assert!(Client::at("https://kg.example.org", None).is_ok());
    }
}
