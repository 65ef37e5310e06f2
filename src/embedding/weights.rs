//! Reads tensors out of a safetensors file whose floats are f16 or f32.

use candle_core::{Device, Tensor};
use half::f16;
use half::slice::HalfFloatSliceExt;
use safetensors::{Dtype, SafeTensors};

use super::EmbedError;

/// Numbers converted at a time: few enough to stay in the first-level cache.
const BLOCK: usize = 2048;

/// A safetensors file in memory.
pub(super) struct Weights<'a> {
    file: SafeTensors<'a>,
}

impl<'a> Weights<'a> {
    /// Checks the header; the tensors are read when they are asked for.
    pub(super) fn open(bytes: &'a [u8]) -> Result<Self, EmbedError> {
        let file = SafeTensors::deserialize(bytes)
            .map_err(|error| EmbedError::Model(format!("not a safetensors file: {error}")))?;
        Ok(Self { file })
    }

    /// The numbers of `name`, which must have `shape`, as f32.
    pub(super) fn vec(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, EmbedError> {
        let (dtype, bytes) = self.bytes(name, shape)?;
        let mut out = vec![0.0f32; shape.iter().product()];
        match dtype {
            Dtype::F16 => {
                let mut block = [f16::ZERO; BLOCK];
                for (out, bytes) in out.chunks_mut(BLOCK).zip(bytes.chunks(2 * BLOCK)) {
                    let block = &mut block[..out.len()];
                    for (x, pair) in block.iter_mut().zip(bytes.chunks_exact(2)) {
                        *x = f16::from_le_bytes([pair[0], pair[1]]);
                    }
                    block.convert_to_f32_slice(out);
                }
            }
            Dtype::F32 => {
                for (x, quad) in out.iter_mut().zip(bytes.chunks_exact(4)) {
                    *x = f32::from_le_bytes([quad[0], quad[1], quad[2], quad[3]]);
                }
            }
            other => {
                return Err(EmbedError::Model(format!("tensor {name} has type {other:?}")));
            }
        }
        Ok(out)
    }

    /// The rows of a table of f16, without converting it.
    pub(super) fn half_table(
        &self,
        name: &str,
        rows: usize,
        columns: usize,
    ) -> Result<HalfTable<'a>, EmbedError> {
        match self.bytes(name, &[rows, columns])? {
            (Dtype::F16, bytes) => Ok(HalfTable { bytes, columns }),
            (other, _) => Err(EmbedError::Model(format!("tensor {name} has type {other:?}"))),
        }
    }

    fn bytes(&self, name: &str, shape: &[usize]) -> Result<(Dtype, &'a [u8]), EmbedError> {
        let tensor = self
            .file
            .tensor(name)
            .map_err(|error| EmbedError::Model(format!("tensor {name}: {error}")))?;
        if tensor.shape() != shape {
            let got = tensor.shape();
            return Err(EmbedError::Model(format!(
                "tensor {name} has shape {got:?}, not {shape:?}"
            )));
        }
        Ok((tensor.dtype(), tensor.data()))
    }
}

/// `numbers`, row by row, as a matrix.
pub(super) fn matrix(numbers: Vec<f32>, rows: usize, columns: usize) -> Result<Tensor, EmbedError> {
    Tensor::from_vec(numbers, (rows, columns), &Device::Cpu)
        .map_err(|error| EmbedError::Model(error.to_string()))
}

/// The transpose of a matrix of rows of `width`.
pub(super) fn transposed(numbers: &[f32], width: usize) -> Vec<f32> {
    /// Columns written at a time, so that their lines stay in the cache from row to row.
    const BAND: usize = 16;
    let height = numbers.len() / width;
    let mut out = vec![0.0; width * height];
    for start in (0..width).step_by(BAND) {
        let end = (start + BAND).min(width);
        for (y, row) in numbers.chunks_exact(width).enumerate() {
            for (x, &number) in row[start..end].iter().enumerate() {
                out[(start + x) * height + y] = number;
            }
        }
    }
    out
}

/// A table that stays in f16 where it is. The word vectors are half of the model and a text
/// touches a few hundred of their 30,522 rows, so converting them all would only cost memory.
pub(super) struct HalfTable<'a> {
    bytes: &'a [u8],
    columns: usize,
}

impl HalfTable<'_> {
    /// Adds row `index` to `out`. False, and nothing added, if there is no such row.
    pub(super) fn add_row(&self, index: usize, out: &mut [f32]) -> bool {
        let width = 2 * self.columns;
        let Some(row) = self.bytes.get(index * width..(index + 1) * width) else {
            return false;
        };
        for (x, pair) in out.iter_mut().zip(row.chunks_exact(2)) {
            *x += f16::from_le_bytes([pair[0], pair[1]]).to_f32();
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use safetensors::tensor::TensorView;

    fn file(dtype: Dtype, shape: Vec<usize>, data: &[u8]) -> Vec<u8> {
        let view = TensorView::new(dtype, shape, data).unwrap();
        safetensors::serialize([("t", view)], None).unwrap()
    }

    #[test]
    fn f16_and_f32_are_read_to_the_same_numbers() {
        // More than a block and not a multiple of it, in numbers that both types hold exactly.
        let numbers: Vec<f32> =
            (0..3 * BLOCK / 2).map(|i| (i % 1000) as f32 / 8.0 - 50.0).collect();
        let half: Vec<u8> = numbers.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        let full: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
        let shape = [3, BLOCK / 2];
        for (dtype, bytes) in [(Dtype::F16, half), (Dtype::F32, full)] {
            let file = file(dtype, shape.to_vec(), &bytes);
            let read = Weights::open(&file).unwrap().vec("t", &shape).unwrap();
            assert_eq!(read, numbers, "{dtype:?}");
        }
    }

    #[test]
    fn transposing_swaps_rows_and_columns() {
        assert_eq!(transposed(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
        let wide: Vec<f32> = (0..37 * 41).map(|i| i as f32).collect();
        assert_eq!(transposed(&transposed(&wide, 37), 41), wide);
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let file = file(Dtype::I64, vec![2], &[0; 16]);
        let weights = Weights::open(&file).unwrap();
        for (name, shape) in [("t", vec![2]), ("t", vec![3]), ("absent", vec![2])] {
            assert!(
                matches!(weights.vec(name, &shape), Err(EmbedError::Model(_))),
                "{name} {shape:?}"
            );
        }
        assert!(Weights::open(&file[..20]).is_err());
        assert!(Weights::open(b"").is_err());
    }

    #[test]
    fn a_row_of_the_table_is_added() {
        let bytes: Vec<u8> =
            [1.0, 2.0, 3.0, 4.0].iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
        let file = file(Dtype::F16, vec![2, 2], &bytes);
        let table = Weights::open(&file).unwrap().half_table("t", 2, 2).unwrap();
        let mut out = [10.0, 20.0];
        assert!(table.add_row(1, &mut out));
        assert_eq!(out, [13.0, 24.0]);
        assert!(!table.add_row(2, &mut out));
        assert_eq!(out, [13.0, 24.0]);
    }
}
