//! Weights as the kernels read them.
//!
//! Rows go in groups of sixteen, one per lane of a 512-bit register, and columns in blocks of 32
//! with a scale per row, as in the file. Two encodings take all types: [`Four`] keeps 4-bit types
//! as they are, because generation is bound by the bytes it reads; [`Eight`] takes the rest.

use std::ops::Range;

use candle_core::Device;
use candle_core::quantized::GgmlDType;
use candle_core::quantized::ggml_file::qtensor_from_ggml;
use half::f16;

use super::gguf::{GgufError, ModelFile, TensorInfo, TensorType};

/// Rows of a group.
pub const LANES: usize = 16;
/// Columns of a block.
pub const BLOCK: usize = 32;

/// A block of sixteen rows in 4 bits: a number is `scale * q + least`, q from 0 to 15.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub struct Four {
    /// Byte `4 * row + i` of line `l` holds column `4 * l + i` in its low half and
    /// `16 + 4 * l + i` in its high half.
    pub quants: [[u8; 64]; 4],
    /// Scale of each row, f16 bits.
    pub scales: [u16; LANES],
    /// Least value of each row, f16 bits.
    pub leasts: [u16; LANES],
}

/// A block of sixteen rows in 8 bits: a number is `scale * (q - 128)`, q from 1 to 255.
#[derive(Clone, Copy)]
#[repr(C, align(32))]
pub struct Eight {
    /// Byte `4 * row + i` of line `l` holds column `4 * l + i`.
    pub quants: [[u8; 64]; 8],
    /// Scale of each row, f16 bits.
    pub scales: [u16; LANES],
}

impl Four {
    const ZERO: Self = Self { quants: [[0; 64]; 4], scales: [0; LANES], leasts: [0; LANES] };

    fn set(&mut self, row: usize, scale: f16, least: f16, quant: impl Fn(usize) -> u8) {
        self.scales[row] = scale.to_bits();
        self.leasts[row] = least.to_bits();
        for column in 0..16 {
            let byte = (quant(column) & 15) | (quant(16 + column) << 4);
            self.quants[column / 4][4 * row + column % 4] = byte;
        }
    }

    /// The number of `row` in `column`.
    pub fn number(&self, row: usize, column: usize) -> f32 {
        let byte = self.quants[column % 16 / 4][4 * row + column % 4];
        let quant = if column < 16 { byte & 15 } else { byte >> 4 };
        let value = |bits| f16::from_bits(bits).to_f32();
        value(self.scales[row]) * f32::from(quant) + value(self.leasts[row])
    }
}

impl Eight {
    const ZERO: Self = Self { quants: [[128; 64]; 8], scales: [0; LANES] };

    fn set(&mut self, row: usize, scale: f16, quant: impl Fn(usize) -> i8) {
        self.scales[row] = scale.to_bits();
        for column in 0..BLOCK {
            self.quants[column / 4][4 * row + column % 4] = quant(column) as u8 ^ 0x80;
        }
    }

    /// The number of `row` in `column`.
    pub fn number(&self, row: usize, column: usize) -> f32 {
        let quant = self.quants[column / 4][4 * row + column % 4];
        f16::from_bits(self.scales[row]).to_f32() * (f32::from(quant) - 128.0)
    }
}

/// The blocks of a matrix, those of a group of rows in a row.
pub enum Blocks {
    /// In 4 bits.
    Four(Vec<Four>),
    /// In 8 bits.
    Eight(Vec<Eight>),
}

/// A matrix of weights.
pub struct Matrix {
    /// Rows that count; the last group is filled up with zeros.
    pub rows: usize,
    /// Columns, a multiple of [`BLOCK`].
    pub columns: usize,
    /// The numbers.
    pub blocks: Blocks,
}

