//! `activekg models bench`.

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use serde_json::{Value, json};

use super::data_dir;
use crate::config::options::StoreOptions;
use crate::embedding::{Encoder, EncoderOptions, Isa, ModelInfo, Precision};
use crate::models::{Kind, Library, ModelName};

/// Words of which the texts are made: common ones, so that each is one word piece in most
/// vocabularies.
const WORDS: [&str; 16] = [
    "water", "system", "under", "large", "point", "house", "small", "public", "number", "young",
    "world", "state", "power", "music", "field", "party",
];
/// Texts by the number of their words, as questions, paragraphs and pages have.
const LENGTHS: [(&str, usize); 3] = [("12 words", 12), ("100 words", 100), ("250 words", 250)];
/// Texts embedded at a time.
const BATCH: usize = 64;

#[derive(Args)]
pub(super) struct BenchArgs {
    /// The model [default: the one that is compiled in]
    name: Option<ModelName>,
    /// f32, or auto for the fastest arithmetic of this processor
    #[arg(long, env = "EMBEDDING_PRECISION", value_name = "PRECISION", default_value = "auto")]
    precision: Precision,
    /// Instructions: amx, avx512vnni, avx2 or portable [default: the best this processor has]
    #[arg(long, env = "ACTIVEKG_CPU", value_name = "NAME")]
    cpu: Option<Isa>,
    /// Seconds to measure each length
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=600))]
    seconds: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    store: StoreOptions,
}

pub(super) fn run(args: &BenchArgs) -> anyhow::Result<()> {
    let BenchArgs { name, precision, cpu, seconds, json, store } = args;
    let options = EncoderOptions { precision: *precision, isa: *cpu };
    let begun = Instant::now();
    let encoder = match name {
        Some(name) if name.as_str() != ModelInfo::built_in().name => {
            Encoder::open(&embedder(store, name)?, options)?
        }
        _ => Encoder::built_in(options)?,
    };
    let called = &encoder.model().name;
    let load = begun.elapsed();
    let measured = LENGTHS
        .into_iter()
        .map(|(length, n_words)| {
            Ok((length, measure(&encoder, n_words, Duration::from_secs(*seconds))?))
        })
        .collect::<anyhow::Result<Vec<_>>>()?;
    let text = if *json {
        let rows: Vec<Value> = measured
            .iter()
            .map(|(length, rate)| {
                json!({
                    "length": length,
                    "texts_per_second": rate.texts_per_second,
                    "one_text_ms": rate.one_text.as_secs_f64() * 1e3,
                })
            })
            .collect();
        let load_ms = load.as_secs_f64() * 1e3;
        format!("{}\n", json!({ "model": called, "load_ms": load_ms, "lengths": rows }))
    } else {
        let mut text = format!("{called}, loaded in {:.0} ms\n", load.as_secs_f64() * 1e3);
        text.push_str(&format!("{:<12} {:>12} {:>14}\n", "length", "texts/s", "one text, ms"));
        for (length, rate) in &measured {
            let ms = rate.one_text.as_secs_f64() * 1e3;
            text.push_str(&format!("{length:<12} {:>12.1} {ms:>14.2}\n", rate.texts_per_second));
        }
        text
    };
    io::stdout().write_all(text.as_bytes()).context("write the figures")
}

fn embedder(store: &StoreOptions, name: &ModelName) -> anyhow::Result<PathBuf> {
    let kept = Library::of(&data_dir(store)?).get(name)?;
    if kept.manifest.kind != Kind::Embedder {
        bail!("{name} writes answers; only models that make vectors are measured");
    }
    Ok(kept.loads)
}

struct Rate {
    /// All cores, [`BATCH`] texts at a time.
    texts_per_second: f64,
    /// Median time of a text alone.
    one_text: Duration,
}

fn measure(encoder: &Encoder, n_words: usize, time: Duration) -> anyhow::Result<Rate> {
    let texts: Vec<String> = (0..BATCH).map(|i| text(i, n_words)).collect();
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    // Once unmeasured: pages are touched and threads started.
    encoder.encode(&texts)?;
    let (begun, mut n) = (Instant::now(), 0);
    while begun.elapsed() < time {
        encoder.encode(&texts)?;
        n += texts.len();
    }
    let texts_per_second = n as f64 / begun.elapsed().as_secs_f64();
    let mut alone: Vec<Duration> = texts
        .iter()
        .take(32)
        .map(|text| {
            let begun = Instant::now();
            encoder.encode(&[text]).map(|_| begun.elapsed())
        })
        .collect::<Result<_, _>>()?;
    alone.sort_unstable();
    Ok(Rate { texts_per_second, one_text: alone[alone.len() / 2] })
}

/// The `i`-th text of so many words; the same each time.
fn text(i: usize, n_words: usize) -> String {
    let words: Vec<&str> =
        (0..n_words).map(|n| WORDS[(i * 7 + n * 5 + n * n / 3) % WORDS.len()]).collect();
    words.join(" ")
}
