//! What "near" means, and what a search reports for it.

use crate::{IndexError, Kernels};

/// How vectors are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The cosine of the angle, -1 to 1; 0 where a vector is zero. Vectors are normalised when
    /// they come in, so [`super::VectorSet::get`] gives unit vectors.
    Cosine,
    /// `1 - min(distance, 1)` of the Euclidean distance: 0 to 1. Order is by distance even where
    /// the score is 0.
    L2,
    /// The inner product, without bounds.
    InnerProduct,
}

/// The square of a vector's length stays below this, so that no distance of two vectors
/// overflows an `f32`.
const SQUARE_LENGTH_MAX: f64 = f32::MAX as f64 / 16.0;

/// Checks the values of a vector and brings them into the form in which they are stored.
pub(super) fn prepare(metric: Metric, dim: usize, values: &mut [f32]) -> Result<(), IndexError> {
    if values.len() != dim {
        return Err(IndexError::Invalid(format!(
            "the vector has {} values, not {dim}",
            values.len()
        )));
    }
    let square: f64 = values.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
    if !square.is_finite() {
        return Err(IndexError::Invalid("the vector holds NaN or infinity".into()));
    }
    match metric {
        Metric::Cosine if square > 0.0 => {
            let length = square.sqrt();
            for value in values {
                *value = (f64::from(*value) / length) as f32;
            }
        }
        Metric::Cosine => {}
        Metric::L2 | Metric::InnerProduct if square <= SQUARE_LENGTH_MAX => {}
        Metric::L2 | Metric::InnerProduct => {
            return Err(IndexError::Invalid("the vector is too long".into()));
        }
    }
    Ok(())
}

/// Bigger is nearer. Exact and graph searches rank by this one function, so that they agree.
#[inline]
pub(super) fn nearness(metric: Metric, kernels: &Kernels, a: &[f32], b: &[f32]) -> f32 {
    match metric {
        Metric::Cosine | Metric::InnerProduct => kernels.dot(a, b),
        Metric::L2 => -kernels.square_distance(a, b),
    }
}

/// The reported score of a nearness.
pub(super) fn score(metric: Metric, nearness: f32) -> f32 {
    match metric {
        // Rounding may step over the ends.
        Metric::Cosine => nearness.clamp(-1.0, 1.0),
        Metric::L2 => 1.0 - (-nearness).sqrt().min(1.0),
        Metric::InnerProduct => nearness,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scored(metric: Metric, a: &[f32], b: &[f32]) -> f32 {
        let (mut a, mut b) = (a.to_vec(), b.to_vec());
        prepare(metric, a.len(), &mut a).unwrap();
        prepare(metric, b.len(), &mut b).unwrap();
        score(metric, nearness(metric, &Kernels::detect(), &a, &b))
    }

    #[test]
    fn scores_are_what_the_metric_says() {
        assert_eq!(scored(Metric::Cosine, &[3.0, 0.0], &[-0.5, 0.0]), -1.0);
        assert_eq!(scored(Metric::Cosine, &[0.0, 0.0], &[1.0, 0.0]), 0.0);
        assert_eq!(scored(Metric::Cosine, &[1e-30, 0.0], &[1e30, 0.0]), 1.0);
        assert_eq!(scored(Metric::L2, &[0.0, 0.75], &[0.0, 0.5]), 0.75);
        assert_eq!(scored(Metric::L2, &[0.0, 9.0], &[0.0, 0.5]), 0.0);
        assert_eq!(scored(Metric::InnerProduct, &[2.0, 1.0], &[3.0, -1.0]), 5.0);
    }

    #[test]
    fn unusable_vectors_are_refused() {
        for metric in [Metric::Cosine, Metric::L2, Metric::InnerProduct] {
            for bad in [&[1.0][..], &[1.0, 2.0, 3.0], &[f32::NAN, 0.0], &[0.0, f32::INFINITY]] {
                let prepared = prepare(metric, 2, &mut bad.to_vec());
                assert!(matches!(prepared, Err(IndexError::Invalid(_))));
            }
        }
        assert!(prepare(Metric::L2, 1, &mut [1e19]).is_err());
        assert!(prepare(Metric::Cosine, 1, &mut [1e38]).is_ok());
    }
}
