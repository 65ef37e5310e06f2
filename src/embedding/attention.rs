//! Attention within each text, head by head.

use std::ops::Range;

mod integers;
mod lines;

use super::kernels::{BLOCK, Line, PANEL, ProductF32, Session, floats_mut, lend, scale, softmax};
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
    out: Vec<f32>,
    /// For [`Heads::attend_lines`].
    pub(super) of_lines: lines::Scratch,
    /// For [`Heads::attend_one_integers`].
    of_integers: integers::Scratch,
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
    /// all heads side by side, the queries scaled. In integers, where weights are and heads fit.
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
        for head in 0..self.n {
            if self.fit_integers(form) {
                let scratch = &mut scratch.of_integers;
                self.attend_one_integers(session, projected, head, scratch, out);
            } else {
                self.attend_one(session, projected, head, scratch, out);
            }
        }
    }

    fn attend_one(
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
            let mut inverses = [0.0; BLOCK];
            let inverses = &mut inverses[..rows];
            softmax(session.kernel(), &mut scores[..rows * columns], columns, n, inverses);
            let a = &*scores;
            let product =
                ProductF32 { a, a_stride: columns, rows, depth: n, b: values, stride: width };
            session.product_f32(&product, part);
            let out = &mut out[first * stride(hidden) + at..];
            scale(session.kernel(), part, width, self.size, inverses, out, stride(hidden));
        }
    }
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
    use crate::embedding::kernels::{COLUMNS, Isa, Kernel, Sums, finish_to_bf16, in_strip};
    use crate::embedding::parts::Parts;

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
                let mut out = vec![7.0; (n + 3) * stride(hidden)];
                heads.attend(&session, Form::F32, &qkv, 2..2 + n, &mut scratch, &mut out);
                for (t, want) in want.chunks(hidden).enumerate() {
                    for (x, y) in out[(t + 2) * stride(hidden)..].iter().zip(want) {
                        prop_assert!((f64::from(*x) - y).abs() < 1e-5, "{isa}: {x} {y}");
                    }
                }
                prop_assert!(out[..2 * stride(hidden)].iter().all(|&x| x == 7.0));
                prop_assert!(out[(n + 2) * stride(hidden)..].iter().all(|&x| x == 7.0));
                if heads.fit_integers(Form::I16) {
                    let mut out = vec![7.0; (n + 3) * stride(hidden)];
                    heads.attend(&session, Form::I16, &qkv, 2..2 + n, &mut scratch, &mut out);
                    for (t, want) in want.chunks(hidden).enumerate() {
                        for (x, y) in out[(t + 2) * stride(hidden)..].iter().zip(want) {
                            prop_assert!((f64::from(*x) - y).abs() < 1e-3, "{isa} in integers: {x} {y}");
                        }
                    }
                    prop_assert!(out[..2 * stride(hidden)].iter().all(|&x| x == 7.0));
                    prop_assert!(out[(n + 2) * stride(hidden)..].iter().all(|&x| x == 7.0));
                }
                if !heads.fit_lines(Form::Bf16) {
                    continue;
                }
                let (depth, wide) = (heads.depth(), 2 * heads.depth());
                let texts = [0..2, 2..2 + n, 2 + n..3 + n];
                let mut parts = Parts::default();
                parts.arrange(3 * heads.n, depth, &texts);
                for (line, t) in (0..3 * wide).flat_map(|line| (0..n + 3).map(move |t| (line, t))) {
                    let mut sums = Sums([[0.0; COLUMNS]; BLOCK]);
                    sums.0[0][..32].copy_from_slice(&qkv[t * row + line * 32..][..32]);
                    let out = parts.line_mut(line, t..t + 1);
                    finish_to_bf16(session.kernel(), &sums, 0, &[0.0; 32], out);
                }
                let untouched = Line([0x55; 64]);
                let mut out = vec![untouched; (n + 3).next_multiple_of(16) * wide];
                heads.attend_lines(&session, &mut parts, &texts[1], &mut scratch.of_lines, &mut out);
                for (t, line) in (0..n + 3).flat_map(|t| (0..wide).map(move |line| (t, line))) {
                    let got = &out[in_strip(t, line, wide)];
                    if !texts[1].contains(&t) {
                        prop_assert_eq!(*got, untouched);
                        continue;
                    }
                    for (x, y) in got.halves().iter().zip(&want[(t - 2) * hidden + line * 32..]) {
                        let x = half::bf16::from_bits(*x).to_f64();
                        prop_assert!((x - y).abs() < 1e-2, "{isa} in lines: {x} {y}");
                    }
                }
            }
        }
    }
}
