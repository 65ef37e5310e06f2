//! `activekg embed`: vectors of texts, without a server.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use indicatif::{ProgressBar, ProgressStyle};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::embedding::{Encoder, EncoderOptions, Isa, Precision};

/// Longest line read, in bytes.
const LINE_MAX: u64 = 64 << 20;
/// Texts computed at a time: enough to keep every core busy, few enough that vectors soon appear.
const CHUNK_TEXTS: usize = 256;
/// A chunk ends early when its texts have this many bytes, so that memory stays bounded.
const CHUNK_BYTES: usize = 8 << 20;

/// Reads one JSON object {"id", "text"} a line and writes {"id", "embedding"} lines in the same
/// order. Ids are strings or numbers; other fields are ignored, and so are blank lines.
#[derive(Debug, clap::Args)]
pub(super) struct EmbedArgs {
    /// Lines to embed; - is standard input
    #[arg(value_name = "FILE", default_value = "-")]
    file: PathBuf,
    /// Write here instead of to standard output; the file appears when all is done
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// f32, or auto for the fastest arithmetic of this processor
    #[arg(long, env = "EMBEDDING_PRECISION", value_name = "PRECISION", default_value = "auto")]
    precision: Precision,
    /// Instructions: amx, avx512vnni, avx2 or portable; the best of this processor if not given
    #[arg(long, env = "ACTIVEKG_CPU", value_name = "NAME", hide_short_help = true)]
    cpu: Option<Isa>,
}

/// A line of the input.
#[derive(Debug, Deserialize)]
struct Input {
    id: Value,
    text: String,
}

/// A line of the output.
#[derive(Debug, Serialize)]
struct Output {
    id: Value,
    embedding: Vec<f32>,
}

/// Runs the command.
///
/// # Errors
///
/// A bad line, named by its number, or a file that cannot be read or written. What stands before
/// a bad line on the input has been written to standard output by then; a file is not made.
pub(super) fn run(args: EmbedArgs) -> anyhow::Result<()> {
    let EmbedArgs { file, output, precision, cpu } = args;
    let name =
        if file == Path::new("-") { "standard input".into() } else { file.display().to_string() };
    let input: Box<dyn Read> = if file == Path::new("-") {
        Box::new(io::stdin().lock())
    } else {
        Box::new(File::open(&file).with_context(|| format!("open {name}"))?)
    };
    let encoder = Encoder::built_in(EncoderOptions { precision, isa: cpu })?;
    let lines = Lines { input: BufReader::new(input), name, number: 0 };
    match output {
        None => {
            let mut stdout = BufWriter::new(io::stdout().lock());
            embed(&encoder, lines, &mut stdout)?;
            stdout.flush().context("write to standard output")
        }
        Some(path) => {
            // In the same folder, so that the last step is a rename.
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            let temporary = temporary_in(folder.unwrap_or(Path::new(".")));
            let writing = || format!("write {}", path.display());
            let mut file = BufWriter::new(temporary.with_context(writing)?);
            embed(&encoder, lines, &mut file)?;
            let file = file.into_inner().map_err(io::IntoInnerError::into_error);
            let file = file.with_context(writing)?;
            file.as_file().sync_all().with_context(writing)?;
            file.persist(&path).with_context(writing)?;
            Ok(())
        }
    }
}

/// A file that anybody may read whom the process's mask lets, as if it had been made in place.
fn temporary_in(folder: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder)
}

