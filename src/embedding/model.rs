//! What the model is, and its files as they are compiled in.

use std::fmt;
use std::str::FromStr;

/// The weights: safetensors, f16. Tensors are read from it by value, so it needs no alignment.
pub(super) static WEIGHTS: &[u8] =
    include_bytes!("../../assets/models/all-MiniLM-L6-v2/model.safetensors");
/// The vocabulary and the rules of splitting.
pub(super) static TOKENIZER: &[u8] =
    include_bytes!("../../assets/models/all-MiniLM-L6-v2/tokenizer.json");
/// The shape of the network.
pub(super) static CONFIG: &[u8] =
    include_bytes!("../../assets/models/all-MiniLM-L6-v2/config.json");

/// Name and sizes of a model. Vectors compare only within one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ModelInfo {
    /// Its published name.
    pub name: &'static str,
    /// Numbers in a vector.
    pub dim: usize,
    /// Word pieces it reads of a text, the two marks at the ends included.
    pub max_tokens: usize,
}

/// The model that is compiled in.
pub const BUILT_IN: ModelInfo = ModelInfo { name: "all-MiniLM-L6-v2", dim: 384, max_tokens: 256 };

/// How exactly the model computes (`EMBEDDING_PRECISION`).
///
/// There is one set of kernels so far, in f32, and both settings use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats throughout.
    F32,
    /// The fastest kernels of this processor that rank as well as f32 does.
    #[default]
    Auto,
}

/// A precision that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown precision {0:?}, expected f32 or auto")]
pub struct UnknownPrecision(String);

impl FromStr for Precision {
    type Err = UnknownPrecision;

    /// Blank text is the default: a variable that is set to nothing is not set.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.trim().to_ascii_lowercase().as_str() {
            "f32" => Ok(Self::F32),
            "auto" | "" => Ok(Self::Auto),
            _ => Err(UnknownPrecision(text.to_owned())),
        }
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::Auto => "auto",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn precision_is_parsed_as_it_is_printed() {
        for precision in [Precision::F32, Precision::Auto] {
            assert_eq!(precision.to_string().parse(), Ok(precision));
        }
        assert_eq!(" AUTO ".parse(), Ok(Precision::Auto));
        assert_eq!("".parse(), Ok(Precision::default()));
        let error = "int8".parse::<Precision>().unwrap_err();
        assert_eq!(error.to_string(), "unknown precision \"int8\", expected f32 or auto");
    }
}
