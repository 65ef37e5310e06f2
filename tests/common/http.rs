//! A blocking HTTP/1.1 client with nothing between a test and the wire, so that a test decides
//! about framing, headers and odd bytes itself.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::json;

/// Longest wait for the server to say something.
const SILENCE_MAX: Duration = Duration::from_secs(90);

/// Bytes in a chunk of a chunked body.
const CHUNK: usize = 64 * 1024;

/// A request to be sent.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) target: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Option<Vec<u8>>,
    pub(crate) chunked: bool,
}

impl Request {
    pub(crate) fn new(method: &str, target: impl Into<String>) -> Self {
        Self {
            method: method.to_owned(),
            target: target.into(),
            headers: Vec::new(),
            body: None,
            chunked: false,
        }
    }

    pub(crate) fn get(target: impl Into<String>) -> Self {
        Self::new("GET", target)
    }

    pub(crate) fn post(target: impl Into<String>, body: &Value) -> Self {
        Self::new("POST", target).json(body)
    }

    pub(crate) fn put(target: impl Into<String>, body: &Value) -> Self {
        Self::new("PUT", target).json(body)
    }

    pub(crate) fn delete(target: impl Into<String>) -> Self {
        Self::new("DELETE", target)
    }

    pub(crate) fn json(self, body: &Value) -> Self {
        self.raw(body.to_string())
    }

    /// These bytes as the body, said to be JSON unless a header says otherwise.
    pub(crate) fn raw(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = Some(body.into());
        if self.header_value("content-type").is_none() {
            self = self.header("content-type", "application/json");
        }
        self
    }

    pub(crate) fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    pub(crate) fn bearer(self, token: &str) -> Self {
        self.header("authorization", &format!("Bearer {token}"))
    }

    /// With chunked transfer encoding and no length.
    pub(crate) fn chunked(mut self) -> Self {
        self.chunked = true;
        self
    }

    fn header_value(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The bytes before the body.
    fn head(&self, host: SocketAddr, keep_alive: bool) -> String {
        let mut head = format!("{} {} HTTP/1.1\r\nhost: {host}\r\n", self.method, self.target);
        for (name, value) in &self.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        match &self.body {
            Some(_) if self.chunked => head.push_str("transfer-encoding: chunked\r\n"),
            Some(body) if self.header_value("content-length").is_none() => {
                head.push_str(&format!("content-length: {}\r\n", body.len()));
            }
            Some(_) | None => {}
        }
        head.push_str(if keep_alive { "\r\n" } else { "connection: close\r\n\r\n" });
        head
    }

    fn write(
        &self,
        to: &mut impl Write,
        host: SocketAddr,
        keep_alive: bool,
    ) -> std::io::Result<()> {
        to.write_all(self.head(host, keep_alive).as_bytes())?;
        let body = self.body.as_deref().unwrap_or_default();
        if self.chunked {
            for chunk in body.chunks(CHUNK) {
                to.write_all(format!("{:x}\r\n", chunk.len()).as_bytes())?;
                to.write_all(chunk)?;
                to.write_all(b"\r\n")?;
            }
            to.write_all(b"0\r\n\r\n")?;
        } else {
            to.write_all(body)?;
        }
        to.flush()
    }

    /// Sends it on a connection of its own. Errors are the network's: no answer came.
    pub(crate) fn send_to(&self, host: SocketAddr) -> std::io::Result<Answer> {
        let mut connection = Connection::open(host)?;
        connection.exchange(self, false)
    }

    /// Sends it over a socket of the file system, on a connection of its own.
    pub(crate) fn send_over(&self, socket: &Path) -> std::io::Result<Answer> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        let host = (Ipv4Addr::LOCALHOST, 0).into();
        Connection { host, stream: BufReader::new(stream) }.exchange(self, false)
    }
}

/// A connection that is kept open.
#[derive(Debug)]
pub(crate) struct Connection<S = TcpStream> {
    host: SocketAddr,
    stream: BufReader<S>,
}

impl Connection {
    pub(crate) fn open(host: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(host)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        stream.set_write_timeout(Some(SILENCE_MAX))?;
        Ok(Self { host, stream: BufReader::new(stream) })
    }

