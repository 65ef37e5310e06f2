//! An archive as a stream of parts.

use std::io::{self, BufReader, Read};

use sha2::{Digest, Sha256};
use zstd::stream::read::Decoder;

use super::error::{ArchiveError, damaged, read_error};
use super::manifest::{self, ARCHIVE_FORMAT, About, Part, hex};
use super::part::{self, Kind, ROW_HEADER};
use super::tar::{self, BLOCK, Header};
use crate::codec::{KEY_MAX, VALUE_MAX};
use crate::open::FORMAT;

/// What a zstd frame begins with.
const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Largest `about.json`, in bytes.
const ABOUT_MAX: u64 = 64 << 10;

/// Bytes read at once.
pub(crate) const CHUNK: usize = 256 << 10;

/// The parts of an archive, one after the other.
pub(crate) struct Parts<R: Read> {
    stream: Decoder<'static, BufReader<R>>,
    /// The present part.
    pub(crate) name: String,
    size: u64,
    /// Bytes of it that are still to come.
    pub(crate) left: u64,
    pub(crate) rows: u64,
    sha256: Sha256,
    /// The parts so far.
    pub(crate) list: Vec<Part>,
    /// Bytes of parts so far.
    pub(crate) bytes: u64,
    /// The time in every header.
    modified: Option<u64>,
}

impl<R: Read> Parts<R> {
    pub(crate) fn open(archive: R) -> Result<(Parts<R>, About), ArchiveError> {
        let mut archive = BufReader::with_capacity(CHUNK, archive);
        let head = io::BufRead::fill_buf(&mut archive).map_err(ArchiveError::Read)?;
        if !head.starts_with(&MAGIC) {
            return Err(ArchiveError::NotAnArchive);
        }
        let stream = Decoder::with_buffer(archive).map_err(ArchiveError::Read)?.single_frame();
        let mut parts = Parts {
            stream,
            name: "the archive".to_owned(),
            size: 0,
            left: 0,
            rows: 0,
            sha256: Sha256::new(),
            list: Vec::new(),
            bytes: 0,
            modified: None,
        };
        if parts.header()?.as_deref() != Some(part::ABOUT) {
            return Err(damaged(part::ABOUT, "it is not the first part"));
        }
        let text = parts.document(ABOUT_MAX)?;
        let wrong = |reason| damaged(part::ABOUT, reason);
        let found = manifest::format(&text).map_err(wrong)?;
        if found > ARCHIVE_FORMAT {
            return Err(ArchiveError::NewerArchive { found, supported: ARCHIVE_FORMAT });
        }
        let about: About = manifest::decode(&text).map_err(wrong)?;
        let found = about.store_format;
        if found > FORMAT {
            return Err(ArchiveError::NewerStore { found, supported: FORMAT });
        }
        Ok((parts, about))
    }

    /// Goes on to the next part.
    pub(crate) fn next(&mut self) -> Result<Kind, ArchiveError> {
        let name = self.header()?;
        let name = name.ok_or_else(|| damaged(part::MANIFEST, "it is missing"))?;
        Kind::of(&name).ok_or_else(|| damaged(&name, "there is no such part in a backup"))
    }

    /// Reads the next header; `None` at the end.
    fn header(&mut self) -> Result<Option<String>, ArchiveError> {
        let mut block = [0; BLOCK];
        self.fill(&mut block)?;
        let after = format!("what follows {}", self.name);
        let header = Header::decode(&block).map_err(|reason| damaged(&after, reason))?;
        let Some(Header { name, size, modified }) = header else {
            return Ok(None);
        };
        if *self.modified.get_or_insert(modified) != modified {
            return Err(damaged(&name, "its time is another"));
        }
        self.name.clone_from(&name);
        self.sha256 = Sha256::new();
        (self.size, self.left, self.rows) = (size, size, 0);
        Ok(Some(name))
    }

    /// The present part, which may have up to `most` bytes.
    pub(crate) fn document(&mut self, most: u64) -> Result<Vec<u8>, ArchiveError> {
        if self.left > most {
            return Err(damaged(&self.name, "it is too large"));
        }
        let mut text = Vec::new();
        let mut chunk = vec![0; CHUNK];
        while self.left > 0 {
            let most = chunk.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.take(&mut chunk[..most])?;
            text.extend_from_slice(&chunk[..most]);
        }
        self.end(false)?;
        Ok(text)
    }

    /// Reads a row in place of the one before it, whose key must be less if it is `ordered`.
    pub(crate) fn row(
        &mut self,
        key: &mut Vec<u8>,
        value: &mut Vec<u8>,
        ordered: bool,
    ) -> Result<(), ArchiveError> {
        let mut header = [0; ROW_HEADER];
        self.take(&mut header)?;
        let (n_key, n_value) = part::row_lengths(header);
        self.rows += 1;
        if n_key > KEY_MAX || n_value > VALUE_MAX || (n_key + n_value) as u64 > self.left {
            return Err(self.wrong_row("its lengths are impossible"));
        }
        let mut next = std::mem::take(value);
        next.resize(n_key, 0);
        self.take(&mut next)?;
        if ordered && next <= *key {
            return Err(self.wrong_row("it is out of order"));
        }
        *value = std::mem::replace(key, next);
        value.resize(n_value, 0);
        self.take(value)
    }

    /// The row read last is at fault. Rows count from 1 in each part.
    pub(crate) fn wrong_row(&self, reason: &str) -> ArchiveError {
        damaged(&self.name, format!("row {}: {reason}", self.rows))
    }

    /// The next bytes of the present part.
    pub(crate) fn take(&mut self, bytes: &mut [u8]) -> Result<(), ArchiveError> {
        let n_bytes = bytes.len() as u64;
        if n_bytes > self.left {
            return Err(damaged(&self.name, "it ends within a row"));
        }
        self.fill(bytes)?;
        self.sha256.update(&*bytes);
        self.left -= n_bytes;
        self.bytes += n_bytes;
        Ok(())
    }

    /// Closes the present part, all of which is read.
    pub(crate) fn end(&mut self, of_rows: bool) -> Result<(), ArchiveError> {
        let mut padding = [0; BLOCK];
        let padding = &mut padding[..tar::padding(self.size)];
        self.fill(padding)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(damaged(&self.name, "there is something after its end"));
        }
        self.list.push(Part {
            name: self.name.clone(),
            rows: of_rows.then_some(self.rows),
            bytes: self.size,
            sha256: hex(&std::mem::take(&mut self.sha256).finalize()),
        });
        Ok(())
    }

    /// Makes sure that nothing follows.
    pub(crate) fn finish(mut self) -> Result<(), ArchiveError> {
        let more = || damaged("the archive", "there is something after its end");
        let mut block = [0; BLOCK];
        for _ in 0..2 {
            self.fill(&mut block)?;
            if block != tar::END {
                return Err(more());
            }
        }
        // Reaching the end of the frame checks its sum.
        let n_read = self.stream.read(&mut block);
        if n_read.map_err(|error| read_error("the archive", error))? > 0 {
            return Err(more());
        }
        let mut rest = self.stream.finish();
        match io::Read::read(&mut rest, &mut block).map_err(ArchiveError::Read)? {
            0 => Ok(()),
            _ => Err(more()),
        }
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<(), ArchiveError> {
        self.stream.read_exact(bytes).map_err(|error| read_error(&self.name, error))
    }
}
