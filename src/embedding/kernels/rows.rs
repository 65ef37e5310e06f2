//! The loops between the matrix products, over rows of numbers.
//!
//! They are plain Rust without a branch in the inner loop, so that the compiler turns them into
//! vector code; each is compiled once more for AVX2 and AVX-512 and chosen by the [`Kernel`],
//! because the program itself is built for any x86-64.

#[cfg(test)]
mod tests;

use std::hint::black_box;

use super::{Isa, Kernel, Line, SumsF32, SumsI32};

/// Independent partial sums; float addition is not reordered by the compiler, so a sum is only
/// vectorised if it is written as several.
const LANES: usize = 32;

/// What turns the sums of some columns into outputs.
#[derive(Clone, Copy)]
pub(in crate::embedding) struct Columns<'a> {
    /// What a weight of 1 stands for.
    pub(in crate::embedding) scales: &'a [f32],
    pub(in crate::embedding) bias: &'a [f32],
}

/// A layer norm's weights.
pub(in crate::embedding) struct Affine {
    pub(in crate::embedding) gain: Vec<f32>,
    pub(in crate::embedding) shift: Vec<f32>,
    pub(in crate::embedding) epsilon: f32,
}

/// Defines a function whose body is compiled for several instruction sets. `FMA` is whether
/// [`fma`] is one instruction, `BF16` whether [`round_all`] is.
macro_rules! for_each_isa {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        pub(in crate::embedding) fn $name(kernel: Kernel, $($arg: $type),*) {
            #[inline(always)]
            fn body<const FMA: bool, const BF16: bool>($($arg: $type),*) $body

            match kernel.isa() {
                #[cfg(target_arch = "x86_64")]
                Isa::Amx => {
                    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512bf16,fma")]
                    fn amx($($arg: $type),*) {
                        body::<true, true>($($arg),*);
                    }
                    // SAFETY: the kernel proves that the processor has the instructions.
                    unsafe { amx($($arg),*) }
                }
                #[cfg(target_arch = "x86_64")]
                Isa::Avx512Vnni => {
                    #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                    fn avx512($($arg: $type),*) {
                        body::<true, false>($($arg),*);
                    }
                    // SAFETY: as above.
                    unsafe { avx512($($arg),*) }
                }
                #[cfg(target_arch = "x86_64")]
                Isa::Avx2 => {
                    #[target_feature(enable = "avx2,fma")]
                    fn avx2($($arg: $type),*) {
                        body::<true, false>($($arg),*);
                    }
                    // SAFETY: as above.
                    unsafe { avx2($($arg),*) }
                }
                _ => body::<false, false>($($arg),*),
            }
        }
    };
}

// Behind the macro, which it uses.
mod bf16;
mod integers;

pub(in crate::embedding) use bf16::{
    LineOf, finish_gelu_to_bf16, finish_to_bf16, pair_strips, round_to_bf16, scale_to_bf16,
    softmax_to_bf16, turn_strips,
};
pub(in crate::embedding) use integers::{pair_values, quantise_lines, softmax_to_i16};

for_each_isa! {
    /// Turns a block's sums into floats and adds the bias: as many rows as there are `scales`, what
    /// a 1 in the row stood for, and as many columns as `columns` has, into rows of `out` that are
    /// `stride` apart.
    fn dequantise(sums: &SumsI32, scales: &[f32], columns: Columns<'_>, out: &mut [f32], stride: usize) {
        dequantise_with::<FMA>(sums, scales, columns, out, stride, |x| x);
    }
}

for_each_isa! {
    /// [`dequantise`], then [`rough_gelu`].
    fn dequantise_gelu(sums: &SumsI32, scales: &[f32], columns: Columns<'_>, out: &mut [f32], stride: usize) {
        dequantise_with::<FMA>(sums, scales, columns, out, stride, rough_gelu::<FMA>);
    }
}

#[inline(always)]
fn dequantise_with<const FMA: bool>(
    sums: &SumsI32,
    scales: &[f32],
    columns: Columns<'_>,
    out: &mut [f32],
    stride: usize,
    then: impl Fn(f32) -> f32,
) {
    let Columns { scales: column_scales, bias } = columns;
    let width = bias.len();
    let column_scales = &column_scales[..width];
    for ((&scale, sums), out) in scales.iter().zip(&sums.0).zip(out.chunks_mut(stride)) {
        let (sums, out) = (&sums[..width], &mut out[..width]);
        for c in 0..width {
            out[c] = then(fma::<FMA>(sums[c] as f32, scale * column_scales[c], bias[c]));
        }
    }
}

