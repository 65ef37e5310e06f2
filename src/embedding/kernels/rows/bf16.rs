//! The loops that end in bf16, which products with tiles take.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::super::avx512::lines as by_hand;
use super::super::{Isa, Kernel, Line, PANEL, SumsF32, in_strip, words_mut};
use super::{LANES, fold, rough_exp, rough_gelu};

/// A line of some rows.
pub(in crate::embedding) struct LineOf<'a> {
    pub(in crate::embedding) strips: &'a mut [Line],
    /// Lines of a row.
    pub(in crate::embedding) depth: usize,
    /// Which of them.
    pub(in crate::embedding) line: usize,
    /// The rows.
    pub(in crate::embedding) places: &'a [usize],
}

for_each_isa! {
    /// Adds the bias to the [`LANES`] columns from `column` on and rounds them to bf16: as many rows as
    /// there are places for.
    fn finish_to_bf16(sums: &SumsF32, column: usize, bias: &[f32; LANES], out: LineOf<'_>) {
        let LineOf { strips, depth, line, places } = out;
        for (sums, place) in sums.0.iter().zip(places) {
            let mut made = [0.0; LANES];
            for ((made, x), b) in made.iter_mut().zip(&sums[column..][..LANES]).zip(bias) {
                *made = x + b;
            }
            round_chunk::<BF16>(&made, &mut strips[in_strip(*place, line, depth)]);
        }
    }
}

for_each_isa! {
    /// [`finish_gelu`], rounded to bf16, into the lines from this number on of each row, in strips
    /// of rows of `depth` lines.
    fn finish_gelu_to_bf16(
        sums: &SumsF32,
        rows: usize,
        bias: &[f32],
        out: &mut [Line],
        line: usize,
        depth: usize,
    ) {
        for (i, bias) in bias.chunks(LANES).enumerate() {
            #[cfg(target_arch = "x86_64")]
            if BF16 && let Ok(bias) = bias.try_into() {
                // SAFETY: the flag is set in functions with these instructions only.
                unsafe { by_hand::gelu_line(sums, rows, i * LANES, bias, out, line + i, depth) };
                continue;
            }
            // Behind the last column stands what nobody looks at.
            let mut biases = [0.0; LANES];
            biases[..bias.len()].copy_from_slice(bias);
            for (r, sums) in sums.0[..rows].iter().enumerate() {
                let sums = &sums[i * LANES..][..LANES];
                let mut made = [0.0; LANES];
                for ((made, x), b) in made.iter_mut().zip(sums).zip(&biases) {
                    *made = rough_gelu::<FMA>(x + b);
                }
                round_chunk::<BF16>(&made, &mut out[in_strip(r, line + i, depth)]);
            }
        }
    }
}

for_each_isa! {
    /// Turns the first `width` logits of a row, which go through the blocks one after the other,
    /// into weights from 0 to 1 in bf16, in strips of rows of `depth` lines, which are made up with
    /// zeros, and `inverses`: what scales a row's weights so that they sum to 1. As many rows as
    /// there are `inverses`.
    fn softmax_to_bf16(
        blocks: &[SumsF32],
        width: usize,
        out: &mut [Line],
        depth: usize,
        inverses: &mut [f32],
    ) {
        #[cfg(target_arch = "x86_64")]
        if BF16 {
            // SAFETY: the flag is set in functions with these instructions only.
            return unsafe { by_hand::softmax(blocks, width, out, depth, inverses) };
        }
        for (r, inverse) in inverses.iter_mut().enumerate() {
            let chunks = blocks.iter().flat_map(|block| block.0[r].as_chunks::<LANES>().0);
            let (n, more) = (width / LANES, width % LANES);
            // Behind the last logit there is nothing to add.
            let mut last = [f32::NEG_INFINITY; LANES];
            if let Some(chunk) = chunks.clone().nth(n) {
                last[..more].copy_from_slice(&chunk[..more]);
            }
            let mut lanes = last;
            for chunk in chunks.clone().take(n) {
                for (lane, &x) in lanes.iter_mut().zip(chunk) {
                    *lane = if x > *lane { x } else { *lane };
                }
            }
            let max = fold(lanes, |a, b| if a > b { a } else { b });
            let mut sums = [0.0; LANES];
            for (i, chunk) in chunks.take(n).enumerate() {
                let out = out[in_strip(r, i, depth)].halves_mut();
                weigh::<FMA>(chunk, max, &mut sums, out);
            }
            if more > 0 {
                let out = out[in_strip(r, n, depth)].halves_mut();
                weigh::<FMA>(&last, max, &mut sums, out);
                out[more..].fill(0);
            }
            for i in width.div_ceil(LANES)..depth {
                out[in_strip(r, i, depth)] = Line::ZERO;
            }
            *inverse = 1.0 / fold(sums, |a, b| a + b);
        }
    }
}

