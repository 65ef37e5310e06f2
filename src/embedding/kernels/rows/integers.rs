//! The loops of attention that begin or end in 16-bit integers.

use super::super::{Isa, Kernel, Line, PANEL, SumsI32, words_mut};
use super::{LANES, SHIFTER, fma, fold, rough_exp};

/// The largest weight.
const WEIGHT_MAX: f32 = i16::MAX as f32;

for_each_isa! {
    /// Rounds the first [`LANES`] of each `stride` numbers to integers, so that the largest of all
    /// becomes `limit` or its opposite; a line a row, as many as there are lines. `scale` becomes
    /// what a 1 stands for.
    fn quantise_lines(
        rows: &[f32],
        stride: usize,
        limit: f32,
        out: &mut [Line],
        scale: &mut f32,
    ) {
        let rows = || rows.chunks(stride).filter_map(|row| row.first_chunk::<LANES>());
        let mut lanes = [0.0; LANES];
        for row in rows().take(out.len()) {
            raise(&mut lanes, row);
        }
        let largest = fold(lanes, |a, b| if a > b { a } else { b });
        let inverse = if largest > 0.0 { limit / largest } else { 0.0 };
        *scale = largest / limit;
        for (row, out) in rows().zip(out) {
            for (x, out) in row.iter().zip(out.halves_mut()) {
                *out = fma::<FMA>(*x, inverse, SHIFTER).to_bits() as u16;
            }
        }
    }
}

/// Makes of each of `largest` the magnitude of `x` if that is larger.
#[inline(always)]
fn raise(largest: &mut [f32; LANES], x: &[f32; LANES]) {
    for (largest, x) in largest.iter_mut().zip(x) {
        let x = x.abs();
        *largest = if x > *largest { x } else { *largest };
    }
}

for_each_isa! {
    /// Turns the first `width` scores of a row, which go through the blocks one after the other, into
    /// weights, in as many lines a row as hold one for each, made up with zeros; and `factors` into
    /// what a weight of 1 stands for, when all of a row sum to 1. As many rows as there are
    /// `factors`. `scale` is the logit that a score of 1 stands for. No row's weights sum to more
    /// than `most`, but for their being rounded. `room` is for the numbers of a row.
    #[expect(clippy::too_many_arguments, reason = "the parts of one call, taken apart")]
    fn softmax_to_i16(
        blocks: &[SumsI32],
        width: usize,
        scale: f32,
        most: f32,
        room: &mut [f32],
        out: &mut [Line],
        factors: &mut [f32],
    ) {
        let (n, more) = (width / LANES, width % LANES);
        let room = &mut room.as_chunks_mut::<LANES>().0[..width.div_ceil(LANES)];
        let rows = out.chunks_exact_mut(room.len());
        for (r, (factor, weights)) in factors.iter_mut().zip(rows).enumerate() {
            let chunks = blocks.iter().flat_map(|block| block.0[r].as_chunks::<LANES>().0);
            let mut last = [i32::MIN; LANES];
            if let Some(chunk) = chunks.clone().nth(n) {
                last[..more].copy_from_slice(&chunk[..more]);
            }
            let mut lanes = last;
            for chunk in chunks.clone().take(n) {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane = if x > *lane { x } else { *lane };
                }
            }
            let max = fold(lanes, |a, b| if a > b { a } else { b }) as f32;
            let mut sums = [0.0; LANES];
            let chunks = chunks.take(n).chain([&last]).enumerate();
            for (room, (i, chunk)) in room.iter_mut().zip(chunks) {
                for (out, x) in room.iter_mut().zip(chunk) {
                    *out = rough_exp::<FMA>((*x as f32 - max) * scale);
                }
                if i == n {
                    // Behind the last score there is nothing that weighs, whatever the scale.
                    room[more..].fill(0.0);
                }
                for (sum, x) in sums.iter_mut().zip(room) {
                    *sum += *x;
                }
            }
            let sum = fold(sums, |a, b| a + b);
            let most = most / sum;
            let one = if most < WEIGHT_MAX { most } else { WEIGHT_MAX };
            *factor = 1.0 / (one * sum);
            for (room, weights) in room.iter().zip(weights) {
                for (x, weight) in room.iter().zip(weights.halves_mut()) {
                    *weight = fma::<FMA>(*x, one, SHIFTER).to_bits() as u16;
                }
            }
        }
    }
}

for_each_isa! {
    /// The panels of a product of integers whose rows are the first [`LANES`] of each `stride`
    /// numbers, of `n` rows, each column rounded so that its largest becomes `limit` or its
    /// opposite: two panels, made up with zeros. `scales` becomes what a 1 in a column stands for.
    fn pair_values(
        rows: &[f32],
        stride: usize,
        n: usize,
        limit: f32,
        panels: &mut [Line],
        scales: &mut [f32; LANES],
    ) {
        let row = |t: usize| rows[t * stride..].first_chunk::<LANES>();
        let mut largest = [0.0; LANES];
        for x in (0..n).filter_map(row) {
            raise(&mut largest, x);
        }
        let mut inverses = [0.0; LANES];
        for ((inverse, scale), largest) in inverses.iter_mut().zip(scales).zip(largest) {
            *inverse = if largest > 0.0 { limit / largest } else { 0.0 };
            *scale = largest / limit;
        }
        let (low, high) = panels.split_at_mut(panels.len() / 2);
        let lines = words_mut(low).as_chunks_mut::<PANEL>().0.iter_mut();
        let lines = lines.zip(words_mut(high).as_chunks_mut::<PANEL>().0);
        let zeros = [0.0; LANES];
        for (i, (low, high)) in lines.enumerate() {
            let of = |t: usize| if t < n { row(t).unwrap_or(&zeros) } else { &zeros };
            let (even, odd) = (of(2 * i), of(2 * i + 1));
            let mut words = [0; LANES];
            for (((word, even), odd), inverse) in words.iter_mut().zip(even).zip(odd).zip(inverses) {
                let even = fma::<FMA>(*even, inverse, SHIFTER).to_bits() & 0xffff;
                *word = even | fma::<FMA>(*odd, inverse, SHIFTER).to_bits() << 16;
            }
            low.copy_from_slice(&words[..PANEL]);
            high.copy_from_slice(&words[PANEL..]);
        }
    }
}
