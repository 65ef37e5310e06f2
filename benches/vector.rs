//! What do the vector engines cost, and what do they find?
//!
//! ```sh
//! cargo bench -p activekg-index --bench vector -- [--rows 50000] [--dim 384] [--queries 500]
//!     [--clusters 500] [--only exact,ivfflat,hnsw]
//! ```
//!
//! Seeded unit vectors in clusters, one segment. For each engine: the time to build it, recall at
//! ten against the scan, and searches a second on one thread; for lists at 4, 10 and 30 probes, and
//! with one vector in twenty allowed. `--clusters 0` has vectors without clusters, which no list
//! can gather.

use std::error::Error;
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use activekg_index::{
    Engine, Engines, IdSet, IvfParams, Metric, VectorOp, VectorOptions, VectorQuery, VectorSet,
};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

const USAGE: &str = "usage: cargo bench -p activekg-index --bench vector -- \
                     [--rows 50000] [--dim 384] [--queries 500] [--clusters 500] \
                     [--only exact,ivfflat,hnsw]";
const K: usize = 10;
const PROBES: [usize; 3] = [4, 10, 30];
/// One vector in so many is allowed by the filter.
const SHARE: u128 = 20;

struct Options {
    rows: usize,
    dim: usize,
    queries: usize,
    clusters: usize,
    only: String,
}

impl Options {
    fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rows: 50_000,
            dim: 384,
            queries: 500,
            clusters: 500,
            only: "exact,ivfflat,hnsw".to_owned(),
        };
        while let Some(flag) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{flag} needs a value"));
            let number = |text: String| text.parse().map_err(|_| format!("{text:?} is no number"));
            match flag.as_str() {
                "--rows" => options.rows = number(value()?)?,
                "--dim" => options.dim = number(value()?)?,
                "--queries" => options.queries = number(value()?)?,
                "--clusters" => options.clusters = number(value()?)?,
                "--only" => options.only = value()?,
                "--bench" => {}
                other => return Err(format!("{other:?} is not known")),
            }
        }
        Ok(options)
    }

    fn wants(&self, engine: &str) -> bool {
        self.only.split(',').any(|name| name == engine)
    }
}

/// The vectors to store and those to ask for.
struct Data {
    rng: StdRng,
    centers: Vec<Vec<f32>>,
    dim: usize,
}

impl Data {
    fn new(options: &Options) -> Self {
        let mut rng = StdRng::seed_from_u64(7);
        let mut center = || (0..options.dim).map(|_| rng.random_range(-1.0..1.0)).collect();
        let centers = (0..options.clusters).map(|_| center()).collect();
        Self { rng, centers, dim: options.dim }
    }

    fn vector(&mut self) -> Vec<f32> {
        let mut noise = || self.rng.random_range(-1.0_f32..1.0);
        if self.centers.is_empty() {
            return (0..self.dim).map(|_| noise()).collect();
        }
        let place = ((noise() + 1.0) / 2.0 * self.centers.len() as f32) as usize;
        let center = &self.centers[place.min(self.centers.len() - 1)];
        center.iter().map(|&v| v + noise()).collect()
    }
}

