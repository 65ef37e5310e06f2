//! Attention with products of 16-bit integers.
//!
//! Queries and keys of a head have a scale each, of 13 bits; so has each column of the values, of 12;
//! and each row of weights, which are rounded before they are made to sum to 1.

use super::{Heads, Projected};
use crate::embedding::kernels::{
    BLOCK, COLUMNS, Columns, Line, PANEL, Product16, Session, SumsI32, dequantise, lend,
    pair_values, quantise_lines, softmax_to_i16, turn_strips,
};
use crate::embedding::linear::{Form, limit, stride};

/// Magnitude of the largest value of a column. The weights of a row take what is left of 31 bits: 15
/// for the largest of them, unless all together are more than 16 times as much.
const VALUES: f32 = 4095.0;

/// Buffers for one head of one text.
#[derive(Default)]
pub(in crate::embedding) struct Scratch {
    queries: Vec<Line>,
    /// Panels of the keys, a column a token.
    keys: Vec<Line>,
    /// Panels of the values, a row a token.
    values: Vec<Line>,
    /// Scores of a block of queries, a block of keys each.
    blocks: Vec<SumsI32>,
    /// For the softmax of a query.
    room: Vec<f32>,
    /// The weights that scores become.
    weights: Vec<Line>,
    sums: Box<SumsI32>,
}

impl Heads {
    /// Whether [`Heads::attend_one_integers`] can be: a head is one line.
    pub(super) fn fit_integers(self, form: Form) -> bool {
        form == Form::I16 && self.size == Line::HALVES
    }

    /// [`Heads::attend_one`] in integers.
    pub(super) fn attend_one_integers(
        self,
        session: &Session<'_>,
        projected: Projected<'_>,
        head: usize,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let Projected { numbers, n, row, hidden } = projected;
        let (kernel, size, at) = (session.kernel(), self.size, head * self.size);
        // So many lines hold a weight for every token.
        let reach = n.div_ceil(Line::HALVES);
        let padded = n.next_multiple_of(COLUMNS);
        let Scratch { queries, keys, values, blocks, room, weights, sums } = scratch;
        let queries = lend(queries, padded, Line::ZERO);
        let keys = lend(keys, padded, Line::ZERO);
        let values = lend(values, 2 * reach * PANEL, Line::ZERO);
        let blocks = lend(blocks, padded / COLUMNS, SumsI32::default());
        let room = lend(room, padded, 0.0);
        let weights = lend(weights, BLOCK * reach, Line::ZERO);

        let (mut of_queries, mut of_keys, mut of_values) = (0.0, 0.0, [0.0; Line::HALVES]);
        let (most, from) = (limit(size), |part| &numbers[part * hidden + at..]);
        quantise_lines(kernel, from(0), row, most, &mut queries[..n], &mut of_queries);
        quantise_lines(kernel, from(1), row, most, &mut keys[..n], &mut of_keys);
        turn_strips(kernel, keys);
        pair_values(kernel, from(2), row, n, VALUES, values, &mut of_values);
        let scale = of_queries * of_keys;
        // No sum of weights times values may exceed 31 bits, though each weight is rounded up.
        let most = i32::MAX as f32 / VALUES - n as f32;
        for first in (0..n).step_by(BLOCK) {
            let rows = BLOCK.min(n - first);
            session.look();
            let a = &queries[first..];
            for (b, block) in keys.chunks(COLUMNS).zip(&mut *blocks) {
                session.product_i16(&Product16 { a, rows, depth: 1, b }, block);
            }
            let mut factors = [0.0; BLOCK];
            let factors = &mut factors[..rows];
            softmax_to_i16(kernel, blocks, n, scale, most, room, weights, factors);
            session.product_i16(&Product16 { a: weights, rows, depth: reach, b: values }, sums);
            let columns = Columns { scales: &of_values, bias: &[0.0; Line::HALVES] };
            let out = &mut out[first * stride(hidden) + at..];
            dequantise(kernel, sums, factors, columns, out, stride(hidden));
        }
    }
}
