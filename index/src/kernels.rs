//! Distance kernels, chosen once by what the processor can do.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

type Kernel = fn(&[f32], &[f32]) -> f32;
type CodeKernel = fn(&[[i8; CODE_BLOCK]], &[[i8; CODE_BLOCK]]) -> i32;

/// Codes that a kernel takes at a time: rows of codes are made up to it with zeros.
pub(crate) const CODE_BLOCK: usize = 64;

/// The inner loops over two vectors of equal length. All give the same sums up to rounding, which
/// differs because they add in different orders.
#[derive(Clone, Copy)]
pub struct Kernels {
    name: &'static str,
    dot: Kernel,
    square_distance: Kernel,
    dot_codes: CodeKernel,
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
        Self {
            name: "portable",
            dot: portable::dot,
            square_distance: portable::square_distance,
            dot_codes: portable::dot_codes,
        }
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

    /// The inner product of rows of codes, exactly; of at most 65,536 codes.
    ///
    /// # Panics
    ///
    /// If the lengths differ.
    #[inline]
    #[must_use]
    pub(crate) fn dot_codes(&self, a: &[[i8; CODE_BLOCK]], b: &[[i8; CODE_BLOCK]]) -> i32 {
        assert_eq!(a.len(), b.len(), "rows of one segment have one length");
        (self.dot_codes)(a, b)
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
pub(crate) fn prefetch<T>(values: &[T]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks((64 / size_of::<T>().max(1)).max(1)) {
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

    proptest! {
        #[test]
        fn every_kernel_multiplies_codes_alike(
            pairs in prop::collection::vec((any::<i8>(), any::<i8>()), 0..1000),
        ) {
            let blocks = |codes: Vec<i8>| {
                let mut codes = codes;
                codes.resize(codes.len().next_multiple_of(CODE_BLOCK), 0);
                codes.as_chunks::<CODE_BLOCK>().0.to_vec()
            };
            let want: i32 = pairs.iter().map(|&(x, y)| i32::from(x) * i32::from(y)).sum();
            let (a, b): (Vec<i8>, Vec<i8>) = pairs.into_iter().unzip();
            let (a, b) = (blocks(a), blocks(b));
            for kernels in Kernels::available() {
                prop_assert_eq!(kernels.dot_codes(&a, &b), want, "{:?}", kernels);
            }
        }
    }

    #[test]
    fn the_longest_rows_of_codes_do_not_overflow() {
        let row = vec![[i8::MIN; CODE_BLOCK]; 65_536 / CODE_BLOCK];
        for kernels in Kernels::available() {
            assert_eq!(kernels.dot_codes(&row, &row), 65_536 << 14, "{kernels:?}");
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
