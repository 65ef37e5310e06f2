//! What `activekg embed` reads.

use std::io::{BufRead, Read};

use anyhow::{Context, bail};
use serde::Deserialize;
use serde_json::Value;

/// Longest line read, in bytes.
const LINE_MAX: u64 = 64 << 20;
/// Texts computed at a time: enough to keep every core busy, few enough that vectors soon appear.
const CHUNK_TEXTS: usize = 256;
/// A chunk ends early when its texts have this many bytes, so that memory stays bounded.
const CHUNK_BYTES: usize = 8 << 20;

/// A line of the input.
#[derive(Debug, Deserialize)]
pub(super) struct Input {
    /// A string or a number.
    pub(super) id: Value,
    pub(super) text: String,
}

/// The input, line by line.
pub(super) struct Lines<R> {
    input: R,
    /// What messages call the input.
    name: String,
    /// Lines read so far.
    number: u64,
}

/// Why a chunk ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is full.
    Chunk,
    /// There is no more.
    Input,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `input`, which messages call `name`.
    pub(super) fn new(input: R, name: String) -> Self {
        Self { input, name, number: 0 }
    }

    /// The next lines, and whether there are more or what is wrong with the one that follows.
    pub(super) fn chunk(&mut self) -> (Vec<Input>, anyhow::Result<End>) {
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
        Lines::new(text, "in".to_owned())
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
}
