//! Reading a blob and checking it on the way.

use std::fs::File;
use std::io::{self, Read};

use sha2::{Digest as _, Sha256};

use super::{BlobError, BlobId};

/// The bytes of a blob. Whether they are the right ones is known at their end: damage is an error of
/// kind [`InvalidData`](io::ErrorKind::InvalidData) there, in place of the end. So what was read
/// counts only once the end was reached.
pub struct BlobReader {
    id: BlobId,
    file: File,
    /// `None` once the end was reached and was right.
    hash: Option<Sha256>,
}

impl BlobReader {
    pub(super) fn new(id: BlobId, file: File) -> BlobReader {
        BlobReader { id, file, hash: Some(Sha256::new()) }
    }
}

impl Read for BlobReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let Some(hash) = &mut self.hash else { return Ok(0) };
        if out.is_empty() {
            return Ok(0);
        }
        let n = self.file.read(out)?;
        if n > 0 {
            hash.update(&out[..n]);
            return Ok(n);
        }
        if BlobId::new(hash.clone().finalize().into()) != self.id {
            let error = BlobError::Corrupt { id: self.id };
            return Err(io::Error::new(io::ErrorKind::InvalidData, error));
        }
        self.hash = None;
        Ok(0)
    }
}
