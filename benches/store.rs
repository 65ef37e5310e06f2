//! How many durable rows a second does the store take, and does removing many stall those who
//! write?
//!
//! ```sh
//! cargo bench -p activekg-storage --bench store -- [--seconds 3] [--dir DIR] [--json]
//!     [--ids random|time] [--quick-repair] [--clients N | --batch N | --purge N]
//! ```
//!
//! Creates write what creating a node writes: its row, two counters, a change-log entry and a job
//! with its index entries. First many clients each create one node at a
//! time and wait until it is durable, then one client creates many in each change. At last the rows
//! of 100,000 nodes are removed in steps while a client writes and measures its own waits. The
//! store is made in DIR, which should be on the disk in question. `--clients`, `--batch` (nodes of
//! one change) and `--purge` (nodes removed by one change) measure that one and nothing else.
//! `--ids time` draws ids that begin with the time, so that new rows lie side by side.

#[path = "store/workload.rs"]
mod workload;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use activekg_storage::tables::graph::{NODES, add_count};
use activekg_storage::{
    Clock, Readable, Scan, StorageError, Store, StoreOptions, StoreStats, SystemClock, TenantId,
    WriteTx, queue,
};
use workload::{EMBED, Ids, NewNode, Random};

const USAGE: &str = "usage: cargo bench -p activekg-storage --bench store -- \
                     [--seconds 3] [--dir DIR] [--json] [--ids random|time] \
                     [--quick-repair] [--clients N | --batch N | --purge N]";

const CLIENTS: [usize; 4] = [1, 8, 64, 256];

/// Nodes of one change.
const BATCHES: [usize; 3] = [10, 100, 1000];

/// Nodes whose rows are removed.
const PURGED: usize = 100_000;

/// Nodes removed by one change.
const PURGE_STEPS: [usize; 4] = [50, 100, 250, 1000];

/// Bytes of text in a node.
const TEXT_BYTES: usize = 100;

struct Options {
    length: Duration,
    dir: PathBuf,
    ids: Ids,
    quick_repair: bool,
    json: bool,
    only: Option<Run>,
}

/// One of the things to measure.
#[derive(Clone, Copy)]
enum Run {
    Clients(usize),
    Batch(usize),
    Purge(usize),
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            length: Duration::from_secs(3),
            dir: std::env::temp_dir(),
            ids: Ids::Random,
            quick_repair: false,
            json: false,
            only: None,
        };
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
            match flag.as_str() {
                "--bench" => {} // cargo's own
                "--json" => options.json = true,
                "--quick-repair" => options.quick_repair = true,
                "--ids" => {
                    options.ids = match value()?.as_str() {
                        "random" => Ids::Random,
                        "time" => Ids::Time,
                        other => return Err(format!("--ids cannot be {other:?}")),
                    }
                }
                "--dir" => options.dir = PathBuf::from(value()?),
                "--seconds" => {
                    let seconds = parsed(&flag, &value()?)?;
                    options.length =
                        Duration::try_from_secs_f64(seconds).map_err(|error| error.to_string())?;
                }
                "--clients" => options.only = Some(Run::Clients(parsed(&flag, &value()?)?)),
                "--batch" => options.only = Some(Run::Batch(parsed(&flag, &value()?)?)),
                "--purge" => options.only = Some(Run::Purge(parsed(&flag, &value()?)?)),
                _ => return Err(format!("there is no {flag}")),
            }
        }
        Ok(options)
    }

    fn store(&self) -> StoreOptions {
        let quick_repair_from = if self.quick_repair { 0 } else { u64::MAX };
        StoreOptions { quick_repair_from, ..StoreOptions::default() }
    }
}

