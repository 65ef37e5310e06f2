//! Inner products as distances.
//!
//! One more coordinate brings every row to the length of the longest, R; then the nearest row is
//! the one with the largest product: the square of the distance is `2 (R² - x·y - x'y')`. A query
//! has 0 there. The reduction is that of "Speeding Up the Xbox Recommender System" (RecSys 2014).

use super::segment::Segment;
use crate::Kernels;

/// The extra coordinate of every row of a segment.
#[derive(Debug, Clone, Default)]
pub(super) struct Lift {
    by_row: Vec<f32>,
    /// R².
    pub(super) square: f32,
}

impl Lift {
    pub(super) fn of(segment: &Segment, kernels: Kernels) -> Self {
        let square = |row| {
            let values = segment.vector(row);
            kernels.dot(values, values)
        };
        let mut by_row: Vec<f32> = (0..segment.rows() as u32).map(square).collect();
        let longest = by_row.iter().copied().fold(0.0, f32::max);
        by_row.iter_mut().for_each(|square| *square = (longest - *square).max(0.0).sqrt());
        Self { by_row, square: longest }
    }

    /// The extra coordinate of a row.
    pub(super) fn at(&self, row: u32) -> f32 {
        self.by_row[row as usize]
    }
}
