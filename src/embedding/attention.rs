//! Attention within each text, head by head.

use std::ops::Range;

use super::kernels::{
    BLOCK, COLUMNS, Line, PANEL, Passing, ProductBf16, ProductF32, Session, SumsF32, floats_mut,
    lend, pair_to_bf16, round_to_bf16, scale_rows, softmax, softmax_to_bf16, turn_to_bf16,
};
use super::linear::{Form, stride};

/// The heads and where their numbers stand.
#[derive(Debug, Clone, Copy)]
pub(super) struct Heads {
    pub(super) n: usize,
    /// Numbers of a head.
    pub(super) size: usize,
}

/// Buffers for one head of one text.
#[derive(Default)]
pub(super) struct Scratch {
    /// Panels of the keys, turned: a column a token.
    keys: Vec<Line>,
    /// Panels of the values, a row a token.
    values: Vec<Line>,
    scores: Vec<f32>,
    /// Scores of a block of queries, a block of keys each.
    blocks: Vec<SumsF32>,
    out: Vec<f32>,
    /// Rows of queries, or of probabilities, in bf16.
    rows: Vec<Line>,
    sums: Box<SumsF32>,
}

/// The tokens' queries, keys and values, side by side in a row, all heads of each together; the
/// queries are scaled.
#[derive(Clone, Copy)]
pub(super) struct Projected<'a> {
    numbers: &'a [f32],
    /// Tokens.
    n: usize,
    /// Numbers from one row to the next.
    row: usize,
    hidden: usize,
}

impl Heads {
    /// For each token of `text`, the mean of the values of its tokens, weighted by how well their
    /// keys fit the query, into its row of `out`. A row of `qkv` has queries, keys and values of
    /// all heads side by side, the queries scaled. With `Form::Bf16` the products are of bf16
    /// where the size of a head allows it.
    pub(super) fn attend(
        self,
        session: &Session<'_>,
        form: Form,
        qkv: &[f32],
        text: Range<usize>,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let hidden = self.n * self.size;
        let row = stride(3 * hidden);
        let numbers = &qkv[text.start * row..text.end * row];
        let projected = Projected { numbers, n: text.len(), row, hidden };
        let out = &mut out[text.start * stride(hidden)..text.end * stride(hidden)];
        // Whole lines deep, and no more columns than a block has.
        let fits = self.size.is_multiple_of(Line::HALVES) && self.size <= COLUMNS;
        for head in 0..self.n {
            if form == Form::Bf16 && fits {
                self.head_bf16(session, projected, head, scratch, out);
            } else {
                self.head_f32(session, projected, head, scratch, out);
            }
        }
    }

    fn head_f32(
        self,
        session: &Session<'_>,
        projected: Projected<'_>,
        head: usize,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let Projected { numbers, n, row, hidden } = projected;
        let (at, depth, columns, width) =
            (head * self.size, self.size, stride(n), stride(self.size));
        let Scratch { keys, values, scores, out: part, .. } = scratch;
        let keys = floats_mut(lend(keys, columns / PANEL * self.size, Line::ZERO));
        let values = floats_mut(lend(values, width / PANEL * n, Line::ZERO));
        let scores = lend(scores, BLOCK * columns, 0.0);
        let part = lend(part, BLOCK * width, 0.0);
        turn(&numbers[hidden + at..], row, self.size, n, keys);
        pack(&numbers[2 * hidden + at..], row, self.size, n, values);
        for first in (0..n).step_by(BLOCK) {
            let rows = BLOCK.min(n - first);
            session.look();
            let a = &numbers[first * row + at..];
            let product = ProductF32 { a, a_stride: row, rows, depth, b: keys, stride: columns };
            session.product_f32(&product, scores);
            softmax(session.kernel(), &mut scores[..rows * columns], columns, n);
            let a = &*scores;
            let product =
                ProductF32 { a, a_stride: columns, rows, depth: n, b: values, stride: width };
            session.product_f32(&product, part);
            let out = out[first * stride(hidden)..].chunks_mut(stride(hidden));
            for (part, out) in part.chunks_exact(width).take(rows).zip(out) {
                out[at..at + self.size].copy_from_slice(&part[..self.size]);
            }
        }
    }

