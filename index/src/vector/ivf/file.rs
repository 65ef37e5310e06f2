//! The file of a segment's lists.
//!
//! ```text
//! own       lists wanted, lists
//! centres   f32, list by list
//! starts    u32: where each list starts, and the end of the last
//! members   u32: the rows, list by list
//! ```
//!
//! It is read into memory whole: it has a few bytes a row.

use std::io;
use std::path::Path;

use super::{Ivf, lists_for};
use crate::IndexError;
use crate::vector::IvfParams;
use crate::vector::segment::Segment;
use crate::vector::sidecar::Sidecar;

const MAGIC: [u8; 8] = *b"AKGIVFL1";

impl Ivf {
    /// Replaces the file of the lists.
    pub(in crate::vector) fn save(&self, path: &Path, segment: &Segment) -> io::Result<()> {
        let Self { dim: _, wanted, centers, starts, members } = self;
        let own = [*wanted as u32, self.lists() as u32];
        let centers = centers.iter().map(|value| value.to_bits());
        let words = centers.chain(starts.iter().chain(members).copied());
        Sidecar::save(path, MAGIC, segment, own, words)
    }

    /// The lists of a segment, if there is a file of them that was made with these parameters.
    pub(in crate::vector) fn open(
        path: &Path,
        segment: &Segment,
        params: IvfParams,
    ) -> Result<Option<Self>, IndexError> {
        let Some(sidecar) = Sidecar::load(path, MAGIC, segment)? else { return Ok(None) };
        let lists = parse(&sidecar, segment);
        let lists = lists.map_err(|reason| IndexError::damaged(path, reason))?;
        Ok(Some(lists).filter(|lists| lists.wanted == lists_for(segment.rows(), params)))
    }
}

fn parse(sidecar: &Sidecar, segment: &Segment) -> Result<Ivf, &'static str> {
    let (dim, rows) = (segment.dim(), segment.rows());
    let [wanted, lists] = sidecar.own.map(|word| word as usize);
    let values = sidecar.words();
    let centers = lists.checked_mul(dim).filter(|_| lists > 0);
    let length = centers.and_then(|n| n.checked_add(lists)?.checked_add(1)?.checked_add(rows));
    if length != Some(values.len()) {
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
