//! AVX2: `vpmaddubsw` multiplies 32 pairs of bytes and adds them by twos in 16 bits, so a block is
//! done in two halves of eight rows.

use std::arch::x86_64::{
    __m256, __m256i, _mm_loadu_si128, _mm256_abs_epi8, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_and_si256, _mm256_cvtepi32_ps, _mm256_cvtph_ps, _mm256_fmadd_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_sign_epi8,
    _mm256_srli_epi16, _mm256_storeu_ps, _mm256_xor_si256,
};

use super::{Part, portable};
use crate::llm::local::matrix::{Eight, Four, LANES};

/// Eight f16 from `half` (0 or 1) of `bits`.
#[inline]
#[target_feature(enable = "avx2,f16c")]
fn halves(bits: &[u16; LANES], half: usize) -> __m256 {
    // SAFETY: 16 bytes from 0 or 16 on are read from an array of 32; no alignment is asked for.
    _mm256_cvtph_ps(unsafe { _mm_loadu_si128(bits.as_ptr().add(8 * (half & 1)).cast()) })
}

/// The 32 bytes of `half` (0 or 1) of a line.
#[inline]
#[target_feature(enable = "avx2")]
fn bytes_of(line: &[u8; 64], half: usize) -> __m256i {
    // SAFETY: 32 bytes from 0 or 32 on are read from an array of 64; no alignment is asked for.
    unsafe { _mm256_loadu_si256(line.as_ptr().add(32 * (half & 1)).cast()) }
}

/// Four activations, for all rows.
#[inline]
#[target_feature(enable = "avx2")]
fn four_of(part: &Part, at: usize) -> __m256i {
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| part.quants[at + i] as u8);
    _mm256_set1_epi32(i32::from_le_bytes([a, b, c, d]))
}

/// # Safety
///
/// The processor has the features named.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn four(group: &[Four], x: &[Part], out: &mut [[f32; LANES]]) {
    let low = _mm256_set1_epi8(15);
    let ones = _mm256_set1_epi16(1);
    for (x, out) in x.chunks_exact(group.len().max(1)).zip(out) {
        let mut sums = [_mm256_setzero_ps(); 2];
        for (block, part) in group.iter().zip(x) {
            let by = _mm256_set1_ps(part.scale);
            let less = _mm256_set1_ps(part.scale * part.sum as f32);
            for (half, sum) in sums.iter_mut().enumerate() {
                // Eight products of 15 * 127 * 2 at most fit 16 bits.
                let mut dot = _mm256_setzero_si256();
                for (line, quants) in block.quants.iter().enumerate() {
                    let bytes = bytes_of(quants, half);
                    let first = _mm256_and_si256(bytes, low);
                    let second = _mm256_and_si256(_mm256_srli_epi16::<4>(bytes), low);
                    let first = _mm256_maddubs_epi16(first, four_of(part, 4 * line));
                    let second = _mm256_maddubs_epi16(second, four_of(part, 16 + 4 * line));
                    dot = _mm256_add_epi16(dot, _mm256_add_epi16(first, second));
                }
                let dot = _mm256_cvtepi32_ps(_mm256_madd_epi16(dot, ones));
                let scales = _mm256_mul_ps(halves(&block.scales, half), by);
                *sum = _mm256_fmadd_ps(scales, dot, *sum);
                *sum = _mm256_fmadd_ps(halves(&block.leasts, half), less, *sum);
            }
        }
        store(sums, out);
    }
}

/// # Safety
///
/// The processor has the features named.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) unsafe fn eight(group: &[Eight], x: &[Part], out: &mut [[f32; LANES]]) {
    let sign = _mm256_set1_epi8(-128);
    let ones = _mm256_set1_epi16(1);
    for (x, out) in x.chunks_exact(group.len().max(1)).zip(out) {
        let mut sums = [_mm256_setzero_ps(); 2];
        for (block, part) in group.iter().zip(x) {
            let by = _mm256_set1_ps(part.scale);
            for (half, sum) in sums.iter_mut().enumerate() {
                let mut dot = _mm256_setzero_si256();
                for (line, quants) in block.quants.iter().enumerate() {
                    // Two products of 127 * 127 at most fit 16 bits, more may not.
                    let weights = _mm256_xor_si256(bytes_of(quants, half), sign);
                    let x = _mm256_sign_epi8(four_of(part, 4 * line), weights);
                    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), x);
                    dot = _mm256_add_epi32(dot, _mm256_madd_epi16(pairs, ones));
                }
                let scales = _mm256_mul_ps(halves(&block.scales, half), by);
                *sum = _mm256_fmadd_ps(scales, _mm256_cvtepi32_ps(dot), *sum);
            }
        }
        store(sums, out);
    }
}

#[inline]
#[target_feature(enable = "avx2")]
fn store(sums: [__m256; 2], out: &mut [f32; LANES]) {
    let [first, second] = sums;
    // SAFETY: 32 bytes from 0 and 32 on are written to an array of 64.
    unsafe {
        _mm256_storeu_ps(out.as_mut_ptr(), first);
        _mm256_storeu_ps(out.as_mut_ptr().add(8), second);
    }
}

/// # Safety
///
/// The processor has the features named.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn scores(query: &[f32], keys: &[[f32; LANES]], out: &mut [f32; LANES]) {
    portable::scores_by(query, keys, out, f32::mul_add);
}

/// # Safety
///
/// The processor has the features named.
#[target_feature(enable = "avx2,fma")]
pub(super) unsafe fn weighted(factors: &[f32], rows: &[f32], stride: usize, sum: &mut [f32]) {
    portable::weighted_by(factors, rows, stride, sum, f32::mul_add);
}
