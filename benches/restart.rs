//! How long does a store take to open after its process was killed, and what would it cost to make
//! that shorter?
//!
//! ```sh
//! cargo bench -p activekg-storage --bench restart -- [--nodes 100000] [--text-bytes 700]
//!     [--commits 10000] [--dir DIR] [--json]
//! ```
//!
//! Once without and once with the pages that are free noted in every commit (quick repair): another
//! process fills a store with nodes, measures single commits, goes on writing and is killed; then
//! the store is opened here. "Cold" is with the system's file cache emptied, which takes root.

#[path = "store/workload.rs"]
#[expect(dead_code, reason = "the other bench draws ids by time too")]
mod workload;

use std::error::Error;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use activekg_storage::{Clock, Store, StoreOptions, SystemClock, TenantId};
use workload::{Ids, NewNode, Random};

const USAGE: &str = "usage: cargo bench -p activekg-storage --bench restart -- [--nodes N] \
                     [--text-bytes N] [--commits N] [--dir DIR] [--json]";

/// Nodes of one change while the store is filled.
const BATCH: usize = 500;

#[derive(Debug, Clone)]
struct Options {
    nodes: usize,
    text_bytes: usize,
    commits: usize,
    dir: PathBuf,
    json: bool,
    /// Set in the process that is killed: the store's directory, and whether repair is quick.
    victim: Option<(PathBuf, bool)>,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Options, String> {
        let mut options = Options {
            nodes: 100_000,
            text_bytes: 700,
            commits: 10_000,
            dir: std::env::temp_dir(),
            json: false,
            victim: None,
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
            let number = || value.parse().map_err(|_| format!("{flag} cannot be {value:?}"));
            match flag.as_str() {
                "--nodes" => options.nodes = number()?,
                "--text-bytes" => options.text_bytes = number()?,
                "--commits" => options.commits = number()?,
                "--dir" => options.dir = PathBuf::from(value),
                "--victim" => options.victim = Some((PathBuf::from(value), false)),
                "--quick" => {
                    if let Some((_, quick)) = &mut options.victim {
                        *quick = value == "true";
                    }
                }
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
            eprintln!("restart: {fault}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    let done = match &options.victim {
        Some((dir, quick)) => write_until_killed(&options, dir, *quick),
        None => measure(&options),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("restart: {error}");
            ExitCode::FAILURE
        }
    }
}

fn store_options(quick_repair: bool) -> StoreOptions {
    let quick_repair_from = if quick_repair { 0 } else { u64::MAX };
    StoreOptions { quick_repair_from, ..StoreOptions::default() }
}

/// Fills the store if it is empty, prints what single commits cost, and writes until it is killed.
fn write_until_killed(options: &Options, dir: &Path, quick: bool) -> Result<(), Box<dyn Error>> {
    let store = Store::open(dir, store_options(quick))?;
    let tenant = TenantId::new("acme")?;
    let mut random = Random(store.last_seq().get());
    let mut draw =
        || NewNode::draw(&mut random, Ids::Random, &tenant, options.text_bytes, SystemClock.now());
    if store.last_seq().get() == 0 {
        let mut left = options.nodes;
        while left > 0 {
            let nodes: Vec<NewNode> = (0..BATCH.min(left)).map(|_| draw()).collect();
            left -= nodes.len();
            store
                .write_blocking(move |tx| nodes.into_iter().try_for_each(|node| node.create(tx)))?;
        }
    }
    let before = file_bytes(dir)?;
    let mut latencies = Vec::with_capacity(options.commits);
    for _ in 0..options.commits {
        let node = draw();
        let started = Instant::now();
        store.write_blocking(move |tx| node.create(tx))?;
        latencies.push(started.elapsed());
    }
    latencies.sort_unstable();
    let at = |share: f64| latencies.get((latencies.len() as f64 * share) as usize);
    let ms = |took: Option<&Duration>| took.map_or(0.0, |took| took.as_secs_f64() * 1e3);
    let after = file_bytes(dir)?;
    println!("{before} {after} {} {}", ms(at(0.5)), ms(at(0.99)));
    loop {
        let node = draw();
        store.write_blocking(move |tx| node.create(tx))?;
    }
}

fn file_bytes(dir: &Path) -> Result<u64, Box<dyn Error>> {
    Ok(std::fs::metadata(dir.join("store.redb"))?.len())
}

fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    if !options.json {
        println!("{} nodes, {} bytes of text each", options.nodes, options.text_bytes);
    }
    for quick in [false, true] {
        let dir = tempfile::tempdir_in(&options.dir)?;
        let commits = kill_a_writer(options, dir.path(), quick)?;
        let cold = if forget_files() { Some(open(dir.path(), quick)?) } else { None };
        let again = Options { commits: 100, ..options.clone() };
        kill_a_writer(&again, dir.path(), quick)?;
        let warm = open(dir.path(), quick)?;
        let clean = open(dir.path(), quick)?;
        let [before, after, p50, p99] = commits;
        let cold_ms = cold.map(|took| took.as_secs_f64() * 1e3);
        let ms = |took: Duration| took.as_secs_f64() * 1e3;
        if options.json {
            println!(
                "{{\"quick_repair\":{quick},\"nodes\":{},\"file_bytes\":{before},\
                 \"file_bytes_after_commits\":{after},\"commits\":{},\"commit_p50_ms\":{p50},\
                 \"commit_p99_ms\":{p99},\"open_killed_cold_ms\":{},\"open_killed_ms\":{},\
                 \"open_closed_ms\":{}}}",
                options.nodes,
                options.commits,
                cold_ms.map_or_else(|| "null".to_owned(), |ms| ms.to_string()),
                ms(warm),
                ms(clean),
            );
            continue;
        }
        println!("quick repair {}:", if quick { "on" } else { "off" });
        println!(
            "  file {:.0} MB, after {} single commits {:.0} MB; commit p50 {p50:.2} ms, p99 {p99:.2} ms",
            before / 1e6,
            options.commits,
            after / 1e6,
        );
        let cold = cold_ms.map_or_else(|| "not measured".to_owned(), |ms| format!("{ms:.0} ms"));
        println!(
            "  opened after a kill in {:.0} ms (cold {cold}), after a close in {:.0} ms",
            ms(warm),
            ms(clean)
        );
    }
    Ok(())
}

/// Starts a process that fills and writes, kills it, and returns the numbers it printed.
fn kill_a_writer(options: &Options, dir: &Path, quick: bool) -> Result<[f64; 4], Box<dyn Error>> {
    let mut writer = Command::new(std::env::current_exe()?)
        .arg("--victim")
        .arg(dir)
        .args(["--quick", if quick { "true" } else { "false" }])
        .args(["--nodes", &options.nodes.to_string()])
        .args(["--text-bytes", &options.text_bytes.to_string()])
        .args(["--commits", &options.commits.to_string()])
        .stdout(Stdio::piped())
        .spawn()?;
    let stdout = writer.stdout.take().ok_or("the writer has no output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line)?;
    // In the middle of one of the commits that follow.
    std::thread::sleep(Duration::from_millis(50));
    writer.kill()?;
    writer.wait()?;
    let numbers = line.split_whitespace().map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    numbers.try_into().map_err(|_| "the writer failed".into())
}

fn open(dir: &Path, quick: bool) -> Result<Duration, Box<dyn Error>> {
    let started = Instant::now();
    let store = Store::open(dir, store_options(quick))?;
    let took = started.elapsed();
    store.close();
    Ok(took)
}

/// Empties the system's file cache; false if that is not allowed.
fn forget_files() -> bool {
    let synced = Command::new("sync").status().is_ok_and(|status| status.success());
    synced && std::fs::write("/proc/sys/vm/drop_caches", "3").is_ok()
}
