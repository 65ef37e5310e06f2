//! How fast is a store backed up and restored, and what do those who write notice of it?
//!
//! ```sh
//! cargo bench -p activekg-storage --bench backup -- [--megabytes 1000] [--seconds 5]
//!     [--clients 64] [--level 1] [--dir DIR] [--json]
//! ```
//!
//! Fills a store with nodes, texts and vectors, a thousand megabytes of keys and values unless told
//! otherwise. Backs it up with nothing else going on, checks and restores the archive. Then clients
//! create nodes as fast as they can, which gives the greatest rate; then at half that rate, each at
//! its own fixed instants whether or not the one before is done, without a backup and with one.
//! The rate while backups run, by the rate without, is what the writers keep. Archives are written
//! to DIR, beside the store, and removed.

#[path = "store/workload.rs"]
mod workload;

use std::error::Error;
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use activekg_storage::backup::{self, Backup, Manifest};
use activekg_storage::tables::graph::{VECTORS, VectorRecord};
use activekg_storage::{Clock, StorageError, Store, StoreOptions, SystemClock, TenantId};
use workload::{Ids, NewNode, Random};

const USAGE: &str = "usage: cargo bench -p activekg-storage --bench backup -- [--megabytes 1000] \
                     [--seconds 5] [--clients 64] [--level 1] [--dir DIR] [--json]";

/// Nodes of one change while the store is filled.
const BATCH: usize = 500;

/// Bytes of text of a node.
const TEXT_BYTES: usize = 1000;

/// Numbers of a vector.
const DIMENSIONS: usize = 384;

#[derive(Clone)]
struct Options {
    bytes: u64,
    length: Duration,
    clients: usize,
    level: i32,
    dir: PathBuf,
    json: bool,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            bytes: 1000 << 20,
            length: Duration::from_secs(5),
            clients: 64,
            level: 1,
            dir: std::env::temp_dir(),
            json: false,
        };
        while let Some(flag) = args.next() {
            match flag.as_str() {
                "--bench" => continue, // cargo's own
                "--json" => {
                    options.json = true;
                    continue;
                }
                _ => {}
            }
            let value = args.next().ok_or_else(|| format!("{flag} needs a value"))?;
            let number = || value.parse::<u32>().map_err(|_| format!("{flag} cannot be {value:?}"));
            match flag.as_str() {
                "--megabytes" => options.bytes = u64::from(number()?) << 20,
                "--seconds" => options.length = Duration::from_secs(u64::from(number()?)),
                "--clients" => options.clients = number()?.max(1) as usize,
                "--level" => options.level = number()? as i32,
                "--dir" => options.dir = PathBuf::from(value),
                _ => return Err(format!("there is no {flag}")),
            }
        }
        Ok(options)
    }
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(fault) => {
            eprintln!("backup: {fault}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("backup: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::Builder::new().prefix("activekg-backup-").tempdir_in(&options.dir)?;
    let store = Arc::new(Store::open(&dir.path().join("data"), StoreOptions::default())?);
    fill(&store, options.bytes)?;
    let archive = dir.path().join("archive.tar.zst");

    let started = Instant::now();
    let manifest = back_up(&store, &archive, options.level)?;
    let alone = started.elapsed();
    let bytes: u64 = manifest.tables.iter().map(|table| table.bytes).sum();
    let rate = |bytes: u64, took: Duration| bytes as f64 / 1e6 / took.as_secs_f64();
    let archive_bytes = std::fs::metadata(&archive)?.len();
    report(options, "rows", bytes as f64 / 1e6, "MB");
    report(options, "archive", archive_bytes as f64 / 1e6, "MB");
    report(options, "backup alone", rate(bytes, alone), "MB/s");

    let open = || File::open(&archive).map(BufReader::new);
    let started = Instant::now();
    backup::check(open()?, &mut backup::unattended)?;
    report(options, "check", rate(bytes, started.elapsed()), "MB/s");
    let copy = dir.path().join("copy");
    let started = Instant::now();
    backup::restore(open()?, &copy, &mut backup::unattended)?;
    report(options, "restore", rate(bytes, started.elapsed()), "MB/s");
    std::fs::remove_dir_all(&copy)?;

    let most = run(&store, options, None, || std::thread::sleep(options.length))?;
    report(options, "creates at most", most.rate, "/s");
    let half = Some(most.rate / 2.0);
    let without = run(&store, options, half, || std::thread::sleep(options.length))?;
    report(options, "creates, half load", without.rate, "/s");
    report(options, "  p99", without.p99_ms, "ms");
    let mut beside = Duration::ZERO;
    let mut backed_up = 0;
    let with = run(&store, options, half, || {
        let started = Instant::now();
        // Several, if one is over too soon to say much.
        while beside < options.length {
            let Ok(manifest) = back_up(&store, &archive, options.level) else { return };
            backed_up += manifest.tables.iter().map(|table| table.bytes).sum::<u64>();
            beside = started.elapsed();
        }
    })?;
    report(options, "creates beside backups", with.rate, "/s");
    report(options, "  p99", with.p99_ms, "ms");
    report(options, "backup beside creates", rate(backed_up, beside), "MB/s");
    report(options, "rate kept", 100.0 * with.rate / without.rate, "%");
    Ok(())
}

fn report(options: &Options, what: &str, value: f64, unit: &str) {
    if options.json {
        let (bench, what) = ("backup", what.trim());
        println!(r#"{{"bench":"{bench}","what":"{what}","value":{value:.2},"unit":"{unit}"}}"#);
    } else {
        println!("{what:<24} {value:>12.1} {unit}");
    }
}

/// Writes an archive as a server does: from a thread that yields to others, synced at the end.
fn back_up(store: &Store, path: &Path, level: i32) -> Result<Manifest, Box<dyn Error>> {
    let snapshot = store.read()?;
    let written: Result<Manifest, String> = std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            backup::yield_to_others();
            let file = File::create(path).map_err(|error| error.to_string())?;
            let backup = Backup::new("bench", SystemClock.now()).level(level);
            let written = backup.write(&snapshot, file).map_err(|error| error.to_string());
            let (manifest, file) = written?;
            file.sync_all().map_err(|error| error.to_string())?;
            Ok(manifest)
        });
        thread.join().unwrap_or_else(|_| Err("the backup panicked".to_owned()))
    });
    Ok(written?)
}

