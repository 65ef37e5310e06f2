//! How many texts a second does the built-in model embed, and how long does one query take?
//!
//! ```sh
//! cargo bench --bench embed -- [--cpu amx|avx512vnni|avx2|portable] [--precision auto|f32]
//!     [--threads N] [--seconds 3] [--texts FILE] [--json]
//! ```
//!
//! Without `--texts` it takes the abstracts of `tests/data/cranfield`, the questions asked about
//! them, and fours of abstracts, which fill the window. A file of texts has a JSON string a line.
//! `--threads` is every core unless given. A query's time is that of one text of twelve words on
//! one thread, word pieces included. Then queries come one after the other while the abstracts of
//! four jobs keep the service's queue full: `query_beside_jobs` is with `--threads` threads, and
//! `query_beside_jobs_1` with one, which is all there is under `taskset -c 0`. Their times include
//! that the system wakes the caller. `benches/peers/embed` runs this beside other programs.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use activekg::embedding::{
    EmbedderOptions, Encoder, EncoderOptions, FixedEmbedder, Isa, KindStats, Precision,
};
use activekg_storage::ids::TenantId;
use activekg_storage::tables::graph::Slot;
use serde_json::{Map, Value, json};

const USAGE: &str = "usage: cargo bench --bench embed -- [--cpu NAME] [--precision NAME] \
                     [--threads N] [--seconds S] [--texts FILE] [--json]";

/// Texts handed over at a time.
const CHUNK: usize = 256;
/// Queries timed one by one.
const QUERIES: usize = 500;
/// Jobs that keep the queue full.
const JOBS: usize = 4;