fn parsed<T: std::str::FromStr>(flag: &str, value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{flag} cannot be {value:?}"))
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(fault) => {
            eprintln!("store: {fault}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match measure(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("store: {error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    let clients = CLIENTS.into_iter().map(Run::Clients);
    let all = clients.chain(BATCHES.into_iter().map(Run::Batch));
    let all = all.chain(PURGE_STEPS.into_iter().map(Run::Purge));
    let runs: Vec<Run> = options.only.map_or_else(|| all.collect(), |only| vec![only]);
    for run in runs {
        match run {
            Run::Clients(n) => one_at_a_time(options, n)?,
            Run::Batch(n) => many_at_a_time(options, n)?,
            Run::Purge(n) => purge(options, n)?,
        }
    }
    Ok(())
}

/// What a run of creates came to.
struct Creates<'a> {
    what: &'a str,
    n: usize,
    creates: u64,
    stats: StoreStats,
    took: Duration,
    /// Of every change, in no order.
    latencies: Vec<Duration>,
}

impl Creates<'_> {
    fn print(mut self, json: bool) {
        let seconds = self.took.as_secs_f64();
        let creates = self.creates as f64 / seconds;
        let rows = self.stats.rows as f64 / seconds;
        let batch = self.stats.batch_changes.mean();
        let commit = self.stats.commit_seconds.mean() * 1e3;
        let (p50, p99) = percentiles(&mut self.latencies);
        let (what, n) = (self.what, self.n);
        if json {
            println!(
                "{{\"{what}\":{n},\"creates_per_second\":{creates:.0},\"rows_per_second\":{rows:.0},\
                 \"mean_batch\":{batch:.1},\"mean_commit_ms\":{commit:.3},\"p50_ms\":{p50:.3},\
                 \"p99_ms\":{p99:.3}}}"
            );
        } else {
            println!(
                "{n:>5} {what:<17} {creates:>7.0} creates/s {rows:>8.0} rows/s, batch {batch:>5.1}, \
                 commit {commit:>6.2} ms, answer p50 {p50:>6.2} p99 {p99:>6.2} ms"
            );
        }
    }
}

/// The median and the 99th percentile, in milliseconds.
fn percentiles(latencies: &mut [Duration]) -> (f64, f64) {
    latencies.sort_unstable();
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize);
    let ms = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1e3);
    (ms(at(0.5)), ms(at(0.99)))
}

/// Every client creates one node after the other, each answered when it is durable.
fn one_at_a_time(options: &Options, clients: usize) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir_in(&options.dir)?;
    let store = Arc::new(Store::open(dir.path(), options.store())?);
    let tenant = TenantId::new("acme")?;
    let (length, ids, started) = (options.length, options.ids, Instant::now());
    let latencies = tokio::runtime::Runtime::new()?.block_on(async {
        let mut tasks = tokio::task::JoinSet::new();
        for client in 0..clients {
            let (store, tenant) = (store.clone(), tenant.clone());
            tasks.spawn(async move {
                let mut random = Random(client as u64);
                let mut latencies = Vec::new();
                while started.elapsed() < length {
                    let now = SystemClock.now();
                    let node = NewNode::draw(&mut random, ids, &tenant, TEXT_BYTES, now);
                    let sent = Instant::now();
                    store.write(move |tx| node.create(tx)).await?;
                    latencies.push(sent.elapsed());
                }
                Ok::<_, StorageError>(latencies)
            });
        }
        let mut all = Vec::new();
        while let Some(done) = tasks.join_next().await {
            all.extend(done??);
        }
        Ok::<_, Box<dyn Error>>(all)
    })?;
    let (took, creates, stats) = (started.elapsed(), latencies.len() as u64, store.stats());
    Creates { what: "clients", n: clients, creates, stats, took, latencies }.print(options.json);
    Ok(())
}

