//! A sealed segment: an immutable file of vectors, used in place through a memory map.
//!
//! ```text
//! header      128 bytes: magic, dimension, rows, length of the tenants part, four CRC-32C, its own
//! tenants     count, then for each in rising order: name length, name, the row after its last
//! ids         u128 by row
//! order       u32: the rows in rising order of id
//! vectors     f32 by row
//! ```
//!
//! Parts start at multiples of 64 bytes and their checksums cover the padding. Everything is
//! little-endian. Rows are sorted by tenant and then by id, so a tenant is one run of rows.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::ops::Range;
use std::path::Path;

use memmap2::Mmap;

use crate::IndexError;

const MAGIC: &[u8; 8] = b"AKGVECT1";
const HEADER_BYTES: usize = 128;
const ALIGN: usize = 64;
/// Rows are numbered by `u32`, and the graph needs one number to spare.
pub(super) const ROWS_MAX: usize = u32::MAX as usize - 1;

/// One live vector on its way into a segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) tenant: &'a str,
    pub(super) id: u128,
    pub(super) values: &'a [f32],
}

/// Where the parts of a segment start.
#[derive(Debug, Clone, Copy)]
struct Layout {
    ids: usize,
    order: usize,
    vectors: usize,
    end: usize,
}

impl Layout {
    /// `None` if a file cannot be that large.
    fn of(tenants_bytes: usize, rows: usize, dim: usize) -> Option<Self> {
        let aligned = |n: usize| n.checked_next_multiple_of(ALIGN);
        let ids = aligned(HEADER_BYTES.checked_add(tenants_bytes)?)?;
        let order = aligned(ids.checked_add(rows.checked_mul(16)?)?)?;
        let vectors = aligned(order.checked_add(rows.checked_mul(4)?)?)?;
        let end = vectors.checked_add(rows.checked_mul(dim)?.checked_mul(4)?)?;
        Some(Self { ids, order, vectors, end })
    }
}

/// A sealed segment that was checked when it was opened.
#[derive(Debug)]
pub(super) struct Segment {
    map: Mmap,
    layout: Layout,
    dim: usize,
    rows: usize,
    /// Sorted by name.
    tenants: Vec<(String, Range<u32>)>,
    checksum: u32,
}

impl Segment {
    /// Maps and checks a file that [`write`] made: every checksum, and that ids, order and tenants
    /// fit together.
    pub(super) fn open(path: &Path, dim: usize) -> Result<Self, IndexError> {
        let file = File::open(path).map_err(|e| super::reading_failed(path, &e))?;
        // SAFETY: the file is private to this set's folder, is never written again once it has its
        // final content, and is only ever unlinked, which leaves the map intact.
        let map = unsafe { Mmap::map(&file) }.map_err(|e| super::reading_failed(path, &e))?;
        Self::check(map, dim).map_err(|reason| IndexError::damaged(path, reason))
    }

