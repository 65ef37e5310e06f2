//! Keys and values of what was read, and attention to them.

use super::super::kernels::Kernels;
use super::super::matrix::LANES;
use super::math;

/// Which positions a query sees.
#[derive(Debug, Clone, Copy)]
pub(super) struct Range {
    /// The query's own, the last it sees.
    pub(super) first: usize,
    /// How many it sees; all, if none.
    pub(super) window: Option<usize>,
}

/// Keys and values. It grows with the text and keeps its room when it is cleared.
pub(super) struct Cache {
    heads: usize,
    head_size: usize,
    /// Positions that all layers have.
    len: usize,
    /// One for each layer and head.
    parts: Vec<CachePart>,
}

#[derive(Default)]
struct CachePart {
    len: usize,
    /// Sixteen keys at a time, dimension by dimension.
    keys: Vec<[f32; LANES]>,
    /// Value by value.
    values: Vec<f32>,
}

impl Cache {
    pub(super) fn new(layers: usize, heads: usize, head_size: usize) -> Self {
        let parts = (0..layers * heads).map(|_| CachePart::default()).collect();
        Self { heads, head_size, len: 0, parts }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn clear(&mut self) {
        self.len = 0;
        for part in &mut self.parts {
            part.len = 0;
            part.keys.clear();
            part.values.clear();
        }
    }

    /// Appends a position to `layer`.
    pub(super) fn push(&mut self, layer: usize, keys: &[f32], values: &[f32]) {
        let heads = keys.chunks_exact(self.head_size).zip(values.chunks_exact(self.head_size));
        for (part, (key, value)) in self.parts[layer * self.heads..].iter_mut().zip(heads) {
            let lane = part.len % LANES;
            if lane == 0 {
                part.keys.resize(part.keys.len() + self.head_size, [0.0; LANES]);
            }
            let start = part.keys.len() - self.head_size;
            for (slot, number) in part.keys[start..].iter_mut().zip(key) {
                slot[lane] = *number;
            }
            part.values.extend_from_slice(value);
            part.len += 1;
        }
    }

    /// All layers have `n` positions more.
    pub(super) fn advance(&mut self, n: usize) {
        self.len += n;
    }

    /// What `query`, already scaled, sees in `head` of `layer`, added to `out`.
    #[expect(clippy::too_many_arguments, reason = "one inner step, called in one place")]
    pub(super) fn attend(
        &self,
        kernels: Kernels,
        layer: usize,
        head: usize,
        range: Range,
        query: &[f32],
        weights: &mut Vec<f32>,
        out: &mut [f32],
    ) {
        let part = &self.parts[layer * self.heads + head];
        let end = range.first + 1;
        let start = range.window.map_or(0, |window| end.saturating_sub(window));
        let block = start / LANES;
        weights.clear();
        for keys in part.keys[block * self.head_size..].chunks_exact(self.head_size) {
            if block * LANES + weights.len() >= end {
                break;
            }
            let mut scores = [0.0; LANES];
            kernels.scores(query, keys, &mut scores);
            weights.extend_from_slice(&scores);
        }
        let weights = &mut weights[start - block * LANES..end - block * LANES];
        softmax(weights);
        kernels.weighted(weights, &part.values[start * self.head_size..], self.head_size, out);
    }
}

fn softmax(x: &mut [f32]) {
    let most = x.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    for x in &mut *x {
        *x = math::exp(*x - most);
    }
    let by = 1.0 / x.iter().sum::<f32>();
    for x in x {
        *x *= by;
    }
}
