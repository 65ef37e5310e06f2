//! A matrix of weights, laid out for the kernels, and its product.

use half::bf16;

use super::kernels::{
    BLOCK, COLUMNS, Columns, Line, PANEL, Passing, Product16, ProductBf16, ProductF32, Session,
    SumsF32, SumsI32, add_bias, add_bias_gelu, dequantise, dequantise_gelu, even_groups, finish,
    finish_gelu, finish_gelu_to_bf16, finish_to_bf16, floats, floats_mut, halves_mut, lend,
    quantise, round_to_bf16,
};

use super::parts::Parts;

/// Weights from rows of inputs to rows of outputs, and the bias of the outputs.
pub(super) struct Linear {
    inputs: usize,
    /// Made up to whole panels with zeros, like all that is kept for each output.
    bias: Vec<f32>,
    weights: Packed,
}

/// The weights, in panels.
enum Packed {
    F32(Vec<Line>),
    I16 {
        panels: Vec<Line>,
        /// What a weight of 1 stands for, output by output.
        scales: Vec<f32>,
    },
    Bf16(Vec<Line>),
}

/// How weights are kept, and rows rounded before they meet them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    F32,
    /// Integers of 16 bits, each output's weights and each row on a scale of their own.
    I16,
    /// The upper half of a float. For processors with tiles only.
    Bf16,
}

/// Lines of rows of bf16 whose columns meet all rows before the next ones do: those of a pair of
/// panels are then two thirds of a first-level cache of 48 KB, where they are to stay.
const PART_LINES: usize = 16;

/// Columns of two panels.
const PAIR: usize = 2 * PANEL;

/// What follows a product.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Nothing,
    Gelu,
}

/// Rows of numbers, one after the other, each made up to whole panels.
#[derive(Clone, Copy)]
pub(super) struct Matrix<'a> {
    pub(super) numbers: &'a [f32],
    pub(super) rows: usize,
}

/// Numbers of a row of `n` that is made up to whole panels.
pub(super) fn stride(n: usize) -> usize {
    n.next_multiple_of(PANEL)
}

/// What products need besides: the rows in 16 bits, and the sums of a block.
#[derive(Default)]
pub(super) struct Scratch {
    lines: Vec<Line>,
    scales: Vec<f32>,
    integers: Box<SumsI32>,
    blocks: Vec<SumsF32>,
}

impl Linear {
    /// From weights as files have them: for each output, those of its inputs.
    pub(super) fn new(form: Form, weight: &[f32], bias: Vec<f32>) -> Self {
        let inputs = weight.len() / bias.len();
        let weights = match form {
            Form::F32 => pack_f32(weight, inputs, bias.len()),
            Form::I16 => pack_i16(weight, inputs, bias.len()),
            Form::Bf16 => pack_bf16(weight, inputs, bias.len()),
        };
        Self { inputs, bias: padded(bias), weights }
    }

    /// How the weights are kept.
    pub(super) fn form(&self) -> Form {
        match &self.weights {
            Packed::F32(_) => Form::F32,
            Packed::I16 { .. } => Form::I16,
            Packed::Bf16(_) => Form::Bf16,
        }
    }

    /// Numbers of a row of outputs, made up to whole panels.
    pub(super) fn stride(&self) -> usize {
        self.bias.len()
    }

    /// Sets the rows of `out`, which are made up to whole panels, to the products of the rows of
    /// `input` with the weights, with the bias.
    pub(super) fn apply(
        &self,
        session: &Session<'_>,
        input: Matrix<'_>,
        then: Then,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        match &self.weights {
            Packed::F32(panels) => self.apply_f32(session, input, floats(panels), then, out),
            Packed::I16 { panels, scales } => {
                let columns = Columns { scales, bias: &self.bias };
                self.apply_i16(session, input, panels, columns, then, scratch, out);
            }
            Packed::Bf16(panels) => {
                self.apply_bf16(session, input, panels, then, scratch, out);
            }
        }
    }