    fn check(map: Mmap, dim: usize) -> Result<Self, &'static str> {
        let header = map.get(..HEADER_BYTES).ok_or("shorter than a header")?;
        let word =
            |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().unwrap_or_default());
        if header[..8] != *MAGIC {
            return Err("not a segment of this version");
        }
        let checksum = word(HEADER_BYTES - 4);
        if crc32c::crc32c(&header[..HEADER_BYTES - 4]) != checksum {
            return Err("the header's checksum does not match");
        }
        if word(8) as usize != dim {
            return Err("another dimension");
        }
        let rows = word(12) as usize;
        let tenants_bytes = word(16) as usize;
        let layout = Layout::of(tenants_bytes, rows, dim).ok_or("sizes overflow")?;
        if rows > ROWS_MAX || map.len() != layout.end {
            return Err("its length does not match");
        }
        let parts = [
            HEADER_BYTES..layout.ids,
            layout.ids..layout.order,
            layout.order..layout.vectors,
            layout.vectors..layout.end,
        ];
        for (i, part) in parts.into_iter().enumerate() {
            if crc32c::crc32c(&map[part]) != word(20 + 4 * i) {
                return Err("a checksum does not match");
            }
        }
        let tenants = parse_tenants(&map[HEADER_BYTES..HEADER_BYTES + tenants_bytes], rows)
            .ok_or("its tenants cannot be read")?;
        let this = Self { map, layout, dim, rows, tenants, checksum };
        let (ids, order) = (this.ids(), this.order());
        let mut last = None;
        for &row in order {
            let id = *ids.get(row as usize).ok_or("its order names a row it has not")?;
            if last.is_some_and(|last| last >= id) {
                return Err("its order is not rising");
            }
            last = Some(id);
        }
        Ok(this)
    }

    /// Values of a vector.
    pub(super) fn dim(&self) -> usize {
        self.dim
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// The header's checksum, which covers those of all parts: it tells one segment from another.
    pub(super) fn checksum(&self) -> u32 {
        self.checksum
    }

    pub(super) fn bytes(&self) -> usize {
        self.map.len()
    }

    /// The ids by row.
    pub(super) fn ids(&self) -> &[u128] {
        let bytes = &self.map[self.layout.ids..][..self.rows * 16];
        // SAFETY: a map starts at a page and the part at a multiple of 64 bytes, so the pointer is
        // aligned; the slice covers `rows` times 16 bytes; every bit pattern is a u128.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), self.rows) }
    }

    /// The rows in rising order of id.
    fn order(&self) -> &[u32] {
        let bytes = &self.map[self.layout.order..][..self.rows * 4];
        // SAFETY: as for `ids`, with 4 bytes a row.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), self.rows) }
    }

    /// The vector of a row below [`Segment::rows`].
    #[inline]
    pub(super) fn vector(&self, row: u32) -> &[f32] {
        let at = self.layout.vectors + row as usize * self.dim * 4;
        let bytes = &self.map[at..at + self.dim * 4];
        // SAFETY: the part starts at a multiple of 64 bytes of a map and each row is a multiple of
        // 4 bytes into it; the slice covers `dim` times 4 bytes; every bit pattern is an f32.
        unsafe { std::slice::from_raw_parts(bytes.as_ptr().cast(), self.dim) }
    }

    /// The row of an id.
    pub(super) fn find(&self, id: u128) -> Option<u32> {
        let ids = self.ids();
        let order = self.order();
        let place = order.binary_search_by_key(&id, |&row| ids[row as usize]);
        place.ok().map(|place| order[place])
    }

    /// The rows of a tenant; empty if it has none here.
    pub(super) fn tenant_rows(&self, tenant: &str) -> Range<u32> {
        let place = self.tenants.binary_search_by(|(name, _)| name.as_str().cmp(tenant));
        place.map_or(0..0, |place| self.tenants[place].1.clone())
    }

    /// Every row by number, dead ones too.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, Row<'_>)> {
        self.tenants.iter().flat_map(move |(tenant, rows)| {
            rows.clone().map(move |row| {
                let row_of = Row { tenant, id: self.ids()[row as usize], values: self.vector(row) };
                (row, row_of)
            })
        })
    }
}

fn parse_tenants(mut bytes: &[u8], rows: usize) -> Option<Vec<(String, Range<u32>)>> {
    let word = |bytes: &mut &[u8]| {
        let (word, rest) = bytes.split_first_chunk::<4>()?;
        *bytes = rest;
        Some(u32::from_le_bytes(*word))
    };
    let count = word(&mut bytes)?;
    let mut tenants: Vec<(String, Range<u32>)> = Vec::new();
    let mut start = 0;
    for _ in 0..count {
        let length = word(&mut bytes)? as usize;
        let (name, rest) = bytes.split_at_checked(length)?;
        bytes = rest;
        let name = std::str::from_utf8(name).ok()?.to_owned();
        let end = word(&mut bytes)?;
        if end <= start || tenants.last().is_some_and(|(last, _)| *last >= name) {
            return None;
        }
        tenants.push((name, start..end));
        start = end;
    }
    (start as usize == rows && bytes.is_empty()).then_some(tenants)
}