    /// The socket, to be written to by hand.
    pub(crate) fn socket(&mut self) -> &mut TcpStream {
        self.stream.get_mut()
    }

    pub(crate) fn send(&mut self, request: &Request) -> std::io::Result<Answer> {
        self.exchange(request, true)
    }
}

impl<S: Read + Write> Connection<S> {
    fn exchange(&mut self, request: &Request, keep_alive: bool) -> std::io::Result<Answer> {
        let written = request.write(self.stream.get_mut(), self.host, keep_alive);
        // A server that refuses a body may answer before all of it was written.
        let answer = self.read(&request.method);
        match (written, answer) {
            (Err(error), Err(_)) => Err(error),
            (_, answer) => answer,
        }
    }

    /// Reads the answer to a request of this method.
    pub(crate) fn read(&mut self, method: &str) -> std::io::Result<Answer> {
        let mut answer = self.head()?;
        while answer.status == 100 {
            answer = self.head()?;
        }
        answer.body = if method == "HEAD" || answer.status == 204 || answer.status == 304 {
            Vec::new()
        } else if answer.header("transfer-encoding").is_some_and(|value| value == "chunked") {
            self.chunks()?
        } else if let Some(length) = answer.header("content-length") {
            let mut body = vec![0; length.parse().map_err(|_| garbled("content-length"))?];
            self.stream.read_exact(&mut body)?;
            body
        } else {
            let mut body = Vec::new();
            self.stream.read_to_end(&mut body)?;
            body
        };
        Ok(answer)
    }

    fn head(&mut self) -> std::io::Result<Answer> {
        let line = self.line()?;
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let mut headers = Vec::new();
        loop {
            let line = self.line()?;
            match line.split_once(':') {
                Some((name, value)) => {
                    headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
                }
                None if line.is_empty() => break,
                None => return Err(garbled("header")),
            }
        }
        Ok(Answer { status: status.ok_or_else(|| garbled("status"))?, headers, body: Vec::new() })
    }

    fn chunks(&mut self) -> std::io::Result<Vec<u8>> {
        let mut body = Vec::new();
        loop {
            let line = self.line()?;
            let length = usize::from_str_radix(&line, 16).map_err(|_| garbled("chunk"))?;
            let start = body.len();
            body.resize(start + length, 0);
            self.stream.read_exact(&mut body[start..])?;
            self.line()?;
            if length == 0 {
                return Ok(body);
            }
        }
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.stream.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

fn garbled(what: &str) -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::InvalidData, format!("the server sent a bad {what}"))
}

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("every answer is UTF-8")
    }

    pub(crate) fn json(&self) -> Value {
        json::parse(self.text())
            .unwrap_or_else(|error| panic!("no JSON ({error}): {}", self.text()))
    }

    /// The body of an answer that must have this status.
    #[track_caller]
    pub(crate) fn expect(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.text());
        self.json()
    }

    /// The `detail` of an answer that must have this status.
    #[track_caller]
    pub(crate) fn expect_detail(&self, status: u16) -> String {
        let body = self.expect(status);
        let text =
            body["detail"].as_str().unwrap_or_else(|| panic!("detail is no sentence: {body}"));
        text.to_owned()
    }

    /// The type, place and message of the only fault that a 422 lists.
    #[track_caller]
    pub(crate) fn expect_fault(&self) -> (String, Value, String) {
        let body = self.expect(422);
        let [fault] = body["detail"].as_array().expect("a list of faults").as_slice() else {
            panic!("not one fault: {body}");
        };
        let word = |name: &str| fault[name].as_str().unwrap_or_default().to_owned();
        (word("type"), fault["loc"].clone(), word("msg"))
    }

    /// The frames of an event stream: event name and data. Comments are left out.
    pub(crate) fn frames(&self) -> Vec<(String, Value)> {
        let frames = self.text().split("\n\n").filter(|frame| !frame.is_empty());
        frames
            .filter(|frame| !frame.starts_with(':'))
            .map(|frame| {
                let (event, data) = frame.split_once('\n').expect("a frame has two lines");
                let event = event.strip_prefix("event: ").expect("a frame begins with its event");
                let data = data.strip_prefix("data: ").expect("a frame ends with its data");
                (event.to_owned(), json::parse(data).expect("the data of a frame is JSON"))
            })
            .collect()
    }
}