    fn apply_f32(
        &self,
        session: &Session<'_>,
        input: Matrix<'_>,
        panels: &[f32],
        then: Then,
        out: &mut [f32],
    ) {
        let (a_stride, stride) = (stride(self.inputs), self.bias.len());
        for (panels, bias, column) in blocks(panels, self.inputs * PANEL, &self.bias, COLUMNS) {
            for first in (0..input.rows).step_by(BLOCK) {
                let rows = BLOCK.min(input.rows - first);
                let out = &mut out[first * stride + column..];
                let a = &input.numbers[first * a_stride..];
                let product =
                    ProductF32 { a, a_stride, rows, depth: self.inputs, b: panels, stride };
                session.look();
                session.product_f32(&product, out);
                let out = &mut out[..(rows - 1) * stride + bias.len()];
                match then {
                    Then::Nothing => add_bias(session.kernel(), out, stride, bias),
                    Then::Gelu => add_bias_gelu(session.kernel(), out, stride, bias),
                }
            }
        }
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of one call, taken apart")]
    fn apply_i16(
        &self,
        session: &Session<'_>,
        input: Matrix<'_>,
        panels: &[Line],
        columns: Columns<'_>,
        then: Then,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let Matrix { numbers, rows } = input;
        let (depth, kernel) = (depth(self.inputs), session.kernel());
        let Scratch { lines, scales, integers: sums, .. } = scratch;
        let lines = lend(lines, rows.next_multiple_of(BLOCK) * depth, Line::ZERO);
        let scales = lend(scales, rows, 0.0);
        let limit = limit(self.inputs);
        quantise(kernel, numbers, stride(self.inputs), self.inputs, limit, lines, depth, scales);
        let stride = self.bias.len();
        for (b, bias, column) in blocks(panels, depth * PANEL, columns.bias, COLUMNS) {
            let columns = Columns { scales: &columns.scales[column..][..bias.len()], bias };
            for (first, scales) in (0..rows).step_by(BLOCK).zip(scales.chunks(BLOCK)) {
                let a = &lines[first * depth..][..BLOCK * depth];
                session.look();
                session.product_i16(&Product16 { a, rows: scales.len(), depth, b }, sums);
                let out = &mut out[first * stride + column..];
                match then {
                    Then::Nothing => dequantise(kernel, sums, scales, columns, out, stride),
                    Then::Gelu => dequantise_gelu(kernel, sums, scales, columns, out, stride),
                }
            }
        }
    }

    fn apply_bf16(
        &self,
        session: &Session<'_>,
        input: Matrix<'_>,
        panels: &[Line],
        then: Then,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let kernel = session.kernel();
        let stride = self.bias.len();
        self.products_rounded(
            session,
            input,
            panels,
            scratch,
            |sums, rows, bias, first, column| {
                let out = &mut out[first * stride + column..];
                match then {
                    Then::Nothing => finish(kernel, sums, rows, bias, out, stride),
                    Then::Gelu => finish_gelu(kernel, sums, rows, bias, out, stride),
                }
            },
        );
    }

    /// [`Linear::apply`] with GELU from floats to rows of bf16, each of which takes whole lines,
    /// what `next` takes with [`Linear::apply_lines`]. False if this is another form, and nothing is
    /// done.
    pub(super) fn apply_gelu_to_lines(
        &self,
        session: &Session<'_>,
        input: Matrix<'_>,
        scratch: &mut Scratch,
        out: &mut Vec<Line>,
    ) -> bool {
        let Packed::Bf16(panels) = &self.weights else { return false };
        let (kernel, rows) = (session.kernel(), input.rows);
        let wide = self.bias.len().div_ceil(Line::HALVES);
        let out = lend(out, rows.next_multiple_of(BLOCK) * wide, Line::ZERO);
        self.products_rounded(
            session,
            input,
            panels,
            scratch,
            |sums, rows, bias, first, column| {
                let (out, line) = (&mut out[first * wide..], column / Line::HALVES);
                finish_gelu_to_bf16(kernel, sums, rows, bias, out, line, wide);
            },
        );
        true
    }

    /// [`Linear::apply`] from floats to parts of rows of bf16, of the tokens from `first` on. Nothing
    /// is done if this is another form; outputs must be whole lines.
    pub(super) fn apply_to_parts(
        &self,
        session: &Session<'_>,
        input: Matrix<'_>,
        scratch: &mut Scratch,
        first_token: usize,
        out: &mut Parts,
    ) {
        let Packed::Bf16(panels) = &self.weights else { return };
        let kernel = session.kernel();
        self.products_rounded(
            session,
            input,
            panels,
            scratch,
            |sums, rows, bias, first, column| {
                let first = first_token + first;
                for (i, bias) in bias.as_chunks::<{ Line::HALVES }>().0.iter().enumerate() {
                    let out = out.line_mut(column / Line::HALVES + i, first..first + rows);
                    finish_to_bf16(kernel, sums, i * Line::HALVES, bias, out);
                }
            },
        );
    }

    /// [`Linear::apply`] from rows of bf16. Nothing is done if this is another form.
    pub(super) fn apply_lines(
        &self,
        session: &Session<'_>,
        lines: &[Line],
        rows: usize,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let Packed::Bf16(panels) = &self.weights else { return };
        let (kernel, stride) = (session.kernel(), self.bias.len());
        let blocks = &mut scratch.blocks;
        self.products_bf16(
            session,
            lines,
            rows,
            panels,
            blocks,
            |sums, rows, bias, first, column| {
                finish(kernel, sums, rows, bias, &mut out[first * stride + column..], stride);
            },
        );
    }

    /// [`Linear::products_bf16`] of rows of floats, rounded first.
    fn products_rounded(
        &self,
        session: &Session<'_>,
        input: Matrix<'_>,
        panels: &[Line],
        scratch: &mut Scratch,
        done: impl FnMut(&SumsF32, usize, &[f32], usize, usize),
    ) {
        let Matrix { numbers, rows } = input;
        let (depth, stride) = (depth(self.inputs), stride(self.inputs));
        let Scratch { lines, blocks, .. } = scratch;
        let lines = lend(lines, rows.next_multiple_of(BLOCK) * depth, Line::ZERO);
        let numbers = &numbers[..rows * stride];
        round_to_bf16(session.kernel(), numbers, stride, self.inputs, lines, depth);
        self.products_bf16(session, lines, rows, panels, blocks, done);
    }

    /// The products of rows of bf16, two panels of columns at a time: `done` gets the sums, how many
    /// rows, their bias, and the first row and column.
    ///
    /// The weights come from the third-level cache: a model has more than the second one takes. So
    /// columns meet all rows before the next ones do, which are fetched meanwhile; and no more of
    /// them at a time than stays in the first-level cache, through which the rows pass. A single
    /// block of rows stays there, and it is the columns that pass.
    fn products_bf16(
        &self,
        session: &Session<'_>,
        lines: &[Line],
        rows: usize,
        panels: &[Line],
        blocks: &mut Vec<SumsF32>,
        mut done: impl FnMut(&SumsF32, usize, &[f32], usize, usize),
    ) {
        let depth = depth(self.inputs);
        let panel = depth * PANEL;
        let n_blocks = rows.div_ceil(BLOCK);
        // One is enough unless all have to be kept from one part to the next.
        let n_sums = if depth > PART_LINES { n_blocks } else { 1 };
        let all_sums = lend(blocks, n_sums, SumsF32::default());
        let width = if n_blocks > 1 { PAIR } else { COLUMNS };
        for (b, bias, column) in self::blocks(panels, panel, &self.bias, width) {
            let after = &panels[column / PANEL * panel + b.len()..];
            for (start, len) in even_groups(depth, PART_LINES) {
                let part = start..start + len;
                let (coming, from) =
                    if part.end < depth { (b, part.end * PANEL) } else { (after, 0) };
                for (i, first) in (0..rows).step_by(BLOCK).enumerate() {
                    let rows = BLOCK.min(rows - first);
                    // Each block of rows fetches its share of what columns come.
                    let from = from + i * len * PANEL / n_blocks;
                    let next = [from, panel + from].map(|from| coming.get(from..).unwrap_or(&[]));
                    let product = ProductBf16 {
                        a: &lines[first * depth..][..BLOCK * depth],
                        rows,
                        depth,
                        b,
                        part: part.clone(),
                        passing: if n_blocks > 1 {
                            Passing::Rows { next }
                        } else {
                            Passing::Columns
                        },
                    };
                    let sums = &mut all_sums[i % n_sums];
                    session.look();
                    session.product_bf16(&product, sums);
                    if part.end == depth {
                        done(sums, rows, bias, first, column);
                    }
                }
            }
        }
    }
}

/// Lines that `n` numbers of 16 bits take.
fn depth(n: usize) -> usize {
    n.div_ceil(Line::HALVES)
}

/// The largest magnitude of weights and rows of `inputs` numbers for which no sum of products
/// exceeds 31 bits.
pub(super) fn limit(inputs: usize) -> f32 {
    (f64::from(i32::MAX) / inputs as f64).sqrt().floor().min(f64::from(i16::MAX)) as f32
}

/// The panels and their bias in blocks of `width` columns, with the first column of each.
fn blocks<'a, T>(
    panels: &'a [T],
    panel: usize,
    bias: &'a [f32],
    width: usize,
) -> impl Iterator<Item = (&'a [T], &'a [f32], usize)> {
    let bias = bias.chunks(width).enumerate();
    panels.chunks(panel * width / PANEL).zip(bias).map(move |(b, (i, bias))| (b, bias, i * width))
}

