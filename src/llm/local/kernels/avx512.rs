//! AVX-512 with VNNI: `vpdpbusd` multiplies 64 pairs of bytes and adds them by fours, which is one
//! line of a block for all sixteen rows.

use std::arch::x86_64::{
    __m512, __m512i, _mm256_loadu_si256, _mm512_and_si512, _mm512_cvtepi32_ps, _mm512_cvtph_ps,
    _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_si512, _mm512_mul_ps, _mm512_set1_epi8,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_srli_epi16,
    _mm512_storeu_ps,
};

use super::{Part, portable};
use crate::llm::local::matrix::{Eight, Four, LANES};

/// Cuts the activations into tiles of 8, 4, 2 and 1: weights that are unpacked are used for all of
/// a tile, whose sums stay in registers.
macro_rules! tiles {
    ($tile:ident, $group:expr, $x:expr, $out:expr) => {{
        let (width, mut at) = ($group.len(), 0);
        while at < $out.len() {
            let (x, out) = (&$x[at * width..], &mut $out[at..]);
            at += match out.len() {
                // SAFETY: the features of the caller; `x` has `width` parts for each place of `out`.
                8.. => unsafe { $tile::<8>($group, x, out) },
                // SAFETY: as above.
                4.. => unsafe { $tile::<4>($group, x, out) },
                // SAFETY: as above.
                2.. => unsafe { $tile::<2>($group, x, out) },
                // SAFETY: as above.
                _ => unsafe { $tile::<1>($group, x, out) },
            };
        }
    }};
}

/// # Safety
///
/// The processor has the features named.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn four(group: &[Four], x: &[Part], out: &mut [[f32; LANES]]) {
    tiles!(four_tile, group, x, out);
}

/// # Safety
///
/// The processor has the features named.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
pub(super) unsafe fn eight(group: &[Eight], x: &[Part], out: &mut [[f32; LANES]]) {
    tiles!(eight_tile, group, x, out);
}

/// Sixteen f16.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx2,f16c")]
fn halves(bits: &[u16; LANES]) -> __m512 {
    // SAFETY: 32 bytes are read from an array of 32; no alignment is asked for.
    _mm512_cvtph_ps(unsafe { _mm256_loadu_si256(bits.as_ptr().cast()) })
}

/// Four activations, for all rows.
#[inline]
#[target_feature(enable = "avx512f")]
fn four_of(part: &Part, at: usize) -> __m512i {
    let [a, b, c, d] = [0, 1, 2, 3].map(|i| part.quants[at + i] as u8);
    _mm512_set1_epi32(i32::from_le_bytes([a, b, c, d]))
}

/// Returns T.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn four_tile<const T: usize>(group: &[Four], x: &[Part], out: &mut [[f32; LANES]]) -> usize {
    let width = group.len();
    let low = _mm512_set1_epi8(15);
    let mut sums = [_mm512_setzero_ps(); T];
    for (at, block) in group.iter().enumerate() {
        let mut dots = [_mm512_setzero_si512(); T];
        for (line, quants) in block.quants.iter().enumerate() {
            // SAFETY: 64 bytes are read from an array of 64.
            let bytes = unsafe { _mm512_loadu_si512(quants.as_ptr().cast()) };
            let first = _mm512_and_si512(bytes, low);
            let second = _mm512_and_si512(_mm512_srli_epi16::<4>(bytes), low);
            for (t, dot) in dots.iter_mut().enumerate() {
                // SAFETY: the caller gives `width` parts for each of T activations.
                let part = unsafe { x.get_unchecked(t * width + at) };
                *dot = _mm512_dpbusd_epi32(*dot, first, four_of(part, 4 * line));
                *dot = _mm512_dpbusd_epi32(*dot, second, four_of(part, 16 + 4 * line));
            }
        }
        let (scales, leasts) = (halves(&block.scales), halves(&block.leasts));
        for (t, (sum, dot)) in sums.iter_mut().zip(dots).enumerate() {
            // SAFETY: as above.
            let part = unsafe { x.get_unchecked(t * width + at) };
            let by = _mm512_set1_ps(part.scale);
            let less = _mm512_set1_ps(part.scale * part.sum as f32);
            *sum = _mm512_fmadd_ps(_mm512_mul_ps(scales, by), _mm512_cvtepi32_ps(dot), *sum);
            *sum = _mm512_fmadd_ps(leasts, less, *sum);
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        // SAFETY: 64 bytes are written to an array of 64.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
    }
    T
}

/// Returns T.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni,avx2,fma,f16c")]
unsafe fn eight_tile<const T: usize>(
    group: &[Eight],
    x: &[Part],
    out: &mut [[f32; LANES]],
) -> usize {
    let width = group.len();
    let mut sums = [_mm512_setzero_ps(); T];
    for (at, block) in group.iter().enumerate() {
        let mut dots = [_mm512_setzero_si512(); T];
        for (t, dot) in dots.iter_mut().enumerate() {
            // SAFETY: the caller gives `width` parts for each of T activations.
            let part = unsafe { x.get_unchecked(t * width + at) };
            // The weights are 128 too much each.
            *dot = _mm512_set1_epi32(-128 * part.sum);
        }
        for (line, quants) in block.quants.iter().enumerate() {
            // SAFETY: 64 bytes are read from an array of 64.
            let bytes = unsafe { _mm512_loadu_si512(quants.as_ptr().cast()) };
            for (t, dot) in dots.iter_mut().enumerate() {
                // SAFETY: as above.
                let part = unsafe { x.get_unchecked(t * width + at) };
                *dot = _mm512_dpbusd_epi32(*dot, bytes, four_of(part, 4 * line));
            }
        }
        let scales = halves(&block.scales);
        for (t, (sum, dot)) in sums.iter_mut().zip(dots).enumerate() {
            // SAFETY: as above.
            let part = unsafe { x.get_unchecked(t * width + at) };
            let by = _mm512_set1_ps(part.scale);
            *sum = _mm512_fmadd_ps(_mm512_mul_ps(scales, by), _mm512_cvtepi32_ps(dot), *sum);
        }
    }
    for (out, sum) in out.iter_mut().zip(sums) {
        // SAFETY: 64 bytes are written to an array of 64.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), sum) };
    }
    T
}

/// # Safety
///
/// The processor has the features named.
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
pub(super) unsafe fn scores(query: &[f32], keys: &[[f32; LANES]], out: &mut [f32; LANES]) {
    portable::scores_by(query, keys, out, f32::mul_add);
}

/// # Safety
///
/// The processor has the features named.
#[target_feature(enable = "avx512f,avx512vl,avx2,fma")]
pub(super) unsafe fn weighted(factors: &[f32], rows: &[f32], stride: usize, sum: &mut [f32]) {
    portable::weighted_by(factors, rows, stride, sum, f32::mul_add);
}