/// Writes a segment with the rows, whose ids must differ, and brings it to the disk.
pub(super) fn write(path: &Path, dim: usize, mut rows: Vec<Row<'_>>) -> io::Result<()> {
    if rows.len() > ROWS_MAX {
        return Err(io::Error::other("too many vectors for one segment"));
    }
    rows.sort_unstable_by_key(|row| (row.tenant, row.id));
    let mut order: Vec<u32> = (0..rows.len() as u32).collect();
    order.sort_unstable_by_key(|&row| rows[row as usize].id);

    let names: BTreeSet<&str> = rows.iter().map(|row| row.tenant).collect();
    let mut tenants = (names.len() as u32).to_le_bytes().to_vec();
    for name in names {
        let end = rows.partition_point(|row| row.tenant <= name) as u32;
        tenants.extend_from_slice(&(name.len() as u32).to_le_bytes());
        tenants.extend_from_slice(name.as_bytes());
        tenants.extend_from_slice(&end.to_le_bytes());
    }
    let layout = Layout::of(tenants.len(), rows.len(), dim)
        .ok_or_else(|| io::Error::other("too many vectors for one segment"))?;

    let mut out =
        Parts { file: BufWriter::with_capacity(1 << 18, File::create(path)?), at: 0, checksum: 0 };
    out.write(&[0; HEADER_BYTES])?;
    out.end_part(HEADER_BYTES)?;
    out.write(&tenants)?;
    let tenants_checksum = out.end_part(layout.ids)?;
    for row in &rows {
        out.write(&row.id.to_le_bytes())?;
    }
    let ids_checksum = out.end_part(layout.order)?;
    for row in &order {
        out.write(&row.to_le_bytes())?;
    }
    let order_checksum = out.end_part(layout.vectors)?;
    let mut encoded = Vec::with_capacity(dim * 4);
    for row in &rows {
        encoded.clear();
        row.values.iter().for_each(|v| encoded.extend_from_slice(&v.to_le_bytes()));
        out.write(&encoded)?;
    }
    let vectors_checksum = out.end_part(layout.end)?;

    let words = [
        dim as u32,
        rows.len() as u32,
        tenants.len() as u32,
        tenants_checksum,
        ids_checksum,
        order_checksum,
        vectors_checksum,
    ];
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    for (i, word) in words.into_iter().enumerate() {
        header[8 + 4 * i..12 + 4 * i].copy_from_slice(&word.to_le_bytes());
    }
    let checksum = crc32c::crc32c(&header[..HEADER_BYTES - 4]);
    header[HEADER_BYTES - 4..].copy_from_slice(&checksum.to_le_bytes());
    let mut file = out.file.into_inner().map_err(io::IntoInnerError::into_error)?;
    file.seek(SeekFrom::Start(0))?;
    file.write_all(&header)?;
    file.sync_all()
}

/// Writes part after part with a checksum each.
struct Parts {
    file: BufWriter<File>,
    at: usize,
    checksum: u32,
}

impl Parts {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.at += bytes.len();
        self.checksum = crc32c::crc32c_append(self.checksum, bytes);
        self.file.write_all(bytes)
    }

    /// Pads to where the next part starts and gives the checksum of this one.
    fn end_part(&mut self, next: usize) -> io::Result<u32> {
        let padding = [0; ALIGN];
        self.write(&padding[..next - self.at])?;
        Ok(std::mem::take(&mut self.checksum))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    fn sample(path: &Path) {
        let rows =
            [("b", 5, [1.0, 2.0, 3.0]), ("a", 9, [4.0; 3]), ("b", 2, [5.0; 3]), ("", 7, [6.0; 3])]
                .map(|(tenant, id, values)| (tenant, id, values));
        let rows =
            rows.iter().map(|(tenant, id, values)| Row { tenant, id: *id, values }).collect();
        write(path, 3, rows).unwrap();
    }

    #[test]
    fn a_segment_gives_back_what_went_in() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.seg");
        sample(&path);
        let segment = Segment::open(&path, 3).unwrap();
        assert_eq!(segment.rows(), 4);
        assert_eq!(segment.ids(), [7, 9, 2, 5]);
        assert_eq!(segment.tenant_rows("b"), 2..4);
        assert_eq!(segment.tenant_rows(""), 0..1);
        assert_eq!(segment.tenant_rows("c"), 0..0);
        assert_eq!(segment.find(5), Some(3));
        assert_eq!(segment.find(6), None);
        assert_eq!(segment.vector(3), [1.0, 2.0, 3.0]);
        let ids: Vec<_> =
            segment.iter().map(|(n, row)| (n, row.tenant.to_owned(), row.id)).collect();
        assert_eq!(ids[1], (1, "a".to_owned(), 9));
        assert!(Segment::open(&path, 4).is_err());
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("1.seg");
        sample(&path);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x40;
            let changed = dir.path().join("changed");
            fs::write(&changed, &bad).unwrap();
            assert!(
                matches!(Segment::open(&changed, 3), Err(IndexError::Damaged { .. })),
                "byte {at}"
            );
            fs::write(&changed, &good[..at]).unwrap();
            assert!(
                matches!(Segment::open(&changed, 3), Err(IndexError::Damaged { .. })),
                "cut at {at}"
            );
        }
    }
}
