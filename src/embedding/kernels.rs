//! The loops between the matrix products, each over contiguous rows in place.
//!
//! They are plain Rust without a branch in the inner loop, so that the compiler turns them into
//! vector code; each is compiled once more for AVX2 and AVX-512 and picked when it runs, because
//! the program itself is built for any x86-64.

/// Independent partial sums; float addition is not reordered by the compiler, so a sum is only
/// vectorised if it is written as several.
const LANES: usize = 16;

/// Defines a function whose body is compiled for several instruction sets.
macro_rules! for_this_cpu {
    ($(#[$doc:meta])* fn $name:ident($($arg:ident: $type:ty),* $(,)?) $body:block) => {
        $(#[$doc])*
        pub(super) fn $name($($arg: $type),*) {
            #[inline(always)]
            fn body($($arg: $type),*) $body

            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,fma")]
                fn avx512($($arg: $type),*) {
                    body($($arg),*);
                }
                #[target_feature(enable = "avx2,fma")]
                fn avx2($($arg: $type),*) {
                    body($($arg),*);
                }
                if is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("fma")
                {
                    // SAFETY: the features it is compiled with were detected just above.
                    return unsafe { avx512($($arg),*) };
                }
                if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
                    // SAFETY: the features it is compiled with were detected just above.
                    return unsafe { avx2($($arg),*) };
                }
            }
            body($($arg),*);
        }
    };
}

for_this_cpu! {
    /// Adds `bias` to every row.
    fn add_bias(rows: &mut [f32], bias: &[f32]) {
        for row in rows.chunks_exact_mut(bias.len()) {
            for (x, b) in row.iter_mut().zip(bias) {
                *x += b;
            }
        }
    }
}

for_this_cpu! {
    /// Adds `bias` to every row and applies GELU, the exact one: `x · Φ(x)`.
    fn add_bias_gelu(rows: &mut [f32], bias: &[f32]) {
        for row in rows.chunks_exact_mut(bias.len()) {
            for (x, b) in row.iter_mut().zip(bias) {
                *x = gelu(*x + b);
            }
        }
    }
}

for_this_cpu! {
    /// Adds `residual` to every element and normalises each row of `gain.len()` elements to mean 0
    /// and variance 1, then scales by `gain` and shifts by `shift`.
    fn add_and_normalize(rows: &mut [f32], residual: &[f32], gain: &[f32], shift: &[f32], epsilon: f32) {
        let width = gain.len();
        for (row, residual) in rows.chunks_exact_mut(width).zip(residual.chunks_exact(width)) {
            for (x, r) in row.iter_mut().zip(residual) {
                *x += r;
            }
            normalize_row(row, gain, shift, epsilon);
        }
    }
}

for_this_cpu! {
    /// [`add_and_normalize`] with nothing to add.
    fn normalize(rows: &mut [f32], gain: &[f32], shift: &[f32], epsilon: f32) {
        for row in rows.chunks_exact_mut(gain.len()) {
            normalize_row(row, gain, shift, epsilon);
        }
    }
}

for_this_cpu! {
    /// Turns each row of `width` logits into probabilities that sum to 1.
    fn softmax(rows: &mut [f32], width: usize) {
        for row in rows.chunks_exact_mut(width) {
            let max = row.iter().fold(f32::NEG_INFINITY, |max, &x| if x > max { x } else { max });
            for x in row.iter_mut() {
                *x = exp(*x - max);
            }
            let scale = 1.0 / sum(row, |x| x);
            for x in row.iter_mut() {
                *x *= scale;
            }
        }
    }
}

#[inline(always)]
fn normalize_row(row: &mut [f32], gain: &[f32], shift: &[f32], epsilon: f32) {
    let n = row.len() as f32;
    let mean = sum(row, |x| x) / n;
    let variance = sum(row, |x| (x - mean) * (x - mean)) / n;
    let scale = 1.0 / (variance + epsilon).sqrt();
    for ((x, g), s) in row.iter_mut().zip(gain).zip(shift) {
        *x = (*x - mean) * scale * g + s;
    }
}

#[inline(always)]
fn sum(row: &[f32], value: impl Fn(f32) -> f32) -> f32 {
    let mut lanes = [0.0; LANES];
    let mut chunks = row.chunks_exact(LANES);
    for chunk in &mut chunks {
        for (lane, &x) in lanes.iter_mut().zip(chunk) {
            *lane += value(x);
        }
    }
    let rest: f32 = chunks.remainder().iter().map(|&x| value(x)).sum();
    lanes.iter().sum::<f32>() + rest
}

/// `x · Φ(x)`, with an error of at most 4e-7 · |x|.
///
/// `Φ` by formula 7.1.26 of Abramowitz and Stegun (absolute error 1.5e-7 in `erf`), on the side
/// where `1 - erf` is small, so that large negative `x` keep their relative accuracy too.
#[inline(always)]
fn gelu(x: f32) -> f32 {
    let z = x.abs() * std::f32::consts::FRAC_1_SQRT_2;
    let t = 1.0 / (1.0 + 0.327_591_1 * z);
    let p = 1.061_405_4 * t - 1.453_152;
    let p = p * t + 1.421_413_7;
    let p = p * t - 0.284_496_74;
    let p = p * t + 0.254_829_6;
    let tail = 0.5 * p * t * exp(-z * z);
    let phi = if x < 0.0 { tail } else { 1.0 - tail };
    x * phi
}