fn main() -> ExitCode {
    let run = Options::parse(std::env::args().skip(1)).map_err(|error| format!("{error}\n{USAGE}"));
    match run.map_err(Into::into).and_then(|options| measure(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn measure(options: &Options) -> Result<(), Box<dyn Error>> {
    let dir = tempfile::tempdir()?;
    let mut data = Data::new(options);
    let settings = VectorOptions {
        engines: Engines::NONE,
        exact_limit: 0,
        ..VectorOptions::new(options.dim, Metric::Cosine)
    };
    let set = filled(dir.path(), settings, options, &mut data)?;
    let queries: Vec<Vec<f32>> = (0..options.queries).map(|_| data.vector()).collect();
    let among: IdSet = (0..options.rows as u128).filter(|id| id % SHARE == 0).collect();
    let right = found(&set, &queries, None)?.0;
    let right_among = found(&set, &queries, Some(&among))?.0;
    let Options { rows, dim, clusters, .. } = options;
    println!("{rows} vectors of {dim} values in {clusters} clusters, ten hits, one thread");
    println!(
        "{:<26}{:>9}{:>10}{:>13}{:>10}{:>12}",
        "", "build", "recall", "searches/s", "1 in 20", "searches/s"
    );
    let row = |name: &str, build: Option<f64>, set: &VectorSet| -> Result<(), Box<dyn Error>> {
        let (hits, rate) = found(set, &queries, None)?;
        let (hits_among, rate_among) = found(set, &queries, Some(&among))?;
        let build = build.map_or(String::new(), |seconds| format!("{seconds:.2} s"));
        let (recall, recall_among) = (recall(&right, &hits), recall(&right_among, &hits_among));
        println!(
            "{name:<26}{build:>9}{recall:>10.4}{rate:>13.0}{recall_among:>10.4}{rate_among:>12.0}"
        );
        Ok(())
    };
    if options.wants("exact") {
        row("exact", None, &set)?;
    }
    let seconds = if options.wants("ivfflat") { built(&set, Engine::IvfFlat)? } else { 0.0 };
    drop(set);
    if options.wants("ivfflat") {
        for probes in PROBES {
            let ivfflat = IvfParams { probes, ..IvfParams::default() };
            let engines = Engine::IvfFlat.into();
            let settings = VectorOptions { ivfflat, engines, ..settings };
            let (set, _) = VectorSet::open(dir.path(), settings)?;
            row(&format!("ivfflat, {probes} of 100 lists"), Some(seconds), &set)?;
        }
    }
    if options.wants("hnsw") {
        // The other set is closed by now: one value a folder.
        let (set, _) = VectorSet::open(dir.path(), settings)?;
        let seconds = built(&set, Engine::Hnsw)?;
        row("hnsw, ef 80", Some(seconds), &set)?;
    }
    Ok(())
}

/// A set of one sealed segment.
fn filled(
    dir: &Path,
    settings: VectorOptions,
    options: &Options,
    data: &mut Data,
) -> Result<VectorSet, Box<dyn Error>> {
    let (set, _) = VectorSet::open(dir, settings)?;
    let put = |id| VectorOp::Put { id, tenant: "t".to_owned(), values: data.vector() };
    let ops: Vec<VectorOp> = (0..options.rows as u128).map(put).collect();
    set.apply(&ops)?;
    set.commit(1)?;
    set.maintain()?;
    Ok(set)
}

/// Seconds to build an engine.
fn built(set: &VectorSet, engine: Engine) -> Result<f64, Box<dyn Error>> {
    set.keep(engine.into());
    let started = Instant::now();
    set.build(&AtomicBool::new(false), &|_| ())?;
    Ok(started.elapsed().as_secs_f64())
}

/// The ids that each query finds, best first.
type Hits = Vec<Vec<u128>>;

/// What the queries find, and searches a second.
fn found(
    set: &VectorSet,
    queries: &[Vec<f32>],
    among: Option<&IdSet>,
) -> Result<(Hits, f64), Box<dyn Error>> {
    let started = Instant::now();
    let mut found = Vec::with_capacity(queries.len());
    for vector in queries {
        let hits = set.search(&VectorQuery { vector, k: K, tenants: &["t"], among, ef: None })?;
        found.push(hits.iter().map(|hit| hit.id).collect());
    }
    Ok((found, queries.len() as f64 / started.elapsed().as_secs_f64()))
}

/// The share of the right hits that were found.
fn recall(right: &[Vec<u128>], found: &[Vec<u128>]) -> f64 {
    let pairs = right.iter().zip(found);
    let hits: usize =
        pairs.map(|(right, found)| right.iter().filter(|id| found.contains(id)).count()).sum();
    hits as f64 / right.iter().map(Vec::len).sum::<usize>().max(1) as f64
}