fn fill(store: &Store, bytes: u64) -> Result<(), Box<dyn Error>> {
    let tenant = TenantId::new("acme")?;
    let mut random = Random(1);
    let node_bytes = (TEXT_BYTES + DIMENSIONS * 4 + 700) as u64;
    let mut left = (bytes / node_bytes).max(1) as usize;
    while left > 0 {
        let nodes: Vec<(NewNode, VectorRecord)> = (0..BATCH.min(left))
            .map(|_| {
                let now = SystemClock.now();
                let node = NewNode::draw(&mut random, Ids::Time, &tenant, TEXT_BYTES, now);
                (node, vector(&mut random))
            })
            .collect();
        left -= nodes.len();
        store.write_blocking(move |tx| {
            nodes.into_iter().try_for_each(|(node, vector)| {
                tx.put(&VECTORS, &(node.tenant.clone(), node.node), &vector)?;
                node.create(tx)
            })
        })?;
    }
    Ok(())
}

/// A vector of numbers that cannot be compressed much.
fn vector(random: &mut Random) -> VectorRecord {
    let mut number = || (random.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5;
    let values = (0..DIMENSIONS).map(|_| number()).collect();
    VectorRecord { model: "bench".to_owned(), text_revision: 1, text_sha256: [0; 32], values }
}

/// What the clients did.
struct Ran {
    /// Creates a second.
    rate: f64,
    /// From the instant a create was due to its answer.
    p99_ms: f64,
}

/// Lets clients create nodes while `meanwhile` runs: together at `rate` a second, or as fast as they
/// can.
fn run(
    store: &Arc<Store>,
    options: &Options,
    rate: Option<f64>,
    meanwhile: impl FnOnce(),
) -> Result<Ran, Box<dyn Error>> {
    let stop = AtomicBool::new(false);
    let tenant = TenantId::new("acme")?;
    let pause = rate.map(|rate| Duration::from_secs_f64(options.clients as f64 / rate));
    let started = Instant::now();
    let waits: Result<Vec<Duration>, StorageError> = std::thread::scope(|scope| {
        let clients: Vec<_> = (0..options.clients)
            .map(|number| {
                let (stop, tenant) = (&stop, &tenant);
                // They begin one after the other, so that they do not come in waves.
                let offset = pause.unwrap_or_default() * number as u32 / options.clients as u32;
                scope.spawn(move || client(store, stop, tenant, started + offset, pause))
            })
            .collect();
        meanwhile();
        stop.store(true, Ordering::Relaxed);
        let mut all = Vec::new();
        for client in clients {
            all.extend(client.join().unwrap_or(Err(StorageError::Closed))?);
        }
        Ok(all)
    });
    let took = started.elapsed();
    let mut waits = waits?;
    waits.sort_unstable();
    let p99 = waits.get(waits.len() * 99 / 100).copied().unwrap_or_default();
    Ok(Ran { rate: waits.len() as f64 / took.as_secs_f64(), p99_ms: p99.as_secs_f64() * 1e3 })
}

/// Creates nodes until told to stop, and returns how long each took from the instant it was due.
fn client(
    store: &Store,
    stop: &AtomicBool,
    tenant: &TenantId,
    begin: Instant,
    pause: Option<Duration>,
) -> Result<Vec<Duration>, StorageError> {
    let mut random = Random(begin.elapsed().subsec_nanos().into());
    let mut waits = Vec::new();
    let mut due = begin;
    while !stop.load(Ordering::Relaxed) {
        match pause {
            Some(pause) => {
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                waits.push(create(store, &mut random, tenant, due)?);
                due += pause;
            }
            None => waits.push(create(store, &mut random, tenant, Instant::now())?),
        }
    }
    Ok(waits)
}

fn create(
    store: &Store,
    random: &mut Random,
    tenant: &TenantId,
    due: Instant,
) -> Result<Duration, StorageError> {
    let node = NewNode::draw(random, Ids::Random, tenant, TEXT_BYTES, SystemClock.now());
    store.write_blocking(move |tx| node.create(tx))?;
    Ok(due.elapsed())
}
