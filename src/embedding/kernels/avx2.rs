//! Products with AVX2 and fused multiplication.

use std::arch::asm;
use std::arch::x86_64::*;

use super::{Line, PANEL, Product16, ProductF32, SumsI32, even_groups};

/// Rows whose sums are kept in registers at a time: six of two registers each, besides two of
/// weights, one of a row and one of products, are all sixteen.
const ROWS: usize = 6;

/// Where a group of rows is read next.
///
/// Six rows from two addresses and the distance between rows, as x86 can add one or two of it to
/// an address for nothing. Left to itself, the compiler computes an address a row in each step, a
/// fifth of all instructions of a loop that is limited by how many can begin at a time.
#[derive(Clone, Copy)]
struct Rows {
    first: *const u8,
    fourth: *const u8,
    /// Bytes from a row to the next.
    stride: usize,
}

impl Rows {
    fn new(first: *const u8, stride: usize) -> Self {
        Self { first, fourth: first.wrapping_add(3 * stride), stride }
    }

    /// The next four bytes of a row, eight times.
    ///
    /// # Safety
    ///
    /// They must be there, and `row` be less than [`ROWS`].
    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn spread(&self, row: usize) -> __m256 {
        let spread;
        let base = if row < 3 { self.first } else { self.fourth };
        // SAFETY: reads what the caller says is there.
        unsafe {
            match row % 3 {
                0 => asm!(
                    "vbroadcastss {}, dword ptr [{}]",
                    out(ymm_reg) spread, in(reg) base,
                    options(pure, readonly, nostack, preserves_flags),
                ),
                1 => asm!(
                    "vbroadcastss {}, dword ptr [{} + {}]",
                    out(ymm_reg) spread, in(reg) base, in(reg) self.stride,
                    options(pure, readonly, nostack, preserves_flags),
                ),
                _ => asm!(
                    "vbroadcastss {}, dword ptr [{} + 2*{}]",
                    out(ymm_reg) spread, in(reg) base, in(reg) self.stride,
                    options(pure, readonly, nostack, preserves_flags),
                ),
            }
        }
        spread
    }

    /// On to the four bytes behind.
    fn step(&mut self) {
        self.first = self.first.wrapping_add(4);
        self.fourth = self.fourth.wrapping_add(4);
    }
}

/// See [`Product16`].
#[target_feature(enable = "avx2")]
pub(super) fn product_i16(product: &Product16<'_>, out: &mut SumsI32) {
    let Product16 { rows, depth, b, .. } = *product;
    for panel in 0..b.len() / (depth * PANEL) {
        for (first, n) in even_groups(rows, ROWS) {
            let out = &mut out.0[first..first + n];
            match n {
                1 => group::<1>(product, first, panel, out),
                2 => group::<2>(product, first, panel, out),
                3 => group::<3>(product, first, panel, out),
                4 => group::<4>(product, first, panel, out),
                5 => group::<5>(product, first, panel, out),
                _ => group::<ROWS>(product, first, panel, out),
            }
        }
    }
}

#[target_feature(enable = "avx2")]
fn group<const R: usize>(
    product: &Product16<'_>,
    first: usize,
    panel: usize,
    out: &mut [[i32; super::COLUMNS]],
) {
    let Product16 { a, depth, b, .. } = *product;
    let a = &a[first * depth..];
    let b = &b[panel * depth * PANEL..][..depth * PANEL];
    assert!(a.len() >= R * depth && out.len() == R);
    let mut sums = [[_mm256_setzero_si256(); 2]; R];
    let mut rows = Rows::new(a.as_ptr().cast(), depth * Line::BYTES);
    for line in b {
        // SAFETY: a line has 64 bytes, the pairs of 16 columns; `depth` lines a row are there, as
        // checked above, with 16 pairs each.
        unsafe {
            let w = line.0.as_ptr().cast::<__m256i>();
            let (w0, w1) = (_mm256_load_si256(w), _mm256_load_si256(w.add(1)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = _mm256_castps_si256(rows.spread(r));
                sums[0] = _mm256_add_epi32(sums[0], _mm256_madd_epi16(w0, x));
                sums[1] = _mm256_add_epi32(sums[1], _mm256_madd_epi16(w1, x));
            }
        }
        rows.step();
    }
    for (sums, out) in sums.iter().zip(out) {
        let out = &mut out[panel * PANEL..][..PANEL];
        // SAFETY: the slice has the 16 numbers that are written.
        unsafe {
            let out = out.as_mut_ptr().cast::<__m256i>();
            _mm256_storeu_si256(out, sums[0]);
            _mm256_storeu_si256(out.add(1), sums[1]);
        }
    }
}

/// See [`ProductF32`].
#[target_feature(enable = "avx2,fma")]
pub(super) fn product_f32(product: &ProductF32<'_>, out: &mut [f32]) {
    let ProductF32 { rows, b, depth, stride, .. } = *product;
    for (p, panel) in b.chunks_exact(depth * PANEL).enumerate() {
        for (first, n) in even_groups(rows, ROWS) {
            let out = &mut out[first * stride + p * PANEL..];
            match n {
                1 => group_f32::<1>(product, first, panel, out),
                2 => group_f32::<2>(product, first, panel, out),
                3 => group_f32::<3>(product, first, panel, out),
                4 => group_f32::<4>(product, first, panel, out),
                5 => group_f32::<5>(product, first, panel, out),
                _ => group_f32::<ROWS>(product, first, panel, out),
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn group_f32<const R: usize>(
    product: &ProductF32<'_>,
    first: usize,
    panel: &[f32],
    out: &mut [f32],
) {
    let ProductF32 { a, a_stride, depth, stride, .. } = *product;
    let a = &a[first * a_stride..];
    assert!(a.len() >= (R - 1) * a_stride + depth && panel.len() == depth * PANEL);
    let mut sums = [[_mm256_setzero_ps(); 2]; R];
    let mut rows = Rows::new(a.as_ptr().cast(), a_stride * size_of::<f32>());
    for w in panel.as_chunks::<PANEL>().0 {
        // SAFETY: a line of the panel has 16 numbers, and `depth` of each row are there, as checked
        // above.
        unsafe {
            let (w0, w1) = (_mm256_loadu_ps(w.as_ptr()), _mm256_loadu_ps(w.as_ptr().add(8)));
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = rows.spread(r);
                sums[0] = _mm256_fmadd_ps(x, w0, sums[0]);
                sums[1] = _mm256_fmadd_ps(x, w1, sums[1]);
            }
        }
        rows.step();
    }
    for (sums, out) in sums.iter().zip(out.chunks_mut(stride)) {
        let out = &mut out[..PANEL];
        // SAFETY: the slice has the 16 numbers that are written.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), sums[0]);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), sums[1]);
        }
    }
}