fn embed(
    encoder: &Encoder,
    mut lines: Lines<impl BufRead>,
    output: &mut impl Write,
) -> anyhow::Result<()> {
    let progress = progress();
    loop {
        let (chunk, outcome) = lines.chunk();
        let texts: Vec<&str> = chunk.iter().map(|line| line.text.as_str()).collect();
        let vectors = encoder.encode(&texts)?;
        progress.inc(chunk.len() as u64);
        for (line, embedding) in chunk.into_iter().zip(vectors) {
            serde_json::to_writer(&mut *output, &Output { id: line.id, embedding })?;
            output.write_all(b"\n").context("write a vector")?;
        }
        if outcome? == End::Input {
            progress.finish_and_clear();
            return Ok(());
        }
        // Whoever reads along sees each chunk as it is done.
        output.flush().context("write a vector")?;
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

/// The input, line by line.
struct Lines<R> {
    input: R,
    /// What messages call the input.
    name: String,
    /// Lines read so far.
    number: u64,
}

/// Why a chunk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// It is full.
    Chunk,
    /// There is no more.
    Input,
}

impl<R: BufRead> Lines<R> {
    /// The next lines, and whether there are more or what is wrong with the one that follows.
    fn chunk(&mut self) -> (Vec<Input>, anyhow::Result<End>) {
        let (mut chunk, mut bytes) = (Vec::new(), 0);
        while chunk.len() < CHUNK_TEXTS && bytes < CHUNK_BYTES {
            match self.next() {
                Ok(Some(line)) => {
                    bytes += line.text.len();
                    chunk.push(line);
                }
                Ok(None) => return (chunk, Ok(End::Input)),
                Err(error) => return (chunk, Err(error)),
            }
        }
        (chunk, Ok(End::Chunk))
    }

    fn next(&mut self) -> anyhow::Result<Option<Input>> {
        loop {
            let mut line = Vec::new();
            self.number += 1;
            let place = || format!("{}, line {}", self.name, self.number);
            (&mut self.input)
                .take(LINE_MAX + 1)
                .read_until(b'\n', &mut line)
                .with_context(place)?;
            if line.is_empty() {
                return Ok(None);
            }
            if line.len() as u64 > LINE_MAX {
                bail!("{}: longer than {LINE_MAX} bytes", place());
            }
            if line.trim_ascii().is_empty() {
                continue;
            }
            let line: Input = serde_json::from_slice(&line).with_context(place)?;
            if !(line.id.is_string() || line.id.is_number()) {
                bail!("{}: the id is neither a string nor a number", place());
            }
            return Ok(Some(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &[u8]) -> Lines<&[u8]> {
        Lines { input: text, name: "in".to_owned(), number: 0 }
    }

    #[test]
    fn lines_are_read_in_chunks_and_blank_ones_skipped() {
        let line = "{\"text\":\"t\",\"id\":1,\"more\":[]}\n\r\n";
        let text = line.repeat(CHUNK_TEXTS + 3);
        let mut lines = lines(text.as_bytes());
        let (chunk, end) = lines.chunk();
        assert_eq!((chunk.len(), end.unwrap()), (CHUNK_TEXTS, End::Chunk));
        let (chunk, end) = lines.chunk();
        assert_eq!((chunk.len(), end.unwrap()), (3, End::Input));
    }

    #[test]
    fn a_bad_line_is_named_and_those_before_it_are_kept() {
        for (bad, reason) in [
            ("{\"id\":\"b\"}", "missing field `text`"),
            ("{\"text\":\"t\"}", "missing field `id`"),
            ("{\"id\":null,\"text\":\"t\"}", "neither a string nor a number"),
            ("{\"id\":\"b\",\"text\":5}", "expected a string"),
            ("not json", "expected"),
        ] {
            let text = format!("{{\"id\":\"a\",\"text\":\"t\"}}\n\n{bad}\n");
            let (chunk, outcome) = lines(text.as_bytes()).chunk();
            assert_eq!(chunk.len(), 1, "{bad}");
            let error = format!("{:#}", outcome.unwrap_err());
            assert!(error.starts_with("in, line 3: ") && error.contains(reason), "{error}");
        }
        let (_, outcome) = lines(b"{\"id\":1,\"text\":\"\xff\"}").chunk();
        assert!(outcome.unwrap_err().to_string().contains("line 1"));
    }

    #[test]
    fn a_file_appears_when_all_is_done_and_not_before() {
        let folder = tempfile::tempdir().unwrap();
        let [input, output] = ["in.jsonl", "out.jsonl"].map(|name| folder.path().join(name));
        let args = || EmbedArgs {
            file: input.clone(),
            output: Some(output.clone()),
            precision: Precision::F32,
            cpu: None,
        };
        std::fs::write(&input, "{\"id\":1,\"text\":\"a\"}\n{").unwrap();
        assert!(run(args()).is_err());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "only the input is there");
        std::fs::write(&input, "{\"id\":1,\"text\":\"a\"}\n").unwrap();
        run(args()).unwrap();
        assert_eq!(std::fs::read_to_string(&output).unwrap().lines().count(), 1);
    }

    #[test]
    fn vectors_come_out_in_order_up_to_the_bad_line() {
        let encoder = Encoder::built_in(Precision::F32).unwrap();
        let text =
            b"{\"id\":7,\"text\":\"a longer text about pumps\"}\n{\"id\":\"x\",\"text\":\"\"}\n{";
        let mut output = Vec::new();
        let error = embed(&encoder, lines(text), &mut output).unwrap_err();
        assert!(error.to_string().contains("line 3"), "{error:#}");
        let output = String::from_utf8(output).unwrap();
        let vectors: Vec<Value> =
            output.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let ids: Vec<&Value> = vectors.iter().map(|line| &line["id"]).collect();
        assert_eq!(ids, [&Value::from(7), &Value::from("x")]);
        assert!(vectors.iter().all(|line| line["embedding"].as_array().unwrap().len() == 384));
    }
}
