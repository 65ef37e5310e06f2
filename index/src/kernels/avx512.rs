//! 512-bit vectors; the tail of a vector is a masked load.

use std::arch::x86_64::{
    __m512, __m512i, _mm256_loadu_si256, _mm512_add_epi32, _mm512_add_ps, _mm512_cvtepi8_epi16,
    _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_madd_epi16, _mm512_maskz_loadu_ps,
    _mm512_reduce_add_epi32, _mm512_reduce_add_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_sub_ps,
};

use super::{CODE_BLOCK, Kernels};

const LANES: usize = 16;
/// Sums side by side, to hide the four cycles an addition takes.
const SUMS: usize = 4;

/// The kernels, if this processor has what they need.
pub(super) fn kernels() -> Option<Kernels> {
    let able = is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw");
    able.then_some(Kernels {
        name: "avx512",
        // SAFETY: the closures are reachable only through this value, which exists only after the
        // check above found the features that the kernels are compiled for.
        dot: |a, b| unsafe { dot(a, b) },
        // SAFETY: as above.
        square_distance: |a, b| unsafe { square_distance(a, b) },
        // SAFETY: as above.
        dot_codes: |a, b| unsafe { dot_codes(a, b) },
    })
}

#[target_feature(enable = "avx512f")]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm512_setzero_ps(); SUMS];
    let (a_blocks, a_rest) = a.as_chunks::<{ LANES * SUMS }>();
    let (b_blocks, b_rest) = b.as_chunks::<{ LANES * SUMS }>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for (i, sum) in sums.iter_mut().enumerate() {
            *sum = _mm512_fmadd_ps(load(&a[i * LANES..]), load(&b[i * LANES..]), *sum);
        }
    }
    for (a, b) in a_rest.chunks(LANES).zip(b_rest.chunks(LANES)) {
        sums[0] = _mm512_fmadd_ps(load_part(a), load_part(b), sums[0]);
    }
    total(sums)
}

#[target_feature(enable = "avx512f")]
fn square_distance(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [_mm512_setzero_ps(); SUMS];
    let (a_blocks, a_rest) = a.as_chunks::<{ LANES * SUMS }>();
    let (b_blocks, b_rest) = b.as_chunks::<{ LANES * SUMS }>();
    for (a, b) in a_blocks.iter().zip(b_blocks) {
        for (i, sum) in sums.iter_mut().enumerate() {
            let apart = _mm512_sub_ps(load(&a[i * LANES..]), load(&b[i * LANES..]));
            *sum = _mm512_fmadd_ps(apart, apart, *sum);
        }
    }
    for (a, b) in a_rest.chunks(LANES).zip(b_rest.chunks(LANES)) {
        let apart = _mm512_sub_ps(load_part(a), load_part(b));
        sums[0] = _mm512_fmadd_ps(apart, apart, sums[0]);
    }
    total(sums)
}

#[target_feature(enable = "avx512f,avx512bw")]
fn dot_codes(a: &[[i8; CODE_BLOCK]], b: &[[i8; CODE_BLOCK]]) -> i32 {
    /// Codes that become numbers of 16 bits in one vector.
    const CODES: usize = 32;
    let mut sums = [_mm512_setzero_si512(); CODE_BLOCK / CODES];
    for (a, b) in a.iter().zip(b) {
        let parts = a.as_chunks::<CODES>().0.iter().zip(b.as_chunks::<CODES>().0);
        for (sum, (a, b)) in sums.iter_mut().zip(parts) {
            *sum = _mm512_add_epi32(*sum, _mm512_madd_epi16(widened(a), widened(b)));
        }
    }
    let [a, b] = sums;
    _mm512_reduce_add_epi32(_mm512_add_epi32(a, b))
}

#[target_feature(enable = "avx512f,avx512bw")]
fn widened(codes: &[i8; 32]) -> __m512i {
    // SAFETY: the reference covers the 32 bytes that are read; the load needs no alignment.
    _mm512_cvtepi8_epi16(unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) })
}

#[target_feature(enable = "avx512f")]
fn load(values: &[f32]) -> __m512 {
    let values = values.first_chunk::<LANES>().expect("blocks hold whole vectors");
    // SAFETY: the reference covers the 64 bytes that are read; the load needs no alignment.
    unsafe { _mm512_loadu_ps(values.as_ptr()) }
}

/// Up to sixteen values, the rest zero.
#[target_feature(enable = "avx512f")]
fn load_part(values: &[f32]) -> __m512 {
    let n = values.len().min(LANES);
    let mask = ((1_u32 << n) - 1) as u16;
    // SAFETY: the mask is set for the first `n` values only, which the slice holds; masked-out
    // lanes are not read.
    unsafe { _mm512_maskz_loadu_ps(mask, values.as_ptr()) }
}

#[target_feature(enable = "avx512f")]
fn total(sums: [__m512; SUMS]) -> f32 {
    let [a, b, c, d] = sums;
    _mm512_reduce_add_ps(_mm512_add_ps(_mm512_add_ps(a, b), _mm512_add_ps(c, d)))
}
