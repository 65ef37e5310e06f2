//! How many requests a second does a server answer to many clients at once?
//!
//! ```sh
//! cargo bench --bench load -- --addr 127.0.0.1:8000 --clients 64 --seconds 10 --kind create
//! ```
//!
//! Every client keeps one connection and sends one request after the other: creates, each answered
//! once it has been synced; searches by meaning or by meaning and words, every query another one;
//! listings; lineages. Prints one JSON object. `benches/figures` and `benches/surface` start the
//! servers and run this against them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

const USAGE: &str = "usage: cargo bench --bench load -- --addr HOST:PORT [--clients 64] [--seconds 10] [--kind create]";

/// Words of which queries are made.
const WORDS: [&str; 32] = [
    "pump", "seal", "pressure", "valve", "wing", "flow", "heat", "engine", "noise", "river",
    "harvest", "contract", "engineer", "python", "cluster", "latency", "budget", "island", "music",
    "market", "vaccine", "bridge", "copper", "election", "forest", "orbit", "protein", "railway",
    "sensor", "treaty", "voltage", "winter",
];
/// Words of a query.
const QUERY_WORDS: usize = 12;

/// Longest wait for one answer.
const SILENCE_MAX: Duration = Duration::from_secs(60);

struct Options {
    addr: SocketAddr,
    clients: usize,
    length: Duration,
    kind: Kind,
}

/// What is asked for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Create,
    Search,
    Hybrid,
    List,
    Lineage,
}

impl Kind {
    fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "create" => Self::Create,
            "search" => Self::Search,
            "hybrid" => Self::Hybrid,
            "list" => Self::List,
            "lineage" => Self::Lineage,
            _ => return None,
        })
    }
}

