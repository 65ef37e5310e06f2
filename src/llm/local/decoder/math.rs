//! What happens to vectors between products.

/// Divides `row` by its root mean square and multiplies it with `weight`.
pub(super) fn rms_norm(row: &mut [f32], weight: &[f32], epsilon: f32) {
    let squares: f32 = sum(row, |x| x * x);
    let by = 1.0 / (squares / row.len() as f32 + epsilon).sqrt();
    for (x, weight) in row.iter_mut().zip(weight) {
        *x *= by * weight;
    }
}

/// Gives `row` mean 0 and variance 1, then applies `weight` and `bias`.
pub(super) fn layer_norm(row: &mut [f32], weight: &[f32], bias: &[f32], epsilon: f32) {
    let mean = sum(row, |x| x) / row.len() as f32;
    let squares = sum(row, |x| (x - mean) * (x - mean));
    let by = 1.0 / (squares / row.len() as f32 + epsilon).sqrt();
    for ((x, weight), bias) in row.iter_mut().zip(weight).zip(bias) {
        *x = (*x - mean) * by * weight + bias;
    }
}

/// The sum of `of` over `row`, in eight sums, so that it can be done in wide registers.
fn sum(row: &[f32], of: impl Fn(f32) -> f32) -> f32 {
    let mut sums = [0.0_f32; 8];
    let chunks = row.chunks_exact(8);
    let rest: f32 = chunks.remainder().iter().map(|x| of(*x)).sum();
    for chunk in chunks {
        for (sum, x) in sums.iter_mut().zip(chunk) {
            *sum += of(*x);
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Adds `y` to `x`.
pub(super) fn add(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x += y;
    }
}

/// Multiplies `x` with `y`.
pub(super) fn multiply(x: &mut [f32], y: &[f32]) {
    for (x, y) in x.iter_mut().zip(y) {
        *x *= y;
    }
}

/// `x / (1 + e^-x)`.
pub(super) fn silu(x: &mut [f32]) {
    for x in x {
        *x /= 1.0 + exp(-*x);
    }
}

/// `0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3)))`, which is `x / (1 + e^-2u)` for the
/// argument u of the tangent.
pub(super) fn gelu(x: &mut [f32]) {
    for x in x {
        let u = 0.797_884_6 * (*x + 0.044_715 * *x * *x * *x);
        *x /= 1.0 + exp(-2.0 * u);
    }
}

/// `e^x` to 2e-7 of itself; at most e^88 and at least e^-87, which is as good as nothing here.
/// Without a branch or a call, so that loops over it use wide registers.
pub(super) fn exp(x: f32) -> f32 {
    // Adding and subtracting it rounds to an integer.
    const ROUND: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let n = (x * std::f32::consts::LOG2_E + ROUND) - ROUND;
    // ln 2 in two parts, the first with zeros at its end: n times it is exact.
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    // Taylor's coefficients up to the sixth, for |r| <= ln 2 / 2.
    let p = 1.0 / 720.0;
    let p = p * r + 1.0 / 120.0;
    let p = p * r + 1.0 / 24.0;
    let p = p * r + 1.0 / 6.0;
    let p = p * r + 0.5;
    let p = p * r + 1.0;
    let p = p * r + 1.0;
    p * f32::from_bits(((n as i32 + 127) << 23) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exp_is_close_everywhere() {
        for i in -87_000..88_000 {
            let x = i as f32 / 1000.0;
            let right = f64::from(x).exp();
            let off = (f64::from(exp(x)) - right).abs() / right;
            assert!(off < 3e-7, "e^{x} is {off} off");
        }
        assert!(exp(-1e9) < 1e-37 && exp(1e9) > 1e38 && exp(1e9).is_finite());
    }

    #[test]
    fn activations_are_what_they_are_called() {
        for i in -80..80 {
            let x = i as f32 / 8.0;
            let (mut silu_of, mut gelu_of) = ([x], [x]);
            silu(&mut silu_of);
            gelu(&mut gelu_of);
            assert!((silu_of[0] - x / (1.0 + (-x).exp())).abs() < 1e-5);
            let tanh = (0.797_884_6 * (x + 0.044_715 * x.powi(3))).tanh();
            assert!((gelu_of[0] - 0.5 * x * (1.0 + tanh)).abs() < 1e-5);
        }
    }

    #[test]
    fn norms_norm() {
        let mut row: Vec<f32> = (0..19).map(|i| i as f32 - 3.0).collect();
        let (weight, bias) = (vec![2.0; 19], vec![1.0; 19]);
        let mut other = row.clone();
        rms_norm(&mut row, &weight, 0.0);
        let square: f32 = row.iter().map(|x| x * x).sum::<f32>() / 19.0;
        assert!((square - 4.0).abs() < 1e-4);
        layer_norm(&mut other, &weight, &bias, 0.0);
        let mean: f32 = other.iter().sum::<f32>() / 19.0;
        assert!((mean - 1.0).abs() < 1e-4);
    }
}
