//! Reads tensors out of a safetensors file whose floats are f16, bf16 or f32.
//!
//! The file is read, not mapped into memory: a mapped file that somebody else shortens kills the
//! process, and a model is read once, tensor by tensor, so little is gained by mapping. Nothing is
//! allocated before its size has been checked against that of the file.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use serde::Deserialize;

use super::EmbedError;

/// Numbers converted at a time: few enough to stay in the first-level cache.
const BLOCK: usize = 2048;

/// Longest header, in bytes, as in the reference implementation.
const HEADER_MAX: u64 = 100_000_000;

/// A safetensors file, its header read and checked.
pub(super) struct Weights {
    /// What messages call the file.
    name: String,
    source: Source,
    tensors: HashMap<String, Entry>,
    /// Stands before every name: files of a bare model lack it, files of a larger one have it.
    prefix: &'static str,
}

enum Source {
    Memory(&'static [u8]),
    /// Read at any place, one reader at a time.
    File(Mutex<File>),
}

/// Where a tensor is.
struct Entry {
    dtype: Dtype,
    shape: Vec<usize>,
    /// From the start of the file.
    start: u64,
    len: usize,
}

/// A header's entry as it is written.
#[derive(Deserialize)]
struct Written {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: [u64; 2],
}

/// The types of floats that are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dtype {
    F16,
    Bf16,
    F32,
    /// Any other: an error only when the tensor is asked for.
    Other,
}

impl Dtype {
    fn of(name: &str) -> Self {
        match name {
            "F16" => Self::F16,
            "BF16" => Self::Bf16,
            "F32" => Self::F32,
            _ => Self::Other,
        }
    }

    /// Bytes of a number, if it is known.
    fn size(self) -> Option<u64> {
        match self {
            Self::F16 | Self::Bf16 => Some(2),
            Self::F32 => Some(4),
            Self::Other => None,
        }
    }
}

impl Weights {
    /// A file that is part of the program.
    pub(super) fn in_memory(name: &str, bytes: &'static [u8]) -> Result<Self, EmbedError> {
        Self::new(name, Source::Memory(bytes), bytes.len() as u64)
    }

    /// A file on the disk. It stays open, and must not change, as long as the value lives.
    pub(super) fn open(path: &Path) -> Result<Self, EmbedError> {
        let name = path.display().to_string();
        let fault = |error| EmbedError::Model(format!("{name}: {error}"));
        let file = File::open(path).map_err(fault)?;
        let len = file.metadata().map_err(fault)?.len();
        Self::new(&name, Source::File(Mutex::new(file)), len)
    }

    fn new(name: &str, source: Source, file_len: u64) -> Result<Self, EmbedError> {
        let fault = |what: String| EmbedError::Model(format!("{name}: {what}"));
        let read = |start, len| source.read(start, len).map_err(|error| fault(error.to_string()));
        if file_len < 8 {
            return Err(fault("is too short for a safetensors file".into()));
        }
        let mut prefix = [0; 8];
        prefix.copy_from_slice(&read(0, 8)?);
        let header_len = u64::from_le_bytes(prefix);
        if header_len > HEADER_MAX || header_len > file_len - 8 {
            return Err(fault(format!(
                "is no safetensors file, or cut short: a header of {header_len} bytes in a file of {file_len}"
            )));
        }
        let header = read(8, header_len as usize)?;
        let written: HashMap<String, serde_json::Value> = serde_json::from_slice(&header)
            .map_err(|error| fault(format!("is no safetensors file: {error}")))?;
        let mut tensors = HashMap::with_capacity(written.len());
        for (tensor, entry) in written.into_iter().filter(|(key, _)| key != "__metadata__") {
            let entry: Written = serde_json::from_value(entry)
                .map_err(|error| fault(format!("tensor {tensor}: {error}")))?;
            let entry = Entry::check(entry, 8 + header_len, file_len)
                .map_err(|what| fault(format!("tensor {tensor} {what}")))?;
            tensors.insert(tensor, entry);
        }
        let mut places: Vec<(u64, u64)> = tensors
            .values()
            .map(|entry: &Entry| (entry.start, entry.start + entry.len as u64))
            .collect();
        places.sort_unstable();
        if places.windows(2).any(|pair| pair[0].1 > pair[1].0) {
            return Err(fault("is no safetensors file: its tensors overlap".to_owned()));
        }
        let bare = tensors.contains_key("embeddings.word_embeddings.weight");
        let prefix = if bare { "" } else { "bert." };
        Ok(Self { name: name.to_owned(), source, tensors, prefix })
    }

