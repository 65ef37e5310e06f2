//! A set of row numbers, kept as bits, and its file.

use std::fs;
use std::io;
use std::ops::Range;
use std::path::Path;

use crate::{IndexError, files};

const MAGIC: &[u8; 8] = b"AKGDEAD1";
const HEADER_BYTES: usize = 16;

/// Which rows of a segment are dead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bits {
    words: Vec<u64>,
    len: usize,
    count: usize,
}

impl Bits {
    /// None of `len` rows.
    pub(super) fn none(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], len, count: 0 }
    }

    pub(super) fn contains(&self, row: u32) -> bool {
        self.words[row as usize / 64] >> (row % 64) & 1 == 1
    }

    pub(super) fn insert(&mut self, row: u32) {
        let bit = 1 << (row % 64);
        let word = &mut self.words[row as usize / 64];
        self.count += usize::from(*word & bit == 0);
        *word |= bit;
    }

    /// The number of rows in the set.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// The number of rows of the set in a range.
    pub(super) fn count_within(&self, rows: Range<u32>) -> usize {
        if self.count == 0 || rows.is_empty() {
            return 0;
        }
        let (first, last) = (rows.start as usize / 64, (rows.end as usize - 1) / 64);
        let head = u64::MAX << (rows.start % 64);
        let tail = u64::MAX >> (63 - (rows.end - 1) % 64);
        let ones = |word: u64| word.count_ones() as usize;
        if first == last {
            return ones(self.words[first] & head & tail);
        }
        ones(self.words[first] & head)
            + self.words[first + 1..last].iter().map(|&w| ones(w)).sum::<usize>()
            + ones(self.words[last] & tail)
    }

    /// Writes the set to a new file and brings it to the disk.
    pub(super) fn save(&self, path: &Path) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES + self.words.len() * 8);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&[0; 4]);
        bytes.extend_from_slice(&(self.len as u32).to_le_bytes());
        self.words.iter().for_each(|w| bytes.extend_from_slice(&w.to_le_bytes()));
        let checksum = crc32c::crc32c(&bytes[HEADER_BYTES - 4..]);
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        files::replace(path, &bytes, true)
    }

    /// Reads the set of dead rows of a segment with `len` rows.
    pub(super) fn load(path: &Path, len: usize) -> Result<Self, IndexError> {
        let bytes = fs::read(path).map_err(|e| super::reading_failed(path, &e))?;
        let words = len.div_ceil(64);
        let checksum =
            bytes.get(8..12).map(|b| u32::from_le_bytes(b.try_into().unwrap_or_default()));
        let whole = bytes.len() == HEADER_BYTES + words * 8
            && bytes[..8] == *MAGIC
            && bytes[12..16] == (len as u32).to_le_bytes()
            && checksum == Some(crc32c::crc32c(&bytes[HEADER_BYTES - 4..]));
        if !whole {
            return Err(IndexError::damaged(path, "not the dead rows of this segment"));
        }
        let (words, _) = bytes[HEADER_BYTES..].as_chunks::<8>();
        let words: Vec<u64> = words.iter().map(|&w| u64::from_le_bytes(w)).collect();
        let count = words.iter().map(|w| w.count_ones() as usize).sum();
        let beyond = words.last().is_some_and(|w| !len.is_multiple_of(64) && w >> (len % 64) != 0);
        if beyond {
            return Err(IndexError::damaged(path, "rows beyond the segment"));
        }
        Ok(Self { words, len, count })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn bits_agree_with_a_set(
            rows in prop::collection::btree_set(0_u32..200, 0..100),
            from in 0_u32..200,
            to in 0_u32..200,
        ) {
            let mut bits = Bits::none(200);
            rows.iter().for_each(|&r| bits.insert(r));
            rows.iter().for_each(|&r| bits.insert(r));
            prop_assert_eq!(bits.count(), rows.len());
            for row in 0..200 {
                prop_assert_eq!(bits.contains(row), rows.contains(&row));
            }
            let expected = (from..to).filter(|r| rows.contains(r)).count();
            prop_assert_eq!(bits.count_within(from..to), expected);
        }
    }

    #[test]
    fn a_saved_set_comes_back_and_a_changed_file_does_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.dead");
        let mut bits = Bits::none(130);
        [0, 63, 64, 129].into_iter().for_each(|r| bits.insert(r));
        bits.save(&path).unwrap();
        assert_eq!(Bits::load(&path, 130).unwrap(), bits);
        assert!(Bits::load(&path, 129).is_err());
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            fs::write(&path, &bad).unwrap();
            assert!(Bits::load(&path, 130).is_err(), "byte {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(Bits::load(&path, 130).is_err(), "cut at {at}");
        }
    }
}
