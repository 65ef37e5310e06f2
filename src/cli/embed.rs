//! `activekg embed`: vectors of texts, without a server.

mod draft;
mod lines;
pub(super) mod model;
mod npy;

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::Value;

use crate::config::options::ModelOptions;
use draft::Draft;
use lines::{End, Lines};
use model::Model;
use npy::Npy;

/// Reads one JSON object {"id", "text"} a line and writes {"id", "embedding"} lines in the same
/// order, or one array for NumPy.
///
/// Ids are strings or numbers; other fields are ignored, and so are blank lines. Of a text the model
/// reads the start, as long as its window: 256 word pieces for the one that is compiled in. With
/// --format npy, FILE is an array of 32-bit floats, a row for each text, and FILE.ids.jsonl has the
/// id of each row, one a line.
#[derive(clap::Args)]
pub(super) struct EmbedArgs {
    /// Lines to embed; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Write here instead of to standard output; the file appears when all is done
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to write [default: npy if the name of the output ends with .npy, else jsonl]
    #[arg(long, value_name = "FORMAT")]
    format: Option<Format>,
    #[command(flatten)]
    model: ModelOptions,
}

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A JSON object a line
    Jsonl,
    /// An array in NumPy's format, and the ids beside it
    Npy,
}

/// Takes vectors in the order of their texts.
trait Sink {
    fn put(&mut self, id: Value, vector: &[f32]) -> anyhow::Result<()>;

    /// Called when nothing comes for a while: whoever reads along can see what there is.
    fn rest(&mut self) -> anyhow::Result<()>;

    /// All is there.
    fn finish(self: Box<Self>) -> anyhow::Result<()>;
}

/// Runs the command.
///
/// # Errors
///
/// A bad line, named by its number, a file that cannot be read or written, or a model that cannot
/// be used. What stands before a bad line on the input has been written to standard output by then;
/// a file is not made.
pub(super) fn run(args: EmbedArgs) -> anyhow::Result<()> {
    let EmbedArgs { file, output, format, model } = args;
    let format = format.unwrap_or_else(|| usual_format(output.as_deref()));
    if format == Format::Npy && output.is_none() {
        bail!("an array is written to a file; name one with --output");
    }
    let name =
        if file == Path::new("-") { "standard input".into() } else { file.display().to_string() };
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(&file).with_context(|| format!("open {name}"))?)
    };
    let model = Model::open(&model)?;
    let mut sink: Box<dyn Sink> = match (format, &output) {
        (_, None) => Box::new(Jsonl(BufWriter::new(io::stdout().lock()))),
        (Format::Jsonl, Some(path)) => Box::new(Jsonl(Draft::new(path)?)),
        (Format::Npy, Some(path)) => Box::new(Npy::new(path, model.info().dim)?),
    };
    embed(&model, Lines::new(BufReader::new(input), name), &mut *sink)?;
    sink.finish()
}

fn usual_format(output: Option<&Path>) -> Format {
    match output.and_then(Path::extension) {
        Some(extension) if extension.eq_ignore_ascii_case("npy") => Format::Npy,
        _ => Format::Jsonl,
    }
}

fn embed(model: &Model, mut lines: Lines<impl BufRead>, sink: &mut dyn Sink) -> anyhow::Result<()> {
    let progress = progress();
    loop {
        let (chunk, outcome) = lines.chunk();
        let texts: Vec<&str> = chunk.iter().map(|line| line.text.as_str()).collect();
        let vectors = model.encode(&texts)?;
        progress.inc(chunk.len() as u64);
        for (line, vector) in chunk.into_iter().zip(&vectors) {
            sink.put(line.id, vector)?;
        }
        if outcome? == End::Input {
            progress.finish_and_clear();
            return Ok(());
        }
        sink.rest()?;
    }
}

/// A counter on standard error, if a person is looking at it.
fn progress() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{human_pos} texts embedded, {per_sec} ({elapsed})");
    ProgressBar::no_length().with_style(style.expect("the template above is well-formed"))
}