fn padded(mut numbers: Vec<f32>) -> Vec<f32> {
    numbers.resize(stride(numbers.len()), 0.0);
    numbers
}

fn pack_f32(weight: &[f32], inputs: usize, outputs: usize) -> Packed {
    let mut panels = vec![Line::ZERO; outputs.div_ceil(PANEL) * inputs];
    for (panel, rows) in panels.chunks_exact_mut(inputs).zip(weight.chunks(inputs * PANEL)) {
        let panel = floats_mut(panel);
        for (c, row) in rows.chunks_exact(inputs).enumerate() {
            for (line, &x) in panel.as_chunks_mut::<PANEL>().0.iter_mut().zip(row) {
                line[c] = x;
            }
        }
    }
    Packed::F32(panels)
}

fn pack_i16(weight: &[f32], inputs: usize, outputs: usize) -> Packed {
    let limit = limit(inputs);
    let mut scales = Vec::with_capacity(outputs);
    let panels = pack_16(weight, inputs, outputs, |row, out| {
        let largest = row.iter().fold(0.0f32, |largest, x| largest.max(x.abs()));
        let inverse = if largest > 0.0 { limit / largest } else { 0.0 };
        for (x, out) in row.iter().zip(out) {
            *out = ((x * inverse).round_ties_even() as i16).cast_unsigned();
        }
        scales.push(largest / limit);
    });
    Packed::I16 { panels, scales: padded(scales) }
}