/// `e^x` for `x` up to 88, with a relative error of at most 3e-7; below -87 it stays at `e^-87`,
/// about 1e-38.
#[inline(always)]
fn exp(x: f32) -> f32 {
    /// 1.5 · 2^23: added to a small float, it leaves the nearest integer in the low bits.
    const SHIFTER: f32 = 12_582_912.0;
    // ln 2 in two parts, the first exact in few bits so that n · LN2_HIGH does not round.
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x > -87.0 { x } else { -87.0 };
    let shifted = x * std::f32::consts::LOG2_E + SHIFTER;
    let n = shifted - SHIFTER;
    let r = x - n * LN2_HIGH - n * LN2_LOW;
    // The Taylor series: |r| is at most ln 2 / 2, where its eighth term is below 6e-9.
    let p = r * (1.0 / 5040.0) + 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    let exponent = shifted.to_bits().wrapping_sub(SHIFTER.to_bits()).wrapping_add(127) << 23;
    p * f32::from_bits(exponent)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The error function by its power series, in f64: exact enough for |x| up to 5.
    fn erf(x: f64) -> f64 {
        let (mut term, mut sum) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            sum += term / f64::from(2 * n + 1);
        }
        sum * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn exp_is_exact_to_float_precision() {
        for i in 0..=10_000 {
            let x = -87.0 + 175.0 * (i as f32 / 10_000.0);
            let want = f64::from(x).exp();
            let error = (f64::from(exp(x)) - want).abs() / want;
            assert!(error < 3e-7, "exp({x}) is off by {error}");
        }
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(f32::NEG_INFINITY) < 1e-37);
    }

    #[test]
    fn gelu_agrees_with_the_error_function() {
        for i in 0..=2_000 {
            let x = -5.0 + i as f32 / 200.0;
            let want = f64::from(x) * 0.5 * (1.0 + erf(f64::from(x) / 2f64.sqrt()));
            let error = (f64::from(gelu(x)) - want).abs();
            assert!(error < 4e-7 * f64::from(x.abs()).max(1.0), "gelu({x}) is off by {error}");
        }
        assert_eq!(gelu(30.0), 30.0);
        assert!(gelu(-30.0).abs() < 1e-30);
    }

    #[test]
    fn add_bias_gelu_is_gelu_of_the_sum() {
        let mut rows = vec![0.5, -1.0, 2.0, 0.0, 1.0, -3.0];
        let bias = [0.1, 0.2, -0.3];
        let want: Vec<f32> =
            rows.iter().zip(bias.iter().cycle()).map(|(x, b)| gelu(x + b)).collect();
        add_bias_gelu(&mut rows, &bias);
        for (x, y) in rows.iter().zip(&want) {
            assert!((x - y).abs() < 1e-6);
        }
    }

    #[test]
    fn softmax_rows_sum_to_one_and_keep_their_order() {
        // 19 is no multiple of the lanes; the large values would overflow without the shift.
        let mut rows: Vec<f32> = (0..38).map(|i| 900.0 + (i % 19) as f32).collect();
        softmax(&mut rows, 19);
        for row in rows.chunks(19) {
            assert!((row.iter().sum::<f32>() - 1.0).abs() < 1e-6);
            assert!(row.windows(2).all(|pair| pair[0] < pair[1]));
            assert!((row[18] / row[17] - std::f32::consts::E).abs() < 1e-4);
        }
    }

    #[test]
    fn normalized_rows_have_the_given_mean_and_spread() {
        let width = 37;
        let mut rows: Vec<f32> = (0..width * 2).map(|i| (i * i % 23) as f32).collect();
        let residual: Vec<f32> = (0..width * 2).map(|i| (i % 5) as f32).collect();
        let sum: Vec<f32> = rows.iter().zip(&residual).map(|(x, r)| x + r).collect();
        add_and_normalize(&mut rows, &residual, &vec![2.0; width], &vec![3.0; width], 1e-12);
        for (row, sum) in rows.chunks(width).zip(sum.chunks(width)) {
            let mean = row.iter().sum::<f32>() / width as f32;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / width as f32;
            assert!((mean - 3.0).abs() < 1e-5, "mean {mean}");
            assert!((variance - 4.0).abs() < 1e-4, "variance {variance}");
            let largest = (0..width).max_by(|&a, &b| sum[a].total_cmp(&sum[b])).unwrap();
            assert!(row.iter().all(|&x| x <= row[largest]));
        }
        // A row without spread must not divide by zero.
        let mut flat = vec![7.0; width];
        normalize(&mut flat, &vec![1.0; width], &vec![0.0; width], 1e-12);
        assert!(flat.iter().all(|x| x.abs() < 1e-3));
    }

    #[test]
    fn bias_is_added_to_every_row() {
        let mut rows = vec![1.0, 2.0, 3.0, 4.0];
        add_bias(&mut rows, &[10.0, 20.0]);
        assert_eq!(rows, [11.0, 22.0, 13.0, 24.0]);
    }
}
