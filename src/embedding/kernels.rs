//! The arithmetic: matrix products, and the loops between them, each for several instruction sets
//! of which one is chosen when a model is loaded.
//!
//! A matrix of weights is cut into panels of [`PANEL`] columns. In a panel of floats, the numbers
//! of one row stand side by side. In a panel of 16-bit numbers, those of two rows do, column by
//! column, so that a line of 64 bytes holds two rows of 16 columns: what the product instructions
//! of 16-bit numbers take.
//!
//! Rows of bf16 that meet panels stand in strips of [`STRIP`]: the first lines of all its rows, then
//! the second ones, and so on, so that a tile of them is one stretch of memory.
//!
//! Every set makes the same sums of integer products, bit by bit. Floats differ in rounding.

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod isa;
mod lines;
mod portable;
mod rows;

use std::ops::Range;

use super::between::Between;
pub(super) use isa::Kernel;
pub use isa::{Isa, UnknownIsa};
pub(super) use lines::{Line, floats, floats_mut, halves_mut, in_strip, lend, words_mut};
pub(super) use rows::{
    Affine, Columns, LineOf, add_and_normalize, add_bias, add_bias_gelu, dequantise,
    dequantise_gelu, finish, finish_gelu, finish_gelu_to_bf16, finish_to_bf16, normalize,
    pair_strips, pair_values, quantise, quantise_lines, round_to_bf16, scale, scale_to_bf16,
    softmax, softmax_to_bf16, softmax_to_i16, turn_strips,
};

/// Columns of a panel.
pub(super) const PANEL: usize = 16;
/// Rows of a strip.
pub(super) const STRIP: usize = 16;
/// Rows of a block: the most that one product of 16-bit numbers takes.
pub(super) const BLOCK: usize = 32;
/// Columns of a block.
pub(super) const COLUMNS: usize = 64;

/// The sums of a block, row by row.
#[repr(C, align(64))]
#[derive(Clone)]
pub(super) struct Sums<T>(pub(super) [[T; COLUMNS]; BLOCK]);

pub(super) type SumsI32 = Sums<i32>;
pub(super) type SumsF32 = Sums<f32>;

impl<T: Copy + Default> Default for Sums<T> {
    fn default() -> Self {
        Self([[T::default(); COLUMNS]; BLOCK])
    }
}

/// A product of integers of 16 bits. It sets `out[r][c]` to the sum over `k` of `a[r][k] · b[k][c]` for
/// the columns that `b` has; what it leaves in further columns of `out`, and in rows from `rows`
/// on, is of no use.
#[derive(Clone, Copy)]
pub(super) struct Product16<'a> {
    /// Rows of `depth` lines. There must be a multiple of 16 of them, and at least `rows`.
    pub(super) a: &'a [Line],
    /// At most [`BLOCK`].
    pub(super) rows: usize,
    /// Lines of a row; a line is 32 numbers.
    pub(super) depth: usize,
    /// Panels of 16 · `depth` lines; at most [`COLUMNS`] columns.
    pub(super) b: &'a [Line],
}

impl Product16<'_> {
    fn check(&self) {
        let Self { a, rows, depth, b } = *self;
        assert!(rows <= BLOCK && rows.next_multiple_of(16) * depth <= a.len());
        assert!(depth > 0 && b.len().is_multiple_of(depth * PANEL));
        assert!(b.len() / depth <= COLUMNS);
    }
}

/// A product of bf16 into floats. It sets `out[r][c]` to the sum over `k` of `a[r][k] · b[k][c]` for
/// the columns that `b` has; what it leaves in further columns of `out`, and in rows from `rows`
/// on, is of no use.
pub(super) struct ProductBf16<'a> {
    /// Strips with at least `rows` rows of `depth` lines.
    pub(super) a: &'a [Line],
    /// At most [`BLOCK`].
    pub(super) rows: usize,
    /// Lines of a row; a line is 32 numbers.
    pub(super) depth: usize,
    /// Panels of 16 · `depth` lines; at most [`COLUMNS`] columns.
    pub(super) b: &'a [Line],
    /// The lines of the rows that count, of which there is one at least. Their products are added to
    /// what `out` has, unless they are the first.
    pub(super) part: Range<usize>,
    pub(super) passing: Passing<'a>,
}