for_each_isa! {
    /// Adds the bias to the first `rows` rows of a block, into rows of `out` that are `stride`
    /// apart.
    fn finish(sums: &SumsF32, rows: usize, bias: &[f32], out: &mut [f32], stride: usize) {
        finish_with(sums, rows, bias, out, stride, |x| x);
    }
}

for_each_isa! {
    /// [`finish`], then [`rough_gelu`].
    fn finish_gelu(sums: &SumsF32, rows: usize, bias: &[f32], out: &mut [f32], stride: usize) {
        finish_with(sums, rows, bias, out, stride, rough_gelu::<FMA>);
    }
}

#[inline(always)]
fn finish_with(
    sums: &SumsF32,
    rows: usize,
    bias: &[f32],
    out: &mut [f32],
    stride: usize,
    then: impl Fn(f32) -> f32,
) {
    let rows = sums.0[..rows].iter().zip(out.chunks_mut(stride));
    if let Ok(bias) = <&[f32; LANES]>::try_from(bias) {
        // Nearly all blocks are of this width, and quicker for its being known.
        for (sums, out) in rows {
            for ((out, x), b) in out[..LANES].iter_mut().zip(sums).zip(bias) {
                *out = then(x + b);
            }
        }
    } else {
        for (sums, out) in rows {
            for ((out, x), b) in out.iter_mut().zip(sums).zip(bias) {
                *out = then(x + b);
            }
        }
    }
}

for_each_isa! {
    /// Adds `bias` to as many columns as it has, of rows that are `stride` apart.
    fn add_bias(rows: &mut [f32], stride: usize, bias: &[f32]) {
        for row in rows.chunks_mut(stride) {
            for (x, b) in row.iter_mut().zip(bias) {
                *x += b;
            }
        }
    }
}

for_each_isa! {
    /// [`add_bias`], then GELU, the exact one: `x · Φ(x)`.
    fn add_bias_gelu(rows: &mut [f32], stride: usize, bias: &[f32]) {
        for row in rows.chunks_mut(stride) {
            for (x, b) in row.iter_mut().zip(bias) {
                *x = gelu::<FMA>(*x + b);
            }
        }
    }
}

for_each_isa! {
    /// Adds `rows` to `x`, number by number, and normalises the first `affine.gain.len()` of each
    /// `stride` numbers of `x` to mean 0 and variance 1, then scales and shifts them.
    fn add_and_normalize(x: &mut [f32], rows: &[f32], stride: usize, affine: &Affine) {
        let Affine { gain, shift, epsilon } = affine;
        for (x, row) in x.chunks_exact_mut(stride).zip(rows.chunks_exact(stride)) {
            for (x, r) in x.iter_mut().zip(row) {
                *x += r;
            }
            normalize_row::<FMA>(&mut x[..gain.len()], gain, shift, *epsilon);
        }
    }
}

for_each_isa! {
    /// [`add_and_normalize`] with nothing to add.
    fn normalize(x: &mut [f32], stride: usize, affine: &Affine) {
        let Affine { gain, shift, epsilon } = affine;
        for x in x.chunks_exact_mut(stride) {
            normalize_row::<FMA>(&mut x[..gain.len()], gain, shift, *epsilon);
        }
    }
}

for_each_isa! {
    /// Turns the first `width` logits of each `stride` into weights from 0 to 1, and the rest into 0;
    /// and `inverses` into what scales a row's weights so that they sum to 1.
    fn softmax(rows: &mut [f32], stride: usize, width: usize, inverses: &mut [f32]) {
        for (row, inverse) in rows.chunks_exact_mut(stride).zip(inverses) {
            let (row, rest) = row.split_at_mut(width);
            let max = reduce(row, f32::NEG_INFINITY, |max, x| if x > max { x } else { max });
            let mut sums = [0.0; LANES];
            let (chunks, last) = row.as_chunks_mut::<LANES>();
            for chunk in chunks {
                for (x, sum) in chunk.iter_mut().zip(&mut sums) {
                    *x = exp::<FMA>(*x - max);
                    *sum += *x;
                }
            }
            for (x, sum) in last.iter_mut().zip(&mut sums) {
                *x = exp::<FMA>(*x - max);
                *sum += *x;
            }
            *inverse = 1.0 / fold(sums, |a, b| a + b);
            rest.fill(0.0);
        }
    }
}

