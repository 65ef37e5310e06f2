//! Distance kernels, chosen once by what the processor can do.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

type Kernel = fn(&[f32], &[f32]) -> f32;

/// The inner loops over two vectors of equal length. All give the same sums up to rounding, which
/// differs because they add in different orders.
#[derive(Clone, Copy)]
pub struct Kernels {
    name: &'static str,
    dot: Kernel,
    square_distance: Kernel,
}

impl std::fmt::Debug for Kernels {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Kernels").field(&self.name).finish()
    }
}

impl Kernels {
    /// The fastest this processor can run.
    #[must_use]
    pub fn detect() -> Self {
        let mut best = Self::portable();
        Self::available().into_iter().for_each(|k| best = k);
        best
    }

    /// Plain Rust, the reference for the others.
    #[must_use]
    pub fn portable() -> Self {
        Self { name: "portable", dot: portable::dot, square_distance: portable::square_distance }
    }

    /// All that this processor can run, slowest first.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let mut available = vec![Self::portable()];
        #[cfg(target_arch = "x86_64")]
        {
            available.extend(avx2::kernels());
            available.extend(avx512::kernels());
        }
        available
    }

    /// `portable`, `avx2` or `avx512`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The inner product.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    #[inline]
    #[must_use]
    pub fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "vectors of one set have one length");
        (self.dot)(a, b)
    }

    /// The square of the Euclidean distance.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    #[inline]
    #[must_use]
    pub fn square_distance(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len(), "vectors of one set have one length");
        (self.square_distance)(a, b)
    }
}

/// Has the processor bring values into its nearest cache that are wanted soon. Changes nothing but
/// the time.
#[inline]
pub(crate) fn prefetch(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every processor of this architecture has the instruction, and it may be given any
        // address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn close(got: f32, want: f64, scale: f64) -> bool {
        (f64::from(got) - want).abs() <= 1e-5 * scale + 1e-30
    }

    proptest! {
        #[test]
        fn every_kernel_agrees_with_the_sum_in_f64(
            pairs in prop::collection::vec((-100.0_f32..100.0, -100.0_f32..100.0), 0..700),
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let products = || pairs.iter().map(|&(x, y)| f64::from(x) * f64::from(y));
            let squares = pairs.iter().map(|&(x, y)| (f64::from(x) - f64::from(y)).powi(2));
            let (dot, scale) = (products().sum::<f64>(), products().map(f64::abs).sum::<f64>());
            let square: f64 = squares.sum();
            for kernels in Kernels::available() {
                prop_assert!(close(kernels.dot(&a, &b), dot, scale), "{kernels:?}");
                prop_assert!(close(kernels.square_distance(&a, &b), square, square), "{kernels:?}");
            }
        }
    }

    #[test]
    fn every_length_is_summed_to_its_end() {
        for n in 0..200 {
            let a: Vec<f32> = (0..n).map(|i| i as f32).collect();
            let ones = vec![1.0; n];
            for kernels in Kernels::available() {
                let sum = (0..n).sum::<usize>() as f32;
                assert_eq!(kernels.dot(&a, &ones), sum, "{kernels:?} {n}");
                assert_eq!(kernels.square_distance(&ones, &vec![3.0; n]), 4.0 * n as f32);
            }
        }
    }

    #[test]
    fn the_fastest_comes_last() {
        let available = Kernels::available();
        assert_eq!(available[0].name(), "portable");
        assert_eq!(Kernels::detect().name(), available.last().unwrap().name());
    }
}