/// Which side of a product need not stay in the first-level cache. A hint.
pub(super) enum Passing<'a> {
    /// The columns: the rows stay for the next ones.
    Columns,
    /// The rows: the columns stay for the next ones.
    Rows {
        /// The lines from where on columns will be read after these: what fits is fetched meanwhile.
        next: [&'a [Line]; 2],
    },
}

impl ProductBf16<'_> {
    fn check(&self) {
        let Self { a, rows, depth, b, part, .. } = self;
        assert!(*rows <= BLOCK && rows.next_multiple_of(STRIP) * depth <= a.len());
        assert!(*depth > 0 && b.len().is_multiple_of(depth * PANEL));
        assert!(b.len() / depth <= COLUMNS);
        assert!(part.start < part.end && part.end <= *depth);
    }
}

/// A product of floats. It sets `out[r * stride + c]` to the sum over `k` of `a[r][k] · b[k][c]`.
#[derive(Clone, Copy)]
pub(super) struct ProductF32<'a> {
    /// Rows of `depth` numbers, the next one `a_stride` after the start of one.
    pub(super) a: &'a [f32],
    pub(super) a_stride: usize,
    pub(super) rows: usize,
    pub(super) depth: usize,
    /// Panels of `depth` rows of [`PANEL`] numbers.
    pub(super) b: &'a [f32],
    /// Numbers of a row of the result; not less than the columns of `b`.
    pub(super) stride: usize,
}

/// A kernel at work on this thread.
pub(super) struct Session<'a> {
    kernel: Kernel,
    between: Option<&'a Between<'a>>,
    #[cfg(target_arch = "x86_64")]
    tiles: Option<amx::Tiles>,
}

impl<'a> Session<'a> {
    /// At most one a thread at a time, but for what comes in `between`.
    pub(super) fn new(kernel: Kernel, between: Option<&'a Between<'a>>) -> Self {
        Self {
            kernel,
            between,
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the kernel proves that tiles are granted; sessions do not nest.
            tiles: (kernel.isa() == Isa::Amx).then(|| unsafe { amx::Tiles::take() }),
        }
    }

    pub(super) fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Serves what waits to come in between; to be called often, where nothing is half done.
    pub(super) fn look(&self) {
        let Some(between) = self.between.filter(|between| between.is_wanted()) else { return };
        #[cfg(target_arch = "x86_64")]
        if let Some(tiles) = &self.tiles {
            return tiles.set_aside(|| between.serve());
        }
        between.serve();
    }

    /// See [`Product16`]. The sums are exact as long as those of
    /// the magnitudes stay below 2^31.
    pub(super) fn product_i16(&self, product: &Product16<'_>, out: &mut SumsI32) {
        product.check();
        match self.kernel.isa() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the kernel proves that the processor has the instructions.
            Isa::Amx | Isa::Avx512Vnni => unsafe { avx512::product_i16(product, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { avx2::product_i16(product, out) },
            _ => portable::product_i16(product, out),
        }
    }

    /// See [`ProductBf16`].
    pub(super) fn product_bf16(&self, product: &ProductBf16<'_>, out: &mut SumsF32) {
        #[cfg(target_arch = "x86_64")]
        if let Some(tiles) = &self.tiles {
            return tiles.product_bf16(product, out);
        }
        portable::product_bf16(product, out);
    }

    /// See [`ProductF32`].
    pub(super) fn product_f32(&self, product: &ProductF32<'_>, out: &mut [f32]) {
        let ProductF32 { a, a_stride, rows, depth, b, stride } = *product;
        if rows == 0 {
            return;
        }
        assert!(depth > 0 && (rows - 1) * a_stride + depth <= a.len());
        assert!(b.len().is_multiple_of(depth * PANEL) && b.len() / depth <= stride);
        assert!((rows - 1) * stride + b.len() / depth <= out.len());
        match self.kernel.isa() {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: the kernel proves that the processor has the instructions.
            Isa::Amx | Isa::Avx512Vnni => unsafe { avx512::product_f32(product, out) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: as above.
            Isa::Avx2 => unsafe { avx2::product_f32(product, out) },
            _ => portable::product_f32(product, out),
        }
    }
}

/// `n` in as few groups of at most `max` as there can be, of nearly the same size: where each
/// starts, and its size.
pub(super) fn even_groups(n: usize, max: usize) -> impl Iterator<Item = (usize, usize)> {
    let groups = n.div_ceil(max);
    (0..groups).map(move |i| {
        let start = i * n / groups;
        (start, (i + 1) * n / groups - start)
    })
}

#[cfg(test)]
mod tests;
