//! The header of a GGUF file, checked against the file before anything is allocated for it.
//!
//! Layout, all little-endian (GGUF versions 2 and 3): magic, version, number of tensors, number of
//! metadata entries; the entries; for each tensor its name, dimensions, type and offset; padding
//! to `general.alignment`; the tensors. Every length in it is a claim of the file's author: here
//! each is compared with a limit and with the bytes that are left.

mod read;
#[cfg(test)]
mod tests;
mod value;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::os::unix::fs::FileExt;
use std::path::Path;

use read::Cut;
pub use value::{Metadata, Value};

/// Most tensors, and most metadata entries. The largest models have a few thousand.
const ENTRIES_MAX: u64 = 1 << 16;
/// Longest name of a tensor or an entry, in bytes.
const NAME_MAX: u64 = 1 << 12;
/// The alignment of tensors where the file names none.
const ALIGNMENT: u64 = 32;

/// Why a file is not a model that can be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// The file cannot be read.
    #[error("cannot read the model file: {0}")]
    Io(#[from] std::io::Error),
    /// It ends within its header.
    #[error("the model file ends within its header; copy it again")]
    Truncated,
    /// It is something else.
    #[error("this is no GGUF file (it begins with {0:02x?}); name a file that ends in .gguf")]
    Magic([u8; 4]),
    /// It is of another version.
    #[error("GGUF version {0} is not supported, 2 and 3 are; convert the model again")]
    Version(u32),
    /// The header contradicts itself or the size of the file.
    #[error("the model file is damaged: {0}")]
    Damaged(String),
    /// The model needs something that is not built in.
    #[error("this model cannot be used: {0}")]
    Unsupported(String),
}

impl GgufError {
    pub(super) fn damaged(reason: impl Into<String>) -> Self {
        Self::Damaged(reason.into())
    }

    pub(super) fn unsupported(reason: impl Into<String>) -> Self {
        Self::Unsupported(reason.into())
    }
}

/// How the numbers of a tensor are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorType {
    /// 32-bit floats.
    F32,
    /// 16-bit floats.
    F16,
    /// bfloat16.
    Bf16,
    /// 4 bits and a scale for 32.
    Q4_0,
    /// 4 bits, a scale and a least value for 32.
    Q4_1,
    /// 5 bits and a scale for 32.
    Q5_0,
    /// 5 bits, a scale and a least value for 32.
    Q5_1,
    /// 8 bits and a scale for 32.
    Q8_0,
    /// 2 bits in blocks of 256.
    Q2K,
    /// 3 bits in blocks of 256.
    Q3K,
    /// 4 bits in blocks of 256.
    Q4K,
    /// 5 bits in blocks of 256.
    Q5K,
    /// 6 bits in blocks of 256.
    Q6K,
}

impl TensorType {
    fn from_code(code: u32) -> Option<Self> {
        Some(match code {
            0 => Self::F32,
            1 => Self::F16,
            2 => Self::Q4_0,
            3 => Self::Q4_1,
            6 => Self::Q5_0,
            7 => Self::Q5_1,
            8 => Self::Q8_0,
            10 => Self::Q2K,
            11 => Self::Q3K,
            12 => Self::Q4K,
            13 => Self::Q5K,
            14 => Self::Q6K,
            30 => Self::Bf16,
            _ => return None,
        })
    }

    /// Numbers in a block, and bytes of a block.
    pub fn block(self) -> (usize, usize) {
        match self {
            Self::F32 => (1, 4),
            Self::F16 | Self::Bf16 => (1, 2),
            Self::Q4_0 => (32, 18),
            Self::Q4_1 => (32, 20),
            Self::Q5_0 => (32, 22),
            Self::Q5_1 => (32, 24),
            Self::Q8_0 => (32, 34),
            Self::Q2K => (256, 84),
            Self::Q3K => (256, 110),
            Self::Q4K => (256, 144),
            Self::Q5K => (256, 176),
            Self::Q6K => (256, 210),
        }
    }
}

/// Where a tensor is and what it holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// How its numbers are stored.
    pub kind: TensorType,
    /// Numbers in a row; a multiple of the block of `kind`.
    pub columns: usize,
    /// Rows; 1 for a vector.
    pub rows: usize,
    /// Its first byte in the file.
    offset: u64,
}

impl TensorInfo {
    /// Bytes of a row.
    pub fn row_bytes(&self) -> usize {
        let (numbers, bytes) = self.kind.block();
        self.columns / numbers * bytes
    }
}

/// What a file says about itself. All tensors lie within the file.
#[derive(Debug)]
pub struct Header {
    /// Hyperparameters, vocabulary, template.
    pub metadata: Metadata,
    /// Tensors by name.
    pub tensors: HashMap<String, TensorInfo>,
}

/// An open model file with a sound header.
#[derive(Debug)]
pub struct ModelFile {
    file: File,
    /// Its header.
    pub header: Header,
}