for_each_isa! {
    /// Scales the first `width` of each `stride` numbers by the row's factor, into rows of `out` that
    /// are `out_stride` apart.
    fn scale(
        rows: &[f32],
        stride: usize,
        width: usize,
        factors: &[f32],
        out: &mut [f32],
        out_stride: usize,
    ) {
        let rows = rows.chunks_exact(stride).zip(out.chunks_mut(out_stride));
        for ((row, out), factor) in rows.zip(factors) {
            for (x, out) in row[..width].iter().zip(&mut out[..width]) {
                *out = x * factor;
            }
        }
    }
}

for_each_isa! {
    /// Rounds the first `width` of each `stride` numbers to integers, row by row, so that the
    /// largest becomes `limit` or its opposite. Each row takes `depth` lines of `out`, of which it
    /// fills the first `width` numbers, and one place of `scales`: what a 1 stands for.
    #[expect(clippy::too_many_arguments, reason = "a type for the rows would be taken apart at once")]
    fn quantise(
        rows: &[f32],
        stride: usize,
        width: usize,
        limit: f32,
        out: &mut [Line],
        depth: usize,
        scales: &mut [f32],
    ) {
        for ((row, out), scale) in
            rows.chunks_exact(stride).zip(out.chunks_exact_mut(depth)).zip(scales)
        {
            let row = &row[..width];
            let largest = reduce(row, 0.0, |largest, x| {
                let x = x.abs();
                if x > largest { x } else { largest }
            });
            // A row of zeros has no scale.
            let inverse = if largest > 0.0 { limit / largest } else { 0.0 };
            *scale = largest / limit;
            for (x, out) in row.iter().zip(super::halves_mut(out)) {
                *out = fma::<FMA>(*x, inverse, SHIFTER).to_bits() as u16;
            }
        }
    }
}

/// `a · b + c`.
#[inline(always)]
fn fma<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

#[inline(always)]
fn normalize_row<const FMA: bool>(row: &mut [f32], gain: &[f32], shift: &[f32], epsilon: f32) {
    let n = row.len() as f32;
    let mean = sum(row, |x| x) / n;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / n;
    let scale = 1.0 / (variance + epsilon).sqrt();
    for ((x, g), s) in row.iter_mut().zip(gain).zip(shift) {
        *x = fma::<FMA>((*x - mean) * scale, *g, *s);
    }
}

#[inline(always)]
fn sum(row: &[f32], value: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += value(x);
        }
    }
    let rest: f32 = rest.iter().map(|&x| value(x)).sum();
    fold(lanes, |a, b| a + b) + rest
}

/// All lanes made one by `pick`, half by half: one after the other, each step would wait for the
/// one before.
#[inline(always)]
fn fold<T: Copy>(lanes: [T; LANES], pick: impl Fn(T, T) -> T) -> T {
    // The compiler would shape the loop that filled the lanes after this one, two lanes at a time.
    let mut lanes = black_box(lanes);
    let mut n = LANES / 2;
    while n > 0 {
        for i in 0..n {
            lanes[i] = pick(lanes[i], lanes[i + n]);
        }
        n /= 2;
    }
    lanes[0]
}

/// All of `row` and `start` made one by `pick`, in any order.
#[inline(always)]
fn reduce(row: &[f32], start: f32, pick: impl Fn(f32, f32) -> f32) -> f32 {
    let mut lanes = [start; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane = pick(*lane, x);
        }
    }
    let rest = rest.iter().fold(start, |best, &x| pick(best, x));
    pick(fold(lanes, &pick), rest)
}

/// `x · Φ(x)`, with an error of at most 4e-7 · |x|.
///
/// `Φ` by formula 7.1.26 of Abramowitz and Stegun (absolute error 1.5e-7 in `erf`), on the side
/// where `1 - erf` is small, so that large negative `x` keep their relative accuracy too.
#[inline(always)]
fn gelu<const FMA: bool>(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / fma::<FMA>(0.327_591_1, z, 1.0);
    let p = fma::<FMA>(1.061_405_4, t, -1.453_152);
    let p = fma::<FMA>(p, t, 1.421_413_7);
    let p = fma::<FMA>(p, t, -0.284_496_74);
    let p = fma::<FMA>(p, t, 0.254_829_6);
    let tail = 0.5 * p * t * exp::<FMA>(-z * z);
    let phi = if x < 0.0 { tail } else { 1.0 - tail };
    x * phi
}

