//! An archive as it is written, part after part.

use std::io::{self, Write};

use sha2::{Digest, Sha256};
use zstd::stream::write::Encoder;

use super::error::BackupError;
use super::manifest::{Manifest, Part, encode, hex};
use super::part;
use super::tar::{self, Header};
use crate::time::UnixMicros;

/// Bytes compressed at once, so that whoever shares the processor gets a turn.
const CHUNK: usize = 256 << 10;

/// The archive as it is written.
pub(crate) struct Out<W: Write> {
    stream: Encoder<'static, W>,
    modified: u64,
    parts: Vec<Part>,
    /// Bytes of parts so far.
    pub(crate) bytes: u64,
}

/// A part that is being written.
pub(crate) struct Member {
    name: String,
    size: u64,
    sha256: Sha256,
}

impl<W: Write> Out<W> {
    pub(crate) fn new(out: W, level: i32, created_at: UnixMicros) -> io::Result<Out<W>> {
        let mut stream = Encoder::new(out, level)?;
        // What is outside every part's SHA-256, the manifest first of all, is under this one.
        stream.include_checksum(true)?;
        let modified = u64::try_from(created_at.get() / 1_000_000).unwrap_or(0);
        Ok(Out { stream, modified: modified.min(tar::SIZE_MAX), parts: Vec::new(), bytes: 0 })
    }

    pub(crate) fn part(
        &mut self,
        name: &str,
        rows: Option<u64>,
        bytes: &[u8],
    ) -> Result<(), BackupError> {
        let mut member = self.begin(name, bytes.len() as u64)?;
        for chunk in bytes.chunks(CHUNK) {
            self.more(&mut member, chunk)?;
        }
        self.end(member, rows).map(drop)
    }

    pub(crate) fn begin(&mut self, name: &str, size: u64) -> Result<Member, BackupError> {
        let header = Header { name: name.to_owned(), size, modified: self.modified };
        let refused = || io::Error::other(format!("no archive can hold {size} bytes as {name}"));
        let block = header.encode().ok_or_else(refused).map_err(BackupError::Write)?;
        self.stream.write_all(&block).map_err(BackupError::Write)?;
        Ok(Member { name: header.name, size, sha256: Sha256::new() })
    }

    pub(crate) fn more(&mut self, member: &mut Member, bytes: &[u8]) -> Result<(), BackupError> {
        member.sha256.update(bytes);
        self.bytes += bytes.len() as u64;
        self.stream.write_all(bytes).map_err(BackupError::Write)
    }

    /// Returns the part's SHA-256.
    pub(crate) fn end(&mut self, member: Member, rows: Option<u64>) -> Result<String, BackupError> {
        let Member { name, size, sha256 } = member;
        let padding = &tar::END[..tar::padding(size)];
        self.stream.write_all(padding).map_err(BackupError::Write)?;
        let sha256 = hex(&sha256.finalize());
        self.parts.push(Part { name, rows, bytes: size, sha256: sha256.clone() });
        Ok(sha256)
    }

    pub(crate) fn finish(
        mut self,
        manifest: impl FnOnce(Vec<Part>) -> Manifest,
    ) -> Result<(Manifest, W), BackupError> {
        let manifest = manifest(std::mem::take(&mut self.parts));
        self.part(part::MANIFEST, None, &encode(&manifest))?;
        let finish = || {
            self.stream.write_all(&tar::END)?;
            self.stream.write_all(&tar::END)?;
            let mut out = self.stream.finish()?;
            out.flush()?;
            Ok(out)
        };
        Ok((manifest, finish().map_err(BackupError::Write)?))
    }
}
