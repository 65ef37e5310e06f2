//! The program itself, started as an operator starts it.

use std::collections::{BTreeMap, VecDeque};
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use super::http::{Answer, Request};

/// Longest time until a started program listens, and until it is ready. Long, because many tests
/// share few cores; nothing waits longer than it must.
const START_MAX: Duration = Duration::from_secs(90);

/// Lines of the log that are kept for the report of a failure.
const LOG_LINES: usize = 300;

/// How to start the program.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    env: BTreeMap<String, String>,
    dir: Option<PathBuf>,
    file_kib: Option<u32>,
}

impl Options {
    /// With these settings and no others.
    pub(crate) fn new(env: &[(&str, &str)]) -> Self {
        let env =
            env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Self { env, dir: None, file_kib: None }
    }

    pub(crate) fn set(mut self, name: &str, value: &str) -> Self {
        self.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// On this data directory, which outlives the server, instead of a fresh one.
    pub(crate) fn dir(mut self, dir: &Path) -> Self {
        self.dir = Some(dir.to_owned());
        self
    }

    /// Writes fail that make a file larger than this.
    pub(crate) fn file_kib(mut self, kib: u32) -> Self {
        self.file_kib = Some(kib);
        self
    }

    pub(crate) fn start(self) -> Server {
        Server::start_with(self)
    }

    /// Starts a server that will not say it is ready, on a data directory of the test's.
    pub(crate) fn start_degraded(self) -> Server {
        let dir = self.dir.clone().expect("a directory is given");
        let running = Running::start(&self, &dir);
        Server { options: self, dir, _own: None, running }
    }

    /// The program with these settings, about to be run with `arguments` on `dir`. Nothing of the
    /// environment of the tests reaches it but what any program needs.
    pub(crate) fn command(&self, dir: &Path, arguments: &[&str]) -> Command {
        const PROGRAM: &str = env!("CARGO_BIN_EXE_activekg");
        let mut command = match self.file_kib {
            None => Command::new(PROGRAM),
            Some(kib) => {
                let mut shell = Command::new("sh");
                // The signal would end the process; ignored, the write fails. The unit is 512 bytes.
                let limited =
                    format!("trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"", u64::from(kib) * 2);
                shell.args(["-c", &limited, PROGRAM]);
                shell
            }
        };
        command.args(arguments).env_clear().stdin(Stdio::null());
        for name in ["PATH", "TMPDIR"] {
            command.envs(std::env::var_os(name).map(|value| (name, value)));
        }
        // Whatever connectors name, nothing but this machine is reached.
        command.env("HTTPS_PROXY", "http://127.0.0.1:9").env("NO_PROXY", "127.0.0.1,localhost");
        command.env("HOME", dir).env("ACTIVEKG_DATA_DIR", dir).env("ACTIVEKG_BIND", "127.0.0.1:0");
        // Longer than the default: an answer must not depend on how busy the machine is.
        command.env("EMBEDDING_SYNC_WAIT_MS", "90000");
        command.envs(self.env.iter().filter(|(_, value)| !value.is_empty()));
        command
    }
}

/// A running server. It is killed when dropped; if the test is failing then, its log is printed.
#[derive(Debug)]
pub(crate) struct Server {
    options: Options,
    dir: PathBuf,
    /// Removes the data directory, unless the test owns it.
    _own: Option<TempDir>,
    running: Running,
}

#[derive(Debug)]
struct Running {
    child: Child,
    addr: SocketAddr,
    log: Log,
}

type Log = Arc<Mutex<VecDeque<String>>>;

impl Server {
    /// Starts a server with these settings on a fresh data directory and waits until it is ready.
    pub(crate) fn start(env: &[(&str, &str)]) -> Self {
        Options::new(env).start()
    }

    fn start_with(options: Options) -> Self {
        let own = options.dir.is_none().then(|| TempDir::new().expect("make a data directory"));
        let dir = options.dir.clone().or_else(|| own.as_ref().map(|own| own.path().to_owned()));
        let dir = dir.expect("one of the two is there");
        let running = Running::start(&options, &dir);
        running.wait_until_ready();
        Self { options, dir, _own: own, running }
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.running.addr
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn pid(&self) -> u32 {
        self.running.child.id()
    }

    /// Sends a request, which must be answered.
    #[track_caller]
    pub(crate) fn send(&self, request: &Request) -> Answer {
        request.send_to(self.addr()).unwrap_or_else(|error| {
            panic!("{} {} was not answered: {error}", request.method, request.target)
        })
    }

    #[track_caller]
    pub(crate) fn get(&self, target: &str) -> Answer {
        self.send(&Request::get(target))
    }

    #[track_caller]
    pub(crate) fn post(&self, target: &str, body: &Value) -> Answer {
        self.send(&Request::post(target, body))
    }

    #[track_caller]
    pub(crate) fn put(&self, target: &str, body: &Value) -> Answer {
        self.send(&Request::put(target, body))
    }

    #[track_caller]
    pub(crate) fn delete(&self, target: &str) -> Answer {
        self.send(&Request::delete(target))
    }

    /// Creates a node and returns its id.
    #[track_caller]
    pub(crate) fn create(&self, node: &Value) -> String {
        let body = self.post("/nodes", node).expect(200);
        body["id"].as_str().expect("an id").to_owned()
    }

    /// Asks again until the answer is as wished: for what the program does in the background.
    #[track_caller]
    pub(crate) fn until(&self, request: &Request, wish: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + START_MAX;
        loop {
            let answer = self.send(request);
            if wish(&answer) {
                return answer;
            }
            assert!(Instant::now() < deadline, "{} stays at {}", request.target, answer.text());
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// Ends the process at once, as kill -9 and a power button do.
    pub(crate) fn kill(&mut self) {
        self.running.child.kill().expect("kill the server");
        self.running.child.wait().expect("wait for the server");
    }

    /// Asks the process to end, and waits for it.
    pub(crate) fn terminate(&mut self) -> ExitStatus {
        let pid = self.pid().to_string();
        let sent = Command::new("kill").args(["-TERM", &pid]).status().expect("run kill");
        assert!(sent.success());
        self.running.child.wait().expect("wait for the server")
    }

    /// Starts again on the same data, with these settings changed; an empty value unsets one.
    pub(crate) fn start_again(&mut self, changes: &[(&str, &str)]) {
        for (name, value) in changes {
            self.options.env.insert((*name).to_owned(), (*value).to_owned());
        }
        let running = Running::start(&self.options, &self.dir);
        running.wait_until_ready();
        drop(std::mem::replace(&mut self.running, running));
    }

    /// Whether the process still runs.
    pub(crate) fn is_alive(&mut self) -> bool {
        matches!(self.running.child.try_wait(), Ok(None))
    }

    /// The last lines it has logged. What it logged a moment ago may be missing: see
    /// [`Server::logged`].
    pub(crate) fn log(&self) -> String {
        text(&self.running.log)
    }

    /// Waits until it has logged something with `wish` in it; the last lines of its log.
    #[track_caller]
    pub(crate) fn logged(&self, wish: &str) -> String {
        let deadline = Instant::now() + START_MAX;
        loop {
            let log = self.log();
            if log.contains(wish) {
                return log;
            }
            assert!(Instant::now() < deadline, "{wish:?} is not in the log:\n{log}");
            thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Running {
    fn start(options: &Options, dir: &Path) -> Self {
        let mut command = options.command(dir, &["serve"]);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("start the program");
        let log = Log::default();
        let (found, addresses) = mpsc::channel();
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        follow(stdout, log.clone(), found.clone());
        follow(stderr, log.clone(), found);
        let Ok(addr) = addresses.recv_timeout(START_MAX) else {
            let _ = child.kill();
            panic!("the server does not listen: {:?}\n{}", child.wait(), text(&log));
        };
        Self { child, addr, log }
    }

    fn wait_until_ready(&self) {
        let deadline = Instant::now() + START_MAX;
        let ready = Request::get("/readyz");
        loop {
            match ready.send_to(self.addr) {
                Ok(answer) if answer.status == 200 => return,
                other if Instant::now() > deadline => panic!("not ready: {other:?}"),
                _ => thread::sleep(Duration::from_millis(10)),
            }
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            eprintln!("the server's last lines:\n{}", text(&self.log));
        }
    }
}

/// Keeps the last lines of `source`, and sends on the address that a line names.
fn follow(source: impl Read + Send + 'static, log: Log, found: Sender<SocketAddr>) {
    thread::spawn(move || {
        for line in BufReader::new(source).lines().map_while(Result::ok) {
            if let Some(addr) = address(&line) {
                // Only the first is waited for.
                let _ = found.send(addr);
            }
            let mut log = log.lock().expect("no holder panics");
            if log.len() == LOG_LINES {
                log.pop_front();
            }
            log.push_back(line);
        }
    });
}

/// The `address` of a log line.
fn address(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["address"].as_str()?.parse().ok()
}

fn text(log: &Log) -> String {
    let log = log.lock().expect("no holder panics");
    log.iter().map(String::as_str).collect::<Vec<_>>().join("\n")
}