impl Options {
    /// Nothing when no server is named.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let (mut addr, mut clients, mut seconds, mut kind) = (None, 64, 10.0, Kind::Create);
        while let Some(flag) = arguments.next() {
            if flag == "--bench" {
                continue; // cargo's own
            }
            let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
            let bad = |_| format!("{flag} cannot be {value:?}");
            match flag.as_str() {
                "--addr" => addr = Some(value.parse().map_err(|_| bad(()))?),
                "--clients" => clients = value.parse().map_err(|_| bad(()))?,
                "--kind" => kind = Kind::parse(&value).ok_or_else(|| bad(()))?,
                "--seconds" => seconds = value.parse().map_err(|_| bad(()))?,
                _ => return Err(format!("there is no {flag}")),
            }
        }
        let length = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
        Ok(addr.map(|addr| Self { addr, clients, length, kind }))
    }
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(fault) => {
            eprintln!("load: {fault}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("load: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> io::Result<serde_json::Value> {
    let Options { addr, clients, length, kind } = *options;
    let ids = if kind == Kind::Lineage { Client::connect(addr)?.ids()? } else { Vec::new() };
    let over = AtomicBool::new(false);
    let line = Barrier::new(clients + 1);
    let (took, latencies) = thread::scope(|scope| -> io::Result<_> {
        let clients: Vec<_> = (0..clients)
            .map(|client| {
                let (over, line, ids) = (&over, &line, &ids);
                scope.spawn(move || {
                    // Everyone reaches the line, connected or not.
                    let connection = Client::connect(addr);
                    line.wait();
                    ask_until(connection?, (kind, ids), client, over)
                })
            })
            .collect();
        line.wait();
        let started = Instant::now();
        thread::sleep(length);
        over.store(true, Ordering::Relaxed);
        let mut latencies = Vec::new();
        for client in clients {
            latencies.extend(client.join().map_err(|_| io::Error::other("a client panicked"))??);
        }
        Ok((started.elapsed(), latencies))
    })?;
    Ok(report(clients, took, latencies))
}

fn report(clients: usize, took: Duration, mut latencies: Vec<Duration>) -> serde_json::Value {
    latencies.sort_unstable();
    let quantile = |part: f64| {
        let at = (part * latencies.len().saturating_sub(1) as f64).round() as usize;
        latencies.get(at).map(|latency| latency.as_secs_f64() * 1000.0)
    };
    json!({
        "clients": clients,
        "seconds": took.as_secs_f64(),
        "requests": latencies.len(),
        "requests_per_second": latencies.len() as f64 / took.as_secs_f64(),
        "p50_ms": quantile(0.5),
        "p99_ms": quantile(0.99),
        "max_ms": quantile(1.0),
    })
}

/// Sends requests until told to stop, and returns how long each took.
fn ask_until(
    mut client: Client,
    (kind, ids): (Kind, &[String]),
    number: usize,
    over: &AtomicBool,
) -> io::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    // A fixed sequence of its own for each client (Knuth's constants).
    let mut random = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut pick = |n: usize| {
        random =
            random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize % n
    };
    while !over.load(Ordering::Relaxed) {
        let n = latencies.len();
        let (target, body) = match kind {
            Kind::Create => {
                let text = format!("Reading {n} of meter {number}: all is well.");
                let body = json!({ "classes": ["Reading"], "props": { "text": text } });
                ("/nodes".to_owned(), Some(body.to_string()))
            }
            Kind::Search | Kind::Hybrid => {
                let words: Vec<&str> = (0..QUERY_WORDS).map(|_| WORDS[pick(WORDS.len())]).collect();
                let body = json!({ "query": words.join(" "), "use_hybrid": kind == Kind::Hybrid });
                ("/search".to_owned(), Some(body.to_string()))
            }
            Kind::List => (format!("/nodes?limit=100&offset={}", pick(1000)), None),
            Kind::Lineage => (format!("/lineage/{}?max_depth=10", ids[pick(ids.len())]), None),
        };
        let sent = Instant::now();
        client.send(&target, body.as_deref())?;
        latencies.push(sent.elapsed());
    }
    Ok(latencies)
}

struct Client {
    addr: SocketAddr,
    stream: BufReader<TcpStream>,
    line: String,
    body: Vec<u8>,
}

impl Client {
    fn connect(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(SILENCE_MAX))?;
        Ok(Self { addr, stream: BufReader::new(stream), line: String::new(), body: Vec::new() })
    }

    /// Ids of nodes that edges lead away from: they are of this class.
    fn ids(&mut self) -> io::Result<Vec<String>> {
        self.send("/nodes?classes=Linked&limit=1000", None)?;
        let listed: serde_json::Value = serde_json::from_slice(&self.body)?;
        let nodes = listed["nodes"].as_array().cloned().unwrap_or_default();
        let ids: Vec<String> =
            nodes.iter().filter_map(|node| node["id"].as_str().map(str::to_owned)).collect();
        if ids.is_empty() { Err(io::Error::other("no node has the class Linked")) } else { Ok(ids) }
    }

    /// Sends a request, a POST if it has a body, and reads its answer, which must be a 200.
    fn send(&mut self, target: &str, body: Option<&str>) -> io::Result<()> {
        let addr = self.addr;
        let request = match body {
            Some(body) => format!(
                "POST {target} HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            ),
            None => format!("GET {target} HTTP/1.1\r\nhost: {addr}\r\n\r\n"),
        };
        self.stream.get_mut().write_all(request.as_bytes())?;
        let succeeded = self.line()?.starts_with("HTTP/1.1 200");
        let mut length = 0;
        loop {
            let line = self.line()?;
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().map_err(io::Error::other)?;
            }
        }
        self.body.resize(length, 0);
        self.stream.read_exact(&mut self.body)?;
        if succeeded {
            return Ok(());
        }
        Err(io::Error::other(format!("refused: {}", String::from_utf8_lossy(&self.body))))
    }

    fn line(&mut self) -> io::Result<&str> {
        self.line.clear();
        if self.stream.read_line(&mut self.line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(self.line.trim_end())
    }
}
