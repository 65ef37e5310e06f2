//! 256-bit vectors with fused multiply-add: x86-64-v3.

use std::arch::x86_64::{
    __m256, __m256i, _mm_add_epi32, _mm_add_ps, _mm_add_ss, _mm_cvtsi128_si32, _mm_cvtss_f32,
    _mm_loadu_si128, _mm_movehl_ps, _mm_shuffle_epi32, _mm_shuffle_ps, _mm256_add_epi32,
    _mm256_add_ps, _mm256_castps256_ps128, _mm256_castsi256_si128, _mm256_cvtepi8_epi16,
    _mm256_extractf128_ps, _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_madd_epi16, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sub_ps,
};

use super::{CODE_BLOCK, Kernels};

const LANES: usize = 8;
/// Sums side by side, to hide the four cycles an addition takes.
const SUMS: usize = 4;

/// The kernels, if this processor has what they need.
pub(super) fn kernels() -> Option<Kernels> {
    let able = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
    able.then_some(Kernels {
        name: "avx2",
        // SAFETY: the closures are reachable only through this value, which exists only after the
        // check above found the features that the kernels are compiled for.
        dot: |a, b| unsafe { dot(a, b) },
        // SAFETY: as above.
        square_distance: |a, b| unsafe { square_distance(a, b) },
        // SAFETY: as above.
        dot_codes: |a, b| unsafe { dot_codes(a, b) },
    })
}

#[target_feature(enable = "avx2,fma")]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); SUMS];
    let (a_blocks, a_rest) = a.as_chunks::<{ LANES * SUMS }>();
    let (b_blocks, b_rest) = b.as_chunks::<{ LANES * SUMS }>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = _mm256_fmadd_ps(load(&a[i * LANES..]), load(&b[i * LANES..]), *sum);
        }
    }
    total(sums) + super::portable::dot(a_rest, b_rest)
}

#[target_feature(enable = "avx2,fma")]
fn square_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm256_setzero_ps(); SUMS];
    let (a_blocks, a_rest) = a.as_chunks::<{ LANES * SUMS }>();
    let (b_blocks, b_rest) = b.as_chunks::<{ LANES * SUMS }>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for (i, sum) in sums.iter_mut().enumerate() {
            let apart = _mm256_sub_ps(load(&a[i * LANES..]), load(&b[i * LANES..]));
            *sum = _mm256_fmadd_ps(apart, apart, *sum);
        }
    }
    total(sums) + super::portable::square_distance(a_rest, b_rest)
}

#[target_feature(enable = "avx2,fma")]
fn dot_codes(a: &[[i8; CODE_BLOCK]], b: &[[i8; CODE_BLOCK]]) -> i32 {
    /// Codes that become numbers of 16 bits in one vector.
    const CODES: usize = 16;
    let mut sums = [_mm256_setzero_si256(); CODE_BLOCK / CODES];
    for (a, b) in a.iter().zip(b) {
        let parts = a.as_chunks::<CODES>().0.iter().zip(b.as_chunks::<CODES>().0);
        for (sum, (a, b)) in sums.iter_mut().zip(parts) {
            *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(widened(a), widened(b)));
        }
    }
    let [a, b, c, d] = sums;
    let sum = _mm256_add_epi32(_mm256_add_epi32(a, b), _mm256_add_epi32(c, d));
    let four = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
    let two = _mm_add_epi32(four, _mm_shuffle_epi32::<0b01_00_11_10>(four));
    _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<0b10_11_00_01>(two)))
}

#[target_feature(enable = "avx2,fma")]
fn widened(codes: &[i8; 16]) -> __m256i {
    // SAFETY: the reference covers the 16 bytes that are read; the load needs no alignment.
    _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(codes.as_ptr().cast()) })
}

#[target_feature(enable = "avx2,fma")]
fn load(values: &[f32]) -> __m256 {
    let values = values.first_chunk::<LANES>().expect("blocks hold whole vectors");
    // SAFETY: the reference covers the 32 bytes that are read; the load needs no alignment.
    unsafe { _mm256_loadu_ps(values.as_ptr()) }
}

#[target_feature(enable = "avx2,fma")]
fn total(sums: [__m256; SUMS]) -> f32 {
    let [a, b, c, d] = sums;
    let sum = _mm256_add_ps(_mm256_add_ps(a, b), _mm256_add_ps(c, d));
    let four = _mm_add_ps(_mm256_castps256_ps128(sum), _mm256_extractf128_ps::<1>(sum));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
}