    /// The numbers of `tensor`, which must have `shape`, as f32. All are finite.
    pub(super) fn vec(&self, tensor: &str, shape: &[usize]) -> Result<Vec<f32>, EmbedError> {
        let (dtype, bytes) = self.bytes(tensor, shape)?;
        let mut out = vec![0.0f32; bytes.len() / dtype.size().unwrap_or(1) as usize];
        match dtype {
            Dtype::F16 => {
                let mut block = [f16::ZERO; BLOCK];
                for (out, bytes) in out.chunks_mut(BLOCK).zip(bytes.chunks(2 * BLOCK)) {
                    let block = &mut block[..out.len()];
                    for (x, pair) in block.iter_mut().zip(bytes.as_chunks().0) {
                        *x = f16::from_le_bytes(*pair);
                    }
                    block.convert_to_f32_slice(out);
                }
            }
            Dtype::Bf16 => {
                for (x, pair) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *x = bf16::from_le_bytes(*pair).to_f32();
                }
            }
            Dtype::F32 => {
                for (x, quad) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *x = f32::from_le_bytes(*quad);
                }
            }
            Dtype::Other => {}
        }
        // A sum would be quicker to write, but overflows for large finite numbers.
        if out.iter().fold(false, |bad, x| bad | !x.is_finite()) {
            return Err(self.fault(tensor, "holds numbers that are not finite".to_owned()));
        }
        Ok(out)
    }

    /// The rows of a table, without converting it.
    pub(super) fn table(
        &self,
        tensor: &str,
        rows: usize,
        columns: usize,
    ) -> Result<Table, EmbedError> {
        let (dtype, bytes) = self.bytes(tensor, &[rows, columns])?;
        Ok(Table { dtype, bytes, columns })
    }

    fn bytes(
        &self,
        tensor: &str,
        shape: &[usize],
    ) -> Result<(Dtype, Cow<'static, [u8]>), EmbedError> {
        let entry = self
            .tensors
            .get(&format!("{}{tensor}", self.prefix))
            .ok_or_else(|| self.fault(tensor, "is not there".to_owned()))?;
        if entry.shape != shape {
            let got = &entry.shape;
            return Err(self.fault(tensor, format!("has shape {got:?}, not {shape:?}")));
        }
        if entry.dtype == Dtype::Other {
            return Err(self.fault(tensor, "is not of type F16, BF16 or F32".to_owned()));
        }
        let bytes = self.source.read(entry.start, entry.len);
        let bytes = bytes.map_err(|error| self.fault(tensor, error.to_string()))?;
        Ok((entry.dtype, bytes))
    }

    fn fault(&self, tensor: &str, what: String) -> EmbedError {
        let Self { name, prefix, .. } = self;
        EmbedError::Model(format!("{name}: tensor {prefix}{tensor} {what}"))
    }
}

impl Entry {
    /// The checked entry, or what is wrong with it.
    fn check(written: Written, data_start: u64, file_len: u64) -> Result<Self, String> {
        let Written { dtype, shape, data_offsets: [start, end] } = written;
        let dtype = Dtype::of(&dtype);
        let data_len = file_len - data_start;
        if start > end || end > data_len {
            return Err(format!("is cut short: bytes {start} to {end} of {data_len}"));
        }
        let size = shape.iter().try_fold(1u64, |size, &n| size.checked_mul(n));
        if let Some(number) = dtype.size()
            && size.and_then(|size| size.checked_mul(number)) != Some(end - start)
        {
            return Err(format!("of shape {shape:?} cannot have {} bytes", end - start));
        }
        // No larger than the file by now; a tensor of another type is never read.
        let shape = shape.into_iter().map(|n| n as usize).collect();
        Ok(Self { dtype, shape, start: data_start + start, len: (end - start) as usize })
    }
}

impl Source {
    fn read(&self, start: u64, len: usize) -> std::io::Result<Cow<'static, [u8]>> {
        match self {
            Self::Memory(bytes) => {
                let bytes = bytes.get(start as usize..).and_then(|bytes| bytes.get(..len));
                bytes.map(Cow::Borrowed).ok_or_else(|| std::io::ErrorKind::UnexpectedEof.into())
            }
            Self::File(file) => {
                let mut file = file.lock().unwrap_or_else(PoisonError::into_inner);
                file.seek(SeekFrom::Start(start))?;
                let mut bytes = vec![0; len];
                file.read_exact(&mut bytes)?;
                Ok(Cow::Owned(bytes))
            }
        }
    }
}

/// A table in the file's own type. The word vectors are half of the model and a text touches a few
/// hundred of their 30,522 rows, so converting them all would only cost memory.
pub(super) struct Table {
    dtype: Dtype,
    bytes: Cow<'static, [u8]>,
    columns: usize,
}

impl Table {
    /// Adds row `index` to `out`. False, and nothing added, if there is no such row.
    pub(super) fn add_row(&self, index: usize, out: &mut [f32]) -> bool {
        let width = self.columns * self.dtype.size().unwrap_or(1) as usize;
        let Some(row) = self.bytes.get(index * width..(index + 1) * width) else {
            return false;
        };
        match self.dtype {
            Dtype::F16 => add(out, row, |pair| f16::from_le_bytes(pair).to_f32()),
            Dtype::Bf16 => add(out, row, |pair| bf16::from_le_bytes(pair).to_f32()),
            Dtype::F32 => add(out, row, f32::from_le_bytes),
            Dtype::Other => return false,
        }
        true
    }
}

