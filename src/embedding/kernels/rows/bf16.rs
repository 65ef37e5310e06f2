//! The loops that end in bf16, which products with tiles take.

use super::super::{Isa, Kernel, Line, PANEL, SumsF32, in_strip, words_mut};
use super::{LANES, fold, rough_exp, rough_gelu};

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
            // Behind the last column stands what nobody looks at.
            let mut biases = [0.0; LANES];
            biases[..bias.len()].copy_from_slice(bias);
            for (r, sums) in sums.0[..rows].iter().enumerate() {
                let sums = &sums[i * LANES..][..LANES];
                let mut made = [0.0; LANES];
                for ((made, x), b) in made.iter_mut().zip(sums).zip(&biases) {
                    *made = rough_gelu::<FMA>(x + b);
                }
                round_chunk::<BF16>(&made, out[in_strip(r, line + i, depth)].halves_mut());
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
                weigh::<FMA, BF16>(chunk, max, &mut sums, out);
            }
            if more > 0 {
                let out = out[in_strip(r, n, depth)].halves_mut();
                weigh::<FMA, BF16>(&last, max, &mut sums, out);
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
fn weigh<const FMA: bool, const BF16: bool>(
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
    round_chunk::<BF16>(&weights, out);
}

for_each_isa! {
    /// Rounds the first `width` of each `stride` numbers to bf16, to the nearest and ties to even,
    /// into the first places of the rows of strips, `depth` lines each: as many rows as there are in
    /// both.
    fn round_to_bf16(rows: &[f32], stride: usize, width: usize, out: &mut [Line], depth: usize) {
        for (r, row) in rows.chunks(stride).take(out.len() / depth).enumerate() {
            let (chunks, rest) = row[..width].as_chunks::<LANES>();
            for (i, chunk) in chunks.iter().enumerate() {
                round_chunk::<BF16>(chunk, out[in_strip(r, i, depth)].halves_mut());
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
    /// The panels of a product of bf16 whose columns are rows: as many columns as there are rows,
    /// made up to whole panels with zeros, and `width` deep, which must be whole lines.
    fn turn_to_bf16(rows: &[f32], stride: usize, width: usize, panels: &mut [Line]) {
        for (rows, panel) in rows.chunks(stride * PANEL).zip(panels.chunks_exact_mut(width / 2)) {
            let squares = panel.as_chunks_mut::<PANEL>().0.iter_mut().enumerate();
            for (i, square) in squares {
                *square = [Line::ZERO; PANEL];
                for (row, line) in rows.chunks(stride).zip(&mut *square) {
                    let numbers = row[i * LANES..].first_chunk::<LANES>();
                    if let Some(numbers) = numbers {
                        round_chunk::<BF16>(numbers, line.halves_mut());
                    }
                }
                turn::<BF16>(square);
            }
        }
    }
}

/// Makes columns of rows: of 16 lines, each of 16 pairs of 16-bit numbers.
#[inline(always)]
fn turn<const AVX512: bool>(square: &mut [Line; PANEL]) {
    #[cfg(target_arch = "x86_64")]
    if AVX512 {
        use std::arch::x86_64::*;
        // SAFETY: the flag is set in functions with these instructions only; sixteen whole lines
        // are read and written.
        unsafe {
            let line: [__m512i; PANEL] =
                std::array::from_fn(|r| _mm512_load_si512(square[r].0.as_ptr().cast()));
            // In every fourth of a line: pairs of rows, then fours of rows.
            let pairs: [__m512i; PANEL] = std::array::from_fn(|i| {
                let (low, high) = (line[i & !1], line[i | 1]);
                if i & 1 == 0 {
                    _mm512_unpacklo_epi32(low, high)
                } else {
                    _mm512_unpackhi_epi32(low, high)
                }
            });
            let fours: [__m512i; PANEL] = std::array::from_fn(|i| {
                let first = (i & !3) + (i & 3) / 2;
                let (low, high) = (pairs[first], pairs[first + 2]);
                if i & 1 == 0 {
                    _mm512_unpacklo_epi64(low, high)
                } else {
                    _mm512_unpackhi_epi64(low, high)
                }
            });
            // Then the fourths themselves: the first and third, or second and fourth, of each.
            const EVEN: i32 = 0b10_00_10_00;
            const ODD: i32 = 0b11_01_11_01;
            for j in 0..4 {
                let (a, b, c, d) = (fours[j], fours[4 + j], fours[8 + j], fours[12 + j]);
                let even = (_mm512_shuffle_i32x4::<EVEN>(a, b), _mm512_shuffle_i32x4::<EVEN>(c, d));
                let odd = (_mm512_shuffle_i32x4::<ODD>(a, b), _mm512_shuffle_i32x4::<ODD>(c, d));
                let mut put = |column: usize, line| {
                    _mm512_store_si512(square[column].0.as_mut_ptr().cast(), line);
                };
                put(j, _mm512_shuffle_i32x4::<EVEN>(even.0, even.1));
                put(4 + j, _mm512_shuffle_i32x4::<EVEN>(odd.0, odd.1));
                put(8 + j, _mm512_shuffle_i32x4::<ODD>(even.0, even.1));
                put(12 + j, _mm512_shuffle_i32x4::<ODD>(odd.0, odd.1));
            }
        }
        return;
    }
    let rows = *square;
    for (c, line) in words_mut(square).as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
        for (word, row) in line.iter_mut().zip(&rows) {
            *word = row.words()[c];
        }
    }
}

for_each_isa! {
    /// The panels of a product of bf16 whose rows are `rows`, made up to whole lines with zeros:
    /// `width` columns, which must be whole panels, and `depth` lines deep.
    fn pair_to_bf16(rows: &[f32], stride: usize, width: usize, panels: &mut [Line], depth: usize) {
        for (p, panel) in panels.chunks_exact_mut(depth * PANEL).take(width / PANEL).enumerate() {
            let mut pairs = rows.chunks(2 * stride);
            for line in panel {
                let Some(pair) = pairs.next() else {
                    *line = Line::ZERO;
                    continue;
                };
                let mut both = [0.0; LANES];
                both[..PANEL].copy_from_slice(&pair[p * PANEL..][..PANEL]);
                if let Some(high) = pair.get(stride + p * PANEL..) {
                    both[PANEL..].copy_from_slice(&high[..PANEL]);
                }
                let mut halves = [0; LANES];
                round_chunk::<BF16>(&both, &mut halves);
                let line = line.halves_mut();
                for i in 0..PANEL {
                    line[2 * i] = halves[i];
                    line[2 * i + 1] = halves[PANEL + i];
                }
            }
        }
    }
}

for_each_isa! {
    /// The first `width` sums of each row, which must be whole [`LANES`], times what scales it, into
    /// rows of `out` that are `stride` apart. As many rows as there are `scales`.
    fn scale_rows(sums: &SumsF32, scales: &[f32], width: usize, out: &mut [f32], stride: usize) {
        for ((sums, scale), out) in sums.0.iter().zip(scales).zip(out.chunks_mut(stride)) {
            let (sums, _) = sums[..width].as_chunks::<LANES>();
            let (out, _) = out[..width].as_chunks_mut::<LANES>();
            for (sums, out) in sums.iter().zip(out) {
                for (sum, out) in sums.iter().zip(out) {
                    *out = sum * scale;
                }
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
fn round_chunk<const BF16: bool>(numbers: &[f32; LANES], out: &mut [u16; LANES]) {
    #[cfg(target_arch = "x86_64")]
    if BF16 {
        use std::arch::x86_64::*;
        // SAFETY: `BF16` is set in functions with these instructions only; 32 floats are read and
        // 32 halves of them written.
        unsafe {
            let low = _mm512_loadu_ps(numbers.as_ptr());
            let high = _mm512_loadu_ps(numbers.as_ptr().add(LANES / 2));
            let both: __m512bh = _mm512_cvtne2ps_pbh(high, low);
            _mm512_storeu_si512(
                out.as_mut_ptr().cast(),
                std::mem::transmute::<__m512bh, __m512i>(both),
            );
        }
        return;
    }
    for (x, out) in numbers.iter().zip(out) {
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
