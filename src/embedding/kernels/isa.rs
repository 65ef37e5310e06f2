//! Which instructions of the processor the kernels use.

use std::fmt;
use std::str::FromStr;

use super::super::EmbedError;

/// A level of instructions, each above those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isa {
    /// Tile products of bf16, and what the next level has.
    Amx,
    /// AVX-512 with its products of pairs of 16-bit numbers.
    Avx512Vnni,
    /// AVX2 with fused multiplication.
    Avx2,
    /// What every processor has.
    Portable,
}

impl Isa {
    /// All of them, best first.
    pub const ALL: [Self; 4] = [Self::Amx, Self::Avx512Vnni, Self::Avx2, Self::Portable];

    /// Whether this processor has the instructions and the system lets them be used.
    #[must_use]
    pub fn is_available(self) -> bool {
        match self {
            Self::Portable => true,
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512Vnni => {
                Self::Avx2.is_available()
                    && is_x86_feature_detected!("avx512f")
                    && is_x86_feature_detected!("avx512bw")
                    && is_x86_feature_detected!("avx512dq")
                    && is_x86_feature_detected!("avx512vl")
                    && is_x86_feature_detected!("avx512vnni")
            }
            #[cfg(target_arch = "x86_64")]
            Self::Amx => {
                Self::Avx512Vnni.is_available()
                    && is_x86_feature_detected!("avx512bf16")
                    && super::amx::is_granted()
            }
            #[cfg(not(target_arch = "x86_64"))]
            Self::Avx2 | Self::Avx512Vnni | Self::Amx => false,
        }
    }
}

/// A level that this processor has: the proof that its instructions may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::embedding) struct Kernel(Isa);

impl Kernel {
    /// The level asked for, or else the best there is.
    pub(in crate::embedding) fn choose(asked: Option<Isa>) -> Result<Self, EmbedError> {
        match asked {
            Some(isa) if isa.is_available() => Ok(Self(isa)),
            Some(isa) => Err(EmbedError::Processor(isa)),
            None => {
                let best = Isa::ALL.into_iter().find(|isa| isa.is_available());
                Ok(Self(best.unwrap_or(Isa::Portable)))
            }
        }
    }

    pub(in crate::embedding) fn isa(self) -> Isa {
        self.0
    }
}

/// A level that does not exist.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("unknown instructions {0:?}, expected amx, avx512vnni, avx2 or portable")]
pub struct UnknownIsa(String);

impl FromStr for Isa {
    type Err = UnknownIsa;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let name = text.trim().to_ascii_lowercase();
        let found = Self::ALL.into_iter().find(|isa| isa.to_string() == name);
        found.ok_or_else(|| UnknownIsa(text.to_owned()))
    }
}

impl fmt::Display for Isa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Amx => "amx",
            Self::Avx512Vnni => "avx512vnni",
            Self::Avx2 => "avx2",
            Self::Portable => "portable",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_parsed_as_they_are_printed() {
        for isa in Isa::ALL {
            assert_eq!(isa.to_string().parse(), Ok(isa));
        }
        assert_eq!(" AVX2 ".parse(), Ok(Isa::Avx2));
        assert!("sse9".parse::<Isa>().unwrap_err().to_string().contains("\"sse9\", expected amx"));
    }

    #[test]
    fn the_best_level_is_chosen_and_a_missing_one_refused() {
        assert_eq!(Kernel::choose(Some(Isa::Portable)).unwrap().isa(), Isa::Portable);
        let best = Kernel::choose(None).unwrap().isa();
        assert!(best.is_available());
        for isa in Isa::ALL.into_iter().take_while(|&isa| isa != best) {
            assert!(matches!(Kernel::choose(Some(isa)), Err(EmbedError::Processor(i)) if i == isa));
        }
    }
}