fn add<const N: usize>(out: &mut [f32], row: &[u8], number: impl Fn([u8; N]) -> f32) {
    for (x, bytes) in out.iter_mut().zip(row.as_chunks().0) {
        *x += number(*bytes);
    }
}

#[cfg(test)]
mod tests {
    use safetensors::tensor::{Dtype as Theirs, TensorView};

    use super::*;

    fn file(dtype: Theirs, shape: Vec<usize>, data: &[u8]) -> &'static [u8] {
        let view = TensorView::new(dtype, shape, data).unwrap();
        let tensors = [("embeddings.word_embeddings.weight", view.clone()), ("t", view)];
        safetensors::serialize(tensors, None).unwrap().leak()
    }

    fn opened(bytes: &'static [u8]) -> Result<Weights, EmbedError> {
        Weights::in_memory("f.safetensors", bytes)
    }

    fn message<T>(result: Result<T, EmbedError>) -> String {
        result.err().expect("an error").to_string()
    }

    /// The same numbers, which every type holds exactly, in each type.
    fn in_every_type(numbers: &[f32]) -> [(Theirs, Vec<u8>); 3] {
        [
            (Theirs::F16, numbers.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect()),
            (Theirs::BF16, numbers.iter().flat_map(|&x| bf16::from_f32(x).to_le_bytes()).collect()),
            (Theirs::F32, numbers.iter().flat_map(|x| x.to_le_bytes()).collect()),
        ]
    }

    #[test]
    fn every_type_is_read_to_the_same_numbers() {
        // More than a block and not a multiple of it.
        let numbers: Vec<f32> = (0..3 * BLOCK / 2).map(|i| (i % 250) as f32 / 8.0).collect();
        let shape = [3, BLOCK / 2];
        for (dtype, bytes) in in_every_type(&numbers) {
            let bytes = file(dtype, shape.to_vec(), &bytes);
            assert_eq!(opened(bytes).unwrap().vec("t", &shape).unwrap(), numbers, "{dtype:?}");
            let on_disk = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(on_disk.path(), bytes).unwrap();
            let read = Weights::open(on_disk.path()).unwrap().vec("t", &shape).unwrap();
            assert_eq!(read, numbers, "{dtype:?} on disk");
        }
    }

    #[test]
    fn a_row_of_the_table_is_added() {
        for (dtype, bytes) in in_every_type(&[1.0, 2.0, 3.0, 4.0]) {
            let table = opened(file(dtype, vec![2, 2], &bytes)).unwrap().table("t", 2, 2).unwrap();
            let mut out = [10.0, 20.0];
            assert!(table.add_row(1, &mut out));
            assert_eq!(out, [13.0, 24.0]);
            assert!(!table.add_row(2, &mut out));
            assert_eq!(out, [13.0, 24.0]);
        }
    }

    #[test]
    fn what_does_not_fit_is_an_error_that_names_it() {
        let bytes = file(Theirs::I64, vec![2], &[0; 16]);
        let weights = opened(bytes).unwrap();
        for (name, shape, want) in [
            ("t", vec![2], "f.safetensors: tensor t is not of type F16, BF16 or F32"),
            ("t", vec![3], "f.safetensors: tensor t has shape [2], not [3]"),
            ("absent", vec![2], "f.safetensors: tensor absent is not there"),
        ] {
            let message = message(weights.vec(name, &shape));
            assert_eq!(message, format!("embedding model unusable: {want}"));
        }
        let nan = file(Theirs::F32, vec![1], &f32::NAN.to_le_bytes());
        assert!(message(opened(nan).unwrap().vec("t", &[1])).contains("not finite"));
    }

    #[test]
    fn a_file_cut_short_anywhere_is_an_error() {
        let bytes = file(Theirs::F32, vec![2], &[0; 8]);
        for len in 0..bytes.len() {
            assert!(matches!(opened(&bytes[..len]), Err(EmbedError::Model(_))), "{len}");
        }
        assert!(message(opened(&bytes[..bytes.len() - 1])).contains("tensor t is cut short"));
    }

    #[test]
    fn a_header_that_lies_is_an_error() {
        let entry = |shape: &str, offsets: &str| {
            let json =
                format!(r#"{{"t":{{"dtype":"F32","shape":{shape},"data_offsets":{offsets}}}}}"#);
            let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
            bytes.extend_from_slice(json.as_bytes());
            bytes.extend_from_slice(&[0; 8]);
            &*bytes.leak()
        };
        assert!(opened(entry("[2]", "[0,8]")).is_ok());
        for (shape, offsets) in [
            ("[2]", "[8,0]"),
            ("[2]", "[0,9]"),
            ("[3]", "[0,8]"),
            ("[2]", "[18446744073709551608,18446744073709551615]"),
            ("[9223372036854775807,9223372036854775807,4]", "[0,8]"),
            ("[-2]", "[0,8]"),
            ("2", "[0,8]"),
        ] {
            assert!(matches!(opened(entry(shape, offsets)), Err(EmbedError::Model(_))), "{shape}");
        }
        assert!(message(opened(&[255; 8])).contains("no safetensors file"));
    }
}
