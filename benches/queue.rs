//! How many jobs a second go through a queue, and how soon does an idle worker start one?
//!
//! ```sh
//! cargo bench -p activekg-storage --bench queue -- [--seconds 3] [--dir DIR] [--json]
//!     [--clients 8] [--backlog 0] [--batch N] [--jobs plain|keyed] [--idle]
//!     [--peer HOST:PORT|/path/to/socket]
//! ```
//!
//! Every client enqueues a batch, leases as many, acknowledges those, each of the three durable
//! before the next; jobs of four tenants, 100 bytes each, share one queue, in which `--backlog`
//! jobs wait besides. Plain jobs are just that; keyed ones have a key that no other live job may
//! have, and their number is known for each tenant. An idle worker sleeps until an enqueue wakes
//! it, or until a delayed job is due. `--batch`, `--jobs` and `--idle` measure that and nothing
//! else.
//!
//! `--peer` drives a Redis server in the same way instead, with the batches pipelined: plain jobs
//! by LPUSH, LMOVE to a list of the client's own, LREM; keyed ones by a script for each of the
//! three steps, which keep the same books. `benches/peers/redis` runs both side by side.

#[path = "queue/idle.rs"]
mod idle;
#[path = "queue/redis.rs"]
mod redis;
#[path = "queue/work.rs"]
mod work;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use activekg_storage::{Store, StoreOptions};
use work::{Client, Fault, Kind, Ours, Random};

const USAGE: &str = "usage: cargo bench -p activekg-storage --bench queue -- \
                     [--seconds 3] [--dir DIR] [--json] [--clients 8] [--backlog 0] \
                     [--batch N] [--jobs plain|keyed] [--idle] [--peer HOST:PORT|SOCKET]";

/// Jobs that a client moves at a time.
const BATCHES: [usize; 4] = [1, 10, 100, 1000];

/// Jobs that an idle worker is given, one at a time.
const STARTS: usize = 400;

struct Options {
    length: Duration,
    dir: PathBuf,
    json: bool,
    clients: usize,
    backlog: usize,
    batch: Option<usize>,
    kind: Option<Kind>,
    idle: bool,
    peer: Option<String>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            length: Duration::from_secs(3),
            dir: std::env::temp_dir(),
            json: false,
            clients: 8,
            backlog: 0,
            batch: None,
            kind: None,
            idle: false,
            peer: None,
        };
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--bench" => {} // cargo's own
                "--json" => options.json = true,
                "--idle" => options.idle = true,
                "--dir" => options.dir = PathBuf::from(value()?),
                "--seconds" => {
                    let seconds = parsed(&flag, &value()?)?;
                    options.length =
                        Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
                }
                "--clients" => options.clients = parsed(&flag, &value()?)?,
                "--backlog" => options.backlog = parsed(&flag, &value()?)?,
                "--batch" => options.batch = Some(parsed(&flag, &value()?)?),
                "--peer" => options.peer = Some(value()?),
                "--jobs" => {
                    options.kind = Some(match value()?.as_str() {
                        "plain" => Kind::Plain,
                        "keyed" => Kind::Keyed,
                        other => return Err(format!("--jobs cannot be {other:?}")),
                    });
                }
                _ => return Err(format!("there is no {flag}")),
            }
        }
        Ok(options)
    }
}

