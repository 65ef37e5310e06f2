//! What a model is, and how it is to be computed.

use std::fmt;
use std::str::FromStr;

use super::kernels::Isa;

/// Name and sizes of a model. Vectors compare only within one model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// Its published name, or the name of the folder it was read from.
    pub name: String,
    /// Numbers in a vector.
    pub dim: usize,
    /// Word pieces it reads of a text, the two marks at the ends included.
    pub max_tokens: usize,
}

impl ModelInfo {
    /// The model that is compiled in.
    #[must_use]
    pub fn built_in() -> Self {
        Self { name: "all-MiniLM-L6-v2".to_owned(), dim: 384, max_tokens: 256 }
    }
}

/// How an encoder computes. A [`Precision`] alone converts into it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EncoderOptions {
    /// Floats or quantised numbers.
    pub precision: Precision,
    /// The instructions to use (`ACTIVEKG_CPU`); none is the best this processor has.
    pub isa: Option<Isa>,
}

impl From<Precision> for EncoderOptions {
    fn from(precision: Precision) -> Self {
        Self { precision, isa: None }
    }
}

/// How exactly the model computes (`EMBEDDING_PRECISION`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// 32-bit floats throughout.
    F32,
    /// The fastest kernels of this processor whose vectors are as good as equal to those of f32.
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