/// One client creates many nodes in each change.
fn many_at_a_time(options: &Options, n_nodes: usize) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir_in(&options.dir)?;
    let store = Store::open(dir.path(), options.store())?;
    let tenant = TenantId::new("acme")?;
    let (mut random, mut latencies) = (Random(0), Vec::new());
    let started = Instant::now();
    while started.elapsed() < options.length {
        let sent = Instant::now();
        create(&store, &mut random, options.ids, &tenant, n_nodes)?;
        latencies.push(sent.elapsed());
    }
    let (took, stats) = (started.elapsed(), store.stats());
    let creates = (latencies.len() * n_nodes) as u64;
    let what = "nodes in a change";
    Creates { what, n: n_nodes, creates, stats, took, latencies }.print(options.json);
    Ok(())
}

fn create(
    store: &Store,
    random: &mut Random,
    ids: Ids,
    tenant: &TenantId,
    n_nodes: usize,
) -> Result<(), StorageError> {
    let now = SystemClock.now();
    let draw = || NewNode::draw(random, ids, tenant, TEXT_BYTES, now);
    let nodes: Vec<NewNode> = std::iter::repeat_with(draw).take(n_nodes).collect();
    store.write_blocking(move |tx| nodes.into_iter().try_for_each(|node| node.create(tx)))?;
    Ok(())
}

/// Removes nodes, `step` of them in each change, while a client writes one node after the other.
fn purge(options: &Options, step: usize) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir_in(&options.dir)?;
    let store = Store::open(dir.path(), options.store())?;
    let (old, new) = (TenantId::new("old")?, TenantId::new("new")?);
    let mut random = Random(0);
    for _ in 0..PURGED / 500 {
        create(&store, &mut random, options.ids, &old, 500)?;
    }
    let done = AtomicBool::new(false);
    let started = Instant::now();
    let (mut waits, took) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut random, mut waits) = (Random(1), Vec::new());
            while !done.load(Ordering::Relaxed) {
                let sent = Instant::now();
                create(&store, &mut random, options.ids, &new, 1)?;
                waits.push(sent.elapsed());
            }
            Ok::<_, StorageError>(waits)
        });
        let purged = loop {
            let owner = old.clone();
            match store.write_blocking(move |tx| remove(tx, &owner, step)) {
                Ok(removed) if removed.value == 0 => break Ok(started.elapsed()),
                Ok(_) => {}
                Err(error) => break Err(error),
            }
        };
        done.store(true, Ordering::Relaxed);
        let waits = writer.join().map_err(|_| "the writer panicked")??;
        Ok::<_, Box<dyn Error>>((waits, purged?))
    })?;
    let (p50, p99) = percentiles(&mut waits);
    let longest = waits.last().map_or(0.0, |wait| wait.as_secs_f64() * 1e3);
    let seconds = took.as_secs_f64();
    if options.json {
        println!(
            "{{\"purge_step\":{step},\"nodes\":{PURGED},\"seconds\":{seconds:.2},\
             \"writer_p50_ms\":{p50:.3},\"writer_p99_ms\":{p99:.3},\"writer_longest_ms\":{longest:.3}}}"
        );
    } else {
        println!(
            "{PURGED} nodes purged {step:>4} at a time in {seconds:>5.1} s; meanwhile a writer waited \
             p50 {p50:.2}, p99 {p99:.2}, at most {longest:.1} ms"
        );
    }
    Ok(())
}

/// Removes up to `limit` nodes with their jobs; how many there were.
fn remove(tx: &mut WriteTx<'_>, tenant: &TenantId, limit: usize) -> Result<usize, StorageError> {
    let nodes = tx.scan(&NODES, Scan::prefix(tenant))?.take(limit);
    let nodes: Vec<_> = nodes.map(|row| row.map(|(key, _)| key)).collect::<Result<_, _>>()?;
    for (tenant, node) in &nodes {
        queue::remove_by_key(tx, &EMBED, tenant, &node.to_string())?;
        tx.remove(&NODES, &(tenant.clone(), *node))?;
    }
    for name in ["nodes", "status.queued"] {
        add_count(tx, tenant, name, -(nodes.len() as i64))?;
    }
    Ok(nodes.len())
}
