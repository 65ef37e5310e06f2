//! Products with AVX-512 and its products of pairs of 16-bit numbers (VNNI).

pub(super) mod lines;

use std::arch::x86_64::*;

use super::{PANEL, Product16, ProductF32, SumsI32, even_groups};

/// Rows whose sums are kept in registers at a time, with four panels each: 24 of the 32.
const ROWS: usize = 6;

/// See [`Product16`].
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
pub(super) fn product_i16(product: &Product16<'_>, out: &mut SumsI32) {
    let Product16 { rows, depth, b, .. } = *product;
    let n_panels = b.len() / (depth * PANEL);
    for (first, n) in even_groups(rows, ROWS) {
        let out = &mut out.0[first..first + n];
        match (n_panels, n) {
            (4, 1) => group::<1, 4>(product, first, 0, out),
            (4, 2) => group::<2, 4>(product, first, 0, out),
            (4, 3) => group::<3, 4>(product, first, 0, out),
            (4, 4) => group::<4, 4>(product, first, 0, out),
            (4, 5) => group::<5, 4>(product, first, 0, out),
            (4, _) => group::<ROWS, 4>(product, first, 0, out),
            (_, ROWS) => {
                (0..n_panels).for_each(|panel| group::<ROWS, 1>(product, first, panel, out));
            }
            _ => {
                for (r, out) in out.chunks_exact_mut(1).enumerate() {
                    (0..n_panels).for_each(|panel| group::<1, 1>(product, first + r, panel, out));
                }
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512vnni")]
fn group<const R: usize, const P: usize>(
    product: &Product16<'_>,
    first: usize,
    panel: usize,
    out: &mut [[i32; super::COLUMNS]],
) {
    let Product16 { a, depth, b, .. } = *product;
    let a = &a[first * depth..];
    let b = &b[panel * depth * PANEL..];
    assert!(a.len() >= R * depth && b.len() >= P * depth * PANEL && out.len() == R);
    let mut sums = [[_mm512_setzero_si512(); P]; R];
    for k in 0..depth * PANEL {
        let mut w = [_mm512_setzero_si512(); P];
        // SAFETY: `depth` lines a row and `16 · depth` lines a panel are there, as checked above,
        // and a line has 16 pairs of numbers.
        unsafe {
            for (p, w) in w.iter_mut().enumerate() {
                *w = _mm512_load_si512(b.as_ptr().add(p * depth * PANEL + k).cast());
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = a.as_ptr().add(r * depth).cast::<i32>().add(k);
                let x = _mm512_set1_epi32(*x);
                for (sum, &w) in sums.iter_mut().zip(&w) {
                    *sum = _mm512_dpwssd_epi32(*sum, x, w);
                }
            }
        }
    }
    for (sums, out) in sums.iter().zip(out) {
        for (p, &sum) in sums.iter().enumerate() {
            let out = &mut out[(panel + p) * PANEL..][..PANEL];
            // SAFETY: the slice has the 16 numbers that are written.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), sum) };
        }
    }
}

/// See [`ProductF32`].
#[target_feature(enable = "avx512f")]
pub(super) fn product_f32(product: &ProductF32<'_>, out: &mut [f32]) {
    let ProductF32 { rows, b, depth, .. } = *product;
    let n_panels = b.len() / (depth * PANEL);
    let mut panel = 0;
    while panel < n_panels {
        let width = if n_panels - panel >= 4 { 4 } else { (n_panels - panel).min(2) };
        for (first, n) in even_groups(rows, ROWS) {
            match width {
                4 => rows_f32::<4>(product, first, n, panel, out),
                2 => rows_f32::<2>(product, first, n, panel, out),
                _ => rows_f32::<1>(product, first, n, panel, out),
            }
        }
        panel += width;
    }
}

#[target_feature(enable = "avx512f")]
fn rows_f32<const P: usize>(
    product: &ProductF32<'_>,
    first: usize,
    n: usize,
    panel: usize,
    out: &mut [f32],
) {
    match n {
        1 => group_f32::<1, P>(product, first, panel, out),
        2 => group_f32::<2, P>(product, first, panel, out),
        3 => group_f32::<3, P>(product, first, panel, out),
        4 => group_f32::<4, P>(product, first, panel, out),
        5 => group_f32::<5, P>(product, first, panel, out),
        _ => group_f32::<ROWS, P>(product, first, panel, out),
    }
}

#[target_feature(enable = "avx512f")]
fn group_f32<const R: usize, const P: usize>(
    product: &ProductF32<'_>,
    first: usize,
    panel: usize,
    out: &mut [f32],
) {
    let ProductF32 { a, a_stride, depth, b, stride, .. } = *product;
    let a = &a[first * a_stride..];
    let b = &b[panel * depth * PANEL..];
    assert!(a.len() >= (R - 1) * a_stride + depth && b.len() >= P * depth * PANEL);
    let mut sums = [[_mm512_setzero_ps(); P]; R];
    for k in 0..depth {
        let mut w = [_mm512_setzero_ps(); P];
        // SAFETY: the lengths are checked above.
        unsafe {
            for (p, w) in w.iter_mut().enumerate() {
                *w = _mm512_loadu_ps(b.as_ptr().add((p * depth + k) * PANEL));
            }
            for (r, sums) in sums.iter_mut().enumerate() {
                let x = _mm512_set1_ps(*a.as_ptr().add(r * a_stride + k));
                for (sum, &w) in sums.iter_mut().zip(&w) {
                    *sum = _mm512_fmadd_ps(x, w, *sum);
                }
            }
        }
    }
    for (r, sums) in sums.iter().enumerate() {
        let out = &mut out[(first + r) * stride + panel * PANEL..][..P * PANEL];
        for (p, &sum) in sums.iter().enumerate() {
            // SAFETY: the slice has 16 numbers for each panel.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr().add(p * PANEL), sum) };
        }
    }
}
