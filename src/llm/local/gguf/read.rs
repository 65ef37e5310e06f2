//! Numbers and texts from the beginning of a file whose length is known.

use std::io::Read;

use super::GgufError;

/// Longest header. The vocabularies in them take some 10 MB.
const HEADER_MAX: u64 = 64 << 20;

/// A reader that knows how much is left.
pub(super) struct Cut<R> {
    file: R,
    len: u64,
    position: u64,
}

impl<R: Read> Cut<R> {
    pub(super) fn new(file: R, len: u64) -> Self {
        Self { file, len, position: 0 }
    }

    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Bytes up to the end of the file.
    pub(super) fn left(&self) -> u64 {
        self.len - self.position
    }

    fn fill(&mut self, into: &mut [u8]) -> Result<(), GgufError> {
        if into.len() as u64 > self.left() {
            return Err(GgufError::Truncated);
        }
        if self.position + into.len() as u64 > HEADER_MAX {
            return Err(GgufError::Damaged(format!("its header exceeds {HEADER_MAX} bytes")));
        }
        self.file.read_exact(into)?;
        self.position += into.len() as u64;
        Ok(())
    }

    pub(super) fn bytes<const N: usize>(&mut self) -> Result<[u8; N], GgufError> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u32(&mut self) -> Result<u32, GgufError> {
        Ok(u32::from_le_bytes(self.bytes()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, GgufError> {
        Ok(u64::from_le_bytes(self.bytes()?))
    }

    /// A number of things of which each takes `bytes` bytes at least.
    pub(super) fn count(&mut self, things: &str, bytes: u64, max: u64) -> Result<u64, GgufError> {
        let count = self.u64()?;
        if count > max || count > self.left() / bytes {
            let left = self.left();
            let reason = format!("it announces {count} {things} with {left} bytes left");
            return Err(GgufError::Damaged(reason));
        }
        Ok(count)
    }

    /// A text of at most `max` bytes. What is not UTF-8 in it is replaced.
    pub(super) fn text(&mut self, what: &str, max: u64) -> Result<String, GgufError> {
        let len = self.u64()?;
        if len > self.left() {
            return Err(GgufError::Truncated);
        }
        if len > max {
            return Err(GgufError::Damaged(format!("{what} has {len} bytes")));
        }
        let mut bytes = vec![0; len as usize];
        self.fill(&mut bytes)?;
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }
}