impl Matrix {
    /// Loads tensors of as many columns, one below the other: what is multiplied by the same
    /// vector is multiplied at once. 4 bits are kept if all have 4 bits.
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or the columns differ or do not make blocks.
    pub fn load(file: &ModelFile, tensors: &[(&str, &TensorInfo)]) -> Result<Self, GgufError> {
        let columns = tensors.first().map_or(0, |(_, tensor)| tensor.columns);
        for (name, tensor) in tensors {
            if tensor.columns != columns || !columns.is_multiple_of(BLOCK) {
                let found = tensor.columns;
                let reason = format!("tensor {name} has {found} columns, no blocks of {BLOCK}");
                return Err(GgufError::Unsupported(reason));
            }
        }
        let rows = tensors.iter().map(|(_, tensor)| tensor.rows).sum();
        let n_blocks = usize::div_ceil(rows, LANES) * (columns / BLOCK);
        let four = |kind| matches!(kind, TensorType::Q4_0 | TensorType::Q4_1 | TensorType::Q4K);
        let mut blocks = if tensors.iter().all(|(_, tensor)| four(tensor.kind)) {
            Blocks::Four(vec![Four::ZERO; n_blocks])
        } else {
            Blocks::Eight(vec![Eight::ZERO; n_blocks])
        };
        let mut bytes = Vec::new();
        let mut row = 0;
        for (_, tensor) in tensors {
            let row_bytes = tensor.row_bytes();
            // A few hundred kilobytes at a time.
            let step = (1 << 18) / row_bytes.max(1) + 1;
            for first in (0..tensor.rows).step_by(step) {
                let n_rows = step.min(tensor.rows - first);
                bytes.resize(n_rows * row_bytes, 0);
                file.rows(tensor, first, &mut bytes)?;
                pack(&mut blocks, columns / BLOCK, row, tensor, &bytes)?;
                row += n_rows;
            }
        }
        Ok(Self { rows, columns, blocks })
    }

    /// Blocks of a group of rows.
    pub fn width(&self) -> usize {
        self.columns / BLOCK
    }

    /// Writes `row` into `into`, which has [`Matrix::columns`] places.
    pub fn row(&self, row: usize, into: &mut [f32]) {
        let (group, lane) = (row / LANES, row % LANES);
        let range: Range<usize> = group * self.width()..(group + 1) * self.width();
        for (column, number) in into.iter_mut().enumerate() {
            let (block, column) = (range.start + column / BLOCK, column % BLOCK);
            *number = match &self.blocks {
                Blocks::Four(blocks) => blocks[block].number(lane, column),
                Blocks::Eight(blocks) => blocks[block].number(lane, column),
            };
        }
    }
}

/// Puts the rows in `bytes` into `blocks` from `row` on.
fn pack(
    blocks: &mut Blocks,
    width: usize,
    row: usize,
    tensor: &TensorInfo,
    bytes: &[u8],
) -> Result<(), GgufError> {
    let place = |row: usize, block: usize| (row / LANES * width + block, row % LANES);
    match blocks {
        Blocks::Four(blocks) => {
            for (i, bytes) in bytes.chunks_exact(tensor.row_bytes()).enumerate() {
                four_bits(tensor.kind, bytes, |block, scale, least, quant| {
                    let (at, lane) = place(row + i, block);
                    blocks[at].set(lane, scale, least, quant);
                });
            }
        }
        Blocks::Eight(blocks) if tensor.kind == TensorType::Q8_0 => {
            for (i, bytes) in bytes.chunks_exact(tensor.row_bytes()).enumerate() {
                for (block, bytes) in bytes.chunks_exact(34).enumerate() {
                    let (at, lane) = place(row + i, block);
                    // -128 would overflow the 16 bits that the AVX2 kernel adds in.
                    let quant = |column: usize| (bytes[2 + column] as i8).max(-127);
                    blocks[at].set(lane, half_at(bytes, 0), quant);
                }
            }
        }
        Blocks::Eight(blocks) => {
            let numbers = numbers(tensor, bytes)?;
            for (i, numbers) in numbers.chunks_exact(tensor.columns).enumerate() {
                for (block, numbers) in numbers.chunks_exact(BLOCK).enumerate() {
                    let (at, lane) = place(row + i, block);
                    let most = numbers.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
                    let scale = f16::from_f32(most / 127.0);
                    let inverse = match scale.to_f32() {
                        0.0 => 0.0,
                        scale => 1.0 / scale,
                    };
                    // `as` saturates, and makes 0 of what is no number.
                    let quant = |column: usize| {
                        ((numbers[column] * inverse).round() as i8).clamp(-127, 127)
                    };
                    blocks[at].set(lane, scale, quant);
                }
            }
        }
    }
    Ok(())
}