    fn head_bf16(
        self,
        session: &Session<'_>,
        projected: Projected<'_>,
        head: usize,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let Projected { numbers, n, row, hidden } = projected;
        let (kernel, size, at) = (session.kernel(), self.size, head * self.size);
        // A key is this many lines, and so many lines hold a weight for every token.
        let (depth, reach) = (size / Line::HALVES, n.div_ceil(Line::HALVES));
        let Scratch { keys, values, blocks, rows: lines, sums, .. } = scratch;
        let keys = lend(keys, stride(n) * depth, Line::ZERO);
        let values = lend(values, size / PANEL * reach * PANEL, Line::ZERO);
        let blocks = lend(blocks, n.div_ceil(COLUMNS), SumsF32::default());
        let lines = lend(lines, BLOCK * depth.max(reach), Line::ZERO);
        turn_to_bf16(kernel, &numbers[hidden + at..], row, size, keys);
        pair_to_bf16(kernel, &numbers[2 * hidden + at..], row, size, values, reach);
        for first in (0..n).step_by(BLOCK) {
            let rows = BLOCK.min(n - first);
            session.look();
            let queries = &numbers[first * row + at..];
            let a = &mut lines[..BLOCK * depth];
            round_to_bf16(kernel, queries, row, size, a, depth);
            for (b, block) in keys.chunks(COLUMNS * depth).zip(&mut *blocks) {
                session.product_bf16(&whole(a, rows, depth, b), block);
            }
            let a = &mut lines[..BLOCK * reach];
            let mut inverses = [0.0; BLOCK];
            softmax_to_bf16(kernel, blocks, n, a, reach, &mut inverses[..rows]);
            session.product_bf16(&whole(a, rows, reach, values), sums);
            scale_rows(
                kernel,
                sums,
                &inverses[..rows],
                size,
                &mut out[first * stride(hidden) + at..],
                stride(hidden),
            );
        }
    }
}

/// The product of all of some rows with all of some columns.
fn whole<'a>(a: &'a [Line], rows: usize, depth: usize, b: &'a [Line]) -> ProductBf16<'a> {
    ProductBf16 { a, rows, depth, b, part: 0..depth, passing: Passing::Columns }
}

/// Panels whose columns are the first `size` numbers of `n` rows.
fn turn(numbers: &[f32], row: usize, size: usize, n: usize, panels: &mut [f32]) {
    for (p, panel) in panels.chunks_exact_mut(size * PANEL).enumerate() {
        let first = p * PANEL;
        for t in 0..PANEL {
            // Columns beyond the last are never looked at, but must not be left over numbers that
            // overflow.
            let source = numbers[(first + t).min(n - 1) * row..][..size].iter();
            for (line, x) in panel.as_chunks_mut::<PANEL>().0.iter_mut().zip(source) {
                line[t] = *x;
            }
        }
    }
}

/// Panels whose rows are the first `size` numbers of `n` rows.
fn pack(numbers: &[f32], row: usize, size: usize, n: usize, panels: &mut [f32]) {
    for (p, panel) in panels.chunks_exact_mut(n * PANEL).enumerate() {
        let from = p * PANEL;
        let width = PANEL.min(size - from);
        for (t, line) in panel.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            line[..width].copy_from_slice(&numbers[t * row + from..][..width]);
            line[width..].fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::embedding::kernels::{Isa, Kernel};

    /// By definition, in f64.
    fn defined(heads: Heads, qkv: &[f32], n: usize) -> Vec<f64> {
        let hidden = heads.n * heads.size;
        let row = stride(3 * hidden);
        let at = |t: usize, i: usize| f64::from(qkv[t * row + i]);
        let mut out = vec![0.0; n * hidden];
        for head in 0..heads.n {
            let from = head * heads.size;
            for t in 0..n {
                let weight = |u: usize| {
                    let numbers = from..from + heads.size;
                    numbers.map(|i| at(t, i) * at(u, hidden + i)).sum::<f64>().exp()
                };
                let weights: Vec<f64> = (0..n).map(weight).collect();
                let sum: f64 = weights.iter().sum();
                for i in from..from + heads.size {
                    let values = (0..n).map(|u| weights[u] * at(u, 2 * hidden + i));
                    out[t * hidden + i] = values.sum::<f64>() / sum;
                }
            }
        }
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(24))]

        #[test]
        fn attention_is_what_it_is_defined_to_be(
            n in prop_oneof![1..=3usize, 15..=17usize, 31..=33usize, 60..=100usize],
            size in prop_oneof![Just(32usize), Just(64), Just(26), Just(16)],
            seed in any::<u32>(),
        ) {
            let heads = Heads { n: 2, size };
            let (hidden, row) = (2 * size, stride(6 * size));
            let mut state = u64::from(seed) + 1;
            let mut number = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 40) as f32 / (1 << 24) as f32 - 0.5
            };
            // A text before and one behind, which must not count.
            let mut qkv = vec![1e6; 2 * row];
            qkv.extend((0..n * row).map(|_| number()));
            qkv.extend(vec![1e6; row]);
            let want = defined(heads, &qkv[2 * row..], n);
            for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
                let session = Session::new(Kernel::choose(Some(isa)).unwrap(), None);
                let mut scratch = Scratch::default();
                for (form, error) in [(Form::F32, 1e-5), (Form::Bf16, 1e-2)] {
                    let mut out = vec![7.0; (n + 3) * stride(hidden)];
                    heads.attend(&session, form, &qkv, 2..2 + n, &mut scratch, &mut out);
                    for (t, want) in want.chunks(hidden).enumerate() {
                        for (x, y) in out[(t + 2) * stride(hidden)..].iter().zip(want) {
                            prop_assert!((f64::from(*x) - y).abs() < error, "{isa} {form:?}: {x} {y}");
                        }
                    }
                    prop_assert!(out[..2 * stride(hidden)].iter().all(|&x| x == 7.0));
                    prop_assert!(out[(n + 2) * stride(hidden)..].iter().all(|&x| x == 7.0));
                }
            }
        }
    }
}
