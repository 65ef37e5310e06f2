//! Rows rounded to bytes: what a walk compares.
//!
//! A walk waits for memory more than it computes, and a quarter of the bytes is there in a quarter of
//! the time. Whoever walks compares what he has found once more in full.

use crate::kernels::CODE_BLOCK;
use crate::vector::segment::Segment;

/// Codes of a row: its values in steps of the same size each.
pub(super) type Code = [[i8; CODE_BLOCK]];

/// The rows of a segment as codes.
pub(super) struct Codes {
    /// Blocks of a row.
    blocks: usize,
    codes: Vec<[i8; CODE_BLOCK]>,
    /// By row: how large a step is.
    steps: Vec<f32>,
}

impl Codes {
    pub(super) fn of(segment: &Segment) -> Self {
        let blocks = segment.dim().div_ceil(CODE_BLOCK);
        let rows = segment.rows();
        let mut codes = vec![[0; CODE_BLOCK]; rows * blocks];
        let rounded = codes.chunks_exact_mut(blocks).zip(0..);
        let steps = rounded.map(|(code, row)| round(segment.vector(row), code)).collect();
        Self { blocks, codes, steps }
    }

    /// The codes of a row, and its step.
    pub(super) fn row(&self, row: u32) -> (&Code, f32) {
        (&self.codes[row as usize * self.blocks..][..self.blocks], self.steps[row as usize])
    }

    /// The same of any vector of as many values.
    pub(super) fn rounded(&self, values: &[f32]) -> (Vec<[i8; CODE_BLOCK]>, f32) {
        let mut code = vec![[0; CODE_BLOCK]; self.blocks];
        let step = round(values, &mut code);
        (code, step)
    }

    /// Memory in use.
    pub(super) fn bytes(&self) -> usize {
        self.codes.len() * CODE_BLOCK + self.steps.len() * 4
    }
}

/// Rounds values to 127 steps on either side of zero, and gives the size of a step.
fn round(values: &[f32], code: &mut Code) -> f32 {
    let largest = values.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
    if largest == 0.0 {
        return 0.0;
    }
    let steps = f32::from(i8::MAX) / largest;
    for (code, value) in code.as_flattened_mut().iter_mut().zip(values) {
        *code = (value * steps).round_ties_even() as i8;
    }
    largest / f32::from(i8::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_off_by_half_a_step_at_most() {
        let values: Vec<f32> = (0..100).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        let mut code = [[0; CODE_BLOCK]; 2];
        let step = round(&values, &mut code);
        assert_eq!(step, 1.0 / 127.0);
        for (value, &code) in values.iter().zip(code.as_flattened()) {
            assert!((value - f32::from(code) * step).abs() <= 0.5001 * step, "{value}: {code}");
        }
        assert!(code.as_flattened()[100..].iter().all(|&code| code == 0));
        assert_eq!(round(&[0.0; 3], &mut code[..1]), 0.0);
    }
}
