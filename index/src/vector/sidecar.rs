//! Files beside a segment that hold what was built of it, and can be built again.
//!
//! ```text
//! header    36 bytes: magic, the segment's checksum, dimension, rows, two words of its kind,
//!           CRC-32C of the rest, its own
//! rest      words
//! ```
//!
//! Little-endian.

use std::path::Path;
use std::{fs, io};

use super::reading_failed;
use super::segment::Segment;
use crate::{IndexError, files};

const HEADER_BYTES: usize = 36;

/// What is in a sidecar.
pub(super) struct Sidecar {
    /// The words of its kind in the header.
    pub(super) own: [u32; 2],
    bytes: Vec<u8>,
}

impl Sidecar {
    /// Replaces the file. It is not synced: one that a power cut tears is noticed and made again.
    pub(super) fn save(
        path: &Path,
        magic: [u8; 8],
        segment: &Segment,
        own: [u32; 2],
        words: impl Iterator<Item = u32>,
    ) -> io::Result<()> {
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.extend(words.flat_map(u32::to_le_bytes));
        bytes[..8].copy_from_slice(&magic);
        let rest = crc32c::crc32c(&bytes[HEADER_BYTES..]);
        let head = [segment.checksum(), segment.dim() as u32, segment.rows() as u32];
        for (i, word) in head.into_iter().chain(own).chain([rest]).enumerate() {
            bytes[8 + 4 * i..12 + 4 * i].copy_from_slice(&word.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        files::replace(path, &bytes, false)
    }

    /// Reads the sidecar of a segment; `None` if there is none.
    pub(super) fn load(
        path: &Path,
        magic: [u8; 8],
        segment: &Segment,
    ) -> Result<Option<Self>, IndexError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(reading_failed(path, &error)),
        };
        let own = check(&bytes, magic, segment);
        let own = own.map_err(|reason| IndexError::damaged(path, reason))?;
        Ok(Some(Self { own, bytes }))
    }

    /// The words after the header.
    pub(super) fn words(&self) -> &[[u8; 4]] {
        self.bytes[HEADER_BYTES..].as_chunks::<4>().0
    }
}

/// The words of its kind, if the file is whole and of this segment.
fn check(bytes: &[u8], magic: [u8; 8], segment: &Segment) -> Result<[u32; 2], &'static str> {
    let (header, rest) =
        bytes.split_first_chunk::<HEADER_BYTES>().ok_or("shorter than a header")?;
    let (words, _) = header[8..].as_chunks::<4>();
    let word = |at: usize| u32::from_le_bytes(words[at]);
    if header[..8] != magic {
        return Err("not a file of this version");
    }
    if crc32c::crc32c(&header[..HEADER_BYTES - 4]) != word(6) || crc32c::crc32c(rest) != word(5) {
        return Err("a checksum does not match");
    }
    let (dim, rows) = (word(1) as usize, word(2) as usize);
    if (word(0), dim, rows) != (segment.checksum(), segment.dim(), segment.rows()) {
        return Err("not of this segment");
    }
    if !rest.len().is_multiple_of(4) {
        return Err("its length does not match");
    }
    Ok([word(3), word(4)])
}
