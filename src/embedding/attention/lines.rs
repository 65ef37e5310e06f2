//! Attention with products of bf16.

use std::ops::Range;

use super::Heads;
use crate::embedding::kernels::{
    BLOCK, COLUMNS, Line, PANEL, Passing, ProductBf16, Session, SumsF32, lend, pair_strips,
    scale_to_bf16, softmax_to_bf16, turn_strips,
};
use crate::embedding::linear::Form;
use crate::embedding::parts::Parts;

/// Buffers for one head of one text.
#[derive(Default)]
pub(in crate::embedding) struct Scratch {
    /// Panels of the values, a row a token.
    values: Vec<Line>,
    /// Scores of a block of queries, a block of keys each.
    blocks: Vec<SumsF32>,
    /// The weights that they become.
    weights: Vec<Line>,
    sums: Box<SumsF32>,
}

impl Heads {
    /// Whether [`Heads::attend_lines`] can be: a head is whole lines, and no more columns than a
    /// block has.
    pub(in crate::embedding) fn fit_lines(self, form: Form) -> bool {
        form == Form::Bf16 && self.size.is_multiple_of(Line::HALVES) && self.size <= COLUMNS
    }

    /// Lines of a row of a head.
    pub(in crate::embedding) fn depth(self) -> usize {
        self.size / Line::HALVES
    }

    /// [`Heads::attend`] in bf16: from the parts of `qkv`, which are the heads of the queries, of the
    /// keys, and of the values, into strips of rows as wide as all heads.
    pub(in crate::embedding) fn attend_lines(
        self,
        session: &Session<'_>,
        qkv: &mut Parts,
        text: &Range<usize>,
        scratch: &mut Scratch,
        out: &mut [Line],
    ) {
        let (kernel, n, depth) = (session.kernel(), text.len(), self.depth());
        // So many lines hold a weight for every token.
        let reach = n.div_ceil(Line::HALVES);
        let Scratch { values, blocks, weights, sums } = scratch;
        let values = lend(values, 2 * depth * reach * PANEL, Line::ZERO);
        let blocks = lend(blocks, n.div_ceil(COLUMNS), SumsF32::default());
        let weights = lend(weights, BLOCK * reach, Line::ZERO);
        for head in 0..self.n {
            turn_strips(kernel, qkv.of_mut(self.n + head, text));
            let queries = qkv.of(head, text);
            let keys = qkv.of(self.n + head, text);
            pair_strips(kernel, qkv.of(2 * self.n + head, text), n, depth, values);
            for first in (0..n).step_by(BLOCK) {
                let rows = BLOCK.min(n - first);
                session.look();
                let queries = &queries[first * depth..];
                for (keys, block) in keys.chunks(COLUMNS * depth).zip(&mut *blocks) {
                    session.product_bf16(&whole(queries, rows, depth, keys), block);
                }
                let mut inverses = [0.0; BLOCK];
                let inverses = &mut inverses[..rows];
                softmax_to_bf16(kernel, blocks, n, weights, reach, inverses);
                session.product_bf16(&whole(weights, rows, reach, values), sums);
                let to = head * depth..(head + 1) * depth;
                scale_to_bf16(kernel, sums, inverses, out, text.start + first, to, self.n * depth);
            }
        }
    }
}

/// The product of all of some rows with all of some columns.
fn whole<'a>(a: &'a [Line], rows: usize, depth: usize, b: &'a [Line]) -> ProductBf16<'a> {
    ProductBf16 { a, rows, depth, b, part: 0..depth, passing: Passing::Columns }
}