/// The odd polynomial of [`rough_gelu`], highest power first.
pub(super) const ROUGH_GELU: [f32; 7] = [
    2.278_001_2e-8,
    -1.598_524_1e-6,
    4.795_384_7e-5,
    -8.139_979e-4,
    8.772_295e-3,
    -6.457_288_2e-2,
    3.978_831_6e-1,
];

/// Where it ends on both sides.
pub(super) const ROUGH_GELU_MOST: f32 = 4.0;

/// `x · Φ(x)`, with an error of at most 2e-4 for |x| up to 12, and 1.5e-5 · |x| beyond.
///
/// `Φ(x) - ½` as an odd polynomial, fitted by least squares weighted towards the smallest largest
/// error of the product, over -4 to 4; outside it stays at its values there, ±½ but for 1.5e-5.
#[inline(always)]
fn rough_gelu<const FMA: bool>(x: f32) -> f32 {
    let z = if x < ROUGH_GELU_MOST { x } else { ROUGH_GELU_MOST };
    let z = if z > -ROUGH_GELU_MOST { z } else { -ROUGH_GELU_MOST };
    let y = z * z;
    let [first, rest @ ..] = ROUGH_GELU;
    let p = rest.into_iter().fold(first, |p, power| fma::<FMA>(p, y, power));
    x * fma::<FMA>(p, z, 0.5)
}

/// 1.5 · 2^23: added to a small float, it leaves the nearest integer in the low bits.
pub(super) const SHIFTER: f32 = 12_582_912.0;

/// `e^x` for `x` up to 88, with a relative error of at most 3e-7; below -87 it stays at `e^-87`,
/// about 1e-38.
#[inline(always)]
fn exp<const FMA: bool>(x: f32) -> f32 {
    // ln 2 in two parts, the first exact in few bits so that n · LN2_HIGH does not round.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x > -87.0 { x } else { -87.0 };
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, SHIFTER);
    let n = shifted - SHIFTER;
    let r = fma::<FMA>(-n, LN2_LOW, fma::<FMA>(-n, LN2_HIGH, x));
    // The Taylor series: |r| is at most ln 2 / 2, where its eighth term is below 6e-9.
    let p = fma::<FMA>(r, 1.0 / 5040.0, 1.0 / 720.0);
    let p = fma::<FMA>(p, r, 1.0 / 120.0);
    let p = fma::<FMA>(p, r, 1.0 / 24.0);
    let p = fma::<FMA>(p, r, 1.0 / 6.0);
    let p = fma::<FMA>(p, r, 0.5);
    let p = fma::<FMA>(p, r, 1.0);
    let p = fma::<FMA>(p, r, 1.0);
    let exponent = shifted.to_bits().wrapping_sub(SHIFTER.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(exponent)
}

/// The power of 2 on either side of 0, as [`rough_exp`] takes it, highest power first.
pub(super) const ROUGH_EXP: [f32; 4] = [5.517_162e-2, 2.426_111_7e-1, 6.932_61e-1, 9.999_280_7e-1];

/// From here on down, it stays the same.
pub(super) const LEAST_EXPONENT: f32 = -87.0;

/// `e^x` for `x` from -87 to 0, with a relative error of at most 8e-5; below it stays at `e^-87`.
///
/// The power of 2 on either side of 0 by a polynomial, fitted by least squares weighted towards
/// the smallest largest error: ample for what bf16 then rounds.
#[inline(always)]
fn rough_exp<const FMA: bool>(x: f32) -> f32 {
    let x = if x > LEAST_EXPONENT { x } else { LEAST_EXPONENT };
    let shifted = fma::<FMA>(x, std::f32::consts::LOG2_E, SHIFTER);
    let r = fma::<FMA>(x, std::f32::consts::LOG2_E, SHIFTER - shifted);
    let [first, rest @ ..] = ROUGH_EXP;
    let p = rest.into_iter().fold(first, |p, power| fma::<FMA>(p, r, power));
    f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23))
}
