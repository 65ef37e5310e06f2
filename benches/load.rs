//! How many durable creates a second does a server take from many clients at once?
//!
//! ```sh
//! cargo bench --bench load -- --addr 127.0.0.1:8000 --clients 64 --seconds 10
//! ```
//!
//! Every client keeps one connection and creates one node after the other; each create is
//! answered once it has been synced. Prints one JSON object. `benches/figures` starts the servers
//! and runs this against them.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::ExitCode;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

const USAGE: &str =
    "usage: cargo bench --bench load -- --addr HOST:PORT [--clients 64] [--seconds 10]";

/// Longest wait for one answer.
const SILENCE_MAX: Duration = Duration::from_secs(60);

struct Options {
    addr: SocketAddr,
    clients: usize,
    length: Duration,
}

impl Options {
    /// Nothing when no server is named.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let (mut addr, mut clients, mut seconds) = (None, 64, 10.0);
        while let Some(flag) = arguments.next() {
            if flag == "--bench" {
                continue; // cargo's own
            }
            let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
            let bad = |_| format!("{flag} cannot be {value:?}");
            match flag.as_str() {
                "--addr" => addr = Some(value.parse().map_err(|_| bad(()))?),
                "--clients" => clients = value.parse().map_err(|_| bad(()))?,
                "--seconds" => seconds = value.parse().map_err(|_| bad(()))?,
                _ => return Err(format!("there is no {flag}")),
            }
        }
        let length = Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
        Ok(addr.map(|addr| Self { addr, clients, length }))
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
    let Options { addr, clients, length } = *options;
    let over = AtomicBool::new(false);
    let line = Barrier::new(clients + 1);
    let (took, latencies) = thread::scope(|scope| -> io::Result<_> {
        let clients: Vec<_> = (0..clients)
            .map(|client| {
                let (over, line) = (&over, &line);
                scope.spawn(move || {
                    // Everyone reaches the line, connected or not.
                    let connection = Client::connect(addr);
                    line.wait();
                    create_until(connection?, client, over)
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
        "creates": latencies.len(),
        "creates_per_second": latencies.len() as f64 / took.as_secs_f64(),
        "p50_ms": quantile(0.5),
        "p99_ms": quantile(0.99),
        "max_ms": quantile(1.0),
    })
}

/// Creates nodes until told to stop, and returns how long each took.
fn create_until(mut client: Client, number: usize, over: &AtomicBool) -> io::Result<Vec<Duration>> {
    let mut latencies = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let text = format!("Reading {} of meter {number}: all is well.", latencies.len());
        let body = json!({ "classes": ["Reading"], "props": { "text": text } }).to_string();
        let sent = Instant::now();
        client.create(&body)?;
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

    /// Sends one create and reads its answer, which must be a 200.
    fn create(&mut self, body: &str) -> io::Result<()> {
        let (addr, length) = (self.addr, body.len());
        let request = format!(
            "POST /nodes HTTP/1.1\r\nhost: {addr}\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n{body}"
        );
        self.stream.get_mut().write_all(request.as_bytes())?;
        let created = self.line()?.starts_with("HTTP/1.1 200");
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
        if created {
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