/// The weights of some logits, and their sums.
#[inline(always)]
fn weigh<const FMA: bool>(
    logits: &[f32; LANES],
    max: f32,
    sums: &mut [f32; LANES],
    out: &mut [u16; LANES],
) {
    let mut weights = [0.0; LANES];
    for ((weight, sum), x) in weights.iter_mut().zip(sums).zip(logits) {
        *weight = rough_exp::<FMA>(x - max);
        *sum += *weight;
    }
    for (x, out) in weights.iter().zip(out) {
        *out = (rounded(*x) >> 16) as u16;
    }
}

for_each_isa! {
    /// Rounds the first `width` of each `stride` numbers to bf16, to the nearest and ties to even,
    /// into the first places of the rows of strips, `depth` lines each: as many rows as there are in
    /// both.
    fn round_to_bf16(rows: &[f32], stride: usize, width: usize, out: &mut [Line], depth: usize) {
        for (r, row) in rows.chunks(stride).take(out.len() / depth).enumerate() {
            let (chunks, rest) = row[..width].as_chunks::<LANES>();
            for (i, chunk) in chunks.iter().enumerate() {
                round_chunk::<BF16>(chunk, &mut out[in_strip(r, i, depth)]);
            }
            if !rest.is_empty() {
                let line = out[in_strip(r, chunks.len(), depth)].halves_mut();
                for (x, out) in rest.iter().zip(line) {
                    *out = (rounded(*x) >> 16) as u16;
                }
            }
        }
    }
}

for_each_isa! {
    /// Makes panels whose columns are the rows of strips of these strips, in place.
    fn turn_strips(strips: &mut [Line]) {
        for square in strips.as_chunks_mut::<PANEL>().0 {
            turn::<BF16>(square);
        }
    }
}

/// Makes columns of rows: of 16 lines, each of 16 pairs of 16-bit numbers.
#[inline(always)]
fn turn<const BF16: bool>(square: &mut [Line; PANEL]) {
    #[cfg(target_arch = "x86_64")]
    if BF16 {
        // SAFETY: the flag is set in functions with these instructions only.
        return unsafe { by_hand::turn(square) };
    }
    let rows = *square;
    for (c, line) in words_mut(square).as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
        for (word, row) in line.iter_mut().zip(&rows) {
            *word = row.words()[c];
        }
    }
}

for_each_isa! {
    /// The panels of a product of bf16 whose rows are the first `n` rows of strips of `depth` lines:
    /// made up with zeros to panels of a multiple of 16 lines, two for each of the `depth` lines.
    fn pair_strips(strips: &[Line], n: usize, depth: usize, panels: &mut [Line]) {
        let reach = panels.len() / (2 * depth);
        for (i, both) in panels.chunks_exact_mut(2 * reach).enumerate() {
            let (low, high) = both.split_at_mut(reach);
            for (j, (low, high)) in low.iter_mut().zip(high).enumerate() {
                let of = |row| match row {
                    row if row < n => strips[in_strip(row, i, depth)],
                    _ => Line::ZERO,
                };
                (*low, *high) = if 2 * j < n {
                    interleave::<BF16>(&of(2 * j), &of(2 * j + 1))
                } else {
                    (Line::ZERO, Line::ZERO)
                };
            }
        }
    }
}

/// The 16-bit numbers of two lines by turns: of their first halves, and of their second ones.
#[inline(always)]
fn interleave<const BF16: bool>(even: &Line, odd: &Line) -> (Line, Line) {
    #[cfg(target_arch = "x86_64")]
    if BF16 {
        // SAFETY: the flag is set in functions with these instructions only.
        return unsafe { by_hand::interleave(even, odd) };
    }
    let mut made = (Line::ZERO, Line::ZERO);
    for (from, line) in [(0, &mut made.0), (LANES / 2, &mut made.1)] {
        let numbers = even.halves()[from..].iter().zip(&odd.halves()[from..]);
        for (pair, (even, odd)) in line.halves_mut().as_chunks_mut::<2>().0.iter_mut().zip(numbers)
        {
            *pair = [*even, *odd];
        }
    }
    made
}

for_each_isa! {
    /// The first sums of each row times what scales it, rounded to bf16, into the lines `to` of the
    /// rows from `first` on of strips of `depth` lines. As many rows as there are `scales`.
    fn scale_to_bf16(
        sums: &SumsF32,
        scales: &[f32],
        out: &mut [Line],
        first: usize,
        to: Range<usize>,
        depth: usize,
    ) {
        for (r, (sums, scale)) in sums.0.iter().zip(scales).enumerate() {
            for (line, sums) in to.clone().zip(sums.as_chunks::<LANES>().0) {
                let mut made = [0.0; LANES];
                for (made, x) in made.iter_mut().zip(sums) {
                    *made = x * scale;
                }
                round_chunk::<BF16>(&made, &mut out[in_strip(first + r, line, depth)]);
            }
        }
    }
}

/// The bits of a number whose upper half is the number as bf16: to the nearest, ties to even. The
/// number is finite.
#[inline(always)]
fn rounded(x: f32) -> u32 {
    let bits = x.to_bits();
    bits.wrapping_add(0x7fff + ((bits >> 16) & 1))
}