fn parsed<T: std::str::FromStr>(flag: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{flag} cannot be {value:?}"))
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(fault) => {
            eprintln!("queue: {fault}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("queue: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), Fault> {
    if !options.idle {
        let kinds = options.kind.map_or_else(|| vec![Kind::Plain, Kind::Keyed], |kind| vec![kind]);
        let batches = options.batch.map_or_else(|| BATCHES.to_vec(), |batch| vec![batch]);
        for kind in kinds {
            for &batch in &batches {
                through(options, kind, batch)?;
            }
        }
    }
    if options.idle || (options.batch.is_none() && options.kind.is_none()) {
        starts(options)?;
    }
    Ok(())
}

/// Jobs go through the queue for a while.
fn through(options: &Options, kind: Kind, batch: usize) -> Result<(), Fault> {
    let rate = match &options.peer {
        Some(peer) => {
            redis::flush(peer)?;
            let client = |number| redis::Redis::connect(peer, kind, number);
            drive(options, kind, batch, client)?
        }
        None => {
            let dir = tempfile::tempdir_in(&options.dir)?;
            let store = Arc::new(Store::open(dir.path(), StoreOptions::default())?);
            drive(options, kind, batch, |_| Ok(Ours::new(Arc::clone(&store))))?
        }
    };
    let (name, clients) = (kind.name(), options.clients);
    if options.json {
        println!(
            "{{\"jobs\":\"{name}\",\"batch\":{batch},\"clients\":{clients},\"jobs_per_second\":{rate:.0}}}"
        );
    } else {
        println!("{name:<6} {batch:>5} jobs at a time, {clients} clients: {rate:>8.0} jobs/s");
    }
    Ok(())
}

/// Runs the clients side by side; jobs acknowledged a second.
fn drive<C: Client>(
    options: &Options,
    kind: Kind,
    batch: usize,
    connect: impl Fn(usize) -> Result<C, Fault>,
) -> Result<f64, Fault> {
    let mut clients = Vec::new();
    for number in 0..options.clients {
        clients.push((connect(number)?, Random(number as u64)));
    }
    if let Some((client, random)) = clients.first_mut() {
        let mut random = Random(random.0 ^ u64::MAX);
        let mut left = options.backlog;
        while left > 0 {
            let n = left.min(1000);
            client.enqueue(work::jobs(&mut random, kind, n))?;
            left -= n;
        }
    }
    let started = Instant::now();
    let length = options.length;
    let threads = clients.into_iter().map(|(mut client, mut random)| {
        std::thread::spawn(move || {
            let mut done = 0;
            while started.elapsed() < length {
                client.enqueue(work::jobs(&mut random, kind, batch))?;
                client.lease(batch)?;
                done += client.ack()?;
            }
            Ok::<usize, Fault>(done)
        })
    });
    let mut done = 0;
    for thread in threads.collect::<Vec<_>>() {
        done += thread.join().map_err(|_| "a client panicked")??;
    }
    Ok(done as f64 / started.elapsed().as_secs_f64())
}

/// A worker that has nothing to do is given jobs.
fn starts(options: &Options) -> Result<(), Fault> {
    let runtime = tokio::runtime::Runtime::new()?;
    let mut measured = Vec::new();
    if let Some(peer) = &options.peer {
        redis::flush(peer)?;
        measured.push(("enqueue to start", redis::starts(peer, STARTS)?));
    } else {
        for (what, delay) in
            [("enqueue to start", Duration::ZERO), ("due to start", Duration::from_millis(20))]
        {
            let dir = tempfile::tempdir_in(&options.dir)?;
            let store = Arc::new(Store::open(dir.path(), StoreOptions::default())?);
            measured.push((what, runtime.block_on(idle::starts(store, STARTS, delay))?));
        }
    }
    for (what, mut waits) in measured {
        waits.sort_unstable();
        let at = |share: f64| waits.get((waits.len() as f64 * share) as usize);
        let ms = |wait: Option<&Duration>| wait.map_or(0.0, |wait| wait.as_secs_f64() * 1e3);
        let (p50, p99, worst) = (ms(at(0.5)), ms(at(0.99)), ms(waits.last()));
        if options.json {
            let what = what.replace(' ', "_");
            println!("{{\"{what}_p50_ms\":{p50:.3},\"{what}_p99_ms\":{p99:.3}}}");
        } else {
            println!("idle worker, {what}: p50 {p50:.2} ms, p99 {p99:.2} ms, worst {worst:.2} ms");
        }
    }
    Ok(())
}