impl ModelFile {
    /// Opens `path` and checks its header.
    ///
    /// # Errors
    ///
    /// As [`Header::read`].
    pub fn open(path: &Path) -> Result<Self, GgufError> {
        let file = File::open(path)?;
        let about = file.metadata()?;
        if !about.is_file() {
            return Err(GgufError::unsupported("the path names no regular file"));
        }
        let header = Header::read(BufReader::with_capacity(1 << 18, &file), about.len())?;
        Ok(Self { file, header })
    }

    /// The tensor called `name`, if there is one.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.header.tensors.get(name)
    }

    /// Reads rows `first..` of `tensor` into `into`, whose length is a multiple of
    /// [`TensorInfo::row_bytes`].
    ///
    /// # Errors
    ///
    /// When the file cannot be read, or has become shorter.
    pub fn rows(
        &self,
        tensor: &TensorInfo,
        first: usize,
        into: &mut [u8],
    ) -> Result<(), GgufError> {
        let at = tensor.offset + (first * tensor.row_bytes()) as u64;
        Ok(self.file.read_exact_at(into, at)?)
    }
}

impl Header {
    /// Reads the header of a file of `len` bytes from its beginning.
    ///
    /// # Errors
    ///
    /// When it is no header of a supported version, contradicts itself, or points outside of the
    /// file. Memory in use stays in proportion to the bytes read.
    pub fn read(file: impl Read, len: u64) -> Result<Self, GgufError> {
        let mut cut = Cut::new(file, len);
        let magic: [u8; 4] = cut.bytes()?;
        if magic != *b"GGUF" {
            return Err(GgufError::Magic(magic));
        }
        let version = cut.u32()?;
        if !matches!(version, 2 | 3) {
            return Err(GgufError::Version(version));
        }
        // A tensor takes 24 bytes at least, an entry 13.
        let n_tensors = cut.count("tensors", 24, ENTRIES_MAX)?;
        let n_entries = cut.count("metadata entries", 13, ENTRIES_MAX)?;
        let metadata = Metadata::read(&mut cut, n_entries)?;
        let mut claims = Vec::new();
        for _ in 0..n_tensors {
            claims.push(Claim::read(&mut cut)?);
        }
        let alignment = metadata.unsigned("general.alignment").unwrap_or(ALIGNMENT);
        if !alignment.is_power_of_two() || alignment > 1 << 16 {
            return Err(GgufError::damaged(format!("its alignment is {alignment}")));
        }
        let data = cut.position().next_multiple_of(alignment);
        let mut tensors = HashMap::with_capacity(claims.len());
        for claim in claims {
            let (name, tensor) = claim.check(data, alignment, len)?;
            if tensors.insert(name.clone(), tensor).is_some() {
                return Err(GgufError::damaged(format!("there are two tensors {name}")));
            }
        }
        Ok(Self { metadata, tensors })
    }
}

/// What the header says of a tensor, unchecked.
struct Claim {
    name: String,
    dims: Vec<u64>,
    kind: u32,
    offset: u64,
}

impl Claim {
    fn read<R: Read>(cut: &mut Cut<R>) -> Result<Self, GgufError> {
        let name = cut.text("the name of a tensor", NAME_MAX)?;
        let n_dims = cut.u32()?;
        if !(1..=4).contains(&n_dims) {
            return Err(GgufError::damaged(format!("tensor {name} has {n_dims} dimensions")));
        }
        let mut dims = Vec::with_capacity(4);
        for _ in 0..n_dims {
            dims.push(cut.u64()?);
        }
        Ok(Self { name, dims, kind: cut.u32()?, offset: cut.u64()? })
    }

    /// The tensor, if it lies within the file.
    fn check(self, data: u64, alignment: u64, len: u64) -> Result<(String, TensorInfo), GgufError> {
        let Self { name, dims, kind, offset } = self;
        let Some(kind) = TensorType::from_code(kind) else {
            let reason =
                format!("tensor {name} is of type {kind}; use a K-quant, Q4, Q5, Q8 or F16 file");
            return Err(GgufError::Unsupported(reason));
        };
        let shape = || -> Option<(usize, usize, u64)> {
            let columns = *dims.first()?;
            let rows = dims[1..].iter().try_fold(1_u64, |rows, dim| rows.checked_mul(*dim))?;
            let (numbers, bytes) = kind.block();
            if columns == 0 || rows == 0 || columns % numbers as u64 != 0 {
                return None;
            }
            let row_bytes = (columns / numbers as u64).checked_mul(bytes as u64)?;
            let end = data.checked_add(offset)?.checked_add(row_bytes.checked_mul(rows)?)?;
            let fits = end <= len && offset % alignment == 0;
            fits.then_some((
                usize::try_from(columns).ok()?,
                usize::try_from(rows).ok()?,
                data + offset,
            ))
        };
        match shape() {
            Some((columns, rows, offset)) => Ok((name, TensorInfo { kind, columns, rows, offset })),
            None => Err(GgufError::Damaged(format!(
                "tensor {name} of {dims:?} at {offset} does not lie within the file of {len} bytes"
            ))),
        }
    }
}
