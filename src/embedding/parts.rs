//! Rows of bf16 whose columns are cut into parts, such as the heads of queries, keys and values.

use std::ops::Range;

use super::kernels::{Line, LineOf, STRIP, lend};

/// Rows in strips of [`STRIP`], of which each text starts one, part by part: all strips of the first
/// part, then all of the second one.
#[derive(Default)]
pub(super) struct Parts {
    lines: Vec<Line>,
    /// Lines of a row of a part.
    depth: usize,
    n_strips: usize,
    /// The row of each token.
    places: Vec<usize>,
}

impl Parts {
    /// Makes room for `n` parts of `depth` lines of tokens of `texts`, which stand end to end. What
    /// it holds then is of no use, but numbers.
    pub(super) fn arrange(&mut self, n: usize, depth: usize, texts: &[Range<usize>]) {
        self.places.clear();
        let mut strip = 0;
        for text in texts {
            let first = strip * STRIP;
            self.places.extend(first..first + text.len());
            strip += text.len().div_ceil(STRIP);
        }
        (self.depth, self.n_strips) = (depth, strip);
        let len = n * self.part_len();
        lend(&mut self.lines, len, Line::ZERO);
    }

    fn part_len(&self) -> usize {
        self.n_strips * STRIP * self.depth
    }

    /// The place of a line of the whole rows of `tokens`.
    pub(super) fn line_mut(&mut self, line: usize, tokens: Range<usize>) -> LineOf<'_> {
        let (len, depth) = (self.part_len(), self.depth);
        let strips = &mut self.lines[line / depth * len..][..len];
        LineOf { strips, depth, line: line % depth, places: &self.places[tokens] }
    }

    /// The strips of a part of a text.
    pub(super) fn of(&self, part: usize, text: &Range<usize>) -> &[Line] {
        &self.lines[self.range(part, text)]
    }

    /// [`Parts::of`], to be written.
    pub(super) fn of_mut(&mut self, part: usize, text: &Range<usize>) -> &mut [Line] {
        let range = self.range(part, text);
        &mut self.lines[range]
    }

    fn range(&self, part: usize, text: &Range<usize>) -> Range<usize> {
        let start = part * self.part_len() + self.places[text.start] * self.depth;
        start..start + text.len().next_multiple_of(STRIP) * self.depth
    }
}
