//! How many tokens a second does a local model write, and how soon does it begin?
//!
//! ```sh
//! cargo bench --bench generate -- --model model.gguf [--rounds 5] [--tokens 128] [--threads 2]
//! ```
//!
//! The model goes on with a fixed prompt of some 300 tokens, always with the likeliest token, and
//! the median of the rounds counts. Prints one JSON object with `--json`. `benches/peers/llm`
//! compares it with llama.cpp.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use activekg::llm::local::generator::Generator;
use activekg::llm::local::kernels::{Kernels, Level};
use activekg::llm::local::{Figures, Sampling, Settings};
use serde_json::json;

const USAGE: &str = "usage: cargo bench --bench generate -- --model FILE.gguf [--rounds 5] [--tokens 128] \
     [--threads N] [--prompt FILE] [--level portable|avx2|avx512] [--json]";

struct Options {
    model: PathBuf,
    prompt: String,
    rounds: usize,
    tokens: usize,
    threads: usize,
    level: Level,
    json: bool,
}

impl Options {
    /// Nothing when no model is named.
    fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Option<Self>, String> {
        let mut options = Self {
            model: PathBuf::new(),
            prompt: prompt(),
            rounds: 5,
            tokens: 128,
            threads: std::thread::available_parallelism().map_or(1, usize::from),
            level: Level::Avx512,
            json: false,
        };
        while let Some(flag) = arguments.next() {
            match flag.as_str() {
                "--bench" => continue, // cargo's own
                "--json" => {
                    options.json = true;
                    continue;
                }
                _ => {}
            }
            let value = arguments.next().ok_or_else(|| format!("{flag} needs a value"))?;
            let count = || value.parse().ok().filter(|n: &usize| *n > 0);
            let bad = || format!("{flag} cannot be {value:?}");
            match flag.as_str() {
                "--model" => options.model = PathBuf::from(&value),
                "--prompt" => {
                    options.prompt = std::fs::read_to_string(&value)
                        .map_err(|error| format!("read {value}: {error}"))?;
                }
                "--rounds" => options.rounds = count().ok_or_else(bad)?,
                "--tokens" => options.tokens = count().ok_or_else(bad)?,
                "--threads" => options.threads = count().ok_or_else(bad)?,
                "--level" => {
                    options.level = match value.as_str() {
                        "portable" => Level::Portable,
                        "avx2" => Level::Avx2,
                        "avx512" => Level::Avx512,
                        _ => return Err(bad()),
                    };
                }
                _ => return Err(format!("there is no {flag}")),
            }
        }
        Ok((!options.model.as_os_str().is_empty()).then_some(options))
    }
}

/// A report of a pump, over and over: text of the kind that sources have.
fn prompt() -> String {
    let line = |day| {
        format!(
            "On day {day} the seal of pump B was checked and its bearings were greased. The pressure was \
             {} bar and the temperature {} degrees. ",
            4 + day % 3,
            60 + day
        )
    };
    let report: String = (1..=8).map(line).collect();
    format!("This is the report of the workshop. {report}In summary, the pump")
}

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(fault) => {
            eprintln!("{fault}\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            eprintln!("{fault}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<(), String> {
    let settings = Settings {
        context: 4096,
        max_tokens: options.tokens,
        sampling: Sampling { temperature: 0.0, top_p: 1.0, seed: 0 },
        snippet_chars: 300,
        threads: options.threads,
    };
    let kernels = Kernels::best(options.level);
    let started = Instant::now();
    let mut generator =
        Generator::load(&options.model, settings, kernels).map_err(|error| error.to_string())?;
    let load = started.elapsed();
    let mut rounds: Vec<Figures> = Vec::new();
    let mut text = String::new();
    // The first round is for warming up.
    for round in 0..=options.rounds {
        text.clear();
        let figures = generator.go_on(&options.prompt, |piece| {
            text.push_str(&piece);
            true
        });
        let figures = figures.map_err(|error| error.to_string())?;
        if round > 0 {
            rounds.push(figures);
        }
    }
    let first = median(&rounds, |round| round.first_token.as_secs_f64());
    let speed = median(&rounds, Figures::tokens_per_second);
    let figures = rounds[0];
    let ms = |time: Duration| (time.as_secs_f64() * 1e3).round();
    let result = json!({
        "kernels": format!("{:?}", kernels.level()).to_lowercase(),
        "threads": options.threads,
        "load_ms": ms(load),
        "prompt_tokens": figures.prompt_tokens,
        "answer_tokens": figures.answer_tokens,
        "first_token_ms": ms(Duration::from_secs_f64(first)),
        "tokens_per_second": (speed * 10.0).round() / 10.0,
        "text": text,
    });
    if options.json {
        println!("{result}");
    } else {
        for name in ["kernels", "threads", "load_ms", "prompt_tokens", "answer_tokens"] {
            println!("{name:<20}{}", result[name]);
        }
        println!("{:<20}{}", "first_token_ms", result["first_token_ms"]);
        println!("{:<20}{}", "tokens_per_second", result["tokens_per_second"]);
    }
    Ok(())
}

fn median(rounds: &[Figures], of: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