/// A JSON object a line.
struct Jsonl<W>(W);

/// A line.
#[derive(Serialize)]
struct Output<'v> {
    id: Value,
    embedding: &'v [f32],
}

/// Where lines go.
trait Lined: Write {
    /// Nothing more comes.
    fn complete(self) -> anyhow::Result<()>;
}

impl Lined for Draft {
    fn complete(self) -> anyhow::Result<()> {
        self.publish()
    }
}

impl<W: Write> Lined for BufWriter<W> {
    fn complete(mut self) -> anyhow::Result<()> {
        self.flush().context("write to standard output")
    }
}

impl<W: Lined> Sink for Jsonl<W> {
    fn put(&mut self, id: Value, embedding: &[f32]) -> anyhow::Result<()> {
        serde_json::to_writer(&mut self.0, &Output { id, embedding }).context("write a vector")?;
        self.0.write_all(b"\n").context("write a vector")
    }

    fn rest(&mut self) -> anyhow::Result<()> {
        self.0.flush().context("write a vector")
    }

    fn finish(self: Box<Self>) -> anyhow::Result<()> {
        self.0.complete()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::embedding::{Encoder, Precision};

    fn model() -> ModelOptions {
        ModelOptions { precision: Some("f32".to_owned()), ..ModelOptions::default() }
    }

    #[test]
    fn a_file_appears_when_all_is_done_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let [input, output, array] =
            ["in.jsonl", "out.jsonl", "out.npy"].map(|name| folder.path().join(name));
        let args = |output: &Path| EmbedArgs {
            file: input.clone(),
            output: Some(output.to_owned()),
            format: None,
            model: model(),
        };
        std::fs::write(&input, "{\"id\":1,\"text\":\"a\"}\n{").unwrap();
        for output in [&output, &array] {
            assert!(run(args(output)).is_err());
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the input");
        }
        std::fs::write(&input, "{\"id\":1,\"text\":\"a\"}\n").unwrap();
        run(args(&output)).unwrap();
        let text = std::fs::read_to_string(&output).unwrap();
        assert_eq!(text.lines().count(), 1);
        run(args(&array)).unwrap();
        // The same numbers, each after the other.
        let line: Value = serde_json::from_str(&text).unwrap();
        let first = line["embedding"][0].as_f64().unwrap() as f32;
        let bytes = std::fs::read(&array).unwrap();
        assert_eq!(bytes.len(), 128 + 4 * 384);
        assert_eq!(bytes[128..132], first.to_le_bytes());
    }

    #[test]
    fn an_array_needs_a_file() {
        let args =
            EmbedArgs { file: "-".into(), output: None, format: Some(Format::Npy), model: model() };
        assert!(run(args).unwrap_err().to_string().contains("--output"));
        assert_eq!(usual_format(Some(Path::new("a/b.NPY"))), Format::Npy);
        assert_eq!(usual_format(Some(Path::new("a/npy"))), Format::Jsonl);
    }

    #[test]
    fn vectors_come_out_in_order_up_to_the_bad_line() {
        let model = Model::Here(Box::new(Encoder::built_in(Precision::F32).unwrap()));
        let text =
            b"{\"id\":7,\"text\":\"a longer text about pumps\"}\n{\"id\":\"x\",\"text\":\"\"}\n{";
        let mut output = Jsonl(BufWriter::new(Vec::new()));
        let lines = Lines::new(text.as_slice(), "in".to_owned());
        let error = embed(&model, lines, &mut output).unwrap_err();
        assert!(error.to_string().contains("line 3"), "{error:#}");
        let output = String::from_utf8(output.0.into_inner().unwrap()).unwrap();
        let vectors: Vec<Value> =
            output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ids: Vec<&Value> = vectors.iter().map(|line| &line["id"]).collect();
        assert_eq!(ids, [&Value::from(7), &Value::from("x")]);
        assert!(vectors.iter().all(|line| line["embedding"].as_array().unwrap().len() == 384));
    }
}