/// Rounds `numbers` to bf16 as [`rounded`] does; where there is one by the instruction for that,
/// which makes 0 of what is below 1.2e-38.
#[inline(always)]
fn round_chunk<const BF16: bool>(numbers: &[f32; LANES], line: &mut Line) {
    #[cfg(target_arch = "x86_64")]
    if BF16 {
        // SAFETY: the flag is set in functions with these instructions only.
        return unsafe { by_hand::round(numbers, line) };
    }
    for (x, out) in numbers.iter().zip(line.halves_mut()) {
        *out = (rounded(*x) >> 16) as u16;
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::super::super::{BLOCK, COLUMNS, Sums, finish_gelu, lines::halves};
    use super::*;

    fn kernels() -> impl Iterator<Item = Kernel> {
        let there = Isa::ALL.into_iter().filter(|isa| isa.is_available());
        there.map(|isa| Kernel::choose(Some(isa)).unwrap())
    }

    fn block(number: impl Fn(usize, usize) -> f32) -> SumsF32 {
        let row = |r| std::array::from_fn(|c| number(r, c));
        Sums(std::array::from_fn(row))
    }

    /// The numbers of a row of strips of rows of `depth` lines.
    fn row(lines: &[Line], r: usize, depth: usize) -> Vec<u16> {
        (0..depth).flat_map(|i| halves(&lines[in_strip(r, i, depth)..][..1]).to_vec()).collect()
    }

    #[test]
    fn weights_are_those_of_softmax_and_nothing_stands_behind_them() {
        let logit = |r: usize, c: usize| ((r * 31 + c * 17) % 97) as f32 / 9.0 - 4.0;
        for width in [1usize, 5, 31, 32, 33, 63, 64, 65, 96, 130, 200] {
            // What is behind the last logit is of no use.
            let blocks: Vec<SumsF32> = (0..width.div_ceil(COLUMNS))
                .map(|i| block(|r, c| if i * 64 + c < width { logit(r, i * 64 + c) } else { 1e30 }))
                .collect();
            let depth = width.div_ceil(Line::HALVES);
            for kernel in kernels() {
                for rows in [1, 7, BLOCK] {
                    let untouched = Line([0x55; 64]);
                    let mut lines = vec![untouched; BLOCK * depth];
                    let mut inverses = vec![0.0; rows];
                    softmax_to_bf16(kernel, &blocks, width, &mut lines, depth, &mut inverses);
                    for (r, inverse) in inverses.into_iter().enumerate() {
                        let weights: Vec<f64> =
                            (0..width).map(|c| f64::from(logit(r, c)).exp()).collect();
                        let sum: f64 = weights.iter().sum();
                        let got = row(&lines, r, depth);
                        for (got, want) in got.iter().zip(&weights) {
                            let got = f64::from(bf16::from_bits(*got)) * f64::from(inverse);
                            let (isa, want) = (kernel.isa(), want / sum);
                            assert!(
                                (got - want).abs() < 4e-3 * want + 1e-9,
                                "{isa} {width}: {got} {want}"
                            );
                        }
                        assert!(got[width..].iter().all(|&x| x == 0), "{} {width}", kernel.isa());
                    }
                    let others = (rows..BLOCK).flat_map(|r| row(&lines, r, depth));
                    assert!(others.collect::<Vec<_>>().iter().all(|&x| x == 0x5555));
                }
            }
        }
    }

    #[test]
    fn sums_become_lines_as_they_become_floats() {
        let sums = block(|r, c| ((r * 13 + c * 7) % 41) as f32 / 4.0 - 5.0);
        let bias: Vec<f32> = (0..COLUMNS).map(|c| c as f32 / 50.0 - 0.6).collect();
        for kernel in kernels() {
            for width in [16, 32, 48, 64] {
                let (depth, rows) = (5, 19);
                let mut lines = vec![Line([0x55; 64]); BLOCK * depth];
                finish_gelu_to_bf16(kernel, &sums, rows, &bias[..width], &mut lines, 2, depth);
                let mut floats = vec![0.0; rows * COLUMNS];
                finish_gelu(kernel, &sums, rows, &bias[..width], &mut floats, COLUMNS);
                for r in 0..rows {
                    let got = row(&lines, r, depth);
                    let (before, got) = got.split_at(2 * Line::HALVES);
                    assert!(before.iter().all(|&x| x == 0x5555));
                    for (got, x) in got.iter().zip(&floats[r * COLUMNS..][..width]) {
                        let (got, want) = (bf16::from_bits(*got).to_f32(), x);
                        assert!(
                            (got - want).abs() <= want.abs() / 250.0 + 1e-30,
                            "{}",
                            kernel.isa()
                        );
                    }
                    let lines = width.next_multiple_of(Line::HALVES);
                    assert!(got[lines..].iter().all(|&x| x == 0x5555));
                }
            }
        }
    }
}