fn pack_bf16(weight: &[f32], inputs: usize, outputs: usize) -> Packed {
    Packed::Bf16(pack_16(weight, inputs, outputs, |row, out| {
        for (&x, out) in row.iter().zip(out) {
            *out = bf16::from_f32(x).to_bits();
        }
    }))
}

/// Panels of 16-bit numbers; `convert` makes those of an output.
fn pack_16(
    weight: &[f32],
    inputs: usize,
    outputs: usize,
    mut convert: impl FnMut(&[f32], &mut [u16]),
) -> Vec<Line> {
    let panel = depth(inputs) * PANEL;
    let mut panels = vec![Line::ZERO; outputs.div_ceil(PANEL) * panel];
    let mut converted = vec![0; inputs.next_multiple_of(2)];
    for (panel, rows) in panels.chunks_exact_mut(panel).zip(weight.chunks(inputs * PANEL)) {
        for (c, row) in rows.chunks_exact(inputs).enumerate() {
            convert(row, &mut converted);
            let pairs = halves_mut(panel).as_chunks_mut::<{ Line::HALVES }>().0;
            for (line, pair) in pairs.iter_mut().zip(converted.as_chunks::<2>().0) {
                line[2 * c..2 * c + 2].copy_from_slice(pair);
            }
        }
    }
    panels
}