/// What a set of texts is called, and the texts.
type TextSet = (&'static str, Vec<String>);

struct Options {
    encoder: EncoderOptions,
    threads: usize,
    seconds: f64,
    texts: Option<PathBuf>,
    json: bool,
}

impl Options {
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        let encoder = EncoderOptions::default();
        let mut options = Self { encoder, threads, seconds: 3.0, texts: None, json: false };
        while let Some(flag) = arguments.next() {
            if flag == "--bench" {
                continue; // cargo's own
            }
            if flag == "--json" {
                options.json = true;
                continue;
            }
            let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
            let bad = || format!("{flag} cannot be {value:?}");
            match flag.as_str() {
                "--cpu" => options.encoder.isa = Some(value.parse::<Isa>().map_err(|_| bad())?),
                "--precision" => {
                    options.encoder.precision = value.parse::<Precision>().map_err(|_| bad())?;
                }
                "--threads" => options.threads = value.parse().map_err(|_| bad())?,
                "--seconds" => options.seconds = value.parse().map_err(|_| bad())?,
                "--texts" => options.texts = Some(value.into()),
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
            eprintln!("embed: {fault}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("embed: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), Box<dyn Error>> {
    let started = Instant::now();
    let encoder = Encoder::built_in(options.encoder)?;
    let load_ms = started.elapsed().as_secs_f64() * 1000.0;
    let (isa, precision) = (encoder.isa().to_string(), options.encoder.precision.to_string());
    let mut report = Map::from_iter([
        ("model".to_owned(), json!(encoder.model().name)),
        ("cpu".to_owned(), json!(isa)),
        ("precision".to_owned(), json!(precision)),
        ("threads".to_owned(), json!(options.threads)),
        ("load_ms".to_owned(), json!(load_ms)),
    ]);
    let sets = match &options.texts {
        Some(path) => vec![("texts", lines(path, |line| line.as_str().map(str::to_owned))?)],
        None => cranfield()?,
    };
    for (name, texts) in &sets {
        report.insert((*name).to_owned(), throughput(&encoder, texts, options)?);
    }
    let words = sets.iter().flat_map(|(_, texts)| texts).map(|text| first_words(text, 12));
    let queries: Vec<String> = words.take(QUERIES).collect();
    report.insert("query".to_owned(), latency(&encoder, &queries)?);
    // Before the service below loads the model once more.
    report.insert("resident_mb".to_owned(), json!(resident_mb()));
    // The longest set that there is: jobs have long texts.
    let jobs = sets.get(1).or(sets.first()).map_or(&[][..], |(_, texts)| texts);
    let beside = [("query_beside_jobs", options.threads), ("query_beside_jobs_1", 1)];
    for (name, threads) in beside.into_iter().take(if options.threads > 1 { 2 } else { 1 }) {
        let encoder = Encoder::built_in(options.encoder)?;
        report.insert(name.to_owned(), beside_jobs(encoder, threads, &queries, jobs)?);
    }
    report.insert("load_average".to_owned(), json!(load_average()));
    if options.json {
        println!("{}", Value::Object(report));
    } else {
        for (name, value) in report {
            println!("{name:<14} {value}");
        }
    }
    Ok(())
}

/// Texts and tokens a second, and what share of the time the word pieces take.
fn throughput(
    encoder: &Encoder,
    texts: &[String],
    options: &Options,
) -> Result<Value, Box<dyn Error>> {
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    if texts.is_empty() {
        return Err("there are no texts".into());
    }
    // Once over a few: buffers grow, pages are touched.
    encoder.encode_on(&texts[..texts.len().min(CHUNK)], options.threads)?;
    let split = Instant::now();
    let counts = encoder.count_tokens(&texts)?;
    let split = split.elapsed().as_secs_f64() / texts.len() as f64;
    let (mut n_texts, mut n_tokens) = (0usize, 0usize);
    let started = Instant::now();
    'time: loop {
        for (texts, counts) in texts.chunks(CHUNK).zip(counts.chunks(CHUNK)) {
            encoder.encode_on(texts, options.threads)?;
            n_texts += texts.len();
            n_tokens += counts.iter().sum::<usize>();
            if started.elapsed().as_secs_f64() >= options.seconds {
                break 'time;
            }
        }
    }
    let seconds = started.elapsed().as_secs_f64();
    Ok(json!({
        "texts_per_second": n_texts as f64 / seconds,
        "tokens_per_second": n_tokens as f64 / seconds,
        "tokens_per_text": n_tokens as f64 / n_texts as f64,
        "split_share": split * n_texts as f64 / options.threads.max(1) as f64 / seconds,
    }))
}

/// How long one query takes on one thread.
fn latency(encoder: &Encoder, queries: &[String]) -> Result<Value, Box<dyn Error>> {
    let mut took = Vec::with_capacity(queries.len());
    for query in queries {
        let started = Instant::now();
        encoder.encode_on(&[query], 1)?;
        took.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(quantiles(took))
}

fn quantiles(mut took: Vec<f64>) -> Value {
    took.sort_unstable_by(f64::total_cmp);
    let quantile = |part: f64| {
        let at = (part * took.len().saturating_sub(1) as f64).round() as usize;
        took.get(at)
    };
    json!({ "p50_ms": quantile(0.5), "p99_ms": quantile(0.99), "n": took.len() })
}

/// How long a query takes at the service, from the call to the vector, while jobs keep its queue
/// full; what share of the queries waited at most 1 ms for a thread; and what the jobs get done.
fn beside_jobs(
    encoder: Encoder,
    threads: usize,
    queries: &[String],
    texts: &[String],
) -> Result<Value, Box<dyn Error>> {
    let service = EmbedderOptions { cache_entries: 0, threads, ..EmbedderOptions::default() };
    let embedder = FixedEmbedder::start(encoder, service, Slot::A)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build()?;
    for i in 0..JOBS {
        let (embedder, tenant) = (embedder.clone(), TenantId::new(&format!("job-{i}"))?);
        let texts: Vec<String> = texts.iter().skip(i).step_by(JOBS).cloned().collect();
        // Ends with the runtime.
        runtime.spawn(async move { while embedder.batch(&tenant, texts.clone()).await.is_ok() {} });
    }
    let mut took = Vec::with_capacity(queries.len());
    let (before, after, seconds) = runtime.block_on(async {
        // Until the threads have work in hand and in the queue.
        while embedder.stats().texts.done == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let (before, began) = (embedder.stats(), Instant::now());
        for (i, query) in queries.iter().enumerate() {
            // Of no period, so that queries meet the slices at every stage.
            tokio::time::sleep(Duration::from_millis(2 + (i * 7919 % 13) as u64)).await;
            let started = Instant::now();
            embedder.query(query).await?;
            took.push(started.elapsed().as_secs_f64() * 1000.0);
        }
        Ok::<_, Box<dyn Error>>((before, embedder.stats(), began.elapsed().as_secs_f64()))
    })?;
    embedder.stop();
    runtime.shutdown_background();
    let within_1_ms = |stats: &KindStats| {
        let waits = &stats.wait_seconds;
        let short = waits.bounds.iter().zip(&waits.counts).filter(|(bound, _)| **bound <= 0.001);
        short.map(|(_, count)| count).sum::<u64>()
    };
    let short = within_1_ms(&after.queries) - within_1_ms(&before.queries);
    let mut value = quantiles(took);
    value["threads"] = json!(threads);
    value["waited_at_most_1_ms"] = json!(short as f64 / queries.len().max(1) as f64);
    value["job_texts_per_second"] = json!((after.texts.done - before.texts.done) as f64 / seconds);
    Ok(value)
}

/// Texts of three lengths.
fn cranfield() -> Result<Vec<TextSet>, Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cranfield");
    let field = |line: &Value, name: &str| line[name].as_str().map(str::to_owned);
    let abstracts = lines(&folder.join("docs.jsonl"), |line| {
        Some(format!("{}. {}", field(line, "title")?, field(line, "text")?))
    })?;
    let short = lines(&folder.join("queries.jsonl"), |line| field(line, "text"))?;
    let full = abstracts.chunks(4).map(|four| four.join(" ")).collect();
    Ok(vec![("short", short), ("abstracts", abstracts), ("full_window", full)])
}

fn lines(
    path: &Path,
    text: impl Fn(&Value) -> Option<String>,
) -> Result<Vec<String>, Box<dyn Error>> {
    let fault = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let file = fs::read_to_string(path).map_err(|error| fault(&error))?;
    let mut texts = Vec::new();
    for line in file.lines() {
        let value: Value = serde_json::from_str(line).map_err(|error| fault(&error))?;
        texts.push(text(&value).ok_or_else(|| fault(&"a line is no text"))?);
    }
    Ok(texts)
}

fn first_words(text: &str, n: usize) -> String {
    text.split_whitespace().take(n).collect::<Vec<_>>().join(" ")
}

/// Resident memory of this process that is its own: pages of the program file, the model's among
/// them, can be dropped and read again, and are not counted.
fn resident_mb() -> Option<f64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("RssAnon:"))?;
    let kb: f64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kb / 1024.0)
}

fn load_average() -> Option<f64> {
    fs::read_to_string("/proc/loadavg").ok()?.split(' ').next()?.parse().ok()
}
