//! The file of a segment's lists.
//!
//! ```text
//! header    36 bytes: magic, the segment's checksum, dimension, rows, lists wanted, lists,
//!           CRC-32C of the rest, its own
//! centres   f32, list by list
//! starts    u32: where each list starts, and the end of the last
//! members   u32: the rows, list by list
//! ```
//!
//! Little-endian. It is read into memory whole: it has a few bytes a row.

use std::path::Path;
use std::{fs, io};

use super::{Ivf, lists_for};
use crate::vector::segment::Segment;
use crate::vector::{IvfParams, reading_failed};
use crate::{IndexError, files};

const MAGIC: &[u8; 8] = b"AKGIVFL1";
const HEADER_BYTES: usize = 36;

impl Ivf {
    /// Replaces the file of the lists. It is not synced: one that a power cut tears is noticed and
    /// made again.
    pub(in crate::vector) fn save(&self, path: &Path, segment: &Segment) -> io::Result<()> {
        let Self { dim, wanted, centers, starts, members } = self;
        let words = [
            segment.checksum(),
            *dim as u32,
            members.len() as u32,
            *wanted as u32,
            self.lists() as u32,
        ];
        let mut bytes = vec![0; HEADER_BYTES];
        bytes.reserve_exact(self.bytes());
        centers.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
        starts.iter().chain(members).for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
        bytes[..8].copy_from_slice(MAGIC);
        let checksum = crc32c::crc32c(&bytes[HEADER_BYTES..]);
        for (i, word) in words.into_iter().chain([checksum]).enumerate() {
            bytes[8 + 4 * i..12 + 4 * i].copy_from_slice(&word.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&bytes[..HEADER_BYTES - 4]);
        bytes[HEADER_BYTES - 4..HEADER_BYTES].copy_from_slice(&checksum.to_le_bytes());
        files::replace(path, &bytes, false)
    }

    /// The lists of a segment, if there is a file of them that was made with these parameters.
    pub(in crate::vector) fn open(
        path: &Path,
        segment: &Segment,
        params: IvfParams,
    ) -> Result<Option<Self>, IndexError> {
        let bytes = match fs::read(path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(reading_failed(path, &error)),
        };
        let lists = parse(&bytes, segment).map_err(|reason| IndexError::damaged(path, reason))?;
        Ok(Some(lists).filter(|lists| lists.wanted == lists_for(segment.rows(), params)))
    }
}

fn parse(bytes: &[u8], segment: &Segment) -> Result<Ivf, &'static str> {
    let (header, body) =
        bytes.split_first_chunk::<HEADER_BYTES>().ok_or("shorter than a header")?;
    let (words, _) = header[8..].as_chunks::<4>();
    let word = |at: usize| u32::from_le_bytes(words[at]);
    if header[..8] != *MAGIC {
        return Err("not the lists of this version");
    }
    if crc32c::crc32c(&header[..HEADER_BYTES - 4]) != word(6) || crc32c::crc32c(body) != word(5) {
        return Err("a checksum does not match");
    }
    let (dim, rows) = (word(1) as usize, word(2) as usize);
    if (word(0), dim, rows) != (segment.checksum(), segment.dim(), segment.rows()) {
        return Err("not the lists of this segment");
    }
    let (wanted, lists) = (word(3) as usize, word(4) as usize);
    let (values, rest) = body.as_chunks::<4>();
    let centers = lists.checked_mul(dim).filter(|_| lists > 0);
    let length = centers.and_then(|n| n.checked_add(lists)?.checked_add(1)?.checked_add(rows));
    if !rest.is_empty() || length != Some(values.len()) {
        return Err("its length does not match");
    }
    let (centers, values) = values.split_at(lists * dim);
    let (starts, members) = values.split_at(lists + 1);
    let numbers = |words: &[[u8; 4]]| words.iter().map(|&w| u32::from_le_bytes(w)).collect();
    let (starts, members): (Vec<u32>, Vec<u32>) = (numbers(starts), numbers(members));
    let centers: Vec<f32> = centers.iter().map(|&v| f32::from_le_bytes(v)).collect();
    let ends = (starts.first().copied(), starts.last().map(|&end| end as usize));
    if ends != (Some(0), Some(rows)) || !starts.is_sorted() {
        return Err("its lists do not follow one another");
    }
    let mut seen = vec![false; rows];
    for &row in &members {
        match seen.get_mut(row as usize) {
            Some(seen) if !*seen => *seen = true,
            _ => return Err("a row is on no list, or on two"),
        }
    }
    if centers.iter().any(|value| !value.is_finite()) {
        return Err("a centre is nowhere");
    }
    Ok(Ivf { dim, wanted, centers, starts, members })
}
