//! Products in plain Rust, for processors without better, and what the others are tested against.

use super::{Line, PANEL, Product16, ProductBf16, ProductF32, SumsF32, SumsI32, in_strip};

/// Rows whose sums are kept at a time.
const ROWS: usize = 2;

/// See [`Product16`].
pub(super) fn product_i16(product: &Product16<'_>, out: &mut SumsI32) {
    let Product16 { a, rows, depth, b } = *product;
    for (row, out) in a.chunks_exact(depth).take(rows).zip(&mut out.0) {
        for (panel, out) in b.chunks_exact(depth * PANEL).zip(out.as_chunks_mut::<PANEL>().0) {
            *out = [0; PANEL];
            for (row, panel) in row.iter().zip(panel.as_chunks::<PANEL>().0) {
                line(row, panel, out);
            }
        }
    }
}

/// Adds the products of 32 numbers of a row and those of 16 columns.
#[inline(always)]
fn line(row: &Line, columns: &[Line; PANEL], out: &mut [i32; PANEL]) {
    let number = |low: u8, high: u8| i32::from(i16::from_le_bytes([low, high]));
    for (x, columns) in row.0.as_chunks::<4>().0.iter().zip(columns) {
        let (x0, x1) = (number(x[0], x[1]), number(x[2], x[3]));
        for (sum, w) in out.iter_mut().zip(columns.0.as_chunks::<4>().0) {
            *sum += x0 * number(w[0], w[1]) + x1 * number(w[2], w[3]);
        }
    }
}

/// See [`ProductBf16`]. Never chosen where it is not tested against: floats are quicker here.
pub(super) fn product_bf16(product: &ProductBf16<'_>, out: &mut SumsF32) {
    product.check();
    let ProductBf16 { a, rows, depth, b, ref part, .. } = *product;
    let number = |low: u8, high: u8| f32::from_bits(u32::from_le_bytes([0, 0, low, high]));
    for (r, out) in out.0.iter_mut().enumerate().take(rows) {
        for (panel, out) in b.chunks_exact(depth * PANEL).zip(out.as_chunks_mut::<PANEL>().0) {
            if part.start == 0 {
                *out = [0.0; PANEL];
            }
            for i in part.clone() {
                let pairs = a[in_strip(r, i, depth)].0.as_chunks::<4>().0;
                for (x, line) in pairs.iter().zip(&panel[i * PANEL..]) {
                    let (x0, x1) = (number(x[0], x[1]), number(x[2], x[3]));
                    for (sum, w) in out.iter_mut().zip(line.0.as_chunks::<4>().0) {
                        *sum += x0 * number(w[0], w[1]) + x1 * number(w[2], w[3]);
                    }
                }
            }
        }
    }
}

/// See [`ProductF32`].
pub(super) fn product_f32(product: &ProductF32<'_>, out: &mut [f32]) {
    let ProductF32 { rows, b, depth, stride, .. } = *product;
    for (p, panel) in b.chunks_exact(depth * PANEL).enumerate() {
        let mut row = 0;
        while row + ROWS <= rows {
            group::<ROWS>(product, row, panel, &mut out[row * stride + p * PANEL..]);
            row += ROWS;
        }
        if row < rows {
            group::<1>(product, row, panel, &mut out[row * stride + p * PANEL..]);
        }
    }
}

#[inline(always)]
fn group<const R: usize>(product: &ProductF32<'_>, row: usize, panel: &[f32], out: &mut [f32]) {
    let ProductF32 { a, a_stride, depth, stride, .. } = *product;
    let mut sums = [[0.0f32; PANEL]; R];
    let rows: [&[f32]; R] = std::array::from_fn(|r| &a[(row + r) * a_stride..][..depth]);
    for (k, w) in panel.as_chunks::<PANEL>().0.iter().enumerate() {
        for (sums, row) in sums.iter_mut().zip(rows) {
            let x = row[k];
            for (sum, w) in sums.iter_mut().zip(w) {
                *sum += x * w;
            }
        }
    }
    for (sums, out) in sums.iter().zip(out.chunks_mut(stride)) {
        out[..PANEL].copy_from_slice(sums);
    }
}