fn half_at(bytes: &[u8], at: usize) -> f16 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Calls `each` with index, scale, least value and quants of every 32 numbers of a row in 4 bits.
fn four_bits(
    kind: TensorType,
    row: &[u8],
    mut each: impl FnMut(usize, f16, f16, &dyn Fn(usize) -> u8),
) {
    let nibble = |bytes: &[u8], i: usize| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 };
    match kind {
        TensorType::Q4_1 => {
            for (block, bytes) in row.chunks_exact(20).enumerate() {
                let quant = |i| nibble(&bytes[4..], i);
                each(block, half_at(bytes, 0), half_at(bytes, 2), &quant);
            }
        }
        TensorType::Q4K => {
            for (block, bytes) in row.chunks_exact(144).enumerate() {
                let (scale, least) = (half_at(bytes, 0).to_f32(), half_at(bytes, 2).to_f32());
                for part in 0..8 {
                    let (by, less) = scale_and_least(part, &bytes[4..16]);
                    let quants = &bytes[16 + part / 2 * 32..][..32];
                    let quant = |i: usize| quants[i] >> (part % 2 * 4) & 15;
                    let scale = f16::from_f32(scale * f32::from(by));
                    let least = f16::from_f32(-least * f32::from(less));
                    each(8 * block + part, scale, least, &quant);
                }
            }
        }
        // Q4_0, the only other one: 8 stands for zero.
        _ => {
            for (block, bytes) in row.chunks_exact(18).enumerate() {
                let scale = half_at(bytes, 0);
                let least = f16::from_f32(-8.0 * scale.to_f32());
                each(block, scale, least, &|i| nibble(&bytes[2..], i));
            }
        }
    }
}

/// The 6-bit factors of the eighth `part` of a Q4_K block, out of its twelve packed bytes: the
/// first four have a byte each, whose two highest bits are the highest of the last four.
fn scale_and_least(part: usize, packed: &[u8]) -> (u8, u8) {
    match part {
        0..4 => (packed[part] & 63, packed[part + 4] & 63),
        _ => (
            (packed[part + 4] & 15) | (packed[part - 4] >> 6 << 4),
            (packed[part + 4] >> 4) | (packed[part] >> 6 << 4),
        ),
    }
}

/// The numbers of whole rows of `tensor`.
pub fn numbers(tensor: &TensorInfo, bytes: &[u8]) -> Result<Vec<f32>, GgufError> {
    let kind = match tensor.kind {
        TensorType::F32 => {
            let float = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            return Ok(bytes.chunks_exact(4).map(float).collect());
        }
        TensorType::F16 => {
            return Ok(bytes.chunks_exact(2).map(|b| half_at(b, 0).to_f32()).collect());
        }
        TensorType::Bf16 => {
            let float =
                |b: &[u8]| f32::from_bits(u32::from(u16::from_le_bytes([b[0], b[1]])) << 16);
            return Ok(bytes.chunks_exact(2).map(float).collect());
        }
        TensorType::Q4_0 => GgmlDType::Q4_0,
        TensorType::Q4_1 => GgmlDType::Q4_1,
        TensorType::Q5_0 => GgmlDType::Q5_0,
        TensorType::Q5_1 => GgmlDType::Q5_1,
        TensorType::Q8_0 => GgmlDType::Q8_0,
        TensorType::Q2K => GgmlDType::Q2K,
        TensorType::Q3K => GgmlDType::Q3K,
        TensorType::Q4K => GgmlDType::Q4K,
        TensorType::Q5K => GgmlDType::Q5K,
        TensorType::Q6K => GgmlDType::Q6K,
    };
    let rows = bytes.len() / tensor.row_bytes();
    let decoded = || {
        let tensor = qtensor_from_ggml(kind, bytes, vec![rows, tensor.columns], &Device::Cpu)?;
        tensor.dequantize(&Device::Cpu)?.flatten_all()?.to_vec1::<f32>()
    };
    decoded().map_err(|error| GgufError::Damaged(error.to_string()))
}
