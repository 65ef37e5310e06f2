//! How alike two vectors are.

/// The cosine of two vectors, -1 to 1; nothing when either has no direction or they differ in
/// length.
pub(super) fn cosine(a: &[f32], b: &[f32]) -> Option<f64> {
    if a.len() != b.len() {
        return None;
    }
    let dot = |a: &[f32], b: &[f32]| -> f64 {
        a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
    };
    let norms = (dot(a, a) * dot(b, b)).sqrt();
    (norms > 0.0).then(|| (dot(a, b) / norms).clamp(-1.0, 1.0))
}

/// 1 - cosine of two vectors, 0 to 2; 0 when either has no direction or they differ in length.
pub(super) fn drift(old: &[f32], new: &[f32]) -> f64 {
    cosine(old, new).map_or(0.0, |cosine| 1.0 - cosine)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drift_is_zero_for_the_same_direction_and_two_for_the_opposite() {
        assert!(drift(&[1.0, 2.0], &[2.0, 4.0]).abs() < 1e-12);
        assert!((drift(&[1.0, 0.0], &[-3.0, 0.0]) - 2.0).abs() < 1e-12);
        assert!((drift(&[1.0, 0.0], &[0.0, 1.0]) - 1.0).abs() < 1e-12);
        assert_eq!(drift(&[0.0, 0.0], &[1.0, 0.0]), 0.0);
        assert_eq!(drift(&[1.0], &[1.0, 0.0]), 0.0);
    }
}
